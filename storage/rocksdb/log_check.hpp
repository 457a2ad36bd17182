// RocksDB's logs (write-ahead log and manifest), read record by record before RocksDB reads them.
#pragma once
#include "base/result.hpp"
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace storage {

/// Called with the first 12 bytes (or fewer) of each whole record. In a write-ahead log these are sequence
/// number (8) and number of changes (4), little endian.
using on_log_record = std::function<void(std::string_view head)>;

/// Accepts a log that ends as a writer leaves it which died while it wrote its last record: in the
/// middle of that record, or in zeros. Anything else that does not add up is an error: a text with the
/// offset. RocksDB itself takes a damaged length within the last 32 KiB for such an end.
[[nodiscard]] base::result<void, std::string> check_log(std::string_view bytes, const on_log_record& each = {});

/// The same for a file; the text begins with its name. Errors also: not readable.
[[nodiscard]] base::result<void, std::string> check_log_file(const std::string& path, const on_log_record& each = {});

} // namespace storage
