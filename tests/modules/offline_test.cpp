// Messages that a session's client has not acknowledged, and acks that are faster than the store.
#include "storage/tables.hpp"
#include "tests/modules/account_fixture.hpp"

using namespace modules;
using namespace modules::testing;

namespace {
struct fixture : account_fixture {
  explicit fixture(std::int64_t quota = 100) {
    values.numbers["quota_size"] = quota;
    start(make_offline());
    join(7, "pc");
  }
  xmpp::delivery message(std::uint64_t id) {
    xmpp::delivery d{stanza("<message type='chat'><body>x</body></message>", "friend@far.example/r", "me@example.org"), {}};
    d.what->stanza_id = {id, 0};
    return d;
  }
  effects spool(std::uint64_t id, std::uint64_t session = 7) {
    auto d = message(id);
    d.what->completion = {1, static_cast<std::uint32_t>(id), 0, 0};
    effects out;
    message_unacknowledged ev{session, d, *this, out};
    CHECK(name_of(view.unacknowledged.run(ev)) == "taken");
    return out;
  }
  /// Nobody is there for it.
  effects keep(std::uint64_t id) {
    auto d = message(id);
    effects out;
    message_undelivered ev{d, *this, out};
    CHECK(name_of(view.undelivered.run(ev)) == "taken");
    return out;
  }
  effects acknowledge(std::uint64_t id, std::uint64_t session = 7, bool has_begun_anew = false) {
    effects out;
    std::vector<base::u128> ids{{id, 0}};
    message_settled ev{session, ids, *this, out, has_begun_anew};
    (void)view.settled.run(ev);
    return out;
  }
  void log_in(std::uint64_t session) {
    join(session, "phone");
    effects login;
    session_ready ready{session, *this, login};
    (void)view.ready.run(ready);
    settle(login);
  }
  /// Nothing can be read or written meanwhile.
  void settle_while_away(effects& out) {
    engine.set_available(false);
    settle(out);
    engine.set_available(true);
  }
  std::size_t rows() {
    auto all = engine.scan(storage::tables::offline_of(*bare()), storage::order::forward, 100);
    REQUIRE(all.has_value());
    return all->size();
  }
};
} // namespace

TEST_CASE_FIXTURE(fixture, "offline: what is not acknowledged is kept until it is") {
  auto out = spool(1);
  settle(out);
  CHECK(rows() == 1);
  out = acknowledge(1);
  settle(out);
  CHECK(rows() == 0);
}

TEST_CASE_FIXTURE(fixture, "offline: an ack that comes before there is a count of the mailbox leaves no row") {
  auto first = spool(1), second = spool(2); // both wait for the count
  auto ack = acknowledge(1);
  settle(ack);
  settle(first);
  settle(second);
  CHECK(rows() == 1);
  ack = acknowledge(2);
  settle(ack);
  CHECK(rows() == 0);
  auto again = spool(1); // the ack was of that attempt only
  settle(again);
  CHECK(rows() == 1);
}

TEST_CASE_FIXTURE(fixture, "offline: what another node has stored, and a client of the account has acknowledged, is not given again") {
  auto out = spool(1);
  settle(out);
  leave(7);
  arrived = {{1, 0}};
  log_in(8);
  CHECK(delivered.empty());
  CHECK(rows() == 0);
}

TEST_CASE_FIXTURE(fixture, "offline: what was stored so late that its sender had sent it again goes when a client acknowledges that") {
  auto first = keep(1), second = keep(2);
  settle(first);
  CHECK(rows() == 1);
  auto ack = acknowledge(1);
  settle(ack);
  CHECK(rows() == 0);
  arrived = {{2, 0}}; // while it was being written
  settle(second);
  CHECK(rows() == 0);
}

TEST_CASE_FIXTURE(fixture, "offline: one ack is enough, though two devices asked for the same message to be kept") {
  join(8, "phone");
  auto first = spool(1), second = spool(1, 8); // both wait for the count
  auto ack = acknowledge(1);
  settle(ack);
  settle(first);
  settle(second);
  CHECK(rows() == 0);
}

TEST_CASE_FIXTURE(fixture, "offline: a mailbox that stays full keeps nothing in mind") {
  for (std::uint64_t id = 1; id <= 150; ++id) {
    auto out = spool(id);
    settle(out);
  }
  CHECK(rows() == 1); // of 100 bytes
  auto ack = acknowledge(150);
  settle(ack);
  auto out = spool(150);
  auto answer = std::ranges::count_if(out.list(), [](auto& i) { return std::holds_alternative<effect::load>(i); });
  CHECK(answer == 1); // looks for room again
  settle(out);
  CHECK(rows() == 1);
}

