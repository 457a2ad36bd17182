// Certificates by host name. Reloading swaps them; connections keep what they began with.
#pragma once
#include "base/result.hpp"
#include "net/ticket_keys.hpp"
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

typedef struct ssl_st SSL;
typedef struct ssl_ctx_st SSL_CTX;
typedef struct x509_st X509;

namespace net {

/// Why a certificate cannot be used.
enum class certificate_errc {
  client_ca, // the file of authorities for clients
  chain_missing, chain_unreadable, chain_not_pem, key_missing, key_unreadable, key_not_pem,
  key_does_not_match, expired, not_yet_valid, wrong_host, not_for_servers,
  refused, // by OpenSSL: too weak a key or signature, a broken chain
};
struct certificate_problem {
  certificate_errc what;
  std::string file, text; // text: for people, one sentence
};
struct certificate_info {
  std::string subject, issuer;
  std::vector<std::string> names; // subject alternative names: DNS, then IP addresses
  std::chrono::system_clock::time_point not_before, not_after;
};

/// Reads both files and checks that they fit together, are valid now and cover `host` (subject
/// alternative names only; empty: any). Any thread; reads files.
[[nodiscard]] base::result<certificate_info, certificate_problem>
check_certificate(const std::string& chain_file, const std::string& key_file, std::string_view host);

/// The file holds certificates of authorities. Reads it.
[[nodiscard]] base::result<void, certificate_problem> check_authorities(const std::string& file);

/// The XMPP addresses among its subject alternative names (RFC 6120 section 13.7.1.4), at most 16.
[[nodiscard]] std::vector<std::string> xmpp_addresses_of(const X509& x);

/// Whether the client's certificate, if any, was held against the authorities that its host has now. A session that
/// comes back by a ticket brings the verdict of another host, or of authorities that have been replaced since.
[[nodiscard]] bool knows_client(const SSL& ssl);

using tls_context_ref = std::shared_ptr<SSL_CTX>;

/// What is spoken under TLS: a client that offers protocols (ALPN) must offer this one.
enum class tls_use { xmpp_client, http };
struct tls_options {
  tls_use use = tls_use::xmpp_client;
  unsigned tickets = 0; // sent by each handshake of TLS 1.3, for resumption; need tls_identity_source::use_tickets
  std::chrono::seconds ticket_life{7'200};
  std::string client_ca = {}; // PEM file: clients are asked for a certificate of one of these; empty: they are not
};

/// A server context for very many idle connections: TLS 1.2 and 1.3, forward secrecy only, no
/// renegotiation, no compression. Ignores SIGPIPE for the process, as OpenSSL writes with write(2).
/// An expired certificate is taken: whether it may be used is the configuration's business. What a client's certificate
/// is worth is for the layer above: the handshake goes on without one, or with one that cannot be verified.
[[nodiscard]] base::result<tls_context_ref, certificate_problem>
make_server_context(const std::string& chain_file, const std::string& key_file, const tls_options& options = {});

/// Host name to context; the server name of the client hello chooses (SNI), else the default. Any
/// thread. Connections keep the context that they began with.
class tls_identity_source {
public:
  struct files { std::string host, chain, key; };
  tls_identity_source() = default;
  tls_identity_source(const tls_identity_source&) = delete;
  tls_identity_source& operator=(const tls_identity_source&) = delete;
  /// Adds or replaces. The first host is the default.
  void put(const std::string& host, tls_context_ref context);
  /// Loads all anew and swaps the table at once, the first being the default; with any problem
  /// nothing changes. Reads files.
  [[nodiscard]] base::result<void, std::vector<certificate_problem>>
  load(const std::vector<files>& all, const tls_options& options = {});
  /// All at once, instead of those that are there; the first is the default.
  void replace(const std::vector<std::pair<std::string, tls_context_ref>>& all);
  /// Contexts with tickets need keys: these. Before the first handshake. A ticket is good for one
  /// rotation, with the certificate that it was given under; after a renewal there are full handshakes.
  void use_tickets(base::random& random, base::duration rotation) { tickets_ = std::make_unique<ticket_keys>(random, rotation); }
  [[nodiscard]] ticket_keys* tickets() const { return tickets_.get(); }
  /// Whether a certificate (its tag: see tls_identity.cpp) is in force for any host.
  [[nodiscard]] bool is_in_force(std::uint64_t tag) const;
  [[nodiscard]] bool is_empty() const;
  /// For a new connection; null if there is none at all. Case does not matter; a host that is not
  /// there (or empty): the default.
  [[nodiscard]] tls_context_ref find(std::string_view host) const;

private:
  using table = std::map<std::string, tls_context_ref, std::less<>>;
  mutable std::shared_mutex mutex_;
  table contexts_;
  std::unordered_multiset<std::uint64_t> tags_; // of their certificates
  std::unique_ptr<ticket_keys> tickets_;
  tls_context_ref default_;
  std::string default_host_;
};

} // namespace net
