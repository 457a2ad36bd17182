// Written beside, synced, renamed.
#include "server/cli/receive.hpp"
#include "server/files.hpp"
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <grpcpp/grpcpp.h>
#include <unistd.h>

namespace cli {

namespace {
/// A file that is there whole, at its name, after keep(), and not at all without it.
class fresh_file {
public:
  explicit fresh_file(std::string path) : path_(std::move(path)), beside_(path_ + ".partial"),
      fd_(open(beside_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)) {}
  ~fresh_file() {
    if (fd_ < 0)
      return;
    close(fd_);
    unlink(beside_.c_str());
  }
  [[nodiscard]] bool write(std::string_view bytes) const {
    while (!bytes.empty()) {
      auto n = ::write(fd_, bytes.data(), bytes.size());
      if (n < 0)
        return false;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return fd_ >= 0;
  }
  [[nodiscard]] bool keep() {
    bool ok = fsync(fd_) == 0 && std::rename(beside_.c_str(), path_.c_str()) == 0;
    auto folder = std::filesystem::path{path_}.parent_path().string();
    return ok && server::sync_folder(folder.empty() ? "." : folder);
  }

private:
  std::string path_, beside_;
  int fd_;
};

} // namespace

int receive(const options& o, const std::string& socket_file, const char* what, grpc::ClientReader<pb::data_part>& from, const std::string& path) {
  fresh_file out{path};
  auto cannot_write = [&] { return say(o.json, exit_code::failed, path + " cannot be written: " + std::strerror(errno)); };
  if (!out.write({}))
    return cannot_write();
  pb::data_part part;
  std::uint64_t done = 0;
  progress bar{what};
  while (from.Read(&part) && !part.has_result()) {
    if (!out.write(part.data()))
      return cannot_write();
    done += part.data().size();
    bar.show(done >> 20, part.total() >> 20, "MB");
  }
  if (!part.has_result()) {
    int code = 0;
    return succeeded(o, code, socket_file, from.Finish()) ? say(o.json, exit_code::failed, "the server ended in the middle") : code;
  }
  if (part.result().result() != pb::code::ok)
    return say(o.json, part.result(), "");
  if (!out.keep())
    return cannot_write();
  return say(o.json, exit_code::ok, path + " is written, " + std::to_string(done) + " bytes. Keep it secret: it has credentials", {{"file", path}, {"bytes", done}});
}

} // namespace cli
