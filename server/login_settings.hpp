// From the configuration of a host to what its logins go by.
#pragma once
#include "server/accounts.hpp"
#include "server/config/config.hpp"

namespace server {

/// `fake_secret`, `token_secret`: of the database.
[[nodiscard]] account_settings account_settings_of(const host_config& h, std::uint32_t iterations, std::string fake_secret,
                                                   std::string token_secret);
/// Mechanisms, upgrades and tokens.
void set_login(xmpp::stream::host_settings& s, const host_config& h);

} // namespace server
