// The form of a backup: store/…, databases/…, hosts/…, certificates/…, cluster/…, covey.toml, and at its end the list of all of them.
#pragma once
#include <cstdint>
#include <string>

namespace server::archive {

inline constexpr std::size_t piece = 256 * 1024; // read and written at once
inline constexpr const char* list_name = "CONTENTS";
inline constexpr const char* folders[]{"store", "databases", "hosts", "certificates"}; // each is put in place as a whole
/// Of DATA/cluster: what makes a machine this node of its cluster again. Not `identity`, for a node that lost its disk is another
/// one, nor tokens. A folder with the last of these is a member's, so that one is put in place last.
inline constexpr const char* cluster_folder_name = "cluster";
inline constexpr const char* cluster_files[]{"ca.pem", "ca.key", "node.key", "seeds", "node.pem"};
inline constexpr const char* list_head = "covey backup 1\n";
inline constexpr std::uint64_t longest_list = 16u << 20;

inline std::string line_of(const std::string& name, std::uint64_t size) { return std::to_string(size) + ' ' + name + '\n'; }

} // namespace server::archive
