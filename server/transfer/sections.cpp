// Credentials, rosters, unanswered requests, offline messages.
#include "server/transfer/personal.hpp"
#include "xmpp/im/vcard.hpp"
#include "xmpp/stamp.hpp"
#include <algorithm>

namespace server::transfer {

namespace tables = storage::tables;
using base::crypto::hash;
using written = base::result<void, storage::errc>;
using taken = base::result<void, std::string>;

namespace {
constexpr std::string_view scram_ns = "urn:xmpp:pie:0#scram", client_ns = "jabber:client", delay_ns = "urn:xmpp:delay";
constexpr std::size_t page = 256; // rows that are read at once

/// `f(row)` for each row of the range.
template <class F>
written for_each_row(storage::engine& e, storage::key_range range, F f) {
  for (;;) {
    auto rows = e.scan(range, storage::order::forward, page);
    if (!rows)
      return base::fail(rows.error());
    for (auto& r : *rows)
      if (written ok = f(r); !ok)
        return ok;
    if (rows->size() < page)
      return {};
    range.from = rows->back().key + '\0';
  }
}

// --- SCRAM credentials (section 4.3). Tokens of clients (XEP-0484) stay here: they are good at this server alone.

constexpr hash hashes[]{hash::sha1, hash::sha256, hash::sha512};

taken read_scram(incoming& to, const xmpp::element& child, std::string_view) {
  auto mechanism = child.attr_or("mechanism", {});
  auto known = std::find_if(std::begin(hashes), std::end(hashes), [&](auto x) { return mechanism == xmpp::sasl::scram_name(x); });
  if (known == std::end(hashes))
    return base::fail("credentials of a mechanism that this version does not know: " + std::string{mechanism});
  auto h = *known;
  auto text = [&](const char* name) { return child.child(name, scram_ns).text(); };
  auto bytes = [&](const char* name) { return base::from_base64(text(name)).value_or(std::string{}); };
  auto rounds = base::to_number<std::uint32_t>(text("iter-count"));
  xmpp::sasl::scram_keys keys{bytes("salt"), rounds.value_or(0), bytes("stored-key"), bytes("server-key")};
  constexpr std::uint32_t most_rounds = 10'000'000;
  if (keys.salt.empty() || keys.iterations == 0 || keys.iterations > most_rounds || keys.stored_key.size() != base::crypto::size_of(h) || keys.server_key.size() != base::crypto::size_of(h))
    return base::fail("credentials of " + std::string{mechanism} + " with a bad salt, count or key");
  to.account.keys(h) = std::move(keys);
  return {};
}

written write_scram(const outgoing& of, std::string& out) {
  xmpp::writer w;
  auto account = of.account;
  for (auto h : hashes) {
    if (!account.keys(h))
      continue;
    auto& k = *account.keys(h);
    w.open("scram-credentials", scram_ns).attr("mechanism", xmpp::sasl::scram_name(h)).leaf("iter-count", std::to_string(k.iterations)).leaf("salt", base::to_base64(k.salt))
        .leaf("server-key", base::to_base64(k.server_key)).leaf("stored-key", base::to_base64(k.stored_key)).close();
  }
  out += w.take();
  return {};
}

// --- rosters (section 4.4)

taken read_item(incoming& to, const xmpp::element& item) {
  auto contact = xmpp::parse_jid(item.attr_or("jid", {}));
  if (!contact)
    return base::fail("a contact that is no JID: " + std::string{item.attr_or("jid", {})});
  auto bare = xmpp::bare_of(*contact);
  if (bare->full() == to.jid->full())
    return {}; // some servers kept the account in its own roster
  auto& row = to.roster[std::string{bare->full()}];
  auto& i = row.item;
  auto subscription = item.attr_or("subscription", "none");
  i.contact = bare;
  i.name = item.attr_or("name", {});
  i.state.to = subscription == "to" || subscription == "both";
  i.state.from = subscription == "from" || subscription == "both";
  i.state.pending_out = item.attr_or("ask", {}) == "subscribe" && !i.state.to;
  i.state.pending_in = !row.request.empty() && !i.state.from;
  i.state.approved = item.attr_or("approved", {}) == "true";
  i.is_listed = true;
  i.groups.clear();
  for (auto g = item.first_child(); g; g = g.next_sibling())
    if (g.name() == "group" && !g.text().empty())
      i.groups.push_back(g.text());
  std::sort(i.groups.begin(), i.groups.end());
  i.groups.erase(std::unique(i.groups.begin(), i.groups.end()), i.groups.end());
  constexpr xmpp::im::roster_limits limits;
  auto is_long = [&](const std::string& g) { return g.size() > limits.max_group; };
  if (i.name.size() > limits.max_name || i.groups.size() > limits.max_groups || std::any_of(i.groups.begin(), i.groups.end(), is_long)) {
    to.roster.erase(std::string{bare->full()});
    return base::fail("a contact whose name or groups are too long: " + std::string{bare->full()});
  }
  return {};
}

taken read_roster(incoming& to, const xmpp::element& query, std::string_view) {
  taken first;
  for (auto item = query.first_child(); item; item = item.next_sibling()) {
    if (item.name() != "item")
      continue;
    if (to.roster.size() >= to.most_contacts)
      return base::fail("more contacts than limits.roster");
    if (auto ok = read_item(to, item); !ok && first)
      first = ok; // the others are taken
  }
  return first;
}

written write_roster(const outgoing& of, std::string& out) {
  xmpp::writer w;
  w.open("query", xmpp::im::roster_ns);
  bool is_any = false;
  auto ok = for_each_row(of.from, tables::roster_of(*of.jid), [&](auto& r) -> written {
    auto row = tables::decode_roster(r);
    if (!row)
      return base::fail(row.error());
    if (row->item.is_listed)
      xmpp::im::write_item(w, row->item);
    is_any |= row->item.is_listed;
    return {};
  });
  w.close();
  if (ok && is_any)
    out += w.take();
  return ok;
}

// --- incoming subscription requests (section 4.9)

taken read_request(incoming& to, const xmpp::element& presence, std::string_view xml) {
  auto from = xmpp::parse_jid(presence.attr_or("from", {}));
  if (presence.attr_or("type", {}) != "subscribe" || !from)
    return base::fail(std::string{"a presence that is no request of somebody"});
  if (to.roster.size() >= to.most_contacts)
    return base::fail("more contacts than limits.roster");
  auto bare = xmpp::bare_of(*from);
  auto [i, is_new] = to.roster.try_emplace(std::string{bare->full()});
  auto& row = i->second;
  row.item.contact = bare;
  row.item.is_listed = row.item.is_listed && !is_new;
  row.item.state.pending_in = !row.item.state.from;
  row.request = xml;
  return {};
}

/// The namespace is written out: around it there is another one.
std::string with_namespace(const std::string& stanza) {
  auto end = std::min(stanza.find('>'), stanza.size());
  if (stanza.find(" xmlns=") < end)
    return stanza;
  auto name_end = stanza.find_first_of(" \t\r\n/>");
  return stanza.substr(0, name_end) + " xmlns='" + std::string{client_ns} + '\'' + stanza.substr(name_end);
}

written write_requests(const outgoing& of, std::string& out) {
  return for_each_row(of.from, tables::roster_of(*of.jid), [&](auto& r) -> written {
    auto row = tables::decode_roster(r);
    if (!row)
      return base::fail(row.error());
    if (!row->item.state.pending_in)
      return {};
    if (!row->request.empty()) {
      out += with_namespace(row->request);
      return {};
    }
    xmpp::writer w;
    w.open("presence", client_ns).attr("type", "subscribe").attr("from", row->item.contact->full()).close();
    out += w.take();
    return {};
  });
}

// --- offline messages (section 4.5)

/// "2026-01-31T12:34:56Z" with or without a fraction (XEP-0082).
std::optional<std::int64_t> microseconds_of(std::string_view stamp) {
  int year = 0;
  unsigned month = 0, day = 0, hour = 0, minute = 0, second = 0;
  if (std::sscanf(std::string{stamp}.c_str(), "%4d-%2u-%2uT%2u:%2u:%2u", &year, &month, &day, &hour, &minute, &second) != 6)
    return std::nullopt;
  std::chrono::year_month_day date{std::chrono::year{year}, std::chrono::month{month}, std::chrono::day{day}};
  if (!date.ok() || hour > 23 || minute > 59 || second > 60)
    return std::nullopt;
  auto at = std::chrono::sys_days{date} + std::chrono::hours{hour} + std::chrono::minutes{minute} + std::chrono::seconds{second};
  return std::chrono::duration_cast<std::chrono::microseconds>(at.time_since_epoch()).count();
}

/// The id is made of the message, so that it is kept once however often it is read.
taken read_message(incoming& to, const xmpp::element& message, std::string_view xml) {
  auto from = xmpp::parse_jid(message.attr_or("from", {}));
  if (!from)
    return base::fail(std::string{"an offline message without a sender"});
  auto delay = message.child("delay", delay_ns);
  auto at = microseconds_of(delay ? delay.attr_or("stamp", {}) : std::string_view{});
  if (delay && !at)
    return base::fail("a stamp that is none: " + std::string{delay.attr_or("stamp", {})});
  auto stored = std::max<std::int64_t>(at.value_or(0), 0);
  to.last_entry = std::max(to.last_entry + 1, static_cast<std::uint64_t>(stored));
  auto id = base::siphash128(std::string{to.jid->full()} + '\0' + std::string{xml}, {0x636f7665792d696d, 0x706f72742d303232});
  storage::batch b;
  auto second = tables::offline_id_key(*to.jid, id);
  b.changes.emplace_back(storage::put{tables::offline_key(*to.jid, to.last_entry, id), tables::encode(tables::offline_message{std::string{xml}, stored, 0})});
  b.changes.emplace_back(storage::put{second, tables::encode_offline_id(xml.size())});
  b.preconditions.push_back({std::move(second), 0});
  to.batches.push_back(std::move(b));
  return {};
}

written write_messages(const outgoing& of, std::string& out) {
  bool is_any = false;
  auto ok = for_each_row(of.from, tables::offline_of(*of.jid), [&](auto& r) -> written {
    auto m = tables::decode_offline(r);
    if (!m)
      return base::fail(m.error());
    auto xml = with_namespace(m->stanza);
    auto end = xml.rfind("</");
    if (end == xml.npos)
      return {}; // an empty one is not delivered either
    if (xml.find(delay_ns) == xml.npos)
      xml.insert(end, xmpp::delay(base::wall_time{std::chrono::microseconds{m->stored_us}}, of.jid->domain()));
    out += (std::exchange(is_any, true) ? "" : "<offline-messages>") + xml + '\n';
    return {};
  });
  if (is_any)
    out += "</offline-messages>";
  return ok;
}

constexpr section all[]{
    {"scram-credentials", scram_ns, read_scram, write_scram},
    {"query", xmpp::im::roster_ns, read_roster, write_roster},
    {"presence", client_ns, read_request, write_requests},
    {"message", client_ns, read_message, write_messages},
    {"vCard", xmpp::im::vcard_ns, personal::read_vcard, personal::write_vcard},
    {"query", "jabber:iq:private", personal::read_private, personal::write_private},
    {"blocklist", "urn:xmpp:blocking", personal::read_blocks, personal::write_blocks},
};
} // namespace

std::span<const section> sections() { return all; }

} // namespace server::transfer
