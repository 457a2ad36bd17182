// base/log.hpp on spdlog's asynchronous logger: a line is composed where it happens and written by one
// thread, so that a slow disk or terminal never holds a reactor. A full queue loses its oldest lines.
#include "base/log.hpp"
#include "base/metrics.hpp"
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <spdlog/async.h>
#include <spdlog/async_logger.h>
#include <spdlog/sinks/base_sink.h>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <thread>

namespace base::log {
namespace {

constexpr std::size_t max_queue = 8'192;  // lines
constexpr std::size_t max_value = 2'048;  // bytes of one value: what strangers send ends up here
constexpr auto max_flush_wait = std::chrono::seconds{2};

/// Writes each payload, which ends with its newline; counts, so that flush() can wait.
class line_sink final : public spdlog::sinks::base_sink<std::mutex> {
public:
  explicit line_sink(std::FILE* out, bool owned) : out_(out), owned_(owned) {}
  ~line_sink() override {
    if (owned_)
      std::fclose(out_);
  }
  [[nodiscard]] std::uint64_t written() const { return written_.load(std::memory_order_acquire); }

private:
  void sink_it_(const spdlog::details::log_msg& m) override {
    std::fwrite(m.payload.data(), 1, m.payload.size(), out_);
    std::fflush(out_); // a line is seen when it is written, whatever ends the process
    written_.fetch_add(1, std::memory_order_release);
  }
  void flush_() override {}

