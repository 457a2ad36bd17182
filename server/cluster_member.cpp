// DATA/cluster: node.pem names the node, `identity` has its number and how often it has started, `seeds` whom a join named.
#include "server/cluster_member.hpp"
#include "actors/node.hpp"
#include "base/files.hpp"
#include "base/log.hpp"
#include "cluster/leases.hpp"
#include "cluster/rpc/node_service.hpp"
#include "server/cluster_folder.hpp"
#include "server/files.hpp"
#include "storage/rocksdb/engine.hpp"
#include <algorithm>
#include <filesystem>
#include <sstream>
#include <unistd.h>

namespace server {

namespace {
struct identity {
  cluster::node_id node = 0;
  std::uint64_t starts = 0;
};

/// The number of this start is on disk before anybody hears of it: no life comes twice.
base::result<identity, std::string> count_start(const cluster_folder& at, base::random& random) {
  auto file = at.path + "/identity";
  identity who;
  if (is_there(file)) {
    std::istringstream in{base::read_file(file).value_or("")};
    in >> std::hex >> who.node >> std::dec >> who.starts;
    if (!in || who.node == 0)
      return base::fail(file + " is damaged: remove it, and this node is another one for the cluster");
  } else {
    do
      who.node = random.number() >> 1; // fits a signed column
    while (who.node == 0);
  }
  ++who.starts;
  std::ostringstream out;
  out << std::hex << who.node << ' ' << std::dec << who.starts << '\n';
  if (auto ok = write_whole(file, out.str()); !ok)
    return base::fail(ok.error());
  return who;
}

std::string address_of(const config& c) {
  if (!c.cluster_address.empty())
    return c.cluster_address;
  auto colon = c.cluster_listen.rfind(':');
  auto host = c.cluster_listen.substr(0, colon);
  if (host != "0.0.0.0" && host != "[::]")
    return c.cluster_listen;
  char name[256] = "";
  gethostname(name, sizeof name - 1);
  return name + c.cluster_listen.substr(colon);
}

std::vector<std::string> seeds_of(const config& c, const cluster_folder& at) {
  auto all = c.cluster_seeds;
  std::istringstream lines{base::read_file(at.seeds()).value_or("")};
  for (std::string line; std::getline(lines, line);)
    if (!line.empty() && std::find(all.begin(), all.end(), line) == all.end())
      all.push_back(line);
  return all;
}
} // namespace

bool is_cluster_member(const std::string& data_folder) { return is_there(cluster_folder_in(data_folder).certificate()); }

base::result<void, std::string> forget_membership(const std::string& data_folder) {
  auto at = cluster_folder_in(data_folder);
  std::error_code ec;
  std::filesystem::rename(at.certificate(), at.certificate() + ".left", ec);
  if (ec)
    return base::fail(at.certificate() + " cannot be put aside: " + ec.message());
  (void)sync_folder(at.path);
  return {};
}

base::result<cluster_member, std::string> make_cluster_member(const config& c, actors::node& node) {
  auto at = cluster_folder_in(c.data_folder);
  auto name = cluster_name(at);
  auto certificate = cluster::rpc::read_identity(at.files());
  if (!name)
    return base::fail(name.error().text);
  if (!certificate)
    return base::fail(certificate.error());
  auto who = count_start(at, node.random());
  if (!who)
    return base::fail(who.error());
  for (auto& h : c.hosts)
    if (h.engine != "postgresql" && h.node.empty())
      base::log::warning("cluster.not_shared", "the accounts of this host are on this node alone: give it a database that all nodes reach, or name the node",
                         {{"host", h.domain}, {"engine", h.engine}});
  cluster_member m;
  auto engine = storage::open_rocksdb({c.data_folder + "/registry", c.write_buffer, c.block_cache});
  if (!engine)
    return base::fail(engine.error());
  m.rows = std::make_unique<storage::threaded_store>(std::move(*engine));
  m.own = {who->node, who->starts << cluster::process_shift, certificate->node, address_of(c), static_cast<std::uint16_t>(node.homes().size())};
  cluster::mesh_options o;
  o.members.cluster = *name;
  o.members.release = COVEY_VERSION;
  o.members.seeds = seeds_of(c, at);
  std::erase(o.members.seeds, m.own.address);
  m.has_seeds = !o.members.seeds.empty();
  m.others = std::make_unique<actors::peers>(node, m.own, std::move(o), m.rows.get());
  node.set_peers(m.others.get(), who->node << 1);
  return m;
}

base::result<void, std::string> start(cluster_member& m, const config& c, const base::clock& clock) {
  auto at = cluster_folder_in(c.data_folder);
  constexpr auto patience = std::chrono::seconds{5};
  auto ok = m.others->start([&](auto post, auto& events) -> base::result<std::unique_ptr<cluster::wire::transport>, std::string> {
    cluster::rpc::settings s;
    s.listen = c.cluster_listen;
    s.files = at.files();
    auto name = cluster_name(at);
    s.own = {name ? *name : "", m.own.name, m.own.life, m.own.address, 1, 1};
    s.limits.packet = 14u << 20; // one stanza, or one list of blocked addresses, may be large
    s.limits.queue = 32u << 20;
    s.join = cluster_join_handler(at, [own = m.own.address, others = m.others.get()] {
      std::vector<std::string> all{own}; // any of them may be away when the new one starts again
      if (auto now = others->status())
        for (auto& p : now->peers)
          if (p.state == cluster::peer_state::alive)
            all.push_back(p.address);
      return all;
    }, clock);
    auto made = cluster::rpc::node_service::start(std::move(s), std::move(post), events);
    if (!made)
      return base::fail("cluster.listen: " + made.error());
    return std::move(*made);
  });
  if (ok && m.has_seeds && !m.others->wait_until_joined(patience))
    base::log::warning("cluster.alone", "no other node answers; this one serves clients without them", {});
  return ok;
}

} // namespace server
