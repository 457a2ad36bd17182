// base/x509.hpp on libcrypto's X.509.
#include "base/x509.hpp"
#include "base/files.hpp"
#include <algorithm>
#include <cstring>
#include <ctime>
#include <new>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

namespace base::x509 {

namespace {
constexpr std::size_t most = 16; // certificates of a chain, names of a certificate
constexpr auto day = std::chrono::hours{24};

struct freer {
  void operator()(BIO* p) const { BIO_free(p); }
  void operator()(BIGNUM* p) const { BN_free(p); }
  void operator()(X509_REQ* p) const { X509_REQ_free(p); }
  void operator()(X509_STORE* p) const { X509_STORE_free(p); }
  void operator()(X509_STORE_CTX* p) const { X509_STORE_CTX_free(p); }
  void operator()(GENERAL_NAMES* p) const { GENERAL_NAMES_free(p); }
  void operator()(X509_EXTENSION* p) const { X509_EXTENSION_free(p); }
};
template <class T>
using owned = std::unique_ptr<T, freer>;

// libcrypto fails at these only for want of memory or randomness
template <class T>
T* must(T* p) {
  if (!p)
    throw std::bad_alloc{};
  return p;
}
void must(int ok) {
  if (ok <= 0)
    throw std::bad_alloc{};
}

owned<BIO> reader(const std::string& text) { return owned<BIO>{must(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())))}; }

template <class Write>
std::string written(Write write) {
  owned<BIO> out{must(BIO_new(BIO_s_mem()))};
  must(write(out.get()));
  char* data = nullptr;
  auto size = BIO_get_mem_data(out.get(), &data);
  return {data, static_cast<std::size_t>(size)};
}

/// Keys that are encrypted are none for us: nobody is there to ask.
int no_passphrase(char*, int, int, void*) { return -1; }

void name_it(X509_NAME* n, const std::string& common_name) {
  auto text = common_name.substr(0, 64);
  must(X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(text.c_str()), -1, -1, 0));
}

std::string common_name_of(const X509_NAME* n) {
  char text[256] = "";
  X509_NAME_get_text_by_NID(const_cast<X509_NAME*>(n), NID_commonName, text, sizeof text);
  return text;
}

void extend(X509* x, X509* issuer, int nid, const std::string& text) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, x, nullptr, nullptr, 0);
  owned<X509_EXTENSION> e{must(X509V3_EXT_conf_nid(nullptr, &context, nid, text.c_str()))};
  must(X509_add_ext(x, e.get(), -1));
}

certificate blank(const key& holder, const std::string& common_name, std::chrono::seconds life) {
  certificate made{must(X509_new())};
  auto* x = made.get();
  must(X509_set_version(x, 2));
  unsigned char serial[16];
  must(RAND_bytes(serial, sizeof serial));
  serial[0] = static_cast<unsigned char>((serial[0] & 0x7f) | 0x40); // positive, and of full length
  owned<BIGNUM> number{must(BN_bin2bn(serial, sizeof serial, nullptr))};
  must(BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(x)));
  auto from = std::min<std::chrono::seconds>(-day, life - day);
  must(X509_gmtime_adj(X509_getm_notBefore(x), from.count()) ? 1 : 0);
  must(X509_gmtime_adj(X509_getm_notAfter(x), life.count()) ? 1 : 0);
  must(X509_set_pubkey(x, holder.get()));
  name_it(X509_get_subject_name(x), common_name);
  return made;
}

bool is_strong(const EVP_PKEY* k) {
  auto bits = EVP_PKEY_get_security_bits(k);
  return bits >= 112; // RSA-2048 has 112, P-256 and Ed25519 128
}
} // namespace

key::key(EVP_PKEY* taken) : key_(taken, EVP_PKEY_free) {}

key key::generate() { return key{must(EVP_EC_gen("P-256"))}; }

std::optional<key> key::parse(const std::string& pem) {
  auto* k = PEM_read_bio_PrivateKey(reader(pem).get(), nullptr, no_passphrase, nullptr);
  ERR_clear_error();
  return k ? std::optional{key{k}} : std::nullopt;
}

