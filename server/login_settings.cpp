// Names of mechanisms become what the machines know (login_settings.hpp).
#include "server/login_settings.hpp"
#include <algorithm>

namespace server {

using base::crypto::hash;
namespace sasl = xmpp::sasl;

void set_login(xmpp::stream::host_settings& s, const host_config& h) {
  s.mechanisms.clear(); // names that are none were refused with the file
  for (auto& name : h.mechanisms)
    s.mechanisms.push_back(*sasl::parse_mechanism(name));
  s.upgrades.clear();
  for (auto& name : h.upgrade)
    s.upgrades.push_back(sasl::hash_of(*sasl::parse_mechanism(name)));
  s.tokens = h.has_tokens;
  s.plain_without_tls = h.plain_without_tls;
  s.require_tls = h.require_tls;
  s.max_login_attempts = h.max_login_attempts;
}

account_settings account_settings_of(const host_config& h, std::uint32_t iterations, std::string fake_secret, std::string token_secret) {
  xmpp::stream::host_settings s;
  set_login(s, h);
  account_settings a;
  a.host = h.domain;
  a.fake_secret = std::move(fake_secret);
  a.token_secret = std::move(token_secret);
  a.iterations = iterations;
  a.hashes = {hash::sha1, hash::sha256};
  auto uses_sha512 = [](auto k) { return sasl::is_scram(k) && sasl::hash_of(k) == hash::sha512; };
  if (std::any_of(s.mechanisms.begin(), s.mechanisms.end(), uses_sha512) || std::count(s.upgrades.begin(), s.upgrades.end(), hash::sha512))
    a.hashes.push_back(hash::sha512);
  a.has_strangers = std::count(s.mechanisms.begin(), s.mechanisms.end(), sasl::mechanism_kind::anonymous) != 0;
  a.token_lifetime = std::chrono::duration_cast<std::chrono::microseconds>(h.token_lifetime);
  a.token_rotation = std::chrono::duration_cast<std::chrono::microseconds>(h.token_rotation);
  a.clients_with_tokens = h.clients_with_tokens;
  return a;
}

} // namespace server
