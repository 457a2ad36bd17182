// Values: read strictly, mended leniently.
#include "server/config/values.hpp"
#include "base/bytes.hpp"
#include <algorithm>
#include <cctype>
#include <sstream>

namespace server {

namespace {
bool is_quoted_type(key_type t) { return t == key_type::text || t == key_type::duration || t == key_type::size; }

bool is_allowed(const key& k, const std::string& s) {
  return k.allowed.empty() || std::find(k.allowed.begin(), k.allowed.end(), s) != k.allowed.end();
}

std::string lower(std::string_view s) {
  std::string out{s};
  for (auto& c : out)
    c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

/// Without quotes, a comment behind it, and space.
std::string bare_text(std::string_view found) {
  if (found.size() >= 2 && (found.front() == '"' || found.front() == '\''))
    if (auto end = found.find(found.front(), 1); end != found.npos)
      return std::string{found.substr(1, end - 1)};
  auto end = std::min(found.find('#'), found.size());
  std::string s{found.substr(0, end)};
  std::erase_if(s, [](char c) { return c == '"' || c == '\'' || static_cast<unsigned char>(c) < 0x20; });
  while (s.ends_with(' '))
    s.pop_back();
  return s;
}

/// "30 seconds" to (30, "seconds").
std::optional<std::pair<std::int64_t, std::string>> number_and_unit(const std::string& s) {
  auto from = s.find_first_of("0123456789");
  if (from == s.npos)
    return std::nullopt;
  auto end = std::min(s.find_first_not_of("0123456789_", from), s.size());
  auto digits = s.substr(from, end - from);
  std::erase(digits, '_');
  auto n = base::to_number<std::int64_t>(digits);
  if (!n)
    n = INT64_MAX;
  auto unit = lower(std::string_view{s}.substr(end));
  std::erase_if(unit, [](char c) { return c == ' ' || c == '.'; });
  return std::pair{from > 0 && s[from - 1] == '-' ? -*n : *n, unit};
}

std::int64_t into(const key& k, std::int64_t n) { return std::clamp(n, k.least, k.most); }

std::int64_t times(std::int64_t n, std::int64_t unit) {
  if (n < 0)
    return -1;
  return n > INT64_MAX / unit ? INT64_MAX : n * unit;
}
} // namespace

std::string in_quotes(std::string_view s) {
  std::string out{'"'};
  for (char c : s) {
    if (c == '"' || c == '\\')
      out += '\\';
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) { // TOML's \u00XX
      constexpr auto digits = "0123456789abcdef";
      out += "\\u00";
      out += digits[c >> 4];
      out += digits[c & 15];
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string text_of(const toml::node& n) {
  if (auto* s = n.as_string())
    return in_quotes(s->get());
  std::ostringstream out;
  if (auto* a = n.as_array()) {
    for (auto& e : *a)
      out << (out.tellp() > 0 ? ", " : "") << text_of(e);
    return '[' + std::move(out).str() + ']';
  }
  n.visit([&](auto& x) { out << x; });
  auto s = std::move(out).str();
  std::replace(s.begin(), s.end(), '\n', ' ');
  return s;
}

std::string without_passwords(std::string text, bool is_accepted) {
  constexpr std::string_view hidden = "…";
  auto is_space = [](char c) { return c == ' ' || c == '\t'; };
  for (std::size_t at = 0; (at = text.find("password", at)) != text.npos;) {
    at += 8;
    auto from = at;
    while (from < text.size() && is_space(text[from]))
      ++from;
    if (from == text.size() || text[from] != '=')
      continue;
    for (++from; from < text.size() && is_space(text[from]);)
      ++from;
    // with quotes or escapes, or in a line that is broken or mended, nobody knows where it ends
    bool is_plain = is_accepted && text.find_first_of("'\\", from) == text.npos;
    auto end = is_plain ? std::min(text.find_first_of(" \t&\"", from), text.size()) : text.size() - (text.ends_with('"') ? 1 : 0);
    text.replace(from, std::max(end, from) - from, hidden);
    at = from + hidden.size();
  }
  for (std::size_t at = 0; (at = text.find("://", at)) != text.npos;) {
    at += 3;
    auto end = std::min(text.find_first_of("/?\" ", at), text.size());
    auto part = std::string_view{text}.substr(at, end - at);
    auto sign = part.rfind('@');
    auto colon = part.find(':');
    if (sign != part.npos && colon < sign)
      text.replace(at + colon + 1, sign - colon - 1, hidden);
  }
  return text;
}

std::string variable_of(const std::string& key) {
  std::string out{"COVEY_"};
  for (char c : key)
    if (c == '.')
      out += "__";
    else
      out += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return out;
}

std::string example_of(const key& k) {
  auto& text = k.example.empty() ? k.default_value : k.example;
  return is_quoted_type(k.type) ? in_quotes(text) : text;
}

std::optional<value> convert(const key& k, const toml::node& n) {
  value v;
  auto fits = [&](std::int64_t x) { return x >= k.least && x <= k.most; };
  switch (k.type) {
    case key_type::flag:
      if (auto b = n.value_exact<bool>()) {
        v.number = *b;
        return v;
      }
      return std::nullopt;
    case key_type::number:
      if (auto i = n.value_exact<std::int64_t>(); i && fits(*i)) {
        v.number = *i;
        return v;
      }
      return std::nullopt;
    case key_type::duration:
    case key_type::size: {
      auto s = n.value_exact<std::string>();
      auto x = s ? (k.type == key_type::duration ? parse_duration(*s) : parse_size(*s)) : std::nullopt;
      if (!x || !fits(*x))
        return std::nullopt;
      v.number = *x;
      v.text = *s;
      return v;
    }
    case key_type::text:
      if (auto s = n.value_exact<std::string>(); s && is_allowed(k, *s) && s->find('\0') == s->npos) {
        v.text = *s;
        return v;
      }
      return std::nullopt;
    case key_type::list:
      if (auto* a = n.as_array()) {
        for (auto& e : *a) {
          auto s = e.value_exact<std::string>();
          if (!s || !is_allowed(k, *s))
            return std::nullopt;
          v.list.push_back(*s);
        }
        return v;
      }
      return std::nullopt;
  }
  return std::nullopt;
}

std::string mended(const key& k, std::string_view found) {
  auto bare = bare_text(found);
  auto nearest_allowed = [&](const std::string& s) -> std::optional<std::string> {
    for (auto& a : k.allowed)
      if (lower(a) == lower(s))
        return a;
    return nearest(s, k.allowed);
  };
  switch (k.type) {
    case key_type::flag: {
      auto s = lower(bare);
      for (auto* yes : {"true", "yes", "on", "1", "enabled", "tru", "ture"})
        if (s == yes)
          return "true";
      for (auto* no : {"false", "no", "off", "0", "disabled", "none", "fals", "flase"})
        if (s == no)
          return "false";
      return example_of(k);
    }
    case key_type::number:
      if (auto n = number_and_unit(bare))
        return std::to_string(into(k, n->first));
      return example_of(k);
    case key_type::duration:
      if (auto n = number_and_unit(bare)) {
        auto u = n->second;
        std::int64_t unit = u.starts_with("ms") || u.starts_with("mil") ? 1 : u.starts_with("mi") || u == "m" ? 60'000
                            : u.starts_with("h") ? 3'600'000 : u.starts_with("d") ? 86'400'000 : u.starts_with("w") ? 604'800'000 : 1'000;
        return in_quotes(duration_text(into(k, std::min(times(n->first, unit), longest_duration))));
      }
      return example_of(k);
    case key_type::size:
      if (auto n = number_and_unit(bare)) {
        auto u = n->second;
        std::int64_t unit = u.starts_with("k") ? 1 << 10 : u.starts_with("m") ? 1 << 20 : u.starts_with("g") ? 1 << 30 : 1;
        return in_quotes(size_text(into(k, std::min(times(n->first, unit), largest_size))));
      }
      return example_of(k);
    case key_type::text:
      if (k.allowed.empty())
        return bare.empty() || bare.front() == '[' || bare.front() == '{' ? example_of(k) : in_quotes(bare);
      if (auto meant = nearest_allowed(bare))
        return in_quotes(*meant);
      return example_of(k);
    case key_type::list: {
      std::string out;
      auto take = [&](std::string_view item) {
        while (item.starts_with(' '))
          item.remove_prefix(1);
        auto s = bare_text(item);
        if (s.empty())
          return;
        if (!k.allowed.empty()) {
          auto meant = nearest_allowed(s);
          if (!meant)
            return;
          s = *meant;
        }
        out += (out.empty() ? "" : ", ") + in_quotes(s);
      };
      auto inner = found.starts_with('[') ? found.substr(1) : found;
      if (auto end = inner.find(']'); end != inner.npos && found.starts_with('['))
        inner = inner.substr(0, end);
      while (!inner.empty()) {
        auto comma = std::min(inner.find(','), inner.size());
        take(inner.substr(0, comma));
        inner.remove_prefix(std::min(comma + 1, inner.size()));
      }
      return out.empty() ? example_of(k) : '[' + out + ']';
    }
  }
  return example_of(k);
}

const key* value_table::find(std::string_view name) const {
  auto i = std::find_if(keys_.begin(), keys_.end(), [&](auto& k) { return k.name == name; });
  return i == keys_.end() ? nullptr : &*i;
}

const written& value_table::get(const std::string& name, const std::string& host) {
  if (!host.empty())
    if (auto i = values_.find({host, name}); i != values_.end())
      return i->second;
  if (auto i = values_.find({"", name}); i != values_.end())
    return i->second;
  auto& d = defaults_[name];
  if (d.origin.empty()) {
    auto* k = find(name);
    d.text = is_quoted_type(k->type) ? in_quotes(k->default_value) : k->default_value;
    auto parsed = toml::parse("x = " + d.text);
    d.v = *convert(*k, *parsed.table().get("x"));
    d.origin = "default";
    d.left = name;
  }
  return d;
}

bool value_table::is_refused(std::string_view name) const {
  return std::find(refused_.begin(), refused_.end(), name) != refused_.end();
}

bool value_table::is_added(const std::string& file) const {
  return std::any_of(added_hosts_.begin(), added_hosts_.end(), [&](auto& h) { return h.second == file; });
}

problem value_table::place_of(const std::string& key, const std::string& host) {
  auto& w = get(key, host);
  problem p;
  p.file = w.origin == "environment" ? w.origin : w.file.empty() ? file_ : w.file;
  p.line = w.line;
  p.column = w.column;
  p.key = key;
  p.found = w.text;
  return p;
}

std::string value_table::line_for(const std::string& key, const std::string& host, const std::string& text) {
  auto& w = get(key, host);
  return w.origin == "environment" ? variable_of(key) + "='" + text + '\'' : w.left + " = " + text;
}

std::vector<effective_value> value_table::effective() {
  std::vector<effective_value> all;
  for (auto& k : keys_) {
    auto& w = get(k.name);
    all.push_back({k.name, w.text, w.origin});
  }
  for (auto& [domain, file] : added_hosts_)
    all.push_back({"host." + in_quotes(domain), "{}", file});
  for (auto& [at, w] : values_)
    if (!at.first.empty())
      all.push_back({"host." + in_quotes(at.first) + '.' + at.second, w.text, w.origin});
  return all;
}

} // namespace server
