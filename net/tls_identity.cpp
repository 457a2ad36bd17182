// Loading and checking certificates; contexts set up for many idle connections.
#include "net/tls_identity.hpp"
#include "base/bytes.hpp"
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <new>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

namespace net {

namespace {
using problem = certificate_problem;

constexpr off_t largest_file = 1 << 20;

struct x509_free { void operator()(X509* x) const { X509_free(x); } };
struct pkey_free { void operator()(EVP_PKEY* k) const { EVP_PKEY_free(k); } };
struct bio_free { void operator()(BIO* b) const { BIO_free(b); } };
using x509_ptr = std::unique_ptr<X509, x509_free>;
using pkey_ptr = std::unique_ptr<EVP_PKEY, pkey_free>;
using bio_ptr = std::unique_ptr<BIO, bio_free>;

std::string name_text(X509_NAME* n) {
  bio_ptr out{BIO_new(BIO_s_mem())};
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

/// What a client may ask for, as the extension carries it (RFC 7301 section 3.1; XEP-0368).
std::string_view protocol_of(tls_use use) {
  using namespace std::string_view_literals;
  return use == tls_use::http ? "\x08http/1.1"sv : "\x0bxmpp-client"sv;
}

/// A client that offers protocols, but not ours, is in the wrong place: alert no_application_protocol.
template <tls_use Use>
int choose_protocol(SSL*, const unsigned char** out, unsigned char* size, const unsigned char* in, unsigned in_size, void*) {
  auto ours = protocol_of(Use);
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, size, reinterpret_cast<const unsigned char*>(ours.data()),
                            static_cast<unsigned>(ours.size()), in, in_size) != OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

/// The server name decides, before the certificate is sent.
int choose_host(SSL* ssl, int*, void*) {
  auto* source = static_cast<const tls_identity_source*>(SSL_get_app_data(ssl));
  const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  if (source && name)
    if (auto c = source->find(name)) {
      SSL_set_SSL_CTX(ssl, c.get());
      SSL_set_verify(ssl, SSL_CTX_get_verify_mode(c.get()), SSL_CTX_get_verify_callback(c.get())); // not part of it
    }
  return SSL_TLSEXT_ERR_OK;
}

/// The result is kept and looked at when somebody wants to log in by the certificate.
int take_any(int, X509_STORE_CTX*) { return 1; }

// --- tickets. The name of a ticket's key: the tag of the certificate, the key's id. A session that comes back
// knows the certificate of its first handshake; tls-server-end-point (RFC 5929) must be that of both ends,
// so it comes back only as long as this certificate is in force. It knows the client's certificate, too, which
// nobody verifies again: the tag of its first handshake is kept in it (knows_client).

/// The first bytes of a hash of the certificate and of the authorities for clients.
std::uint64_t tag_of(SSL_CTX* c) { return reinterpret_cast<std::uintptr_t>(SSL_CTX_get_app_data(c)); }

void set_tag(SSL_CTX* c) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> hash{};
  unsigned n = 0;
  std::string all;
  auto add = [&](const X509* x) {
    if (!x || X509_digest(x, EVP_sha256(), hash.data(), &n) != 1)
      throw std::bad_alloc{};
    all.append(reinterpret_cast<const char*>(hash.data()), n);
  };
  add(SSL_CTX_get0_certificate(c));
  auto* authorities = X509_STORE_get0_objects(SSL_CTX_get_cert_store(c));
  for (int i = 0; i < sk_X509_OBJECT_num(authorities); ++i)
    if (auto* x = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(authorities, i)))
      add(x);
  if (EVP_Digest(all.data(), all.size(), hash.data(), &n, EVP_sha256(), nullptr) != 1)
    throw std::bad_alloc{};
  auto tag = base::get_be64({reinterpret_cast<const char*>(hash.data()), 8});
  SSL_CTX_set_app_data(c, reinterpret_cast<void*>(static_cast<std::uintptr_t>(tag)));
}

int on_ticket_key(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac, int is_new) {
  constexpr int nothing = 0, taken = 1, taken_and_renewed = 2;
  auto* source = static_cast<const tls_identity_source*>(SSL_get_app_data(ssl));
  if (!source || !source->tickets())
    return nothing;
  auto now = base::steady::now();
  ticket_keys::found k;
  if (is_new) {
    k = {source->tickets()->current(now), true};
    std::string text;
    base::put_be64(text, tag_of(SSL_get_SSL_CTX(ssl)));
    base::put_be64(text, k.with.id);
    std::memcpy(name, text.data(), text.size());
    if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1)
      return -1;
  } else {
    std::string_view text{reinterpret_cast<const char*>(name), 16};
    auto found = source->tickets()->find(base::get_be64(text.substr(8)), now);
    if (!found || !source->is_in_force(base::get_be64(text)))
      return nothing;
    k = *found;
  }
  char digest[] = "sha256";
  OSSL_PARAM with[] = {OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, k.with.mac.data(), k.with.mac.size()),
                       OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0), OSSL_PARAM_construct_end()};
  bool ok = EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), nullptr, k.with.cipher.data(), iv, is_new) == 1 && EVP_MAC_CTX_set_params(mac, with) == 1;
  OPENSSL_cleanse(&k.with, sizeof k.with);
  // clients use a ticket of TLS 1.3 once (RFC 8446 appendix C.4): who comes back with one needs the next
  return !ok ? -1 : k.is_current && SSL_version(ssl) < TLS1_3_VERSION ? taken : taken_and_renewed;
}

