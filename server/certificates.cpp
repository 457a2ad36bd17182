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
#include <unicode/uidna.h>
#include <unistd.h>

namespace server {

namespace {
struct x509_free { void operator()(X509* x) const { X509_free(x); } };
struct pkey_free { void operator()(EVP_PKEY* k) const { EVP_PKEY_free(k); } };
using x509 = std::unique_ptr<X509, x509_free>;
using pkey = std::unique_ptr<EVP_PKEY, pkey_free>;
constexpr long day = 86'400;
constexpr const char* authority_name = "covey local authority";

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

std::string names_of(const std::string& name) {
  auto names = "DNS:" + name;
  for (auto* component : {"conference", "upload", "pubsub", "proxy", "announce", "xmpp"})
    names += std::string{",DNS:"} + component + '.' + name;
  if (name == "localhost")
    names += ",IP:127.0.0.1,IP:::1";
  return names;
}

bool is_there(const std::string& path) {
  struct stat st{};
  return lstat(path.c_str(), &st) == 0;
}

/// By the name of whoever signed it: what we did not make is not ours to replace.
bool is_ours(const X509* x) {
  char name[64] = "";
  X509_NAME_get_text_by_NID(X509_get_issuer_name(x), NID_commonName, name, sizeof name);
  return std::string_view{name} == authority_name;
}

bool has_name(const X509* x, const std::string& name) {
  return X509_check_host(const_cast<X509*>(x), name.c_str(), name.size(), X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, nullptr) == 1;
}

base::result<void, std::string> save_key(const std::string& path, EVP_PKEY* key) {
  return save(path, 0600, [&](std::FILE* f) { return PEM_write_PrivateKey(f, key, nullptr, nullptr, 0, nullptr, nullptr); });
}

struct authority {
  x509 certificate;
  pkey key;
};

/// The one that is there, or a new one where there is none, it ends soon, or its key is lost.
base::result<authority, std::string> provide_authority(const std::string& file, const std::string& key_file) {
  authority a{read_certificate(file), read_key(key_file)};
  if (is_there(file) && (!a.certificate || !is_ours(a.certificate.get())))
    return base::fail(file + " is not from covey's own authority: it stays as it is; move it away, or name your certificates with tls.certificate and tls.key");
  if (a.certificate && a.key && X509_check_private_key(a.certificate.get(), a.key.get()) == 1 && lasts(a.certificate.get(), 60 * day))
    return a;
  a.key.reset(EVP_EC_gen("P-256"));
  a.certificate = blank(a.key.get(), authority_name, 3'650);
  auto* x = a.certificate.get();
  X509_set_issuer_name(x, X509_get_subject_name(x));
  add_extension(x, x, NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
  add_extension(x, x, NID_key_usage, "critical,keyCertSign,cRLSign");
  add_extension(x, x, NID_subject_key_identifier, "hash");
  X509_sign(x, a.key.get(), EVP_sha256());
  if (auto ok = save_key(key_file, a.key.get()); !ok)
    return base::fail(ok.error());
  if (auto ok = save(file, 0644, [&](std::FILE* f) { return PEM_write_X509(f, x); }); !ok)
    return base::fail(ok.error());
  return a;
}
} // namespace

std::string ascii_name(const std::string& domain) {
  UErrorCode ec = U_ZERO_ERROR;
  std::unique_ptr<UIDNA, void (*)(UIDNA*)> idna{uidna_openUTS46(UIDNA_NONTRANSITIONAL_TO_ASCII, &ec), uidna_close};
  UIDNAInfo info = UIDNA_INFO_INITIALIZER;
  std::string out(512, '\0');
  auto size = uidna_nameToASCII_UTF8(idna.get(), domain.data(), static_cast<std::int32_t>(domain.size()), out.data(),
                                     static_cast<std::int32_t>(out.size()), &info, &ec);
  if (U_FAILURE(ec) || info.errors != 0 || size > static_cast<std::int32_t>(out.size()))
    return domain;
  out.resize(static_cast<std::size_t>(size));
  return out;
}

base::result<certificate_files, std::string> local_certificate(const std::string& folder, const std::string& domain) {
  auto name = ascii_name(domain);
  if (name.empty() || name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789.-") != name.npos || name.front() == '.')
    return base::fail(domain + " cannot stand in a certificate");
  std::error_code ec;
  std::filesystem::create_directories(folder, ec);
  if (ec)
    return base::fail(folder + " cannot be made: " + ec.message());
  certificate_files files{folder + "/ca.pem", folder + '/' + name + ".pem", folder + '/' + name + ".key", false};
  auto old = read_certificate(files.chain);
  if (is_there(files.chain) && (!old || !is_ours(old.get())))
    return base::fail(files.chain + " is not from covey's own authority: it stays as it is; name it with tls.certificate and tls.key, or move it away");
  auto ca = provide_authority(files.authority, folder + "/ca.key");
  if (!ca)
    return base::fail(ca.error());
  auto* issuer = ca->certificate.get();
  if (auto old_key = read_key(files.key); old && old_key && X509_check_private_key(old.get(), old_key.get()) == 1 && lasts(old.get(), 30 * day)
                                          && X509_check_issued(issuer, old.get()) == X509_V_OK && X509_verify(old.get(), X509_get0_pubkey(issuer)) == 1
                                          && has_name(old.get(), name))
    return files;
  pkey key{EVP_EC_gen("P-256")};
  auto x = blank(key.get(), name.substr(0, 64), 397); // longer lives are refused by some clients
  X509_set_issuer_name(x.get(), X509_get_subject_name(issuer));
  add_extension(x.get(), issuer, NID_basic_constraints, "critical,CA:FALSE");
  add_extension(x.get(), issuer, NID_key_usage, "critical,digitalSignature");
  add_extension(x.get(), issuer, NID_ext_key_usage, "serverAuth,clientAuth");
  add_extension(x.get(), issuer, NID_subject_alt_name, names_of(name));
  add_extension(x.get(), issuer, NID_subject_key_identifier, "hash");
  add_extension(x.get(), issuer, NID_authority_key_identifier, "keyid");
  X509_sign(x.get(), ca->key.get(), EVP_sha256());
  if (auto ok = save_key(files.key, key.get()); !ok)
    return base::fail(ok.error());
  if (auto ok = save(files.chain, 0644, [&](std::FILE* f) { return PEM_write_X509(f, x.get()) && PEM_write_X509(f, issuer); }); !ok)
    return base::fail(ok.error());
  files.is_new = true;
  return files;
}

std::string how_to_trust(const std::string& authority) {
  return "sudo cp " + authority + " /usr/local/share/ca-certificates/covey.crt && sudo update-ca-certificates";
}

} // namespace server
