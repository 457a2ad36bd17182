// Between the account and its tables.
#include "actors/account_rows.hpp"
#include "base/log.hpp"
#include "storage/tables.hpp"

namespace actors::rows {

namespace tables = storage::tables;

namespace {
storage::errc damaged(const xmpp::jid& bare, const storage::table& t) {
  base::log::error("account.damaged", "a row of this account is not what was written; what needs it is refused",
                   {{"jid", bare.bare()}, {"table", t.name}});
  return storage::errc::corrupt;
}
} // namespace

storage::key_range account_range(const xmpp::jid& bare) { return storage::only(tables::account_key(bare)); }
storage::key_range head_range(const xmpp::jid& bare) { return storage::only(tables::head_key(bare)); }

base::result<head, storage::errc> decode_head(const xmpp::jid& bare, const read& rows) {
  if (!rows)
    return base::fail(rows.error());
  if (rows->empty())
    return head{};
  auto decoded = tables::decode_head(rows->front());
  if (!decoded)
    return base::fail(damaged(bare, tables::heads));
  return head{rows->front().version, decoded->roster_version};
}

storage::key_range roster_range(const xmpp::jid& bare) { return tables::roster_of(bare); }
storage::key_range roster_item_range(const xmpp::jid& bare, const xmpp::jid& contact) {
  return storage::only(tables::roster_key(bare, contact));
}

base::result<stored_item, storage::errc> decode_item(const xmpp::jid& bare, const storage::row& row) {
  auto decoded = tables::decode_roster(row);
  if (!decoded)
    return base::fail(damaged(bare, tables::rosters));
  return stored_item{std::move(decoded->item), std::move(decoded->request)};
}

base::result<std::vector<stored_item>, storage::errc> decode_items(const xmpp::jid& bare, const read& rows) {
  if (!rows)
    return base::fail(rows.error());
  std::vector<stored_item> all;
  all.reserve(rows->size());
  for (auto& row : *rows) {
    auto item = decode_item(bare, row);
    if (!item)
      return base::fail(item.error());
    all.push_back(std::move(*item));
  }
  return all;
}

storage::batch removal(const xmpp::jid& bare, std::uint64_t head_version) {
  storage::batch b;
  b.changes = tables::erase_account(bare);
  b.preconditions.push_back({tables::head_key(bare), head_version});
  return b;
}

storage::batch change(const xmpp::jid& bare, const stored_item& item, bool removes, const head& before) {
  storage::batch b;
  auto key = tables::roster_key(bare, *item.item.contact);
  if (removes)
    b.changes.emplace_back(storage::erase{std::move(key)});
  else
    b.changes.emplace_back(storage::put{std::move(key), tables::encode({item.item, item.request})});
  auto head_key = tables::head_key(bare);
  b.preconditions.push_back({head_key, before.row_version});
  b.changes.emplace_back(storage::put{std::move(head_key), tables::encode(tables::head{before.roster_version + 1})});
  return b;
}

} // namespace actors::rows
