// Loading and checking certificates; contexts set up for many idle connections.
#include "net/tls_identity.hpp"
#include <csignal>
#include <cstdio>
#include <fstream>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <unistd.h>

namespace net {

namespace {
using problem = certificate_problem;

struct x509_free { void operator()(X509* x) const { X509_free(x); } };
struct pkey_free { void operator()(EVP_PKEY* k) const { EVP_PKEY_free(k); } };
struct bio_free { void operator()(BIO* b) const { BIO_free(b); } };

std::string name_text(X509_NAME* n) {
  std::unique_ptr<BIO, bio_free> out{BIO_new(BIO_s_mem())};
  X509_NAME_print_ex(out.get(), n, 0, XN_FLAG_ONELINE);
  char* data = nullptr;
  auto size = BIO_get_mem_data(out.get(), &data);
  return {data, static_cast<std::size_t>(size)};
}

std::chrono::system_clock::time_point time_of(const ASN1_TIME* t) {
  std::tm tm{};
  ASN1_TIME_to_tm(t, &tm);
  return std::chrono::system_clock::from_time_t(timegm(&tm));
}

/// ALPN of XEP-0368. A client that offers protocols, but not ours, is in the wrong place.
int choose_protocol(SSL*, const unsigned char** out, unsigned char* size, const unsigned char* in, unsigned in_size, void*) {
  static constexpr unsigned char ours[] = "\x0bxmpp-client";
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, size, ours, sizeof ours - 1, in, in_size) != OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

/// The server name decides, before the certificate is sent.
int choose_host(SSL* ssl, int*, void*) {
  auto* source = static_cast<const tls_identity_source*>(SSL_get_app_data(ssl));
  const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  if (source && name)
    if (auto c = source->find(name))
      SSL_set_SSL_CTX(ssl, c.get());
  return SSL_TLSEXT_ERR_OK;
}

base::result<std::unique_ptr<X509, x509_free>, problem> read_chain(const std::string& file) {
  if (access(file.c_str(), F_OK) != 0)
    return base::fail(problem{certificate_errc::chain_missing, file, "there is no such file"});
  std::unique_ptr<BIO, bio_free> in{BIO_new_file(file.c_str(), "r")};
  if (!in)
    return base::fail(problem{certificate_errc::chain_unreadable, file, "it cannot be read"});
  std::unique_ptr<X509, x509_free> x{PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr)};
  if (!x)
    return base::fail(problem{certificate_errc::chain_not_pem, file, "it holds no certificate in PEM form"});
  return x;
}

base::result<std::unique_ptr<EVP_PKEY, pkey_free>, problem> read_key(const std::string& file) {
  if (access(file.c_str(), F_OK) != 0)
    return base::fail(problem{certificate_errc::key_missing, file, "there is no such file"});
  std::unique_ptr<BIO, bio_free> in{BIO_new_file(file.c_str(), "r")};
  if (!in)
    return base::fail(problem{certificate_errc::key_unreadable, file, "it cannot be read"});
  std::unique_ptr<EVP_PKEY, pkey_free> k{PEM_read_bio_PrivateKey(in.get(), nullptr, [](char*, int, int, void*) { return 0; }, nullptr)};
  if (!k)
    return base::fail(problem{certificate_errc::key_not_pem, file, "it holds no unencrypted private key in PEM form"});
  return k;
}
} // namespace

