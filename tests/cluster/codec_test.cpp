// Frames to bytes and back; what is malformed or too much is refused, whatever it is.
#include "proto/cluster.pb.h"
#include "tests/cluster/made.hpp"

using namespace cluster;
using namespace cluster_tests;
namespace pb = covey::cluster;

namespace {
pb::Frame good() {
  pb::Frame f;
  auto& g = *f.mutable_greeting();
  g.set_cluster("c");
  g.set_version(1);
  g.set_oldest_version(1);
  auto fill = [](pb::Member& m) {
    m.set_node(7);
    m.set_life(1);
    m.set_name("n");
    m.set_address("a:1");
    m.set_reactors(2);
  };
  fill(*g.mutable_self());
  fill(*f.add_members());
  auto& c = *f.mutable_changes();
  c.set_first(1);
  auto& r = *c.add_items()->mutable_put();
  r.set_name("a@b/c");
  r.set_session(5);
  auto& s = *f.mutable_stanzas();
  s.set_first(1);
  auto& one = *s.add_items();
  one.set_xml("<message/>");
  one.set_to("a@b");
  f.mutable_completions()->set_first(1);
  f.mutable_completions()->add_items()->set_stanza(1);
  return f;
}
pb::Stanza& first(pb::Frame& f) { return *f.mutable_stanzas()->mutable_items(0); }
base::result<frame, codec_errc> parse(const pb::Frame& f) { return decode(f.SerializeAsString()); }
} // namespace

TEST_CASE("codec: a frame with everything in it comes back") {
  frame f;
  f.greeting = greeting{"covey", 3, 2, {1, 2, "n1", "h:1", 4}, 9, 8, 10, 7, 6, 5, 4, true, true, "1.2"};
  f.farewell = farewell{refusal::declared_dead, 3, 4};
  f.heartbeat = heartbeat{true};
  f.members = {{1, 2, "n", "a", 3}};
  auto row = session_row("a@b/c", 5, 6, 7);
  row.what = {{1, 2}, -3, 5};
  f.changes = changes{1, 2, 3, {{row, false}, {row, true}}};
  f.sync_request = sync_request{1, 2, 3, std::vector<std::uint64_t>(limits::buckets, 4)};
  f.sync_parts = {{1, 2, 3, true, {row}}};
  f.sync_start = sync_start{1, 2, 3, 4, true};
  f.digest = digest{1, 2};
  f.applied = 11;
  auto p = make_parcel(1);
  p.session = 12;
  p.kind = cluster::parcel_kind::outbound;
  p.what.is_again = p.what.is_copy = p.what.is_stored = true;
  p.what.delayed_us = -5;
  p.what.to = jid("x@y/z");
  p.what.what->stanza_id = {1, 2};
  p.what.what->stanza_id_by = jid("d@e");
  f.stanzas = stanzas{13, {p, make_parcel(2, false, 0, false)}};
  f.credit = credit{14, 15};
  f.taken = 16;
  auto error = [](std::string text) { return std::make_shared<const xmpp::stanza_error>(xmpp::stanza_errc::forbidden, xmpp::error_type::auth, std::move(text)); };
  f.completions = completions{17, {{18, ending::stored}, {20, ending::bounced, error("why")}, {21, ending::bounced, error("w\xc3\xa4rum")}}};
  f.completions_taken = 19;
  auto g = sent(f);
  CHECK(encode(g) == encode(f)); // every field, since a field that is lost is missing from the second bytes
  CHECK(g.greeting->self == f.greeting->self);
  CHECK(g.greeting->link == 7);
  CHECK(g.greeting->release == "1.2");
  CHECK(g.changes->items[0].what.what == row.what);
  CHECK(g.changes->items[1].is_removal);
  CHECK(g.stanzas->items[0].what.what->bytes() == p.what.what->bytes());
  CHECK(g.stanzas->items[0].what.to->full() == "x@y/z");
  CHECK(g.stanzas->items[0].what.is_again);
  CHECK_FALSE(g.stanzas->items[0].what.is_managed);
  CHECK(g.stanzas->items[0].has_completion);
  CHECK_FALSE(g.stanzas->items[0].what.what->completion); // the sender's own number stays at home
  CHECK_FALSE(g.stanzas->items[1].needs_credit);
  CHECK(*g.completions->items[1].why == *error("why"));
  CHECK(*g.completions->items[2].why == *error("")); // the rest matters more
  CHECK(sent(frame{}).is_empty());
  auto back = decode_row(encode(row));
  REQUIRE(back.has_value());
  CHECK(back->epoch == 7);
}

