// SASL PLAIN, the identity gate, SASLprep.
#include "base/bytes.hpp"
#include "xmpp/sasl/identity.hpp"
#include "xmpp/sasl/mechanism.hpp"
#include "xmpp/sasl/scram_keys.hpp"
#include <doctest/doctest.h>
#include <ostream>

using namespace xmpp::sasl;
using namespace std::string_literals;
using xmpp::sasl_errc;

namespace {
std::unique_ptr<mechanism> plain_at(std::string host = "example.org") {
  mechanism_settings s;
  s.host = std::move(host);
  return make_mechanism(mechanism_kind::plain, std::move(s));
}
} // namespace

TEST_CASE("identity: the authentication identity decides, for every mechanism") {
  struct row { std::string authcid, authzid; std::string account; sasl_errc error = sasl_errc::aborted; };
  const row rows[] = {
    {"alice", "", "alice@example.org"},
    {"ALICE", "", "alice@example.org"},
    {"alice", "alice@example.org", "alice@example.org"},
    {"alice", "Alice@EXAMPLE.org", "alice@example.org"},
    {"alice", "bob@example.org", "", sasl_errc::invalid_authzid},
    {"alice", "alice@example.com", "", sasl_errc::invalid_authzid},
    {"alice", "alice@example.org/phone", "", sasl_errc::invalid_authzid},
    {"alice", "example.org", "", sasl_errc::invalid_authzid},
    {"alice", "alice", "", sasl_errc::invalid_authzid},
    {"alice", "@", "", sasl_errc::invalid_authzid},
    {"", "", "", sasl_errc::not_authorized},
    {"", "alice@example.org", "", sasl_errc::not_authorized},
    {"alice@example.org", "", "", sasl_errc::not_authorized},
    {"alice/x", "", "", sasl_errc::not_authorized},
    {"al ice", "", "", sasl_errc::not_authorized},
    {"alice\xff", "", "", sasl_errc::not_authorized},
    {"alice\xef\xbc\xa0" "evil", "", "", sasl_errc::not_authorized}, // a full-width @
  };
  for (auto& r : rows) {
    CAPTURE(r.authcid);
    CAPTURE(r.authzid);
    auto j = decide_identity(r.authcid, r.authzid, "example.org");
    if (r.account.empty()) {
      REQUIRE_FALSE(j);
      CHECK(j.error() == r.error);
    } else {
      REQUIRE(j);
      CHECK((*j)->full() == r.account);
    }
  }
}

TEST_CASE("plain: a good message asks for a password check") {
  for (auto& m : {"\0alice\0secret"s, "alice@example.org\0alice\0secret"s, "\0ALICE\0secret"s}) {
    auto p = plain_at();
    auto o = p->step(m);
    auto* check = std::get_if<outcome::need_password_check>(&o);
    REQUIRE(check);
    CHECK(check->local == "alice");
    CHECK(check->password == "secret");
    auto end = p->on_account({});
    auto* ok = std::get_if<outcome::success>(&end);
    REQUIRE(ok);
    CHECK(ok->account->full() == "alice@example.org");
    CHECK_FALSE(ok->data);
  }
}

