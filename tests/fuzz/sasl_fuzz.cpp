// SASL messages from any bytes, for every mechanism: nobody who does not know the password gets in, and
// who gets in is who the authentication identity says. Input: a byte of options, messages cut at '\n'.
#include "base/bytes.hpp"
#include "xmpp/sasl/identity.hpp"
#include "xmpp/sasl/mechanism.hpp"
#include "xmpp/sasl/scram_keys.hpp"
#include <cstdlib>

using namespace xmpp;
using namespace xmpp::sasl;

namespace {
void require(bool holds) {
  if (!holds)
    std::abort();
}

/// base64 as the stream reads it: one text for one value.
void check_base64(std::string_view text) {
  if (auto bytes = base::from_base64(text))
    require(base::to_base64(*bytes) == text);
  require(base::from_base64(base::to_base64(text)) == text);
}

void check_saslprep(std::string_view text) {
  if (auto once = saslprep(text)) {
    auto twice = saslprep(*once);
    require(!twice || *twice == *once);
  }
}
} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1)
    return 0;
  std::string_view in{reinterpret_cast<const char*>(data) + 1, size - 1};
  auto options = data[0];
  check_base64(in);
  check_saslprep(in);
  static const scram_keys real[] = {*make_scram_keys(base::crypto::hash::sha1, "a password that no input has", "salt of example", 10),
                                    *make_scram_keys(base::crypto::hash::sha256, "a password that no input has", "salt of example", 10),
                                    *make_scram_keys(base::crypto::hash::sha512, "a password that no input has", "salt of example", 10)};
  mechanism_settings s;
  s.host = "example.org";
  s.server_nonce = "3rfcNHYJY1ZVvWVs7j";
  s.fake_secret = "secret";
  s.fake_iterations = 10;
  s.offered_plus = options & 8;
  if (s.offered_plus)
    s.bindings = {std::string(32, 'x'), std::string(32, 'y')};
  s.certified = {"alice@example.org", "bob@example.org", "eve@other.example"};
  s.client = "client";
  s.fresh_name = "anonymous-1";
  s.offer = options & 32 ? "SCRAM-SHA-1" : "";
  auto kind = static_cast<mechanism_kind>(options % 12);
  auto m = make_mechanism(kind, s);
  require(parse_mechanism(name_of(kind)) == kind);
  for (int round = 0; round < 4; ++round) {
    auto end = in.find('\n');
    auto message = in.substr(0, end);
    auto o = m->step(message);
    if (auto* ask = std::get_if<outcome::need_keys>(&o)) {
      require(!ask->local.empty() && make_jid(ask->local, s.host).has_value());
      o = m->on_keys(options & 16 ? keys_answer{real[static_cast<std::size_t>(ask->h)]}
                                  : keys_answer{base::fail(credentials_errc::no_such_user)});
    } else if (auto* check = std::get_if<outcome::need_password_check>(&o)) {
      require(kind == mechanism_kind::plain && make_jid(check->local, s.host).has_value());
      bool is_right = options & 16;
      auto named = check->local + '@' + s.host;
      o = m->on_account(is_right ? account_answer{} : account_answer{base::fail(credentials_errc::wrong_password)});
      auto* in_as = std::get_if<outcome::success>(&o);
      require(static_cast<bool>(in_as) == is_right && (!in_as || in_as->account->full() == named));
    } else if (auto* who = std::get_if<outcome::need_account>(&o)) {
      require(kind == mechanism_kind::external && (who->local == "alice" || who->local == "bob"));
      o = m->on_account(base::fail(credentials_errc::no_such_user));
      require(std::holds_alternative<outcome::failure>(o));
    } else if (std::holds_alternative<outcome::need_tokens>(o)) {
      token t;
      t.secret = "a token that no input has";
      t.mechanism = kind;
      o = m->on_tokens(client_tokens{t, t});
      require(std::holds_alternative<outcome::failure>(o));
    } else if (kind != mechanism_kind::anonymous) {
      require(!std::holds_alternative<outcome::success>(o)); // SCRAM: the proof needs the password
    }
    if (std::holds_alternative<outcome::success>(o) || std::holds_alternative<outcome::failure>(o) || end == in.npos)
      break;
    in.remove_prefix(end + 1);
  }
  auto cut = in.find('\n');
  auto authcid = in.substr(0, cut), authzid = cut == in.npos ? std::string_view{} : in.substr(cut + 1);
  if (auto who = decide_identity(authcid, authzid, "example.org")) {
    require((*who)->domain() == "example.org" && (*who)->is_bare() && !(*who)->is_domain());
    auto asked = parse_jid(authzid);
    require(authzid.empty() || (asked && **asked == **who));
  }
  return 0;
}
