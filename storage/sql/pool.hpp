// Connections to one database, shared by all that use it: each belongs to one thread at a time.
#pragma once
#include "base/metrics.hpp"
#include "storage/sql/connection.hpp"
#include <condition_variable>
#include <functional>
#include <mutex>

namespace storage::sql {

using parameters = std::vector<std::pair<std::string, std::string>>;

/// Any thread. While the database is away one attempt to connect a quarter of a second is made, by whoever asks; after
/// `patience` nobody waits any more.
class pool {
public:
  pool(parameters to, std::size_t size, base::duration patience);

  /// A connection for as long as it lives.
  class lease {
  public:
    lease(pool& p, std::unique_ptr<connection>* slot) : pool_(&p), slot_(slot) {}
    lease(lease&& other) noexcept : pool_(std::exchange(other.pool_, nullptr)), slot_(other.slot_) {}
    lease(const lease&) = delete;
    lease& operator=(const lease&) = delete;
    lease& operator=(lease&&) = delete;
    ~lease() {
      if (pool_)
        pool_->give_back(slot_);
    }
    connection& operator*() const { return **slot_; }
    connection* operator->() const { return slot_->get(); }

  private:
    pool* pool_;
    std::unique_ptr<connection>* slot_;
  };

  /// Waits for a free one, and for the database, until then at the longest. Nothing: not in time, or the database has been
  /// away for longer than `patience` and still is.
  [[nodiscard]] std::optional<lease> take(base::time_point until);
  /// The writer's: its own, kept by whoever asks; waits likewise. Null as above.
  [[nodiscard]] std::unique_ptr<connection> open(base::time_point until);
  /// One attempt, at once; also at the start. Errors: libpq's text.
  [[nodiscard]] base::result<std::unique_ptr<connection>, std::string> try_open();
  /// A connection was lost with this.
  void note_lost(const std::string& why);
  [[nodiscard]] base::duration patience() const { return patience_; }

private:
  void give_back(std::unique_ptr<connection>* slot);
  /// Whether somebody may try now; if not, when.
  bool may_try(base::time_point& next);
  void note(const base::result<std::unique_ptr<connection>, std::string>& made);

  const parameters parameters_;
  const base::duration patience_;
  std::mutex mutex_;
  std::condition_variable free_;
  std::vector<std::unique_ptr<connection>> slots_; // null: not connected
  std::vector<std::unique_ptr<connection>*> idle_;
  std::optional<base::time_point> away_since_;
  base::time_point next_try_{};
  base::metrics::counter& connects_;
  base::metrics::counter& lost_;
  base::metrics::gauge& is_up_;
};

/// What covey wants of each connection, whatever the role's own settings are. Nothing: it was lost.
[[nodiscard]] bool set_up(connection& c, base::time_point deadline);

} // namespace storage::sql
