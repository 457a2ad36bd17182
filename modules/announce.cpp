// The announce address of a host: what one of its administrators sends to announce@host goes to everyone
// online. The smallest service there is: an entity of its own behind one address.
#include "modules/all.hpp"
#include "modules/disco.hpp"
#include "modules/stamp.hpp"
#include <algorithm>

namespace modules {

namespace {
constexpr auto local_part = "announce";
constexpr auto name_for_people = "Announcements";

/// Owns nothing but its address.
class announcer final : public entity_machine {
public:
  explicit announcer(const host_view& host) : host_(host) {}

  void step(entity_event& ev, base::time_point, effects& out) override {
    if (auto* in = std::get_if<event::stanza>(&ev))
      on_stanza(*in->what.what, out);
  }
  bool is_idle() const override { return true; }

private:
  void on_stanza(const xmpp::stanza& s, effects& out) {
    using xmpp::stanza_errc;
    if (s.kind() == xmpp::stanza_kind::presence || s.type() == xmpp::stanza_type::error
        || s.type() == xmpp::stanza_type::result)
      return out.complete(s.completion, outcome::refused);
    if (s.kind() == xmpp::stanza_kind::iq)
      return on_iq(s, out);
    if (std::find(host_.admins.begin(), host_.admins.end(), s.from->bare()) == host_.admins.end())
      return out.bounce(s, stanza_errc::forbidden);
    xmpp::document parser;
    auto root = parser.parse(s.bytes());
    auto body = root.child("body", "jabber:client").text();
    if (body.empty())
      return out.bounce(s, stanza_errc::bad_request);
    xmpp::writer w; // in the host's name: who sent it is the host's business
    w.open("message").attr("type", "headline");
    if (auto subject = root.child("subject", "jabber:client").text(); !subject.empty())
      w.leaf("subject", subject);
    w.leaf("body", body).close();
    auto message = xmpp::stanza::from_xml(w.take());
    message->from = host_.domain;
    message->to = host_.domain; // each receiver's own address replaces it
    out.broadcast(std::string{host_.domain->domain()}, std::move(message));
    out.complete(s.completion, outcome::acknowledged);
  }
  static void on_iq(const xmpp::stanza& s, effects& out) {
    auto answer = answer_disco(s, {"component", "generic", name_for_people});
    if (!answer)
      return out.bounce(s, xmpp::stanza_errc::service_unavailable);
    out.route({std::move(answer), {}});
    out.complete(s.completion, outcome::acknowledged);
  }
  const host_view& host_;
};

class announce final : public module {
public:
  std::string_view name() const override { return "announce"; }
  void start(registrar& reg) override {
    reg.item({std::string{local_part} + '@' + std::string{reg.host().domain->domain()}, {}, name_for_people});
    reg.entity(local_part, [&host = reg.host()] { return std::make_unique<announcer>(host); });
  }
};
} // namespace

std::unique_ptr<module> make_announce() { return std::make_unique<announce>(); }

} // namespace modules
