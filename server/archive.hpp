// The form of a backup: store/…, databases/…, hosts/…, certificates/…, covey.toml, and at its end the list of all of them.
#pragma once
#include <cstdint>
#include <string>

namespace server::archive {

inline constexpr std::size_t piece = 256 * 1024; // read and written at once
inline constexpr const char* list_name = "CONTENTS";
inline constexpr const char* folders[]{"store", "databases", "hosts", "certificates"};
inline constexpr const char* list_head = "covey backup 1\n";
inline constexpr std::uint64_t longest_list = 16u << 20;

inline std::string line_of(const std::string& name, std::uint64_t size) { return std::to_string(size) + ' ' + name + '\n'; }

} // namespace server::archive
