// Runs the real programs: one call with its output, a node in a folder of its own, a terminal.
#pragma once
#include "tests/server/folder.hpp"
#include <arpa/inet.h>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <map>
#include <netinet/in.h>
#include <poll.h>
#include <pty.h>
#include <set>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

extern char** environ;

namespace server_tests {

using words = std::vector<std::string>;
using variables = std::map<std::string, std::string>;

struct outcome {
  int code = -1; // exit status; 128 + signal
  std::string out, err;
  std::chrono::microseconds cpu{0}; // user and system
};

namespace detail {
/// This process's environment without covey's variables, and `more`.
inline std::vector<std::string> environment_with(const variables& more) {
  std::vector<std::string> all;
  for (char** e = environ; *e; ++e)
    if (!std::string_view{*e}.starts_with("COVEY_"))
      all.push_back(*e);
  for (auto& [name, text] : more)
    all.push_back(name + '=' + text);
  return all;
}
[[noreturn]] inline void become(const words& command, const std::vector<std::string>& environment) {
  std::vector<char*> argv, env;
  for (auto& w : command)
    argv.push_back(const_cast<char*>(w.c_str()));
  for (auto& e : environment)
    env.push_back(const_cast<char*>(e.c_str()));
  argv.push_back(nullptr);
  env.push_back(nullptr);
  execve(argv[0], argv.data(), env.data());
  _exit(127);
}
inline int code_of(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

/// -1: it did not end in time, and was killed.
inline int wait_for(pid_t pid, std::chrono::seconds limit, std::chrono::microseconds* cpu = nullptr) {
  auto until = std::chrono::steady_clock::now() + limit;
  int status = 0;
  rusage used{};
  while (wait4(pid, &status, WNOHANG, &used) == 0) {
    if (std::chrono::steady_clock::now() > until) {
      kill(pid, SIGKILL);
      waitpid(pid, &status, 0);
      return -1;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds{2});
  }
  auto microseconds = [](const timeval& t) { return std::chrono::seconds{t.tv_sec} + std::chrono::microseconds{t.tv_usec}; };
  if (cpu)
    *cpu = microseconds(used.ru_utime) + microseconds(used.ru_stime);
  return code_of(status);
}
/// Reads both until they end or 30 s have passed.
inline void drain(int first, std::string& to_first, int second, std::string& to_second) {
  pollfd fds[]{{first, POLLIN, 0}, {second, POLLIN, 0}};
  std::string* to[]{&to_first, &to_second};
  auto until = std::chrono::steady_clock::now() + std::chrono::seconds{30};
  while ((fds[0].fd >= 0 || fds[1].fd >= 0) && std::chrono::steady_clock::now() < until) {
    if (poll(fds, 2, 1'000) <= 0)
      continue;
    for (int i = 0; i < 2; ++i)
      if (fds[i].revents) {
        char buffer[4'096];
        auto n = read(fds[i].fd, buffer, sizeof buffer);
        if (n <= 0) {
          close(fds[i].fd);
          fds[i].fd = -1;
        } else {
          to[i]->append(buffer, static_cast<std::size_t>(n));
        }
      }
  }
  for (auto& f : fds)
    if (f.fd >= 0)
      close(f.fd);
}
} // namespace detail

/// Runs it to its end, at most 30 s.
inline outcome run(const words& command, const std::string& input = {}, const variables& more = {}) {
  int in[2], out[2], err[2];
  if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
    throw std::runtime_error("no pipes");
  auto environment = detail::environment_with(more);
  auto pid = fork();
  if (pid == 0) {
    dup2(in[0], 0);
    dup2(out[1], 1);
    dup2(err[1], 2);
    detail::become(command, environment);
  }
  for (int fd : {in[0], out[1], err[1]})
    close(fd);
  std::signal(SIGPIPE, SIG_IGN); // it may end before it has read
  if (!input.empty() && write(in[1], input.data(), input.size()) < 0) {}
  close(in[1]);
  outcome o;
  detail::drain(out[0], o.out, err[0], o.err);
  o.code = detail::wait_for(pid, std::chrono::seconds{30}, &o.cpu);
  return o;
}

/// The same at a terminal, where somebody types a line at each prompt. `out` is what the screen shows.
inline outcome run_at_terminal(const words& command, const words& lines, const variables& more = {}) {
  int screen = -1;
  auto environment = detail::environment_with(more);
  auto pid = forkpty(&screen, nullptr, nullptr, nullptr);
  if (pid == 0)
    detail::become(command, environment);
  outcome o;
  std::size_t next = 0, asked = 0;
  auto until = std::chrono::steady_clock::now() + std::chrono::seconds{30};
  while (std::chrono::steady_clock::now() < until) {
    pollfd p{screen, POLLIN, 0};
    if (poll(&p, 1, 50) > 0) {
      char buffer[4'096];
      auto n = read(screen, buffer, sizeof buffer);
      if (n <= 0)
        break;
      o.out.append(buffer, static_cast<std::size_t>(n));
      continue;
    }
    // quiet: a prompt stands there
    if (next < lines.size() && o.out.size() > asked && o.out.ends_with(' ')) {
      asked = o.out.size();
      auto line = lines[next++] + '\n';
      if (write(screen, line.data(), line.size()) < 0)
        break;
    }
  }
  o.code = detail::wait_for(pid, std::chrono::seconds{30});
  close(screen);
  return o;
}

/// Ports that nobody has at the moment; held together, so that they differ.
inline std::vector<std::uint16_t> free_ports(std::size_t count) {
  std::vector<int> held;
  std::vector<std::uint16_t> ports;
  for (std::size_t i = 0; i < count; ++i) {
    held.push_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof a;
    if (bind(held.back(), reinterpret_cast<sockaddr*>(&a), size) != 0 || getsockname(held.back(), reinterpret_cast<sockaddr*>(&a), &size) != 0)
      throw std::runtime_error("no free port");
    ports.push_back(ntohs(a.sin_port));
  }
  for (int fd : held)
    close(fd);
  return ports;
}

/// coveyd in a temporary folder, ended with the test.
class node {
public:
  explicit node(const std::string& extra = "", const std::string& head = "domain = \"localhost\"\n") : ports(free_ports(3)) {
    auto at = [&](int i) { return "[\"127.0.0.1:" + std::to_string(ports[static_cast<std::size_t>(i)]) + "\"]\n"; };
    config = where.write("covey.toml", head + "data = \"" + where.at("data") + "\"\nrun = \"" + where.at("run") + "\"\nreactors = 1\nlisten.c2s = " + at(0)
                                           + "listen.c2s_direct = " + at(1) + "listen.http = " + at(2) + "sasl.iterations = 4096\n" + extra);
  }
  ~node() {
    if (pid > 0) {
      kill(pid, SIGTERM);
      detail::wait_for(pid, std::chrono::seconds{20});
    }
  }
  node(const node&) = delete;
  node& operator=(const node&) = delete;

  /// True once it answers.
  bool start(const variables& more = {}) {
    auto environment = detail::environment_with(more);
    words command{COVEYD_PROGRAM, "--config", config};
    auto log = where.at("log");
    pid = fork();
    if (pid == 0) {
      int fd = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
      dup2(fd, 1);
      dup2(fd, 2);
      detail::become(command, environment);
    }
    auto until = std::chrono::steady_clock::now() + std::chrono::seconds{30};
    while (std::chrono::steady_clock::now() < until) {
      if (covey({"sessions"}).code == 0)
        return true;
      int status = 0;
      if (waitpid(pid, &status, WNOHANG) == pid) {
        pid = 0;
        return false;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds{20});
    }
    return false;
  }
  /// Waits for its end. -1: it did not come.
  int end(int signal = 0) {
    if (signal)
      kill(pid, signal);
    auto code = detail::wait_for(pid, std::chrono::seconds{30});
    pid = 0;
    return code;
  }
  [[nodiscard]] words command(const words& arguments) const {
    words all{COVEY_PROGRAM, "--config", config};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return all;
  }
  outcome covey(const words& arguments, const std::string& input = {}, const variables& more = {}) const {
    return run(command(arguments), input, more);
  }
  [[nodiscard]] std::string log() const { return folder::read(where.at("log")); }

  folder where;
  std::vector<std::uint16_t> ports; // c2s, c2s_direct, http
  std::string config;
  pid_t pid = 0;
};

} // namespace server_tests
