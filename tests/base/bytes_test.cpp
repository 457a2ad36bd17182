// Numbers, hex, base64 and the two hashes, against published vectors and libcrypto.
#include "base/bytes.hpp"
#include <doctest/doctest.h>
#include <memory>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <set>

using namespace base;

namespace {
constexpr siphash_key reference_key{0x0706050403020100, 0x0f0e0d0c0b0a0908}; // bytes 00 to 0f

std::string counting(std::size_t size) {
  std::string s;
  for (std::size_t k = 0; k < size; ++k)
    s.push_back(static_cast<char>(k));
  return s;
}
std::string hex_of(u128 v) { // as the reference writes it: both halves little endian
  std::string out;
  for (auto half : {v.a, v.b})
    for (int k = 0; k < 8; ++k)
      out.push_back(static_cast<char>(half >> (8 * k)));
  return to_hex(out);
}
std::string siphash_of_libcrypto(const std::string& in) {
  std::unique_ptr<EVP_MAC, decltype(&EVP_MAC_free)> mac{EVP_MAC_fetch(nullptr, "SIPHASH", nullptr), EVP_MAC_free};
  std::unique_ptr<EVP_MAC_CTX, decltype(&EVP_MAC_CTX_free)> ctx{EVP_MAC_CTX_new(mac.get()), EVP_MAC_CTX_free};
  std::size_t size = 16, written = 0;
  OSSL_PARAM parameters[] = {OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &size), OSSL_PARAM_construct_end()};
  auto key = counting(16);
  REQUIRE(EVP_MAC_init(ctx.get(), reinterpret_cast<const unsigned char*>(key.data()), key.size(), parameters) == 1);
  REQUIRE(EVP_MAC_update(ctx.get(), reinterpret_cast<const unsigned char*>(in.data()), in.size()) == 1);
  std::string out(16, '\0');
  REQUIRE(EVP_MAC_final(ctx.get(), reinterpret_cast<unsigned char*>(out.data()), &written, out.size()) == 1);
  return to_hex(out);
}
} // namespace

TEST_CASE("numbers: a decimal and nothing else") {
  CHECK(to_number<std::uint32_t>("0") == 0u);
  CHECK(to_number<std::uint32_t>("4294967295") == 4'294'967'295u);
  CHECK(to_number<std::uint8_t>("007") == 7);
  for (auto bad : {"", "-1", "+1", " 1", "1 ", "0x1", "4294967296", "1.0", "1e3", "\xd9\xa1"}) {
    CAPTURE(bad);
    CHECK_FALSE(to_number<std::uint32_t>(bad));
  }
}

TEST_CASE("hex and big endian") {
  CHECK(to_hex(std::string_view{"\x00\x7f\xff", 3}) == "007fff");
  CHECK(to_hex("") == "");
  std::string key;
  put_be64(key, 0x0102030405060708);
  CHECK(to_hex(key) == "0102030405060708");
  CHECK(get_be64(key) == 0x0102030405060708);
  std::string smaller, larger;
  put_be64(smaller, 255);
  put_be64(larger, 256);
  CHECK(smaller < larger);
}

TEST_CASE("base64: RFC 4648 section 10, and every byte") {
  for (auto [plain, coded] : std::initializer_list<std::pair<std::string, std::string>>{
           {"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}}) {
    CHECK(to_base64(plain) == coded);
    CHECK(from_base64(coded) == plain);
  }
  for (std::size_t size = 0; size < 300; ++size)
    REQUIRE(from_base64(to_base64(counting(size))) == counting(size));
}

TEST_CASE("base64: one text for one value, nothing else is read") {
  for (auto bad : {"Z", "Zg", "Zg=", "Zg===", "====", "=Zg=", "Z=g=", "Zh==", "Zm9=", "Zm8=Zm8=", "Zm8 ", "Zm8\n", "Zm-_", "Zm9v\r\n", "Zg==Zg=="}) {
    CAPTURE(bad);
    CHECK_FALSE(from_base64(bad));
  }
  CHECK_FALSE(from_base64(std::string_view{"Zm9\0", 4}));
}

TEST_CASE("siphash128: the reference's vectors") {
  constexpr const char* vectors[] = {"a3817f04ba25a8e66df67214c7550293", "da87c1d86b99af44347659119b22fc45",
      "8177228da4a45dc7fca38bdef60affe4", "9c70b60c5267a94e5f33b6b02985ed51", "f88164c12d9c8faf7d0f6e7c7bcd5579",
      "1368875980776f8854527a07690e9627", "14eeca338b208613485ea0308fd7a15e", "a1f1ebbed8dbc153c0b84aa61ff08239"};
  for (std::size_t size = 0; size < std::size(vectors); ++size)
    CHECK(hex_of(siphash128(counting(size), reference_key)) == vectors[size]);
}

TEST_CASE("siphash128: as libcrypto, at every length") {
  for (std::size_t size = 0; size < 200; ++size)
    REQUIRE(hex_of(siphash128(counting(size), reference_key)) == siphash_of_libcrypto(counting(size)));
}

TEST_CASE("hash_bytes: every byte counts, at every length") {
  for (std::size_t size = 1; size < 80; ++size) {
    auto text = counting(size);
    std::set<std::uint64_t> seen{hash_bytes(text)};
    for (std::size_t k = 0; k < size; ++k) {
      auto other = text;
      other[k] = static_cast<char>(other[k] ^ 1);
      seen.insert(hash_bytes(other));
    }
    CHECK(seen.size() == size + 1);
    CHECK(hash_bytes(text) == hash_bytes(std::string{text}));
    CHECK(hash_bytes(text) != hash_bytes(text + '\0'));
  }
}