TEST_CASE("codec: a receiver that the XML names and an id of its account are not written again") {
  auto size_of = [](std::string_view xml, std::string_view to, std::string_view by) {
    CAPTURE(xml);
    auto p = make_parcel(1);
    p.what.what = covey_tests::stanza(std::string{xml}, "a@b/c", std::string{to});
    p.what.what->stanza_id = {1, 2};
    p.what.what->stanza_id_by = jid(by);
    frame f;
    f.stanzas = stanzas{1, {p}};
    auto got = sent(f);
    REQUIRE_FALSE(got.stanzas->items[0].is_unreadable);
    const auto& s = *got.stanzas->items[0].what.what;
    CHECK(s.to->full() == to);
    CHECK(s.stanza_id_by->full() == by);
    CHECK(s.from->full() == "a@b/c");
    return encode(f).size();
  };
  auto both = size_of("<message to='some@where/r'/>", "some@where/r", "some@where");
  CHECK(size_of("<message to='some@where/s'/>", "some@where/r", "some@where") == both + 14);
  CHECK(size_of("<message to='some@where/r'/>", "some@where/r", "some@wherf") == both + 12);
  CHECK(size_of("<message to='some@where/r&amp;'/>", "some@where/r&", "some@where") == both + 5 + 15); // not as it is read
  (void)size_of("<message to='some@where/r&amp;'/>", "some@where/r&amp;", "some@where");
}

TEST_CASE("codec: what accounts and sessions say to each other comes back") {
  using c = control;
  parcel bare, full;
  bare.kind = full.kind = parcel_kind::control;
  bare.session = full.session = 7;
  bare.needs_credit = false;
  bare.said = std::make_shared<const c>(c{.what = c::kind::detach});
  bare.what.to = jid("a@b");
  full.said = std::make_shared<const c>(c{.what = c::kind::adopt, .full = jid("a@b/c"), .clock = 1, .flags = c::is_back | c::is_introduced, .priority = -2, .code = 3, .type = 4,
                                          .text = "five", .jids = {jid("x@y"), jid("z@y/q")}, .ids = {{6, 7}, {8, 9}}});
  full.what.what = covey_tests::stanza("<presence/>", "a@b/c", "a@b");
  full.what.hops = 3;
  frame f;
  f.stanzas = stanzas{1, {bare, full}};
  auto g = sent(f);
  CHECK(encode(g) == encode(f));
  CHECK_FALSE(g.stanzas->items[0].what.what);
  CHECK(g.stanzas->items[0].said->what == c::kind::detach);
  CHECK(g.stanzas->items[1].said->ids == full.said->ids);
  CHECK(g.stanzas->items[1].said->jids[1]->full() == "z@y/q");
  CHECK(g.stanzas->items[1].what.hops == 3);
}

TEST_CASE("codec: each kind of control is for one of account, session and node, and there is none above the last") {
  using c = control;
  auto is = [](c::kind k, bool for_account, bool for_session) {
    control one{.what = k};
    return one.is_for_account() == for_account && one.is_for_session() == for_session;
  };
  for (auto k : {c::kind::attach, c::kind::settled, c::kind::arrived, c::kind::remove})
    CHECK(is(k, true, false));
  for (auto k : {c::kind::accepted, c::kind::elsewhere, c::kind::take_over, c::kind::recent, c::kind::adopted})
    CHECK(is(k, false, true));
  for (auto k : {c::kind::changed, c::kind::broadcast, c::kind::removed})
    CHECK(is(k, false, false));
  for (auto k : {c::last, static_cast<c::kind>(static_cast<unsigned>(c::last) + 1)}) {
    parcel p;
    p.kind = parcel_kind::control;
    p.said = std::make_shared<const c>(c{.what = k});
    frame f;
    f.stanzas = stanzas{1, {p}};
    CHECK(sent(f).stanzas->items[0].is_unreadable == (k != c::last));
  }
}

