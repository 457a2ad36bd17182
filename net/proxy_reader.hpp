// Reads the PROXY header in front of a connection, before anything else sees its bytes.
#pragma once
#include "net/loop.hpp"
#include "net/proxy_header.hpp"
#include <functional>
#include <memory>
#include <unordered_set>
#include <vector>

namespace net {

struct proxy_limits {
  std::chrono::milliseconds time{5'000}; // from accept to a whole header
  std::size_t connections = 4'096;       // that wait for one
};

/// One thread: the loop's. Only who is trusted is believed: a listener is either behind a proxy or it is
/// not, and nothing is guessed from the bytes.
class proxy_reader {
public:
  using on_header = std::function<void(int fd, std::optional<endpoint> source)>;
  /// `why`: "stranger", "deadline", "closed", "too many" or the name of a proxy_errc.
  using on_refused = std::function<void(const std::string& peer, std::string_view why)>;

  proxy_reader(loop& l, std::vector<network> trusted, const proxy_limits& limits, on_refused f)
    : loop_(l), trusted_(std::move(trusted)), limits_(limits), refused_(std::move(f)) {}
  proxy_reader(const proxy_reader&) = delete;
  /// Closes what waits.
  ~proxy_reader();

  /// Takes an accepted descriptor. `then` gets it with nothing but the header read; or it is closed
  /// and on_refused is called. May call either at once.
  void take(int fd, bool is_v6, on_header then);
  [[nodiscard]] std::size_t waiting() const { return waiting_.size(); }

private:
  struct pending;
  void wait(const std::shared_ptr<pending>& p);
  void read(const std::shared_ptr<pending>& p);
  void refuse(const std::shared_ptr<pending>& p, std::string_view why);

  loop& loop_;
  std::vector<network> trusted_;
  proxy_limits limits_;
  on_refused refused_;
  std::unordered_set<std::shared_ptr<pending>> waiting_;
};

} // namespace net
