// An archive of everything, made by the running server and written here; and back.
#include "server/admin/service.hpp" // socket_in
#include "server/cli/commands.hpp"
#include "server/cli/receive.hpp"
#include "server/restore.hpp"
#include <cerrno>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <filesystem>
#include <grpcpp/grpcpp.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

namespace cli {

namespace {
namespace fs = std::filesystem;

std::string stamp() {
  char text[32];
  auto now = std::time(nullptr);
  std::tm t{};
  std::strftime(text, sizeof text, "%Y%m%d-%H%M%S", gmtime_r(&now, &t));
  return text;
}

/// By coveyd: the one beside this program, or that of PATH.
base::result<void, std::string> check_database(const std::string& folder) {
  std::error_code ec;
  auto beside = fs::read_symlink("/proc/self/exe", ec).parent_path() / "coveyd";
  std::string words[]{fs::exists(beside, ec) ? beside.string() : "coveyd", "--check-database", folder};
  int out[2];
  auto fail = [](int why) { return base::fail(std::string{"coveyd, which has to check the database, cannot be started: "} + std::strerror(why)); };
  if (pipe2(out, O_CLOEXEC) != 0)
    return fail(errno);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  char* argv[]{words[0].data(), words[1].data(), words[2].data(), nullptr};
  pid_t pid = 0;
  int failed = posix_spawnp(&pid, argv[0], &actions, nullptr, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  close(out[1]);
  std::string said;
  char part[1'024];
  for (ssize_t n = 0; failed == 0 && ((n = read(out[0], part, sizeof part)) > 0 || (n < 0 && errno == EINTR));)
    said.append(part, n > 0 ? static_cast<std::size_t>(n) : 0);
  close(out[0]);
  if (failed != 0)
    return fail(failed);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
    return {};
  while (said.ends_with('\n'))
    said.pop_back();
  return base::fail(said.empty() ? std::string{"coveyd, which has to check the database, ended unasked"} : said);
}
} // namespace

int backup(const options& o) {
  std::error_code ec;
  auto path = fs::is_directory(o.file, ec) ? o.file + "/covey-" + stamp() + ".tar" : o.file;
  return receive(o, "backup", path, [](stub& server, grpc::ClientContext& context) { return server.backup(&context, pb::empty{}); });
}

int restore(const options& o) {
  auto c = load(o).config;
  if (probe(server::socket_in(c.run_folder)) == reach::up)
    return say(o.json, exit_code::conflict, "the server runs: covey stop first");
  auto attempt = [&](bool replaces) {
    progress bar{"restore"};
    return server::restore(o.file, c.data_folder, replaces, [&](std::uint64_t done, std::uint64_t total) { bar.show(done >> 20, total >> 20, "MB"); }, check_database);
  };
  auto result = attempt(o.yes);
  if (!result && result.error().what == server::restore_errc::not_empty) {
    if (!confirm(c.data_folder + " has data. Move it aside, and put the backup in its place?"))
      return say(o.json, exit_code::conflict, result.error().text + ": say --yes to move what is there aside");
    result = attempt(true);
  }
  if (!result)
    return say(o.json, result.error().what == server::restore_errc::in_use ? exit_code::conflict : exit_code::failed, result.error().text);
  auto text = c.data_folder + " is as it was at the backup";
  if (!result->replaced.empty())
    text += "; what was there is in " + result->replaced + ", remove it when all is well";
  return say(o.json, exit_code::ok, text, {{"data", c.data_folder}, {"replaced", result->replaced}});
}

} // namespace cli
