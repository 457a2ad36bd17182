#include "base/files.hpp"
#include <fstream>
#include <sstream>

namespace base {

std::optional<std::string> read_file(const std::string& path) {
  std::ifstream in{path, std::ios::binary};
  std::ostringstream out;
  out << in.rdbuf();
  return in ? std::optional{std::move(out).str()} : std::nullopt;
}

} // namespace base
