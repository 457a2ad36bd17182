// SCRAM: the RFCs' own dialogues, libgsasl as an independent client, and every rule broken once.
#include "base/bytes.hpp"
#include "xmpp/sasl/mechanism.hpp"
#include "xmpp/sasl/scram_keys.hpp"
#include <doctest/doctest.h>
#include <gsasl.h>
#include <map>
#include <ostream>

using namespace xmpp::sasl;
using base::crypto::hash;
using xmpp::sasl_errc;

namespace {

const std::string exporter(32, '\x5a'), end_point(32, '\x17');

mechanism_settings settings_with(std::string nonce, bool bound = true) {
  mechanism_settings s;
  s.host = "example.org";
  s.server_nonce = std::move(nonce);
  s.fake_secret = "the host's secret";
  s.fake_iterations = 4'096;
  if (bound)
    s.bindings = {exporter, end_point};
  s.offered_plus = bound;
  return s;
}

scram_keys keys_of(hash h, const std::string& password, const std::string& salt = "salt of example") {
  return *make_scram_keys(h, password, salt, 4'096);
}

/// Steps a client's first message and answers with keys; returns the challenge.
std::string challenge_of(mechanism& m, std::string_view first, const keys_answer& keys) {
  auto o = m.step(first);
  REQUIRE(std::holds_alternative<outcome::need_keys>(o));
  auto c = m.on_keys(keys);
  REQUIRE(std::holds_alternative<outcome::challenge>(c));
  return std::get<outcome::challenge>(c).data;
}

const outcome::failure* failure_in(const outcomes& o) { return std::get_if<outcome::failure>(&o); }

/// What a correct client says last.
std::string final_of(hash h, const std::string& password, const std::string& gs2, const std::string& binding,
                     const std::string& first_bare, const std::string& server_first) {
  auto nonce = server_first.substr(2, server_first.find(',') - 2);
  auto salt_at = server_first.find(",s=") + 3, iterations_at = server_first.find(",i=");
  auto salt = *base::from_base64(server_first.substr(salt_at, iterations_at - salt_at));
  auto salted = base::crypto::pbkdf2(h, password, salt, *base::to_number<std::uint32_t>(server_first.substr(iterations_at + 3, server_first.find(",h=") - iterations_at - 3)));
  auto key = base::crypto::hmac(h, salted, "Client Key");
  auto without_proof = "c=" + base::to_base64(gs2 + binding) + ",r=" + nonce;
  auto sig = base::crypto::hmac(h, base::crypto::digest(h, key), first_bare + "," + server_first + "," + without_proof);
  return without_proof + ",p=" + base::to_base64(base::crypto::exclusive_or(key, sig));
}

} // namespace

TEST_CASE("scram: the dialogue of RFC 5802 section 5") {
  auto m = make_mechanism(mechanism_kind::scram_sha1, settings_with("3rfcNHYJY1ZVvWVs7j", false));
  auto keys = *make_scram_keys(hash::sha1, "pencil", *base::from_base64("QSXCR+Q6sek8bf92"), 4'096);
  CHECK(challenge_of(*m, "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL", keys)
        == "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096");
  auto o = m->step("c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=");
  auto* ok = std::get_if<outcome::success>(&o);
  REQUIRE(ok);
  CHECK(ok->data == "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=");
  CHECK(ok->account->full() == "user@example.org");
}

TEST_CASE("scram: the dialogue of RFC 7677 section 3") {
  auto m = make_mechanism(mechanism_kind::scram_sha256, settings_with("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", false));
  auto keys = *make_scram_keys(hash::sha256, "pencil", *base::from_base64("W22ZaJ0SNY7soEsUEjb6gQ=="), 4'096);
  CHECK(challenge_of(*m, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO", keys)
        == "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
  auto o = m->step("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
                   "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
  auto* ok = std::get_if<outcome::success>(&o);
  REQUIRE(ok);
  CHECK(ok->data == "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

namespace {

/// libgsasl as the client. Properties it asks for come from `answers`.
class gsasl_client {
public:
  gsasl_client(const char* mech, std::map<Gsasl_property, std::string> answers) : answers_(std::move(answers)) {
    REQUIRE(gsasl_init(&context_) == GSASL_OK);
    gsasl_callback_set(context_, [](Gsasl* c, Gsasl_session* s, Gsasl_property p) -> int {
      auto& self = *static_cast<gsasl_client*>(gsasl_callback_hook_get(c));
      auto i = self.answers_.find(p);
      if (i == self.answers_.end())
        return GSASL_NO_CALLBACK;
      return gsasl_property_set(s, p, i->second.c_str());
    });
    gsasl_callback_hook_set(context_, this);
    REQUIRE(gsasl_client_start(context_, mech, &session_) == GSASL_OK);
  }
  ~gsasl_client() {
    gsasl_finish(session_);
    gsasl_done(context_);
  }
  gsasl_client(const gsasl_client&) = delete;

  int rc = GSASL_NEEDS_MORE;
  std::string step(const std::string& in) {
    char* out = nullptr;
    std::size_t size = 0;
    rc = gsasl_step(session_, in.data(), in.size(), &out, &size);
    std::string bytes{out ? out : "", out ? size : 0};
    gsasl_free(out);
    return bytes;
  }

private:
  Gsasl* context_ = nullptr;
  Gsasl_session* session_ = nullptr;
  std::map<Gsasl_property, std::string> answers_;
};

/// Runs both sides to the end. The client's verdict on our proof counts, too.
outcomes run(mechanism_kind kind, gsasl_client& client, const keys_answer& keys, bool bound = true) {
  auto server = make_mechanism(kind, settings_with("server-nonce-0123456789", bound));
  auto first = client.step("");
  REQUIRE((client.rc == GSASL_NEEDS_MORE || client.rc == GSASL_OK));
  auto o = server->step(first);
  if (!std::holds_alternative<outcome::need_keys>(o))
    return o;
  CHECK(std::get<outcome::need_keys>(o).h == hash_of(kind));
  o = server->on_keys(keys);
  if (!std::holds_alternative<outcome::challenge>(o))
    return o;
  auto last = client.step(std::get<outcome::challenge>(o).data);
  REQUIRE(client.rc == GSASL_NEEDS_MORE);
  o = server->step(last);
  if (auto* ok = std::get_if<outcome::success>(&o)) {
    client.step(*ok->data);
    CHECK(client.rc == GSASL_OK);
  }
  return o;
}

constexpr mechanism_kind all_scram[] = {mechanism_kind::scram_sha1, mechanism_kind::scram_sha256,
                                        mechanism_kind::scram_sha1_plus, mechanism_kind::scram_sha256_plus};

std::map<Gsasl_property, std::string> login(const std::string& name, const std::string& password, bool binds) {
  std::map<Gsasl_property, std::string> p{{GSASL_AUTHID, name}, {GSASL_PASSWORD, password}};
  if (binds)
    p[GSASL_CB_TLS_EXPORTER] = base::to_base64(exporter);
  return p;
}

} // namespace

TEST_CASE("scram: libgsasl logs in with every form, and believes our proof") {
  for (auto kind : all_scram)
    for (auto& name : {std::string{"alice"}, std::string{"al=ice"}, std::string{"\xd1\x8e\xd0\xbb\xd1\x8f"}}) {
      CAPTURE(name_of(kind));
      CAPTURE(name);
      gsasl_client client{name_of(kind).data(), login(name, "open sesame", is_plus(kind))};
      auto o = run(kind, client, keys_of(hash_of(kind), "open sesame"));
      auto* ok = std::get_if<outcome::success>(&o);
      REQUIRE(ok);
      CHECK(ok->account->full() == name + "@example.org");
    }
}

TEST_CASE("scram: libgsasl with its own JID as authorisation identity, and with somebody else's") {
  for (auto& [authzid, good] : {std::pair{"alice@example.org", true}, std::pair{"bob@example.org", false}}) {
    auto p = login("alice", "pw", false);
    p[GSASL_AUTHZID] = authzid;
    gsasl_client client{"SCRAM-SHA-256", p};
    auto o = run(mechanism_kind::scram_sha256, client, keys_of(hash::sha256, "pw"));
    if (good) {
      CHECK(std::holds_alternative<outcome::success>(o));
    } else {
      REQUIRE(failure_in(o));
      CHECK(failure_in(o)->why == sasl_errc::invalid_authzid);
    }
  }
}

TEST_CASE("scram: SHA-512, and the hash of what was offered (XEP-0474)") {
  // section 5.3's own example
  CHECK(base::to_base64(base::crypto::digest(hash::sha1, downgrade_text({"SCRAM-SHA-1", "SCRAM-SHA-1-PLUS"}, {"tls-server-end-point", "tls-exporter"})))
        == "G6k/rBLDqgOhRRaCuuatSDFkJ08=");
  CHECK(downgrade_text({"b", "a"}, {}) == "a\x1e" "b");
  for (auto kind : {mechanism_kind::scram_sha512, mechanism_kind::scram_sha512_plus}) {
    auto s = settings_with("sn");
    s.offer = "SCRAM-SHA-512";
    std::string gs2 = is_plus(kind) ? "p=tls-exporter,," : "n,,", bare = "n=alice,r=cn", bound = is_plus(kind) ? exporter : "";
    auto keys = keys_of(hash::sha512, "pw");
    auto m = make_mechanism(kind, s);
    auto server_first = challenge_of(*m, gs2 + bare, keys);
    CHECK(server_first.ends_with(",i=4096,h=" + base::to_base64(base::crypto::digest(hash::sha512, "SCRAM-SHA-512"))));
    CHECK(std::holds_alternative<outcome::success>(m->step(final_of(hash::sha512, "pw", gs2, bound, bare, server_first))));

    auto stripped = make_mechanism(kind, s); // somebody in between takes the attribute away: the proof is of other words
    auto first = challenge_of(*stripped, gs2 + bare, keys);
    auto o = stripped->step(final_of(hash::sha512, "pw", gs2, bound, bare, first.substr(0, first.find(",h="))));
    REQUIRE(failure_in(o));
    CHECK(failure_in(o)->why == sasl_errc::not_authorized);
  }
}

TEST_CASE("scram: wrong, unknown and disabled look alike to libgsasl") {
  for (auto kind : all_scram) {
    CAPTURE(name_of(kind));
    const keys_answer answers[] = {keys_of(hash_of(kind), "another"), base::fail(credentials_errc::no_such_user),
                                   base::fail(credentials_errc::disabled)};
    for (auto& a : answers) {
      gsasl_client client{name_of(kind).data(), login("alice", "pw", is_plus(kind))};
      auto o = run(kind, client, a);
      REQUIRE(failure_in(o));
      CHECK(failure_in(o)->why == sasl_errc::not_authorized);
      CHECK(failure_in(o)->local == "alice");
    }
    gsasl_client client{name_of(kind).data(), login("alice", "pw", is_plus(kind))};
    auto o = run(kind, client, base::fail(credentials_errc::unavailable));
    REQUIRE(failure_in(o));
    CHECK(failure_in(o)->why == sasl_errc::temporary_auth_failure);
  }
}

TEST_CASE("scram: the challenge for an unknown user is stable and shaped like a real one") {
  auto ask = [](keys_answer a) {
    auto m = make_mechanism(mechanism_kind::scram_sha256, settings_with("sn", false));
    return challenge_of(*m, "n,,n=ghost,r=cn", a);
  };
  auto fake = ask(base::fail(credentials_errc::no_such_user));
  CHECK(fake == ask(base::fail(credentials_errc::no_such_user)));
  CHECK(fake == ask(base::fail(credentials_errc::disabled)));
  CHECK(fake.size() == ask(keys_of(hash::sha256, "pw", std::string(salt_size, 's'))).size());
}

TEST_CASE("scram: damaged keys are a temporary failure, not a login") {
  auto good = keys_of(hash::sha1, "pw");
  auto no_salt = good, no_key = good, no_rounds = good;
  no_salt.salt.clear();
  no_key.stored_key.clear();
  no_rounds.iterations = 0;
  for (auto& k : {no_salt, no_key, no_rounds}) {
    auto m = make_mechanism(mechanism_kind::scram_sha1, settings_with("sn"));
    (void)m->step("n,,n=alice,r=cn");
    auto o = m->on_keys(k);
    REQUIRE(failure_in(o));
    CHECK(failure_in(o)->why == sasl_errc::temporary_auth_failure);
  }
}

TEST_CASE("scram: libgsasl bound to another TLS connection fails") {
  auto p = login("alice", "pw", true);
  p[GSASL_CB_TLS_EXPORTER] = base::to_base64(std::string(32, 'x')); // a man in the middle's
  gsasl_client client{"SCRAM-SHA-256-PLUS", p};
  auto o = run(mechanism_kind::scram_sha256_plus, client, keys_of(hash::sha256, "pw"));
  REQUIRE(failure_in(o));
  CHECK(failure_in(o)->why == sasl_errc::not_authorized);
  CHECK(failure_in(o)->cause == "channel binding does not match");
}

TEST_CASE("scram: tls-server-end-point binds, too") {
  auto m = make_mechanism(mechanism_kind::scram_sha256_plus, settings_with("sn"));
  std::string gs2 = "p=tls-server-end-point,,", bare = "n=alice,r=cn";
  auto server_first = challenge_of(*m, gs2 + bare, keys_of(hash::sha256, "pw"));
  auto o = m->step(final_of(hash::sha256, "pw", gs2, end_point, bare, server_first));
  CHECK(std::holds_alternative<outcome::success>(o));

  auto forged = make_mechanism(mechanism_kind::scram_sha256_plus, settings_with("sn"));
  server_first = challenge_of(*forged, gs2 + bare, keys_of(hash::sha256, "pw"));
  o = forged->step(final_of(hash::sha256, "pw", gs2, exporter, bare, server_first));
  CHECK(failure_in(o));
}

TEST_CASE("scram: what a client may not say first") {
  using enum mechanism_kind;
  struct row { mechanism_kind kind; std::string message; sasl_errc error; };
  const row rows[] = {
    // channel binding
    {scram_sha256, "y,,n=alice,r=cn", sasl_errc::not_authorized},                  // -PLUS was offered: downgrade
    {scram_sha256, "p=tls-exporter,,n=alice,r=cn", sasl_errc::malformed_request},  // p= without -PLUS
    {scram_sha256_plus, "n,,n=alice,r=cn", sasl_errc::malformed_request},
    {scram_sha256_plus, "y,,n=alice,r=cn", sasl_errc::malformed_request},
    {scram_sha256_plus, "p=tls-unique,,n=alice,r=cn", sasl_errc::not_authorized},
    {scram_sha256_plus, "p=TLS-EXPORTER,,n=alice,r=cn", sasl_errc::not_authorized},
    {scram_sha256_plus, "p=,,n=alice,r=cn", sasl_errc::malformed_request},
    {scram_sha256, "x,,n=alice,r=cn", sasl_errc::malformed_request},
    {scram_sha256, ",,n=alice,r=cn", sasl_errc::malformed_request},
    // gs2 header and identities
    {scram_sha256, "", sasl_errc::malformed_request},
    {scram_sha256, "n", sasl_errc::malformed_request},
    {scram_sha256, "n,,", sasl_errc::malformed_request},
    {scram_sha256, "n,alice,n=alice,r=cn", sasl_errc::malformed_request},
    {scram_sha256, "n,a=,n=alice,r=cn", sasl_errc::malformed_request},
    {scram_sha256, "n,a=bob@example.org,n=alice,r=cn", sasl_errc::invalid_authzid},
    {scram_sha256, "n,a=alice=40example.org,n=alice,r=cn", sasl_errc::malformed_request},
    {scram_sha256, "n,,n=,r=cn", sasl_errc::malformed_request},
    {scram_sha256, "n,,n=al=ice,r=cn", sasl_errc::malformed_request},
    {scram_sha256, "n,,n=al=2cice,r=cn", sasl_errc::malformed_request},
    {scram_sha256, "n,,n=alice=,r=cn", sasl_errc::malformed_request},
    {scram_sha256, "n,,n=alice@example.org,r=cn", sasl_errc::not_authorized},
    {scram_sha256, "n,,n=alice\xff,r=cn", sasl_errc::not_authorized},
    // order, extensions, nonce
    {scram_sha256, "n,,m=x,n=alice,r=cn", sasl_errc::malformed_request},
    {scram_sha256, "n,,r=cn,n=alice", sasl_errc::malformed_request},
    {scram_sha256, "n,,n=alice", sasl_errc::malformed_request},
    {scram_sha256, "n,,n=alice,r=", sasl_errc::malformed_request},
    {scram_sha256, "n,,n=alice,r=c n", sasl_errc::malformed_request},
    {scram_sha256, "n,,n=alice,r=c\x80n", sasl_errc::malformed_request},
    {scram_sha256, "n,,n=alice,r=" + std::string(257, 'n'), sasl_errc::malformed_request},
    {scram_sha256, "n,,n=alice,r=cn,", sasl_errc::malformed_request},
    {scram_sha256, "n,,n=alice,r=cn,ext", sasl_errc::malformed_request},
    {scram_sha256, "n,,n=alice,r=cn,1=x", sasl_errc::malformed_request},
    {scram_sha256, "n,,n=alice,r=cn,x=" + std::string(4'096, 'x'), sasl_errc::malformed_request},
  };
  for (auto& r : rows) {
    CAPTURE(r.message.substr(0, 60));
    auto o = make_mechanism(r.kind, settings_with("sn"))->step(r.message);
    REQUIRE(failure_in(o));
    CHECK(failure_in(o)->why == r.error);
  }
}

TEST_CASE("scram: what a client may say first") {
  struct row { std::string message; bool bound; };
  const row rows[] = {
    {"n,,n=alice,r=cn", true},
    {"y,,n=alice,r=cn", false}, // no -PLUS was on offer: the client is right
    {"n,a=alice@example.org,n=alice,r=cn", true},
    {"n,,n=ALICE,r=cn", true},
    {"n,,n=alice,r=cn,x=optional,y=passed over", true},
    {"n,,n=alice,r=" + std::string(256, 'n'), true},
  };
  for (auto& r : rows) {
    CAPTURE(r.message);
    auto o = make_mechanism(mechanism_kind::scram_sha1, settings_with("sn", r.bound))->step(r.message);
    auto* need = std::get_if<outcome::need_keys>(&o);
    REQUIRE(need);
    CHECK(need->local == "alice");
    CHECK(need->h == hash::sha1);
  }
}

TEST_CASE("scram: what a client may not say last") {
  auto keys = keys_of(hash::sha1, "pw");
  std::string gs2 = "n,,", bare = "n=alice,r=cn";
  auto attempt = [&](auto&& change) {
    auto m = make_mechanism(mechanism_kind::scram_sha1, settings_with("sn"));
    auto server_first = challenge_of(*m, gs2 + bare, keys);
    return m->step(change(final_of(hash::sha1, "pw", gs2, "", bare, server_first)));
  };
  auto replace = [](std::string s, const std::string& a, const std::string& b) { return s.replace(s.find(a), a.size(), b); };
  CHECK(std::holds_alternative<outcome::success>(attempt([](std::string s) { return s; })));

  auto refused = [&](sasl_errc why, auto&& change) {
    auto o = attempt(change);
    REQUIRE(failure_in(o));
    CHECK(failure_in(o)->why == why);
  };
  using s = std::string;
  auto c_yes = "c=" + base::to_base64("y,,") + ",", c_bound = "c=" + base::to_base64("p=tls-exporter,," + exporter) + ",";
  refused(sasl_errc::not_authorized, [&](s m) { return replace(m, "c=biws,", c_yes); });
  refused(sasl_errc::not_authorized, [&](s m) { return replace(m, "c=biws,", c_bound); });
  refused(sasl_errc::not_authorized, [&](s m) { return replace(m, "r=cnsn", "r=cn"); });
  refused(sasl_errc::not_authorized, [&](s m) { return replace(m, "r=cnsn", "r=cnsnx"); });
  refused(sasl_errc::not_authorized, [&](s m) { return replace(m, "r=cnsn", "r=cnsn,x=unsigned"); });
  refused(sasl_errc::not_authorized, [&](s m) { return m.substr(0, m.find("p=") + 2) + base::to_base64(s(20, 'p')); });
  refused(sasl_errc::malformed_request, [&](s m) { return replace(m, "c=biws", "c=biw"); });
  refused(sasl_errc::malformed_request, [&](s m) { return replace(m, "c=biws,", ""); });
  refused(sasl_errc::malformed_request, [&](s m) { return replace(m, "c=biws,r=cnsn", "r=cnsn,c=biws"); });
  refused(sasl_errc::malformed_request, [&](s m) { return replace(m, "r=cnsn", "r=cnsn,m=x"); });
  refused(sasl_errc::malformed_request, [&](s m) { return m.substr(0, m.find(",p=")); });
  refused(sasl_errc::malformed_request, [&](s m) { return m.substr(0, m.find("p=") + 2); });
  refused(sasl_errc::malformed_request, [&](s m) { return m.substr(0, m.size() - 4); });
  refused(sasl_errc::malformed_request, [&](s m) { return m + ",x=after the proof"; });
  refused(sasl_errc::malformed_request, [&](s m) { return replace(m, ",p=", ",,p="); });
  refused(sasl_errc::malformed_request, [&](s) { return s{}; });
  refused(sasl_errc::malformed_request, [&](s m) { return m + s(4'096, '='); });
}

TEST_CASE("scram: signed extensions are passed over; out of turn nothing works") {
  auto keys = keys_of(hash::sha1, "pw");
  auto m = make_mechanism(mechanism_kind::scram_sha1, settings_with("sn"));
  auto early = m->on_keys(keys);
  CHECK(failure_in(early));
  auto server_first = challenge_of(*m, "n,,n=alice,r=cn", keys);
  auto late = m->on_keys(keys);
  CHECK(failure_in(late));

  auto again = make_mechanism(mechanism_kind::scram_sha1, settings_with("sn"));
  (void)again->step("n,,n=alice,r=cn");
  auto o = again->step("n,,n=bob,r=cn"); // before the keys came
  CHECK(failure_in(o));
  o = again->on_keys(keys);
  CHECK(failure_in(o));
}
