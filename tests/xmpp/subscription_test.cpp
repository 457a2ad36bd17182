// The tables of RFC 6121 appendix A, row by row, and what sections 2 and 3 say beside them.
#include "xmpp/im/subscription.hpp"
#include <doctest/doctest.h>
#include <ostream>

using namespace xmpp::im;
using xmpp::stanza_type;

namespace {

// The nine states in the order of appendix A.1.
constexpr subscription_state none{}, none_out{false, false, true}, none_in{false, false, false, true},
  none_out_in{false, false, true, true}, to{true}, to_in{true, false, false, true}, from{false, true},
  from_out{false, true, true}, both{true, true};
/// The same with pre-approval.
constexpr subscription_state approved(subscription_state s) {
  s.approved = true;
  return s;
}
constexpr subscription_state all_states[] = {none, none_out, none_in, none_out_in, to, to_in, from, from_out, both};

struct row {
  subscription_state state;
  bool passes; // routed, or delivered
  subscription_state next;
};
struct table {
  stanza_type type;
  row rows[9];
};

const table outbound_tables[] = {
  // A.2.1
  {stanza_type::subscribe,
   {{none, true, none_out}, {none_out, true, none_out}, {none_in, true, none_out_in}, {none_out_in, true, none_out_in},
    {to, true, to}, {to_in, true, to_in}, {from, true, from_out}, {from_out, true, from_out}, {both, true, both}}},
  // A.2.2
  {stanza_type::unsubscribe,
   {{none, true, none}, {none_out, true, none}, {none_in, true, none_in}, {none_out_in, true, none_in},
    {to, true, none}, {to_in, true, none_in}, {from, true, from}, {from_out, true, from}, {both, true, from}}},
  // A.2.3, and section 3.4.2 where nobody has asked
  {stanza_type::subscribed,
   {{none, false, approved(none)}, {none_out, false, approved(none_out)}, {none_in, true, from}, {none_out_in, true, from_out},
    {to, false, approved(to)}, {to_in, true, both}, {from, false, from}, {from_out, false, from_out}, {both, false, both}}},
  // A.2.4
  {stanza_type::unsubscribed,
   {{none, false, none}, {none_out, false, none_out}, {none_in, true, none}, {none_out_in, true, none_out},
    {to, false, to}, {to_in, true, to}, {from, true, none}, {from_out, true, none_out}, {both, true, to}}},
};

const table inbound_tables[] = {
  // A.3.1
  {stanza_type::subscribe,
   {{none, true, none_in}, {none_out, true, none_out_in}, {none_in, false, none_in}, {none_out_in, false, none_out_in},
    {to, true, to_in}, {to_in, false, to_in}, {from, false, from}, {from_out, false, from_out}, {both, false, both}}},
  // A.3.2
  {stanza_type::unsubscribe,
   {{none, false, none}, {none_out, false, none_out}, {none_in, true, none}, {none_out_in, true, none_out},
    {to, false, to}, {to_in, true, to}, {from, true, none}, {from_out, true, none_out}, {both, true, to}}},
  // A.3.3
  {stanza_type::subscribed,
   {{none, false, none}, {none_out, true, to}, {none_in, false, none_in}, {none_out_in, true, to_in},
    {to, false, to}, {to_in, false, to_in}, {from, false, from}, {from_out, true, both}, {both, false, both}}},
  // A.3.4
  {stanza_type::unsubscribed,
   {{none, false, none}, {none_out, true, none}, {none_in, false, none_in}, {none_out_in, true, none_in},
    {to, true, none}, {to_in, true, none_in}, {from, false, from}, {from_out, true, from}, {both, true, from}}},
};

} // namespace

TEST_CASE("subscriptions: outbound tables") {
  for (auto& t : outbound_tables)
    for (auto& r : t.rows) {
      CAPTURE(static_cast<int>(t.type));
      CAPTURE(r.state.bits());
      auto d = outbound(r.state, t.type);
      CHECK(d.route == r.passes);
      CHECK(d.next == r.next);
      CHECK(d.push == looks_different(r.state, r.next));
    }
}

TEST_CASE("subscriptions: inbound tables") {
  for (auto& t : inbound_tables)
    for (auto& r : t.rows) {
      CAPTURE(static_cast<int>(t.type));
      CAPTURE(r.state.bits());
      auto d = inbound(r.state, t.type);
      CHECK(d.deliver == r.passes);
      CHECK(d.next == r.next);
      CHECK(d.push == looks_different(r.state, r.next));
    }
}

TEST_CASE("subscriptions: who was let in before is answered, nobody else") {
  for (auto& s : all_states)
    for (auto t : {stanza_type::subscribe, stanza_type::subscribed, stanza_type::unsubscribe, stanza_type::unsubscribed}) {
      auto d = inbound(s, t);
      if (t == stanza_type::subscribe && s.from)
        CHECK(d.reply == stanza_type::subscribed);
      else
        CHECK_FALSE(d.reply.has_value());
    }
}

