// XEP-0157 Contact Addresses for XMPP Services 1.1.1, as a form of the host's service discovery (XEP-0128).
#include "modules/all.hpp"

namespace modules {

namespace {
struct address_kind { const char* key; const char* doc; };
constexpr address_kind kinds[]{
    {"abuse", R"(Addresses (URIs) for reports of abuse: ["mailto:abuse@example.org", "xmpp:abuse@example.org"].)"},
    {"admin", "The same of the administrators."},
    {"feedback", "The same for feedback."},
    {"sales", "The same for sales."},
    {"security", "The same for reports of weaknesses."},
    {"status", "Where the state of the service is told."},
    {"support", "The same for help."}};

class contact final : public module {
public:
  std::string_view name() const override { return "contact"; }
  std::vector<setting_key> keys() const override {
    std::vector<setting_key> all;
    for (auto& k : kinds)
      all.push_back({k.key, setting_type::list, "[]", k.doc});
    return all;
  }
  void start(registrar& reg) override {
    disco_form form{"http://jabber.org/network/serverinfo", {}};
    for (auto& k : kinds)
      if (auto all = reg.settings().list(k.key); !all.empty())
        form.fields.push_back({std::string{k.key} + "-addresses", std::move(all)});
    if (!form.fields.empty())
      reg.form(std::move(form));
  }
};
} // namespace

std::unique_ptr<module> make_contact() { return std::make_unique<contact>(); }

} // namespace modules