namespace {
struct roomy : fixture {
  roomy() : fixture(10'000) {}
};
} // namespace

TEST_CASE_FIXTURE(roomy, "offline: who logs in while messages are on their way to the store is given them") {
  leave(7);
  auto first = keep(1), second = keep(2), third = keep(3); // all wait for the count
  log_in(8);
  log_in(9);
  CHECK(delivered.empty());
  SUBCASE("") { settle(first); }
  SUBCASE("none of which could be stored") {
    settle_while_away(first);
    CHECK(sent.size() == 3); // they came back
    CHECK(rows() == 0);
    auto later = keep(4);
    settle(later);
    CHECK(rows() == 1);
    log_in(10); // nothing is waited for any more
    CHECK(delivered.size() == 1);
    return;
  }
  CHECK(delivered.size() == 3); // once, to either of them
}

TEST_CASE_FIXTURE(roomy, "offline: whether there is anything is said before it is time to give it, and not where that is not known") {
  auto is_nothing_expected = [this](bool is_away = false) {
    effects out;
    session_expects ev{7, *this, out};
    (void)view.expects.run(ev);
    is_away ? settle_while_away(out) : settle(out);
    return std::exchange(expecting_nothing, {}) == std::vector<std::uint64_t>{7};
  };
  CHECK(is_nothing_expected());
  CHECK_FALSE(is_nothing_expected(true));
  auto out = keep(1);
  CHECK_FALSE(is_nothing_expected()); // it is on its way
  settle(out);
  CHECK_FALSE(is_nothing_expected());
  out = acknowledge(1);
  settle(out);
  CHECK(is_nothing_expected());
  CHECK(delivered.empty());
}

TEST_CASE_FIXTURE(fixture, "offline: what is acknowledged while the store is away is not given again") {
  auto out = spool(1);
  settle(out);
  auto ack = acknowledge(1);
  settle_while_away(ack);
  CHECK(rows() == 1);
  log_in(8);
  CHECK(delivered.empty());
  CHECK(rows() == 0);
}

TEST_CASE_FIXTURE(fixture, "offline: what is being erased is not given to who logs in meanwhile") {
  auto out = spool(1);
  settle(out);
  auto ack = acknowledge(1); // its erase waits
  log_in(8);
  CHECK(delivered.empty());
  settle(ack);
  CHECK(rows() == 0);
}

TEST_CASE_FIXTURE(fixture, "offline: an ack of what was stored before the account began anew is not forgotten while the store is away") {
  auto out = spool(1);
  settle(out);
  restart(); // on another node
  auto ack = acknowledge(1, 7, true);
  settle_while_away(ack);
  CHECK(rows() == 1);
  log_in(8);
  CHECK(delivered.empty());
  CHECK(rows() == 0);
}

TEST_CASE_FIXTURE(fixture, "offline: what one device has acknowledged is no more kept for another one") {
  auto out = spool(1);
  settle(out);
  join(8, "phone");
  auto ack = acknowledge(1, 8);
  settle(ack);
  CHECK(rows() == 0);
}

TEST_CASE_FIXTURE(roomy, "offline: what another node has stored, too, is erased when it is acknowledged here") {
  auto there = spool(1);
  settle(there);
  restart(); // this is another node, that a split had kept from seeing the first
  auto here = spool(1);
  settle(here);
  CHECK(rows() == 1);
  auto ack = acknowledge(1);
  settle(ack);
  CHECK(rows() == 0);
}

TEST_CASE_FIXTURE(roomy, "offline: what another node has stored, too, is erased, though the ack was faster than the store") {
  auto there = spool(1);
  settle(there);
  restart();
  auto other = spool(2); // for the count of the mailbox
  settle(other);
  auto here = spool(1), ack = acknowledge(1);
  settle(here);
  settle(ack);
  CHECK(rows() == 1);
}

TEST_CASE_FIXTURE(roomy, "offline: what was acknowledged before the store said that it could not keep it is not sent on") {
  auto other = spool(2); // for the count of the mailbox
  settle(other);
  auto lost = spool(1), kept = spool(3);
  auto ack = acknowledge(1);
  leave(7);
  sent.clear();
  settle_while_away(lost);
  CHECK(sent.empty());
  settle_while_away(kept); // nobody has that one
  CHECK(sent.size() == 1);
  settle(ack);
  CHECK(rows() == 1);
}
