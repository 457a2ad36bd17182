// A link: order, credit, resumption without loss or copy, an outcome for every stanza.
#include "tests/cluster/made.hpp"

using namespace cluster;
using namespace cluster_tests;

namespace {
struct pair_of_links {
  link_options options;
  std::unique_ptr<cluster::link> a, b;
  link_news at_a, at_b;
  pair_of_links() { renew(); }
  void renew() {
    a = std::make_unique<cluster::link>(1, 1, options);
    b = std::make_unique<cluster::link>(1, 2, options);
  }
  /// One frame each way, until nothing is left to say. Returns how many.
  int talk(bool a_holds = false) {
    for (int n = 0;; ++n) {
      frame there, back;
      a->fill(there, a_holds);
      b->fill(back, false);
      if (there.is_empty() && back.is_empty())
        return n;
      auto f = sent(there), g = sent(back);
      REQUIRE(b->receive(f, at_b) == link::verdict::fine);
      REQUIRE(a->receive(g, at_a) == link::verdict::fine);
    }
  }
  void reconnect() {
    auto ta = a->taken(), ca = a->completions_taken();
    a->resume(b->taken(), b->completions_taken());
    b->resume(ta, ca);
  }
  void send(std::uint32_t number, bool needs_credit = true, std::uint64_t order = 1, bool has_completion = true) {
    CHECK(a->send(make_parcel(number, needs_credit, order, has_completion)) == base::room::ok);
  }
  [[nodiscard]] std::string arrived() const {
    std::string all;
    for (const auto& p : at_b.arrived)
      all += id_of(p) + " ";
    return all;
  }
  [[nodiscard]] std::string returned() const {
    std::string all;
    for (const auto& p : at_a.returned)
      all += id_of(p) + " ";
    return all;
  }
};
} // namespace

TEST_CASE_FIXTURE(pair_of_links, "link: stanzas arrive once, in order, and their outcomes come back once") {
  for (std::uint32_t n = 1; n <= 200; ++n)
    send(n);
  talk();
  REQUIRE(at_b.arrived.size() == 200);
  for (std::uint32_t n = 0; n < 200; ++n) {
    CHECK(id_of(at_b.arrived[n]) == "m" + std::to_string(n + 1));
    CHECK(at_b.arrived[n].what.what->completion.session == n + 1);
    CHECK(at_b.arrived[n].what.what->completion.number == 2);
  }
  b->complete(3, ending::acknowledged);
  b->complete(3, ending::bounced);
  b->complete(1, ending::bounced, std::make_shared<const xmpp::stanza_error>(xmpp::stanza_errc::forbidden));
  b->complete(900, ending::stored);
  talk();
  REQUIRE(at_a.ended.size() == 2);
  CHECK(id_of(at_a.ended[0].what) == "m3");
  CHECK(at_a.ended[0].how == ending::acknowledged);
  CHECK_FALSE(at_a.ended[0].why);
  CHECK(at_a.ended[1].what.what.what->completion.number == 1); // the sender's own number
  REQUIRE(at_a.ended[1].why);
  CHECK(*at_a.ended[1].why == xmpp::stanza_error{xmpp::stanza_errc::forbidden});
  CHECK(a->open_count() == 199); // the second is open, and all behind it keep their place
  CHECK(b->unconfirmed_completions() == 0);
}

TEST_CASE_FIXTURE(pair_of_links, "link: frames are batches, and no larger than they may be") {
  for (std::uint32_t n = 1; n <= 2 * limits::stanzas; ++n)
    send(n);
  frame credit;
  b->fill(credit, false);
  REQUIRE(a->receive(credit, at_a) == link::verdict::fine);
  frame f;
  a->fill(f, false);
  CHECK(sent(f).stanzas->items.size() == limits::stanzas);
  auto big = make_parcel(1);
  big.what.what = covey_tests::stanza("<message><body>" + std::string(limits::stanza_bytes / 2, 'x') + "</body></message>", "a@b/c", "d@e");
  renew();
  frame first, second;
  b->fill(first, false);
  REQUIRE(a->receive(first, at_a) == link::verdict::fine);
  for (int n = 0; n < 3; ++n)
    CHECK(a->send(cluster::parcel{big}) == base::room::ok);
  a->fill(second, false);
  CHECK(sent(second).stanzas->items.size() == 1); // two would be over
}

