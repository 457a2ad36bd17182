// Certificates by host name. Reloading swaps them; connections keep what they began with.
#pragma once
#include "base/result.hpp"
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <vector>

typedef struct ssl_ctx_st SSL_CTX;


namespace net {

/// Why a certificate cannot be used.
enum class certificate_errc {
  chain_missing, chain_unreadable, chain_not_pem, key_missing, key_unreadable, key_not_pem,
  key_does_not_match, expired, not_yet_valid, wrong_host,
};
struct certificate_problem {
  certificate_errc what;
  std::string file, text; // text: for people, one sentence
};
struct certificate_info {
  std::string subject, issuer;
  std::vector<std::string> names; // subject alternative names (DNS)
  std::chrono::system_clock::time_point not_before, not_after;
};

/// Reads both files and checks that they fit together, are valid now and cover `host` (subject
/// alternative names only; empty: any). Any thread; reads files.
[[nodiscard]] base::result<certificate_info, certificate_problem>
check_certificate(const std::string& chain_file, const std::string& key_file, std::string_view host);

using tls_context_ref = std::shared_ptr<SSL_CTX>;

/// A server context for very many idle connections (docs/security.md says which settings and why).
[[nodiscard]] base::result<tls_context_ref, certificate_problem>
make_server_context(const std::string& chain_file, const std::string& key_file);

/// Host name to context; the server name of the client hello chooses (SNI), else the first one.
class tls_identity_source {
public:
  tls_identity_source() = default;
  tls_identity_source(const tls_identity_source&) = delete;
  tls_identity_source& operator=(const tls_identity_source&) = delete;
  /// Adds or replaces. Any thread.
  void put(const std::string& host, tls_context_ref context);
  [[nodiscard]] bool is_empty() const;
  /// For a new connection; null if there is none at all. `host` empty: the default.
  [[nodiscard]] tls_context_ref find(std::string_view host) const;

private:
  mutable std::shared_mutex mutex_;
  std::map<std::string, tls_context_ref, std::less<>> contexts_;
  std::string first_;
};

} // namespace net