/// Into the session, once: tickets of a session that came back have it from there.
int on_ticket_made(SSL* ssl, void*) {
  auto tag = tag_of(SSL_get_SSL_CTX(ssl));
  return SSL_session_reused(ssl) ? 1 : SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), &tag, sizeof tag);
}

/// What OpenSSL does without this: it wants both or none.
SSL_TICKET_RETURN on_ticket_read(SSL*, SSL_SESSION*, const unsigned char*, std::size_t, SSL_TICKET_STATUS status, void*) {
  return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE
         : status == SSL_TICKET_SUCCESS_RENEW ? SSL_TICKET_RETURN_USE_RENEW : SSL_TICKET_RETURN_IGNORE_RENEW;
}

enum class state { fine, missing, unreadable };

state look_at(const std::string& file, std::string& why) {
  struct stat s{};
  if (stat(file.c_str(), &s) != 0) {
    why = errno == ENOENT || errno == ENOTDIR ? "there is no such file" : std::string{"it cannot be read: "} + std::strerror(errno);
    return errno == ENOENT || errno == ENOTDIR ? state::missing : state::unreadable;
  }
  if (!S_ISREG(s.st_mode)) {
    why = S_ISDIR(s.st_mode) ? "it is a folder" : "it is no regular file";
    return state::unreadable;
  }
  if (s.st_size > largest_file) {
    why = "it is too large to be one";
    return state::unreadable;
  }
  return state::fine;
}

base::result<bio_ptr, problem> open_file(const std::string& file, certificate_errc missing, certificate_errc unreadable) {
  std::string why;
  if (auto found = look_at(file, why); found != state::fine)
    return base::fail(problem{found == state::missing ? missing : unreadable, file, why});
  errno = 0;
  bio_ptr in{BIO_new_file(file.c_str(), "r")};
  if (!in)
    return base::fail(problem{unreadable, file, std::string{"it cannot be read: "} + std::strerror(errno)});
  return in;
}

base::result<x509_ptr, problem> read_chain(const std::string& file) {
  auto in = open_file(file, certificate_errc::chain_missing, certificate_errc::chain_unreadable);
  if (!in)
    return base::fail(in.error());
  x509_ptr x{PEM_read_bio_X509(in->get(), nullptr, nullptr, nullptr)};
  if (!x)
    return base::fail(problem{certificate_errc::chain_not_pem, file, "it holds no certificate in PEM form"});
  return x;
}

base::result<pkey_ptr, problem> read_key(const std::string& file) {
  auto in = open_file(file, certificate_errc::key_missing, certificate_errc::key_unreadable);
  if (!in)
    return base::fail(in.error());
  auto no_password = [](char*, int, int, void*) { return -1; };
  pkey_ptr k{PEM_read_bio_PrivateKey(in->get(), nullptr, no_password, nullptr)};
  if (!k)
    return base::fail(problem{certificate_errc::key_not_pem, file, "it holds no unencrypted private key in PEM form"});
  return k;
}

std::string text_of(const ASN1_STRING* s) {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(s)), static_cast<std::size_t>(ASN1_STRING_length(s))};
}

std::vector<std::string> names_of(X509* x) {
  std::vector<std::string> names, addresses;
  auto* all = static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(x, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; i < sk_GENERAL_NAME_num(all); ++i) { // -1 without names
    auto* n = sk_GENERAL_NAME_value(all, i);
    if (n->type == GEN_DNS) {
      names.push_back(text_of(n->d.dNSName));
    } else if (n->type == GEN_IPADD) {
      auto bytes = text_of(n->d.iPAddress);
      char text[INET6_ADDRSTRLEN];
      if ((bytes.size() == 4 || bytes.size() == 16)
          && inet_ntop(bytes.size() == 4 ? AF_INET : AF_INET6, bytes.data(), text, sizeof text))
        addresses.push_back(text);
    }
  }
  GENERAL_NAMES_free(all);
  names.insert(names.end(), addresses.begin(), addresses.end());
  return names;
}

