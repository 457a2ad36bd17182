// A whole login from any bytes: what a client may send is cut at '\n', the answers of credentials and session are drawn from
// the first byte. Nobody is logged in, bound or given a token without an answer that says so, and all XML that goes out is
// well-formed.
#include "base/bytes.hpp"
#include "xmpp/sasl/scram_keys.hpp"
#include "xmpp/stream/negotiation.hpp"
#include <cstdlib>

using namespace xmpp;
using namespace xmpp::stream;

namespace {
void require(bool holds) {
  if (!holds)
    std::abort();
}

/// What the machine asks is answered by what `options` say; what it must not do is looked for.
class client {
public:
  explicit client(std::uint8_t options) : options_(options), random_(7), machine_(config()) {
    stream_open open;
    open.to = "example.org";
    open.version = "1.0";
    open.content_ns = "jabber:client";
    says(on::opened{std::move(open)});
  }
  void says(event e) {
    for (auto& c : machine_.step(std::move(e)))
      std::visit([this](auto& x) { carry(x); }, c);
  }
  void answer() {
    while (!asked_.empty()) {
      auto next = std::move(asked_);
      asked_.clear();
      for (auto& e : next)
        says(std::move(e));
    }
  }

private:
  [[nodiscard]] bool is_right() const { return options_ & 1; }
  settings config() {
    host_.domain = "example.org";
    host_.fake_secret = "secret";
    host_.fake_iterations = 10;
    host_.stream_management = host_.carbons = host_.client_state = host_.tokens = true;
    host_.mechanisms.push_back(sasl::mechanism_kind::anonymous);
    host_.upgrades = {base::crypto::hash::sha256, base::crypto::hash::sha512};
    settings s;
    s.find_host = [this](std::string_view) { return &host_; };
    s.tls = tls_facts{"TLSv1.3", {std::string(32, 'e'), std::string(32, 'p')}, {}};
    if (options_ & 2)
      s.tls->client_addresses = {"alice@example.org"};
    s.random = &random_;
    return s;
  }
  template <class Event, class Good>
  void ask(Good good) {
    require(!machine_.is_authenticated());
    if (is_right())
      asked_.emplace_back(Event{std::move(good)});
    else
      asked_.emplace_back(Event{base::fail(sasl::credentials_errc::no_such_user)});
    is_known_ |= is_right();
  }
  void carry(todo::send& c) {
    framer f;
    std::string_view rest = c.xml;
    if (rest.starts_with("<?xml")) {
      require(f.run(rest) == framer_event::header);
      rest.remove_prefix(f.position());
    }
    f.enter_stream(nullptr);
    while (!rest.empty()) {
      auto e = f.run(rest);
      require(e == framer_event::element || e == framer_event::end);
      if (e == framer_event::end)
        break;
      rest.remove_prefix(f.position());
      f.next();
    }
  }
  void carry(todo::find_keys&) {
    auto keys = sasl::fake_keys(base::crypto::hash::sha1, "another", "x", 10); // nobody knows the password
    require(!machine_.is_authenticated());
    asked_.emplace_back(on::keys{sasl::known_keys{std::move(keys), {1, 1}}});
  }
  void carry(todo::check_password&) { ask<on::password_checked>(sasl::account_facts{1, 1}); }
  void carry(todo::find_account&) {
    require(options_ & 2);
    ask<on::password_checked>(sasl::account_facts{1, 1});
  }
  void carry(todo::find_tokens&) { // nobody knows this token
    require(!machine_.is_authenticated());
    sasl::token t;
    t.secret = "a token that no input proves";
    asked_.emplace_back(on::tokens{sasl::client_tokens{t, {}}});
  }
  void carry(todo::start_compression&) { require(false); } // not offered
  void carry(todo::add_keys&) { require(false); } // only after SCRAM, whose password nobody knows
  void carry(todo::change_tokens& c) {
    require(is_known_ && c.what.used.empty() && c.what.issue && !c.what.client.empty());
    asked_.emplace_back(on::tokens_changed{sasl::issued_token{"t", "2026-01-01T00:00:00Z"}});
  }
  void carry(todo::authenticated& c) {
    require(is_known_ || c.mechanism == "ANONYMOUS");
    require(c.account->is_bare() && c.account->domain() == "example.org" && !c.account->is_domain());
  }
  void carry(todo::bind& c) {
    require(machine_.account() && same_bare(*c.wanted, *machine_.account()) && !c.wanted->is_bare());
    if (options_ & 4)
      asked_.emplace_back(on::bound{c.wanted, "<enabled xmlns='urn:xmpp:sm:3'/>"});
    else
      asked_.emplace_back(on::bind_refused{stanza_errc::conflict});
  }
  void carry(todo::resume& c) {
    require(machine_.account() && same_bare(*c.account, *machine_.account()));
    if (options_ & 8)
      asked_.emplace_back(on::resumed{*with_resource(*c.account, "r"), 1});
    else
      asked_.emplace_back(on::resume_refused{stanza_errc::item_not_found, {}});
  }
  void carry(todo::stanza&) { require(machine_.is_bound()); }
  void carry(todo::start_tls&) { require(false); }
  void carry(todo::restart_framer&) {}
  void carry(todo::login_failed&) {}
  void carry(todo::request_before_login&) { require(false); }
  void carry(todo::close&) {}

  std::uint8_t options_;
  base::seeded_random random_;
  host_settings host_;
  bool is_known_ = false;
  std::vector<event> asked_;
  negotiation machine_;
};
} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1)
    return 0;
  client c{data[0]};
  std::string_view in{reinterpret_cast<const char*>(data) + 1, size - 1};
  for (int i = 0; i < 64 && !in.empty(); ++i) {
    auto end = in.find('\n');
    auto xml = in.substr(0, end);
    in.remove_prefix(end == in.npos ? in.size() : end + 1);
    framer f;
    f.set_limits(framer_limits::before_login());
    f.enter_stream(nullptr);
    if (f.run(xml) != framer_event::element)
      continue;
    c.says(on::element{stanza::make(f.result(), xml)});
    if (!(data[0] & 16) || i % 2) // else the answer comes after the next element
      c.answer();
  }
  c.answer();
  return 0;
}
