// Starts coveyd for what it does besides serving.
#include "server/cli/coveyd.hpp"
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

namespace cli {

base::result<int, std::string> run_coveyd(std::vector<std::string> words, const std::function<void(const std::string&)>& on_line) {
  std::error_code ec;
  auto beside = std::filesystem::read_symlink("/proc/self/exe", ec).parent_path() / "coveyd";
  words.insert(words.begin(), std::filesystem::exists(beside, ec) ? beside.string() : "coveyd");
  auto fail = [](int why) { return base::fail(std::string{"coveyd, which has to open the database, cannot be started: "} + std::strerror(why)); };
  int out[2];
  if (pipe2(out, O_CLOEXEC) != 0)
    return fail(errno);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  std::vector<char*> argv;
  for (auto& w : words)
    argv.push_back(w.data());
  argv.push_back(nullptr);
  pid_t pid = 0;
  int failed = posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(out[1]);
  std::string waiting;
  char part[1'024];
  for (ssize_t n = 0; failed == 0 && ((n = read(out[0], part, sizeof part)) > 0 || (n < 0 && errno == EINTR));) {
    waiting.append(part, n > 0 ? static_cast<std::size_t>(n) : 0);
    for (std::size_t end; (end = waiting.find('\n')) != waiting.npos; waiting.erase(0, end + 1))
      on_line(waiting.substr(0, end));
  }
  close(out[0]);
  if (failed != 0)
    return fail(failed);
  if (!waiting.empty())
    on_line(waiting);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

} // namespace cli
