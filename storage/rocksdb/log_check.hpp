// RocksDB's logs (write-ahead log and manifest), read record by record before RocksDB reads them.
#pragma once
#include "base/result.hpp"
#include <cstdint>
#include <string>
#include <string_view>

namespace storage {

/// Accepts a log that ends as a writer leaves it which died while it wrote its last record: in the
/// middle of that record, or in zeros. Anything else that does not add up is an error: a text with the
/// offset. RocksDB itself takes a damaged length within the last 32 KiB for such an end.
[[nodiscard]] base::result<void, std::string> check_log(std::string_view bytes);

/// The same for a file; the text begins with its name. Errors also: not readable.
[[nodiscard]] base::result<void, std::string> check_log_file(const std::string& path);

} // namespace storage
