// Files, on base/x509.
#include "server/cluster_folder.hpp"
#include "base/bytes.hpp"
#include "base/crypto.hpp"
#include "base/files.hpp"
#include "base/network.hpp"
#include "cluster/link_rules.hpp"
#include "server/files.hpp"
#include <algorithm>
#include <filesystem>
#include <unistd.h>

namespace server {

namespace {
using base::x509::certificate;
using base::x509::key;
namespace wire = cluster::wire;
constexpr std::string_view authority_prefix = "covey cluster ", token_prefix = "covey1.";
constexpr auto day = std::chrono::hours{24};
constexpr std::size_t most_tokens = 100, fingerprint_size = 32, secret_size = 16;

cluster_problem problem(cluster_errc what, std::string text) { return {what, std::move(text)}; }

cluster_result<void> make_folder(const std::string& path) {
  std::error_code ec;
  bool is_new = std::filesystem::create_directories(path, ec);
  if (!ec && is_new)
    std::filesystem::permissions(path, std::filesystem::perms::owner_all, ec);
  if (ec)
    return base::fail(problem(cluster_errc::failed, path + " cannot be made: " + ec.message()));
  return {};
}

cluster_result<void> save(const std::string& path, const std::string& text, mode_t mode) {
  if (auto ok = write_whole(path, text, mode); !ok)
    return base::fail(problem(cluster_errc::failed, ok.error()));
  return {};
}

cluster_result<base::x509::authority> read_authority(const cluster_folder& at) {
  auto own = certificate::read(at.authority());
  auto its_key = key::read(at.authority_key());
  if (!own || !its_key)
    return base::fail(problem(cluster_errc::not_found, "the cluster's authority is not kept in " + at.path + ": be where it is, or make one with `covey cluster init-ca`"));
  if (!own->is_of(*its_key))
    return base::fail(problem(cluster_errc::failed, at.authority() + " and " + at.authority_key() + " do not belong together"));
  if (!own->lasts({}))
    return base::fail(problem(cluster_errc::failed, at.authority() + " has expired"));
  return base::x509::authority{*own, *its_key};
}

std::string names_of(const std::string& node, const std::vector<std::string>& hosts) {
  auto names = "URI:" + wire::node_uri(node);
  for (auto& h : hosts)
    names += (base::parse_network(h) ? ",IP:" : ",DNS:") + h;
  return names;
}

bool is_host(const std::string& h) {
  return h.find('/') == h.npos && (base::parse_network(h) || wire::is_node_address(h + ":1"));
}
} // namespace

cluster_result<void> make_cluster_authority(const cluster_folder& at, const std::string& cluster) {
  if (!wire::is_node_name(cluster) || cluster.size() > 40)
    return base::fail(problem(cluster_errc::usage, '"' + cluster + "\" is no name of a cluster: at most 40 of a-z, 0-9, '-', '_' and '.'"));
  for (auto& file : {at.authority(), at.authority_key()})
    if (is_there(file))
      return base::fail(problem(cluster_errc::conflict, file + " is there already and stays as it is: move it away for another cluster"));
  if (auto ok = make_folder(at.path); !ok)
    return ok;
  auto made = base::x509::make_authority(std::string{authority_prefix} + cluster, 3'650 * day);
  if (auto ok = save(at.authority_key(), made.key.pem(), 0600); !ok)
    return ok;
  return save(at.authority(), made.own.pem(), 0644);
}

cluster_result<std::string> cluster_name(const cluster_folder& at) {
  auto own = certificate::read(at.authority());
  auto name = own ? own->name() : std::string{};
  if (!name.starts_with(authority_prefix))
    return base::fail(problem(cluster_errc::not_found, at.authority() + " is no authority of a cluster"));
  return name.substr(authority_prefix.size());
}

cluster_result<void> check_place(const cluster_folder& at, const std::string& fingerprint, const std::string& node) {
  if (is_there(at.authority())) {
    auto old = certificate::read(at.authority());
    if (!old || old->fingerprint() != fingerprint)
      return base::fail(problem(cluster_errc::conflict, at.authority() + " is another authority: it stays as it is; move the folder away to leave that cluster"));
  }
  if (is_there(at.certificate())) {
    auto old = certificate::read(at.certificate());
    if (!old || wire::node_of(old->uris()) != node)
      return base::fail(problem(cluster_errc::conflict, at.certificate() + " is of another node: it stays as it is; move it away, with its key"));
  }
  return {};
}

cluster_result<base::x509::key> provide_node_key(const cluster_folder& at) {
  if (auto old = key::read(at.key()))
    return *old;
  if (is_there(at.key()))
    return base::fail(problem(cluster_errc::conflict, at.key() + " holds no key: it stays as it is; move it away"));
  if (auto ok = make_folder(at.path); !ok)
    return base::fail(ok.error());
  auto fresh = key::generate();
  if (auto ok = save(at.key(), fresh.pem(), 0600); !ok)
    return base::fail(ok.error());
  return fresh;
}

cluster_result<void> issue_node_certificate(const cluster_folder& authority, const cluster_folder& to, const std::string& node,
                                            const std::vector<std::string>& hosts) {
  if (!wire::is_node_name(node))
    return base::fail(problem(cluster_errc::usage, '"' + node + "\" is no name of a node: at most 63 of a-z, 0-9, '-', '_' and '.'"));
  for (auto& h : hosts)
    if (!is_host(h))
      return base::fail(problem(cluster_errc::usage, '"' + h + "\" is no host name or address"));
  auto ca = read_authority(authority);
  if (!ca)
    return base::fail(ca.error());
  if (auto ok = check_place(to, ca->own.fingerprint(), node); !ok)
    return ok;
  auto own = provide_node_key(to);
  if (!own)
    return base::fail(own.error());
  auto x = base::x509::issue(*ca, *own, {node, names_of(node, hosts), 397 * day});
  if (auto ok = save(to.authority(), ca->own.pem(), 0644); !ok)
    return ok;
  return save(to.certificate(), x.pem() + ca->own.pem(), 0644);
}

// --- tokens. Behind the prefix, in base64url: fingerprint, secret, end (8 bytes, seconds since 1970), address.

std::string encode(const join_token& t) {
  auto bytes = t.fingerprint + t.secret;
  base::put_be64(bytes, static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::seconds>(t.expires.time_since_epoch()).count()));
  auto text = base::to_base64(bytes + t.address);
  std::replace(text.begin(), text.end(), '+', '-');
  std::replace(text.begin(), text.end(), '/', '_');
  text.resize(text.find_last_not_of('=') + 1);
  return std::string{token_prefix} + text;
}

std::optional<join_token> parse_token(const std::string& text) {
  if (!text.starts_with(token_prefix) || text.size() > 1'000)
    return std::nullopt;
  auto body = text.substr(token_prefix.size());
  if (body.find_first_of("+/=") != body.npos)
    return std::nullopt;
  std::replace(body.begin(), body.end(), '-', '+');
  std::replace(body.begin(), body.end(), '_', '/');
  body.append((4 - body.size() % 4) % 4, '=');
  auto bytes = base::from_base64(body);
  constexpr auto fixed = fingerprint_size + secret_size + 8;
  if (!bytes || bytes->size() <= fixed || !wire::is_node_address(bytes->substr(fixed)))
    return std::nullopt;
  auto end = base::get_be64(std::string_view{*bytes}.substr(fingerprint_size + secret_size, 8));
  if (end > 1ull << 40) // no date, and no overflow
    return std::nullopt;
  return join_token{bytes->substr(fixed), bytes->substr(0, fingerprint_size), bytes->substr(fingerprint_size, secret_size),
                    base::wall_time{std::chrono::seconds{end}}};
}

namespace {
std::string token_file(const cluster_folder& at, const std::string& secret) {
  return at.tokens() + '/' + base::to_hex(base::crypto::digest(base::crypto::hash::sha256, secret));
}
/// Nothing: it cannot be read.
std::optional<base::wall_time> end_of(const std::string& file) {
  auto text = base::read_file(file).value_or(std::string{});
  auto seconds = base::to_number<std::int64_t>(text.substr(0, text.find('\n')));
  return seconds && *seconds < 1ll << 40 ? std::optional{base::wall_time{std::chrono::seconds{*seconds}}} : std::nullopt;
}
} // namespace

cluster_result<join_token> make_token(const cluster_folder& at, const std::string& address, std::chrono::seconds life, base::wall_time now,
                                      base::random& random) {
  if (!wire::is_node_address(address))
    return base::fail(problem(cluster_errc::usage, '"' + address + "\" is no address like node1.example.org:" + std::to_string(default_cluster_port)));
  auto ca = read_authority(at);
  if (!ca)
    return base::fail(ca.error());
  if (auto ok = make_folder(at.tokens()); !ok)
    return base::fail(ok.error());
  std::size_t n = 0;
  std::error_code ec;
  for (auto& e : std::filesystem::directory_iterator{at.tokens(), ec}) {
    if (auto end = end_of(e.path().string()); !end || *end <= now)
      std::filesystem::remove(e.path(), ec);
    else
      ++n;
  }
  if (n >= most_tokens)
    return base::fail(problem(cluster_errc::conflict, "there are " + std::to_string(n) + " unused tokens in " + at.tokens() + ": remove files there, or wait"));
  join_token t{address, ca->own.fingerprint(), std::string(secret_size, '\0'), now + life};
  random.fill({reinterpret_cast<std::uint8_t*>(t.secret.data()), t.secret.size()});
  auto seconds = std::chrono::ceil<std::chrono::seconds>(t.expires.time_since_epoch()).count();
  if (auto ok = save(token_file(at, t.secret), std::to_string(seconds) + '\n', 0600); !ok)
    return base::fail(ok.error());
  return t;
}

bool take_token(const cluster_folder& at, const std::string& secret, base::wall_time now) {
  if (secret.size() != secret_size)
    return false;
  auto file = token_file(at, secret);
  auto end = end_of(file);
  if (unlink(file.c_str()) != 0) // exactly one of several succeeds
    return false;
  return sync_folder(at.tokens()) && end && now < *end;
}

cluster::rpc::join_handler cluster_join_handler(const cluster_folder& at, std::function<std::vector<std::string>()> seeds, const base::clock& clock) {
  return [at, seeds = std::move(seeds), &clock](const cluster::rpc::join_request& r) -> base::result<cluster::rpc::join_grant, std::string> {
    auto asked = base::x509::read_request(r.request);
    if (!asked)
      return base::fail(std::string{"the request cannot be used"});
    auto name = cluster_name(at);
    auto ca = read_authority(at);
    if (!name || !ca)
      return base::fail(!name ? name.error().text : ca.error().text);
    if (auto own = certificate::read(at.certificate()); own && wire::node_of(own->uris()) == r.node)
      return base::fail("the name " + r.node + " is this node's");
    if (!take_token(at, r.secret, clock.wall()))
      return base::fail(std::string{"the token is wrong, used, or over"});
    auto host = r.address.substr(0, r.address.rfind(':'));
    if (host.front() == '[')
      host = host.substr(1, host.size() - 2);
    auto x = base::x509::issue(*ca, *asked, {r.node, names_of(r.node, {host}), 397 * day});
    return cluster::rpc::join_grant{x.pem(), ca->own.pem(), *name, seeds()};
  };
}

cluster_result<void> keep_grant(const cluster_folder& at, const cluster::rpc::join_grant& g) {
  auto authority = certificate::parse(g.authority);
  auto own = certificate::parse(g.certificate);
  auto node = own ? wire::node_of(own->uris()) : std::nullopt;
  if (!authority || !node)
    return base::fail(problem(cluster_errc::failed, "what the cluster gave cannot be used"));
  if (auto ok = check_place(at, authority->fingerprint(), *node); !ok)
    return ok;
  std::string seeds;
  for (auto& s : g.seeds)
    if (wire::is_node_address(s))
      seeds += s + '\n';
  if (auto ok = save(at.authority(), authority->pem(), 0644); !ok)
    return ok;
  if (auto ok = save(at.certificate(), own->pem() + authority->pem(), 0644); !ok)
    return ok;
  return save(at.seeds(), seeds, 0600);
}

} // namespace server
