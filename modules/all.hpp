// The modules of this server, one function each. A new module is a new file, a line here and a line in
// all.cpp; docs/modules.md shows the rest.
#pragma once
#include "modules/api/module.hpp"

#ifndef COVEY_VERSION
#define COVEY_VERSION "0.1.0"
#endif

namespace modules {

std::unique_ptr<module> make_announce();
std::unique_ptr<module> make_caps();
std::unique_ptr<module> make_carbons();
std::unique_ptr<module> make_disco();
std::unique_ptr<module> make_offline();
std::unique_ptr<module> make_ping();
std::unique_ptr<module> make_register();
std::unique_ptr<module> make_stanza_ids();
std::unique_ptr<module> make_strangers();
std::unique_ptr<module> make_time();
std::unique_ptr<module> make_version();

} // namespace modules
