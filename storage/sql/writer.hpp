// Commits: one connection, one caller at a time, and the ids of batches whose answer was lost.
#pragma once
#include "storage/sql/group.hpp"
#include "storage/sql/pool.hpp"
#include <deque>
#include <map>

namespace storage::sql {

class writer {
public:
  writer(const catalogue& c, pool& p, base::duration deadline);
  /// For the first commits.
  void use(std::unique_ptr<connection> c);
  /// As engine::commit.
  [[nodiscard]] std::vector<outcome> commit(std::span<const batch> batches);
  /// As engine::resolve.
  [[nodiscard]] base::result<bool, errc> resolve(base::u128 id);

private:
  struct lost_unit { std::int64_t seq; std::vector<base::u128> ids; };
  enum class verdict { committed, not_committed, unknown };

  void commit_some(std::span<const batch> batches, std::span<const std::size_t> which, std::vector<outcome>& out);
  /// A connection on which nothing is unresolved; waits. False: there is none in time.
  bool connect(base::time_point until);
  /// Decides for good what became of these: their ids are written as tombstones where they are not there.
  std::optional<std::vector<bool>> settle(const std::vector<std::int64_t>& seqs);
  verdict after_loss(const group& g, std::span<const batch> batches, base::time_point until, std::vector<outcome>& out);
  void remember(const lost_unit& u, bool is_done);
  void lose(const std::string& why);
  void tidy();

  const catalogue& all_;
  pool& pool_;
  const base::duration deadline_;
  std::mutex mutex_; // of all that follows
  std::unique_ptr<connection> connection_;
  const std::int64_t node_; // of this engine alone
  std::int64_t next_ = 1, cleaned_ = 1; // seqs; below `cleaned_` no committed one is in batch_log
  std::vector<lost_unit> lost_;         // unresolved; nothing is written before they are not
  std::map<std::pair<std::uint64_t, std::uint64_t>, bool> told_; // resolved ids whose outcome was `unknown`
  std::deque<std::pair<std::uint64_t, std::uint64_t>> told_order_;
  base::time_point next_tidy_;
  base::metrics::counter &unknown_, &again_;
};

} // namespace storage::sql
