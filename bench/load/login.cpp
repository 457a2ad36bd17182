// The ways of a client to its session: SASL over the classic stream with bind or <resume/>, XEP-0388 with a password
// or a token.
#include "bench/load/wire.hpp"
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

namespace load {
namespace {

std::string base64(std::string_view in) {
  std::string out(4 * ((in.size() + 2) / 3) + 1, '\0');
  int n = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()), reinterpret_cast<const unsigned char*>(in.data()), static_cast<int>(in.size()));
  out.resize(static_cast<std::size_t>(n));
  return out;
}
std::string unbase64(std::string_view in) {
  std::string out(in.size(), '\0');
  int n = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()), reinterpret_cast<const unsigned char*>(in.data()), static_cast<int>(in.size()));
  out.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
  for (auto i = in.size(); i > 0 && in[i - 1] == '=' && !out.empty(); --i)
    out.pop_back();
  return out;
}
std::string hmac(const EVP_MD* hash, std::string_view key, std::string_view data) {
  unsigned char md[EVP_MAX_MD_SIZE];
  unsigned n = 0;
  HMAC(hash, key.data(), static_cast<int>(key.size()), reinterpret_cast<const unsigned char*>(data.data()), data.size(), md, &n);
  return {reinterpret_cast<char*>(md), n};
}
std::string_view between(std::string_view s, std::string_view from, std::string_view until) {
  auto a = s.find(from);
  if (a == s.npos)
    return {};
  a += from.size();
  return s.substr(a, s.find(until, a) - a);
}
/// Of the first such attribute in `s`, in either kind of quotes.
std::string_view attribute(std::string_view s, std::string_view name) {
  auto a = s.find(" " + std::string{name} + '=');
  if (a == s.npos)
    return {};
  a += name.size() + 2;
  return s.substr(a + 1, s.find(s[a], a + 1) - a - 1);
}
std::string_view after(std::string_view s, std::string_view word) {
  auto a = s.find(word);
  return a == s.npos ? std::string_view{} : s.substr(a);
}

constexpr std::string_view header = "<?xml version='1.0'?><stream:stream to='localhost' version='1.0' xmlns='jabber:client' "
                                    "xmlns:stream='http://etherx.jabber.org/streams'>";
constexpr std::string_view enable = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>";

std::string plain(std::string_view user, std::string_view password) {
  std::string message(1, '\0');
  return base64(message.append(user).append(1, '\0').append(password));
}

} // namespace

void wire::ask(std::string_view xml) {
  push(xml);
  ++cost_.round_trips;
}

bool wire::has(std::string_view word) const { return in_.find(word) != std::string::npos; }

bool wire::take_through(std::string_view word) {
  auto at = in_.find(word);
  if (at == std::string::npos)
    return false;
  taken_.assign(in_, 0, at + word.size());
  in_.erase(0, taken_.size());
  return true;
}

bool wire::take_element(std::string_view name) {
  auto from = in_.find("<" + std::string{name});
  auto end = from == std::string::npos ? from : in_.find('>', from);
  if (end == std::string::npos)
    return false;
  if (in_[end - 1] != '/') {
    auto closing = "</" + std::string{name} + '>';
    end = in_.find(closing, end);
    if (end == std::string::npos)
      return false;
    end += closing.size() - 1;
  }
  taken_.assign(in_, from, end + 1 - from);
  in_.erase(0, end + 1);
  return true;
}

void wire::greet() {
  step_ = step::header;
  ask(header);
  if (way_ == way::pipelined) // one wait for both
    push(authenticate_xml());
}

