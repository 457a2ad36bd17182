// Group commit, readers, and answers by groups: with threads and without.
#include "storage/store.hpp"
#include "storage/table.hpp"
#include "tests/storage/engines.hpp"
#include <atomic>
#include <future>

using namespace storage;
using namespace storage::testing;

namespace {
/// A memory engine whose commits and reads wait at a gate, and which remembers the groups it got.
class gated final : public engine {
public:
  std::vector<outcome> commit(std::span<const batch> b) override {
    pass();
    {
      std::lock_guard guard{mutex_};
      groups_.push_back(b.size());
    }
    if (throws)
      throw std::runtime_error{"engine"};
    return rows.commit(b);
  }
  base::result<std::optional<row>, errc> get(std::string_view k) override { return rows.get(k); }
  base::result<std::vector<row>, errc> scan(const key_range& r, order o, std::size_t n) override {
    pass();
    if (throws)
      throw std::runtime_error{"engine"};
    return rows.scan(r, o, n);
  }
  base::result<bool, errc> resolve(base::u128 id) override { return rows.resolve(id); }
  base::result<void, errc> snapshot(const std::string& f) override { return rows.snapshot(f); }

  void close_gate() {
    std::lock_guard guard{mutex_};
    is_open_ = false;
  }
  void open_gate() {
    std::lock_guard guard{mutex_};
    is_open_ = true;
    changed_.notify_all();
  }
  /// Until so many calls stand at the gate.
  void await_calls(int n) {
    std::unique_lock guard{mutex_};
    changed_.wait(guard, [&] { return at_gate_ >= n; });
  }
  std::vector<std::size_t> groups() {
    std::lock_guard guard{mutex_};
    return groups_;
  }
  memory_engine rows;
  std::atomic<bool> throws{false};

private:
  void pass() {
    std::unique_lock guard{mutex_};
    ++at_gate_;
    changed_.notify_all();
    changed_.wait(guard, [&] { return is_open_; });
    --at_gate_;
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::size_t> groups_;
  int at_gate_ = 0;
  bool is_open_ = true;
};

/// Counts posts, and runs what it got only when asked: like a reactor.
class target final : public completion_target {
public:
  void post(std::vector<std::function<void()>> answers) override {
    std::lock_guard guard{mutex_};
    sizes.push_back(answers.size());
    for (auto& a : answers)
      waiting_.push_back(std::move(a));
    more_.notify_all();
  }
  /// Runs the first `n` answers, waiting for them.
  void run(std::size_t n) {
    for (; n > 0; --n) {
      std::function<void()> next;
      {
        std::unique_lock guard{mutex_};
        more_.wait(guard, [&] { return !waiting_.empty(); });
        next = std::move(waiting_.front());
        waiting_.pop_front();
      }
      next();
    }
  }
  std::vector<std::size_t> sizes; // with run() of all, or stopped
private:
  std::mutex mutex_;
  std::condition_variable more_;
  std::deque<std::function<void()>> waiting_;
};

struct under_test {
  gated* gate;
  std::unique_ptr<threaded_store> store;
  explicit under_test(store_limits l = {}) {
    auto e = std::make_unique<gated>();
    gate = e.get();
    store = std::make_unique<threaded_store>(std::move(e), l);
  }
};
batch one(int n) { return make({put{"k" + std::to_string(n), std::to_string(n)}}); }
} // namespace

TEST_CASE("committer: what waits while one commit runs is the next group, answered in order with one post a target") {
  under_test t;
  target a, b;
  t.gate->close_gate();
  std::vector<int> order;
  t.store->submit(one(0), [&](outcome) { order.push_back(0); }, &a);
  t.gate->await_calls(1); // the first one is on its way alone
  for (int n = 1; n <= 40; ++n)
    t.store->submit(one(n), [&, n](outcome o) {
      CHECK(o == outcome::done);
      order.push_back(n);
    }, n % 4 == 0 ? &b : &a);
  t.gate->open_gate();
  a.run(31);
  b.run(10);
  CHECK(t.gate->groups() == std::vector<std::size_t>{1, 40});
  CHECK(a.sizes == std::vector<std::size_t>{1, 30});
  CHECK(b.sizes == std::vector<std::size_t>{10});
  std::vector<int> expected{0};
  for (int n = 1; n <= 40; ++n)
    if (n % 4)
      expected.push_back(n);
  for (int n = 4; n <= 40; n += 4)
    expected.push_back(n);
  CHECK(order == expected);
}

TEST_CASE("committer: groups are bounded by count and by bytes; a batch larger than that goes alone") {
  store_limits l;
  l.group = 8;
  l.group_bytes = 10'000;
  under_test t{l};
  target a;
  t.gate->close_gate();
  auto submit = [&](std::size_t bytes) { t.store->submit(make({put{"k", std::string(bytes, 'x')}}), [](outcome o) { CHECK(o == outcome::done); }, &a); };
  submit(1);
  t.gate->await_calls(1);
  for (int i = 0; i < 20; ++i)
    submit(1);
  submit(3'000), submit(50'000), submit(3'000), submit(3'000), submit(3'000), submit(3'000);
  t.gate->open_gate();
  a.run(27);
  auto groups = t.gate->groups();
  // 1, then 8 + 8, 4 small ones with the first large, the huge one alone, and the rest
  CHECK(groups == std::vector<std::size_t>{1, 8, 8, 5, 1, 3, 1});
  CHECK(get(t.gate->rows, "k")->version == 27);
}

TEST_CASE("committer: more than the queue takes is overloaded at once; later there is room again") {
  for (bool by_bytes : {false, true}) {
    CAPTURE(by_bytes);
    store_limits l;
    if (by_bytes)
      l.most_bytes = 4 * size_of(one(1));
    else
      l.most_batches = 4;
    under_test t{l};
    target a, b;
    t.gate->close_gate();
    t.store->submit(one(0), [](outcome) {}, &a);
    t.gate->await_calls(1);
    std::vector<outcome> outcomes(6, outcome::unknown);
    for (int n = 0; n < 6; ++n)
      t.store->submit(one(n + 1), [&, n](outcome o) { outcomes[static_cast<std::size_t>(n)] = o; }, n < 4 ? &b : nullptr);
    using enum outcome;
    CHECK(outcomes == std::vector<outcome>{unknown, unknown, unknown, unknown, overloaded, overloaded}); // told in the call
    t.gate->open_gate();
    a.run(1);
    b.run(4);
    CHECK(outcomes[3] == done);
    std::promise<outcome> again;
    t.store->submit(one(9), [&](outcome o) { again.set_value(o); });
    CHECK(again.get_future().get() == done);
    CHECK(t.gate->rows.rows() == 6);
  }
}

TEST_CASE("committer: each batch gets its own outcome") {
  under_test t;
  target a;
  std::vector<outcome> outcomes;
  auto keep = [&](outcome o) { outcomes.push_back(o); };
  t.gate->close_gate();
  t.store->submit(one(0), keep, &a);
  t.gate->await_calls(1);
  t.store->submit(make({put{"x", "1"}}, {{"x", 0}}), keep, &a);
  t.store->submit(make({put{"x", "2"}}, {{"x", 0}}), keep, &a);
  t.store->submit(one(1), keep, &a);
  t.store->submit(one(2), {}); // nobody asks
  t.gate->open_gate();
  a.run(4);
  using enum outcome;
  CHECK(outcomes == std::vector<outcome>{done, done, conflict, done});
  t.gate->throws = true; // an engine that breaks: nobody knows
  t.store->submit(one(3), keep, &a);
  a.run(1);
  CHECK(outcomes.back() == unknown);
  t.gate->throws = false;
  t.store->submit(one(3), keep, &a);
  a.run(1);
  CHECK(outcomes.back() == done);
}

TEST_CASE("committer: a continuation that throws hurts nobody else") {
  under_test t;
  std::promise<outcome> second;
  t.store->submit(one(1), [](outcome) { throw std::runtime_error{"continuation"}; });
  t.store->submit(one(2), [&](outcome o) { second.set_value(o); });
  CHECK(second.get_future().get() == outcome::done);
}

TEST_CASE("store: stopping commits and answers what was submitted, refuses what comes then") {
  std::atomic<int> done{0}, overloaded{0}, read{0};
  under_test t;
  auto* s = t.store.get();
  t.gate->close_gate();
  for (int n = 0; n < 3'000; ++n)
    s->submit(one(n), [&, s](outcome o) {
      CHECK(o == outcome::done);
      if (++done == 3'000) // by now it stops
        s->submit(one(9'999), [&](outcome late) { overloaded += late == outcome::overloaded; });
    });
  for (int n = 0; n < 100; ++n)
    s->scan({"k", "l"}, order::forward, 1, [&](auto rows) { read += rows.has_value(); });
  std::thread opener{[&] {
    std::this_thread::sleep_for(std::chrono::milliseconds{20});
    t.gate->open_gate();
  }};
  t.store = nullptr;
  opener.join();
  CHECK(done == 3'000);
  CHECK(read == 100);
  CHECK(overloaded == 1);
}

TEST_CASE("readers: rows, errors, one row, and too many at once") {
  store_limits l;
  l.most_reads = 3;
  l.readers = 1;
  under_test t{l};
  target a;
  REQUIRE(commit(t.gate->rows, make({put{"k1", "1"}, put{"k2", "2"}})) == outcome::done);
  std::string found;
  t.store->scan({"k", "l"}, order::reverse, 10, [&](auto rows) { found = text(rows); }, &a);
  a.run(1);
  CHECK(found == "k2=2@1 k1=1@1");
  std::optional<row> single;
  t.store->get("k1", [&](auto r) { single = r.value(); }, &a);
  a.run(1);
  REQUIRE(single);
  CHECK(single->value == "1");
  t.store->get("k9", [&](auto r) { single = r.value(); }, &a);
  a.run(1);
  CHECK_FALSE(single);

  t.gate->close_gate();
  std::vector<errc> errors;
  auto keep = [&](auto r) { if (!r) errors.push_back(r.error()); };
  t.store->scan({"k", "l"}, order::forward, 1, keep, &a);
  t.gate->await_calls(1);
  for (int i = 0; i < 3; ++i)
    t.store->scan({"k", "l"}, order::forward, 1, keep, &a);
  CHECK(errors.empty());
  t.store->scan({"k", "l"}, order::forward, 1, keep); // in the call
  CHECK(errors == std::vector<errc>{errc::overloaded});
  t.gate->open_gate();
  a.run(4);
  CHECK(a.sizes.back() == 3); // together, as they waited
  CHECK(errors.size() == 1);

  t.gate->rows.set_available(false);
  t.store->get("k1", keep, &a);
  a.run(1);
  t.gate->throws = true;
  t.store->get("k1", keep, &a);
  a.run(1);
  CHECK(errors == std::vector<errc>{errc::overloaded, errc::unavailable, errc::unavailable});
}

TEST_CASE_TEMPLATE("store: many threads; every caller's batches keep their order, every answer comes once", Kind, in_memory, on_rocksdb) {
  constexpr int callers = 4, each = 400;
  temporary_folder folder;
  auto engine = Kind::open(folder / "db");
  {
    threaded_store s{std::move(engine)};
    std::atomic<int> answers{0}, conflicts{0};
    std::vector<std::thread> threads;
    for (int c = 0; c < callers; ++c)
      threads.emplace_back([&, c] {
        target mine;
        auto key = "caller" + std::to_string(c);
        int told = 0;
        for (int n = 0; n < each; ++n) {
          // the version that the batch before left: holds only if order is kept
          s.submit(make({put{key, std::to_string(n)}, put{"shared", key}}, {{key, static_cast<version>(n)}}), [&, n](outcome o) {
            ++answers;
            conflicts += o != outcome::done;
            CHECK(told++ == n);
          }, &mine);
          if (n % 50 == 49)
            s.scan(only(key), order::forward, 1, [&](auto rows) {
              ++answers;
              conflicts += !rows.has_value();
            }, &mine);
        }
        mine.run(each + each / 50);
      });
    for (auto& t : threads)
      t.join();
    CHECK(answers == callers * (each + each / 50));
    CHECK(conflicts == 0);
    CHECK(get(s.blocking(), "shared")->version == callers * each);
  }
}

TEST_CASE("inline store: everything within the call, or through the target") {
  inline_store s{std::make_unique<memory_engine>()};
  outcome told = outcome::unknown;
  s.submit(one(1), [&](outcome o) { told = o; });
  CHECK(told == outcome::done);
  s.submit(one(2), {});
  std::string found;
  s.scan({"k", "l"}, order::forward, 10, [&](auto rows) { found = text(rows); });
  CHECK(found == "k1=1@1 k2=2@1");
  target a;
  s.submit(one(1), [&](outcome) { told = outcome::unknown; }, &a);
  CHECK(told == outcome::done);
  a.run(1);
  CHECK(told == outcome::unknown);
}

TEST_CASE("stepped store: nothing happens before the test says so") {
  auto e = std::make_unique<memory_engine>();
  auto& rows = *e;
  stepped_store s{std::move(e)};
  std::string log;
  for (int n = 0; n < 5; ++n)
    s.submit(one(n), [&, n](outcome o) { log += std::to_string(n) + (o == outcome::done ? "+" : "-"); });
  s.get("k0", [&](auto r) { log += r.value() ? "found" : "none"; });
  CHECK(log.empty());
  CHECK(s.waiting_batches() == 5);
  CHECK(s.read_one()); // before any commit
  CHECK(log == "none");
  CHECK(s.commit(2) == 2);
  CHECK(log == "none0+1+");
  rows.fail_next(1, outcome::unavailable);
  CHECK(s.commit() == 3);
  CHECK(log == "none0+1+2-3+4+");
  CHECK(rows.commit_calls() == 2);
  CHECK(s.commit() == 0);
  CHECK_FALSE(s.read_one());
  // an answer that asks again
  s.submit(one(7), [&](outcome) { s.get("k7", [&](auto r) { log = r.value().value().value; }); });
  s.step();
  CHECK(log == "7");
  CHECK(s.waiting_batches() + s.waiting_reads() == 0);
}
