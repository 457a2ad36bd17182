// IQ handlers: who owns a payload's namespace, and how it is answered, now or later.
#pragma once
#include "modules/api/account.hpp"
#include "xmpp/element.hpp"
#include "xmpp/errors.hpp"
#include <functional>
#include <optional>
#include <string>
#include <variant>

namespace modules {

/// Whose address the request names. host: the domain itself. account: a bare JID of the host.
enum class at : std::uint8_t { host, account };

/// Answers a request that was not answered at once. Copyable, any thread, once; the first answer
/// counts. Dropped unanswered, the sender gets internal-server-error.
using responder = std::function<void(base::result<std::string, xmpp::stanza_error>)>;

/// The payload of a result, an error, or "later".
class iq_reply {
public:
  static iq_reply empty() { return iq_reply{std::string{}}; }
  static iq_reply payload(std::string xml) { return iq_reply{std::move(xml)}; }
  static iq_reply error(xmpp::stanza_error e) { return iq_reply{std::move(e)}; }
  /// The handler keeps iq_request::later() and calls it.
  static iq_reply later() { return iq_reply{std::monostate{}}; }
  using value = std::variant<std::monostate, std::string, xmpp::stanza_error>;
  [[nodiscard]] const value& get() const { return value_; }

private:
  explicit iq_reply(value v) : value_(std::move(v)) {}
  value value_;
};

struct iq_request {
  const xmpp::stanza_ref& what; // `from` is true: the session or the server stamped it
  xmpp::element payload;        // the one child, decoded
  const host_view& host;
  bool is_set = false;
  account_view* account = nullptr; // at::account
  effects* out = nullptr;          // at::account
  std::function<responder()> later; // makes the answering function
  /// From the account itself (any of its resources).
  [[nodiscard]] bool is_own() const { return what->to && same_bare(*what->from, *what->to); }
};

using iq_handler = std::function<iq_reply(iq_request&)>;

} // namespace modules