bool wire::begin_login() {
  const auto& t = loop_.to();
  if (t.registers) {
    ask("<iq type='set' id='reg'><query xmlns='jabber:iq:register'><username>" + user_ + "</username><password>" + t.password + "</password></query></iq>");
    step_ = step::registering;
  } else if (way_ == way::pipelined) {
    step_ = step::sasl2;
  } else if (way_ == way::first || way_ == way::token) {
    config_version_ = attribute(after(taken_, "<config-version"), "value");
    ask(authenticate_xml());
    step_ = step::sasl2;
  } else if (t.mechanism == sasl::plain) {
    ask("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" + plain(user_, t.password) + "</auth>");
    step_ = step::auth;
  } else {
    ask("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1'>" + base64("n,," + scram_first()) + "</auth>");
    step_ = step::challenge;
  }
  return true;
}

bool wire::advance() {
  auto failed = [this](std::string_view why) { return fail(why), false; };
  if (has("<failure") || has("<failed") || has("<stream:error"))
    return failed("refused");
  switch (step_) {
    case step::header:
      return take_through("</stream:features>") && begin_login();
    case step::registering:
      if (!take_element("iq"))
        return false;
      if (taken_.find("result") == taken_.npos && taken_.find("conflict") == taken_.npos)
        return failed("register");
      return ready(), true;
    case step::challenge:
      if (!take_element("challenge"))
        return false;
      ask("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>" + base64(scram_final(unbase64(between(taken_, ">", "<")))) + "</response>");
      step_ = step::auth;
      return true;
    case step::auth:
      if (!take_element("success"))
        return false;
      ask(header);
      step_ = step::header_again;
      return true;
    case step::header_again:
      if (!take_through("</stream:features>"))
        return false;
      if (way_ == way::resume) {
        ask(resume_xml());
        step_ = step::resume;
        return true;
      }
      ask("<iq type='set' id='bind1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>" + resource_ + "</resource></bind></iq>");
      step_ = step::bind;
      return true;
    case step::bind:
      if (!take_element("iq"))
        return false;
      jid_ = between(taken_, "<jid>", "</jid>");
      return jid_.empty() ? failed("bind") : after_bind(false);
    case step::carbons:
      if (!take_element("iq"))
        return false;
      return attribute(taken_, "type") != "result" ? failed("carbons") : after_bind(true);
    case step::enable:
    case step::sasl2:
      if (step_ == step::sasl2 && way_ != way::first)
        return take_element("success") && on_resumed();
      if (step_ == step::enable ? !take_element("enabled") : !take_through("</stream:features>"))
        return false;
      if (way_ == way::first) {
        jid_ = between(taken_, "<authorization-identifier>", "<");
        token_ = attribute(after(taken_, "<token"), "token");
      }
      session_id_ = attribute(after(taken_, "<enabled"), "id");
      if (session_id_.empty() || (way_ == way::first && token_.empty()))
        return failed("not all that was asked for");
      is_managed_ = true;
      got_.handled = sent_ = acked_ = unasked_ = 0;
      return ready(), true;
    case step::resume:
      return take_element("resumed") && on_resumed();
    default:
      return false;
  }
}

bool wire::after_bind(bool carbons_are_on) {
  is_managed_ = false;
  if (loop_.to().carbons && !carbons_are_on) {
    ask("<iq type='set' id='carbons'><enable xmlns='urn:xmpp:carbons:2'/></iq>");
    step_ = step::carbons;
  } else if (loop_.to().manages) {
    ask(enable);
    step_ = step::enable;
  } else {
    ready();
  }
  return true;
}

/// Everything that this client had sent was handled, as it waited for that: the server must say so.
bool wire::on_resumed() {
  auto answer = after(taken_, "<resumed");
  auto h = attribute(answer, "h");
  std::from_chars(h.data(), h.data() + h.size(), acked_);
  if (h.empty() || attribute(answer, "previd") != session_id_ || acked_ != sent_)
    return fail("not resumed as it was: " + taken_), false;
  if (auto newer = attribute(after(taken_, "<token"), "token"); !newer.empty())
    token_ = newer;
  return ready(), true;
}

