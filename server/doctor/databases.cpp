// The databases of the configuration, as coveyd saw them: this program cannot connect to one.
#include "server/doctor/examine.hpp"
#include <algorithm>

namespace server::doctor {

void add_database(const std::string& line, findings& out) {
  auto space = std::min(line.find(' '), line.size());
  auto how = line.substr(0, space), text = line.substr(std::min(space + 1, line.size()));
  if (how == "good")
    out.push_back({"storage.connected", severity::ok, text, {}});
  else if (how == "careless")
    out.push_back({"storage.careless", severity::warning, text + ": it does not wait for its disk (fsync or full_page_writes is off)",
                   "fsync = on and full_page_writes = on in postgresql.conf: else a crash of its machine loses what was acknowledged"});
  else
    out.push_back({"storage.unreachable", severity::error, "PostgreSQL: " + text, "docs/postgresql.md has what to do for each such text"});
}

} // namespace server::doctor