TEST_CASE_FIXTURE(pair_of_links, "link: a peer of protocol version 1 gets no more in a frame than that had") {
  for (auto [version, most] : {std::pair{1u, limits::stanzas_of_1}, std::pair{2u, limits::stanzas}, std::pair{3u, limits::stanzas}}) {
    CAPTURE(version);
    renew();
    a->speak(version);
    talk();
    for (std::size_t n = 1; n <= most + 1; ++n) {
      CHECK(a->wants_to_say(false) == (n == 1 ? link::urgency::nothing : n <= most ? link::urgency::soon : link::urgency::now));
      send(static_cast<std::uint32_t>(n));
    }
    frame f;
    a->fill(f, false);
    CHECK(f.stanzas->lent.size() == most);
  }
}

TEST_CASE_FIXTURE(pair_of_links, "link: long names count to what a frame may hold") {
  auto from = std::string(1'000, 'a') + "@h/" + std::string(1'000, 'r');
  talk();
  auto p = make_parcel(1);
  p.what.what = covey_tests::stanza("<message/>", from, "d@e");
  constexpr std::size_t all = 2 * limits::stanzas;
  for (std::size_t n = 0; n < all; ++n)
    CHECK(a->send(cluster::parcel{p}) == base::room::ok);
  std::size_t came = 0;
  while (a->wants_to_say(false) != link::urgency::nothing) {
    frame f;
    a->fill(f, false);
    came += f.stanzas->lent.size();
    CHECK(encode(f).size() <= limits::frame_bytes);
  }
  CHECK(came == all);
}

