// What is said of certificates that cannot be used, and which one a host name chooses.
#include "certificates.hpp"
#include "net/tls_identity.hpp"
#include <algorithm>
#include <array>
#include <doctest/doctest.h>
#include <openssl/ssl.h>
#include <sys/stat.h>
#include <thread>

using net::certificate_errc;
using net::check_certificate;

namespace {
/// What the check says of this pair; -1: nothing.
int verdict(const test::folder& at, const std::string& chain, const std::string& key, std::string_view host = {}) {
  auto r = check_certificate(at / chain, at / key, host);
  if (r)
    return -1;
  CHECK_FALSE(r.error().text.empty());
  CHECK_FALSE(r.error().file.empty());
  return static_cast<int>(r.error().what);
}
constexpr int code(certificate_errc e) { return static_cast<int>(e); }
} // namespace

TEST_CASE("a good certificate is described") {
  test::folder at;
  make_certificate(at, "good", {.alternative_names = "DNS:example.org,DNS:*.example.org,IP:::1,IP:192.0.2.7"});
  auto info = check_certificate(at / "good.pem", at / "good.key", "example.org");
  REQUIRE(info);
  CHECK(info->subject.find("covey test") != std::string::npos);
  CHECK(info->issuer == info->subject);
  CHECK(info->names == std::vector<std::string>{"example.org", "*.example.org", "::1", "192.0.2.7"});
  auto now = std::chrono::system_clock::now();
  CHECK(info->not_before < now);
  CHECK(info->not_after > now);
  for (auto host : {"example.org", "EXAMPLE.ORG", "conference.example.org", "::1", "192.0.2.7"}) {
    CAPTURE(host);
    CHECK(check_certificate(at / "good.pem", at / "good.key", host));
  }
  for (auto host : {"a.b.example.org", "example.com", "org", "192.0.2.8", "covey test"}) {
    CAPTURE(host);
    CHECK(verdict(at, "good.pem", "good.key", host) == code(certificate_errc::wrong_host));
  }
}

