// Every module that this server is built with. Capabilities come last: they hash what the others say.
#include "modules/all.hpp"

namespace modules {

std::vector<std::unique_ptr<module>> all() {
  std::vector<std::unique_ptr<module>> list;
  list.push_back(make_disco());
  list.push_back(make_ping());
  list.push_back(make_version());
  list.push_back(make_time());
  list.push_back(make_register());
  list.push_back(make_stanza_ids());
  list.push_back(make_carbons());
  list.push_back(make_strangers());
  list.push_back(make_offline());
  list.push_back(make_announce());
  list.push_back(make_caps());
  return list;
}

} // namespace modules
