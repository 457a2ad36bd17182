// What commands have in common: their options, a call to the server, mistakes in the configuration.
#pragma once
#include "server/cli/output.hpp"
#include "server/config/load.hpp"

namespace cli {

namespace pb = covey::admin;
using stub = pb::admin::Stub;

struct options {
  std::string config, jid, reason, domain, data, shell, file, nameserver;
  std::string name, node, folder, out, token, life = "1h"; // of the cluster
  std::vector<std::string> settings, words, addresses;
  password_source password;
  bool json = false, yes = false, effective = false, erase_data = false;
};

/// Without a look at the machine: ports and certificates are the server's.
[[nodiscard]] server::loaded load(const options& o);
/// The run folder is all that most commands need of the configuration; mistakes elsewhere do not matter here.
[[nodiscard]] std::string socket_of(const options& o);
/// "alice" is alice of the one host that there is. Nothing: there are several, or none; it was said.
[[nodiscard]] std::optional<std::string> account_of(const options& o);
/// False: `code` is the exit status, and why was said.
[[nodiscard]] bool succeeded(const options& o, int& code, const std::string& socket_file, const grpc::Status& status);

template <class In, class Out>
bool call(const options& o, int& code, grpc::Status (stub::*method)(grpc::ClientContext*, const In&, Out*), const In& in, Out* out) {
  auto file = socket_of(o);
  if (auto found = probe(file); found != reach::up) {
    code = say_unreachable(o.json, file, found);
    return false;
  }
  return succeeded(o, code, file, client{file}.call(method, in, out));
}

[[nodiscard]] nlohmann::json to_json(const std::vector<server::problem>& problems);
int say_problems(const std::vector<server::problem>& problems);

// --- commands of a running server (running.cpp)
int config_diff(const options& o);
int reload(const options& o);
int host_add(const options& o);
int host_set(const options& o);
int host_remove(const options& o);
int host_list(const options& o);
int backup(const options& o);      // backup.cpp
int export_data(const options& o); // transfer.cpp
int import_data(const options& o);

// --- commands that need none
int doctor(const options& o);  // doctor.cpp
int restore(const options& o); // backup.cpp
int migrate(const options& o); // migrate.cpp
int cluster_init(const options& o); // cluster.cpp
int cluster_issue(const options& o);
int cluster_status(const options& o);
int cluster_leave(const options& o);
int cluster_token(const options& o);
int join(const options& o);

} // namespace cli