TEST_CASE_FIXTURE(pair_of_links, "link: stanzas wait for credit, replies do not, and no stanza overtakes one of its own pair") {
  options.window_stanzas = 2;
  renew();
  for (std::uint32_t n = 1; n <= 4; ++n)
    send(n, true, n);
  send(5, false, 4);        // behind m4, of the same pair
  send(6, false, 9, false); // of another one
  talk();
  CHECK(arrived() == "m6 m1 m2 ");
  b->handled(1, 100'000);
  talk();
  CHECK(arrived() == "m6 m1 m2 m3 ");
  b->handled(1, 100'000);
  talk();
  CHECK(arrived() == "m6 m1 m2 m3 m4 m5 ");
}

TEST_CASE_FIXTURE(pair_of_links, "link: a stanza larger than the whole window goes when nothing else is open") {
  options.window_bytes = 300;
  renew();
  auto cost = make_parcel(1).what.what->cost();
  REQUIRE(cost < 300);
  REQUIRE(2 * cost > 300);
  send(1);
  auto big = make_parcel(2);
  big.what.what = covey_tests::stanza("<message id='m2'><body>" + std::string(500, 'x') + "</body></message>", "a@b/c", "d@e");
  CHECK(a->send(std::move(big)) == base::room::ok);
  talk();
  CHECK(arrived() == "m1 ");
  b->handled(1, cost);
  talk();
  CHECK(arrived() == "m1 m2 ");
}

TEST_CASE_FIXTURE(pair_of_links, "link: a broken connection loses and doubles nothing, wherever it breaks") {
  for (int lost = 0; lost < 4; ++lost) { // which frame is the last that arrives
    CAPTURE(lost);
    renew();
    at_a = at_b = {};
    for (std::uint32_t n = 1; n <= 10; ++n)
      send(n);
    frame grant;
    b->fill(grant, false);
    REQUIRE(a->receive(grant, at_a) == link::verdict::fine);
    frame there, back, taken;
    a->fill(there, false);
    there = sent(there);
    if (lost > 0)
      REQUIRE(b->receive(there, at_b) == link::verdict::fine);
    if (lost > 1) {
      for (std::uint64_t n = 1; n <= 10; ++n)
        b->complete(n, ending::acknowledged);
      b->fill(back, false);
      if (lost > 2)
        REQUIRE(a->receive(back, at_a) == link::verdict::fine);
      a->fill(taken, false); // lost in any case
    }
    reconnect();
    talk();
    CHECK(at_b.arrived.size() == 10);
    if (lost > 1)
      CHECK(at_a.ended.size() == 10);
    CHECK(a->open_count() == (lost > 1 ? 0u : 10u));
    CHECK(b->unconfirmed_completions() == 0);
  }
}

TEST_CASE_FIXTURE(pair_of_links, "link: what is replayed is dropped, what cannot be is hostile") {
  send(1);
  send(2);
  frame grant;
  b->fill(grant, false);
  REQUIRE(a->receive(grant, at_a) == link::verdict::fine);
  frame f;
  a->fill(f, false);
  f = sent(f);
  auto copy = f;
  REQUIRE(b->receive(f, at_b) == link::verdict::fine);
  CHECK(b->receive(copy, at_b) == link::verdict::replayed);
  CHECK(at_b.arrived.size() == 2);
  b->complete(1, ending::stored);
  frame done;
  b->fill(done, false);
  auto done_again = sent(done);
  REQUIRE(a->receive(done, at_a) == link::verdict::fine);
  CHECK(a->receive(done_again, at_a) == link::verdict::replayed);
  CHECK(at_a.ended.size() == 1);

  struct bad { const char* what; void (*make)(frame&); };
  for (const auto& l : std::initializer_list<bad>{{"a gap", [](frame& g) { g.stanzas = stanzas{9, {make_parcel(9)}}; }},
                                                  {"taken what was not sent", [](frame& g) { g.taken = 50; }},
                                                  {"an outcome of what was not sent", [](frame& g) { g.completions = completions{2, {{50, ending::stored}}}; }},
                                                  {"outcomes with a gap", [](frame& g) { g.completions = completions{7, {{2, ending::stored}}}; }},
                                                  {"outcomes taken that were not sent", [](frame& g) { g.completions_taken = 50; }}}) {
    CAPTURE(l.what);
    frame g;
    l.make(g);
    link_news none;
    CHECK(a->receive(g, none) == link::verdict::hostile);
    CHECK(none.ended.empty());
    CHECK(none.arrived.empty());
  }
  options.window_stanzas = 1;
  renew();
  frame over;
  over.stanzas = stanzas{1, {make_parcel(1), make_parcel(2)}};
  CHECK(b->receive(over, at_b) == link::verdict::hostile); // more than it was granted
}

TEST_CASE_FIXTURE(pair_of_links, "link: at its end what is open goes back, in order; without a completion only what was not taken") {
  options.window_stanzas = 4;
  renew();
  send(1, true, 1);
  send(2, true, 1, false);
  send(3, true, 1);
  talk();
  send(4, true, 1, false); // written, and its ack lost
  frame f;
  a->fill(f, false);
  send(5, true, 1);
  send(6, true, 1, false);
  b->complete(1, ending::acknowledged);
  b->complete(3, ending::abandoned); // its receiver could not: it comes back at once
  frame back;
  b->fill(back, false);
  REQUIRE(a->receive(back, at_a) == link::verdict::fine);
  CHECK(returned() == "m3 ");
  a->close(at_a);
  CHECK(returned() == "m3 m4 m5 m6 ");
  CHECK(a->open_count() == 0);
}

TEST_CASE_FIXTURE(pair_of_links, "link: while the peer is suspected stanzas stay, bounded, and everything else goes") {
  options.queue = {4, 1u << 20, 6, 1u << 20};
  renew();
  talk(true);
  for (std::uint32_t n = 1; n <= 4; ++n)
    send(n);
  CHECK_FALSE(a->is_congested());
  CHECK(a->send(make_parcel(5)) == base::room::over); // clients that feed it should pause
  CHECK(a->is_congested());
  CHECK(a->send(make_parcel(6)) == base::room::over);
  auto refused = make_parcel(7);
  CHECK(a->send(std::move(refused)) == base::room::full);
  CHECK(id_of(refused) == "m7"); // as it was
  b->handled(5, 5);
  talk(true);
  CHECK(at_b.arrived.empty());
  talk(false);
  CHECK(arrived() == "m1 m2 m3 m4 m5 m6 ");
  CHECK(a->send(make_parcel(8)) == base::room::full); // open ones count until their outcome
  b->complete(1, ending::stored);
  talk();
  CHECK(a->send(make_parcel(8)) == base::room::over);
}

TEST_CASE_FIXTURE(pair_of_links, "link: what the other side cannot read ends, and what is behind it arrives") {
  talk(); // for credit
  for (std::uint32_t n = 1; n <= 3; ++n)
    send(n);
  frame there;
  a->fill(there, false);
  auto f = sent(there);
  f.stanzas->items[1].is_unreadable = true; // as the codec has it
  REQUIRE(b->receive(f, at_b) == link::verdict::fine);
  CHECK(arrived() == "m1 m3 ");
  CHECK(at_b.unreadable == 1);
  talk();
  REQUIRE(at_a.ended.size() == 1);
  CHECK(id_of(at_a.ended[0].what) == "m2");
  CHECK(at_a.ended[0].how == ending::unreadable);
}

TEST_CASE_FIXTURE(pair_of_links, "link: stanzas, bad outcomes and credit that is needed go soon; good outcomes and totals may wait; what fills a frame goes now") {
  using enum link::urgency;
  options.window_stanzas = 4'000;
  renew();
  CHECK(a->wants_to_say(false) == soon); // the first credit
  talk();
  CHECK(a->wants_to_say(false) == nothing);
  for (std::uint32_t n = 1; n <= 2 * limits::stanzas; ++n) {
    send(n);
    CHECK(a->wants_to_say(false) == (n < limits::stanzas ? soon : now));
  }
  CHECK(a->wants_to_say(true) == nothing); // the peer is suspected
  auto carry = [&](cluster::link& from, cluster::link& to, link_news& out) {
    frame f;
    from.fill(f, false);
    auto g = sent(f);
    REQUIRE(to.receive(g, out) == link::verdict::fine);
  };
  while (a->wants_to_say(false) != nothing) { // a frame's bytes are bounded, too
    carry(*a, *b, at_b);
    CHECK(b->wants_to_say(false) == (b->taken() < limits::stanzas ? may_wait_long : now)); // that so many were taken
  }
  CHECK(b->taken() == 2 * limits::stanzas);
  carry(*b, *a, at_a);
  CHECK(b->wants_to_say(false) == nothing);

  b->complete(1, ending::acknowledged);
  b->complete(2, ending::stored);
  CHECK(b->wants_to_say(false) == may_wait);
  for (auto bad : {ending::bounced, ending::refused, ending::abandoned}) {
    CAPTURE(static_cast<int>(bad));
    b->complete(3 + static_cast<std::uint64_t>(bad), bad);
    CHECK(b->wants_to_say(false) == soon);
    carry(*b, *a, at_a);
    CHECK(b->wants_to_say(false) == nothing);
  }
  CHECK(a->wants_to_say(false) == may_wait_long); // that they were heard
  for (std::uint64_t n = 10; n < 10 + 128; ++n) {
    CHECK(b->wants_to_say(false) == (n == 10 ? nothing : may_wait));
    b->complete(n, ending::acknowledged);
  }
  CHECK(b->wants_to_say(false) == now);
  carry(*b, *a, at_a);

  b->handled(1'000, 1);
  CHECK(b->wants_to_say(false) == may_wait_long);
  b->handled(1, 1);
  CHECK(b->wants_to_say(false) == soon);
  carry(*b, *a, at_a);
  b->handled(0, options.window_bytes / 4 + 1);
  CHECK(b->wants_to_say(false) == soon);
  reconnect();
  CHECK(b->wants_to_say(false) == now); // all is said anew, and that is much
}

TEST_CASE_FIXTURE(pair_of_links, "link: outcomes that come in any order come once, and leave nothing behind") {
  talk();
  for (std::uint32_t n = 1; n <= 300; ++n)
    send(n, true, n, n % 3 != 0); // of every third nobody waits for the outcome
  talk();
  for (std::uint64_t round = 0; round < 2; ++round)
    for (std::uint64_t n = 300; n >= 1; --n)
      b->complete(n * 11 % 301, ending::acknowledged);
  b->complete(301, ending::acknowledged);
  talk();
  CHECK(at_a.ended.size() == 200);
  CHECK(a->open_count() == 0);
  for (const auto& e : at_a.ended)
    CHECK(e.what.what.what->completion.session == 7);
  send(301);
  talk();
  b->complete(301, ending::acknowledged); // its number, now that it is there
  talk();
  CHECK(at_a.ended.size() == 201);
}

TEST_CASE_FIXTURE(pair_of_links, "link: it knows for whom something is under way, until its outcome is here") {
  send(1);
  auto to = make_parcel(1).receiver();
  REQUIRE(to);
  CHECK(a->has_for(*to));
  CHECK_FALSE(a->has_for(*jid("nobody@else")));
  talk();
  CHECK(a->has_for(*to));
  b->complete(1, ending::acknowledged);
  talk();
  CHECK_FALSE(a->has_for(*to));
}
