// XEP-0280 Message Carbons 1.0.1: each device of an account sees what the others send and are sent. What is worth a copy
// is in the table of message classes (docs/messages.md).
#include "modules/all.hpp"
#include "xmpp/im/message_class.hpp"
#include <algorithm>

namespace modules {

namespace {
constexpr std::string_view ns = "urn:xmpp:carbons:2";

/// `<message><sent|received><forwarded>…</forwarded></…></message>` from the account to itself. Its stanza-id, which is
/// not written, is that of what it copies: a session knows by it what it has been sent already.
xmpp::stanza_ref wrap(std::string_view direction, const xmpp::delivery& what, const xmpp::jid_ref& account) {
  auto inner = xmpp::to_string(xmpp::delivery{what.what, what.to});
  if (!what.what->tag().ns)
    inner.insert(1u + what.what->tag().name_size, " xmlns='jabber:client'");
  xmpp::writer w;
  w.open("message");
  if (auto type = what.what->at(what.what->tag().type); what.what->tag().type && type.find('&') == type.npos)
    w.attr("type", type);
  w.open(direction, ns).open("forwarded", "urn:xmpp:forward:0").raw(inner).close().close().close();
  auto copy = xmpp::stanza::from_xml(w.take());
  copy->from = copy->to = account;
  copy->stanza_id = what.what->stanza_id;
  copy->completion = what.what->completion; // acknowledged here, it has been delivered
  return copy;
}

class carbons final : public module {
public:
  std::string_view name() const override { return "carbons"; }
  void start(registrar& reg) override {
    reg.feature(std::string{ns});
    reg.feature("urn:xmpp:carbons:rules:0");
    reg.iq_set(at::account, std::string{ns}, set_enabled);
    reg.filter<stanza_entered>(stage::access, refuse_forged);
    reg.observe<message_delivered>(stage::copies, copy_received);
    reg.observe<message_sent>(stage::copies, copy_sent);
  }

private:
  static iq_reply set_enabled(iq_request& r) {
    auto name = r.payload.name();
    if (!r.is_own())
      return iq_reply::error(xmpp::stanza_errc::forbidden);
    if (name != "enable" && name != "disable")
      return iq_reply::error(xmpp::stanza_errc::bad_request);
    for (auto& s : r.account->sessions())
      if (*s.full == *r.what->from) {
        r.account->want_copies(s.id, name == "enable", *r.out);
        return iq_reply::empty();
      }
    return iq_reply::error(xmpp::stanza_errc::item_not_found); // it has ended meanwhile
  }

  /// Nobody but an account's own server writes these (CVE-2017-5589 and its kind).
  static verdict refuse_forged(stanza_entered& ev) {
    if (ev.what.kind() != xmpp::stanza_kind::message || ev.what.bytes().find(ns) == std::string_view::npos)
      return verdict::pass();
    if (!xmpp::im::facts_of(ev.what).is_carbon)
      return verdict::pass();
    return verdict::refuse({xmpp::stanza_errc::forbidden, xmpp::error_type::cancel, "copies of messages are made by the server"});
  }

  static void copy_received(message_delivered& ev) {
    if (!xmpp::im::copyable(xmpp::im::facts_of(*ev.what.what)))
      return;
    xmpp::stanza_ref copy;
    for (auto& s : ev.account.sessions()) {
      if (!s.wants_copies || std::ranges::find(ev.receivers, s.id) != ev.receivers.end())
        continue;
      if (!copy)
        copy = wrap("received", ev.what, ev.account.bare());
      ev.out.deliver(s.id, {copy, s.full, ev.what.shared, true, false, false, ev.what.is_again});
    }
  }

  static void copy_sent(message_sent& ev) {
    auto& to = ev.what->to;
    if (!to || same_bare(*to, *ev.account.bare()) || !xmpp::im::copyable(xmpp::im::facts_of(*ev.what)))
      return; // to the account itself: its devices get it, and copies of that
    xmpp::stanza_ref copy;
    for (auto& s : ev.account.sessions()) {
      if (!s.wants_copies || s.id == ev.session)
        continue;
      if (!copy) {
        copy = wrap("sent", {ev.what, {}}, ev.account.bare());
        copy->completion = {}; // that a device of its sender has it does not mean that it was delivered
      }
      ev.out.deliver(s.id, {copy, s.full, {}, true});
    }
  }
};
} // namespace

std::unique_ptr<module> make_carbons() { return std::make_unique<carbons>(); }

} // namespace modules
