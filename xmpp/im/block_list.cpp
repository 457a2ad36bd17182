// The block list (block_list.hpp).
#include "xmpp/im/block_list.hpp"
#include "base/bytes.hpp"
#include "xmpp/utf8.hpp"
#include <algorithm>

namespace xmpp::im {

namespace {
constexpr std::string_view reporting_ns = "urn:xmpp:reporting:1";
constexpr std::size_t longest_text = 1'000, longest_reason = 100;

bool comes_before(const jid_ref& a, const jid_ref& b) {
  return a->hash() != b->hash() ? a->hash() < b->hash() : a->full() < b->full();
}
bool is_same(const jid_ref& a, const jid_ref& b) { return *a == *b; }

std::optional<abuse_report> report_in(const element& item) {
  auto el = item.child("report", reporting_ns);
  auto reason = el ? el.attr_or("reason", {}) : std::string_view{};
  if (reason.empty())
    return std::nullopt;
  return abuse_report{std::string{cut(reason, longest_reason)}, std::string{cut(el.child("text", reporting_ns).text(), longest_text)}};
}
} // namespace

block_list::block_list(std::vector<jid_ref> items) : items_(std::move(items)) {
  std::sort(items_.begin(), items_.end(), comes_before);
  items_.erase(std::unique(items_.begin(), items_.end(), is_same), items_.end());
}

template <class Same>
bool block_list::has(std::uint64_t hash, Same same) const {
  auto i = std::lower_bound(items_.begin(), items_.end(), hash, [](auto& item, std::uint64_t h) { return item->hash() < h; });
  for (; i != items_.end() && (*i)->hash() == hash; ++i)
    if (same(**i))
      return true;
  return false;
}

bool block_list::matches(const jid& j) const {
  if (items_.empty())
    return false;
  if (has(j.hash(), [&](const jid& item) { return item.full() == j.bare() || item.full() == j.full(); }))
    return true;
  return !j.is_domain() && has(base::hash_bytes(j.domain()), [&](const jid& item) { return item.full() == j.domain(); });
}

bool block_list::contains(const jid& item) const {
  return has(item.hash(), [&](const jid& i) { return i.full() == item.full(); });
}

block_list block_list::with(std::span<const jid_ref> added) const {
  auto all = items_;
  all.insert(all.end(), added.begin(), added.end());
  return block_list{std::move(all)};
}

block_list block_list::without(std::span<const jid_ref> removed) const {
  block_list gone{{removed.begin(), removed.end()}}, left;
  for (auto& i : items_)
    if (!gone.contains(*i))
      left.items_.push_back(i);
  return left;
}

base::result<std::vector<block_item>, stanza_error> parse_block_items(const element& el) {
  std::vector<block_item> items;
  for (auto c = el.first_child(); c; c = c.next_sibling()) {
    if (!c.is("item", blocking_ns))
      continue;
    auto text = c.attr("jid");
    if (!text)
      return base::fail(stanza_error{stanza_errc::bad_request, error_type::modify, "an item without a JID"});
    auto who = parse_jid(*text);
    if (!who)
      return base::fail(stanza_error{stanza_errc::jid_malformed, error_type::modify, "the JID of an item is none"});
    items.push_back({*who, report_in(c)});
  }
  std::stable_sort(items.begin(), items.end(), [](auto& a, auto& b) { return comes_before(a.who, b.who); });
  items.erase(std::unique(items.begin(), items.end(), [](auto& a, auto& b) { return is_same(a.who, b.who); }), items.end());
  return items;
}

std::string block_payload(std::string_view name, std::span<const jid_ref> items) {
  writer w;
  w.open(name, blocking_ns);
  for (auto& i : items)
    w.open("item").attr("jid", i->full()).close();
  return w.close().take();
}

stanza_error blocked_error() {
  stanza_error e{stanza_errc::not_acceptable, error_type::cancel};
  e.application = "<blocked xmlns='urn:xmpp:blocking:errors'/>";
  return e;
}

} // namespace xmpp::im
