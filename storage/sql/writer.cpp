// Group, outcome, and what to do without one.
#include "storage/sql/writer.hpp"
#include "base/log.hpp"
#include "base/random.hpp"
#include "storage/committer.hpp"
#include "storage/sql/reader.hpp"
#include "storage/sql/wire.hpp"
#include <algorithm>
#include <thread>

namespace storage::sql {

namespace {
constexpr std::size_t most_batches = 256, most_bytes = 1u << 20; // of one transaction: locks are held for so long
constexpr int most_attempts = 5;                                 // of a group that others got in the way of
constexpr std::int64_t clean_every = 512;                        // ids; they go with the next group
constexpr auto tidy_every = std::chrono::hours{1};
constexpr std::size_t most_told = 4'096;
constexpr int ranges_take = 6; // times the deadline: removing a host may touch very many rows
} // namespace

writer::writer(const catalogue& c, pool& p, base::duration deadline)
  : all_(c), pool_(p), deadline_(deadline), node_(static_cast<std::int64_t>(base::secure_random{}.number() >> 1)), next_tidy_(base::steady::now()),
    unknown_(base::metrics::make_counter("covey_database_unknown_total", "Transactions whose answer was lost; what became of each was looked up.")),
    again_(base::metrics::make_counter("covey_database_again_total", "Transactions that were done again because others got in their way.")) {}

void writer::use(std::unique_ptr<connection> c) {
  std::lock_guard guard{mutex_};
  connection_ = std::move(c);
}

std::vector<outcome> writer::commit(std::span<const batch> batches) {
  std::lock_guard guard{mutex_};
  std::vector<outcome> out(batches.size(), outcome::unavailable);
  std::vector<std::size_t> some;
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < batches.size(); ++i) {
    auto size = size_of(batches[i]);
    if (!some.empty() && (some.size() == most_batches || bytes + size > most_bytes)) {
      commit_some(batches, some, out);
      some.clear();
      bytes = 0;
    }
    some.push_back(i);
    bytes += size;
  }
  if (!some.empty())
    commit_some(batches, some, out);
  if (!batches.empty())
    tidy();
  return out;
}

void writer::commit_some(std::span<const batch> batches, std::span<const std::size_t> which, std::vector<outcome>& out) {
  auto until = base::steady::now() + pool_.patience();
  for (int attempt = 1;; ++attempt) {
    if (!connect(until))
      return; // unavailable: nothing of it was done, for good
    auto clean_below = next_ - cleaned_ >= clean_every ? next_ : 0; // all before have their answers
    auto g = compile(all_, batches, which, node_, next_, clean_below);
    for (auto& [i, o] : g.decided)
      out[i] = o;
    if (g.units.empty())
      return;
    auto r = connection_->run(g.statements, base::steady::now() + deadline_ * (g.has_ranges ? ranges_take : 1));
    bool is_committed = r && r->is_ok() && r->all.size() == g.statements.size() && r->all.back().tag == "COMMIT";
    if (!r || is_going_away(r->state) || (is_committed && r->has_warning)) {
      lose(!r ? "no answer" : r->is_ok() ? "the server warned on commit" : r->state);
      unknown_.add();
      if (after_loss(g, batches, until, out) != verdict::not_committed)
        return;
      continue; // it never will be: the same again, under new ids
    }
    if (is_committed) {
      if (clean_below > 0)
        cleaned_ = clean_below;
      for (auto& u : g.units)
        for (auto i : u.batches)
          out[i] = r->all[u.gate].affected == 1 ? outcome::done : outcome::conflict;
      return;
    }
    statement rollback{"rollback", {}};
    if (!connection_->run({&rollback, 1}, base::steady::now() + deadline_))
      lose("no answer to a rollback"); // which needs none: what is open there ends with the connection
    if (is_worth_again(r->state) && attempt < most_attempts) {
      again_.add();
      std::this_thread::sleep_for(std::chrono::milliseconds{attempt * attempt});
      continue;
    }
    if (which.size() > 1) { // only the bad one is to fail
      for (auto& i : which)
        commit_some(batches, {&i, 1}, out);
      return;
    }
    // a row that comes again and again between the look and the write is a conflict like any other
    out[which.front()] = is_worth_again(r->state) ? outcome::conflict : told_error(*r) == errc::corrupt ? outcome::corrupt : outcome::unavailable;
    return;
  }
}

