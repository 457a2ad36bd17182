// The negotiation machine: compression between login and bind (XEP-0138).
#include "tests/xmpp/dialogue.hpp"

namespace {
host_settings compressing() {
  auto h = example_org();
  h.compression = true;
  return h;
}
const std::string feature = "<compression xmlns='http://jabber.org/features/compress'><method>zlib</method></compression>";
const std::string ns = "http://jabber.org/protocol/compress";
const std::string compress = "<compress xmlns='" + ns + "'><method>zlib</method></compress>";
std::string compress_failure(const std::string& why) { return "<failure xmlns='" + ns + "'><" + why + "/></failure>"; }
} // namespace

TEST_CASE("negotiation: compression is offered after login, and once") {
  dialogue d{compressing(), tls13};
  CHECK(d.says(header) == over_tls); // never before
  d.auth("PLAIN", std::string{"\0alice\0pw", 9});
  d.step(on::password_checked{});
  CHECK(d.says(header).find(feature) != std::string::npos);
  CHECK(d.says(compress) == "<compressed xmlns='" + ns + "'/> | restart | start_compression");
  CHECK(d.says(header) == bindable);
  CHECK(d.says(compress) == compress_failure("setup-failed"));
  CHECK(d.says(bind_phone) == "bind alice@example.org/phone");
}

TEST_CASE("negotiation: compression before login is as strange as any element") {
  dialogue d{compressing(), tls13};
  d.says(header);
  CHECK(d.says(compress) == stream_error("unsupported-stanza-type"));
}

TEST_CASE("negotiation: a compression that fails is no end; too many are") {
  logged_in d{compressing()};
  CHECK(d.says(replaced(compress, "zlib", "lzw")) == compress_failure("unsupported-method"));
  CHECK(d.says("<compress xmlns='" + ns + "'/>") == compress_failure("unsupported-method"));
  d.has_memory = false;
  CHECK(d.says(compress) == compress_failure("setup-failed"));
  d.has_memory = true;
  CHECK(d.says(compress).ends_with("start_compression"));
  d.says(header);
  d.says(compress), d.says(compress);
  CHECK(d.says(compress) == stream_error("policy-violation", "too many attempts to compress"));
  logged_in off;
  CHECK(off.says(compress) == compress_failure("setup-failed"));
  CHECK(off.says(bind_phone) == "bind alice@example.org/phone");
}

TEST_CASE("negotiation: bytes behind <compress/> end it") {
  logged_in d{compressing()};
  d.says(compress);
  CHECK(d.step(on::injected_bytes{}) == "close policy-violation");
}
