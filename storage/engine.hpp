// What holds all tables. Nothing above storage/ knows which engine it is (docs/storage.md).
#pragma once
#include "base/bytes.hpp"
#include "base/result.hpp"
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace storage {

enum class errc : std::uint8_t {
  conflict,    // a precondition did not hold; read again
  unknown,     // the connection broke while committing; see engine::resolve
  unavailable, // the engine or its disk is out of reach or full
  corrupt,     // bytes on disk are not what was written
  overloaded,  // the committer's queue is full
};
/// One per batch. `done` means durable (or, for a relaxed batch, applied).
enum class outcome : std::uint8_t { done, conflict, unknown, unavailable, corrupt, overloaded };

/// Every row carries the version of its last write: 1 when inserted, one more each time.
using version = std::uint64_t;

struct row {
  std::string key;   // whole key, table prefix included
  std::string value; // encoded record
  storage::version version = 0;
};

struct put { std::string key, value; };
struct erase { std::string key; };
struct erase_range { std::string from, until; }; // until is not included
using change = std::variant<put, erase, erase_range>;

/// `expected` 0: the row must be absent.
struct precondition { std::string key; storage::version expected = 0; };

enum class durability : std::uint8_t { durable, relaxed };

/// Applied whole or not at all.
struct batch {
  base::u128 id;
  std::vector<change> changes;
  std::vector<precondition> preconditions;
  storage::durability durability = durability::durable;
};

struct key_range { std::string from, until; }; // until is not included
enum class order : std::uint8_t { forward, reverse };

/// Calls block, but scan_in_memory(): they run on the committer's thread or the storage pool, never on a reactor.
class engine {
public:
  virtual ~engine() = default;
  /// One outcome a batch. In order; a later batch sees what an earlier one of the same call did. A
  /// batch that fails leaves the others alone.
  [[nodiscard]] virtual std::vector<outcome> commit(std::span<const batch> batches) = 0;
  /// Errors of get and scan: unavailable, corrupt.
  [[nodiscard]] virtual base::result<std::optional<row>, errc> get(std::string_view key) = 0;
  /// At most `limit` rows in key order, or from the end backwards; of one moment.
  [[nodiscard]] virtual base::result<std::vector<row>, errc> scan(const key_range& range, order o, std::size_t limit) = 0;
  /// The same where memory alone has the answer, in microseconds: on any thread, reactors too. Null: ask scan(). Never
  /// an error: scan() has it.
  [[nodiscard]] virtual std::optional<std::vector<row>> scan_in_memory(const key_range&, order, std::size_t /*limit*/) { return std::nullopt; }
  /// Whether the batch with this id, whose outcome was unknown, took place. If it did not, it never
  /// will from now on. Errors: conflict (this engine never answers `unknown`, so it keeps no ids),
  /// unavailable (ask again).
  [[nodiscard]] virtual base::result<bool, errc> resolve(base::u128 batch_id) = 0;
  /// A consistent copy as files under `folder`. Errors: unavailable.
  [[nodiscard]] virtual base::result<void, errc> snapshot(const std::string& folder) = 0;
};

} // namespace storage
