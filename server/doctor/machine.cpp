// Ports and who holds them, file descriptors, the clock, the disk.
#include "server/doctor/parts.hpp"
#include "base/bytes.hpp"
#include "base/clock.hpp"
#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <netinet/in.h>
#include <sstream>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <sys/un.h>
#include <unistd.h>

namespace server::doctor {

namespace fs = std::filesystem;

namespace {
std::string text_of(const listen_at& at) { return at.address + " port " + std::to_string(at.port); }

/// As /proc/net/tcp writes it: words of 4 bytes in the machine's order.
std::string in_hex(const std::string& address) {
  unsigned char bytes[16];
  std::size_t size = inet_pton(AF_INET, address.c_str(), bytes) == 1 ? 4 : inet_pton(AF_INET6, address.c_str(), bytes) == 1 ? 16 : 0;
  std::string out;
  for (std::size_t i = 0; i < size; i += 4) {
    std::uint32_t word = 0;
    std::memcpy(&word, bytes + i, 4);
    char text[9];
    std::snprintf(text, sizeof text, "%08X", word);
    out += text;
  }
  return out;
}

holder owner_of(const std::string& inode) {
  auto wanted = "socket:[" + inode + ']';
  std::error_code ec;
  for (fs::directory_iterator p{"/proc", ec}, end; !ec && p != end; p.increment(ec)) {
    auto pid = base::to_number<pid_t>(p->path().filename().string());
    if (!pid)
      continue;
    std::error_code no;
    for (fs::directory_iterator f{p->path() / "fd", no}; !no && f != end; f.increment(no)) {
      std::error_code gone;
      if (fs::read_symlink(f->path(), gone).string() != wanted)
        continue;
      std::ifstream in{p->path() / "comm"};
      std::string name;
      std::getline(in, name);
      return {*pid, name};
    }
  }
  return {};
}

constexpr std::uint64_t giga = 1ull << 30;
} // namespace

running find_server(const std::string& socket_file) {
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  running r;
  int fd = socket_file.size() < sizeof to.sun_path ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;
  if (fd < 0)
    return r;
  std::memcpy(to.sun_path, socket_file.data(), socket_file.size());
  ucred who{};
  socklen_t size = sizeof who;
  if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0)
    r.is_forbidden = errno == EACCES || errno == EPERM;
  else if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0)
    r.pid = who.pid;
  close(fd);
  return r;
}

std::optional<holder> holder_of(const listen_at& at) {
  bool is_v6 = at.address.find(':') != at.address.npos;
  auto any = std::string(is_v6 ? 32 : 8, '0'), own = in_hex(at.address);
  std::ifstream in{is_v6 ? "/proc/net/tcp6" : "/proc/net/tcp"};
  std::string line;
  std::getline(in, line);
  while (std::getline(in, line)) {
    std::istringstream fields{line};
    std::string skip, local, remote, state, inode;
    fields >> skip >> local >> remote >> state >> skip >> skip >> skip >> skip >> skip >> inode;
    auto colon = local.find(':');
    if (state != "0A" || colon == local.npos || std::strtoul(local.c_str() + colon + 1, nullptr, 16) != at.port)
      continue;
    auto address = local.substr(0, colon);
    if (address == own || address == any || own == any)
      return owner_of(inode);
  }
  return std::nullopt;
}

void check_ports(const config& c, const running& server, findings& out) {
  auto all = c.c2s;
  all.insert(all.end(), c.c2s_direct.begin(), c.c2s_direct.end());
  all.insert(all.end(), c.http.begin(), c.http.end());
  for (auto& at : all) {
    auto who = holder_of(at);
    if (!who && (server.pid || server.is_forbidden))
      out.push_back({"port.closed", severity::error, text_of(at) + ": the server runs, but does not listen there", "restart the server: ports change with a restart"});
    else if (!who)
      out.push_back({"port.free", severity::ok, text_of(at) + " is free", {}});
    else if (server.pid && who->pid == server.pid)
      out.push_back({"port.served", severity::ok, text_of(at) + " is the server's", {}});
    else if (who->pid == 0)
      out.push_back({"port.unknown", severity::warning, text_of(at) + " is held by a process of another user", "look again as root: sudo covey doctor"});
    else
      out.push_back({"port.taken", severity::error, text_of(at) + " is held by " + who->program + " (pid " + std::to_string(who->pid) + ')',
                     "stop " + who->program + ", or take another port"});
  }
}

