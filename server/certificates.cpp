// libcrypto's X.509, just enough for an authority and its certificates.
#include "server/certificates.hpp"
#include <cerrno>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <filesystem>
#include <memory>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

namespace server {

namespace {
struct x509_free { void operator()(X509* x) const { X509_free(x); } };
struct pkey_free { void operator()(EVP_PKEY* k) const { EVP_PKEY_free(k); } };
using x509 = std::unique_ptr<X509, x509_free>;
using pkey = std::unique_ptr<EVP_PKEY, pkey_free>;
constexpr long day = 86'400;

std::FILE* open_for_owner(const std::string& path, mode_t mode) {
  int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
  return fd < 0 ? nullptr : fdopen(fd, "w");
}

/// Whole or not at all: written beside and renamed.
template <class Write>
base::result<void, std::string> save(const std::string& path, mode_t mode, Write write) {
  auto beside = path + ".new";
  auto* f = open_for_owner(beside, mode);
  if (!f)
    return base::fail(path + " cannot be written: " + std::strerror(errno));
  bool ok = write(f) == 1;
  ok &= std::fflush(f) == 0 && fsync(fileno(f)) == 0;
  std::fclose(f);
  if (!ok || rename(beside.c_str(), path.c_str()) != 0)
    return base::fail(path + " cannot be written: " + std::strerror(errno));
  return {};
}

x509 read_certificate(const std::string& path) {
  auto* f = std::fopen(path.c_str(), "re");
  if (!f)
    return nullptr;
  x509 x{PEM_read_X509(f, nullptr, nullptr, nullptr)};
  std::fclose(f);
  return x;
}
pkey read_key(const std::string& path) {
  auto* f = std::fopen(path.c_str(), "re");
  if (!f)
    return nullptr;
  pkey k{PEM_read_PrivateKey(f, nullptr, nullptr, nullptr)};
  std::fclose(f);
  return k;
}

bool lasts(const X509* x, long seconds) {
  auto until = std::time(nullptr) + seconds;
  return X509_cmp_time(X509_get0_notAfter(x), &until) > 0;
}

void add_extension(X509* x, X509* issuer, int nid, const std::string& text) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, x, nullptr, nullptr, 0);
  if (auto* e = X509V3_EXT_conf_nid(nullptr, &context, nid, text.c_str())) {
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
  }
}

x509 blank(EVP_PKEY* key, const std::string& common_name, long days) {
  x509 x{X509_new()};
  X509_set_version(x.get(), 2);
  unsigned char serial[16];
  RAND_bytes(serial, sizeof serial);
  serial[0] &= 0x7f;
  std::unique_ptr<BIGNUM, void (*)(BIGNUM*)> number{BN_bin2bn(serial, sizeof serial, nullptr), BN_free};
  BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(x.get()));
  X509_gmtime_adj(X509_getm_notBefore(x.get()), -day); // clocks differ
  X509_gmtime_adj(X509_getm_notAfter(x.get()), days * day);
  X509_set_pubkey(x.get(), key);
  auto* name = X509_get_subject_name(x.get());
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(common_name.c_str()), -1, -1, 0);
  return x;
}

std::string names_of(const std::string& domain) {
  auto names = "DNS:" + domain;
  for (auto* component : {"conference", "upload", "pubsub", "proxy", "announce", "xmpp"})
    names += std::string{",DNS:"} + component + '.' + domain;
  if (domain == "localhost")
    names += ",IP:127.0.0.1,IP:::1";
  return names;
}
} // namespace

base::result<certificate_files, std::string> local_certificate(const std::string& folder, const std::string& domain) {
  std::error_code ec;
  std::filesystem::create_directories(folder, ec);
  if (ec)
    return base::fail(folder + " cannot be made: " + ec.message());
  certificate_files files{folder + "/ca.pem", folder + '/' + domain + ".pem", folder + '/' + domain + ".key", false};
  auto ca_key_file = folder + "/ca.key";
  auto ca = read_certificate(files.authority);
  auto ca_key = read_key(ca_key_file);
  auto old = read_certificate(files.chain);
  if (old && read_key(files.key) && lasts(old.get(), 30 * day) && ca && X509_check_issued(ca.get(), old.get()) == X509_V_OK)
    return files;
  if (!ca || !ca_key || X509_check_private_key(ca.get(), ca_key.get()) != 1 || !lasts(ca.get(), 60 * day)) {
    ca_key.reset(EVP_EC_gen("P-256"));
    ca = blank(ca_key.get(), "covey local authority", 3'650);
    X509_set_issuer_name(ca.get(), X509_get_subject_name(ca.get()));
    add_extension(ca.get(), ca.get(), NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
    add_extension(ca.get(), ca.get(), NID_key_usage, "critical,keyCertSign,cRLSign");
    add_extension(ca.get(), ca.get(), NID_subject_key_identifier, "hash");
    X509_sign(ca.get(), ca_key.get(), EVP_sha256());
    if (auto ok = save(ca_key_file, 0600, [&](std::FILE* f) { return PEM_write_PrivateKey(f, ca_key.get(), nullptr, nullptr, 0, nullptr, nullptr); }); !ok)
      return base::fail(ok.error());
    if (auto ok = save(files.authority, 0644, [&](std::FILE* f) { return PEM_write_X509(f, ca.get()); }); !ok)
      return base::fail(ok.error());
  }
  pkey key{EVP_EC_gen("P-256")};
  auto x = blank(key.get(), domain.substr(0, 64), 397); // longer ones are refused by some clients
  X509_set_issuer_name(x.get(), X509_get_subject_name(ca.get()));
  add_extension(x.get(), ca.get(), NID_basic_constraints, "critical,CA:FALSE");
  add_extension(x.get(), ca.get(), NID_key_usage, "critical,digitalSignature");
  add_extension(x.get(), ca.get(), NID_ext_key_usage, "serverAuth,clientAuth");
  add_extension(x.get(), ca.get(), NID_subject_alt_name, names_of(domain));
  add_extension(x.get(), ca.get(), NID_authority_key_identifier, "keyid");
  X509_sign(x.get(), ca_key.get(), EVP_sha256());
  if (auto ok = save(files.key, 0600, [&](std::FILE* f) { return PEM_write_PrivateKey(f, key.get(), nullptr, nullptr, 0, nullptr, nullptr); }); !ok)
    return base::fail(ok.error());
  if (auto ok = save(files.chain, 0644, [&](std::FILE* f) { return PEM_write_X509(f, x.get()) && PEM_write_X509(f, ca.get()); }); !ok)
    return base::fail(ok.error());
  files.is_new = true;
  return files;
}

std::string how_to_trust(const std::string& authority) {
  return "sudo cp " + authority + " /usr/local/share/ca-certificates/covey.crt && sudo update-ca-certificates";
}

} // namespace server
