// What wrote a database, and how an older one becomes a new one.
#pragma once
#include "storage/engine.hpp"

namespace storage::tables {

inline constexpr std::uint32_t schema_version = 1;

/// From version `to - 1`. It fills a batch (read through `e` what it needs); the new version is written
/// in the same batch, so a step that was interrupted is done again whole. Errors: a text for the operator.
struct migration {
  std::uint32_t to;
  std::function<base::result<std::vector<change>, std::string>(engine& e)> step;
};

/// What this covey is: its version and the steps that lead to it, in order.
struct schema_target {
  std::uint32_t version = schema_version;
  std::uint32_t jid_profile;
  std::vector<migration> steps;
};
[[nodiscard]] schema_target current_schema();

/// Writes the schema row into an empty database; checks it otherwise, and migrates an older one. Blocks:
/// at start only, before anything else is written. Errors: a text for the operator (written by a newer
/// covey, or with another JID profile; rows without a schema row; not readable, not writable).
[[nodiscard]] base::result<void, std::string> check_schema(engine& e, const schema_target& to = current_schema());

} // namespace storage::tables
