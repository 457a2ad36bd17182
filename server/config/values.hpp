// What was written for each key, by host; how a value is read, and how a wrong one is mended.
#pragma once
#include "server/config/load.hpp"
#include "server/config/source.hpp"
#include <map>

namespace server {

/// A value that was written somewhere.
struct written {
  value v;
  std::string text;   // as it could be written in a file
  std::string origin; // "default", "covey.toml:3", "environment"
  std::string file;   // empty: of no file
  std::uint32_t line = 0, column = 0;
  std::string left;   // what stands before '=' there; with tables this is less than the whole key
};

/// Nothing: not of the key's type, or not allowed.
[[nodiscard]] std::optional<value> convert(const key& k, const toml::node& n);
/// The nearest value that would be taken instead of `found` (a value as it is written in a file, or as
/// somebody wrote it who does not know TOML): "30" for a duration is "30s", 70000 of at most 65535 is that.
[[nodiscard]] std::string mended(const key& k, std::string_view found);
/// A value of the key to paste: its example, or its default.
[[nodiscard]] std::string example_of(const key& k);
[[nodiscard]] std::string in_quotes(std::string_view s);
[[nodiscard]] std::string text_of(const toml::node& n);
/// The text with … for what is a password in a connection string: behind password= or sslpassword=, or in postgresql://user:…@host. All that
/// follows where it has quotes or escapes, or where the value `is_accepted` not.
[[nodiscard]] std::string without_passwords(std::string text, bool is_accepted = false);
/// COVEY_LIMITS__ROSTER of limits.roster.
[[nodiscard]] std::string variable_of(const std::string& key);

class value_table {
public:
  value_table(std::string file, std::vector<key> keys) : file_(std::move(file)), keys_(std::move(keys)) {}

  [[nodiscard]] const std::string& file() const { return file_; }
  [[nodiscard]] const std::vector<key>& keys() const { return keys_; }
  [[nodiscard]] const key* find(std::string_view name) const;
  /// Of a key that is declared: what the host has, else what all have, else the default.
  [[nodiscard]] const written& get(const std::string& name, const std::string& host = {});
  [[nodiscard]] bool has(const std::string& host, const std::string& name) const { return values_.contains({host, name}); }
  void put(const std::string& host, const std::string& name, written w) { values_[{host, name}] = std::move(w); }
  /// A value of the key was refused: what depends on it is not complained of.
  void mark_refused(const std::string& name) { refused_.push_back(name); }
  [[nodiscard]] bool is_refused(std::string_view name) const;
  /// Where the value stands, for a complaint about it.
  [[nodiscard]] problem place_of(const std::string& key, const std::string& host);
  /// The line to write there instead.
  [[nodiscard]] std::string line_for(const std::string& key, const std::string& host, const std::string& text);
  /// A host that has a file of its own.
  void add_host(const std::string& domain, const std::string& file) { added_hosts_[domain] = file; }
  [[nodiscard]] const std::map<std::string, std::string>& added_hosts() const { return added_hosts_; }
  [[nodiscard]] bool is_added(const std::string& file) const;
  /// Every key's value, then added hosts, then what hosts have of their own.
  [[nodiscard]] std::vector<effective_value> effective();

private:
  std::string file_;
  std::vector<key> keys_;
  std::map<std::pair<std::string, std::string>, written> values_; // host (or ""), key
  std::map<std::string, written> defaults_;
  std::map<std::string, std::string> added_hosts_; // domain: file
  std::vector<std::string> refused_;
};

} // namespace server