/// Never the Common Name (CVE-2014-3451).
bool covers(X509* x, std::string_view host) {
  std::string name{host};
  return X509_check_host(x, host.data(), host.size(), X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, nullptr) == 1
         || X509_check_ip_asc(x, name.c_str(), 0) == 1;
}

std::string reason() {
  const char* text = ERR_reason_error_string(ERR_peek_last_error());
  return text ? std::string{" ("} + text + ")" : std::string{};
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
  info.names = names_of(x->get());
  auto now = std::chrono::system_clock::now();
  if (now >= info.not_after)
    return base::fail(problem{certificate_errc::expired, chain_file, "it has expired"});
  if (now < info.not_before)
    return base::fail(problem{certificate_errc::not_yet_valid, chain_file, "it is not valid yet"});
  if (X509_check_purpose(x->get(), X509_PURPOSE_SSL_SERVER, 0) != 1)
    return base::fail(problem{certificate_errc::not_for_servers, chain_file, "its key usage does not allow a TLS server"});
  if (!host.empty() && !covers(x->get(), host))
    return base::fail(problem{certificate_errc::wrong_host, chain_file, "it does not name this host among its subject alternative names"});
  return info;
}

base::result<void, certificate_problem> check_authorities(const std::string& file) {
  ERR_clear_error();
  auto in = open_file(file, certificate_errc::client_ca, certificate_errc::client_ca);
  if (!in)
    return base::fail(in.error());
  if (!x509_ptr{PEM_read_bio_X509(in->get(), nullptr, nullptr, nullptr)})
    return base::fail(problem{certificate_errc::client_ca, file, "it holds no certificate in PEM form"});
  return {};
}

namespace {
/// What clients' certificates must be signed by; sent to them as a hint, too.
base::result<void, problem> ask_for_certificates(SSL_CTX* c, const std::string& file) {
  if (auto ok = check_authorities(file); !ok)
    return ok;
  auto* names = SSL_load_client_CA_file(file.c_str());
  if (!names || SSL_CTX_load_verify_file(c, file.c_str()) != 1) {
    sk_X509_NAME_pop_free(names, X509_NAME_free);
    return base::fail(problem{certificate_errc::client_ca, file, "OpenSSL refuses these authorities" + reason()});
  }
  SSL_CTX_set_client_CA_list(c, names); // owns them
  SSL_CTX_set_verify(c, SSL_VERIFY_PEER, take_any);
  return {};
}
} // namespace

