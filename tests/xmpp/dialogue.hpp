// Dialogues with the negotiation machine: the client's side, and what its tests expect to read.
#pragma once
#include "base/bytes.hpp"
#include "xmpp/element.hpp"
#include "xmpp/sasl/scram_keys.hpp"
#include "xmpp/stream/negotiation.hpp"
#include <doctest/doctest.h>
#include <ostream>

using namespace xmpp::stream;
using base::crypto::hash;
using xmpp::sasl::credentials_errc;

inline constexpr std::string_view sasl_ns = "urn:ietf:params:xml:ns:xmpp-sasl";
inline const std::string header = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' "
                           "to='example.org' version='1.0'>";
inline const xmpp::stream::tls_facts tls13{"TLSv1.3", {std::string(32, 'e'), std::string(32, 'p')}};

inline host_settings example_org() {
  host_settings h;
  h.domain = "example.org";
  h.fake_secret = "secret";
  h.fake_iterations = 4'096;
  return h;
}

inline std::string replaced(std::string s, const std::string& a, const std::string& b) {
  for (auto at = s.find(a); at != std::string::npos; at = s.find(a, at + b.size()))
    s.replace(at, a.size(), b);
  return s;
}

/// Random numbers (18 and more hexadecimal digits) become N.
inline std::string masked(const std::string& s) {
  std::string out;
  for (std::size_t i = 0; i < s.size();) {
    auto end = s.find_first_not_of("0123456789abcdef", i);
    end = end == std::string::npos ? s.size() : end;
    out += end - i >= 18 ? "N" : s.substr(i, end - i);
    if (end < s.size())
      out += s[end];
    i = end + 1;
  }
  return out;
}

/// What stands between the two, or "" where they are not found.
inline std::string between(const std::string& s, const std::string& before, const std::string& behind) {
  auto at = s.find(before);
  if (at == std::string::npos)
    return {};
  at += before.size();
  return s.substr(at, s.find(behind, at) - at);
}

/// One client and its machine. `says` frames what the client sends, as the connection would, and returns the commands
/// as text: [H] is a header of example.org without `to`, random numbers are N.
class dialogue {
public:
  explicit dialogue(host_settings h = example_org(), std::optional<tls_facts> tls = {}) : host(std::move(h)), rules(config(std::move(tls))) {}

  host_settings host;
  base::seeded_random random{7};
  negotiation rules;
  int lookups = 0;
  bool has_memory = true; // for compression
  std::string last_sent; // not normalised
  xmpp::sasl::scram_keys added;
  std::string bound_to; // with the resource's own numbers

  std::string says(const std::string& xml) {
    xmpp::framer f;
    if (xml.find("<stream:stream") != std::string::npos) {
      auto e = f.run(xml);
      if (e == xmpp::framer_event::error)
        return step(on::unreadable{f.error()});
      REQUIRE(e == xmpp::framer_event::header);
      return step(on::opened{f.header(xml)});
    }
    if (xml == closing_tag)
      return step(on::ended{});
    f.enter_stream(nullptr);
    auto e = f.run(xml);
    if (e == xmpp::framer_event::error)
      return step(on::unreadable{f.error()});
    REQUIRE(e == xmpp::framer_event::element);
    return step(on::element{xmpp::stanza::make(f.result(), xml)});
  }
  std::string auth(std::string_view mechanism, std::string_view message) {
    return says("<auth xmlns='" + std::string{sasl_ns} + "' mechanism='" + std::string{mechanism} + "'>"
                + base::to_base64(message) + "</auth>");
  }
  std::string response(std::string_view message) {
    return says("<response xmlns='" + std::string{sasl_ns} + "'>" + base::to_base64(message) + "</response>");
  }
  std::string step(event e) {
    std::string out;
    for (auto& c : rules.step(std::move(e))) {
      if (!out.empty())
        out += " | ";
      std::visit([&](auto& x) { out += text(x); }, c);
    }
    return out;
  }

private:
  settings config(std::optional<tls_facts> tls) {
    settings s;
    s.find_host = [this](std::string_view domain) {
      ++lookups;
      return domain == "example.org" ? &host : nullptr;
    };
    s.default_domain = "default.example";
    s.tls = std::move(tls);
    s.random = &random;
    s.prepare_compression = [this] { return has_memory; };
    return s;
  }
  std::string text(todo::send& s) {
    last_sent = s.xml;
    return replaced(masked(s.xml), header_xml("example.org", {}, "N"), "[H]");
  }
  static std::string text(todo::start_tls&) { return "start_tls"; }
  static std::string text(todo::start_compression&) { return "start_compression"; }
  static std::string text(todo::find_keys& f) { return "find_keys " + f.local + name(f.h); }
  static std::string text(todo::find_account& f) { return "find_account " + f.local; }
  std::string text(todo::add_keys& a) {
    added = a.keys;
    return "add_keys " + a.local + name(a.h) + " to version " + std::to_string(a.version);
  }
  static std::string text(todo::find_tokens& f) { return "find_tokens " + f.local + " of " + f.client; }
  static std::string text(todo::change_tokens& c) {
    auto& w = c.what;
    return "change_tokens " + w.local + " of " + w.client + (w.used.empty() ? " version " + std::to_string(w.account_version) : " used " + w.used)
           + (w.count ? " count " + std::to_string(*w.count) : "") + (w.invalidate ? " invalidate" : "")
           + (w.issue ? " issue " + std::string{xmpp::sasl::name_of(*w.issue)} : "");
  }
  static std::string name(hash h) { return h == hash::sha1 ? " sha1" : h == hash::sha256 ? " sha256" : " sha512"; }
  static std::string text(todo::check_password& c) { return "check " + c.local + " " + c.password; }
  static std::string text(todo::restart_framer&) { return "restart"; }
  static std::string text(todo::authenticated& a) { return "authenticated " + masked(std::string{a.account->full()}) + " " + std::string{a.mechanism}; }
  static std::string text(todo::login_failed& f) { return "login_failed " + f.local + ": " + std::string{f.cause}; }
  std::string text(todo::bind& b) {
    bound_to = b.wanted->full();
    auto& x = b.extras;
    return "bind " + masked(std::string{b.wanted->full()})
           + (x.enable_management ? " managed" + std::string{x.enable_management->resume ? " resumable " : " "} + std::to_string(x.enable_management->max_s) : "")
           + (x.carbons ? " carbons" : "") + (x.inactive ? " inactive" : "");
  }
  static std::string text(todo::resume& r) { return "resume " + r.previd + " " + std::to_string(r.h) + " of " + std::string{r.account->full()}; }
  static std::string text(todo::request_before_login& r) { return "request " + r.ns + " " + std::string{r.what->id()}; }
  static std::string text(todo::stanza& s) { return "stanza " + std::string{s.what->bytes()}; }
  static std::string text(todo::close& c) { return c.why ? "close " + std::string{name_of(*c.why)} : "close"; }
};