void check_files(const running& server, findings& out) {
  constexpr std::uint64_t enough = 65'536;
  std::uint64_t limit = 0;
  if (server.pid) {
    std::ifstream in{"/proc/" + std::to_string(server.pid) + "/limits"};
    for (std::string line; std::getline(in, line);)
      if (line.starts_with("Max open files"))
        limit = std::strtoull(line.c_str() + 14, nullptr, 10);
  } else { // what a server gets that is started like this
    rlimit l{};
    getrlimit(RLIMIT_NOFILE, &l);
    limit = l.rlim_max;
  }
  auto text = "the server may have " + std::to_string(limit) + " files open, and as many connections at most";
  if (limit >= enough)
    out.push_back({"files.enough", severity::ok, text, {}});
  else
    out.push_back({"files.few", severity::warning, text, "LimitNOFILE=1048576 in the unit (systemctl edit covey), or ulimit -n"});
}

void check_clock(const std::string& data_folder, findings& out) {
  timex t{};
  int state = adjtimex(&t);
  if (state < 0 || state == TIME_ERROR || (t.status & STA_UNSYNC))
    out.push_back({"clock.alone", severity::warning, "nothing keeps this machine's clock right", "timedatectl set-ntp true"});
  else
    out.push_back({"clock.kept", severity::ok, "the clock is kept right", {}});
  constexpr auto slack = std::chrono::minutes{2};
  auto now = fs::file_time_type::clock::now();
  std::error_code ec;
  for (fs::directory_iterator i{data_folder + "/store", ec}, end; !ec && i != end; i.increment(ec)) {
    std::error_code gone;
    if (auto at = i->last_write_time(gone); !gone && at > now + slack) {
      out.push_back({"clock.behind", severity::error, i->path().string() + " was written in the future: the clock was set back", "set the clock, then restart the server"});
      return;
    }
  }
}

std::optional<sync_times> measure_sync(const std::string& folder) {
  auto file = folder + "/doctor." + std::to_string(getpid());
  int fd = open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0)
    return std::nullopt;
  unlink(file.c_str());
  std::vector<std::chrono::microseconds> all;
  char block[4'096] = {};
  bool ok = true;
  auto until = base::steady::now() + std::chrono::seconds{5};
  for (int i = 0; i < 20 && ok && base::steady::now() < until; ++i) {
    auto from = base::steady::now();
    ok = write(fd, block, sizeof block) == sizeof block && fdatasync(fd) == 0;
    all.push_back(std::chrono::duration_cast<std::chrono::microseconds>(base::steady::now() - from));
  }
  close(fd);
  if (!ok)
    return std::nullopt;
  std::sort(all.begin(), all.end());
  return sync_times{all[all.size() / 2], all.back()};
}

void check_storage(const std::string& data_folder, findings& out) {
  std::error_code ec;
  if (!fs::exists(data_folder, ec)) {
    out.push_back({"storage.absent", severity::note, data_folder + " is not there yet: the first start makes it", {}});
    return;
  }
  struct statvfs fs{};
  if (statvfs(data_folder.c_str(), &fs) == 0) {
    auto free = std::uint64_t{fs.f_bavail} * fs.f_frsize, all = std::uint64_t{fs.f_blocks} * fs.f_frsize;
    auto text = std::to_string(free >> 20) + " MB of " + std::to_string(all >> 20) + " MB are free at " + data_folder;
    bool is_full = free < giga / 10 || (fs.f_files > 0 && fs.f_favail < 100);
    if (is_full || free < giga || free < all / 20)
      out.push_back({is_full ? "storage.full" : "storage.nearly_full", is_full ? severity::error : severity::warning, text, "make room, or move the data folder to a larger disk"});
    else
      out.push_back({"storage.roomy", severity::ok, text, {}});
  }
  auto times = measure_sync(data_folder);
  if (!times) {
    out.push_back({"storage.not_writable", severity::error, data_folder + ": " + std::strerror(errno),
                   "be the server's user (sudo -u covey covey doctor), or: chown -R covey " + data_folder});
    return;
  }
  auto text = "a write is durable after " + std::to_string(times->median.count()) + " µs, at worst " + std::to_string(times->worst.count()) + " µs, at " + data_folder;
  if (times->median > std::chrono::milliseconds{20})
    out.push_back({"storage.slow", severity::warning, text, "move the data folder to a faster disk: each acknowledged change waits for this"});
  else
    out.push_back({"storage.fast", severity::ok, text, {}});
}

} // namespace server::doctor
