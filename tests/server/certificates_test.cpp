// The local authority: what it makes verifies, renews itself, and leaves alone what is not its own.
#include "net/tls_identity.hpp"
#include "server/certificates.hpp"
#include "tests/server/folder.hpp"
#include <doctest/doctest.h>
#include <memory>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

using namespace server;
using server_tests::folder;

namespace {
using x509 = std::unique_ptr<X509, void (*)(X509*)>;

x509 read(const std::string& file) {
  auto* f = std::fopen(file.c_str(), "re");
  REQUIRE(f);
  x509 x{PEM_read_X509(f, nullptr, nullptr, nullptr), X509_free};
  std::fclose(f);
  return x;
}

/// As a client does that trusts the authority: chain, purpose, time, name.
bool verifies(const certificate_files& files, const std::string& name, bool is_address = false) {
  auto ca = read(files.authority), leaf = read(files.chain);
  std::unique_ptr<X509_STORE, void (*)(X509_STORE*)> trusted{X509_STORE_new(), X509_STORE_free};
  X509_STORE_add_cert(trusted.get(), ca.get());
  std::unique_ptr<X509_STORE_CTX, void (*)(X509_STORE_CTX*)> c{X509_STORE_CTX_new(), X509_STORE_CTX_free};
  X509_STORE_CTX_init(c.get(), trusted.get(), leaf.get(), nullptr);
  X509_STORE_CTX_set_default(c.get(), "ssl_server");
  auto* how = X509_STORE_CTX_get0_param(c.get());
  X509_VERIFY_PARAM_set_flags(how, X509_V_FLAG_X509_STRICT);
  if (is_address)
    X509_VERIFY_PARAM_set1_ip_asc(how, name.c_str());
  else
    X509_VERIFY_PARAM_set1_host(how, name.c_str(), 0);
  return X509_verify_cert(c.get()) == 1;
}

int mode_of(const std::string& file) {
  struct stat st{};
  REQUIRE(stat(file.c_str(), &st) == 0);
  return st.st_mode & 0777;
}

/// The same certificate with another end, signed by the same key: as time would make it.
void shorten(const std::string& file, const std::string& ca_key_file, long seconds) {
  auto x = read(file);
  auto* f = std::fopen(ca_key_file.c_str(), "re");
  auto* key = PEM_read_PrivateKey(f, nullptr, nullptr, nullptr);
  std::fclose(f);
  X509_gmtime_adj(X509_getm_notAfter(x.get()), seconds);
  X509_sign(x.get(), key, EVP_sha256());
  EVP_PKEY_free(key);
  f = std::fopen(file.c_str(), "we");
  PEM_write_X509(f, x.get());
  std::fclose(f);
}
} // namespace

TEST_CASE("a certificate that clients verify, for the host and its components") {
  folder f;
  auto made = local_certificate(f.at("certificates"), "chat.example.org");
  REQUIRE(made);
  CHECK(made->is_new);
  for (auto* name : {"chat.example.org", "conference.chat.example.org", "upload.chat.example.org", "pubsub.chat.example.org", "proxy.chat.example.org"}) {
    CAPTURE(name);
    CHECK(verifies(*made, name));
  }
  CHECK_FALSE(verifies(*made, "example.org"));
  CHECK_FALSE(verifies(*made, "127.0.0.1", true));
  CHECK(net::check_certificate(made->chain, made->key, "chat.example.org"));
  CHECK(net::make_server_context(made->chain, made->key));
  CHECK(mode_of(made->key) == 0600);
  CHECK(mode_of(f.at("certificates/ca.key")) == 0600);
  CHECK(how_to_trust(made->authority).find(made->authority) != std::string::npos);
}

TEST_CASE("localhost has the loopback addresses; what is beyond ASCII is written as DNS has it") {
  folder f;
  auto local = local_certificate(f.path(), "localhost");
  REQUIRE(local);
  CHECK(verifies(*local, "localhost"));
  CHECK(verifies(*local, "127.0.0.1", true));
  CHECK(verifies(*local, "::1", true));
  CHECK(ascii_name("b\xc3\xbc" "cher.example") == "xn--bcher-kva.example");
  CHECK(ascii_name("example.org") == "example.org");
  auto other = local_certificate(f.path(), "b\xc3\xbc" "cher.example");
  REQUIRE(other);
  CHECK(verifies(*other, "xn--bcher-kva.example"));
  CHECK(verifies(*local, "localhost")); // of the same authority
}

TEST_CASE("nothing is made twice; what ends soon is made anew by the same authority") {
  folder f;
  auto first = local_certificate(f.path(), "a.example");
  REQUIRE(first);
  auto text = folder::read(first->chain), authority = folder::read(first->authority);
  auto second = local_certificate(f.path(), "a.example");
  REQUIRE(second);
  CHECK_FALSE(second->is_new);
  CHECK(folder::read(first->chain) == text);
  shorten(first->chain, f.at("ca.key"), 20 * 86'400);
  auto third = local_certificate(f.path(), "a.example");
  REQUIRE(third);
  CHECK(third->is_new);
  CHECK(folder::read(first->authority) == authority);
  CHECK(verifies(*third, "a.example"));
  SUBCASE("a lost key") {
    std::filesystem::remove(third->key);
    auto fourth = local_certificate(f.path(), "a.example");
    REQUIRE(fourth);
    CHECK(fourth->is_new);
    CHECK(verifies(*fourth, "a.example"));
  }
  SUBCASE("an authority that ends soon") {
    shorten(first->authority, f.at("ca.key"), 50 * 86'400);
    auto fourth = local_certificate(f.path(), "a.example");
    REQUIRE(fourth);
    CHECK(fourth->is_new);
    CHECK(folder::read(first->authority) != authority);
    CHECK(verifies(*fourth, "a.example"));
  }
}

TEST_CASE("what the operator put there stays") {
  folder ours, theirs;
  auto made = local_certificate(ours.path(), "a.example");
  REQUIRE(made);
  auto not_ours = [&](const std::string& text) {
    folder f;
    auto file = f.write("a.example.pem", text);
    auto r = local_certificate(f.path(), "a.example");
    REQUIRE_FALSE(r);
    CHECK(r.error().find(file) != std::string::npos);
    CHECK(folder::read(file) == text);
    auto authority = f.write("ca.pem", text);
    REQUIRE_FALSE(local_certificate(f.path(), "b.example"));
    CHECK(folder::read(authority) == text);
  };
  not_ours("something else\n");
  // signed by themselves
  auto x = read(made->chain);
  X509_set_issuer_name(x.get(), X509_get_subject_name(x.get()));
  auto* f = std::fopen(made->key.c_str(), "re");
  auto* key = PEM_read_PrivateKey(f, nullptr, nullptr, nullptr);
  std::fclose(f);
  X509_sign(x.get(), key, EVP_sha256());
  EVP_PKEY_free(key);
  f = std::fopen(theirs.at("x.pem").c_str(), "we");
  PEM_write_X509(f, x.get());
  std::fclose(f);
  not_ours(folder::read(theirs.at("x.pem")));
}

TEST_CASE("names and folders that cannot be used") {
  folder f;
  for (auto* name : {"", "a b", "../x", "a/b", "a,DNS:b", ".a"}) {
    CAPTURE(name);
    CHECK_FALSE(local_certificate(f.path(), name));
  }
  f.write("plain", "");
  CHECK_FALSE(local_certificate(f.at("plain/sub"), "a.example"));
}