std::optional<key> key::read(const std::string& path) { return parse(read_file(path).value_or(std::string{})); }

std::string key::pem() const {
  return written([&](BIO* out) { return PEM_write_bio_PrivateKey(out, key_.get(), nullptr, nullptr, 0, nullptr, nullptr); });
}

certificate::certificate(X509* taken) : x_(taken, X509_free) {}

std::optional<certificate> certificate::parse(const std::string& pem) {
  auto* x = PEM_read_bio_X509(reader(pem).get(), nullptr, no_passphrase, nullptr);
  ERR_clear_error();
  return x ? std::optional{certificate{x}} : std::nullopt;
}

std::optional<certificate> certificate::read(const std::string& path) { return parse(read_file(path).value_or(std::string{})); }

std::vector<certificate> certificate::parse_all(const std::string& pem) {
  std::vector<certificate> all;
  auto in = reader(pem);
  while (all.size() < most) {
    auto* x = PEM_read_bio_X509(in.get(), nullptr, no_passphrase, nullptr);
    if (!x)
      break;
    all.emplace_back(x);
  }
  ERR_clear_error();
  return all;
}

std::string certificate::pem() const {
  return written([&](BIO* out) { return PEM_write_bio_X509(out, x_.get()); });
}

bool certificate::lasts(std::chrono::seconds time) const {
  auto until = std::time(nullptr) + time.count();
  return X509_cmp_time(X509_get0_notAfter(x_.get()), &until) > 0;
}

std::chrono::system_clock::time_point certificate::ends() const {
  std::tm tm{};
  ASN1_TIME_to_tm(X509_get0_notAfter(x_.get()), &tm);
  return std::chrono::system_clock::from_time_t(timegm(&tm));
}

bool certificate::is_of(const key& k) const {
  bool is = X509_check_private_key(x_.get(), k.get()) == 1;
  ERR_clear_error();
  return is;
}

bool certificate::is_signed_by(const certificate& issuer) const {
  bool is = X509_check_issued(issuer.get(), x_.get()) == X509_V_OK && X509_verify(x_.get(), X509_get0_pubkey(issuer.get())) == 1;
  ERR_clear_error();
  return is;
}

bool certificate::has_host(const std::string& name) const {
  return X509_check_host(x_.get(), name.c_str(), name.size(), X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, nullptr) == 1;
}

std::string certificate::issuer_name() const { return common_name_of(X509_get_issuer_name(x_.get())); }
std::string certificate::name() const { return common_name_of(X509_get_subject_name(x_.get())); }

std::vector<std::string> certificate::uris() const {
  std::vector<std::string> all;
  owned<GENERAL_NAMES> names{static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(x_.get(), NID_subject_alt_name, nullptr, nullptr))};
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()) && all.size() < most; ++i) {
    auto* n = sk_GENERAL_NAME_value(names.get(), i);
    if (n->type == GEN_URI) // with its length: a zero byte inside must not cut it
      all.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(n->d.uniformResourceIdentifier)),
                       static_cast<std::size_t>(ASN1_STRING_length(n->d.uniformResourceIdentifier)));
  }
  return all;
}

std::string certificate::fingerprint() const {
  std::string out(32, '\0');
  unsigned n = 0;
  must(X509_digest(x_.get(), EVP_sha256(), reinterpret_cast<unsigned char*>(out.data()), &n));
  return out;
}

