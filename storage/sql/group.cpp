// Which statements a group needs (docs/storage.md has why they are like this).
#include "storage/sql/group.hpp"
#include "base/log.hpp"
#include "storage/sql/bounds.hpp"
#include "storage/sql/wire.hpp"
#include <algorithm>
#include <unordered_set>

namespace storage::sql {

catalogue::catalogue(std::span<const table* const> declared) : tables_(declared) {
  for (auto& t : tables_.declared())
    statements_.emplace(t.get(), std::make_unique<table_statements>(*t));
  statements_.emplace(&tables_.other(), std::make_unique<table_statements>(tables_.other()));
}

namespace {

/// A batch whose keys and records are cells.
struct prepared_put { const sql_table* table; std::vector<std::string> key; std::vector<cell> value; };
struct prepared_batch {
  std::vector<std::optional<prepared_put>> puts; // beside its changes; nothing: another kind
};

bool covers(const change& c, const std::string& key) {
  if (auto* p = std::get_if<put>(&c))
    return p->key == key;
  if (auto* e = std::get_if<erase>(&c))
    return e->key == key;
  auto& r = std::get<erase_range>(c);
  return key >= r.from && key < r.until;
}

class compiler {
public:
  compiler(const catalogue& c, std::int64_t node) : all_(c), node_(wire::number(node)) {}

  void add(const batch& b, std::size_t place, std::int64_t& seq) {
    prepared_batch ready;
    if (auto o = prepare(b, ready); o != outcome::done) {
      out_.decided.emplace_back(place, o);
      return;
    }
    is_durable_ |= b.durability == durability::durable;
    if (!b.preconditions.empty()) {
      open(b, seq++);
      is_shared_ = false;
    } else if (!is_shared_) {
      open(b, seq++);
      is_shared_ = true;
    }
    out_.units.back().batches.push_back(place);
    for (std::size_t i = 0; i < b.changes.size(); ++i)
      add(b.changes[i], ready.puts[i]);
  }

  group take(std::int64_t clean_below) {
    flush();
    std::vector<statement> head;
    head.push_back({"begin", {}});
    if (!is_durable_)
      head.push_back({"set local synchronous_commit = off", {}});
    for (auto& [t, keys] : guarded_)
      head.push_back({all_.of(*t).lock, arrays(*t, keys)});
    for (auto& u : out_.units)
      u.gate += head.size();
    head.insert(head.end(), std::make_move_iterator(body_.begin()), std::make_move_iterator(body_.end()));
    if (clean_below > 0)
      head.push_back({"delete from batch_log where node = $1::bigint and seq < $2::bigint and state = 1", {node_, wire::number(clean_below)}});
    head.push_back({"commit", {}});
    out_.statements = std::move(head);
    return std::move(out_);
  }

private:
  /// Tables in the order of their ids, so that all nodes lock in the same order; the others last.
  struct by_id {
    bool operator()(const sql_table* a, const sql_table* b) const { return rank(a) < rank(b); }
    static int rank(const sql_table* t) { return t->declaration() ? static_cast<unsigned char>(t->declaration()->id) : 256; }
  };
  /// By key: two nodes that write the same rows take them in the same order.
  struct bucket {
    std::map<std::string, prepared_put> puts, creates;
    std::map<std::string, std::vector<std::string>> erases;
  };

  outcome prepare(const batch& b, prepared_batch& ready) const {
    for (auto& p : b.preconditions)
      if (p.expected != 0 && !all_.tables().of_key(p.key).key_cells(p.key))
        return outcome::conflict; // no row can have this key
    for (auto& c : b.changes) {
      auto& slot = ready.puts.emplace_back();
      auto* p = std::get_if<put>(&c);
      if (!p)
        continue;
      auto& t = all_.tables().of_key(p->key);
      auto key = t.key_cells(p->key);
      auto value = t.value_cells(p->value);
      if (!key || !value) {
        base::log::error("storage.not_storable", "a row that the columns of its table cannot hold", {{"table", t.name()}});
        return outcome::corrupt;
      }
      slot.emplace(prepared_put{&t, std::move(*key), std::move(*value)});
    }
    return outcome::done;
  }

