// base/crypto.hpp on OpenSSL 3. Algorithms are fetched once: an implicit fetch costs more than a small digest.
#include "base/crypto.hpp"
#include <array>
#include <cassert>
#include <memory>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <stdexcept>

namespace base::crypto {
namespace {

struct freer {
  void operator()(EVP_MD* p) const { EVP_MD_free(p); }
  void operator()(EVP_MAC* p) const { EVP_MAC_free(p); }
  void operator()(EVP_MAC_CTX* p) const { EVP_MAC_CTX_free(p); }
  void operator()(EVP_KDF* p) const { EVP_KDF_free(p); }
  void operator()(EVP_KDF_CTX* p) const { EVP_KDF_CTX_free(p); }
};
template <class T>
using owned = std::unique_ptr<T, freer>;

// libcrypto fails here only where it is not installed whole, or out of memory.
template <class T>
T* must(T* p, const char* what) {
  if (!p)
    throw std::runtime_error(std::string{"libcrypto: no "} + what);
  return p;
}
void must(int ok, const char* what) {
  if (ok != 1)
    throw std::runtime_error(std::string{"libcrypto: "} + what + " failed");
}

constexpr std::size_t kinds = 3;
const char* name_of(hash h) { return h == hash::sha1 ? "SHA1" : h == hash::sha256 ? "SHA256" : "SHA512"; }
unsigned char* bytes(std::string& s) { return reinterpret_cast<unsigned char*>(s.data()); }
const unsigned char* bytes(std::string_view s) { return reinterpret_cast<const unsigned char*>(s.data()); }

const EVP_MD* md_of(hash h) {
  static const std::array<owned<EVP_MD>, kinds> fetched{
    owned<EVP_MD>{must(EVP_MD_fetch(nullptr, name_of(hash::sha1), nullptr), "SHA-1")},
    owned<EVP_MD>{must(EVP_MD_fetch(nullptr, name_of(hash::sha256), nullptr), "SHA-256")},
    owned<EVP_MD>{must(EVP_MD_fetch(nullptr, name_of(hash::sha512), nullptr), "SHA-512")}};
  return fetched[static_cast<std::size_t>(h)].get();
}

// One context per thread and hash: setting it up costs as much as the hashing itself.
EVP_MAC_CTX* mac_of(hash h) {
  static const owned<EVP_MAC> mac{must(EVP_MAC_fetch(nullptr, "HMAC", nullptr), "HMAC")};
  thread_local std::array<owned<EVP_MAC_CTX>, kinds> contexts;
  auto& c = contexts[static_cast<std::size_t>(h)];
  if (!c) {
    owned<EVP_MAC_CTX> fresh{must(EVP_MAC_CTX_new(mac.get()), "HMAC context")};
    std::string digest_name = name_of(h);
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest_name.data(), 0),
                           OSSL_PARAM_construct_end()};
    must(EVP_MAC_CTX_set_params(fresh.get(), params), "HMAC set-up");
    c = std::move(fresh);
  }
  return c.get();
}

} // namespace

std::size_t size_of(hash h) { return h == hash::sha1 ? 20 : h == hash::sha256 ? 32 : 64; }

std::string digest(hash h, std::string_view data) {
  std::string out(size_of(h), '\0');
  must(EVP_Digest(data.data(), data.size(), bytes(out), nullptr, md_of(h), nullptr), "digest");
  return out;
}

std::string hmac(hash h, std::string_view key, std::string_view data) {
  auto* c = mac_of(h);
  // A null key means "the one before": an empty key must still point somewhere.
  must(EVP_MAC_init(c, bytes(key.data() ? key : std::string_view{""}), key.size(), nullptr), "HMAC init");
  must(EVP_MAC_update(c, bytes(data), data.size()), "HMAC update");
  std::string out(size_of(h), '\0');
  std::size_t n = 0;
  must(EVP_MAC_final(c, bytes(out), &n, out.size()), "HMAC final");
  assert(n == out.size());
  return out;
}

std::string pbkdf2(hash h, std::string_view password, std::string_view salt, std::uint32_t iterations) {
  static const owned<EVP_KDF> kdf{must(EVP_KDF_fetch(nullptr, "PBKDF2", nullptr), "PBKDF2")};
  assert(iterations > 0);
  owned<EVP_KDF_CTX> c{must(EVP_KDF_CTX_new(kdf.get()), "PBKDF2 context")};
  std::string digest_name = name_of(h);
  std::uint64_t count = iterations;
  int pkcs5 = 1; // the limits of SP 800-132 would refuse salts under 16 bytes, which RFC 5802 allows
  char none = 0;
  OSSL_PARAM params[] = {
    OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest_name.data(), 0),
    OSSL_PARAM_construct_int(OSSL_KDF_PARAM_PKCS5, &pkcs5),
    OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PASSWORD,
                                      password.empty() ? &none : const_cast<char*>(password.data()), password.size()),
    OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salt.empty() ? &none : const_cast<char*>(salt.data()),
                                      salt.size()),
    OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_ITER, &count),
    OSSL_PARAM_construct_end()};
  std::string out(size_of(h), '\0');
  must(EVP_KDF_derive(c.get(), bytes(out), out.size(), params), "PBKDF2");
  return out;
}

bool equal_in_constant_time(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string exclusive_or(std::string_view a, std::string_view b) {
  assert(a.size() == b.size());
  std::string out{a};
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = static_cast<char>(out[i] ^ b[i]);
  return out;
}

void wipe(std::string& secret) {
  secret.resize(secret.capacity()); // what a longer value left behind, too
  OPENSSL_cleanse(secret.data(), secret.size());
  secret.clear();
}

} // namespace base::crypto