TEST_CASE("codec: stanzas are what protobuf reads and writes") {
  auto p = make_parcel(1);
  p.session = 12;
  p.kind = cluster::parcel_kind::outbound;
  p.what.is_again = true;
  p.what.shared = new xmpp::delivery_share;
  p.what.hops = 2;
  p.what.delayed_us = -5;
  p.what.to = jid("x@y/a&b");
  p.what.what->stanza_id = {1, 2};
  p.what.what->stanza_id_by = jid("f@e");
  parcel said;
  said.kind = parcel_kind::control;
  said.said = std::make_shared<const control>(control{.what = control::kind::adopt, .full = jid("a@b/c")});
  said.what.to = jid("a@b");
  frame f;
  f.taken = 9;
  f.stanzas = stanzas{300, {p, said, make_parcel(2)}};
  f.completions_taken = 10;
  auto bytes = encode(f);
  pb::Frame in;
  REQUIRE(in.ParseFromString(bytes));
  CHECK(in.taken() == 9);
  CHECK(in.completions_taken() == 10);
  CHECK(in.stanzas().first() == 300);
  REQUIRE(in.stanzas().items_size() == 3);
  const auto& one = in.stanzas().items(0);
  CHECK(one.xml() == p.what.what->bytes());
  CHECK(one.from() == p.what.what->from->full());
  CHECK(one.to() == p.what.what->to->full());
  CHECK(one.receiver() == "x@y/a&b");
  CHECK(one.session() == 12);
  CHECK(one.kind() == 2);
  CHECK(one.hops() == 2);
  CHECK(one.id_high() == 1);
  CHECK(one.id_low() == 2);
  CHECK(one.id_by() == "f@e");
  CHECK(one.delayed_us() == -5);
  CHECK(in.stanzas().items(1).control().full() == "a@b/c");
  auto by_protobuf = in.SerializeAsString();
  auto back = decode(by_protobuf);
  REQUIRE(back);
  REQUIRE(back->stanzas->items[0].what.shared);
  CHECK(back->stanzas->items[0].what.shared->is_elsewhere);
  CHECK_FALSE(back->stanzas->items[2].what.shared);
  CHECK(encode(*back) == bytes); // each field of the stanzas, in whatever order frame and stanza have them
}

TEST_CASE("codec: fields of a newer version are passed over, a cut is refused wherever it is") {
  auto f = good();
  auto add = [](auto& m) { // all kinds of field
    auto& more = *m.GetReflection()->MutableUnknownFields(&m);
    more.AddVarint(90, 1);
    more.AddFixed64(91, 2);
    more.AddFixed32(92, 3);
    more.AddLengthDelimited(93, "four");
  };
  add(f);
  add(*f.mutable_stanzas());
  add(*f.mutable_stanzas()->mutable_items(0));
  auto bytes = f.SerializeAsString();
  auto got = decode(bytes);
  REQUIRE(got);
  CHECK(got->stanzas->items.size() == 1);
  CHECK_FALSE(got->stanzas->items[0].is_unreadable);
  pb::Frame only;
  *only.mutable_stanzas() = f.stanzas();
  bytes = only.SerializeAsString();
  for (std::size_t n = 1; n < bytes.size(); ++n)
    CHECK_MESSAGE(!decode(bytes.substr(0, n)), n);
  CHECK_FALSE(decode(bytes + bytes)); // two lists of stanzas
}

namespace {
std::uint32_t number_of(control::kind k) { return static_cast<std::uint32_t>(k); }
struct spoilt { const char* what; void (*spoil)(pb::Frame&); };
pb::Row& put(pb::Frame& f) { return *f.mutable_changes()->mutable_items(0)->mutable_put(); }
pb::Control& say(pb::Frame& f) {
  auto& s = *f.mutable_stanzas()->mutable_items(0);
  s.set_kind(5);
  if (!s.has_control())
    s.mutable_control()->set_what(1);
  return *s.mutable_control();
}
} // namespace

