// Tokens and keys in an account's rows, on a clock that is turned by hand: what is issued, rotated, superseded, refused, and
// what happens when two logins change the same row.
#include "server/accounts.hpp"
#include "storage/memory/engine.hpp"
#include "xmpp/sasl/scram_keys.hpp"
#include <doctest/doctest.h>
#include <future>

using base::crypto::hash;
using xmpp::sasl::credentials_errc;
using enum xmpp::sasl::mechanism_kind;
using namespace std::chrono_literals;
namespace sasl = xmpp::sasl;

namespace {

/// One host on a store in memory; `alice` is there.
template <class Store>
struct host {
  base::manual_clock clock;
  base::seeded_random random{5};
  actors::node node{{}, clock, random};
  actors::pool hashing{1};
  Store store{std::make_unique<storage::memory_engine>()};
  server::stored_accounts accounts{store, hashing, node, random, settings()};
  xmpp::jid_ref alice = *xmpp::parse_jid("alice@example.org");

  static server::account_settings settings() {
    server::account_settings s;
    s.host = "example.org";
    s.fake_secret = "fake";
    s.token_secret = "the database's secret";
    s.iterations = 10;
    s.hashes = {hash::sha1, hash::sha256, hash::sha512};
    s.token_lifetime = 21 * 24h;
    s.token_rotation = 24h;
    s.clients_with_tokens = 3;
    return s;
  }
  std::vector<storage::row> rows() { return *store.blocking().scan(storage::tables::tokens_of(*alice), storage::order::forward, 100); }
};

struct inline_host : host<storage::inline_store> {
  inline_host() { REQUIRE(set("pw", true)); }
  bool set(const std::string& password, bool is_new = false) {
    std::promise<bool> done;
    auto then = [&](base::result<void, modules::account_errc> r) { done.set_value(r.has_value()); };
    if (is_new)
      accounts.create(alice, password, then);
    else
      accounts.set_password(alice, password, then);
    return done.get_future().get();
  }
  sasl::account_answer check(const std::string& password) {
    std::promise<sasl::account_answer> done;
    accounts.check_password("alice", password, [&](sasl::account_answer a) { done.set_value(a); });
    return done.get_future().get();
  }
  std::uint64_t version() { return check("pw").value().version; }
  sasl::tokens_answer find(const std::string& client, const std::string& local = "alice") {
    sasl::tokens_answer got = base::fail(credentials_errc::unavailable);
    accounts.find_tokens(local, client, [&](sasl::tokens_answer a) { got = std::move(a); });
    return got;
  }
  sasl::token_change_answer change(sasl::token_change c) {
    sasl::token_change_answer got = base::fail(credentials_errc::unavailable);
    c.local = "alice";
    accounts.change_tokens(std::move(c), [&](sasl::token_change_answer a) { got = std::move(a); });
    return got;
  }
  std::string issue(const std::string& client, sasl::mechanism_kind k = ht_sha256_none) {
    sasl::token_change c;
    c.client = client;
    c.account_version = version();
    c.issue = k;
    auto got = change(c);
    REQUIRE((got && *got));
    return (*got)->secret;
  }
  static sasl::token_change use(const std::string& client, const std::string& secret) {
    sasl::token_change c;
    c.client = client;
    c.used = secret;
    return c;
  }
};

} // namespace

TEST_CASE("tokens: random, bound to their client, not to be read from the row") {
  inline_host h;
  auto a = h.issue("a"), b = h.issue("b", ht_sha256_exporter);
  CHECK(a != b);
  CHECK(base::from_base64(a)->size() == 32);
  auto found = h.find("b");
  REQUIRE((found && found->fresh));
  CHECK(found->fresh->secret == b);
  CHECK(found->fresh->mechanism == ht_sha256_exporter);
  CHECK_FALSE(found->current);
  CHECK(h.find("c").error() == credentials_errc::no_such_user);
  CHECK(h.find("a", "bob").error() == credentials_errc::no_such_user);
  auto rows = h.rows();
  REQUIRE(rows.size() == 2);
  for (auto& r : rows) {
    CHECK(r.value.find(a) == std::string::npos);
    CHECK(r.value.find(*base::from_base64(a)) == std::string::npos);
  }
  storage::batch moved; // a's row in c's place
  moved.changes.emplace_back(storage::put{storage::tables::tokens_key(*h.alice, "c"), rows[0].value});
  REQUIRE(h.store.blocking().commit({&moved, 1}).front() == storage::outcome::done);
  CHECK(h.find("c")->fresh->secret != a);
}

TEST_CASE("tokens: rotation, and the first use of the new one ends the old one") {
  inline_host h;
  auto first = h.issue("a");
  CHECK_FALSE(h.find("a")->fresh->is_due);
  REQUIRE(h.change(h.use("a", first)));
  CHECK(h.find("a")->current->secret == first);
  h.clock.advance(24h);
  CHECK(h.find("a")->current->is_due);
  auto rotate = h.use("a", first);
  rotate.issue = ht_sha256_none;
  auto second = (*h.change(rotate))->secret;
  auto both = h.find("a");
  CHECK(both->current->secret == first);
  CHECK(both->fresh->secret == second);
  CHECK(both->fresh->supersedes);
  auto third = (*h.change(rotate))->secret; // the second one never arrived
  CHECK(h.find("a")->fresh->secret == third);
  CHECK(h.change(h.use("a", second)).error() == credentials_errc::changed);
  REQUIRE(h.change(h.use("a", third)));
  CHECK(h.find("a")->current->secret == third);
  CHECK_FALSE(h.find("a")->fresh);
  CHECK(h.change(h.use("a", first)).error() == credentials_errc::changed);
}

