// Changes of a running server: its configuration, its hosts.
#include "server/cli/commands.hpp"
#include <ctime>
#include <iostream>

namespace cli {

namespace {
std::vector<server::problem> problems_of(const pb::change_reply& r) {
  std::vector<server::problem> all;
  for (auto& p : r.problems())
    all.push_back({p.file(), p.line(), p.column(), p.key(), p.found(), p.allowed(), p.remedy(), p.meant()});
  return all;
}

/// What changed, or would: `live` and `waiting` introduce the two kinds.
int say_changes(const options& o, const pb::change_reply& r, const std::string& done, const char* live, const char* waiting) {
  int code = r.result().result();
  if (o.json) {
    auto list = nlohmann::json::array();
    for (auto& c : r.changed())
      list.push_back({{"key", c.key()}, {"before", c.before()}, {"after", c.after()}, {"live", c.live()}});
    return say(true, code, code == exit_code::ok ? done : r.result().text(), {{"changed", std::move(list)}, {"problems", to_json(problems_of(r))}});
  }
  if (r.problems_size() > 0)
    return say_problems(problems_of(r));
  if (code != exit_code::ok)
    return say(false, code, r.result().text());
  for (auto& c : r.changed())
    std::cout << (c.live() ? live : waiting) << c.key() << ": " << (c.before().empty() ? "not set" : c.before()) << " -> "
              << (c.after().empty() ? "not set" : c.after()) << '\n';
  return say(false, code, done);
}

int change_host(const options& o, grpc::Status (stub::*method)(grpc::ClientContext*, const pb::host_change&, pb::change_reply*), const std::string& done) {
  pb::host_change in;
  in.set_domain(o.domain);
  in.set_erase_data(o.erase_data);
  for (auto& s : o.settings)
    in.add_settings(s);
  pb::change_reply out;
  int code = 0;
  return call(o, code, method, in, &out) ? say_changes(o, out, o.domain + done, "changed ", "waits for a restart ") : code;
}
} // namespace

int config_diff(const options& o) {
  pb::change_reply out;
  int code = 0;
  if (!call(o, code, &stub::diff_config, pb::empty{}, &out))
    return code;
  return say_changes(o, out, out.changed_size() == 0 ? "nothing differs from what is in force" : "", "live    ", "restart ");
}

int reload(const options& o) {
  pb::change_reply out;
  int code = 0;
  return call(o, code, &stub::reload, pb::empty{}, &out) ? say_changes(o, out, "the files are in force", "changed ", "waits for a restart ") : code;
}

int host_add(const options& o) { return change_host(o, &stub::add_host, " is served now"); }
int host_set(const options& o) { return change_host(o, &stub::set_host, " has the new settings"); }

int host_remove(const options& o) {
  auto question = "Stop serving " + o.domain + (o.erase_data ? ", and erase all its accounts and data?" : "? Its data stays.");
  if (!o.yes && !confirm(question))
    return say(o.json, exit_code::usage, "nothing was removed: say --yes");
  return change_host(o, &stub::remove_host, o.erase_data ? " is not served any more, and its data is erased" : " is not served any more; its data stays");
}

int host_list(const options& o) {
  pb::host_list out;
  int code = 0;
  if (!call(o, code, &stub::list_hosts, pb::empty{}, &out))
    return code;
  if (o.json) {
    auto list = nlohmann::json::array();
    for (auto& h : out.hosts())
      list.push_back({{"domain", h.domain()}, {"file", h.file()}, {"added", h.added()}, {"engine", h.engine()}, {"sessions", h.sessions()},
                      {"certificate", h.certificate()}, {"certificate_until", h.certificate_until()}});
    return say(true, exit_code::ok, {}, {{"hosts", std::move(list)}});
  }
  for (auto& h : out.hosts()) {
    auto days = (h.certificate_until() - std::time(nullptr)) / 86'400;
    std::cout << h.domain() << "  " << h.sessions() << (h.sessions() == 1 ? " session" : " sessions")
              << (h.certificate_until() ? "  certificate for " + std::to_string(days) + " days" : "  no certificate") << "  " << h.file() << '\n';
  }
  return exit_code::ok;
}

} // namespace cli
