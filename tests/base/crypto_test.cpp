// base/crypto against the published vectors.
#include "base/bytes.hpp"
#include "base/crypto.hpp"
#include <doctest/doctest.h>
#include <thread>
#include <vector>

using namespace base::crypto;
using base::to_hex;

TEST_CASE("digest: FIPS 180 vectors") {
  CHECK(to_hex(digest(hash::sha1, "abc")) == "a9993e364706816aba3e25717850c26c9cd0d89d");
  CHECK(to_hex(digest(hash::sha1, "")) == "da39a3ee5e6b4b0d3255bfef95601890afd80709");
  CHECK(to_hex(digest(hash::sha256, "abc")) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(to_hex(digest(hash::sha512, "abc"))
        == "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f");
  CHECK(size_of(hash::sha1) == 20);
  CHECK(size_of(hash::sha256) == 32);
  CHECK(size_of(hash::sha512) == 64);
}

TEST_CASE("hmac: RFC 2202, RFC 4231, and empty keys") {
  std::string key(20, '\x0b');
  CHECK(to_hex(hmac(hash::sha1, key, "Hi There")) == "b617318655057264e28bc0b6fb378c8ef146be00");
  CHECK(to_hex(hmac(hash::sha256, key, "Hi There"))
        == "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  CHECK(to_hex(hmac(hash::sha512, key, "Hi There"))
        == "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854");
  CHECK(to_hex(hmac(hash::sha1, "Jefe", "what do ya want for nothing?")) == "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
  // An empty key after another must not mean "the one before".
  CHECK(to_hex(hmac(hash::sha1, {}, {})) == "fbdb1d1b18aa6c08324b7d64b71fb76370690e1d");
  CHECK(to_hex(hmac(hash::sha256, "", "")) == "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

TEST_CASE("pbkdf2: RFC 6070 and its SHA-256 form") {
  CHECK(to_hex(pbkdf2(hash::sha1, "password", "salt", 1)) == "0c60c80f961f0e71f3a9b524af6012062fe037a6");
  CHECK(to_hex(pbkdf2(hash::sha1, "password", "salt", 4096)) == "4b007901b765489abead49d926f721d065a429c1");
  CHECK(to_hex(pbkdf2(hash::sha256, "password", "salt", 1))
        == "120fb6cffcf8b32c43e7225256c4f837a86548c92ccc35480805987cb70be17b");
  CHECK(to_hex(pbkdf2(hash::sha256, "password", "salt", 4096))
        == "c5e478d59288c841aa530db6845c4c8d962893a001ce4e11a4963873aa98134a");
}

TEST_CASE("pbkdf2: SHA-512") {
  CHECK(to_hex(pbkdf2(hash::sha512, "password", "salt", 1))
        == "867f70cf1ade02cff3752599a3a53dc4af34c7a669815ae5d513554e1c8cf252c02d470a285a0501bad999bfe943c08f050235d7d68b1da55e63f73b60a57fce");
}

TEST_CASE("comparing, combining, wiping") {
  CHECK(equal_in_constant_time("abc", "abc"));
  CHECK(equal_in_constant_time("", ""));
  CHECK_FALSE(equal_in_constant_time("abc", "abd"));
  CHECK_FALSE(equal_in_constant_time("abc", "abcd"));
  CHECK(exclusive_or("\x0f\x01", "\xf0\x01") == std::string_view{"\xff\x00", 2});
  std::string secret(64, 's');
  auto* bytes = secret.data();
  wipe(secret);
  CHECK(secret.empty());
  CHECK(secret.data() == bytes); // the same memory, so it was overwritten and not only given back
}

TEST_CASE("any thread may hash at the same time") {
  auto expected = hmac(hash::sha256, "key", "data");
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int k = 0; k < 500; ++k)
        wrong += hmac(hash::sha256, "key", "data") != expected;
    });
  for (auto& t : threads)
    t.join();
  CHECK(wrong == 0);
}
