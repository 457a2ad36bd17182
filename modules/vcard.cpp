// XEP-0054 vcard-temp 1.3 and the hash of its photo in presence, XEP-0153 vCard-Based Avatars 1.1. Whoever asks gets a
// vCard, also while its owner is away; what presence says of the photo is what is kept here, whatever the client says.
#include "modules/all.hpp"
#include "modules/stored_xml.hpp"
#include "storage/tables.hpp"
#include "xmpp/im/vcard.hpp"

namespace modules {

namespace {
namespace tables = storage::tables;
using xmpp::error_type;
using xmpp::stanza_errc;

/// Kept with the account while it is in memory.
struct photo {
  std::optional<std::string> sha1; // nothing: there never was one, and presence need not tell
};

class vcard final : public module {
public:
  std::string_view name() const override { return "vcard"; }
  std::vector<setting_key> keys() const override {
    return {{"largest", setting_type::size, "128 kB", "The largest vCard, with the photo in it."}};
  }

  void start(registrar& reg) override {
    auto largest = static_cast<std::size_t>(reg.settings().number("largest"));
    std::string ns{xmpp::im::vcard_ns};
    reg.feature(ns);
    reg.feature(ns, at::account);
    reg.preload({[](const xmpp::jid& bare) { return storage::only(tables::vcard_photo_key(bare)); }, 1,
                 [this](account_view& account, const std::vector<storage::row>& rows, effects&) {
                   if (!rows.empty())
                     if (auto sha1 = tables::decode_vcard_photo(rows.front()))
                       of(account).sha1 = std::move(*sha1);
                 }});
    reg.iq_get(at::account, ns, [](iq_request& r) { return on_get(r); });
    reg.iq_set(at::account, ns, [this, largest](iq_request& r) { return on_set(largest, r); });
    reg.filter<stanza_sent>(stage::late, [this](stanza_sent& ev) {
      if (ev.what.what->kind() == xmpp::stanza_kind::presence && ev.what.what->type() == xmpp::stanza_type::available)
        correct(ev);
      return verdict::pass();
    });
  }

private:
  photo& of(account_view& a) const { return a.state_of<photo>(this); }

  void correct(stanza_sent& ev) const {
    auto& presence = ev.what.what;
    auto& sha1 = of(ev.account).sha1;
    if (sha1)
      presence = xmpp::im::with_photo(presence, *sha1);
    else if (!xmpp::im::photo_claimed(*presence).value_or("").empty())
      presence = xmpp::im::with_photo(presence, {});
  }

  /// Who has none gets an empty one: clients fill it in (section 3.1). To others it is as if there were no such account
  /// (section 3.3).
  static iq_reply on_get(iq_request& r) {
    if (r.payload.name() != "vCard")
      return iq_reply::error(stanza_errc::bad_request);
    auto read = [&account = *r.account, is_own = r.is_own(), then = r.later()](effects& out, std::function<void(effects&)> after) {
      out.load(storage::only(tables::vcard_key(*account.bare())), 1, [is_own, then, after = std::move(after)](rows found, effects& o) {
        if (found && found->empty() && is_own) {
          then("<vCard xmlns='vcard-temp'/>");
        } else if (found && found->empty()) {
          then(base::fail(xmpp::stanza_error{stanza_errc::service_unavailable}));
        } else {
          auto xml = found ? tables::decode_vcard(found->front()) : base::fail(found.error());
          then(xml ? base::result<std::string, xmpp::stanza_error>{*xml} : base::fail(error_of(xml.error())));
        }
        after(o);
      });
    };
    if (!r.is_own()) {
      read(*r.out, [](effects&) {});
      return iq_reply::later();
    }
    bool is_taken = r.account->enqueue([read, &account = *r.account](effects& out) { // behind what the owner has just set
      read(out, [&account](effects& o) { account.finish(o); });
    }, *r.out);
    return is_taken ? iq_reply::later() : iq_reply::error(error_of(storage::errc::overloaded));
  }

  iq_reply on_set(std::size_t largest, iq_request& r) {
    if (!r.is_own())
      return iq_reply::error(stanza_errc::forbidden);
    if (r.payload.name() != "vCard")
      return iq_reply::error(stanza_errc::bad_request);
    auto xml = to_stored(r.payload);
    if (!xml || xml->size() > largest)
      return iq_reply::error({stanza_errc::not_acceptable, error_type::modify, "the vCard is too large"});
    storage::batch b;
    auto key = tables::vcard_key(*r.account->bare());
    if (r.payload.is_empty())
      b.changes.emplace_back(storage::erase{std::move(key)});
    else
      b.changes.emplace_back(storage::put{std::move(key), tables::encode_vcard(*xml)});
    bool is_taken = r.account->enqueue([this, &account = *r.account, b = std::move(b), sha1 = xmpp::im::photo_hash(r.payload), then = r.later()](effects& out) mutable {
      auto& kept = of(account).sha1;
      bool is_new = kept ? *kept != sha1 : !sha1.empty();
      if (is_new)
        b.changes.emplace_back(storage::put{tables::vcard_photo_key(*account.bare()), tables::encode_vcard_photo(sha1)});
      out.commit(std::move(b), [this, &account, sha1, is_new, then](storage::outcome how, effects& o) {
        then(how == storage::outcome::done ? base::result<std::string, xmpp::stanza_error>{std::string{}} : base::fail(error_of(how)));
        if (how == storage::outcome::done && is_new)
          become(account, sha1, o);
        account.finish(o);
      });
    }, *r.out, r.what->cost() + account_view::least_operation);
    return is_taken ? iq_reply::later() : iq_reply::error(error_of(storage::errc::overloaded));
  }

  /// Everybody who sees the account learns of the new photo.
  void become(account_view& account, const std::string& sha1, effects& out) {
    of(account).sha1 = sha1;
    std::vector<session_view> now{account.sessions().begin(), account.sessions().end()}; // what they say changes the list
    for (auto& s : now)
      if (s.is_available)
        account.say(s.id, xmpp::im::with_photo(s.presence, sha1), out);
  }
};
} // namespace

std::unique_ptr<module> make_vcard() { return std::make_unique<vcard>(); }

} // namespace modules
