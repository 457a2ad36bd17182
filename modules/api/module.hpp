// A module lists its registrations; the host undoes them. docs/modules.md shows how to write one.
#pragma once
#include "modules/api/entity.hpp"
#include "modules/api/events.hpp"
#include "modules/api/hooks.hpp"
#include "modules/api/iq.hpp"
#include "modules/api/services.hpp"
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace modules {

/// `<identity category='' type='' name=''/>` (XEP-0030 section 3.1).
struct identity { std::string category, type, name; };
/// A form in the answer of the host (XEP-0128): `form_type` names the fields.
struct disco_form {
  struct field { std::string var; std::vector<std::string> values; };
  std::string form_type;
  std::vector<field> fields;
};
struct disco_item { std::string jid, node, name; };

/// Rows of an account that handlers need at once: read when it starts, before anything is handled for it. While they
/// cannot be read nothing is. `take` runs before the first session is there.
struct preload {
  std::function<storage::key_range(const xmpp::jid& bare)> range;
  std::uint32_t limit = 1;
  std::function<void(account_view&, const std::vector<storage::row>&, effects&)> take;
};

using make_entity = std::function<std::unique_ptr<entity_machine>()>;
/// Before login only: an IQ from a stream that has no account yet. Answers through the responder; until then the stream
/// is not read.
using stranger_handler = std::function<void(const xmpp::stanza_ref& what, xmpp::element payload,
                                            const host_view& host, const stranger& who, responder)>;
/// What an operator gives to somebody who shall come.
struct invitation {
  std::string uri, landing; // xmpp: and, where a page is configured, https:
  base::wall_time expires;
};
/// For an account (that there is or not) or for anybody (`whom`: the host itself). Any thread; text for the operator.
using on_invitation = std::function<void(base::result<invitation, std::string>)>;
using inviter = std::function<void(const xmpp::jid_ref& whom, on_invitation)>;

/// Everything that the enabled modules of one host registered. Built once, then frozen and shared;
/// a change of modules builds a new one and swaps it whole.
struct host_view {
  xmpp::jid_ref domain;
  std::vector<std::string> admins; // bare JIDs
  hook<stanza_entered> entered;
  hook<stanza_sent> sent;
  hook<stanza_received> received;
  hook<subscription_asked> asked;
  hook<message_undelivered> undelivered;
  hook<message_unacknowledged> unacknowledged;
  hook<message_settled> settled;
  hook<message_delivered> delivered;
  hook<message_sent> shown;
  hook<session_ready> ready;
  hook<session_expects> expects;
  hook<session_ended> ended;
  hook<account_removed> removed;
  hook<account_wanted> wanted;
  std::vector<modules::preload> preloads;
  bool needs_roster = false; // account_view::knows() and may_see_presence() are right from the first event on

  using handler_key = std::pair<std::string, bool>; // namespace, is_set
  std::map<handler_key, iq_handler, std::less<>> host_iqs, account_iqs;
  std::map<std::string, stranger_handler, std::less<>> stranger_iqs; // by namespace
  std::map<std::string, make_entity, std::less<>> entities;          // by local part, "" for the domain
  std::vector<std::string> host_features, account_features;
  std::vector<identity> identities;
  std::vector<disco_form> forms; // of the host
  std::vector<disco_item> items;
  inviter invite; // may be empty
  std::string stream_features; // XML, offered after login
  std::string login_features;  // XML, offered before login
  std::string caps;            // node#ver of the entity capabilities, or empty
};

/// What a module's start() gets for one host.
class registrar {
public:
  registrar(host_view& host, std::string name, const settings& s, const services& around)
    : host_(host), name_(std::move(name)), settings_(s), services_(around) {}

  [[nodiscard]] const host_view& host() const { return host_; }
  [[nodiscard]] const modules::settings& settings() const { return settings_; }
  [[nodiscard]] const services& around() const { return services_; }

  /// Advertised by disco of the host (and of its accounts: XEP-0030 section 3.1).
  void feature(std::string ns, at where = at::host) {
    (where == at::host ? host_.host_features : host_.account_features).push_back(std::move(ns));
  }
  void identity(modules::identity i) { host_.identities.push_back(std::move(i)); }
  void item(disco_item i) { host_.items.push_back(std::move(i)); }
  void form(disco_form f) { host_.forms.push_back(std::move(f)); }
  /// XML that the stream features carry after login, or before it.
  void stream_feature(std::string xml) { host_.stream_features += xml; }
  void login_feature(std::string xml) { host_.login_features += xml; }

  /// Who owns the requests whose payload is in `ns`. One owner each.
  void iq_get(at where, std::string ns, iq_handler f) { add_iq(where, std::move(ns), false, std::move(f)); }
  void iq_set(at where, std::string ns, iq_handler f) { add_iq(where, std::move(ns), true, std::move(f)); }
  void stranger_iq(std::string ns, stranger_handler f) { host_.stranger_iqs[std::move(ns)] = std::move(f); }

  template <class Event>
  void filter(stage s, typename hook<Event>::filter f) { table<Event>().add(s, name_, std::move(f)); }
  template <class Event>
  void observe(stage s, typename hook<Event>::observer f) { table<Event>().add_observer(s, name_, std::move(f)); }

  void preload(modules::preload p) { host_.preloads.push_back(std::move(p)); }
  void needs_roster() { host_.needs_roster = true; }
  void invitations(inviter f) { host_.invite = std::move(f); }

  /// The node under which disco answers for these capabilities, too (XEP-0115 section 6.2).
  void announce_caps(std::string node_and_ver) { host_.caps = std::move(node_and_ver); }

  /// An entity of its own behind `local`@host, which no account may have then.
  void entity(std::string local, make_entity f) { host_.entities[std::move(local)] = std::move(f); }

private:
  void add_iq(at where, std::string ns, bool is_set, iq_handler f) {
    (where == at::host ? host_.host_iqs : host_.account_iqs)[{std::move(ns), is_set}] = std::move(f);
  }
  template <class Event>
  hook<Event>& table() {
    if constexpr (std::is_same_v<Event, stanza_entered>) return host_.entered;
    else if constexpr (std::is_same_v<Event, stanza_sent>) return host_.sent;
    else if constexpr (std::is_same_v<Event, stanza_received>) return host_.received;
    else if constexpr (std::is_same_v<Event, subscription_asked>) return host_.asked;
    else if constexpr (std::is_same_v<Event, message_undelivered>) return host_.undelivered;
    else if constexpr (std::is_same_v<Event, message_unacknowledged>) return host_.unacknowledged;
    else if constexpr (std::is_same_v<Event, message_settled>) return host_.settled;
    else if constexpr (std::is_same_v<Event, message_delivered>) return host_.delivered;
    else if constexpr (std::is_same_v<Event, message_sent>) return host_.shown;
    else if constexpr (std::is_same_v<Event, session_ready>) return host_.ready;
    else if constexpr (std::is_same_v<Event, session_expects>) return host_.expects;
    else if constexpr (std::is_same_v<Event, session_ended>) return host_.ended;
    else if constexpr (std::is_same_v<Event, account_wanted>) return host_.wanted;
    else return host_.removed;
  }
  host_view& host_;
  std::string name_;
  const modules::settings& settings_;
  const services& services_;
};

/// A configuration key of a module: `modules.<module>.<name>`.
enum class setting_type : std::uint8_t { flag, number, duration, size, text, list };
struct setting_key {
  std::string name;
  setting_type type;
  std::string default_value; // as written in the file: "true", "100", "30s", "256 kB", "[]"
  std::string doc;           // one line
  std::int64_t least = 0, most = INT64_MAX; // numbers, durations (ms), sizes (bytes)
  std::vector<std::string> allowed = {};    // texts: only these; empty: any
  /// Lists: whether an entry may stand there; what may, for people ("networks like …"); one that does. Null: any.
  bool (*accepts)(const std::string&) = nullptr;
  std::string shape = {}, example = {};
};

class module {
public:
  virtual ~module() = default;
  [[nodiscard]] virtual std::string_view name() const = 0;
  [[nodiscard]] virtual std::vector<setting_key> keys() const { return {}; }
  [[nodiscard]] virtual bool is_on_by_default() const { return true; }
  /// Once per host; what it registers may refer to this module, which outlives the host's table.
  virtual void start(registrar& reg) = 0;
};

/// Every module that this server was built with (modules/all.cpp lists them).
[[nodiscard]] std::vector<std::unique_ptr<module>> all();

} // namespace modules