inline std::string failure(std::string_view condition) {
  return "<failure xmlns='" + std::string{sasl_ns} + "'><" + std::string{condition} + "/></failure>";
}
inline std::string stream_error(std::string_view condition, std::string_view text = {}) {
  std::string out = "<stream:error><" + std::string{condition} + " xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>";
  if (!text.empty())
    out += "<text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>" + replaced(std::string{text}, "'", "&apos;") + "</text>";
  return out + "</stream:error></stream:stream> | close " + std::string{condition};
}

inline const std::string tls_only = "[H]<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>";
inline const std::string mechanisms = "<mechanism>SCRAM-SHA-512-PLUS</mechanism><mechanism>SCRAM-SHA-256-PLUS</mechanism><mechanism>SCRAM-SHA-1-PLUS</mechanism>"
                             "<mechanism>SCRAM-SHA-512</mechanism><mechanism>SCRAM-SHA-256</mechanism><mechanism>SCRAM-SHA-1</mechanism><mechanism>PLAIN</mechanism>";
inline const std::string over_tls = "[H]<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>" + mechanisms + "</mechanisms>"
                             "<authentication xmlns='urn:xmpp:sasl:2'>" + mechanisms + "<inline><bind xmlns='urn:xmpp:bind:0'><inline/></bind></inline></authentication>"
                             "<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-exporter'/>"
                             "<channel-binding type='tls-server-end-point'/></sasl-channel-binding>"
                             "<config-version xmlns='urn:xmpp:iap:0' scheme='opaque' value='N'/></stream:features>";
inline const std::string bindable = "[H]<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>"
                             "<session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session></stream:features>";
inline const std::string starttls = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
inline const std::string proceed = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
inline const std::string tls_failure = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream> | close";
inline const std::string bind_phone = "<iq type='set' id='b1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>phone</resource></bind></iq>";
inline const std::string success = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";

/// Over direct TLS, logged in by PLAIN, features of the third header out.
struct logged_in : dialogue {
  explicit logged_in(host_settings h = example_org()) : dialogue(std::move(h), tls13) {
    says(header);
    auth("PLAIN", std::string{"\0alice\0pw", 9});
    REQUIRE(step(on::password_checked{}) == success + " | authenticated alice@example.org PLAIN | restart");
    REQUIRE(says(header).find("<bind") != std::string::npos);
  }
};
struct bound : logged_in {
  bound() {
    REQUIRE(says(bind_phone) == "bind alice@example.org/phone");
    step(on::bound{*xmpp::parse_jid("alice@example.org/phone")});
    REQUIRE(rules.is_bound());
  }
};

