// Mechanisms without a password: tokens (HT-*, XEP-0484), certificates (EXTERNAL), nothing at all (ANONYMOUS).
#include "base/bytes.hpp"
#include "xmpp/sasl/external.hpp"
#include "xmpp/sasl/hashed_token.hpp"
#include <doctest/doctest.h>
#include <ostream>

using namespace xmpp::sasl;
using xmpp::sasl_errc;

namespace {
mechanism_settings example(std::optional<std::uint32_t> count = {}) {
  mechanism_settings s;
  s.host = "example.org";
  s.bindings = {std::string(32, 'e'), std::string(32, 'p')};
  s.client = "client-1";
  s.count = count;
  return s;
}
token token_for(mechanism_kind k, std::string secret = "the token") {
  token t;
  t.secret = std::move(secret);
  t.mechanism = k;
  return t;
}
std::string first(std::string_view secret, std::string_view binding = {}, std::string name = "alice") {
  return name + '\0' + initiator_proof(secret, binding);
}
outcomes run(mechanism_kind k, const std::string& message, const tokens_answer& answer, mechanism_settings s = example()) {
  auto m = make_mechanism(k, std::move(s));
  auto o = m->step(message);
  auto* need = std::get_if<outcome::need_tokens>(&o);
  if (!need)
    return o;
  CHECK(need->local == "alice");
  CHECK(need->client == "client-1");
  return m->on_tokens(answer);
}
std::string told(const outcomes& o) {
  if (auto* f = std::get_if<outcome::failure>(&o))
    return std::string{name_of(f->why)} + ": " + std::string{f->cause};
  auto* s = std::get_if<outcome::success>(&o);
  return s ? "in as " + std::string{s->account->full()} : "goes on";
}
} // namespace

TEST_CASE("token: each mechanism binds what it names, and the server proves itself in turn") {
  auto s = example();
  for (auto& [kind, binding] : {std::pair{mechanism_kind::ht_sha256_exporter, s.bindings.tls_exporter}, {mechanism_kind::ht_sha256_end_point, s.bindings.tls_server_end_point}, {mechanism_kind::ht_sha256_none, std::string{}}}) {
    CAPTURE(name_of(kind));
    auto o = run(kind, first("the token", binding), client_tokens{token_for(kind), {}});
    auto* in = std::get_if<outcome::success>(&o);
    REQUIRE(in);
    CHECK(in->account->full() == "alice@example.org");
    CHECK(in->data == responder_proof("the token", binding));
    CHECK(in->used->secret == "the token");
    CHECK(told(run(kind, first("the token", binding + "x"), client_tokens{token_for(kind), {}})) == "not-authorized: wrong token");
  }
}

TEST_CASE("token: the proofs as another program works them out") {
  CHECK(base::to_hex(initiator_proof("the token", "")) == "a2a565f6821bc3cc00cbb308319ab388bbb62aa4b2e1ec5eca16b925a44ac359");
  CHECK(base::to_hex(responder_proof("the token", std::string(32, 'e'))) == "61b8f6e51385742940e9553678a62d62a62c90aeaaab050d92501dbafa60904f");
}

TEST_CASE("token: both slots are tried; what is expired, replayed or for another mechanism is refused by name") {
  auto none = token_for(mechanism_kind::ht_sha256_none), other = token_for(mechanism_kind::ht_sha256_none, "another");
  CHECK(told(run(mechanism_kind::ht_sha256_none, first("another"), client_tokens{none, other})) == "in as alice@example.org");
  CHECK(told(run(mechanism_kind::ht_sha256_none, first("the token"), client_tokens{none, other})) == "in as alice@example.org");
  CHECK(told(run(mechanism_kind::ht_sha256_none, first("stolen"), client_tokens{none, other})) == "not-authorized: wrong token");
  CHECK(told(run(mechanism_kind::ht_sha256_none, first("the token"), client_tokens{})) == "not-authorized: wrong token");
  CHECK(told(run(mechanism_kind::ht_sha256_none, first("the token"), client_tokens{token_for(mechanism_kind::ht_sha256_exporter), {}})) == "not-authorized: wrong token");
  auto expired = none;
  expired.is_expired = true;
  CHECK(told(run(mechanism_kind::ht_sha256_none, first("the token"), client_tokens{expired, {}})) == "credentials-expired: the token has expired");
  CHECK(told(run(mechanism_kind::ht_sha256_none, first("guess"), client_tokens{expired, {}})) == "not-authorized: wrong token"); // says nothing of the row
  auto counted = none;
  counted.count = 7;
  for (auto& [count, answer] : {std::pair{6u, "not-authorized: a token that is replayed"}, {7u, "not-authorized: a token that is replayed"}, {8u, "in as alice@example.org"}})
    CHECK(told(run(mechanism_kind::ht_sha256_none, first("the token"), client_tokens{counted, {}}, example(count))) == answer);
  CHECK(told(run(mechanism_kind::ht_sha256_none, first("the token"), client_tokens{counted, {}})) == "in as alice@example.org"); // not counting is no replay
}

