// Stanzas to protobuf bytes and back, field by field.
#include "cluster/codec_stanzas.hpp"
#include "proto/cluster.pb.h"
#include "xmpp/errors.hpp"
#include <algorithm>
#include <boost/endian/conversion.hpp>
#include <cstring>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>
#include <stdexcept>

namespace cluster::codec {

namespace pb = covey::cluster;
using google::protobuf::io::CodedOutputStream;
using google::protobuf::internal::WireFormatLite;

namespace {
enum parcel_flag : std::uint32_t {
  shared = 1, reply = 2, completed = 4, copy = 8, managed = 16, stored = 32, again = 64,
  to_as_in_xml = 128, // `to` is what the start tag says, byte for byte, and left out
  id_by_to = 256,     // the account of `to` gave the stanza-id: id_by is left out
  every_flag = 511
};

void put(pb::Control& out, const control& c) {
  out.set_what(static_cast<std::uint32_t>(c.what));
  if (c.full)
    out.set_full(std::string{c.full->full()});
  out.set_clock(c.clock);
  out.set_flags(c.flags);
  out.set_priority(c.priority);
  out.set_code(c.code);
  out.set_type(c.type);
  out.set_text(c.text);
  for (const auto& j : c.jids)
    out.add_jids(std::string{j->full()});
  for (const auto& id : c.ids) {
    out.add_ids(id.a);
    out.add_ids(id.b);
  }
}

std::shared_ptr<const control> take(const pb::Control& in) {
  require(in.what() <= static_cast<std::uint32_t>(control::last) && in.flags() < 256 && in.code() < 256 && in.type() < 256);
  require(in.priority() >= -128 && in.priority() <= 127 && in.clock() < latest_clock && in.text().size() <= 4'096);
  require(in.ids_size() % 2 == 0);
  require(in.jids_size() <= 100'000 && in.ids_size() <= 200'000, codec_errc::too_large);
  control c;
  c.what = static_cast<control::kind>(in.what());
  require(c.what != control::kind::refused || is_error(in.code(), in.type()));
  require(c.what != control::kind::close || in.code() <= static_cast<std::uint32_t>(xmpp::stream_errc::unsupported_version));
  bool needs_name = c.what == control::kind::attach || c.what == control::kind::accepted || c.what == control::kind::adopt;
  require(!needs_name || !in.full().empty());
  if (!in.full().empty())
    c.full = take_jid(in.full());
  c.clock = in.clock();
  c.flags = static_cast<std::uint8_t>(in.flags());
  c.priority = static_cast<std::int8_t>(in.priority());
  c.code = static_cast<std::uint8_t>(in.code());
  c.type = static_cast<std::uint8_t>(in.type());
  c.text = in.text();
  for (const auto& j : in.jids())
    c.jids.push_back(take_jid(j));
  for (int i = 0; i < in.ids_size(); i += 2)
    c.ids.push_back({in.ids(i), in.ids(i + 1)});
  return std::make_shared<const control>(std::move(c));
}

// --- writing: what is the default is left out (proto3)

using size = std::size_t;

std::uint8_t* write_tag(std::uint8_t* o, int field, WireFormatLite::WireType type) {
  return CodedOutputStream::WriteTagToArray(WireFormatLite::MakeTag(field, type), o);
}
size bytes_size(std::string_view s) { return s.empty() ? 0 : 1 + CodedOutputStream::VarintSize32(static_cast<std::uint32_t>(s.size())) + s.size(); }
std::uint8_t* write_bytes(std::uint8_t* o, int field, std::string_view s) {
  if (s.empty())
    return o;
  o = write_tag(o, field, WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
  o = CodedOutputStream::WriteVarint32ToArray(static_cast<std::uint32_t>(s.size()), o);
  return CodedOutputStream::WriteRawToArray(s.data(), static_cast<int>(s.size()), o);
}
size fixed_size(std::uint64_t v) { return v ? 9 : 0; }
std::uint8_t* write_fixed(std::uint8_t* o, int field, std::uint64_t v) {
  if (!v)
    return o;
  o = write_tag(o, field, WireFormatLite::WIRETYPE_FIXED64);
  return CodedOutputStream::WriteLittleEndian64ToArray(v, o);
}
size number_size(std::uint32_t v) { return v ? 1 + CodedOutputStream::VarintSize32(v) : 0; }
std::uint8_t* write_number(std::uint8_t* o, int field, std::uint32_t v) {
  if (!v)
    return o;
  o = write_tag(o, field, WireFormatLite::WIRETYPE_VARINT);
  return CodedOutputStream::WriteVarint32ToArray(v, o);
}

/// One Stanza as it is written, and as it was read: views of somebody else's bytes.
struct fields {
  std::string_view xml, from, to, receiver, id_by, control;
  std::uint64_t session = 0, id_high = 0, id_low = 0;
  std::int64_t delayed_us = 0;
  std::uint32_t flags = 0, kind = 0, hops = 0;
  bool has_control = false;

  [[nodiscard]] size encoded_size() const {
    return bytes_size(xml) + bytes_size(from) + bytes_size(to) + bytes_size(receiver) + fixed_size(session) + number_size(flags) + fixed_size(id_high)
           + fixed_size(id_low) + bytes_size(id_by) + fixed_size(static_cast<std::uint64_t>(delayed_us)) + number_size(kind)
           + (has_control ? 1 + CodedOutputStream::VarintSize32(static_cast<std::uint32_t>(control.size())) + control.size() : 0) + number_size(hops);
  }
  std::uint8_t* write(std::uint8_t* o) const {
    using s = pb::Stanza;
    o = write_bytes(o, s::kXmlFieldNumber, xml);
    o = write_bytes(o, s::kFromFieldNumber, from);
    o = write_bytes(o, s::kToFieldNumber, to);
    o = write_bytes(o, s::kReceiverFieldNumber, receiver);
    o = write_fixed(o, s::kSessionFieldNumber, session);
    o = write_number(o, s::kFlagsFieldNumber, flags);
    o = write_fixed(o, s::kIdHighFieldNumber, id_high);
    o = write_fixed(o, s::kIdLowFieldNumber, id_low);
    o = write_bytes(o, s::kIdByFieldNumber, id_by);
    o = write_fixed(o, s::kDelayedUsFieldNumber, static_cast<std::uint64_t>(delayed_us));
    o = write_number(o, s::kKindFieldNumber, kind);
    if (has_control) {
      o = write_tag(o, s::kControlFieldNumber, WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
      o = CodedOutputStream::WriteVarint32ToArray(static_cast<std::uint32_t>(control.size()), o);
      o = CodedOutputStream::WriteRawToArray(control.data(), static_cast<int>(control.size()), o);
    }
    return write_number(o, s::kHopsFieldNumber, hops);
  }
};

fields fields_of(const parcel& p) {
  const auto& d = p.what;
  fields f;
  f.kind = static_cast<std::uint32_t>(p.kind);
  f.session = p.session;
  f.hops = d.hops;
  if (d.to)
    f.receiver = d.to->full();
  auto flag = [&](bool is, parcel_flag x) { f.flags |= is ? x : 0u; };
  flag(!p.needs_credit, reply);
  f.has_control = p.said != nullptr;
  if (!d.what)
    return f;
  const auto& s = *d.what;
  f.xml = s.bytes();
  if (s.from)
    f.from = s.from->full();
  bool is_to_in_xml = s.to && s.to->full() == s.raw_to();
  flag(is_to_in_xml, to_as_in_xml);
  if (s.to && !is_to_in_xml)
    f.to = s.to->full();
  flag(p.has_completion, completed);
  flag(d.shared != nullptr, shared);
  flag(d.is_copy, copy);
  flag(d.is_managed, managed);
  flag(d.is_stored, stored);
  flag(d.is_again, again);
  f.id_high = s.stanza_id.a;
  f.id_low = s.stanza_id.b;
  bool is_id_by_to = s.stanza_id_by && s.to && s.stanza_id_by->full() == s.to->bare();
  flag(is_id_by_to, id_by_to);
  if (s.stanza_id_by && !is_id_by_to)
    f.id_by = s.stanza_id_by->full();
  f.delayed_us = d.delayed_us;
  return f;
}

// --- reading: a field that is not known is passed over, of one that comes twice the last counts

/// Protobuf's bytes, where they lie. All of it throws `refused`: malformed.
class reader {
public:
  explicit reader(std::string_view all) : begin_(all.data()), at_(begin_), end_(begin_ + all.size()) {}
  [[nodiscard]] size position() const { return static_cast<size>(at_ - begin_); }
  /// True: there is one more field, and `tag` is its.
  bool next(std::uint32_t& tag) {
    if (at_ == end_)
      return false;
    auto t = varint();
    require(t >> 32 == 0 && t >> 3 != 0);
    tag = static_cast<std::uint32_t>(t);
    return true;
  }
  std::string_view bytes() { return take(varint()); }
  std::uint64_t fixed() {
    std::uint64_t v = 0;
    std::memcpy(&v, take(sizeof v).data(), sizeof v);
    return boost::endian::little_to_native(v);
  }
  std::uint32_t number() { return static_cast<std::uint32_t>(varint()); }
  /// Passes over a field of which only the type is known.
  void skip(std::uint32_t tag) {
    switch (static_cast<WireFormatLite::WireType>(tag & 7)) {
      case WireFormatLite::WIRETYPE_VARINT: (void)varint(); break;
      case WireFormatLite::WIRETYPE_FIXED64: (void)take(8); break;
      case WireFormatLite::WIRETYPE_LENGTH_DELIMITED: (void)bytes(); break;
      case WireFormatLite::WIRETYPE_FIXED32: (void)take(4); break;
      default: require(false); // proto3 has no groups
    }
  }

private:
  std::string_view take(std::uint64_t n) {
    require(n <= static_cast<std::uint64_t>(end_ - at_));
    auto from = std::exchange(at_, at_ + n);
    return {from, static_cast<size>(n)};
  }
  std::uint64_t varint() {
    std::uint64_t v = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      require(at_ != end_);
      auto b = static_cast<unsigned char>(*at_++);
      v |= static_cast<std::uint64_t>(b & 127) << shift;
      if (b < 128) [[likely]]
        return v;
    }
    throw refused{codec_errc::malformed};
  }

  const char *begin_, *at_, *end_;
};
constexpr std::uint32_t tag(int field, WireFormatLite::WireType type) { return static_cast<std::uint32_t>(field) << 3 | static_cast<std::uint32_t>(type); }

fields read(std::string_view bytes) {
  using s = pb::Stanza;
  constexpr auto text = WireFormatLite::WIRETYPE_LENGTH_DELIMITED;
  constexpr auto number = WireFormatLite::WIRETYPE_VARINT;
  constexpr auto fixed = WireFormatLite::WIRETYPE_FIXED64;
  fields f;
  reader in{bytes};
  for (std::uint32_t t = 0; in.next(t);)
    switch (t) {
      case tag(s::kXmlFieldNumber, text): f.xml = in.bytes(); break;
      case tag(s::kFromFieldNumber, text): f.from = in.bytes(); break;
      case tag(s::kToFieldNumber, text): f.to = in.bytes(); break;
      case tag(s::kReceiverFieldNumber, text): f.receiver = in.bytes(); break;
      case tag(s::kSessionFieldNumber, fixed): f.session = in.fixed(); break;
      case tag(s::kFlagsFieldNumber, number): f.flags = in.number(); break;
      case tag(s::kIdHighFieldNumber, fixed): f.id_high = in.fixed(); break;
      case tag(s::kIdLowFieldNumber, fixed): f.id_low = in.fixed(); break;
      case tag(s::kIdByFieldNumber, text): f.id_by = in.bytes(); break;
      case tag(s::kDelayedUsFieldNumber, fixed): f.delayed_us = static_cast<std::int64_t>(in.fixed()); break;
      case tag(s::kKindFieldNumber, number): f.kind = in.number(); break;
      case tag(s::kControlFieldNumber, text):
        f.control = in.bytes();
        f.has_control = true;
        break;
      case tag(s::kHopsFieldNumber, number): f.hops = in.number(); break;
      default: in.skip(t);
    }
  return f;
}

parcel take(const fields& in) {
  require((in.flags & ~std::uint32_t{every_flag}) == 0 && in.kind <= static_cast<std::uint32_t>(parcel_kind::control) && in.hops < 256);
  parcel p;
  p.kind = static_cast<parcel_kind>(in.kind);
  bool is_control = p.kind == parcel_kind::control;
  require(is_control == in.has_control && (p.kind != parcel_kind::to_entity || in.session == 0));
  p.session = in.session;
  p.needs_credit = !(in.flags & reply);
  p.what.hops = static_cast<std::uint8_t>(in.hops);
  if (!in.receiver.empty())
    p.what.to = take_jid(in.receiver);
  if (is_control) {
    pb::Control said;
    require(said.ParseFromArray(in.control.data(), static_cast<int>(in.control.size())));
    p.said = take(said);
  }
  if (is_control && in.xml.empty()) {
    require(!(in.flags & completed));
    return p;
  }
  bool is_to_in_xml = in.flags & to_as_in_xml;
  require(is_to_in_xml ? in.to.empty() : !in.to.empty() || p.what.to);
  try { // a peer is not believed to send well-formed XML
    p.what.what = xmpp::stanza::from_xml(in.xml);
  } catch (const std::logic_error&) {
    require(false);
  }
  auto& s = *p.what.what;
  require(s.kind() != xmpp::stanza_kind::other);
  if (!in.from.empty())
    s.from = take_jid(in.from);
  if (is_to_in_xml || !in.to.empty())
    s.to = take_jid(is_to_in_xml ? s.raw_to() : in.to);
  s.stanza_id = {in.id_high, in.id_low};
  bool is_id_by_to = in.flags & id_by_to;
  require(!is_id_by_to || (s.to && in.id_by.empty()));
  if (is_id_by_to || !in.id_by.empty())
    s.stanza_id_by = take_jid(is_id_by_to ? s.to->bare() : in.id_by);
  p.has_completion = in.flags & completed;
  if (in.flags & shared) {
    p.what.shared = new xmpp::delivery_share;
    p.what.shared->holders = 1;
    p.what.shared->is_elsewhere = true;
  }
  p.what.is_copy = in.flags & copy;
  p.what.is_managed = in.flags & managed;
  p.what.is_stored = in.flags & stored;
  p.what.is_again = in.flags & again;
  p.what.delayed_us = in.delayed_us;
  return p;
}

/// One that is not what it should be must not stop those behind it for ever: its sender sends the same again.
parcel take_or_mark(const fields& in) {
  try {
    return take(in);
  } catch (const refused&) {
    parcel p;
    p.is_unreadable = true;
    p.needs_credit = !(in.flags & reply);
    p.has_completion = in.flags & completed;
    return p;
  }
}
} // namespace

xmpp::jid_ref take_jid(std::string_view text) {
  if (text.find('&') != text.npos) { // the cache takes that for a reference
    auto j = xmpp::parse_jid(text);
    require(j && (*j)->full() == text);
    return *j;
  }
  thread_local xmpp::jid_cache known; // a few accounts are in most stanzas
  auto j = known.find(text);
  require(j && j->full() == text);
  return j;
}

void append(std::string& out, const stanzas& s) {
  struct item { fields what; size bytes; };
  thread_local std::vector<item> all;
  thread_local std::vector<std::string> controls; // of those, in their order
  all.clear();
  controls.clear();
  controls.reserve(s.items.size() + s.lent.size()); // the views stay good
  auto whole = fixed_size(s.first);
  auto add = [&](const parcel& p) {
    auto& i = all.emplace_back(item{fields_of(p), 0});
    if (p.said) {
      pb::Control c;
      put(c, *p.said);
      i.what.control = controls.emplace_back(c.SerializeAsString());
    }
    i.bytes = i.what.encoded_size();
    whole += 1 + CodedOutputStream::VarintSize32(static_cast<std::uint32_t>(i.bytes)) + i.bytes;
  };
  for (const auto& p : s.items)
    add(p);
  for (const auto* p : s.lent)
    add(*p);
  auto before = out.size();
  out.resize(before + 1 + CodedOutputStream::VarintSize32(static_cast<std::uint32_t>(whole)) + whole);
  auto* o = reinterpret_cast<std::uint8_t*>(out.data()) + before;
  o = write_tag(o, pb::Frame::kStanzasFieldNumber, WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
  o = CodedOutputStream::WriteVarint32ToArray(static_cast<std::uint32_t>(whole), o);
  o = write_fixed(o, pb::Stanzas::kFirstFieldNumber, s.first);
  for (const auto& i : all) {
    o = write_tag(o, pb::Stanzas::kItemsFieldNumber, WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
    o = CodedOutputStream::WriteVarint32ToArray(static_cast<std::uint32_t>(i.bytes), o);
    o = i.what.write(o);
  }
}

stanzas take_stanzas(std::string_view content) {
  stanzas s;
  constexpr size usual = 150; // bytes of one
  s.items.reserve(std::min(content.size() / usual + 1, limits::stanzas));
  reader in{content};
  for (std::uint32_t t = 0; in.next(t);)
    switch (t) {
      case tag(pb::Stanzas::kFirstFieldNumber, WireFormatLite::WIRETYPE_FIXED64): s.first = in.fixed(); break;
      case tag(pb::Stanzas::kItemsFieldNumber, WireFormatLite::WIRETYPE_LENGTH_DELIMITED):
        require(s.items.size() < limits::stanzas, codec_errc::too_large);
        s.items.push_back(take_or_mark(read(in.bytes())));
        break;
      default: in.skip(t);
    }
  require(s.first != 0 && !s.items.empty());
  return s;
}

void split(std::string_view frame, parts& out) {
  reader in{frame};
  std::size_t from = 0; // of the piece that is none of the stanzas
  auto keep = [&](std::size_t until) { out.kept.append(frame, from, until - from); };
  for (;;) {
    auto start = in.position();
    std::uint32_t t = 0;
    if (!in.next(t))
      break;
    if (t != tag(pb::Frame::kStanzasFieldNumber, WireFormatLite::WIRETYPE_LENGTH_DELIMITED)) {
      in.skip(t);
      continue;
    }
    require(!out.has_stanzas);
    keep(start);
    out.stanzas = in.bytes();
    out.has_stanzas = true;
    from = in.position();
  }
  if (!out.has_stanzas) {
    out.rest = frame;
    return;
  }
  keep(frame.size());
  out.rest = out.kept;
}

} // namespace cluster::codec
