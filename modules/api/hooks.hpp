// Typed hooks. A filter may change or stop and fails closed; an observer watches and fails open.
#pragma once
#include "base/log.hpp"
#include "xmpp/errors.hpp"
#include <algorithm>
#include <exception>
#include <functional>
#include <optional>
#include <vector>

namespace modules {

/// When a hook runs among the others of its event.
enum class stage : std::uint8_t { access, privacy, archive, copies, delivery, late };

/// What a filter says.
class verdict {
public:
  enum class kind : std::uint8_t { pass, drop, taken, refuse };
  static verdict pass() { return verdict{kind::pass}; }
  /// Nobody gets it and nobody is told.
  static verdict drop() { return verdict{kind::drop}; }
  /// The handler has made it its own: stored, answered, or will.
  static verdict taken() { return verdict{kind::taken}; }
  /// The sender gets this error.
  static verdict refuse(xmpp::stanza_error e) {
    verdict v{kind::refuse};
    v.error_ = std::move(e);
    return v;
  }
  [[nodiscard]] verdict::kind what() const { return kind_; }
  [[nodiscard]] bool passes() const { return kind_ == kind::pass; }
  [[nodiscard]] const xmpp::stanza_error& error() const { return *error_; }

private:
  explicit verdict(kind k) : kind_(k) {}
  kind kind_;
  std::optional<xmpp::stanza_error> error_;
};

/// All handlers of one event on one host, in stage order. Frozen before the first call.
template <class Event>
class hook {
public:
  using filter = std::function<verdict(Event&)>;
  using observer = std::function<void(Event&)>;

  void add(stage s, std::string module, filter f) { add({s, std::move(module), std::move(f), {}}); }
  void add_observer(stage s, std::string module, observer f) { add({s, std::move(module), {}, std::move(f)}); }

  /// The first filter that does not pass decides; observers before it have seen the event.
  [[nodiscard]] verdict run(Event& ev) const {
    for (auto& h : handlers_)
      if (auto v = call(h, ev); !v.passes())
        return v;
    return verdict::pass();
  }
  [[nodiscard]] bool empty() const { return handlers_.empty(); }

private:
  struct handler { stage when; std::string module; filter decide; observer watch; };

  void add(handler h) {
    auto at = std::upper_bound(handlers_.begin(), handlers_.end(), h,
                               [](auto& a, auto& b) { return a.when < b.when; });
    handlers_.insert(at, std::move(h));
  }
  static verdict call(const handler& h, Event& ev) {
    try {
      if (h.decide)
        return h.decide(ev);
      h.watch(ev);
    } catch (const std::exception& e) {
      base::log::error("module.failed", "a hook threw", {{"module", h.module}, {"what", e.what()}});
      if (h.decide) // what could not be judged does not pass
        return verdict::refuse(xmpp::stanza_errc::internal_server_error);
    }
    return verdict::pass();
  }
  std::vector<handler> handlers_;
};

} // namespace modules