TEST_CASE("token: bad messages, and answers of the credentials") {
  for (auto& bad : {std::string{}, std::string{"alice"}, std::string{"\0", 1} + std::string(32, 'x'), std::string{"alice\0", 6} + std::string(31, 'x'),
                    std::string{"alice\0", 6} + std::string(33, 'x'), std::string(5'000, 'a')})
    CHECK(told(run(mechanism_kind::ht_sha256_none, bad, client_tokens{})).starts_with("malformed-request"));
  CHECK(told(run(mechanism_kind::ht_sha256_none, first("t", {}, "alice@example.org"), client_tokens{})) == "not-authorized: not a valid name");
  CHECK(told(run(mechanism_kind::ht_sha256_none, first("t"), base::fail(credentials_errc::no_such_user))) == "not-authorized: no token of this client");
  CHECK(told(run(mechanism_kind::ht_sha256_none, first("t"), base::fail(credentials_errc::unavailable))) == "temporary-auth-failure: credentials are not available");
  auto m = make_mechanism(mechanism_kind::ht_sha256_none, example());
  CHECK(told(m->on_tokens(client_tokens{})).starts_with("temporary-auth-failure"));
  (void)m->step(first("t"));
  CHECK(told(m->step(first("t"))) == "malformed-request: a second message");
  // the proof itself may hold the byte that ends the name
  std::string secret = "0";
  while (initiator_proof(secret, {}).find('\0') == std::string::npos)
    secret += '0';
  CHECK(told(run(mechanism_kind::ht_sha256_none, first(secret), client_tokens{token_for(mechanism_kind::ht_sha256_none, secret), {}})) == "in as alice@example.org");
}

TEST_CASE("external: the certificate says who somebody may be") {
  struct row { std::vector<std::string> certified; std::string message, answer; };
  const std::vector<std::string> one{"Alice@Example.org"}, two{"alice@example.org", "bob@example.org", "eve@other.example"};
  const row rows[] = {
    {one, "", "in as alice@example.org"},
    {one, "alice@example.org", "in as alice@example.org"},
    {one, "bob@example.org", "invalid-authzid: an address that is not in the certificate"},
    {one, "alice@example.org/phone", "invalid-authzid: an address that is not in the certificate"},
    {two, "", "invalid-authzid: several addresses in the certificate, none chosen"},
    {two, "bob@example.org", "in as bob@example.org"},
    {two, "eve@other.example", "invalid-authzid: an address that is not in the certificate"},
    {{"example.org", "x@other.example", "alice@example.org/phone", "@"}, "", "not-authorized: no address of this host in the certificate"},
    {one, std::string{"a\0b", 3}, "malformed-request: not an authorisation identity"},
  };
  for (auto& r : rows) {
    CAPTURE(r.message);
    auto s = example();
    s.certified = r.certified;
    auto m = make_mechanism(mechanism_kind::external, s);
    auto o = m->step(r.message);
    if (std::holds_alternative<outcome::need_account>(o))
      o = m->on_account({});
    CHECK(told(o) == r.answer);
  }
  auto s = example();
  s.certified = one;
  for (auto& [why, answer] : {std::pair{credentials_errc::no_such_user, "not-authorized: no such user"}, {credentials_errc::disabled, "not-authorized: account is disabled"},
                              {credentials_errc::unavailable, "temporary-auth-failure: credentials are not available"}}) {
    auto m = make_mechanism(mechanism_kind::external, s);
    (void)m->step("");
    CHECK(told(m->on_account(base::fail(why))) == answer);
  }
}

TEST_CASE("anonymous: a name that nobody chose; what the client says counts for nothing") {
  auto s = example();
  s.fresh_name = "anonymous-1";
  for (auto& trace : {std::string{}, std::string{"admin@example.org"}, std::string{"a\0b", 3}})
    CHECK(told(make_mechanism(mechanism_kind::anonymous, s)->step(trace)) == "in as anonymous-1@example.org");
  CHECK(told(make_mechanism(mechanism_kind::anonymous, s)->step(std::string(5'000, 'x'))) == "malformed-request: too long");
}