base::result<certificate_info, certificate_problem>
check_certificate(const std::string& chain_file, const std::string& key_file, std::string_view host) {
  ERR_clear_error();
  auto x = read_chain(chain_file);
  if (!x)
    return base::fail(x.error());
  auto key = read_key(key_file);
  if (!key)
    return base::fail(key.error());
  if (X509_check_private_key(x->get(), key->get()) != 1)
    return base::fail(problem{certificate_errc::key_does_not_match, key_file, "it is not the key of this certificate"});
  certificate_info info;
  info.subject = name_text(X509_get_subject_name(x->get()));
  info.issuer = name_text(X509_get_issuer_name(x->get()));
  info.not_before = time_of(X509_get0_notBefore(x->get()));
  info.not_after = time_of(X509_get0_notAfter(x->get()));
  if (auto* names = static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(x->get(), NID_subject_alt_name, nullptr, nullptr))) {
    for (int i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
      auto* n = sk_GENERAL_NAME_value(names, i);
      if (n->type == GEN_DNS)
        info.names.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(n->d.dNSName)),
                                static_cast<std::size_t>(ASN1_STRING_length(n->d.dNSName)));
    }
    GENERAL_NAMES_free(names);
  }
  auto now = std::chrono::system_clock::now();
  if (now >= info.not_after)
    return base::fail(problem{certificate_errc::expired, chain_file, "it has expired"});
  if (now < info.not_before)
    return base::fail(problem{certificate_errc::not_yet_valid, chain_file, "it is not valid yet"});
  // never the Common Name (CVE-2014-3451)
  if (!host.empty()
      && X509_check_host(x->get(), host.data(), host.size(), X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, nullptr) != 1)
    return base::fail(problem{certificate_errc::wrong_host, chain_file, "it does not name this host among its subject alternative names"});
  return info;
}

base::result<tls_context_ref, certificate_problem>
make_server_context(const std::string& chain_file, const std::string& key_file) {
  std::signal(SIGPIPE, SIG_IGN); // OpenSSL writes with write(2), which has no MSG_NOSIGNAL
  if (auto ok = check_certificate(chain_file, key_file, {}); !ok)
    if (ok.error().what != certificate_errc::expired && ok.error().what != certificate_errc::not_yet_valid)
      return base::fail(ok.error()); // whether an expired one may be used is the configuration's business
  ERR_clear_error();
  tls_context_ref c{SSL_CTX_new(TLS_server_method()), [](SSL_CTX* x) { SSL_CTX_free(x); }};
  SSL_CTX_set_min_proto_version(c.get(), TLS1_2_VERSION);
  SSL_CTX_set_options(c.get(), SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_cipher_list(c.get(), "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!PSK"); // of TLS 1.2
  SSL_CTX_set1_groups_list(c.get(), "X25519:P-256:P-384");
  SSL_CTX_set_session_cache_mode(c.get(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(c.get(), 0); // two would be written by each handshake
  SSL_CTX_set_options(c.get(), SSL_OP_NO_TICKET);
  SSL_CTX_set_mode(c.get(), SSL_MODE_RELEASE_BUFFERS // -33 KB per idle connection
                                | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_read_ahead(c.get(), 1); // one read call per record instead of two
  SSL_CTX_set_tlsext_servername_callback(c.get(), choose_host);
  SSL_CTX_set_alpn_select_cb(c.get(), choose_protocol, nullptr);
  if (SSL_CTX_use_certificate_chain_file(c.get(), chain_file.c_str()) != 1)
    return base::fail(problem{certificate_errc::chain_not_pem, chain_file, "OpenSSL refuses this chain"});
  if (SSL_CTX_use_PrivateKey_file(c.get(), key_file.c_str(), SSL_FILETYPE_PEM) != 1)
    return base::fail(problem{certificate_errc::key_not_pem, key_file, "OpenSSL refuses this key"});
  return c;
}

void tls_identity_source::put(const std::string& host, tls_context_ref context) {
  std::lock_guard guard{mutex_};
  if (first_.empty())
    first_ = host;
  contexts_[host] = std::move(context);
}

bool tls_identity_source::is_empty() const {
  std::shared_lock guard{mutex_};
  return contexts_.empty();
}

tls_context_ref tls_identity_source::find(std::string_view host) const {
  std::shared_lock guard{mutex_};
  auto i = contexts_.find(host);
  if (i == contexts_.end())
    i = contexts_.find(first_);
  return i == contexts_.end() ? nullptr : i->second;
}

} // namespace net
