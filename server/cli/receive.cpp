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
    return fsync(fd_) == 0 && std::rename(beside_.c_str(), path_.c_str()) == 0 && server::sync_folder(server::folder_of(path_));
  }

private:
  std::string path_, beside_;
  int fd_;
};

} // namespace

int receive(const options& o, const char* what, const std::string& path, const sender& ask) {
  std::error_code ec;
  if (std::filesystem::exists(path, ec) && !o.yes && !confirm(path + " is there already. Write another one over it?"))
    return say(o.json, exit_code::usage, "nothing was written: say --yes");
  auto socket_file = socket_of(o);
  if (auto found = probe(socket_file); found != reach::up)
    return say_unreachable(o.json, socket_file, found);
  client c{socket_file};
  grpc::ClientContext context;
  auto from = ask(c.calls(), context);
  fresh_file out{path};
  auto cannot_write = [&] { return say(o.json, exit_code::failed, path + " cannot be written: " + std::strerror(errno)); };
  if (!out.write({}))
    return cannot_write();
  pb::data_part part;
  std::uint64_t done = 0;
  progress bar{what};
  while (from->Read(&part) && !part.has_result()) {
    if (!out.write(part.data()))
      return cannot_write();
    done += part.data().size();
    bar.show(done >> 20, part.total() >> 20, "MB");
  }
  if (!part.has_result()) {
    int code = 0;
    return succeeded(o, code, socket_file, from->Finish()) ? say(o.json, exit_code::failed, "the server ended in the middle") : code;
  }
  if (part.result().result() != pb::code::ok)
    return say(o.json, part.result(), "");
  if (!out.keep())
    return cannot_write();
  return say(o.json, exit_code::ok, path + " is written, " + std::to_string(done) + " bytes. Keep it secret: it has credentials", {{"file", path}, {"bytes", done}});
}

} // namespace cli
