// The database that all nodes share: storage::memory_engine behind a delay, away at times, and answers that are lost. Each
// process has a store of its own to it.
#pragma once
#include "storage/memory/engine.hpp"
#include "storage/store.hpp"
#include "storage/tables.hpp"
#include "tests/sim_nodes/history.hpp"
#include <algorithm>
#include <deque>

namespace sim_nodes {

class database {
public:
  explicit database(world& w, std::size_t nodes) : cut_off(nodes), world_(w) {}
  [[nodiscard]] bool is_away(std::size_t node) const { return is_down || cut_off[node]; }
  storage::memory_engine engine;
  bool is_down = false;
  std::vector<bool> cut_off;     // that node does not reach it
  duration slowest = 3ms;        // one way
  duration patience = 3s;        // so long a store tries when it is away
  unsigned unknown_percent = 0;  // of the answers

private:
  friend class node_store;
  world& world_;
};

/// Batches in order, each by itself; reads when their time comes. Nothing is answered once the process is over, and of what
/// waited then some is done, as it happens.
class node_store final : public storage::store {
public:
  /// `at_process` runs an answer, at once or when the process goes on.
  node_store(database& d, std::size_t node, std::function<void(std::function<void()>)> at_process)
    : d_(d), node_(node), at_process_(std::move(at_process)) {}
  ~node_store() override {
    *lives_ = false;
    if (!d_.is_away(node_))
      for (auto n = world().luck.below(queue_.size() + 1); n > 0; --n, queue_.pop_front())
        (void)d_.engine.commit({&queue_.front().what, 1});
  }
  storage::engine& blocking() override { return d_.engine; }

private:
  struct waiting { storage::batch what; storage::answer_to whom; time_point due, until; };

  void do_submit(storage::batch b, storage::answer_to whom) override {
    last_ = std::max(last_ + 1ns, world().now() + delay());
    queue_.push_back({std::move(b), std::move(whom), last_, world().now() + d_.patience});
    if (queue_.size() == 1)
      look_at(last_);
  }
  void look_at(time_point t) {
    world().at(t, [this, lives = lives_] {
      if (*lives)
        commit();
    });
  }
  void commit() {
    while (!queue_.empty() && queue_.front().due <= world().now()) {
      bool is_away = d_.is_away(node_);
      if (is_away && world().now() < queue_.front().until)
        return look_at(world().now() + again);
      auto [b, whom, due, until] = std::move(queue_.front());
      queue_.pop_front();
      auto how = is_away ? storage::outcome::unavailable : d_.engine.commit({&b, 1}).front();
      trace(b, how);
      if ((how == storage::outcome::done || how == storage::outcome::unavailable) && d_.unknown_percent && world().luck.percent(d_.unknown_percent))
        how = storage::outcome::unknown;
      answer([then = std::move(whom.then), how] {
        if (then)
          then(how);
      });
    }
    if (!queue_.empty())
      look_at(queue_.front().due);
  }
  void trace(const storage::batch& b, storage::outcome how) const {
    if (!world().traces())
      return;
    for (auto& c : b.changes) {
      auto* p = std::get_if<storage::put>(&c);
      auto* e = std::get_if<storage::erase>(&c);
      auto& key = p ? p->key : e ? e->key : std::get<storage::erase_range>(c).from;
      if (key.starts_with(storage::tables::node_leases.id))
        continue; // each second
      auto text = key + (p ? ' ' + p->value : std::string{});
      std::ranges::replace_if(text, [](char x) { return x < ' ' || x > '~'; }, '.');
      world().trace("node%zu %s %s: outcome %d", node_, p ? "writes" : "erases", text.c_str(), static_cast<int>(how));
    }
  }
  void do_read(storage::read r) override { read_at(world().now() + delay(), world().now() + d_.patience, std::make_shared<storage::read>(std::move(r))); }
  void read_at(time_point t, time_point until, const std::shared_ptr<storage::read>& r) {
    world().at(t, [this, lives = lives_, until, r] {
      if (!*lives)
        return;
      bool is_away = d_.is_away(node_);
      if (is_away && world().now() < until)
        return read_at(world().now() + again, until, r);
      using rows = base::result<std::vector<storage::row>, storage::errc>;
      auto found = is_away ? rows{base::fail(storage::errc::unavailable)} : d_.engine.scan(r->range, r->direction, r->limit);
      answer([r, found = std::move(found)]() mutable {
        if (r->then)
          r->then(std::move(found));
      });
    });
  }
  template <class F>
  void answer(F f) {
    last_answer_ = std::max(last_answer_ + 1ns, world().now() + delay());
    auto shared = std::make_shared<F>(std::move(f));
    world().at(last_answer_, [this, lives = lives_, shared] {
      if (*lives)
        at_process_([shared] { (*shared)(); });
    });
  }
  [[nodiscard]] duration delay() const { return world().luck.between(50us, d_.slowest); }
  [[nodiscard]] sim_nodes::world& world() const { return d_.world_; }

  static constexpr auto again = 200ms;
  database& d_;
  const std::size_t node_;
  std::function<void(std::function<void()>)> at_process_;
  std::shared_ptr<bool> lives_ = std::make_shared<bool>(true);
  std::deque<waiting> queue_;
  time_point last_{}, last_answer_{};
};

} // namespace sim_nodes