TEST_CASE("each mistake has its own word and names the file") {
  test::folder at;
  make_certificate(at, "good");
  make_certificate(at, "other");
  make_certificate(at, "old", {.valid_from_s = -7'200, .valid_to_s = -3'600});
  make_certificate(at, "early", {.valid_from_s = 3'600});
  make_certificate(at, "client", {.extended_usage = "clientAuth"});
  make_certificate(at, "nameless", {.alternative_names = "", .common_name = "localhost"});
  test::write_file(at / "text", "hello\n");
  test::write_file(at / "empty", "");
  mkdir((at / "folder").c_str(), 0700);
  struct { const char* chain; const char* key; certificate_errc what; const char* file; } table[] = {
      {"none", "good.key", certificate_errc::chain_missing, "none"},
      {"good.pem/none", "good.key", certificate_errc::chain_missing, "good.pem/none"},
      {"folder", "good.key", certificate_errc::chain_unreadable, "folder"},
      {"text", "good.key", certificate_errc::chain_not_pem, "text"},
      {"empty", "good.key", certificate_errc::chain_not_pem, "empty"},
      {"good.key", "good.key", certificate_errc::chain_not_pem, "good.key"},
      {"good.pem", "none", certificate_errc::key_missing, "none"},
      {"good.pem", "folder", certificate_errc::key_unreadable, "folder"},
      {"good.pem", "good.pem", certificate_errc::key_not_pem, "good.pem"},
      {"good.pem", "other.key", certificate_errc::key_does_not_match, "other.key"},
      {"old.pem", "old.key", certificate_errc::expired, "old.pem"},
      {"early.pem", "early.key", certificate_errc::not_yet_valid, "early.pem"},
      {"client.pem", "client.key", certificate_errc::not_for_servers, "client.pem"},
      {"nameless.pem", "nameless.key", certificate_errc::wrong_host, "nameless.pem"},
  };
  for (auto& t : table) {
    CAPTURE(t.chain);
    CAPTURE(t.key);
    auto r = check_certificate(at / t.chain, at / t.key, "localhost");
    REQUIRE_FALSE(r);
    CHECK(code(r.error().what) == code(t.what));
    CHECK(r.error().file == at / t.file);
  }
  if (geteuid() != 0) { // root may read everything
    chmod((at / "good.key").c_str(), 0);
    CHECK(verdict(at, "good.pem", "good.key") == code(certificate_errc::key_unreadable));
  }
}

TEST_CASE("an encrypted key asks nobody for a password") {
  test::folder at;
  make_certificate(at, "good");
  auto command = "openssl pkey -in " + at / "good.key" + " -aes128 -passout pass:secret -out " + at / "locked.key";
  REQUIRE(std::system(command.c_str()) == 0);
  CHECK(verdict(at, "good.pem", "locked.key") == code(certificate_errc::key_not_pem));
}

TEST_CASE("a context: what the check refuses, and a key that is too short; an expired one is taken") {
  test::folder at;
  make_certificate(at, "good");
  make_certificate(at, "old", {.valid_from_s = -7'200, .valid_to_s = -3'600});
  make_certificate(at, "short", {.key = "RSA-1024"});
  CHECK(net::make_server_context(at / "good.pem", at / "good.key"));
  CHECK(net::make_server_context(at / "old.pem", at / "old.key"));
  auto refused = net::make_server_context(at / "short.pem", at / "short.key");
  REQUIRE_FALSE(refused);
  CHECK(code(refused.error().what) == code(certificate_errc::refused));
  CHECK(refused.error().text.find("too small") != std::string::npos);
  auto missing = net::make_server_context(at / "none", at / "good.key");
  REQUIRE_FALSE(missing);
  CHECK(code(missing.error().what) == code(certificate_errc::chain_missing));
}

TEST_CASE("host names choose, without regard to case; the first is the default") {
  test::folder at;
  make_certificate(at, "a");
  auto context = [&] { return *net::make_server_context(at / "a.pem", at / "a.key"); };
  net::tls_identity_source ids;
  CHECK(ids.is_empty());
  CHECK(ids.find("example.org") == nullptr);
  auto one = context(), two = context();
  ids.put("Example.org", one);
  ids.put("example.net", two);
  CHECK_FALSE(ids.is_empty());
  CHECK(ids.find("example.ORG") == one);
  CHECK(ids.find("example.net") == two);
  CHECK(ids.find("") == one);
  CHECK(ids.find("elsewhere") == one);
  auto three = context();
  ids.put("EXAMPLE.org", three);
  CHECK(ids.find("example.org") == three);
  CHECK(ids.find("") == three);
}

TEST_CASE("reload: all or nothing, and every problem is told") {
  test::folder at;
  make_certificate(at, "a");
  make_certificate(at, "b");
  net::tls_identity_source ids;
  REQUIRE(ids.load({{"a.example", at / "a.pem", at / "a.key"}, {"b.example", at / "b.pem", at / "b.key"}}));
  auto a = ids.find("a.example"), b = ids.find("b.example");
  CHECK(a != b);
  CHECK(ids.find("c.example") == a);
  auto bad = ids.load({{"a.example", at / "none", at / "a.key"}, {"b.example", at / "b.pem", at / "b.key"},
                       {"c.example", at / "a.pem", at / "b.key"}});
  REQUIRE_FALSE(bad);
  REQUIRE(bad.error().size() == 2);
  CHECK(code(bad.error()[0].what) == code(certificate_errc::chain_missing));
  CHECK(code(bad.error()[1].what) == code(certificate_errc::key_does_not_match));
  CHECK(ids.find("a.example") == a);
  CHECK(ids.find("b.example") == b);
  REQUIRE(ids.load({{"b.example", at / "b.pem", at / "b.key"}}));
  CHECK(ids.find("a.example") == ids.find("b.example"));
  CHECK(ids.find("b.example") != b);
  REQUIRE(ids.load({}));
  CHECK(ids.is_empty());
  CHECK(ids.find("b.example") == nullptr);
}

TEST_CASE("reload beside look-ups: a connection finds the old or the new one, never none") {
  test::folder at;
  make_certificate(at, "a");
  net::tls_identity_source ids;
  std::vector<net::tls_identity_source::files> files{{"a.example", at / "a.pem", at / "a.key"}};
  REQUIRE(ids.load(files));
  std::atomic<bool> is_over{false};
  std::atomic<int> found{0}, missed{0};
  std::array<std::thread, 2> readers;
  for (auto& r : readers)
    r = std::thread{[&] {
      do {
        auto c = ids.find(found % 2 ? "a.example" : "b.example");
        std::unique_ptr<SSL, void (*)(SSL*)> ssl{c ? SSL_new(c.get()) : nullptr, SSL_free};
        ++(ssl ? found : missed);
      } while (!is_over);
    }};
  for (int i = 0; i < 50; ++i)
    CHECK(ids.load(files));
  is_over = true;
  for (auto& r : readers)
    r.join();
  CHECK(missed == 0);
  CHECK(found > 0);
}
