// XEP-0199 XMPP Ping 2.0.1. The server and its accounts answer; who asks does not matter.
#include "modules/all.hpp"

namespace modules {

namespace {
constexpr auto ns = "urn:xmpp:ping";

class ping final : public module {
public:
  std::string_view name() const override { return "ping"; }
  void start(registrar& reg) override {
    reg.feature(ns);
    reg.feature(ns, at::account);
    auto pong = [](iq_request& r) {
      return r.payload.name() == "ping" ? iq_reply::empty() : iq_reply::error(xmpp::stanza_errc::bad_request);
    };
    reg.iq_get(at::host, ns, pong);
    reg.iq_get(at::account, ns, [pong](iq_request& r) { // section 4.2 is for oneself only: no oracle of who is there
      return r.is_own() ? pong(r) : iq_reply::error(xmpp::stanza_errc::service_unavailable);
    });
  }
};
} // namespace

std::unique_ptr<module> make_ping() { return std::make_unique<ping>(); }

} // namespace modules
