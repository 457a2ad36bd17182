// Selects of one table, or of several in one transaction.
#include "storage/sql/reader.hpp"
#include "base/log.hpp"
#include "storage/rows_file.hpp"
#include "storage/sql/bounds.hpp"
#include "storage/sql/wire.hpp"
#include <algorithm>
#include <filesystem>

namespace storage::sql {

namespace {
constexpr std::size_t page = 500; // rows at once, of a copy
const statement at_one_moment{"begin isolation level repeatable read read only", {}}, commit{"commit", {}}, rollback{"rollback", {}};
} // namespace

errc told_error(const replies& r) {
  if (r.state.starts_with("XX")) {
    base::log::error("storage.corrupt", "bytes on disk are not what was written", {{"error", r.text}});
    return errc::corrupt;
  }
  base::log::error("storage.statement_failed", "the database refused a statement", {{"error", r.text}, {"state", r.state}});
  return errc::unavailable;
}

base::result<reader::rows, errc> reader::read_table(const sql_table& t, const reply& r) const {
  rows out;
  auto keys = t.key().size(), values = t.value().size();
  for (auto& cells : r.rows) {
    std::span<const cell> all{cells};
    auto key = t.key_of(all.first(keys));
    auto record = t.record_of(all.subspan(keys, values));
    auto version = wire::read_number(cells.back());
    if (!key || !record || !version) {
      base::log::error("storage.corrupt", "a row that covey did not write", {{"table", t.name()}});
      return base::fail(errc::corrupt);
    }
    out.push_back({std::move(*key), std::move(*record), static_cast<storage::version>(*version)});
  }
  return out;
}

std::optional<base::result<reader::rows, errc>> reader::scan_on(connection& c, const key_range& range, order o, std::size_t limit, std::string& state) const {
  rows found;
  auto tables = tables_in(all_.tables(), range);
  auto until = base::steady::now() + deadline_;
  auto one = [&](const sql_table& t, std::size_t most, bool is_alone) -> std::optional<base::result<rows, errc>> {
    auto where = condition(t, range, 2);
    if (!where)
      return rows{};
    statement s{all_.of(t).select(where->text, o), {wire::number(static_cast<std::int64_t>(std::min<std::size_t>(most, INT64_MAX)))}};
    std::move(where->args.begin(), where->args.end(), std::back_inserter(s.args));
    auto r = c.run({&s, 1}, until);
    if (!r)
      return std::nullopt;
    if (!r->is_ok()) {
      state = r->state;
      if (!is_alone)
        (void)c.run({&rollback, 1}, until);
      return base::result<rows, errc>{base::fail(is_going_away(state) ? errc::unavailable : told_error(*r))};
    }
    return read_table(t, r->all.front());
  };
  if (tables.size() == 1)
    return one(*tables.front(), limit, true);
  auto begun = c.run({&at_one_moment, 1}, until);
  if (!begun || !begun->is_ok())
    return std::nullopt;
  // by id, so that what one table has is whole before the next; the keys of the last one are between them
  auto others = tables.back();
  tables.pop_back();
  if (o == order::reverse)
    std::reverse(tables.begin(), tables.end());
  tables.push_back(others);
  for (auto* t : tables) {
    if (t != others && found.size() >= limit)
      continue;
    auto more = one(*t, t == others ? limit : limit - found.size(), false);
    if (!more || !*more)
      return more;
    std::move((*more)->begin(), (*more)->end(), std::back_inserter(found));
  }
  if (!c.run({&commit, 1}, until))
    return std::nullopt;
  std::sort(found.begin(), found.end(), [&](auto& a, auto& b) { return o == order::forward ? a.key < b.key : b.key < a.key; });
  if (found.size() > limit)
    found.resize(limit);
  return found;
}

base::result<std::vector<row>, errc> reader::scan(const key_range& range, order o, std::size_t limit) {
  if (range.until <= range.from || limit == 0)
    return rows{};
  auto until = base::steady::now() + pool_.patience();
  for (;;) {
    auto c = pool_.take(until);
    if (!c)
      return base::fail(errc::unavailable);
    std::string state;
    auto found = scan_on(**c, range, o, limit, state);
    if (found && !is_going_away(state))
      return std::move(*found);
    if (found) // the server ends: whatever comes next on this connection is lost
      (*c)->give_up();
    pool_.note_lost(found ? state : "no answer");
    if (base::steady::now() >= until)
      return base::fail(errc::unavailable);
  }
}

base::result<void, errc> reader::copy(const std::string& folder) {
  namespace fs = std::filesystem;
  auto fail = [&](const std::string& why) {
    base::log::error("storage.snapshot_failed", "no copy was made", {{"folder", folder}, {"error", why}});
    return base::fail(errc::unavailable);
  };
  std::error_code ec;
  if (!fs::create_directory(folder, ec))
    return fail(ec ? ec.message() : "it is there already");
  fs::permissions(folder, fs::perms::owner_all, ec); // SCRAM keys and secrets
  auto give_up = [&](const std::string& why) {
    fs::remove_all(folder, ec);
    return fail(why);
  };
  auto c = pool_.take(base::steady::now() + pool_.patience());
  if (!c)
    return give_up("the database is away");
  rows_writer out{folder + "/rows"};
  auto ask = [&](const statement& s) { return (*c)->run({&s, 1}, base::steady::now() + deadline_); };
  auto begun = ask(at_one_moment);
  if (!begun || !begun->is_ok())
    return give_up("the connection was lost");
  std::vector<const sql_table*> tables{&all_.tables().other()};
  for (auto& t : all_.tables().declared())
    tables.push_back(t.get());
  for (auto* t : tables) {
    auto id = t->declaration() ? std::string(1, t->declaration()->id) : std::string{};
    key_range range{id, t->declaration() ? id : std::string{}};
    if (t->declaration())
      ++range.until.back();
    for (bool is_first = true;; is_first = false) {
      statement s;
      if (t->declaration() || !is_first) {
        auto where = t->declaration() ? condition(*t, range, 2) : std::optional<statement>{{"\"key\" >= $2::bytea", {range.from}}};
        if (!where)
          break;
        s.text = all_.of(*t).select(where->text, order::forward);
        s.args = std::move(where->args);
      } else {
        s.text = all_.of(*t).select({}, order::forward);
      }
      s.args.insert(s.args.begin(), wire::number(page));
      auto r = ask(s);
      if (!r || !r->is_ok())
        return (*c)->give_up(), give_up(r ? r->text : "the connection was lost");
      auto rows = read_table(*t, r->all.front());
      if (!rows)
        return (*c)->give_up(), give_up("a row of " + t->name() + " is damaged");
      for (auto& row : *rows)
        out.add(row);
      if (rows->size() < page)
        break;
      range.from = only(rows->back().key).until;
    }
  }
  (void)ask(commit);
  if (!out.finish())
    return give_up("the file cannot be written");
  return {};
}

} // namespace storage::sql