  std::FILE* out_;
  bool owned_;
  std::atomic<std::uint64_t> written_{0};
};

struct running {
  std::shared_ptr<spdlog::details::thread_pool> pool; // ends last: it drains its queue
  std::shared_ptr<line_sink> sink;
  std::shared_ptr<spdlog::async_logger> logger;
  format as = format::text;
  std::atomic<std::uint64_t> posted{0};
};

std::atomic<level> least{level::warning}; // until start(): to standard error
std::mutex start_mutex;
std::shared_ptr<running> current; // replaced by start() only; read with atomic_load

std::shared_ptr<running> make_running(format as, const std::string& file) {
  auto r = std::make_shared<running>();
  r->as = as;
  std::FILE* out = stderr;
  if (!file.empty()) {
    out = std::fopen(file.c_str(), "ae"); // append: logrotate may truncate
    if (!out)
      throw std::runtime_error("cannot open the log file " + file + ": " + std::generic_category().message(errno));
  }
  r->sink = std::make_shared<line_sink>(out, out != stderr);
  r->pool = std::make_shared<spdlog::details::thread_pool>(max_queue, 1);
  r->logger = std::make_shared<spdlog::async_logger>("covey", r->sink, r->pool,
                                                     spdlog::async_overflow_policy::overrun_oldest);
  r->logger->set_level(spdlog::level::trace); // is_on() decides
  return r;
}

std::shared_ptr<running> get() {
  auto r = std::atomic_load(&current);
  if (r)
    return r;
  std::lock_guard guard{start_mutex};
  if (!current)
    std::atomic_store(&current, make_running(format::text, {}));
  return std::atomic_load(&current);
}

std::string_view name_of(level l) {
  switch (l) {
  case level::debug: return "debug";
  case level::info: return "info";
  case level::warning: return "warning";
  case level::error: return "error";
  }
  return "error";
}

spdlog::level::level_enum to_spdlog(level l) {
  switch (l) {
  case level::debug: return spdlog::level::debug;
  case level::info: return spdlog::level::info;
  case level::warning: return spdlog::level::warn;
  case level::error: return spdlog::level::err;
  }
  return spdlog::level::err;
}

/// RFC 3339 in UTC with milliseconds.
std::string stamp() {
  auto now = std::chrono::system_clock::now();
  auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count();
  std::time_t seconds = ms / 1000;
  std::tm t{};
  gmtime_r(&seconds, &t);
  char out[64];
  auto n = std::strftime(out, sizeof out, "%Y-%m-%dT%H:%M:%S", &t);
  n += static_cast<std::size_t>(std::snprintf(out + n, sizeof out - n, ".%03dZ", static_cast<int>(ms % 1000)));
  return {out, n};
}

/// Decodes one code point of strict UTF-8 at `i` and moves behind it; nothing for a bad byte.
std::optional<char32_t> next_code_point(std::string_view s, std::size_t& i) {
  auto lead = static_cast<unsigned char>(s[i++]);
  if (lead < 0x80)
    return lead;
  int more = lead >= 0xf0 && lead < 0xf5 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc2 ? 1 : 0;
  if (more == 0 || lead >= 0xf5 || i + static_cast<std::size_t>(more) > s.size())
    return std::nullopt;
  char32_t c = lead & (0x3f >> more);
  for (int k = 0; k < more; ++k) {
    auto b = static_cast<unsigned char>(s[i + static_cast<std::size_t>(k)]);
    if ((b & 0xc0) != 0x80)
      return std::nullopt;
    c = c << 6 | (b & 0x3f);
  }
  constexpr char32_t smallest[] = {0, 0x80, 0x800, 0x10000};
  if (c < smallest[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
    return std::nullopt;
  i += static_cast<std::size_t>(more);
  return c;
}

/// What moves a terminal's cursor, ends a line in some editor, or turns the reading direction.
bool is_dangerous(char32_t c) {
  return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || c == 0x61c || (c >= 0x200b && c <= 0x200f)
         || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff
         || (c >= 0xfff9 && c <= 0xfffb) || (c >= 0xe0000 && c <= 0xe007f);
}

/// At most max_value bytes, not cut inside a character.
std::string_view clipped(std::string_view s, bool& cut) {
  cut = s.size() > max_value;
  if (!cut)
    return s;
  auto end = max_value;
  while (end > max_value - 4 && (static_cast<unsigned char>(s[end]) & 0xc0) == 0x80)
    --end;
  return s.substr(0, end);
}

/// One token of a text line: bare if it is plain, else in quotes with escapes.
void append_text(std::string& out, std::string_view value, bool may_have_spaces) {
  bool cut = false;
  value = clipped(value, cut);
  std::string escaped;
  bool quote = value.empty() || cut;
  for (std::size_t i = 0; i < value.size();) {
    auto from = i;
    auto c = next_code_point(value, i);
    char buffer[16];
    if (!c) {
      std::snprintf(buffer, sizeof buffer, "\\x%02x", static_cast<unsigned char>(value[from]));
      escaped += buffer;
      i = from + 1;
      quote = true;
    } else if (*c == '"' || *c == '\\') {
      escaped += '\\';
      escaped += static_cast<char>(*c);
      quote = true;
    } else if (*c == '\n' || *c == '\r' || *c == '\t') {
      escaped += *c == '\n' ? "\\n" : *c == '\r' ? "\\r" : "\\t";
      quote = true;
    } else if (is_dangerous(*c)) {
      std::snprintf(buffer, sizeof buffer, "\\u{%x}", static_cast<unsigned>(*c));
      escaped += buffer;
      quote = true;
    } else {
      if (*c == ' ' || *c == '=')
        quote = quote || !may_have_spaces;
      escaped += value.substr(from, i - from);
    }
  }
  if (cut)
    escaped += "\\...";
  if (quote && !may_have_spaces) {
    out += '"';
    out += escaped;
    out += '"';
  } else {
    out += escaped;
  }
}

std::string text_line(level l, std::string_view code, std::string_view text, std::initializer_list<field> fields) {
  auto out = stamp();
  out += ' ';
  out += name_of(l);
  out += ' ';
  append_text(out, code, false);
  out += ' ';
  append_text(out, text, true);
  for (auto& f : fields) {
    out += ' ';
    append_text(out, f.name, false);
    out += '=';
    append_text(out, f.value, false);
  }
  return out;
}

std::string json_line(level l, std::string_view code, std::string_view text, std::initializer_list<field> fields) {
  auto clip = [](std::string_view s) {
    bool cut = false;
    std::string out{clipped(s, cut)};
    return cut ? out + "..." : out;
  };
  nlohmann::ordered_json line;
  line["time"] = stamp();
  line["level"] = name_of(l);
  line["code"] = clip(code);
  line["text"] = clip(text);
  for (auto& f : fields)
    if (!line.contains(f.name)) // no value may pass for the event's own time, level, code or text
      line[std::string{f.name}] = clip(f.value);
  return line.dump(-1, ' ', true, nlohmann::ordered_json::error_handler_t::replace);
}

} // namespace

void start(level l, format as, const std::string& file) {
  auto fresh = make_running(as, file);
  flush();
  std::lock_guard guard{start_mutex};
  set_level(l);
  std::atomic_store(&current, std::move(fresh));
  static const bool watched = [] {
    metrics::watch("covey_log_lost_lines", "Log lines that were dropped because the log could not be written fast enough",
                   {}, [] {
                     auto r = std::atomic_load(&current);
                     return r ? static_cast<double>(r->pool->overrun_counter()) : 0.0;
                   });
    return true;
  }();
  (void)watched;
}

void set_level(level l) { least.store(l, std::memory_order_relaxed); }

bool is_on(level l) { return l >= least.load(std::memory_order_relaxed); }

void event(level l, std::string_view code, std::string_view text, std::initializer_list<field> fields) {
  if (!is_on(l))
    return;
  auto r = get();
  auto line = r->as == format::json ? json_line(l, code, text, fields) : text_line(l, code, text, fields);
  line += '\n';
  r->posted.fetch_add(1, std::memory_order_relaxed);
  r->logger->log(to_spdlog(l), spdlog::string_view_t{line.data(), line.size()});
}

void flush() {
  auto r = std::atomic_load(&current);
  if (!r)
    return;
  auto wanted = r->posted.load(std::memory_order_relaxed);
  auto until = std::chrono::steady_clock::now() + max_flush_wait;
  while (r->sink->written() + r->pool->overrun_counter() < wanted && std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
}

} // namespace base::log
