// Accounts as a file of XEP-0227 1.1, out of a running server and into it.
#pragma once
#include "server/transfer/reader.hpp"
#include <map>
#include <memory>
#include <set>

namespace server {
class runner;
}

namespace server::transfer {

struct import_summary {
  std::size_t users = 0;             // that were made
  std::size_t existed = 0;           // that were there: their password stays
  std::size_t without_password = 0;  // of those that were made
  std::size_t only_sha1 = 0;         // of those that were made: their clients must choose SCRAM-SHA-1 or PLAIN
  std::size_t contacts = 0, messages = 0;
  std::vector<mistake> mistakes;     // at most 100 are kept
  std::size_t all_mistakes = 0;
  std::map<std::string, std::size_t> skipped; // kinds of elements that are not read; at most 100
};

/// Reads accounts into hosts that are served. An account appears with its password when all else of it is
/// there, and what was there before is merged: the same file can be read again. Blocks.
class importer {
public:
  explicit importer(runner& r);
  ~importer();
  /// Errors: the file cannot be read on from there, or the storage fails. What was read before it stays.
  [[nodiscard]] base::result<void, mistake> feed(std::string_view bytes);
  [[nodiscard]] base::result<void, mistake> end();
  [[nodiscard]] const import_summary& summary() const;

private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

/// Writes all hosts, one host or one account, piece by piece: each account as it is at that moment. Blocks.
class exporter {
public:
  /// Empty: all. Null: neither a host of this server nor a bare JID of one.
  static std::unique_ptr<exporter> begin(runner& r, const std::string& what);
  ~exporter();
  /// Empty: that was all. Errors: a text for the operator.
  [[nodiscard]] base::result<std::string, std::string> next();
  [[nodiscard]] std::size_t users() const;

private:
  exporter();
  struct impl;
  std::unique_ptr<impl> impl_;
};

} // namespace server::transfer