authority make_authority(const std::string& common_name, std::chrono::seconds life) {
  auto k = key::generate();
  auto made = blank(k, common_name, life);
  auto* x = made.get();
  must(X509_set_issuer_name(x, X509_get_subject_name(x)));
  extend(x, x, NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
  extend(x, x, NID_key_usage, "critical,keyCertSign,cRLSign");
  extend(x, x, NID_subject_key_identifier, "hash");
  must(X509_sign(x, k.get(), EVP_sha256()));
  return {std::move(made), std::move(k)};
}

certificate issue(const authority& by, const key& holder, const wish& what) {
  auto made = blank(holder, what.common_name, what.life);
  auto* x = made.get();
  auto* issuer = by.own.get();
  must(X509_set_issuer_name(x, X509_get_subject_name(issuer)));
  extend(x, issuer, NID_basic_constraints, "critical,CA:FALSE");
  extend(x, issuer, NID_key_usage, "critical,digitalSignature");
  extend(x, issuer, NID_ext_key_usage, "serverAuth,clientAuth");
  extend(x, issuer, NID_subject_alt_name, what.names);
  extend(x, issuer, NID_subject_key_identifier, "hash");
  extend(x, issuer, NID_authority_key_identifier, "keyid");
  must(X509_sign(x, by.key.get(), EVP_sha256()));
  return made;
}

std::string make_request(const key& k, const std::string& common_name) {
  owned<X509_REQ> r{must(X509_REQ_new())};
  name_it(X509_REQ_get_subject_name(r.get()), common_name);
  must(X509_REQ_set_pubkey(r.get(), k.get()));
  must(X509_REQ_sign(r.get(), k.get(), EVP_sha256()));
  return written([&](BIO* out) { return PEM_write_bio_X509_REQ(out, r.get()); });
}

std::optional<key> read_request(const std::string& pem) {
  owned<X509_REQ> r{PEM_read_bio_X509_REQ(reader(pem).get(), nullptr, no_passphrase, nullptr)};
  auto* k = r ? X509_REQ_get0_pubkey(r.get()) : nullptr;
  bool is_good = k && is_strong(k) && X509_REQ_verify(r.get(), k) == 1;
  ERR_clear_error();
  if (!is_good)
    return std::nullopt;
  EVP_PKEY_up_ref(k);
  return key{k};
}

std::string_view to_text(verify_errc e) {
  switch (e) {
    case verify_errc::missing: return "there is no certificate";
    case verify_errc::unreadable: return "the certificate cannot be read";
    case verify_errc::other_authority: return "the certificate is of another authority";
    case verify_errc::expired: return "the certificate has expired";
    case verify_errc::not_yet_valid: return "the certificate is not valid yet: compare the clocks";
    case verify_errc::wrong_use: return "the certificate is not for this use";
    case verify_errc::refused: return "the certificate is refused";
  }
  return "the certificate is refused";
}

result<certificate, verify_errc> verify(const std::string& chain_pem, const std::vector<certificate>& authorities, bool is_of_server) {
  if (chain_pem.empty())
    return fail(verify_errc::missing);
  auto leaf = certificate::parse(chain_pem);
  if (!leaf)
    return fail(verify_errc::unreadable);
  owned<X509_STORE> trusted{must(X509_STORE_new())};
  for (auto& a : authorities)
    must(X509_STORE_add_cert(trusted.get(), a.get()));
  owned<X509_STORE_CTX> c{must(X509_STORE_CTX_new())};
  // without the rest of the chain: our authorities sign leaves only
  must(X509_STORE_CTX_init(c.get(), trusted.get(), leaf->get(), nullptr));
  must(X509_STORE_CTX_set_default(c.get(), is_of_server ? "ssl_server" : "ssl_client"));
  X509_VERIFY_PARAM_set_flags(X509_STORE_CTX_get0_param(c.get()), X509_V_FLAG_X509_STRICT);
  bool is_good = X509_verify_cert(c.get()) == 1;
  int error = X509_STORE_CTX_get_error(c.get());
  ERR_clear_error();
  if (is_good)
    return *leaf;
  switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED: return fail(verify_errc::expired);
    case X509_V_ERR_CERT_NOT_YET_VALID: return fail(verify_errc::not_yet_valid);
    case X509_V_ERR_INVALID_PURPOSE: return fail(verify_errc::wrong_use);
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE: return fail(verify_errc::other_authority);
    default: return fail(verify_errc::refused);
  }
}

} // namespace base::x509