  /// The gate: the id comes into batch_log only if the preconditions hold.
  void open(const batch& b, std::int64_t seq) {
    flush();
    unit u;
    u.seq = seq;
    u.gate = body_.size();
    out_.units.push_back(std::move(u));
    seq_ = wire::number(seq);
    std::map<const sql_table*, std::pair<key_rows, std::vector<std::int64_t>>, by_id> versions;
    std::map<const sql_table*, key_rows, by_id> absent, claimed;
    creates_.clear();
    for (auto& p : b.preconditions) {
      auto& t = all_.tables().of_key(p.key);
      auto cells = t.key_cells(p.key);
      if (!cells)
        continue; // absent, as it must be
      if (p.expected != 0) {
        guarded_.try_emplace(&t, t).first->second.add(*cells);
        auto& v = versions.try_emplace(&t, key_rows{t}, std::vector<std::int64_t>{}).first->second;
        v.first.add(std::move(*cells));
        v.second.push_back(static_cast<std::int64_t>(p.expected));
        continue;
      }
      absent.try_emplace(&t, t).first->second.add(*cells);
      auto first = std::find_if(b.changes.begin(), b.changes.end(), [&](auto& c) { return covers(c, p.key); });
      if (first != b.changes.end() && std::holds_alternative<put>(*first))
        creates_.insert(p.key);
      else if (claimed_keys_.insert(p.key).second)
        claimed.try_emplace(&t, t).first->second.add(std::move(*cells));
    }
    claimed_keys_.clear();
    statement gate{"insert into batch_log(node, seq) select $1::bigint, $2::bigint", {node_, seq_}};
    std::string conditions;
    auto require = [&](const std::string& text, std::vector<std::string> args) {
      conditions += (conditions.empty() ? " where " : " and ") + text;
      std::move(args.begin(), args.end(), std::back_inserter(gate.args));
    };
    for (auto& [t, wanted] : versions) {
      auto args = arrays(*t, wanted.first);
      args.push_back(wire::numbers(wanted.second));
      require(all_.of(*t).has_versions(gate.args.size() + 1), std::move(args));
    }
    for (auto& [t, keys] : absent)
      require(all_.of(*t).are_absent(gate.args.size() + 1), arrays(*t, keys));
    gate.text += conditions;
    body_.push_back(std::move(gate));
    for (auto& [t, keys] : claimed) {
      push(all_.of(*t).claim, arrays(*t, keys));
      push(all_.of(*t).erase, arrays(*t, keys));
    }
  }

  void add(const change& c, std::optional<prepared_put>& ready) {
    if (auto* r = std::get_if<erase_range>(&c)) {
      flush();
      out_.has_ranges = true;
      for (auto* t : tables_in(all_.tables(), {r->from, r->until}))
        if (auto where = condition(*t, {r->from, r->until}, 3))
          push(all_.of(*t).erase_where(where->text), std::move(where->args));
      return;
    }
    auto& key = std::holds_alternative<put>(c) ? std::get<put>(c).key : std::get<erase>(c).key;
    if (!touched_.insert(key).second) {
      flush();
      touched_.insert(key);
    }
    auto& t = all_.tables().of_key(key);
    if (!ready) {
      if (auto cells = t.key_cells(key))
        buckets_[&t].erases.emplace(key, std::move(*cells));
      return;
    }
    auto& to = buckets_[&t];
    (creates_.erase(key) > 0 ? to.creates : to.puts).emplace(key, std::move(*ready));
  }

  /// Changes of different keys since the last time: one statement for each table and kind, in any order.
  void flush() {
    for (auto& [t, b] : buckets_) {
      auto& s = all_.of(*t);
      put_all(*t, s.create, b.creates);
      put_all(*t, s.upsert, b.puts);
      key_rows gone{*t};
      for (auto& [key, cells] : b.erases)
        gone.add(std::move(cells));
      if (!gone.is_empty())
        push(s.erase, arrays(*t, gone));
    }
    buckets_.clear();
    touched_.clear();
  }

  void put_all(const sql_table& t, const std::string& text, std::map<std::string, prepared_put>& puts) {
    key_rows keys{t};
    std::vector<std::vector<cell>> values;
    for (auto& [key, p] : puts) {
      keys.add(std::move(p.key));
      values.push_back(std::move(p.value));
    }
    if (keys.is_empty())
      return;
    auto args = arrays(t, keys);
    auto more = arrays(t, values);
    std::move(more.begin(), more.end(), std::back_inserter(args));
    push(text, std::move(args));
  }

  void push(const std::string& text, std::vector<std::string> args) {
    statement s{text, {node_, seq_}};
    std::move(args.begin(), args.end(), std::back_inserter(s.args));
    body_.push_back(std::move(s));
  }

  const catalogue& all_;
  const std::string node_;
  std::string seq_;
  group out_;
  std::vector<statement> body_;
  std::map<const sql_table*, key_rows, by_id> guarded_;
  std::map<const sql_table*, bucket, by_id> buckets_;
  std::unordered_set<std::string> touched_, creates_, claimed_keys_;
  bool is_shared_ = false; // the last unit takes more batches
  bool is_durable_ = false;
};

} // namespace

group compile(const catalogue& c, std::span<const batch> batches, std::span<const std::size_t> which, std::int64_t node, std::int64_t& seq,
              std::int64_t clean_below) {
  compiler to{c, node};
  for (auto i : which)
    to.add(batches[i], i, seq);
  return to.take(clean_below);
}

} // namespace storage::sql