TEST_CASE("codec: one wrong value spoils the frame") {
  REQUIRE(parse(good()).has_value());
  for (const auto& b : std::initializer_list<spoilt>{
           {"a session without a resource", [](pb::Frame& f) { put(f).set_name("a@b"); }},
           {"a session of a domain", [](pb::Frame& f) { put(f).set_name("b/c"); }},
           {"a name that is not prepared", [](pb::Frame& f) { put(f).set_name("A@b/c"); }},
           {"a name that is none", [](pb::Frame& f) { put(f).set_name("@/"); }},
           {"an empty name", [](pb::Frame& f) { put(f).set_name(""); }},
           {"a session without a number", [](pb::Frame& f) { put(f).set_session(0); }},
           {"a route with one", [](pb::Frame& f) { put(f).set_kind(1); }},
           {"no such kind", [](pb::Frame& f) { put(f).set_kind(2); }},
           {"a priority of 200", [](pb::Frame& f) { put(f).set_priority(200); }},
           {"a reactor of 256", [](pb::Frame& f) { put(f).set_reactor(256); }},
           {"a clock that leaves no room", [](pb::Frame& f) { put(f).set_clock(~0ull); }},
           {"changes from 0", [](pb::Frame& f) { f.mutable_changes()->set_first(0); }},
           {"no changes", [](pb::Frame& f) { f.mutable_changes()->clear_items(); }},
           {"a change of nothing", [](pb::Frame& f) { f.mutable_changes()->add_items(); }},
           {"a node 0", [](pb::Frame& f) { f.mutable_members(0)->set_node(0); }},
           {"a life 0", [](pb::Frame& f) { f.mutable_greeting()->mutable_self()->set_life(0); }},
           {"a node without a name", [](pb::Frame& f) { f.mutable_members(0)->set_name(""); }},
           {"a long name", [](pb::Frame& f) { f.mutable_members(0)->set_name(std::string(256, 'n')); }},
           {"a name that would spoil a log", [](pb::Frame& f) { f.mutable_members(0)->set_name("a\nb"); }},
           {"a cluster's too", [](pb::Frame& f) { f.mutable_greeting()->set_cluster("\xff"); }},
           {"a release that would spoil a log", [](pb::Frame& f) { f.mutable_greeting()->set_release("1\n"); }},
           {"no reactors", [](pb::Frame& f) { f.mutable_members(0)->set_reactors(0); }},
           {"versions the wrong way round", [](pb::Frame& f) { f.mutable_greeting()->set_oldest_version(2); }},
           {"no such farewell", [](pb::Frame& f) { f.mutable_farewell()->set_reason(99); }},
           {"three digests", [](pb::Frame& f) { f.mutable_sync_request()->mutable_digests()->Resize(3, 1); }},
           {"a bucket that there is not", [](pb::Frame& f) { f.add_sync_parts()->set_bucket(1'024); }},
           {"too many buckets to come", [](pb::Frame& f) { f.mutable_sync_start()->set_buckets(1'025); }},
           {"stanzas from 0", [](pb::Frame& f) { f.mutable_stanzas()->set_first(0); }},
           {"no such outcome", [](pb::Frame& f) { f.mutable_completions()->mutable_items(0)->set_outcome(6); }},
           {"no such error", [](pb::Frame& f) { f.mutable_completions()->mutable_items(0)->mutable_why()->set_condition(22); }},
           {"no such type of an error", [](pb::Frame& f) { f.mutable_completions()->mutable_items(0)->mutable_why()->set_type(5); }},
           {"an error whose text is none", [](pb::Frame& f) { f.mutable_completions()->mutable_items(0)->mutable_why()->set_text("<\n"); }},
           {"an error with a long text", [](pb::Frame& f) { f.mutable_completions()->mutable_items(0)->mutable_why()->set_text(std::string(256, 'x')); }},
           {"an outcome of stanza 0", [](pb::Frame& f) { f.mutable_completions()->mutable_items(0)->set_stanza(0); }}}) {
    CAPTURE(b.what);
    auto f = good();
    b.spoil(f);
    auto r = parse(f);
    REQUIRE_FALSE(r.has_value());
    CHECK(r.error() == codec_errc::malformed);
  }
}

TEST_CASE("codec: a parcel that is not what it should be leaves the others of its frame alone") {
  for (const auto& b : std::initializer_list<spoilt>{
           {"XML that is none", [](pb::Frame& f) { f.mutable_stanzas()->mutable_items(0)->set_xml("<message>"); }},
           {"two elements", [](pb::Frame& f) { f.mutable_stanzas()->mutable_items(0)->set_xml("<message/><message/>"); }},
           {"no stanza", [](pb::Frame& f) { f.mutable_stanzas()->mutable_items(0)->set_xml("<a/>"); }},
           {"a stanza for nobody", [](pb::Frame& f) { f.mutable_stanzas()->mutable_items(0)->clear_to(); }},
           {"a sender that is no JID", [](pb::Frame& f) { f.mutable_stanzas()->mutable_items(0)->set_from("@"); }},
           {"no such flag", [](pb::Frame& f) { f.mutable_stanzas()->mutable_items(0)->set_flags(512); }},
           {"a receiver that the XML does not name", [](pb::Frame& f) { first(f).clear_to(), first(f).set_flags(128); }},
           {"a receiver here and in the XML", [](pb::Frame& f) { first(f).set_flags(128); }},
           {"an id by nobody's account", [](pb::Frame& f) { first(f).clear_to(), first(f).set_receiver("a@b"), first(f).set_flags(256); }},
           {"an id by two", [](pb::Frame& f) { first(f).set_id_by("a@b"), first(f).set_flags(256); }},
           {"no such kind of parcel", [](pb::Frame& f) { f.mutable_stanzas()->mutable_items(0)->set_kind(6); }},
           {"a control that says nothing", [](pb::Frame& f) { f.mutable_stanzas()->mutable_items(0)->set_kind(5); }},
           {"a stanza that says something", [](pb::Frame& f) { f.mutable_stanzas()->mutable_items(0)->mutable_control(); }},
           {"no such control", [](pb::Frame& f) { say(f).set_what(99); }},
           {"an attach of nobody", [](pb::Frame& f) { say(f).set_what(number_of(control::kind::attach)); }},
           {"a refusal that there is not", [](pb::Frame& f) { say(f).set_what(number_of(control::kind::refused)), say(f).set_code(99); }},
           {"a stream error that there is not", [](pb::Frame& f) { say(f).set_what(number_of(control::kind::close)), say(f).set_code(99); }},
           {"half an id", [](pb::Frame& f) { say(f).add_ids(1); }}}) {
    CAPTURE(b.what);
    auto f = good();
    b.spoil(f);
    *f.mutable_stanzas()->add_items() = good().stanzas().items(0);
    auto r = parse(f);
    REQUIRE(r.has_value());
    CHECK(r->stanzas->items[0].is_unreadable);
    CHECK(r->stanzas->items[0].has_completion == ((f.stanzas().items(0).flags() & 4) != 0));
    CHECK_FALSE(r->stanzas->items[1].is_unreadable);
  }
}

TEST_CASE("codec: a message of which forged ids are to go has none of its own") {
  auto f = good();
  f.mutable_stanzas()->mutable_items(0)->set_id_high(0);
  f.mutable_stanzas()->mutable_items(0)->set_id_low(0);
  f.mutable_stanzas()->mutable_items(0)->set_id_by("d@e");
  auto r = parse(f);
  REQUIRE(r.has_value());
  CHECK_FALSE(r->stanzas->items[0].is_unreadable);
}

TEST_CASE("codec: more than a frame may hold is refused") {
  auto too_large = [](const pb::Frame& f) { return parse(f).error() == codec_errc::too_large; };
  auto f = good();
  while (f.stanzas().items_size() <= static_cast<int>(limits::stanzas))
    *f.mutable_stanzas()->add_items() = f.stanzas().items(0);
  CHECK(too_large(f));
  f = good();
  while (f.changes().items_size() <= static_cast<int>(limits::changes))
    *f.mutable_changes()->add_items() = f.changes().items(0);
  CHECK(too_large(f));
  f = good();
  while (f.members_size() <= static_cast<int>(limits::members))
    *f.add_members() = f.members(0);
  CHECK(too_large(f));
  f = good();
  while (f.completions().items_size() <= static_cast<int>(limits::completions))
    *f.mutable_completions()->add_items() = f.completions().items(0);
  CHECK(too_large(f));
  f = good();
  auto& part = *f.add_sync_parts();
  while (part.rows_size() <= static_cast<int>(limits::rows + limits::buckets))
    *part.add_rows() = f.changes().items(0).put();
  CHECK(too_large(f));
  CHECK(decode(std::string((16u << 20) + 1, 'x')).error() == codec_errc::too_large);
}

TEST_CASE("codec: any bytes are answered") {
  base::seeded_random luck{5};
  auto bytes = good().SerializeAsString();
  std::size_t refused = 0;
  for (int n = 0; n < 20'000; ++n) {
    auto b = bytes;
    for (auto flips = luck.number() % 4 + 1; flips > 0; --flips)
      b[luck.number() % b.size()] = static_cast<char>(luck.number());
    if (luck.number() % 4 == 0)
      b.resize(luck.number() % b.size());
    refused += !decode(b).has_value();
  }
  CHECK(refused > 2'000); // and nothing was thrown, read or written out of place
}
