// A temporary folder that goes with the test, and files in it.
#pragma once
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <stdlib.h>
#include <string>

namespace server_tests {

class folder {
public:
  folder() {
    auto pattern = (std::filesystem::temp_directory_path() / "covey-test-XXXXXX").string();
    if (!mkdtemp(pattern.data()))
      throw std::runtime_error("no temporary folder");
    path_ = pattern;
  }
  ~folder() {
    std::error_code ec;
    std::filesystem::remove_all(path_, ec);
  }
  folder(const folder&) = delete;
  folder& operator=(const folder&) = delete;

  [[nodiscard]] std::string at(const std::string& name) const { return path_ + '/' + name; }
  [[nodiscard]] const std::string& path() const { return path_; }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream{at(name), std::ios::binary} << text;
    return at(name);
  }
  [[nodiscard]] static std::string read(const std::string& file) {
    std::ostringstream out;
    out << std::ifstream{file, std::ios::binary}.rdbuf();
    return std::move(out).str();
  }

private:
  std::string path_;
};

} // namespace server_tests
