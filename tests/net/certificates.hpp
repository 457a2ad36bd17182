// Certificates for the tests, made when they run, in a folder that goes with them.
#pragma once
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdexcept>
#include <string>
#include <unistd.h>

namespace test {

struct folder {
  folder() {
    char name[] = "/tmp/covey-test-XXXXXX";
    if (!mkdtemp(name))
      throw std::runtime_error{"no temporary folder"};
    path = name;
  }
  folder(const folder&) = delete;
  ~folder() { std::filesystem::remove_all(path); }
  std::string operator/(const std::string& name) const { return path + '/' + name; }
  std::string path;
};

struct certificate_wish {
  std::string alternative_names = "DNS:localhost,IP:127.0.0.1";
  std::string common_name = "covey test";
  std::string extended_usage = "";           // "clientAuth"
  std::string key = "P-256";                 // or "RSA-2048", "RSA-1024", "ED25519"
  std::string digest = "SHA256";             // of the signature; of Ed25519 none
  long valid_from_s = -3600, valid_to_s = 86'400; // from now
};

/// Self-signed, as `<name>.pem` and `<name>.key` in `at`; it is its own authority.
inline void make_certificate(const folder& at, const std::string& name, const certificate_wish& wish = {}) {
  auto must = [](bool ok) {
    if (!ok)
      throw std::runtime_error{"libcrypto refuses a test certificate"};
  };
  std::unique_ptr<EVP_PKEY, void (*)(EVP_PKEY*)> key{
      wish.key == "ED25519"    ? EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519")
      : wish.key == "RSA-2048" ? EVP_RSA_gen(2048)
      : wish.key == "RSA-1024" ? EVP_RSA_gen(1024)
                               : EVP_EC_gen(wish.key.c_str()),
      EVP_PKEY_free};
  must(key != nullptr);
  std::unique_ptr<X509, void (*)(X509*)> x{X509_new(), X509_free};
  X509_set_version(x.get(), 2);
  std::unique_ptr<BIGNUM, void (*)(BIGNUM*)> serial{BN_new(), BN_free};
  must(BN_rand(serial.get(), 100, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1
       && BN_to_ASN1_INTEGER(serial.get(), X509_get_serialNumber(x.get())));
  X509_gmtime_adj(X509_getm_notBefore(x.get()), wish.valid_from_s);
  X509_gmtime_adj(X509_getm_notAfter(x.get()), wish.valid_to_s);
  X509_set_pubkey(x.get(), key.get());
  auto* subject = X509_get_subject_name(x.get());
  must(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                                  reinterpret_cast<const unsigned char*>(wish.common_name.c_str()), -1, -1, 0) == 1);
  X509_set_issuer_name(x.get(), subject);
  auto extend = [&](int what, const std::string& value) {
    if (value.empty())
      return;
    X509V3_CTX context{};
    X509V3_set_ctx(&context, x.get(), x.get(), nullptr, nullptr, 0);
    std::unique_ptr<X509_EXTENSION, void (*)(X509_EXTENSION*)> e{
        X509V3_EXT_conf_nid(nullptr, &context, what, value.c_str()), X509_EXTENSION_free};
    must(e && X509_add_ext(x.get(), e.get(), -1) == 1);
  };
  extend(NID_subject_alt_name, wish.alternative_names);
  extend(NID_ext_key_usage, wish.extended_usage);
  auto* digest = wish.key == "ED25519" ? nullptr : EVP_get_digestbyname(wish.digest.c_str());
  must(X509_sign(x.get(), key.get(), digest) > 0);
  auto write = [&](const std::string& file, auto put) {
    std::unique_ptr<std::FILE, int (*)(std::FILE*)> out{std::fopen(file.c_str(), "w"), std::fclose};
    must(out && put(out.get()) == 1);
  };
  write(at / (name + ".pem"), [&](std::FILE* f) { return PEM_write_X509(f, x.get()); });
  write(at / (name + ".key"), [&](std::FILE* f) {
    return PEM_write_PrivateKey(f, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  });
}

inline void write_file(const std::string& path, const std::string& content) {
  std::ofstream{path} << content;
}
inline std::string read_file(const std::string& path) {
  std::ifstream in{path};
  return {std::istreambuf_iterator<char>{in}, {}};
}

} // namespace test
