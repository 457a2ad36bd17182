// An archive of everything, made by the running server and written here; and back.
#include "server/admin/service.hpp" // socket_in
#include "server/cli/commands.hpp"
#include "server/cli/coveyd.hpp"
#include "server/cli/receive.hpp"
#include "server/cluster_folder.hpp"
#include "server/restore.hpp"
#include <ctime>
#include <filesystem>
#include <grpcpp/grpcpp.h>

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

base::result<void, std::string> check_database(const std::string& folder) {
  std::string said;
  auto ok = run_coveyd({"--check-database", folder}, [&](const std::string& line) { said += (said.empty() ? "" : "\n") + line; });
  if (!ok)
    return base::fail(ok.error());
  if (*ok == 0)
    return {};
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
  auto at = server::cluster_folder_in(c.data_folder).path;
  std::string cluster;
  if (result->cluster == server::cluster_part::restored) {
    cluster = "restored";
    text += "; " + at + " has the node's certificate and key again: it must run nowhere else";
  } else if (result->cluster == server::cluster_part::kept) {
    cluster = "kept";
    text += "; " + at + " stays as it was";
  }
  return say(o.json, exit_code::ok, text, {{"data", c.data_folder}, {"replaced", result->replaced}, {"cluster", cluster}});
}

} // namespace cli
