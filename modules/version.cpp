// XEP-0092 Software Version 1.1. Name and version of the server; of the system only if configured.
#include "modules/all.hpp"
#include <sys/utsname.h>

namespace modules {

namespace {
constexpr auto ns = "jabber:iq:version";

class version final : public module {
public:
  std::string_view name() const override { return "version"; }
  std::vector<setting_key> keys() const override {
    return {{"show_system", setting_type::flag, "false", "Tell the operating system to whoever asks for the version."}};
  }
  void start(registrar& reg) override {
    reg.feature(ns);
    xmpp::writer w;
    w.open("query", ns).leaf("name", "covey").leaf("version", COVEY_VERSION);
    if (utsname system{}; reg.settings().flag("show_system") && uname(&system) == 0)
      w.leaf("os", system.sysname);
    w.close();
    reg.iq_get(at::host, ns, [xml = w.take()](iq_request&) { return iq_reply::payload(xml); });
  }
};
} // namespace

std::unique_ptr<module> make_version() { return std::make_unique<version>(); }

} // namespace modules
