// PostgreSQL for tests: Debian's, in a temporary folder, on unix sockets. It ends with the test, however that ends.
#pragma once
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <pwd.h>
#include <spawn.h>
#include <string>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace covey_tests {

/// Servers of one test, in one folder: members by name, each with a socket of its own. Whatever runs there is ended, and the
/// folder removed, by a shell that waits for this process to end or to let go.
class postgres_folder {
public:
  postgres_folder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "covey-pg-XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()));
    path_ = pattern;
    if (geteuid() == 0) { // PostgreSQL refuses to run as root
      auto* who = getpwnam("postgres");
      if (!who)
        who = getpwnam("nobody");
      REQUIRE(who);
      as_ = {"setpriv", "--reuid=" + std::to_string(who->pw_uid), "--regid=" + std::to_string(who->pw_gid), "--clear-groups", "--"};
      REQUIRE(chown(path_.c_str(), who->pw_uid, who->pw_gid) == 0);
    }
    REQUIRE(chmod(path_.c_str(), 0755) == 0);
    guard();
  }
  ~postgres_folder() {
    close(alive_);
    int status = 0;
    while (waitpid(guard_, &status, 0) < 0 && errno == EINTR) {}
  }
  postgres_folder(const postgres_folder&) = delete;
  postgres_folder& operator=(const postgres_folder&) = delete;

  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + '/' + name; }

  /// Of `initdb`, `pg_ctl`, …; as the user that owns the folder. Fails the test unless it succeeds.
  void run(const std::string& program, std::vector<std::string> words) const {
    auto all = as_;
    all.push_back(programs() + '/' + program);
    all.insert(all.end(), std::make_move_iterator(words.begin()), std::make_move_iterator(words.end()));
    auto log = path_ + "/commands.log";
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0666);
    posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    auto pid = spawn(all, &actions);
    posix_spawn_file_actions_destroy(&actions);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    if (status != 0) {
      std::ifstream in{log};
      FAIL(program << ": " << std::string{std::istreambuf_iterator<char>{in}, {}});
    }
  }

private:
  /// Where Debian puts them, the newest version; else those of PATH's pg_config.
  static const std::string& programs() {
    static const std::string found = [] {
      std::string best;
      std::error_code ec;
      int newest = 0;
      for (std::filesystem::directory_iterator i{"/usr/lib/postgresql", ec}, end; !ec && i != end; i.increment(ec))
        if (int v = std::atoi(i->path().filename().c_str()); v > newest && std::filesystem::exists(i->path() / "bin/initdb")) {
          newest = v;
          best = (i->path() / "bin").string();
        }
      if (best.empty()) {
        char line[256] = {};
        if (auto* p = popen("pg_config --bindir 2>/dev/null", "r")) {
          if (fgets(line, sizeof line, p))
            best = std::string{line, strcspn(line, "\n")};
          pclose(p);
        }
      }
      if (best.empty() || !std::filesystem::exists(best + "/initdb"))
        FAIL("these tests need PostgreSQL: apt-get install postgresql");
      return best;
    }();
    return found;
  }

  static pid_t spawn(const std::vector<std::string>& words, posix_spawn_file_actions_t* actions) {
    std::vector<char*> argv;
    for (auto& w : words)
      argv.push_back(const_cast<char*>(w.c_str()));
    argv.push_back(nullptr);
    pid_t pid = 0;
    REQUIRE(posix_spawnp(&pid, argv[0], actions, nullptr, argv.data(), environ) == 0);
    return pid;
  }

  void guard() {
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[0], STDIN_FILENO);
    guard_ = spawn({"/bin/sh", "-c",
                    "trap '' INT TERM HUP; read line; for f in \"$0\"/*/postmaster.pid; do kill -QUIT $(head -n 1 \"$f\"); done 2>/dev/null\n"
                    "for i in 1 2 3 4 5 6 7 8 9 10; do ls \"$0\"/*/postmaster.pid >/dev/null 2>&1 || break; sleep 0.1; done; rm -rf \"$0\"",
                    path_},
                   &actions);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[0]);
    alive_ = ends[1];
  }

  std::string path_;
  std::vector<std::string> as_; // words before each command
  int alive_ = -1;              // closed, the guard ends everything
  pid_t guard_ = 0;
};

