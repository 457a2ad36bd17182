// What is checked, and in which order.
#include "server/doctor/examine.hpp"
#include "server/admin/service.hpp"
#include "server/doctor/parts.hpp"

namespace server::doctor {

findings examine(const options& o) {
  auto dns = resolver::open(o.nameserver);
  if (!dns)
    return {};
  findings out;
  auto unchecked = load_config(o.file, o.env, {false, false});
  auto server = find_server(socket_in(unchecked.config.run_folder));
  auto loaded = load_config(o.file, o.env, {true, false}); // ports are looked at below: who has them
  for (auto& p : loaded.problems) {
    auto remedy = p.remedy;
    p.remedy.clear();
    out.push_back({"config.mistake", severity::error, to_text(p), remedy});
  }
  auto& c = loaded.config;
  if (loaded.problems.empty())
    out.push_back({"config.good", severity::ok, o.file + " has no mistake", {}});
  if (server.is_forbidden)
    out.push_back({"server.forbidden", severity::warning, "this user may not use " + socket_in(c.run_folder), "be the server's user: sudo -u covey covey doctor"});
  else if (server.pid)
    out.push_back({"server.up", severity::ok, "the server runs (pid " + std::to_string(server.pid) + ")", {}});
  else
    out.push_back({"server.down", severity::error, "no server answers at " + socket_in(c.run_folder), "systemctl start covey   # or: coveyd --config " + o.file});
  check_ports(c, server, out);
  check_answers(c, server, out);
  check_certificates(c, out);
  check_dns(c, *dns, out);
  check_files(server, out);
  check_clock(c.data_folder, out);
  check_storage(c.data_folder, out);
  check_clients(c, out);
  return out;
}

} // namespace server::doctor