TEST_CASE("plain: bad messages") {
  struct row { std::string message; sasl_errc error; };
  const row rows[] = {
    {"", sasl_errc::malformed_request},
    {"alice", sasl_errc::malformed_request},
    {"\0alice"s, sasl_errc::malformed_request},
    {"\0alice\0"s, sasl_errc::malformed_request},
    {"\0\0secret"s, sasl_errc::malformed_request},
    {"\0alice\0sec\0ret"s, sasl_errc::malformed_request},
    {"\0alice\0"s + std::string(4'096, 'p'), sasl_errc::malformed_request},
    {"bob@example.org\0alice\0secret"s, sasl_errc::invalid_authzid},
    {"\0alice@example.org\0secret"s, sasl_errc::not_authorized},
  };
  for (auto& r : rows) {
    CAPTURE(r.message);
    auto o = plain_at()->step(r.message);
    auto* f = std::get_if<outcome::failure>(&o);
    REQUIRE(f);
    CHECK(f->why == r.error);
  }
}

TEST_CASE("plain: wrong, unknown and disabled look alike; a broken store does not") {
  for (auto e : {credentials_errc::wrong_password, credentials_errc::no_such_user, credentials_errc::disabled,
                 credentials_errc::unavailable}) {
    auto p = plain_at();
    (void)p->step("\0alice\0secret"s);
    auto o = p->on_account(base::fail(e));
    auto* f = std::get_if<outcome::failure>(&o);
    REQUIRE(f);
    CHECK(f->why == (e == credentials_errc::unavailable ? sasl_errc::temporary_auth_failure : sasl_errc::not_authorized));
    CHECK(f->local == "alice");
    CHECK_FALSE(f->cause.empty());
  }
}

TEST_CASE("plain: an answer that nobody asked for never logs anybody in") {
  auto o = plain_at()->on_account({});
  CHECK(std::holds_alternative<outcome::failure>(o));
  auto k = plain_at()->on_keys(scram_keys{});
  CHECK(std::holds_alternative<outcome::failure>(k));
  auto p = plain_at();
  (void)p->step("\0alice\0secret"s);
  auto again = p->step("\0bob\0secret"s);
  CHECK(std::holds_alternative<outcome::failure>(again));
}

TEST_CASE("saslprep: RFC 4013 section 3, and limits") {
  CHECK(*saslprep("I\xc2\xadX") == "IX");
  CHECK(*saslprep("user") == "user");
  CHECK(*saslprep("USER") == "USER");
  CHECK(*saslprep("\xc2\xaa") == "a");
  CHECK(*saslprep("\xe2\x85\xa8") == "IX");
  CHECK(*saslprep("a\xc2\xa0" "b") == "a b"); // other spaces become the one
  CHECK(saslprep("\x07").error() == saslprep_errc::prohibited);
  CHECK(saslprep("\xd8\xa7" "1").error() == saslprep_errc::prohibited); // mixed directions
  CHECK(saslprep("\xff").error() == saslprep_errc::prohibited);
  CHECK(saslprep("").error() == saslprep_errc::empty);
  CHECK(saslprep("\xc2\xad").error() == saslprep_errc::empty);
  CHECK(saslprep(std::string(1'025, 'x')).error() == saslprep_errc::too_long);
  CHECK(saslprep(std::string(1'024, 'x')));
  CHECK(*saslprep("\xf0\x9f\x98\x80") == "\xf0\x9f\x98\x80"); // after Unicode 3.2
  CHECK(saslprep("\xf0\x9f\x98\x80", false).error() == saslprep_errc::prohibited);
  std::string long_ligature; // U+FDFA decomposes into 18 characters, 33 bytes
  for (int i = 0; i < 300; ++i)
    long_ligature += "\xef\xb7\xba";
  CHECK(saslprep(long_ligature));
}

TEST_CASE("scram keys: made from a password, they match it and nothing else") {
  using base::crypto::hash;
  for (auto h : {hash::sha1, hash::sha256}) {
    auto keys = make_scram_keys(h, "IX", "some salt", 50);
    REQUIRE(keys);
    CHECK(keys->stored_key.size() == base::crypto::size_of(h));
    CHECK(matches(h, *keys, "IX"));
    CHECK(matches(h, *keys, "I\xc2\xadX"));
    CHECK_FALSE(matches(h, *keys, "ix"));
    CHECK_FALSE(matches(h, *keys, ""));
    CHECK_FALSE(matches(h, *keys, "\x07"));
    CHECK_FALSE(matches(h, scram_keys{}, "IX"));
  }
  CHECK(make_scram_keys(hash::sha1, "", "salt", 50).error() == saslprep_errc::empty);
}

TEST_CASE("fake keys: stable, of the right shape, another for each name and secret") {
  using base::crypto::hash;
  auto a = fake_keys(hash::sha256, "secret", "alice");
  CHECK(a == fake_keys(hash::sha256, "secret", "alice"));
  CHECK(a.salt.size() == salt_size);
  CHECK(a.iterations == default_iterations);
  CHECK(a.stored_key.size() == 32);
  CHECK(a.salt != fake_keys(hash::sha256, "secret", "bob").salt);
  CHECK(a.salt != fake_keys(hash::sha256, "other", "alice").salt);
  CHECK(a.salt != fake_keys(hash::sha1, "secret", "alice").salt);
  CHECK(fake_keys(hash::sha1, "secret", "alice", 4'096).iterations == 4'096);
}

TEST_CASE("mechanism names") {
  for (auto k : all_mechanisms)
    CHECK(parse_mechanism(name_of(k)) == k);
  for (auto k : token_mechanisms)
    CHECK(parse_mechanism(name_of(k)) == k);
  for (auto bad : {"", "plain", "SCRAM-SHA-384", "SCRAM-SHA-1-", "HT-SHA-256-UNIQ"})
    CHECK_FALSE(parse_mechanism(bad));
}
