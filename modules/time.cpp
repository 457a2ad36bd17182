// XEP-0202 Entity Time 2.0.
#include "modules/all.hpp"
#include "xmpp/stamp.hpp"

namespace modules {

namespace {
constexpr auto ns = "urn:xmpp:time";

class entity_time final : public module {
public:
  std::string_view name() const override { return "time"; }
  void start(registrar& reg) override {
    reg.feature(ns);
    reg.iq_get(at::host, ns, [&clock = reg.around().clock](iq_request&) {
      xmpp::writer w;
      w.open("time", ns).leaf("tzo", "+00:00").leaf("utc", xmpp::stamp(clock.wall())).close(); // a server lives in UTC
      return iq_reply::payload(w.take());
    });
  }
};
} // namespace

std::unique_ptr<module> make_time() { return std::make_unique<entity_time>(); }

} // namespace modules
