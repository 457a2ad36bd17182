// Printing, prompting.
#include "server/cli/output.hpp"
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <termios.h>
#include <unistd.h>

namespace cli {

int say(bool as_json, int code, const std::string& text, nlohmann::json extra) {
  if (as_json) {
    extra["ok"] = code == exit_code::ok;
    if (!text.empty())
      extra["text"] = text;
    std::cout << extra.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace) << '\n';
  } else if (!text.empty()) {
    (code == exit_code::ok ? std::cout : std::cerr) << text << '\n';
  }
  return code;
}

int say(bool as_json, const covey::admin::status& s, const std::string& done) {
  int code = s.result();
  return say(as_json, code, code == exit_code::ok ? done : s.text());
}

int say_unreachable(bool as_json, const std::string& socket_file, reach why) {
  if (why == reach::forbidden)
    return say(as_json, exit_code::unreachable, "this user may not use " + socket_file + "\n    be the server's user: sudo -u covey covey …");
  return say(as_json, exit_code::unreachable,
             "no server answers at " + socket_file + "\n    start it (coveyd), or name its configuration with --config");
}

namespace {
termios as_it_was{};

/// Ctrl-C at the prompt must not leave the terminal without echo.
void restore_and_end(int signal) {
  tcsetattr(STDIN_FILENO, TCSAFLUSH, &as_it_was);
  _exit(128 + signal);
}

/// One line from the terminal, not shown.
std::optional<std::string> prompt(const char* text) {
  constexpr int tty = STDIN_FILENO;
  if (!isatty(tty)) {
    std::fputs("covey: there is no terminal to ask for the password: use --password-stdin, --password-file or --password-env\n", stderr);
    return std::nullopt;
  }
  tcgetattr(tty, &as_it_was);
  auto silent = as_it_was;
  silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
  struct sigaction end{}, before[3]{};
  end.sa_handler = restore_and_end;
  constexpr int signals[]{SIGINT, SIGTERM, SIGHUP};
  for (int i = 0; i < 3; ++i)
    sigaction(signals[i], &end, &before[i]);
  std::fputs(text, stderr);
  tcsetattr(tty, TCSAFLUSH, &silent);
  std::string line;
  bool got = static_cast<bool>(std::getline(std::cin, line));
  tcsetattr(tty, TCSAFLUSH, &as_it_was);
  for (int i = 0; i < 3; ++i)
    sigaction(signals[i], &before[i], nullptr);
  std::fputs("\n", stderr);
  return got ? std::optional{line} : std::nullopt;
}

std::optional<std::string> first_line(std::istream& in) {
  std::string line;
  if (!std::getline(in, line))
    return std::nullopt;
  if (line.ends_with('\r'))
    line.pop_back();
  return line;
}
} // namespace

std::optional<std::string> read_password(const password_source& from, bool twice) {
  std::optional<std::string> password;
  if (from.from_stdin) {
    password = first_line(std::cin);
  } else if (!from.file.empty()) {
    std::ifstream in{from.file};
    password = in ? first_line(in) : std::nullopt;
    if (!password)
      std::fprintf(stderr, "covey: %s holds no password or cannot be read\n", from.file.c_str());
    return password;
  } else if (!from.variable.empty()) {
    if (auto* v = std::getenv(from.variable.c_str()))
      password = v;
    else
      std::fprintf(stderr, "covey: the environment has no %s\n", from.variable.c_str());
    return password;
  } else {
    password = prompt("Password: ");
    if (password && twice && prompt("The same again: ") != password) {
      std::fputs("covey: the two are not the same\n", stderr);
      return std::nullopt;
    }
    return password;
  }
  if (!password)
    std::fputs("covey: standard input held no password\n", stderr);
  return password;
}

void progress::show(std::uint64_t done, std::uint64_t total, const char* unit) {
  using namespace std::chrono_literals;
  auto now = std::chrono::steady_clock::now();
  if (now - began_ < 2s || now - shown_ < 200ms || !isatty(STDERR_FILENO))
    return;
  shown_ = now;
  is_shown_ = true;
  if (total > 0)
    std::fprintf(stderr, "\r%s: %3.0f %%, %llu of %llu %s\x1b[K", what_.c_str(), 100.0 * static_cast<double>(done) / static_cast<double>(total),
                 static_cast<unsigned long long>(done), static_cast<unsigned long long>(total), unit);
  else
    std::fprintf(stderr, "\r%s: %llu %s\x1b[K", what_.c_str(), static_cast<unsigned long long>(done), unit);
}

progress::~progress() {
  if (is_shown_)
    std::fputs("\r\x1b[K", stderr);
}

bool confirm(const std::string& question) {
  if (!isatty(STDIN_FILENO))
    return false;
  std::cerr << question << " [y/N] ";
  std::string line;
  return std::getline(std::cin, line) && (line == "y" || line == "Y" || line == "yes");
}

} // namespace cli
