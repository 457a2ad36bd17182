// XEP-0115 Entity Capabilities 1.6.0. The server's own capabilities in its stream features.
#include "base/bytes.hpp"
#include "base/crypto.hpp"
#include "modules/all.hpp"
#include "modules/disco.hpp"

namespace modules {

namespace {
constexpr auto ns = "http://jabber.org/protocol/caps";
constexpr auto node = "covey";

class caps final : public module {
public:
  std::string_view name() const override { return "caps"; }
  void start(registrar& reg) override {
    reg.feature(ns);
    auto ver = base::to_base64(base::crypto::digest(base::crypto::hash::sha1, capability_string(reg.host())));
    xmpp::writer w;
    w.open("c", ns).attr("hash", "sha-1").attr("node", node).attr("ver", ver).close();
    reg.stream_feature(w.take());
    reg.announce_caps(std::string{node} + '#' + ver);
  }
};
} // namespace

std::unique_ptr<module> make_caps() { return std::make_unique<caps>(); }

} // namespace modules
