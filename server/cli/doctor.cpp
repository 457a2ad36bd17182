// What is wrong with a server and its machine, and how to mend it.
#include "server/doctor/examine.hpp"
#include "server/cli/commands.hpp"
#include "server/cli/coveyd.hpp"
#include <algorithm>
#include <iostream>

namespace cli {

int doctor(const options& o) {
  using server::doctor::severity;
  auto all = server::doctor::examine({o.config, server::own_environment(), o.nameserver});
  if (all.empty())
    return say(o.json, exit_code::usage, '"' + o.nameserver + "\" is no nameserver like 192.0.2.1 or 192.0.2.1:53");
  auto hosts = load(o).config.hosts;
  if (std::any_of(hosts.begin(), hosts.end(), [](auto& h) { return h.engine == "postgresql"; }))
    if (auto ran = run_coveyd({"--config", o.config, "--check-connections"}, [&](const std::string& line) { server::doctor::add_database(line, all); }); !ran)
      server::doctor::add_database("bad " + ran.error(), all);
  auto is = [&](severity s) { return std::count_if(all.begin(), all.end(), [&](auto& f) { return f.how == s; }); };
  bool has_mistake = std::any_of(all.begin(), all.end(), [](auto& f) { return f.code == "config.mistake"; });
  int code = has_mistake ? server::exit_config : is(severity::warning) + is(severity::error) > 0 ? exit_code::failed : static_cast<int>(exit_code::ok);
  if (o.json) {
    auto list = nlohmann::json::array();
    for (auto& f : all)
      list.push_back({{"code", f.code}, {"severity", std::string{name_of(f.how)}}, {"text", f.text}, {"remedy", f.remedy}});
    return say(true, code, {}, {{"findings", std::move(list)}});
  }
  for (auto& f : all) {
    std::cout << name_of(f.how) << std::string(8 - name_of(f.how).size(), ' ') << f.text << "  [" << f.code << "]\n";
    if (!f.remedy.empty())
      std::cout << "            " << f.remedy << '\n';
  }
  std::cout << is(severity::error) << " errors, " << is(severity::warning) << " warnings, " << is(severity::note) << " notes, " << is(severity::ok) << " passed\n";
  return code;
}

} // namespace cli