base::result<tls_context_ref, certificate_problem>
make_server_context(const std::string& chain_file, const std::string& key_file, const tls_options& options) {
  std::signal(SIGPIPE, SIG_IGN);
  if (auto ok = check_certificate(chain_file, key_file, {}); !ok)
    if (ok.error().what != certificate_errc::expired && ok.error().what != certificate_errc::not_yet_valid)
      return base::fail(ok.error());
  ERR_clear_error();
  tls_context_ref c{SSL_CTX_new(TLS_server_method()), [](SSL_CTX* x) { SSL_CTX_free(x); }};
  if (!c)
    throw std::bad_alloc{};
  SSL_CTX_set_min_proto_version(c.get(), TLS1_2_VERSION);
  SSL_CTX_set_options(c.get(), SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  bool ok = SSL_CTX_set_cipher_list(c.get(), "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!PSK") == 1 // of TLS 1.2
            && SSL_CTX_set1_groups_list(c.get(), "X25519:P-256:P-384") == 1;
  SSL_CTX_set_session_cache_mode(c.get(), SSL_SESS_CACHE_OFF); // does not stop tickets
  SSL_CTX_set_num_tickets(c.get(), options.tickets);
  SSL_CTX_set_timeout(c.get(), options.ticket_life.count());
  SSL_CTX_set_tlsext_ticket_key_evp_cb(c.get(), on_ticket_key);
  SSL_CTX_set_session_ticket_cb(c.get(), on_ticket_made, on_ticket_read, nullptr);
  SSL_CTX_set_session_id_context(c.get(), reinterpret_cast<const unsigned char*>("covey"), 5); // OpenSSL wants one where it verifies
  if (options.tickets == 0)
    SSL_CTX_set_options(c.get(), SSL_OP_NO_TICKET); // those of TLS 1.2
  SSL_CTX_set_mode(c.get(), SSL_MODE_RELEASE_BUFFERS // -33 KB per idle connection
                                | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  // else one read goes on for as long as a peer sends key updates
  SSL_CTX_clear_mode(c.get(), SSL_MODE_AUTO_RETRY);
  SSL_CTX_set_read_ahead(c.get(), 1); // one read call per record instead of two
  SSL_CTX_set_tlsext_servername_callback(c.get(), choose_host);
  SSL_CTX_set_alpn_select_cb(c.get(), options.use == tls_use::http ? choose_protocol<tls_use::http>
                                                                   : choose_protocol<tls_use::xmpp_client>, nullptr);
  if (!ok || SSL_CTX_use_certificate_chain_file(c.get(), chain_file.c_str()) != 1)
    return base::fail(problem{certificate_errc::refused, chain_file, "OpenSSL refuses this chain" + reason()});
  if (SSL_CTX_use_PrivateKey_file(c.get(), key_file.c_str(), SSL_FILETYPE_PEM) != 1)
    return base::fail(problem{certificate_errc::refused, key_file, "OpenSSL refuses this key" + reason()});
  if (!options.client_ca.empty())
    if (auto asked = ask_for_certificates(c.get(), options.client_ca); !asked)
      return base::fail(asked.error());
  set_tag(c.get());
  return c;
}

bool knows_client(const SSL& ssl) {
  if (!SSL_session_reused(&ssl))
    return true;
  void* kept = nullptr;
  std::size_t size = 0;
  std::uint64_t tag = 0;
  if (SSL_SESSION_get0_ticket_appdata(SSL_get_session(&ssl), &kept, &size) != 1 || size != sizeof tag)
    return false;
  std::memcpy(&tag, kept, sizeof tag);
  return tag == tag_of(SSL_get_SSL_CTX(&ssl));
}

std::vector<std::string> xmpp_addresses_of(const X509& x) {
  constexpr std::size_t most = 16;
  std::vector<std::string> all;
  auto* names = static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(&x, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; i < sk_GENERAL_NAME_num(names) && all.size() < most; ++i) {
    auto* n = sk_GENERAL_NAME_value(names, i);
    if (n->type == GEN_OTHERNAME && OBJ_obj2nid(n->d.otherName->type_id) == NID_XmppAddr
        && n->d.otherName->value->type == V_ASN1_UTF8STRING)
      all.push_back(text_of(n->d.otherName->value->value.utf8string));
  }
  GENERAL_NAMES_free(names);
  return all;
}

namespace {
/// Host names of certificates and of client hellos are ASCII (RFC 6066 section 3).
std::string lower(std::string_view host) {
  std::string out{host};
  for (auto& c : out)
    if (c >= 'A' && c <= 'Z')
      c = static_cast<char>(c - 'A' + 'a');
  return out;
}
} // namespace

void tls_identity_source::put(const std::string& host, tls_context_ref context) {
  auto name = lower(host);
  std::lock_guard guard{mutex_};
  if (!default_)
    default_host_ = name;
  if (name == default_host_)
    default_ = context;
  auto& there = contexts_[name];
  if (there)
    tags_.erase(tags_.find(tag_of(there.get()))); // one of them: others may have it, too
  tags_.insert(tag_of(context.get()));
  there = std::move(context);
}

base::result<void, std::vector<certificate_problem>>
tls_identity_source::load(const std::vector<files>& all, const tls_options& options) {
  std::vector<std::pair<std::string, tls_context_ref>> fresh;
  std::vector<certificate_problem> problems;
  for (auto& f : all) {
    if (auto c = make_server_context(f.chain, f.key, options))
      fresh.emplace_back(f.host, std::move(*c));
    else
      problems.push_back(std::move(c.error()));
  }
  if (!problems.empty())
    return base::fail(std::move(problems));
  replace(fresh);
  return {};
}

void tls_identity_source::replace(const std::vector<std::pair<std::string, tls_context_ref>>& all) {
  table fresh;
  for (auto& [host, context] : all)
    fresh[lower(host)] = context;
  auto first = all.empty() ? std::string{} : lower(all.front().first);
  std::lock_guard guard{mutex_};
  contexts_.swap(fresh); // the old one is freed behind the lock
  default_host_ = first;
  default_ = first.empty() ? nullptr : contexts_[first];
  tags_.clear();
  for (auto& [host, c] : contexts_)
    tags_.insert(tag_of(c.get()));
}

bool tls_identity_source::is_in_force(std::uint64_t tag) const {
  std::shared_lock guard{mutex_};
  return tags_.contains(tag);
}

bool tls_identity_source::is_empty() const {
  std::shared_lock guard{mutex_};
  return contexts_.empty();
}

tls_context_ref tls_identity_source::find(std::string_view host) const {
  auto name = lower(host);
  std::shared_lock guard{mutex_};
  auto i = contexts_.find(name);
  return i == contexts_.end() ? default_ : i->second;
}

} // namespace net
