// Logins one after the other, and new accounts.
#include "bench/load/bench.hpp"

namespace load {

int bench::logins(bool bare) {
  loop.only_handshake = bare;
  loop.ends_when_ready = true;
  std::uint64_t done = 0;
  bool stopping = false;
  std::function<void(int)> again = [&](int i) {
    wires[static_cast<std::size_t>(i)] = std::make_unique<wire>(loop, i);
    auto& w = *wires[static_cast<std::size_t>(i)];
    w.on_bytes = [](wire&, std::string_view s) { return s.size(); };
    w.on_ready = [&, i](wire& me) {
      ++done;
      if (!bare)
        me.send("</stream:stream>");
      me.flush();
      finished.push_back(i);
    };
    w.start(user(i), "b" + std::to_string(done));
  };
  wires.resize(static_cast<std::size_t>(o.pairs));
  for (int i = 0; i < o.pairs; ++i)
    again(i);
  auto turn = [&] { // a wire may not be replaced inside its own call
    for (int i : std::exchange(finished, {}))
      if (!stopping)
        again(i);
    return false;
  };
  loop.run(o.warm_up, turn);
  auto seen = watch(done, turn);
  stopping = true;
  loop.total.sent = loop.total.received = done;
  print({}, seen);
  return 0;
}

int bench::create() {
  loop.total = {};
  int begun = 0, done = 0;
  wires.resize(static_cast<std::size_t>(o.sessions));
  bool good = loop.run(600, [&] {
    for (int i : std::exchange(finished, {})) {
      wires[static_cast<std::size_t>(i)] = nullptr;
      ++done;
    }
    while (begun < o.sessions && begun - done - static_cast<int>(loop.total.failed) < 50) {
      int i = begun++;
      wires[static_cast<std::size_t>(i)] = std::make_unique<wire>(loop, i);
      auto& w = *wires[static_cast<std::size_t>(i)];
      w.on_bytes = [](wire&, std::string_view s) { return s.size(); };
      w.on_ready = [this, i](wire&) { finished.push_back(i); };
      w.start(user(i), "b");
    }
    return done + static_cast<int>(loop.total.failed) == o.sessions;
  });
  print({}, {static_cast<std::uint64_t>(done), 0, 1, 0});
  return good && loop.total.failed == 0 ? 0 : 1;
}

} // namespace load
