// Each row as the element that a client would be sent. XEP-0227 sections 4.6 and 4.7; blocked JIDs as in XEP-0191.
#include "server/transfer/personal.hpp"
#include "modules/stored_xml.hpp"
#include "xmpp/im/vcard.hpp"

namespace server::transfer::personal {

namespace tables = storage::tables;
using written = base::result<void, storage::errc>;
using taken = base::result<void, std::string>;

namespace {
constexpr std::uint32_t most_rows = 100'000; // of one account and kind; the modules allow fewer
constexpr std::size_t largest = 1u << 20;    // of one element, in bytes
} // namespace

taken read_vcard(incoming& to, const xmpp::element& vcard, std::string_view) {
  auto kept = modules::to_stored(vcard);
  if (!kept || kept->size() > largest)
    return base::fail(std::string{"a vCard that is too large"});
  to.changes.emplace_back(storage::put{tables::vcard_key(*to.jid), tables::encode_vcard(*kept)});
  if (auto sha1 = xmpp::im::photo_hash(vcard); !sha1.empty())
    to.changes.emplace_back(storage::put{tables::vcard_photo_key(*to.jid), tables::encode_vcard_photo(sha1)});
  return {};
}

written write_vcard(const outgoing& of, std::string& out) {
  auto row = of.from.get(tables::vcard_key(*of.jid));
  if (!row)
    return base::fail(row.error());
  if (!*row)
    return {};
  auto xml = tables::decode_vcard(**row);
  if (!xml)
    return base::fail(xml.error());
  out += *xml;
  return {};
}

taken read_private(incoming& to, const xmpp::element& query, std::string_view) {
  taken first;
  for (auto c = query.first_child(); c; c = c.next_sibling()) {
    auto kept = modules::to_stored(c);
    if (!kept || kept->size() > largest || c.ns().empty() || c.ns() == query.ns()) {
      first = base::fail("private XML that cannot be kept: " + std::string{c.name()});
      continue;
    }
    to.changes.emplace_back(storage::put{tables::private_xml_key(*to.jid, c.ns(), c.name()), tables::encode_private_xml(*kept)});
  }
  return first;
}

written write_private(const outgoing& of, std::string& out) {
  auto rows = of.from.scan(tables::private_xml_of(*of.jid), storage::order::forward, most_rows);
  if (!rows)
    return base::fail(rows.error());
  std::string all;
  for (auto& r : *rows) {
    auto xml = tables::decode_private_xml(r);
    if (!xml)
      return base::fail(xml.error());
    all += *xml;
  }
  if (!all.empty())
    out += "<query xmlns='jabber:iq:private'>" + all + "</query>";
  return {};
}

taken read_blocks(incoming& to, const xmpp::element& list, std::string_view) {
  taken first;
  for (auto i = list.first_child(); i; i = i.next_sibling()) {
    auto who = xmpp::parse_jid(i.attr_or("jid", {}));
    if (i.name() != "item" || !who) {
      first = base::fail("a blocked address that is no JID: " + std::string{i.attr_or("jid", {})});
      continue;
    }
    to.changes.emplace_back(storage::put{tables::block_key(*to.jid, **who), tables::encode(tables::block{})});
  }
  return first;
}

written write_blocks(const outgoing& of, std::string& out) {
  auto rows = of.from.scan(tables::blocks_of(*of.jid), storage::order::forward, most_rows);
  if (!rows)
    return base::fail(rows.error());
  if (rows->empty())
    return {};
  xmpp::writer w;
  w.open("blocklist", "urn:xmpp:blocking");
  for (auto& r : *rows) {
    auto who = tables::blocked_in(r);
    if (!who)
      return base::fail(storage::errc::corrupt);
    w.open("item").attr("jid", who->full()).close();
  }
  out += w.close().take();
  return {};
}

} // namespace server::transfer::personal
