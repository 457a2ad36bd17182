// Pages of rows, in key order.
#include "storage/copy_rows.hpp"
#include "storage/tables.hpp"
#include <algorithm>

namespace storage {

namespace {
constexpr std::size_t page = 500;
const key_range everything{{}, "\xff\xff"};

std::string table_of(const row& r) {
  for (auto* t : tables::all)
    if (!r.key.empty() && r.key[0] == t->id)
      return std::string{t->name};
  return "no table that this version knows";
}

/// Rows of an engine, one after the other.
class cursor {
public:
  explicit cursor(engine& e) : engine_(e), range_(everything) {}
  /// Null: that was the last. Errors as of engine::scan.
  base::result<const row*, errc> next() {
    if (at_ == rows_.size()) {
      if (is_last_)
        return nullptr;
      auto more = engine_.scan(range_, order::forward, page);
      if (!more)
        return base::fail(more.error());
      rows_ = std::move(*more);
      at_ = 0;
      is_last_ = rows_.size() < page;
      if (rows_.empty())
        return nullptr;
      range_.from = only(rows_.back().key).until;
    }
    return &rows_[at_++];
  }

private:
  engine& engine_;
  key_range range_;
  std::vector<row> rows_;
  std::size_t at_ = 0;
  bool is_last_ = false;
};

bool write(engine& to, std::vector<change> changes) {
  batch b;
  b.changes = std::move(changes);
  return to.commit({&b, 1}).front() == outcome::done;
}
} // namespace

base::result<void, std::string> check_empty(engine& to) {
  auto there = to.scan(everything, order::forward, 1);
  if (!there)
    return base::fail(std::string{"the target cannot be read"});
  if (!there->empty())
    return base::fail("the target is not empty"
                      + std::string{there->front().key[0] == tables::schema.id ? ": it is a database already" : ": a copy into it was interrupted. Empty it first"});
  return {};
}

base::result<std::uint64_t, std::string> copy_rows(engine& from, engine& to, const std::function<void(std::uint64_t)>& on_progress) {
  if (auto ok = check_empty(to); !ok)
    return base::fail(ok.error());
  std::uint64_t rows = 0;
  std::optional<row> schema;
  std::vector<change> changes;
  std::size_t bytes = 0;
  std::string table;
  auto flush = [&] {
    bytes = 0;
    return changes.empty() || write(to, std::exchange(changes, {}));
  };
  for (cursor all{from};;) {
    auto r = all.next();
    if (!r)
      return base::fail(std::string{"the source cannot be read"});
    if (!*r || changes.size() == page || bytes > (512u << 10)) {
      if (!flush())
        return base::fail("the target did not take rows of " + table + ": its log says why");
      on_progress(rows);
    }
    if (!*r)
      break;
    ++rows;
    table = table_of(**r);
    if ((*r)->key[0] == tables::schema.id) {
      schema = **r;
      continue;
    }
    bytes += (*r)->key.size() + (*r)->value.size();
    changes.emplace_back(put{(*r)->key, (*r)->value});
  }
  auto differs = [](const row& r, const char* how) { return base::fail("a row of " + table_of(r) + how + ": the target is no copy, empty it"); };
  std::uint64_t compared = 0;
  cursor theirs{to};
  for (cursor ours{from};;) {
    auto a = ours.next();
    if (a && *a && schema && (*a)->key == schema->key)
      continue; // not there yet
    auto b = theirs.next();
    if (!a || !b)
      return base::fail(std::string{"the rows cannot be read again to compare them"});
    if (!*a && !*b)
      break;
    if (!*a || !*b)
      return differs(*a ? **a : **b, *a ? " is missing" : " is there that the source has not");
    if ((*a)->key != (*b)->key || (*a)->value != (*b)->value)
      return differs(**a, " came out differently");
    if (++compared % page == 0)
      on_progress(rows + compared);
  }
  if (schema && !write(to, {put{schema->key, schema->value}}))
    return base::fail(std::string{"the target did not take the row of its schema"});
  return rows;
}

} // namespace storage