TEST_CASE("tokens: expiry, counts, invalidation") {
  inline_host h;
  auto t = h.issue("a");
  auto counted = h.use("a", t);
  counted.count = 5;
  REQUIRE(h.change(counted));
  CHECK(h.find("a")->current->count == 5);
  CHECK(h.change(counted).error() == credentials_errc::changed);
  counted.count = 6;
  CHECK(h.change(counted));
  h.clock.advance(21 * 24h - 1us);
  CHECK_FALSE(h.find("a")->current->is_expired);
  h.clock.advance(1us);
  CHECK(h.find("a")->current->is_expired);
  auto back = h.use("a", t);
  back.invalidate = true;
  REQUIRE(h.change(back));
  CHECK(h.rows().empty());
  CHECK(h.change(back).error() == credentials_errc::changed);
}

TEST_CASE("tokens: the client that came least recently loses its own") {
  inline_host h;
  for (auto client : {"a", "b", "c"}) {
    h.issue(client);
    h.clock.advance(1s);
  }
  h.issue("a"); // came again
  h.clock.advance(1s);
  h.issue("d");
  CHECK(h.rows().size() == 3);
  CHECK(h.find("b").error() == credentials_errc::no_such_user);
  CHECK(h.find("a").has_value());
}

TEST_CASE("tokens: none for who knew the old password; a new one ends them all") {
  inline_host h;
  h.issue("a");
  sasl::token_change late;
  late.client = "b";
  late.account_version = h.version();
  late.issue = ht_sha256_none;
  REQUIRE(h.set("new"));
  CHECK(h.rows().empty());
  CHECK(h.change(late).error() == credentials_errc::changed);
  CHECK(h.rows().empty());
}

TEST_CASE("keys: what an account lacks is added once, to the password that was verified") {
  inline_host h;
  auto facts = *h.check("pw");
  CHECK((facts.has(hash::sha1) && facts.has(hash::sha256) && facts.has(hash::sha512)));
  CHECK(h.check("wrong").error() == credentials_errc::wrong_password);
  storage::tables::account imported; // from a server that had SHA-1 alone
  imported.sha1 = *sasl::make_scram_keys(hash::sha1, "old", "salt", 10);
  auto put_row = [&] {
    storage::batch b;
    b.changes.emplace_back(storage::put{storage::tables::account_key(*h.alice), storage::tables::encode(imported)});
    REQUIRE(h.store.blocking().commit({&b, 1}).front() == storage::outcome::done);
  };
  put_row();
  std::optional<sasl::keys_answer> known;
  h.accounts.find_keys("alice", hash::sha1, [&](sasl::keys_answer a) { known = std::move(a); });
  auto verified = (*known)->facts;
  CHECK_FALSE(verified.has(hash::sha512));
  auto keys = *sasl::make_scram_keys(hash::sha512, "old", "salt", 10);
  std::optional<sasl::account_answer> answer;
  auto add = [&] { h.accounts.add_keys("alice", verified.version, hash::sha512, keys, [&](sasl::account_answer a) { answer = a; }); };
  add();
  REQUIRE(answer->has_value());
  CHECK((*answer)->has(hash::sha512));
  CHECK((*answer)->version == verified.version + 1);
  h.accounts.find_keys("alice", hash::sha512, [&](sasl::keys_answer a) { known = std::move(a); });
  CHECK(static_cast<const sasl::scram_keys&>(**known) == keys);
  add(); // of a version that is no more
  CHECK(answer->error() == credentials_errc::changed);

  put_row();
  auto now = h.check("old"); // the password itself: all that is missing
  REQUIRE(now);
  CHECK((now->has(hash::sha256) && now->has(hash::sha512)));
  CHECK(h.check("old")->version == now->version); // once
}

TEST_CASE("tokens: two logins with one token at the same moment; only one of them can count") {
  host<storage::stepped_store> h;
  storage::tables::client_tokens t;
  t.current = storage::tables::client_tokens::token{"seed", ht_sha256_none, 0, INT64_MAX, 0};
  storage::batch b;
  b.changes.emplace_back(storage::put{storage::tables::tokens_key(*h.alice, "a"), storage::tables::encode(t)});
  REQUIRE(h.store.blocking().commit({&b, 1}).front() == storage::outcome::done);
  std::string secret;
  h.accounts.find_tokens("alice", "a", [&](sasl::tokens_answer a) { secret = a->current->secret; });
  h.store.step();
  int good = 0, refused = 0;
  for (int i = 0; i < 2; ++i) {
    sasl::token_change c;
    c.local = "alice";
    c.client = "a";
    c.used = secret;
    c.count = 1;
    h.accounts.change_tokens(c, [&](sasl::token_change_answer a) { (a ? good : refused) += 1; });
  }
  h.store.step();
  CHECK(good == 1);
  CHECK(refused == 1);
}