void wire::ready() {
  if (ssl_) {
    cost_.in = BIO_number_read(SSL_get_rbio(ssl_));
    cost_.out = tls_written();
  } else {
    cost_.in -= in_.size();
  }
  step_ = step::ready;
  on_ready(*this);
  if (step_ == step::ready && !in_.empty()) // what came right behind it
    on_input(std::exchange(in_, {}));
}

std::string wire::resume_xml() const {
  return "<resume xmlns='urn:xmpp:sm:3' previd='" + session_id_ + "' h='" + std::to_string(got_.handled) + "'/>";
}

std::string wire::authenticate_xml() const {
  bool is_first = way_ == way::first;
  std::string mechanism = loop_.to().is_tls ? "HT-SHA-256-EXPR" : "HT-SHA-256-NONE";
  auto message = is_first ? plain(user_, loop_.to().password) : base64(user_ + '\0' + hmac(EVP_sha256(), token_, "Initiator" + binding()));
  char agent[128];
  std::snprintf(agent, sizeof agent, "<user-agent id='d4565fa7-4d72-4749-b3d3-%012d'><software>covey_load</software></user-agent>", number_);
  auto xml = "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='" + (is_first ? "PLAIN" : mechanism) + "'><initial-response>" + message + "</initial-response>" + agent;
  if (is_first)
    return xml + "<request-token xmlns='urn:xmpp:fast:0' mechanism='" + mechanism + "'/><bind xmlns='urn:xmpp:bind:0'><tag>bench</tag>"
           + std::string{enable} + "</bind></authenticate>";
  xml += "<fast xmlns='urn:xmpp:fast:0'/>" + resume_xml();
  if (way_ == way::pipelined)
    xml += "<config-version xmlns='urn:xmpp:iap:0' scheme='opaque' value='" + config_version_ + "'/>";
  return xml + "</authenticate>";
}

/// tls-exporter (RFC 9266); empty without TLS.
std::string wire::binding() const {
  if (!ssl_)
    return {};
  constexpr std::string_view label = "EXPORTER-Channel-Binding";
  std::string out(32, '\0');
  SSL_export_keying_material(ssl_, reinterpret_cast<unsigned char*>(out.data()), out.size(), label.data(), label.size(), nullptr, 0, 0);
  return out;
}

std::string wire::scram_first() {
  unsigned char random[18];
  RAND_bytes(random, sizeof random);
  nonce_ = base64({reinterpret_cast<char*>(random), sizeof random});
  return "n=" + user_ + ",r=" + nonce_;
}

std::string wire::scram_final(std::string_view server_first) {
  auto nonce = std::string{between(server_first, "r=", ",")};
  auto salt = unbase64(between(server_first, ",s=", ","));
  auto rounds = std::atoi(std::string{between(server_first, ",i=", ",")}.c_str());
  auto& key = loop_.salted[salt];
  if (key.empty()) {
    key.resize(20);
    PKCS5_PBKDF2_HMAC_SHA1(loop_.to().password.data(), static_cast<int>(loop_.to().password.size()), reinterpret_cast<const unsigned char*>(salt.data()),
                           static_cast<int>(salt.size()), rounds, 20, reinterpret_cast<unsigned char*>(key.data()));
  }
  auto client_key = hmac(EVP_sha1(), key, "Client Key");
  unsigned char stored[20];
  EVP_Digest(client_key.data(), client_key.size(), stored, nullptr, EVP_sha1(), nullptr);
  auto bare = "c=biws,r=" + nonce;
  auto message = "n=" + user_ + ",r=" + nonce_ + ',' + std::string{server_first} + ',' + bare;
  auto signature = hmac(EVP_sha1(), {reinterpret_cast<char*>(stored), sizeof stored}, message);
  for (std::size_t i = 0; i < 20; ++i)
    client_key[i] = static_cast<char>(client_key[i] ^ signature[i]);
  return bare + ",p=" + base64(client_key);
}

} // namespace load
