// Certificates as values: keys, authorities, requests, and one function that says whom a certificate names.
// PEM texts in and out; libcrypto stays in x509.cpp. All are any-thread.
#pragma once
#include "base/result.hpp"
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

typedef struct evp_pkey_st EVP_PKEY;
typedef struct x509_st X509;

namespace base::x509 {

/// A private key (P-256), or only the public half of one that came in a request.
class key {
public:
  /// Throws std::bad_alloc where libcrypto has no randomness or no memory.
  [[nodiscard]] static key generate();
  /// Nothing: no private key in PEM.
  [[nodiscard]] static std::optional<key> parse(const std::string& pem);
  /// The same of a file, which may be missing.
  [[nodiscard]] static std::optional<key> read(const std::string& path);
  /// PKCS #8, not encrypted: for a file that its owner alone can read.
  [[nodiscard]] std::string pem() const;
  [[nodiscard]] EVP_PKEY* get() const { return key_.get(); }
  explicit key(EVP_PKEY* taken);

private:
  std::shared_ptr<EVP_PKEY> key_;
};

class certificate {
public:
  /// The first certificate in the text. Nothing: there is none.
  [[nodiscard]] static std::optional<certificate> parse(const std::string& pem);
  /// The same of a file, which may be missing.
  [[nodiscard]] static std::optional<certificate> read(const std::string& path);
  /// All of a chain, at most 16.
  [[nodiscard]] static std::vector<certificate> parse_all(const std::string& pem);
  [[nodiscard]] std::string pem() const;
  /// Whether it will still be valid in so many seconds.
  [[nodiscard]] bool lasts(std::chrono::seconds time) const;
  [[nodiscard]] std::chrono::system_clock::time_point ends() const;
  [[nodiscard]] bool is_of(const key& k) const;
  [[nodiscard]] bool is_signed_by(const certificate& issuer) const;
  [[nodiscard]] bool has_host(const std::string& name) const;
  [[nodiscard]] std::string issuer_name() const; // its common name
  [[nodiscard]] std::string name() const;        // the subject's common name
  /// Subject alternative names that are URIs, at most 16.
  [[nodiscard]] std::vector<std::string> uris() const;
  /// SHA-256 of the whole certificate, 32 bytes.
  [[nodiscard]] std::string fingerprint() const;
  [[nodiscard]] X509* get() const { return x_.get(); }
  explicit certificate(X509* taken);

private:
  std::shared_ptr<X509> x_;
};

struct authority {
  certificate own;
  base::x509::key key;
};

struct wish {
  std::string common_name; // cut to 64 bytes (RFC 5280 appendix A.1)
  std::string names;       // subject alternative names as openssl-x509v3_config(5) writes them: "DNS:a,IP:127.0.0.1"
  std::chrono::seconds life;
};

/// Signed by itself; may sign certificates of hosts and nodes, but no further authorities. It is valid from one day
/// ago, as clocks differ.
[[nodiscard]] authority make_authority(const std::string& common_name, std::chrono::seconds life);
/// For a server and a client at once. `holder`: its public half is used. Valid from one day ago, or from `life` before
/// a negative `life` ends, so that tests can have one that is over.
[[nodiscard]] certificate issue(const authority& by, const key& holder, const wish& what);

/// A request of PKCS #10 in PEM: whoever has it knows the public key, and that its sender has the private one.
[[nodiscard]] std::string make_request(const key& k, const std::string& common_name);
/// Nothing: no request, its signature is not by its key, or the key is weaker than P-256 and RSA with 2,048 bits.
[[nodiscard]] std::optional<key> read_request(const std::string& pem);

enum class verify_errc { missing, unreadable, other_authority, expired, not_yet_valid, wrong_use, refused };
[[nodiscard]] std::string_view to_text(verify_errc e);
/// Of the other end's chain (the leaf first) whether it is of one of the authorities, valid now and good for its end of
/// TLS; then the leaf.
[[nodiscard]] result<certificate, verify_errc> verify(const std::string& chain_pem, const std::vector<certificate>& authorities,
                                                      bool is_of_server);

} // namespace base::x509
