// Reading the configuration, calling the server.
#include "server/cli/commands.hpp"
#include "server/admin/service.hpp" // socket_in
#include <algorithm>
#include <grpcpp/grpcpp.h>
#include <iostream>

namespace cli {

server::loaded load(const options& o) { return server::load_config(o.config, server::own_environment(), {false, false}); }

std::string socket_of(const options& o) { return server::socket_in(load(o).config.run_folder); }

bool succeeded(const options& o, int& code, const std::string& socket_file, const grpc::Status& status) {
  if (status.ok())
    return true;
  code = status.error_code() == grpc::StatusCode::UNAVAILABLE ? say_unreachable(o.json, socket_file)
                                                              : say(o.json, exit_code::failed, "the server did not answer this: " + status.error_message());
  return false;
}

std::optional<std::string> account_of(const options& o) {
  if (o.jid.find('@') != o.jid.npos || o.jid.empty())
    return o.jid;
  auto loaded = load(o);
  auto& hosts = loaded.config.hosts;
  bool is_host = std::any_of(hosts.begin(), hosts.end(), [&](auto& h) { return h.domain == o.jid; });
  if (hosts.size() == 1 && !is_host)
    return o.jid + '@' + hosts[0].domain;
  say(o.json, exit_code::usage, "of which host? " + o.jid + '@' + (hosts.empty() ? "example.org" : hosts[0].domain));
  return std::nullopt;
}

nlohmann::json to_json(const std::vector<server::problem>& problems) {
  auto list = nlohmann::json::array();
  for (auto& p : problems)
    list.push_back({{"file", p.file}, {"line", p.line}, {"column", p.column}, {"key", p.key}, {"found", p.found}, {"allowed", p.allowed}, {"remedy", p.remedy}, {"meant", p.meant}});
  return list;
}

int say_problems(const std::vector<server::problem>& problems) {
  for (auto& p : problems)
    std::cerr << server::to_text(p) << '\n';
  std::cerr << problems.size() << (problems.size() == 1 ? " mistake\n" : " mistakes\n");
  return server::exit_config;
}

} // namespace cli
