// covey_load: the load generator. Prints one JSON line per run: what was counted, and what it cost the
// server's processes.
#include "bench/load/bench.hpp"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sys/resource.h>

namespace {

int usage() {
  std::fputs("usage: covey_load MODE --port N [--pid N]... [options]\n"
             "modes: create idle chat rate ping presence login handshake\n"
             "       store (each of --pairs N sends to --sessions N users who are not there, --window N unacknowledged)\n"
             "       friends (for later runs of idle: --sessions N --contacts N)\n"
             "       reconnect (all --sessions N are cut off at once, by a reset, and come back)\n"
             "options: --relay --tls --scram --pairs N --window N --sessions N --contacts N --seconds S --warm-up S --rate N --settle S\n"
             "         --user PREFIX --password TEXT --first N --pairing FILE (lines \"a b\": the numbers of two partners)\n"
             "         --acks (stream management: every <r/> is answered, <r/> behind each fifth stanza)\n"
             "         --port2 N (chat: where receivers log in) --home-port N (before that, another device of each: there their accounts live)\n"
             "         --other-pid N (of a database: its cost is told apart)\n"
             "         --features (idle: stream management and carbons, and nobody looks any more)\n"
             "         --way bind|classic|fast|pipelined: how clients come back (a new session; SASL and <resume/>; token and\n"
             "         <resume/> in one; the same before the features are read) --at-once N (under way) --storms N (one more goes\n"
             "         before) --pause S (from the cut on) --messages (at the end, one to each while it is away) --tickets (of TLS)\n", stderr);
  return 2;
}

} // namespace

int main(int argc, char** argv) {
  rlimit l{};
  getrlimit(RLIMIT_NOFILE, &l);
  l.rlim_cur = l.rlim_max;
  setrlimit(RLIMIT_NOFILE, &l);
  if (argc < 2)
    return usage();
  load::options o;
  o.mode = argv[1];
  bool good = true;
  auto parse_way = [&](std::string_view name) {
    for (auto [text, value] : {std::pair{"bind", load::way::bind}, {"classic", load::way::resume}, {"fast", load::way::token}, {"pipelined", load::way::pipelined}})
      if (name == text)
        return value;
    good = false;
    return load::way::bind;
  };
  for (int i = 2; i < argc; ++i) {
    std::string a = argv[i];
    auto next = [&] { return i + 1 < argc ? argv[++i] : const_cast<char*>(""); };
    if (a == "--port") o.to.port = static_cast<std::uint16_t>(std::atoi(next()));
    else if (a == "--port2") o.port2 = static_cast<std::uint16_t>(std::atoi(next()));
    else if (a == "--home-port") o.home_port = static_cast<std::uint16_t>(std::atoi(next()));
    else if (a == "--other-pid") o.other_pids.push_back(std::atoi(next()));
    else if (a == "--pid") o.pids.push_back(std::atoi(next()));
    else if (a == "--relay") o.to.is_relay = true;
    else if (a == "--tls") o.to.is_tls = true;
    else if (a == "--tickets") o.to.keeps_tickets = true;
    else if (a == "--scram") o.to.mechanism = load::sasl::scram_sha1;
    else if (a == "--acks") o.to.manages = true;
    else if (a == "--features") o.to.manages = o.to.carbons = o.inactive = true;
    else if (a == "--pairs") o.pairs = std::atoi(next());
    else if (a == "--window") o.window = std::atoi(next());
    else if (a == "--sessions") o.sessions = std::atoi(next());
    else if (a == "--contacts") o.contacts = std::atoi(next());
    else if (a == "--seconds") o.seconds = std::atof(next());
    else if (a == "--warm-up") o.warm_up = std::atof(next());
    else if (a == "--rate") o.rate = std::atof(next());
    else if (a == "--settle") o.settle = std::atof(next());
    else if (a == "--first") o.first = std::atoi(next());
    else if (a == "--user") o.to.user_prefix = next();
    else if (a == "--password") o.to.password = next();
    else if (a == "--pairing") o.pairing_file = next();
    else if (a == "--way") o.back = parse_way(next());
    else if (a == "--at-once") o.at_once = std::atoi(next());
    else if (a == "--storms") o.storms = std::atoi(next());
    else if (a == "--pause") o.pause = std::atof(next());
    else if (a == "--messages") o.messages = true;
    else return usage();
  }
  if (!good)
    return usage();
  if (!o.pairing_file.empty()) {
    std::ifstream in{o.pairing_file};
    for (int a, b; in >> a >> b;)
      o.pairing.emplace_back(a, b);
  }
  o.to.registers = o.mode == "create";
  if (o.mode == "reconnect") { // clients that can come back, by a mechanism that keeps the password off the wire
    o.to.manages = true;
    o.to.mechanism = load::sasl::scram_sha1;
  }
  if (o.mode == "store")
    o.to.manages = true;
  load::bench b{o};
  int code = o.mode == "create" ? b.create() : o.mode == "friends" ? b.make_friends() : o.mode == "idle" ? b.idle()
             : o.mode == "chat" ? b.chat(false) : o.mode == "rate" ? b.chat(true) : o.mode == "ping" ? b.ping()
             : o.mode == "presence" ? b.presence() : o.mode == "login" ? b.logins(false) : o.mode == "handshake" ? b.logins(true)
             : o.mode == "reconnect" ? b.reconnect() : o.mode == "store" ? b.store() : usage();
  b.leave();
  return code;
}
