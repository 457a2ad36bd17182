// XEP-0049 Private XML Storage 1.2: elements that a user's clients keep for themselves, by namespace and name.
#include "modules/all.hpp"
#include "modules/stored_xml.hpp"
#include "storage/tables.hpp"
#include <optional>
#include <set>

namespace modules {

namespace {
namespace tables = storage::tables;
using xmpp::error_type;
using xmpp::stanza_errc;
constexpr auto ns = "jabber:iq:private";
constexpr std::int64_t most_elements = 10'000; // of the setting, so that what is kept is always counted whole

/// Kept with the account while it is in memory.
struct shelf {
  std::optional<std::set<std::string>> keys; // of the rows that there are; read before the first change
};

class private_xml final : public module {
public:
  std::string_view name() const override { return "private"; }
  std::vector<setting_key> keys() const override {
    using enum setting_type;
    return {{"most", number, "100", "Elements that are kept for one account.", 1, most_elements},
            {"largest", size, "64 kB", "The largest of them."}};
  }

  void start(registrar& reg) override {
    auto own = limits{static_cast<std::size_t>(reg.settings().number("most")), static_cast<std::size_t>(reg.settings().number("largest"))};
    reg.feature(ns, at::account);
    reg.feature(ns);
    reg.iq_get(at::account, ns, [](iq_request& r) { return on_get(r); });
    reg.iq_set(at::account, ns, [this, own](iq_request& r) { return on_set(own, r); });
  }

private:
  struct limits { std::size_t most, largest; };

  static iq_reply bad_request(const char* why) { return iq_reply::error({stanza_errc::bad_request, error_type::modify, why}); }
  static iq_reply not_acceptable(const char* why) { return iq_reply::error({stanza_errc::not_acceptable, error_type::modify, why}); }
  static std::string query(std::string_view inside) {
    xmpp::writer w;
    return w.open("query", ns).raw(inside).close().take();
  }

  /// In the order of the requests: a get that follows a set sees it.
  static iq_reply on_get(iq_request& r) {
    if (!r.is_own())
      return iq_reply::error(stanza_errc::forbidden);
    auto wanted = r.payload.first_child();
    if (r.payload.name() != "query" || !wanted || wanted.next_sibling())
      return bad_request("one element says what is wanted");
    auto key = tables::private_xml_key(*r.account->bare(), wanted.ns(), wanted.name());
    xmpp::writer w;
    auto nothing = w.open(wanted.name(), wanted.ns()).close().take();
    bool is_taken = r.account->enqueue([&account = *r.account, key, nothing, then = r.later()](effects& out) {
      out.load(storage::only(key), 1, [&account, nothing, then](rows found, effects& o) {
        auto xml = !found ? base::result<std::string, storage::errc>{base::fail(found.error())}
                   : found->empty() ? nothing : tables::decode_private_xml(found->front());
        then(xml ? base::result<std::string, xmpp::stanza_error>{query(*xml)} : base::fail(error_of(xml.error())));
        account.finish(o);
      });
    }, *r.out);
    return is_taken ? iq_reply::later() : iq_reply::error(error_of(storage::errc::overloaded));
  }

  /// An element with nothing in it takes its row away: that is what a get answers where there is none.
  iq_reply on_set(limits own, iq_request& r) {
    if (!r.is_own())
      return iq_reply::error(stanza_errc::forbidden);
    if (r.payload.name() != "query")
      return bad_request("a query is expected");
    std::map<std::string, std::string> wanted; // key, XML or nothing
    for (auto c = r.payload.first_child(); c; c = c.next_sibling()) {
      if (c.ns().empty() || c.ns() == ns)
        return not_acceptable("each element needs a namespace of its own");
      auto xml = to_stored(c);
      if (!xml || xml->size() > own.largest)
        return not_acceptable("an element is too large");
      xmpp::writer w;
      bool is_nothing = *xml == w.open(c.name(), c.ns()).close().take();
      wanted[tables::private_xml_key(*r.account->bare(), c.ns(), c.name())] = is_nothing ? std::string{} : std::move(*xml);
    }
    if (wanted.empty())
      return not_acceptable("there is nothing to keep");
    bool is_taken = r.account->enqueue([this, own, &account = *r.account, wanted = std::move(wanted), then = r.later()](effects& out) {
      with_keys(account, out, [this, own, &account, wanted, then](base::result<void, storage::errc> is_counted, effects& o) {
        if (!is_counted) {
          then(base::fail(error_of(is_counted.error())));
          return account.finish(o);
        }
        change(own, account, wanted, then, o);
      });
    }, *r.out, r.what->cost() + account_view::least_operation);
    return is_taken ? iq_reply::later() : iq_reply::error(error_of(storage::errc::overloaded));
  }

  shelf& of(account_view& a) const { return a.state_of<shelf>(this); }

  void with_keys(account_view& account, effects& out, std::function<void(base::result<void, storage::errc>, effects&)> then) {
    if (of(account).keys)
      return then({}, out);
    out.load(tables::private_xml_of(*account.bare()), most_elements, [this, &account, then](rows found, effects& o) {
      if (!found)
        return then(base::fail(found.error()), o);
      auto& keys = of(account).keys.emplace();
      for (auto& row : *found)
        keys.insert(row.key);
      then({}, o);
    });
  }

  void change(limits own, account_view& account, const std::map<std::string, std::string>& wanted, responder then, effects& out) {
    auto after = *of(account).keys;
    storage::batch b;
    for (auto& [key, xml] : wanted) {
      if (xml.empty()) {
        after.erase(key);
        b.changes.emplace_back(storage::erase{key});
      } else {
        after.insert(key);
        b.changes.emplace_back(storage::put{key, tables::encode_private_xml(xml)});
      }
    }
    if (after.size() > own.most && after.size() > of(account).keys->size()) {
      then(base::fail(xmpp::stanza_error{stanza_errc::resource_constraint, error_type::cancel, "too many elements are kept"}));
      return account.finish(out);
    }
    out.commit(std::move(b), [this, &account, after = std::move(after), then](storage::outcome how, effects& o) {
      if (how == storage::outcome::done)
        of(account).keys = after;
      then(how == storage::outcome::done ? base::result<std::string, xmpp::stanza_error>{std::string{}} : base::fail(error_of(how)));
      account.finish(o);
    });
  }
};
} // namespace

std::unique_ptr<module> make_private_xml() { return std::make_unique<private_xml>(); }

} // namespace modules
