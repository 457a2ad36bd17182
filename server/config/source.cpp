// toml++ stops at the first mistake. It is noted, its line is blanked, and the rest is read again: lines
// and columns stay where they were.
#include "server/config/source.hpp"
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <sys/stat.h>

namespace server {

namespace {
constexpr std::size_t most_mistakes = 100;
constexpr off_t largest_file = 1 << 20;

std::string trimmed(std::string_view s) {
  auto is_space = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
  while (!s.empty() && is_space(s.front()))
    s.remove_prefix(1);
  while (!s.empty() && is_space(s.back()))
    s.remove_suffix(1);
  return std::string{s};
}

std::vector<std::string> split_lines(const std::string& text) {
  std::vector<std::string> all;
  std::istringstream in{text};
  for (std::string line; std::getline(in, line);)
    all.push_back(line);
  return all;
}

/// `host."example.org".limits` to its parts. Lenient: headers that are broken come here, too.
table_path split_path(std::string_view s) {
  table_path path;
  std::string part;
  char quote = 0;
  for (char c : s) {
    if (quote) {
      if (c == quote)
        quote = 0;
      else
        part += c;
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else if (c == '.') {
      path.push_back(part);
      part.clear();
    } else if (c != ' ' && c != '\t') {
      part += c;
    }
  }
  path.push_back(part);
  std::erase(path, "");
  return path;
}

bool is_header(const std::string& line) { return trimmed(line).starts_with('['); }

table_path header_path(const std::string& line) {
  auto t = trimmed(line);
  auto from = t.find_first_not_of("[ "), to = t.find_first_of("]#", from == t.npos ? 0 : from);
  return from == t.npos ? table_path{} : split_path(std::string_view{t}.substr(from, to == t.npos ? t.npos : to - from));
}

/// How many brackets a line opens more than it closes, outside of texts and comments.
int opened_by(const std::string& line) {
  int depth = 0;
  char quote = 0;
  for (std::size_t i = 0; i < line.size(); ++i) {
    char c = line[i];
    if (quote) {
      if (c == '\\' && quote == '"')
        ++i;
      else if (c == quote)
        quote = 0;
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else if (c == '#') {
      break;
    } else if (c == '[' || c == '{') {
      ++depth;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return depth;
}

/// The line in which the list, table or text that the parser is still in began; `at` if it is this one.
std::size_t beginning_of(const std::vector<std::string>& lines, std::size_t at, const std::string& why) {
  if (why.find("parsing string") != why.npos && why.find("end-of-file") != why.npos) { // """ without its end
    auto opened = at;
    bool is_open = false;
    for (std::size_t i = 0; i <= at && i < lines.size(); ++i)
      for (auto p = lines[i].find("\"\"\""); p != std::string::npos; p = lines[i].find("\"\"\"", p + 3)) {
        is_open = !is_open;
        if (is_open)
          opened = i;
      }
    return opened;
  }
  bool begins_anew = is_header(lines[at]) || split_assignment(lines[at]) || why.find("end-of-file") != why.npos;
  if (!begins_anew)
    return at; // within a list: this line itself is wrong
  int depth = 0;
  for (auto i = at; i-- > 0;) {
    auto assigned = split_assignment(lines[i]);
    if (is_header(lines[i]) && opened_by(lines[i]) == 0)
      return at;
    depth += opened_by(lines[i]);
    if (assigned)
      return depth > 0 ? i : at;
  }
  return at;
}

std::string one_line(std::string_view s) {
  std::string out;
  for (char c : s)
    if (c == '\n')
      out += "the end of the line";
    else if (static_cast<unsigned char>(c) >= 0x20)
      out += c;
  return out;
}

std::string join(const std::vector<std::string>& lines) {
  std::string text;
  for (auto& l : lines)
    text += l + '\n';
  return text;
}

bool is_blank(const std::string& line) { return trimmed(line).empty(); }
} // namespace

std::optional<std::pair<std::string, std::string>> split_assignment(const std::string& line) {
  auto t = trimmed(line);
  auto equals = t.find('=');
  if (equals == t.npos || equals == 0 || t.starts_with('#') || t.starts_with('['))
    return std::nullopt;
  auto key = trimmed(std::string_view{t}.substr(0, equals));
  // a quoted part may have anything in it, the rest is what bare keys have
  bool is_quoted = false;
  for (char c : key) {
    if (c == '"' || c == '\'')
      is_quoted = !is_quoted;
    else if (!is_quoted && !std::isalnum(static_cast<unsigned char>(c)) && !std::strchr("_-. ", c))
      return std::nullopt;
  }
  if (is_quoted || key.empty())
    return std::nullopt;
  return std::pair{key, trimmed(std::string_view{t}.substr(equals + 1))};
}

source read_text(std::string text) {
  source s;
  s.lines = split_lines(text);
  auto lines = s.lines; // what is parsed; broken lines are blanked here
  for (;;) {
    auto parsed = toml::parse(std::string_view{text});
    if (parsed) {
      s.table = std::move(parsed).table();
      break;
    }
    auto& error = parsed.error();
    std::string why{error.description()};
    if (s.broken.size() == most_mistakes || lines.empty())
      break;
    std::size_t seen = std::min<std::size_t>(std::max(error.source().begin.line, 1u) - 1, lines.size() - 1);
    auto at = beginning_of(lines, seen, why);
    bool is_unfinished = at != seen || (why.find("end-of-file") != why.npos && !is_header(lines[at]));
    while (at > 0 && is_blank(lines[at]))
      --at; // reported behind its end
    if (is_blank(lines[at]))
      break;
    broken_line b;
    b.line = static_cast<std::uint32_t>(at + 1);
    b.column = at == seen ? std::max(error.source().begin.column, 1u) : 1;
    b.text = one_line(trimmed(lines[at]));
    b.why = one_line(why);
    if (why.find("utf-8") != why.npos) // what is shown and offered must be readable
      for (auto* t : {&b.text, &lines[at]})
        std::erase_if(*t, [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
    b.is_again = why.find("redefine") != why.npos;
    b.is_unfinished = is_unfinished;
    for (auto i = at; i-- > 0;)
      if (is_header(lines[i])) {
        b.path = header_path(lines[i]);
        for (auto& a : s.aliases)
          if (b.path == table_path{a.name})
            b.path = a.path;
        break;
      }
    if (is_header(lines[at])) { // its keys are still looked at, under another name
      b.path = header_path(lines[at]);
      auto name = "table at line " + std::to_string(at + 1);
      s.aliases.push_back({name, b.path});
      lines[at] = "[\"" + name + "\"]";
    } else {
      if (auto a = split_assignment(lines[at])) {
        b.key = a->first;
        b.rest = a->second;
        auto own = split_path(b.key);
        b.path.insert(b.path.end(), own.begin(), own.end());
      }
      if (is_unfinished) // the value goes with its key, as far as the next line that begins something
        for (auto i = at + 1; i < seen; ++i)
          if (!split_assignment(lines[i]) && !is_header(lines[i]))
            lines[i].clear();
      lines[at].clear();
    }
    s.broken.push_back(std::move(b));
    text = join(lines);
  }
  return s;
}

source read_source(const std::string& file) {
  auto refuse = [](std::string why, std::string remedy) {
    source s;
    s.unreadable = std::move(why);
    s.remedy = std::move(remedy);
    return s;
  };
  struct stat st{};
  if (stat(file.c_str(), &st) != 0)
    return errno == ENOENT || errno == ENOTDIR ? refuse("no such file", "covey setup example.org --config " + file)
                                               : refuse(std::string{"a file that cannot be reached: "} + std::strerror(errno), "let the server's user reach it");
  if (S_ISDIR(st.st_mode))
    return refuse("a folder", "name the file in it: --config " + file + "/covey.toml");
  if (!S_ISREG(st.st_mode))
    return refuse("no regular file", "name a file");
  if (st.st_size > largest_file)
    return refuse("a file of " + std::to_string(st.st_size) + " bytes", "name a configuration file; it may have 1 MB");
  std::ifstream in{file, std::ios::binary};
  if (!in)
    return refuse(std::string{"a file that cannot be read: "} + std::strerror(errno), "let the server's user read it");
  std::ostringstream text;
  text << in.rdbuf();
  return read_text(std::move(text).str());
}

} // namespace server
