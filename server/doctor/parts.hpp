// The parts of the examination.
#pragma once
#include "server/config/config.hpp"
#include "server/doctor/dns.hpp"
#include "server/doctor/finding.hpp"
#include <chrono>
#include <optional>
#include <sys/types.h>

namespace server::doctor {

/// The process behind the administration socket. 0: none runs.
struct running { pid_t pid = 0; bool is_forbidden = false; };
[[nodiscard]] running find_server(const std::string& socket_file);

// --- machine.cpp
void check_ports(const config& c, const running& server, findings& out);
void check_files(const running& server, findings& out);
void check_clock(const std::string& data_folder, findings& out);
void check_storage(const std::string& data_folder, findings& out);
/// Who listens at a TCP port; `address` as in the configuration. Nothing: nobody.
struct holder { pid_t pid = 0; std::string program; }; // 0: another user's
[[nodiscard]] std::optional<holder> holder_of(const listen_at& at);
struct sync_times { std::chrono::microseconds median, worst; };
/// Of 20 writes of 4 kB. Nothing: the folder cannot be written to.
[[nodiscard]] std::optional<sync_times> measure_sync(const std::string& folder);

// --- hosts.cpp
void check_certificates(const config& c, findings& out);
/// A stream header for each host, answered with features.
void check_answers(const config& c, const running& server, findings& out);
void check_dns(const config& c, resolver& dns, findings& out);

// --- clients.cpp: what well-known clients will not find
void check_clients(const config& c, findings& out);

} // namespace server::doctor
