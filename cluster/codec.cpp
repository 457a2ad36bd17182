// Values to protobuf bytes and back (proto/cluster.proto).
#include "cluster/codec_stanzas.hpp"
#include "proto/cluster.pb.h"
#include <algorithm>
#include <google/protobuf/arena.h>

namespace cluster {

namespace pb = covey::cluster;
using codec::latest_clock;
using codec::refused;
using codec::require;
using codec::take_jid;

namespace {

/// One stanza may be as long as a client's; the frame then holds only that.
constexpr std::size_t largest_frame = 16u << 20;

/// Printable ASCII: it is shown to people and written into logs.
bool is_plain(const std::string& s) {
  return s.size() <= limits::name_bytes && std::all_of(s.begin(), s.end(), [](char c) { return c > ' ' && c < '\x7f'; });
}

/// It goes into XML as it is. Whoever's text is another one gets the condition alone.
bool is_error_text(const std::string& s) {
  return s.size() <= limits::error_text_bytes && std::all_of(s.begin(), s.end(), [](char c) { return c >= ' ' && c < '\x7f'; });
}

void put(pb::StanzaError& out, const xmpp::stanza_error& e) {
  out.set_condition(static_cast<std::uint32_t>(e.condition));
  out.set_type(static_cast<std::uint32_t>(e.type));
  if (is_error_text(e.text))
    out.set_text(e.text);
}

xmpp::error_ref take(const pb::StanzaError& in) {
  require(codec::is_error(in.condition(), in.type()) && is_error_text(in.text()));
  return std::make_shared<const xmpp::stanza_error>(static_cast<xmpp::stanza_errc>(in.condition()), static_cast<xmpp::error_type>(in.type()), in.text());
}

void put(pb::Member& out, const member& m) {
  out.set_node(m.node);
  out.set_life(m.life);
  out.set_name(m.name);
  out.set_address(m.address);
  out.set_reactors(m.reactors);
}

member take(const pb::Member& in) {
  require(in.node() != 0 && in.life() != 0);
  require(!in.name().empty() && is_plain(in.name()) && is_plain(in.address()));
  require(in.reactors() >= 1 && in.reactors() <= 256);
  return {in.node(), in.life(), in.name(), in.address(), static_cast<std::uint16_t>(in.reactors())};
}

void put(pb::Row& out, const row& r, bool is_removal = false) {
  out.set_name(std::string{r.name->full()});
  out.set_session(r.session);
  out.set_epoch(r.epoch);
  out.set_kind(static_cast<std::uint32_t>(r.kind));
  if (is_removal)
    return;
  out.set_clock(r.clock);
  out.set_ref(r.ref);
  out.set_reactor(r.reactor);
  out.set_priority(r.what.priority);
  out.set_flags(r.what.flags);
  out.set_capabilities_high(r.what.capabilities.a);
  out.set_capabilities_low(r.what.capabilities.b);
}

row take(const pb::Row& in) {
  require(in.kind() <= 1 && in.reactor() < 256 && in.priority() >= -128 && in.priority() <= 127 && in.flags() < 256);
  require(in.clock() < latest_clock);
  row r;
  r.name = take_jid(in.name());
  r.kind = static_cast<row_kind>(in.kind());
  require(r.kind == row_kind::session ? !r.name->is_bare() && !r.name->is_domain() && in.session() != 0 : in.session() == 0);
  r.session = in.session();
  r.clock = in.clock();
  r.ref = in.ref();
  r.reactor = static_cast<std::uint16_t>(in.reactor());
  r.epoch = in.epoch();
  r.what = {{in.capabilities_high(), in.capabilities_low()}, static_cast<std::int8_t>(in.priority()), static_cast<std::uint8_t>(in.flags())};
  return r;
}

void put(pb::Greeting& out, const greeting& g) {
  out.set_cluster(g.cluster);
  out.set_version(g.version);
  out.set_oldest_version(g.oldest_version);
  put(*out.mutable_self(), g.self);
  out.set_process(g.process);
  out.set_link(g.link);
  out.set_your_dead_life(g.your_dead_life);
  out.set_taken(g.taken);
  out.set_completions_taken(g.completions_taken);
  out.set_is_answer(g.is_answer);
  out.set_is_draining(g.is_draining);
  out.set_profile(g.profile);
  out.set_to(g.to);
  out.set_release(g.release);
}

greeting take(const pb::Greeting& in) {
  require(is_plain(in.cluster()) && is_plain(in.release()) && in.oldest_version() <= in.version());
  greeting g;
  g.cluster = in.cluster();
  g.version = in.version();
  g.oldest_version = in.oldest_version();
  g.self = take(in.self());
  g.process = in.process();
  g.link = in.link();
  g.your_dead_life = in.your_dead_life();
  g.taken = in.taken();
  g.completions_taken = in.completions_taken();
  g.is_answer = in.is_answer();
  g.is_draining = in.is_draining();
  g.profile = in.profile();
  g.to = in.to();
  g.release = in.release();
  return g;
}

changes take(const pb::Changes& in) {
  require(in.first() != 0 && in.items_size() > 0);
  require(static_cast<std::size_t>(in.items_size()) <= limits::changes, codec_errc::too_large);
  changes c{in.node(), in.life(), in.first(), {}};
  c.items.reserve(static_cast<std::size_t>(in.items_size()));
  for (const auto& i : in.items()) {
    require(i.what_case() != pb::Change::WHAT_NOT_SET);
    bool is_removal = i.what_case() == pb::Change::kRemoval;
    c.items.push_back({take(is_removal ? i.removal() : i.put()), is_removal});
  }
  return c;
}

frame take(const pb::Frame& in) {
  frame f;
  auto fits = [](auto size, std::size_t most) { require(static_cast<std::size_t>(size) <= most, codec_errc::too_large); };
  if (in.has_greeting())
    f.greeting = take(in.greeting());
  if (in.has_farewell()) {
    require(in.farewell().reason() <= static_cast<std::uint32_t>(refusal::malformed));
    f.farewell = farewell{static_cast<refusal>(in.farewell().reason()), in.farewell().dead_life(), in.farewell().node()};
  }
  if (in.has_heartbeat())
    f.heartbeat = heartbeat{in.heartbeat().is_draining()};
  fits(in.members_size(), limits::members);
  for (const auto& m : in.members())
    f.members.push_back(take(m));
  if (in.has_changes())
    f.changes = take(in.changes());
  if (in.has_sync_request()) {
    const auto& r = in.sync_request();
    require(r.digests_size() == 0 || r.digests_size() == static_cast<int>(limits::buckets));
    f.sync_request = sync_request{r.node(), r.life(), r.applied(), {r.digests().begin(), r.digests().end()}};
  }
  std::size_t rows = 0;
  for (const auto& p : in.sync_parts()) {
    require(p.bucket() < limits::buckets);
    fits(rows += static_cast<std::size_t>(p.rows_size()) + 1, limits::rows + limits::buckets);
    auto& part = f.sync_parts.emplace_back(sync_part{p.node(), p.life(), p.bucket(), p.is_last(), {}});
    part.rows.reserve(static_cast<std::size_t>(p.rows_size()));
    for (const auto& r : p.rows())
      part.rows.push_back(take(r));
  }
  if (in.has_sync_start()) {
    const auto& i = in.sync_start();
    require(i.buckets() <= limits::buckets);
    f.sync_start = sync_start{i.node(), i.life(), i.applied(), i.buckets(), i.needs_digests()};
  }
  if (in.has_digest())
    f.digest = digest{in.digest().applied(), in.digest().sum()};
  f.applied = in.applied();
  if (in.has_credit())
    f.credit = credit{in.credit().stanzas(), in.credit().bytes()};
  f.taken = in.taken();
  if (in.has_completions()) {
    require(in.completions().first() != 0 && in.completions().items_size() > 0);
    fits(in.completions().items_size(), limits::completions);
    f.completions = completions{in.completions().first(), {}};
    f.completions->items.reserve(static_cast<std::size_t>(in.completions().items_size()));
    for (const auto& c : in.completions().items()) {
      require(c.outcome() <= static_cast<std::uint32_t>(ending::unreadable) && c.stanza() != 0);
      f.completions->items.push_back({c.stanza(), static_cast<ending>(c.outcome()), c.has_why() ? take(c.why()) : nullptr});
    }
  }
  f.completions_taken = in.completions_taken();
  return f;
}

/// A frame's many small parts in one piece of memory, the first of it on the stack.
class arena {
public:
  pb::Frame& make() { return *google::protobuf::Arena::CreateMessage<pb::Frame>(&memory_); }

private:
  static google::protobuf::ArenaOptions options(char* at, std::size_t size) {
    google::protobuf::ArenaOptions o;
    o.initial_block = at;
    o.initial_block_size = size;
    return o;
  }
  alignas(8) char first_[4'096];
  google::protobuf::Arena memory_{options(first_, sizeof first_)};
};
} // namespace

std::string encode(const frame& f) {
  arena memory;
  auto& out = memory.make();
  if (f.greeting)
    put(*out.mutable_greeting(), *f.greeting);
  if (f.farewell) {
    out.mutable_farewell()->set_reason(static_cast<std::uint32_t>(f.farewell->reason));
    out.mutable_farewell()->set_dead_life(f.farewell->dead_life);
    out.mutable_farewell()->set_node(f.farewell->node);
  }
  if (f.heartbeat)
    out.mutable_heartbeat()->set_is_draining(f.heartbeat->is_draining);
  for (const auto& m : f.members)
    put(*out.add_members(), m);
  if (f.changes) {
    auto& c = *out.mutable_changes();
    c.set_node(f.changes->node);
    c.set_life(f.changes->life);
    c.set_first(f.changes->first);
    for (const auto& i : f.changes->items) {
      auto& item = *c.add_items();
      put(i.is_removal ? *item.mutable_removal() : *item.mutable_put(), i.what, i.is_removal);
    }
  }
  if (f.sync_request) {
    auto& r = *out.mutable_sync_request();
    r.set_node(f.sync_request->node);
    r.set_life(f.sync_request->life);
    r.set_applied(f.sync_request->applied);
    r.mutable_digests()->Add(f.sync_request->digests.begin(), f.sync_request->digests.end());
  }
  for (const auto& p : f.sync_parts) {
    auto& part = *out.add_sync_parts();
    part.set_node(p.node);
    part.set_life(p.life);
    part.set_bucket(p.bucket);
    part.set_is_last(p.is_last);
    for (const auto& r : p.rows)
      put(*part.add_rows(), r);
  }
  if (f.sync_start) {
    auto& s = *out.mutable_sync_start();
    s.set_node(f.sync_start->node);
    s.set_life(f.sync_start->life);
    s.set_applied(f.sync_start->applied);
    s.set_buckets(f.sync_start->buckets);
    s.set_needs_digests(f.sync_start->needs_digests);
  }
  if (f.digest) {
    out.mutable_digest()->set_applied(f.digest->applied);
    out.mutable_digest()->set_sum(f.digest->sum);
  }
  out.set_applied(f.applied);
  if (f.credit) {
    out.mutable_credit()->set_stanzas(f.credit->stanzas);
    out.mutable_credit()->set_bytes(f.credit->bytes);
  }
  out.set_taken(f.taken);
  if (f.completions) {
    out.mutable_completions()->set_first(f.completions->first);
    for (const auto& c : f.completions->items) {
      auto& item = *out.mutable_completions()->add_items();
      item.set_stanza(c.stanza);
      item.set_outcome(static_cast<std::uint32_t>(c.how));
      if (c.why)
        put(*item.mutable_why(), *c.why);
    }
  }
  out.set_completions_taken(f.completions_taken);
  auto bytes = out.SerializeAsString();
  if (f.stanzas)
    codec::append(bytes, *f.stanzas);
  return bytes;
}

base::result<frame, codec_errc> decode(std::string_view bytes) {
  if (bytes.size() > largest_frame)
    return base::fail(codec_errc::too_large);
  arena memory;
  auto& in = memory.make();
  try {
    codec::parts all;
    codec::split(bytes, all);
    if (!in.ParseFromArray(all.rest.data(), static_cast<int>(all.rest.size())))
      return base::fail(codec_errc::malformed);
    auto f = take(in);
    if (all.has_stanzas)
      f.stanzas = codec::take_stanzas(all.stanzas);
    return f;
  } catch (const refused& r) {
    return base::fail(codec_errc{r.why});
  }
}

std::string encode(const row& r) {
  pb::Row out;
  put(out, r);
  return out.SerializeAsString();
}

base::result<row, codec_errc> decode_row(std::string_view bytes) {
  pb::Row in;
  if (!in.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return base::fail(codec_errc::malformed);
  try {
    return take(in);
  } catch (const refused& r) {
    return base::fail(codec_errc{r.why});
  }
}

} // namespace cluster