bool writer::connect(base::time_point until) {
  for (;;) {
    if (!connection_)
      connection_ = pool_.open(until);
    if (!connection_)
      return false;
    if (lost_.empty())
      return true;
    std::vector<std::int64_t> seqs;
    for (auto& u : lost_)
      seqs.push_back(u.seq);
    if (auto done = settle(seqs)) {
      for (std::size_t i = 0; i < lost_.size(); ++i)
        remember(lost_[i], (*done)[i]);
      lost_.clear();
      return true;
    }
    if (base::steady::now() >= until)
      return false;
  }
}

std::optional<std::vector<bool>> writer::settle(const std::vector<std::int64_t>& seqs) {
  auto node = wire::number(node_), all = wire::numbers(seqs);
  // The insert waits for a transaction of the old connection that still runs. The update changes nothing, but makes this
  // transaction one that writes: its commit is then no earlier on the standby's disk than what it tells of.
  statement todo[]{{"begin", {}},
                   {"insert into batch_log(node, seq, state) select $1::bigint, s, 0 from unnest($2::bigint[]) s order by s on conflict (node, seq) do nothing", {node, all}},
                   {"update batch_log set state = state where node = $1::bigint and seq = any($2::bigint[]) returning seq, state::bigint", {node, all}},
                   {"commit", {}}};
  auto r = connection_->run(todo, base::steady::now() + deadline_);
  if (!r || !r->is_ok() || r->has_warning || r->all.back().tag != "COMMIT" || r->all[2].rows.size() != seqs.size()) {
    lose(!r ? "no answer" : r->is_ok() ? "the server warned on commit" : r->state);
    return std::nullopt;
  }
  std::map<std::int64_t, bool> states;
  for (auto& row : r->all[2].rows)
    states[wire::read_number(row[0]).value_or(0)] = wire::read_number(row[1]) == 1;
  std::vector<bool> out;
  for (auto s : seqs)
    out.push_back(states[s]);
  return out;
}

writer::verdict writer::after_loss(const group& g, std::span<const batch> batches, base::time_point until, std::vector<outcome>& out) {
  std::vector<std::int64_t> seqs;
  for (auto& u : g.units)
    seqs.push_back(u.seq);
  while (base::steady::now() < until) {
    if (!connect(until))
      break;
    auto done = settle(seqs);
    if (!done)
      continue;
    bool is_any = std::find(done->begin(), done->end(), true) != done->end();
    base::log::info("storage.settled", "the answer to a commit was lost; now it is known", {{"committed", is_any ? "yes" : "no"}});
    if (!is_any)
      return verdict::not_committed;
    for (std::size_t i = 0; i < seqs.size(); ++i) // one transaction: those without an id did not hold
      for (auto b : g.units[i].batches)
        out[b] = (*done)[i] ? outcome::done : outcome::conflict;
    return verdict::committed;
  }
  for (auto& u : g.units) {
    auto& l = lost_.emplace_back();
    l.seq = u.seq;
    for (auto b : u.batches) {
      out[b] = outcome::unknown;
      if (batches[b].id)
        l.ids.push_back(batches[b].id);
    }
  }
  return verdict::unknown;
}

void writer::remember(const lost_unit& u, bool is_done) {
  for (auto& id : u.ids) {
    if (!told_.insert_or_assign({id.a, id.b}, is_done).second)
      continue;
    told_order_.emplace_back(id.a, id.b);
    if (told_order_.size() > most_told) {
      told_.erase(told_order_.front());
      told_order_.pop_front();
    }
  }
}

base::result<bool, errc> writer::resolve(base::u128 id) {
  std::lock_guard guard{mutex_};
  bool is_lost = std::any_of(lost_.begin(), lost_.end(), [&](auto& u) { return std::find(u.ids.begin(), u.ids.end(), id) != u.ids.end(); });
  if (is_lost && !connect(base::steady::now()))
    return base::fail(errc::unavailable);
  auto i = told_.find({id.a, id.b});
  if (i == told_.end())
    return base::fail(errc::conflict);
  return i->second;
}

void writer::lose(const std::string& why) {
  connection_ = nullptr;
  pool_.note_lost(why);
}

/// Ids of nodes that ended, and tombstones: a day is longer than any old connection lives.
void writer::tidy() {
  auto now = base::steady::now();
  if (!connection_ || now < next_tidy_)
    return;
  statement s{"delete from batch_log where (node, seq) in (select node, seq from batch_log where at < now() - interval '1 day' limit 10000)", {}};
  auto r = connection_->run({&s, 1}, now + deadline_);
  if (!r)
    return lose("no answer");
  bool is_more = r->is_ok() && r->all.front().affected == 10'000;
  next_tidy_ = is_more ? now : now + tidy_every; // the rest with the next commits
}

} // namespace storage::sql