/// One server. Its database is named postgres, its user covey; it ends and its data goes with the folder.
class postgres {
public:
  /// `settings`: "fsync = off", one a line.
  postgres(const postgres_folder& in, std::string name, const std::string& settings) : in_(in), name_(std::move(name)) {
    in_.run("initdb", {"-D", data(), "-U", "covey", "--auth=trust", "-E", "UTF8", "--locale=C", "-N"});
    configure(settings);
  }
  /// A standby, from what `primary` has now. It streams with its name as application_name.
  postgres(const postgres_folder& in, std::string name, const postgres& primary, const std::string& settings) : in_(in), name_(std::move(name)) {
    in_.run("pg_basebackup", {"-D", data(), "-R", "-X", "stream", "-c", "fast", "-N", "-d", primary.connection() + " application_name=" + name_});
    configure(settings);
  }
  postgres(const postgres&) = delete;
  postgres& operator=(const postgres&) = delete;

  void start() {
    // of one that was killed; its number may be somebody else's by now, or that of a process that nobody has buried
    std::filesystem::remove(data() + "/postmaster.pid");
    std::filesystem::remove(socket_folder() + "/.s.PGSQL.5432.lock");
    in_.run("pg_ctl", {"-D", data(), "-l", in_ / (name_ + ".log"), "-w", "-t", "60", "start"});
  }
  void stop() {
    if (pid() > 0)
      in_.run("pg_ctl", {"-D", data(), "-m", "immediate", "-w", "stop"});
  }
  void promote() { in_.run("pg_ctl", {"-D", data(), "-w", "promote"}); }
  /// SIGKILL for every process of it; returns when all are gone.
  void kill() {
    auto first = pid();
    REQUIRE(first > 0);
    std::vector<pid_t> all{first};
    std::ifstream children{"/proc/" + std::to_string(first) + "/task/" + std::to_string(first) + "/children"};
    for (pid_t p; children >> p;)
      all.push_back(p);
    for (auto p : all)
      ::kill(p, SIGKILL);
    for (auto p : all)
      while (is_running(p))
        std::this_thread::sleep_for(std::chrono::milliseconds{2});
  }
  /// Every process of it stands still, or goes on.
  void freeze(bool is_frozen) {
    auto first = pid();
    std::ifstream children{"/proc/" + std::to_string(first) + "/task/" + std::to_string(first) + "/children"};
    ::kill(first, is_frozen ? SIGSTOP : SIGCONT);
    for (pid_t p; children >> p;)
      ::kill(p, is_frozen ? SIGSTOP : SIGCONT);
  }
  /// More settings; a running server takes them some time later.
  void set(const std::string& line) {
    std::ofstream{data() + "/postgresql.auto.conf", std::ios::app} << line << '\n';
    if (pid() > 0)
      in_.run("pg_ctl", {"-D", data(), "reload"});
  }
  [[nodiscard]] std::string socket_folder() const { return in_ / (name_ + ".socket"); }
  [[nodiscard]] std::string connection() const { return "host=" + socket_folder() + " user=covey dbname=postgres"; }

private:
  [[nodiscard]] std::string data() const { return in_ / name_; }
  static bool is_running(pid_t p) {
    std::ifstream in{"/proc/" + std::to_string(p) + "/stat"};
    std::string text{std::istreambuf_iterator<char>{in}, {}};
    auto end = text.rfind(')');
    return end != text.npos && end + 2 < text.size() && text[end + 2] != 'Z'; // nobody may be there to reap it
  }
  [[nodiscard]] pid_t pid() const {
    std::ifstream in{data() + "/postmaster.pid"};
    pid_t p = 0;
    in >> p;
    return in && is_running(p) ? p : 0;
  }
  void configure(const std::string& settings) {
    std::filesystem::create_directory(socket_folder());
    std::filesystem::permissions(socket_folder(), std::filesystem::perms::all); // the server is another user's
    std::ofstream{data() + "/postgresql.auto.conf", std::ios::app}
        << settings << "\nlisten_addresses = ''\nunix_socket_directories = '" << socket_folder()
        << "'\nshared_buffers = 32MB\nmax_connections = 60\nlog_min_messages = warning\nautovacuum_naptime = 1h\n";
  }
  const postgres_folder& in_;
  const std::string name_;
};

} // namespace covey_tests
