// The cluster's authority, certificates of nodes, and joining by a token. None of them needs a running server.
#include "cluster/rpc/join_client.hpp"
#include "cluster/link_rules.hpp"
#include "server/cli/commands.hpp"
#include "server/cluster_folder.hpp"
#include "server/config/keys.hpp"
#include <algorithm>
#include <ctime>
#include <iomanip>
#include <iostream>
#include <unistd.h>

namespace cli {

namespace {
/// --folder, or that of the configured data.
server::cluster_folder folder_of(const options& o) {
  return o.folder.empty() ? server::cluster_folder_in(load(o).config.data_folder) : server::cluster_folder{o.folder};
}

int fail(const options& o, const server::cluster_problem& p) {
  using enum server::cluster_errc;
  int code = p.what == usage ? exit_code::usage : p.what == not_found ? exit_code::not_found : p.what == conflict ? exit_code::conflict : exit_code::failed;
  return say(o.json, code, p.text);
}

std::string machine_name() {
  char text[256] = "";
  gethostname(text, sizeof text - 1);
  return text;
}
/// This machine's name, as a node may have it: the part before the first dot, in lower case. Empty: it has none.
std::string own_name() {
  auto name = machine_name();
  name.resize(std::min(name.size(), name.find('.')));
  for (auto& c : name)
    if (c >= 'A' && c <= 'Z')
      c = static_cast<char>(c - 'A' + 'a');
  return cluster::wire::is_node_name(name) ? name : std::string{};
}
std::string own_address() { return machine_name() + ':' + std::to_string(server::default_cluster_port); }
} // namespace

int cluster_init(const options& o) {
  auto at = folder_of(o);
  if (auto ok = server::make_cluster_authority(at, o.name); !ok)
    return fail(o, ok.error());
  auto node = o.node.empty() ? own_name() : o.node;
  auto made = node.empty() ? base::result<void, server::cluster_problem>{} : server::issue_node_certificate(at, at, node, o.addresses);
  if (!made)
    return fail(o, made.error());
  auto text = "the authority of the cluster " + o.name + " is " + at.authority() + ", its key " + at.authority_key() + ": keep a copy of both in a safe place";
  if (!node.empty())
    text += "\nthis node is " + node + ": " + at.certificate();
  return say(o.json, exit_code::ok, text + "\nnext: covey cluster token, and on another machine covey join TOKEN",
             {{"authority", at.authority()}, {"key", at.authority_key()}, {"cluster", o.name}, {"node", node}});
}

int cluster_issue(const options& o) {
  auto at = folder_of(o);
  server::cluster_folder to{o.out.empty() ? at.path + "/issued/" + o.node : o.out};
  if (auto ok = server::issue_node_certificate(at, to, o.node, o.addresses); !ok)
    return fail(o, ok.error());
  return say(o.json, exit_code::ok, "put ca.pem, node.pem and node.key of " + to.path + " into the folder \"cluster\" of that node's data",
             {{"node", o.node}, {"authority", to.authority()}, {"certificate", to.certificate()}, {"key", to.key()}});
}

int cluster_token(const options& o) {
  auto life = server::parse_duration(o.life);
  if (!life || *life < 1'000 || *life > 7 * 86'400'000LL)
    return say(o.json, exit_code::usage, '"' + o.life + "\" is no duration from 1s to 7d, like 1h");
  base::secure_random random;
  auto now = base::system_clock{}.wall();
  auto address = o.addresses.empty() ? own_address() : o.addresses.front();
  auto made = server::make_token(folder_of(o), address, std::chrono::seconds{*life / 1'000}, now, random);
  if (!made)
    return fail(o, made.error());
  auto token = encode(*made);
  auto until = std::chrono::duration_cast<std::chrono::seconds>(made->expires.time_since_epoch()).count();
  if (o.json)
    return say(true, exit_code::ok, {}, {{"token", token}, {"address", made->address}, {"expires", until}});
  std::cout << token << '\n';
  std::time_t end = until;
  char text[64] = "";
  std::strftime(text, sizeof text, "%F %H:%M %Z", std::localtime(&end));
  std::cerr << "good once, until " << text << ", for a node that reaches " << made->address << ": covey join TOKEN\n";
  return exit_code::ok;
}

int cluster_status(const options& o) {
  pb::cluster_reply out;
  int code = 0;
  if (!call(o, code, &stub::cluster_status, pb::empty{}, &out))
    return code;
  if (auto result = out.result().result(); result != pb::code::ok)
    return say(o.json, result, out.result().text());
  if (o.json) {
    auto list = nlohmann::json::array();
    for (auto& n : out.nodes())
      list.push_back({{"name", n.name()}, {"address", n.address()}, {"version", n.version()}, {"state", n.state()}, {"draining", n.draining()}, {"sessions", n.sessions()},
                      {"lag", n.lag()}, {"open", n.open()}});
    return say(true, exit_code::ok, {}, {{"nodes", std::move(list)}, {"divergences", out.divergences()}});
  }
  std::cout << std::left << std::setw(16) << "NODE" << std::setw(10) << "VERSION" << std::setw(20) << "STATE" << std::setw(10) << "SESSIONS" << std::setw(8) << "LAG" << std::setw(8) << "OPEN"
            << "ADDRESS\n";
  for (auto& n : out.nodes())
    std::cout << std::setw(16) << n.name() << std::setw(10) << (n.version().empty() ? "-" : n.version()) << std::setw(20) << n.state() + (n.draining() ? ", draining" : "") << std::setw(10) << n.sessions() << std::setw(8)
              << n.lag() << std::setw(8) << n.open() << n.address() << '\n';
  return exit_code::ok;
}

int cluster_leave(const options& o) {
  if (!o.yes && !confirm("Take this node out of the cluster, and stop it? Its clients go to the others."))
    return say(o.json, exit_code::usage, "nothing has changed: say --yes");
  pb::status out;
  int code = 0;
  return call(o, code, &stub::leave_cluster, pb::empty{}, &out) ? say(o.json, out, "this node leaves the cluster and stops") : code;
}

int join(const options& o) {
  auto token = server::parse_token(o.token);
  if (!token)
    return say(o.json, exit_code::usage, "this is no token: it begins with covey1. and was printed by `covey cluster token`");
  if (token->expires < base::system_clock{}.wall())
    return say(o.json, exit_code::failed, "the token is over: make another with `covey cluster token`");
  cluster::rpc::join_request r{token->secret, o.node.empty() ? own_name() : o.node, o.addresses.empty() ? own_address() : o.addresses.front(), {}};
  if (!cluster::wire::is_node_name(r.node))
    return say(o.json, exit_code::usage, '"' + r.node + "\" is no name of a node: say --node NAME");
  if (!cluster::wire::is_node_address(r.address))
    return say(o.json, exit_code::usage, '"' + r.address + "\" is no address: say --address HOST:PORT");
  auto at = folder_of(o);
  if (auto ok = server::check_place(at, token->fingerprint, r.node); !ok) // before the token is spent
    return fail(o, ok.error());
  auto key = server::provide_node_key(at);
  if (!key)
    return fail(o, key.error());
  r.request = base::x509::make_request(*key, r.node);
  auto got = cluster::rpc::ask_for_certificate(token->address, token->fingerprint, r);
  if (!got)
    return say(o.json, got.error().is_answered ? exit_code::failed : exit_code::unreachable, got.error().text);
  if (auto ok = server::keep_grant(at, *got); !ok)
    return fail(o, ok.error());
  return say(o.json, exit_code::ok, r.node + " is a node of the cluster " + got->cluster + ": start coveyd",
             {{"node", r.node}, {"cluster", got->cluster}, {"address", r.address}, {"certificate", at.certificate()}, {"seeds", got->seeds}});
}

} // namespace cli
