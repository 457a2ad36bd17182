// A client's connection: bytes in order both ways, each with a delay, until either side ends it or it is cut in silence.
#pragma once
#include "net/client_socket.hpp"
#include "tests/sim_nodes/history.hpp"
#include <deque>
#include <functional>
#include <memory>

namespace sim_nodes {

class server;

/// The client's end.
class pipe_user {
public:
  virtual ~pipe_user() = default;
  virtual void on_bytes(stream_id stream, const std::string& bytes) = 0;
  virtual void on_gone(stream_id stream) = 0;
};

struct pipe {
  stream_id stream = 0;
  std::size_t client = 0, node = 0;
  std::uint64_t life = 0;                // of the process
  pipe_user* user = nullptr;             // null: the client has let go
  net::client_socket* socket = nullptr;  // null: the server has, or never had it
  std::uint32_t number = 0;              // at the server
  std::size_t reactor = 0;               // there
  bool is_cut = false;                   // nothing gets through any more, and nobody is told
  duration delay = 1ms;                  // at most, one way
  time_point last_up{}, last_down{};     // arrivals
  std::size_t slow = 0;                  // so many bytes are taken from the server at a time; 0: all
  struct unread { std::size_t bytes; std::function<void()> when_read; };
  std::deque<unread> unread_by_server;   // it may stop reading for a while, and with the connection it is lost
};
using pipe_ref = std::shared_ptr<pipe>;

} // namespace sim_nodes
