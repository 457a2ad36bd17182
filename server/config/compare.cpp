// Values are compared as they are written: "60s" and "1m" differ.
#include "server/config/compare.hpp"
#include <algorithm>

namespace server {

namespace {
/// limits.roster of host."example.org".limits.roster. The host itself can come and go at any time.
bool is_live_name(std::string_view name, const std::vector<key>& keys) {
  if (name.starts_with("host.\"")) {
    auto end = name.find('"', 6);
    if (end + 1 >= name.size())
      return true;
    name.remove_prefix(end + 2);
  }
  auto k = std::find_if(keys.begin(), keys.end(), [&](auto& x) { return x.name == name; });
  return k != keys.end() && is_live(*k);
}

const effective_value* find(const std::vector<effective_value>& all, const std::string& key) {
  auto i = std::find_if(all.begin(), all.end(), [&](auto& v) { return v.key == key; });
  return i == all.end() ? nullptr : &*i;
}
} // namespace

std::vector<changed_value> compare(const std::vector<effective_value>& in_force, const std::vector<effective_value>& written, const std::vector<key>& keys) {
  std::vector<changed_value> all;
  for (auto& now : in_force) {
    auto* then = find(written, now.key);
    if (!then || then->text != now.text)
      all.push_back({now.key, now.text, then ? then->text : "", is_live_name(now.key, keys)});
  }
  for (auto& v : written)
    if (!find(in_force, v.key))
      all.push_back({v.key, "", v.text, is_live_name(v.key, keys)});
  return all;
}

} // namespace server
