// Who may connect, and when.
#include "storage/sql/pool.hpp"
#include "base/log.hpp"
#include <thread>

namespace storage::sql {

namespace {
constexpr auto pause = std::chrono::milliseconds{250};
constexpr auto set_up_time = std::chrono::seconds{5};
} // namespace

bool set_up(connection& c, base::time_point deadline) {
  // Array arguments would be planned anew each time (2 to 3 times the server's work); a plan made while a table was small
  // would scan it for ever; and costs that seem high would start the compiler. Other servers may not know these settings.
  for (auto* text : {"set plan_cache_mode = force_generic_plan", "set enable_seqscan = off", "set enable_bitmapscan = off", "set enable_hashjoin = off",
                     "set enable_mergejoin = off", "set jit = off", "set default_transaction_isolation = 'read committed'",
                     "set idle_in_transaction_session_timeout = '30s'", "set statement_timeout = 0"})
    if (!c.set(text, deadline))
      return false;
  // durable means durable, whatever somebody made the role's default
  statement ask{"select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'", {}};
  return c.run({&ask, 1}, deadline).has_value();
}

pool::pool(parameters to, std::size_t size, base::duration patience)
  : parameters_(std::move(to)), patience_(patience), slots_(size),
    connects_(base::metrics::make_counter("covey_database_connects_total", "Connections to a database that were made.")),
    lost_(base::metrics::make_counter("covey_database_lost_total", "Connections to a database that were lost.")),
    is_up_(base::metrics::make_gauge("covey_database_up", "Whether the database was there when it was last needed.")) {
  for (auto& s : slots_)
    idle_.push_back(&s);
}

bool pool::may_try(base::time_point& next) {
  std::lock_guard guard{mutex_};
  auto now = base::steady::now();
  next = next_try_;
  if (away_since_ && now < next_try_)
    return false;
  next_try_ = now + pause;
  return true;
}

void pool::note_lost(const std::string& why) {
  lost_.add();
  base::log::warning("storage.connection_lost", "a connection to the database was lost", {{"error", why}});
}

void pool::note(const base::result<std::unique_ptr<connection>, std::string>& made) {
  std::lock_guard guard{mutex_};
  is_up_.set(made ? 1 : 0);
  if (made) {
    connects_.add();
    if (away_since_)
      base::log::info("storage.database_back", "the database is there again", {{"peer", (*made)->peer()}});
    away_since_.reset();
    return;
  }
  next_try_ = base::steady::now() + pause;
  if (!away_since_) {
    away_since_ = base::steady::now();
    base::log::error("storage.database_away", "the database cannot be reached", {{"error", made.error()}});
  }
}

base::result<std::unique_ptr<connection>, std::string> pool::try_open() {
  auto made = connection::open(parameters_);
  if (made && !set_up(**made, base::steady::now() + set_up_time))
    made = base::fail(std::string{"the connection was lost as soon as it was made"});
  note(made);
  return made;
}

std::unique_ptr<connection> pool::open(base::time_point until) {
  for (;;) {
    base::time_point next;
    if (may_try(next)) {
      if (auto made = try_open())
        return std::move(*made);
      continue;
    }
    {
      std::lock_guard guard{mutex_};
      if (away_since_)
        until = std::min(until, std::max(*away_since_ + patience_, base::steady::now()));
    }
    if (next >= until)
      return nullptr;
    std::this_thread::sleep_until(next);
  }
}

std::optional<pool::lease> pool::take(base::time_point until) {
  std::unique_ptr<connection>* slot = nullptr;
  {
    std::unique_lock guard{mutex_};
    if (!free_.wait_until(guard, until, [&] { return !idle_.empty(); }))
      return std::nullopt;
    slot = idle_.back();
    idle_.pop_back();
  }
  lease l{*this, slot};
  if (!*slot || (*slot)->is_lost())
    *slot = nullptr;
  if (!*slot && !(*slot = open(until)))
    return std::nullopt;
  return l;
}

void pool::give_back(std::unique_ptr<connection>* slot) {
  if (*slot && (*slot)->is_lost())
    *slot = nullptr;
  {
    std::lock_guard guard{mutex_};
    idle_.push_back(slot);
  }
  free_.notify_one();
}

} // namespace storage::sql
