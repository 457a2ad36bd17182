// SCRAM (scram.hpp). Section numbers are RFC 5802's.
#include "base/bytes.hpp"
#include "xmpp/sasl/identity.hpp"
#include "xmpp/sasl/scram.hpp"
#include "xmpp/sasl/scram_keys.hpp"
#include <algorithm>

namespace xmpp::sasl {
namespace {

namespace crypto = base::crypto;
constexpr std::size_t max_nonce = 256;

/// Takes the part before the next comma off `rest`; `rest` becomes null behind the last one.
std::string_view next_part(std::string_view& rest) {
  auto comma = rest.find(',');
  auto part = rest.substr(0, comma);
  rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
  return part;
}

/// `x=value`: the value. A value is not empty (section 7).
std::optional<std::string_view> value_of(std::string_view part, char name) {
  if (part.size() < 3 || part[0] != name || part[1] != '=')
    return std::nullopt;
  return part.substr(2);
}

/// saslname: "=2C" and "=3D" stand for comma and equals sign; no other "=" may occur (section 5.1).
std::optional<std::string> decode_name(std::string_view s) {
  std::string out;
  for (std::size_t i = 0; i < s.size(); ++i) {
    if (s[i] == '\0')
      return std::nullopt;
    if (s[i] != '=') {
      out += s[i];
      continue;
    }
    auto code = s.substr(i + 1, 2);
    if (code == "2C")
      out += ',';
    else if (code == "3D")
      out += '=';
    else
      return std::nullopt;
    i += 2;
  }
  return out;
}

/// %x21-2B / %x2D-7E: printable without the comma.
bool is_nonce(std::string_view s) {
  return !s.empty() && s.size() <= max_nonce
         && std::all_of(s.begin(), s.end(), [](char c) { return c > 0x20 && c < 0x7f && c != ','; });
}

/// `ALPHA "=" 1*value-char`: extensions that are not mandatory are passed over.
bool is_extension(std::string_view part) {
  auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  return part.size() >= 3 && is_letter(part[0]) && part[1] == '=' && part[0] != 'm'
         && part.find('\0') == std::string_view::npos;
}

} // namespace

outcomes scram::fail(sasl_errc why, std::string_view cause) {
  stage_ = stage::over;
  return outcome::failure{why, cause, account_ ? std::string{account_->local()} : name_};
}

outcomes scram::step(std::string_view message) {
  if (message.size() > max_message)
    return malformed("too long");
  if (stage_ == stage::first)
    return on_first(message);
  if (stage_ == stage::final)
    return on_final(message);
  return malformed("a message out of turn");
}

/// Section 6: what the client says about channel binding, against what was offered.
outcomes scram::check_binding_flag(std::string_view flag, bool& ok) {
  ok = false;
  if (flag == "n" || flag == "y") {
    if (plus_)
      return malformed("-PLUS without channel binding");
    if (flag == "y" && settings_.offered_plus)
      return fail(sasl_errc::not_authorized, "downgrade: the client saw no -PLUS, but it was offered");
    ok = true;
    return {};
  }
  auto type = value_of(flag, 'p');
  if (!type)
    return malformed("bad channel-binding flag");
  if (!plus_)
    return malformed("channel binding without -PLUS");
  const std::string* data = *type == "tls-exporter"           ? &settings_.bindings.tls_exporter
                            : *type == "tls-server-end-point" ? &settings_.bindings.tls_server_end_point
                                                              : nullptr;
  if (!data || data->empty())
    return fail(sasl_errc::not_authorized, "channel-binding type not supported");
  binding_input_ = *data;
  ok = true;
  return {};
}

outcomes scram::on_first(std::string_view message) {
  auto rest = message;
  auto flag = next_part(rest);
  auto zid = next_part(rest);
  if (rest.empty())
    return malformed("no gs2 header");
  bool ok = false;
  if (auto bad = check_binding_flag(flag, ok); !ok)
    return bad;
  std::string authzid;
  if (!zid.empty()) {
    auto raw = value_of(zid, 'a');
    auto decoded = raw ? decode_name(*raw) : std::nullopt;
    if (!decoded)
      return malformed("bad authorisation identity");
    authzid = std::move(*decoded);
  }
  binding_input_.insert(0, message.substr(0, message.size() - rest.size()));
  first_bare_ = rest;

  auto user = next_part(rest);
  if (user.starts_with("m="))
    return malformed("mandatory extension not supported");
  auto raw_name = value_of(user, 'n');
  auto name = raw_name ? decode_name(*raw_name) : std::nullopt;
  if (!name)
    return malformed("bad user name");
  name_ = std::move(*name);
  auto nonce = value_of(next_part(rest), 'r');
  if (!nonce || !is_nonce(*nonce))
    return malformed("bad nonce");
  while (rest.data()) // null behind the last part; an empty part is no extension
    if (!is_extension(next_part(rest)))
      return malformed("bad extension");
  nonce_ = std::string{*nonce} + settings_.server_nonce;

  auto account = decide_identity(name_, authzid, settings_.host);
  if (!account)
    return fail(account.error(), account.error() == sasl_errc::invalid_authzid ? "foreign authorisation identity"
                                                                               : "not a valid name");
  account_ = std::move(*account);
  stage_ = stage::keys;
  return outcome::need_keys{std::string{account_->local()}, hash_};
}

outcomes scram::on_keys(const keys_answer& answer) {
  if (stage_ != stage::keys)
    return mechanism::on_keys(answer);
  if (!answer) {
    auto refused = refusal_of(answer.error(), account_->local());
    if (refused.why != sasl_errc::not_authorized)
      return fail(refused.why, refused.cause);
    refused_because_ = refused.cause;
    keys_ = fake_keys(hash_, settings_.fake_secret, account_->local(), settings_.fake_iterations);
  } else if (answer->iterations == 0 || answer->salt.empty() || answer->stored_key.size() != crypto::size_of(hash_)
             || answer->server_key.size() != crypto::size_of(hash_)) {
    return fail(sasl_errc::temporary_auth_failure, "the stored keys are damaged");
  } else {
    keys_ = *answer;
  }
  server_first_ = "r=" + nonce_ + ",s=" + base::to_base64(keys_.salt) + ",i=" + std::to_string(keys_.iterations);
  if (!settings_.offer.empty()) // signed by the proof, so that nobody in between can change what was offered
    server_first_ += ",h=" + base::to_base64(crypto::digest(hash_, settings_.offer));
  stage_ = stage::final;
  return outcome::challenge{server_first_};
}

outcomes scram::on_final(std::string_view message) {
  // The proof is the last attribute and the only one it does not cover (section 7).
  auto proof_at = message.rfind(",p=");
  if (proof_at == std::string_view::npos)
    return malformed("no proof");
  auto without_proof = message.substr(0, proof_at);
  auto proof = base::from_base64(message.substr(proof_at + 3));
  if (!proof || proof->size() != crypto::size_of(hash_))
    return malformed("bad proof");
  auto rest = without_proof;
  auto raw_binding = value_of(next_part(rest), 'c');
  auto binding = raw_binding ? base::from_base64(*raw_binding) : std::nullopt;
  if (!binding)
    return malformed("bad channel binding");
  auto nonce = value_of(next_part(rest), 'r');
  if (!nonce)
    return malformed("no nonce");
  while (rest.data())
    if (!is_extension(next_part(rest)))
      return malformed("bad extension");
  if (!crypto::equal_in_constant_time(*binding, binding_input_))
    return fail(sasl_errc::not_authorized, "channel binding does not match");
  if (!crypto::equal_in_constant_time(*nonce, nonce_))
    return fail(sasl_errc::not_authorized, "wrong nonce");

  std::string signed_text = first_bare_ + "," + server_first_ + ",";
  signed_text += without_proof;
  auto key = crypto::exclusive_or(*proof, crypto::hmac(hash_, keys_.stored_key, signed_text));
  bool proven = crypto::equal_in_constant_time(crypto::digest(hash_, key), keys_.stored_key);
  if (!refused_because_.empty())
    return fail(sasl_errc::not_authorized, refused_because_);
  if (!proven)
    return fail(sasl_errc::not_authorized, "wrong password");
  stage_ = stage::over;
  return outcome::success{account_, "v=" + base::to_base64(crypto::hmac(hash_, keys_.server_key, signed_text)), keys_.facts};
}

} // namespace xmpp::sasl