TEST_CASE("subscriptions: presence follows what the contact may see") {
  for (auto& s : all_states) {
    CHECK(outbound(s, stanza_type::subscribed).presence == (s.pending_in ? presence_due::current : presence_due::none));
    CHECK(outbound(s, stanza_type::unsubscribed).presence == (s.from ? presence_due::unavailable : presence_due::none));
    CHECK(inbound(s, stanza_type::unsubscribe).presence == (s.from ? presence_due::unavailable : presence_due::none));
    CHECK(outbound(s, stanza_type::subscribe).presence == presence_due::none);
    CHECK(outbound(s, stanza_type::unsubscribe).presence == presence_due::none);
    CHECK(inbound(s, stanza_type::subscribed).presence == presence_due::none);
    CHECK(inbound(s, stanza_type::unsubscribed).presence == presence_due::none);
  }
}

TEST_CASE("subscriptions: every step is idempotent and stays within the nine states") {
  for (auto& s : all_states)
    for (auto t : {stanza_type::subscribe, stanza_type::subscribed, stanza_type::unsubscribe, stanza_type::unsubscribed}) {
      auto out = outbound(s, t);
      CHECK(out.next.is_valid());
      CHECK(outbound(out.next, t).next == out.next);
      CHECK_FALSE(outbound(out.next, t).push);
      auto in = inbound(s, t);
      CHECK(in.next.is_valid());
      CHECK(inbound(in.next, t).next == in.next);
      CHECK_FALSE(inbound(in.next, t).push);
    }
}

TEST_CASE("subscriptions: pre-approval (section 3.4)") {
  for (auto& s : {none, none_out, to}) {
    auto yes = outbound(s, stanza_type::subscribed);
    CHECK(yes.push);
    CHECK_FALSE(yes.route);
    CHECK(yes.presence == presence_due::none);
    auto asked = inbound(yes.next, stanza_type::subscribe); // answered, nobody is asked again
    CHECK(asked.reply == stanza_type::subscribed);
    CHECK_FALSE(asked.deliver);
    CHECK(asked.push);
    CHECK(asked.presence == presence_due::current);
    CHECK(asked.next.from);
    CHECK_FALSE(asked.next.approved);
    CHECK(asked.next.to == s.to);
    auto no = outbound(yes.next, stanza_type::unsubscribed); // taken back in silence
    CHECK_FALSE(no.route);
    CHECK(no.push);
    CHECK(no.next == s);
    for (auto t : {stanza_type::subscribed, stanza_type::unsubscribe, stanza_type::unsubscribed})
      CHECK(inbound(yes.next, t).next.approved);
    for (auto t : {stanza_type::subscribe, stanza_type::unsubscribe})
      CHECK(outbound(yes.next, t).next.approved);
    CHECK_FALSE(on_removal(yes.next).next.approved);
  }
  for (auto& s : all_states)
    CHECK(outbound(s, stanza_type::subscribed).next.approved == !(s.from || s.pending_in));
}

TEST_CASE("subscriptions: two rosters that talk end where both sides agree") {
  subscription_state alice, bob; // each other's entry
  auto says = [](subscription_state& a, subscription_state& b, stanza_type t) {
    auto out = outbound(a, t);
    a = out.next;
    if (out.route)
      b = inbound(b, t).next;
  };
  says(alice, bob, stanza_type::subscribe);
  says(bob, alice, stanza_type::subscribed);
  CHECK(name_of(alice) == "to");
  CHECK(name_of(bob) == "from");
  says(bob, alice, stanza_type::subscribe);
  says(alice, bob, stanza_type::subscribed);
  CHECK(alice == both);
  CHECK(bob == both);
  says(alice, bob, stanza_type::unsubscribe);
  CHECK(name_of(alice) == "from");
  CHECK(name_of(bob) == "to");
  says(alice, bob, stanza_type::unsubscribed);
  CHECK(alice == none);
  CHECK(bob == none);
}

TEST_CASE("subscriptions: removal ends what there is (section 2.5.2)") {
  for (auto& s : all_states) {
    auto d = on_removal(s);
    CHECK(d.unsubscribe == (s.to || s.pending_out));
    CHECK(d.unsubscribed == s.from);
    CHECK(d.presence == (s.from ? presence_due::unavailable : presence_due::none));
    CHECK(d.next == (s.pending_in ? none_in : none));
  }
}

TEST_CASE("subscriptions: bits are a row's form, and only valid ones come back") {
  int valid = 0;
  for (std::uint32_t b = 0; b < 64; ++b)
    if (auto s = subscription_state::from_bits(b)) {
      ++valid;
      CHECK(s->bits() == b);
    }
  CHECK(valid == 18); // nine states, with and without pre-approval
  CHECK_FALSE(subscription_state::from_bits(5)); // to and pending out
  CHECK_FALSE(subscription_state::from_bits(256));
}
