// jabber:iq:roster (roster.hpp).
#include "xmpp/im/roster.hpp"
#include <algorithm>

namespace xmpp::im {

base::result<roster_change, stanza_error> parse_roster_set(const element& query, const jid& owner,
                                                           const roster_limits& limits) {
  auto refuse = [](stanza_errc c, error_type t, const char* text) { return base::fail(stanza_error{c, t, text}); };
  auto item = query.first_child();
  if (!item || item.next_sibling() || !item.is("item", roster_ns))
    return refuse(stanza_errc::bad_request, error_type::modify, "a roster set has exactly one item");
  auto text = item.attr("jid");
  if (!text)
    return refuse(stanza_errc::bad_request, error_type::modify, "the item has no jid");
  auto contact = parse_jid(*text);
  if (!contact)
    return refuse(stanza_errc::jid_malformed, error_type::modify, "the item's jid is not a JID");
  roster_change c;
  c.contact = bare_of(*contact);
  if (c.contact->full() == owner.bare())
    return refuse(stanza_errc::not_allowed, error_type::cancel, "nobody is their own contact");
  if (item.attr_or("subscription", {}) == "remove") {
    c.is_removal = true;
    return c;
  }
  c.name = item.attr_or("name", {});
  if (c.name.size() > limits.max_name)
    return refuse(stanza_errc::not_acceptable, error_type::modify, "the name is too long");
  for (auto child = item.first_child(); child; child = child.next_sibling()) {
    if (!child.is("group", roster_ns))
      continue;
    auto group = child.text();
    if (group.empty())
      return refuse(stanza_errc::not_acceptable, error_type::modify, "a group without a name");
    if (group.size() > limits.max_group)
      return refuse(stanza_errc::not_acceptable, error_type::modify, "the name of a group is too long");
    if (c.groups.size() >= limits.max_groups)
      return refuse(stanza_errc::not_acceptable, error_type::modify, "too many groups");
    c.groups.push_back(std::move(group));
  }
  std::sort(c.groups.begin(), c.groups.end());
  if (std::adjacent_find(c.groups.begin(), c.groups.end()) != c.groups.end())
    return refuse(stanza_errc::bad_request, error_type::modify, "a group twice");
  return c;
}

roster_item merge(const roster_change& change, const roster_item* before) {
  roster_item item;
  if (before)
    item = *before;
  item.contact = change.contact;
  item.name = change.name;
  item.groups = change.groups;
  item.is_listed = true;
  return item;
}

std::optional<std::string> parse_roster_get(const element& query) {
  auto ver = query.attr("ver");
  return ver ? std::optional<std::string>{*ver} : std::nullopt;
}

void write_item(writer& w, const roster_item& item) {
  w.open("item").attr("jid", item.contact->full());
  if (!item.name.empty())
    w.attr("name", item.name);
  w.attr("subscription", name_of(item.state));
  if (item.state.pending_out)
    w.attr("ask", "subscribe");
  if (item.state.approved)
    w.attr("approved", "true");
  for (auto& g : item.groups)
    w.leaf("group", g);
  w.close();
}

namespace {
void open_query(writer& w, std::string_view ver) {
  w.open("query", roster_ns);
  if (!ver.empty())
    w.attr("ver", ver);
}
} // namespace

std::string roster_result(std::span<const roster_item> items, std::string_view ver) {
  writer w;
  open_query(w, ver);
  for (auto& i : items)
    if (i.is_listed)
      write_item(w, i);
  return w.close().take();
}

std::string roster_push(const roster_item& item, std::string_view ver) {
  writer w;
  open_query(w, ver);
  write_item(w, item);
  return w.close().take();
}

std::string roster_push_removed(const jid& contact, std::string_view ver) {
  writer w;
  open_query(w, ver);
  w.open("item").attr("jid", contact.bare()).attr("subscription", "remove").close();
  return w.close().take();
}

stanza_ref make_push(std::string_view payload, std::string_view id) {
  writer w;
  w.open("iq").attr("type", "set").attr("id", id).raw(payload).close();
  return stanza::from_xml(w.take());
}

} // namespace xmpp::im
