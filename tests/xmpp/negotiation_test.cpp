// The negotiation of a client's stream as dialogues: what the client says, what the machine commands.
#include "base/bytes.hpp"
#include "xmpp/element.hpp"
#include "xmpp/sasl/scram_keys.hpp"
#include "xmpp/stream/negotiation.hpp"
#include <doctest/doctest.h>
#include <ostream>

using namespace xmpp::stream;
using base::crypto::hash;
using xmpp::sasl::credentials_errc;

namespace {

constexpr std::string_view sasl_ns = "urn:ietf:params:xml:ns:xmpp-sasl";
const std::string header = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' "
                           "to='example.org' version='1.0'>";
const xmpp::stream::tls_facts tls13{"TLSv1.3", {std::string(32, 'e'), std::string(32, 'p')}};

host_settings example_org() {
  host_settings h;
  h.domain = "example.org";
  h.fake_secret = "secret";
  h.fake_iterations = 4'096;
  return h;
}

std::string replaced(std::string s, const std::string& a, const std::string& b) {
  for (auto at = s.find(a); at != std::string::npos; at = s.find(a, at + b.size()))
    s.replace(at, a.size(), b);
  return s;
}

/// Random numbers (18 and more hexadecimal digits) become N.
std::string masked(const std::string& s) {
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
std::string between(const std::string& s, const std::string& before, const std::string& behind) {
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
  std::string last_sent; // not normalised

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
    return s;
  }
  std::string text(todo::send& s) {
    last_sent = s.xml;
    return replaced(masked(s.xml), header_xml("example.org", {}, "N"), "[H]");
  }
  static std::string text(todo::start_tls&) { return "start_tls"; }
  static std::string text(todo::find_keys& f) { return "find_keys " + f.local + (f.h == hash::sha1 ? " sha1" : " sha256"); }
  static std::string text(todo::check_password& c) { return "check " + c.local + " " + c.password; }
  static std::string text(todo::restart_framer&) { return "restart"; }
  static std::string text(todo::authenticated& a) { return "authenticated " + std::string{a.account->full()} + " " + std::string{a.mechanism}; }
  static std::string text(todo::login_failed& f) { return "login_failed " + f.local + ": " + std::string{f.cause}; }
  static std::string text(todo::bind& b) { return "bind " + masked(std::string{b.wanted->full()}); }
  static std::string text(todo::request_before_login& r) { return "request " + r.ns + " " + std::string{r.what->id()}; }
  static std::string text(todo::stanza& s) { return "stanza " + std::string{s.what->bytes()}; }
  static std::string text(todo::close& c) { return c.why ? "close " + std::string{name_of(*c.why)} : "close"; }
};

std::string failure(std::string_view condition) {
  return "<failure xmlns='" + std::string{sasl_ns} + "'><" + std::string{condition} + "/></failure>";
}
std::string stream_error(std::string_view condition, std::string_view text = {}) {
  std::string out = "<stream:error><" + std::string{condition} + " xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>";
  if (!text.empty())
    out += "<text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>" + replaced(std::string{text}, "'", "&apos;") + "</text>";
  return out + "</stream:error></stream:stream> | close " + std::string{condition};
}

const std::string tls_only = "[H]<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>";
const std::string over_tls = "[H]<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>"
                             "<mechanism>SCRAM-SHA-256-PLUS</mechanism><mechanism>SCRAM-SHA-1-PLUS</mechanism>"
                             "<mechanism>SCRAM-SHA-256</mechanism><mechanism>SCRAM-SHA-1</mechanism><mechanism>PLAIN</mechanism></mechanisms>"
                             "<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-exporter'/>"
                             "<channel-binding type='tls-server-end-point'/></sasl-channel-binding></stream:features>";
const std::string bindable = "[H]<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>"
                             "<session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session></stream:features>";
const std::string starttls = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const std::string proceed = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const std::string tls_failure = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream> | close";
const std::string bind_phone = "<iq type='set' id='b1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>phone</resource></bind></iq>";
const std::string success = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";

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

} // namespace

TEST_CASE("negotiation: STARTTLS, SCRAM with channel binding, bind, stanzas, goodbye") {
  dialogue d;
  CHECK(d.says(header) == tls_only);
  CHECK(d.says(starttls) == proceed + " | restart | start_tls");
  CHECK(d.step(on::tls_established{tls13}) == "");
  CHECK(d.rules.is_encrypted());
  CHECK(d.says(header) == over_tls);

  std::string gs2 = "p=tls-exporter,,", bare = "n=alice,r=clientnonce";
  CHECK(d.auth("SCRAM-SHA-256-PLUS", gs2 + bare) == "find_keys alice sha256");
  auto keys = *xmpp::sasl::make_scram_keys(hash::sha256, "pw", "0123456789abcdef", 4'096);
  d.step(on::keys{keys});
  auto server_first = *base::from_base64(between(d.last_sent, "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>", "</challenge>"));
  auto nonce = server_first.substr(2, server_first.find(',') - 2);
  CHECK(nonce.starts_with("clientnonce"));
  CHECK(nonce.size() >= 11 + 36);

  auto salted = base::crypto::pbkdf2(hash::sha256, "pw", "0123456789abcdef", 4'096);
  auto key = base::crypto::hmac(hash::sha256, salted, "Client Key");
  auto last = "c=" + base::to_base64(gs2 + tls13.bindings.tls_exporter) + ",r=" + nonce;
  auto signature = base::crypto::hmac(hash::sha256, keys.stored_key, bare + "," + server_first + "," + last);
  last += ",p=" + base::to_base64(base::crypto::exclusive_or(key, signature));
  auto server_proof = "v=" + base::to_base64(base::crypto::hmac(hash::sha256, keys.server_key,
                                                                bare + "," + server_first + "," + last.substr(0, last.find(",p="))));
  CHECK(d.response(last) == replaced(success, "/>", ">" + base::to_base64(server_proof) + "</success>")
                              + " | authenticated alice@example.org SCRAM-SHA-256-PLUS | restart");
  CHECK(d.says(header) == bindable);
  CHECK_FALSE(d.rules.is_bound());
  CHECK(d.says(bind_phone) == "bind alice@example.org/phone");
  CHECK(d.step(on::bound{*xmpp::parse_jid("alice@example.org/phone")})
        == "<iq type='result' id='b1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>alice@example.org/phone</jid></bind></iq>");
  CHECK(d.rules.is_bound());
  CHECK(d.says("<message to='bob@example.org'><body>hi</body></message>")
        == "stanza <message to='bob@example.org'><body>hi</body></message>");
  CHECK(d.says("</stream:stream>") == "</stream:stream> | close");
  CHECK(d.says("<presence/>") == "");
  CHECK(d.lookups == 1);
}

TEST_CASE("negotiation: PLAIN over direct TLS") {
  dialogue d{example_org(), tls13};
  CHECK(d.says(header) == over_tls);
  CHECK(d.auth("PLAIN", std::string{"\0alice\0pw", 9}) == "check alice pw");
  CHECK(d.step(on::password_checked{}) == success + " | authenticated alice@example.org PLAIN | restart");
  CHECK(d.rules.account()->full() == "alice@example.org");
  CHECK(d.says(header) == bindable);
}

TEST_CASE("negotiation: direct TLS may also be announced by the event, before the first header") {
  dialogue d;
  CHECK(d.step(on::tls_established{tls13}) == "");
  CHECK(d.says(header) == over_tls);
  CHECK(d.step(on::tls_established{tls13}) == stream_error("internal-server-error"));
}

TEST_CASE("negotiation: no initial response, empty responses, abort") {
  dialogue d{example_org(), tls13};
  d.says(header);
  CHECK(d.says("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>") == "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
  CHECK(d.response(std::string{"\0alice\0pw", 9}) == "check alice pw");
  CHECK(d.step(on::password_checked{base::fail(credentials_errc::wrong_password)})
        == failure("not-authorized") + " | login_failed alice: wrong password");
  CHECK(d.says("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>=</auth>")
        == failure("malformed-request") + " | login_failed : not three parts");

  dialogue e{example_org(), tls13};
  e.says(header);
  e.says("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1'/>");
  CHECK(e.says("<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>") == failure("aborted") + " | login_failed : the client gave up");
  CHECK(e.auth("PLAIN", std::string{"\0alice\0pw", 9}) == "check alice pw");
}

TEST_CASE("negotiation: SASL failures by name") {
  struct row { const char* element; const char* condition; const char* cause; };
  const row rows[] = {
    {"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='ANONYMOUS'/>", "invalid-mechanism", "a mechanism that is not on offer"},
    {"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>", "invalid-mechanism", "a mechanism that is not on offer"},
    {"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>$$$$</auth>", "incorrect-encoding", "not base64"},
    {"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg</auth>", "incorrect-encoding", "not base64"},
    {"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'> AGEAYg== </auth>", "incorrect-encoding", "not base64"},
    {"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>YWI=</auth>", "malformed-request", "not three parts"},
    {"<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>", "malformed-request", "<response/> without <auth/>"},
    {"<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>", "aborted", "the client gave up"},
  };
  for (auto& r : rows) {
    CAPTURE(r.element);
    dialogue d{example_org(), tls13};
    d.says(header);
    CHECK(d.says(r.element) == failure(r.condition) + " | login_failed : " + r.cause);
  }
  dialogue d{example_org(), tls13};
  d.says(header);
  CHECK(d.auth("PLAIN", std::string{"bob@example.org\0alice\0pw", 24}) == failure("invalid-authzid") + " | login_failed alice: foreign authorisation identity");
  CHECK(d.auth("SCRAM-SHA-1", "y,,n=alice,r=x")
        == failure("not-authorized") + " | login_failed : downgrade: the client saw no -PLUS, but it was offered");
}

TEST_CASE("negotiation: the third failed login ends the stream") {
  dialogue d{example_org(), tls13};
  d.says(header);
  for (int i = 1; i <= 3; ++i) {
    d.auth("PLAIN", std::string{"\0alice\0pw", 9});
    auto told = d.step(on::password_checked{base::fail(credentials_errc::wrong_password)});
    auto expected = failure("not-authorized") + " | login_failed alice: wrong password";
    if (i == 3)
      expected += " | " + stream_error("policy-violation", "too many failed logins");
    CHECK(told == expected);
  }
  CHECK(d.auth("PLAIN", std::string{"\0alice\0pw", 9}) == "");
}

TEST_CASE("negotiation: stream headers that are refused get a header first") {
  auto own = [](const std::string& from, const std::string& to = {}) { return header_xml(from, to, "N"); };
  auto with = [](const std::string& a, const std::string& b) { return replaced(header, a, b); };
  struct row { std::string header, answer; };
  const row rows[] = {
    {with(" to='example.org'", ""), own("default.example") + stream_error("improper-addressing", "the stream header has no 'to'")},
    {with("example.org'", "other.example'"), own("default.example") + stream_error("host-unknown")},
    {with("example.org'", "alice@example.org'"), own("default.example") + stream_error("host-unknown")},
    {with("example.org'", "example.org/x'"), own("default.example") + stream_error("host-unknown")},
    {with("example.org'", "exa mple.org'"), own("default.example") + stream_error("host-unknown")},
    {with(" version='1.0'", ""), "[H]" + stream_error("unsupported-version", "this server speaks XMPP 1.0")},
    {with("'1.0'", "'0.9'"), "[H]" + stream_error("unsupported-version", "this server speaks XMPP 1.0")},
    {with("'1.0'", "'1'"), "[H]" + stream_error("unsupported-version", "this server speaks XMPP 1.0")},
    {with("'1.0'", "'1.x'"), "[H]" + stream_error("unsupported-version", "this server speaks XMPP 1.0")},
    {with("'jabber:client'", "'jabber:server'"), "[H]" + stream_error("invalid-namespace", "clients speak jabber:client")},
    {with(" to=", " from='@' to="), "[H]" + stream_error("invalid-from", "'from' is not a JID")},
    {with("http://etherx.jabber.org/streams", "http://example.org/x"), own("default.example") + stream_error("invalid-namespace")},
    {"<?xml version='1.0' encoding='ISO-8859-1'?>" + header, own("default.example") + stream_error("unsupported-encoding")},
    {"<!DOCTYPE x><stream:stream", own("default.example") + stream_error("restricted-xml")},
  };
  for (auto& r : rows) {
    CAPTURE(r.header);
    dialogue d;
    CHECK(d.says(r.header) == r.answer);
    CHECK(d.says(header) == "");
  }
}

TEST_CASE("negotiation: stream headers that are taken") {
  for (auto& version : {"1.0", "01.00", "1.1", "1.10", "2.0"}) {
    dialogue d;
    CHECK(d.says(replaced(header, "'1.0'", std::string{"'"} + version + "'")) == tls_only);
  }
  dialogue d;
  auto answer = d.says(replaced(header, " to=", " from='Alice@Example.org' xml:lang='de' to="));
  CHECK(answer.starts_with(header_xml("example.org", "alice@example.org", "N")));
  dialogue upper;
  CHECK(upper.says(replaced(header, "'example.org'", "'EXAMPLE.org'")) == tls_only);
}

TEST_CASE("negotiation: stream ids are unguessable and never the same") {
  dialogue d;
  d.says(header);
  auto first = d.last_sent;
  d.says(starttls);
  d.step(on::tls_established{tls13});
  d.says(header);
  auto a = between(first, " id='", "'"), b = between(d.last_sent, " id='", "'");
  CHECK(a.size() == 24);
  CHECK(b.size() == 24);
  CHECK(a != b);
}

TEST_CASE("negotiation: before TLS nothing but TLS, where it is required") {
  dialogue d;
  d.says(header);
  CHECK(d.auth("PLAIN", std::string{"\0alice\0pw", 9}) == failure("encryption-required") + " | login_failed : login before TLS");
  CHECK(d.auth("SCRAM-SHA-1", "n,,n=alice,r=x") == failure("encryption-required") + " | login_failed : login before TLS");
  CHECK(d.says("<iq type='get' id='1'><query xmlns='jabber:iq:register'/></iq>") == stream_error("not-authorized"));
}

TEST_CASE("negotiation: where TLS is not required, SCRAM works without, PLAIN only if it may") {
  auto h = example_org();
  h.require_tls = false;
  dialogue d{h};
  CHECK(d.says(header)
        == "[H]<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>"
           "<mechanism>SCRAM-SHA-256</mechanism><mechanism>SCRAM-SHA-1</mechanism></mechanisms></stream:features>");
  CHECK(d.auth("PLAIN", std::string{"\0alice\0pw", 9}) == failure("encryption-required") + " | login_failed : PLAIN without TLS");
  CHECK(d.auth("SCRAM-SHA-1-PLUS", "p=tls-exporter,,n=alice,r=x")
        == failure("invalid-mechanism") + " | login_failed : a mechanism that is not on offer");
  h.plain_without_tls = true;
  dialogue e{h};
  CHECK(e.says(header).find("PLAIN") != std::string::npos);
  CHECK(e.auth("PLAIN", std::string{"\0alice\0pw", 9}) == "check alice pw");
  // y is honest here: without TLS no -PLUS was offered
  dialogue f{h};
  f.says(header);
  CHECK(f.auth("SCRAM-SHA-1", "y,,n=alice,r=x") == "find_keys alice sha1");
}

TEST_CASE("negotiation: TLS without binding data offers no -PLUS; a host offers what it has") {
  dialogue d{example_org(), tls_facts{"TLSv1.2", {}}};
  auto offer = d.says(header);
  CHECK(offer.find("-PLUS") == std::string::npos);
  CHECK(offer.find("sasl-cb") == std::string::npos);
  auto h = example_org();
  h.mechanisms = {xmpp::sasl::mechanism_kind::plain}; // credentials that only say yes or no
  h.features_before_login = "<register xmlns='http://jabber.org/features/iq-register'/>";
  dialogue e{h, tls13};
  CHECK(e.says(header)
        == "[H]<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms>"
           "<register xmlns='http://jabber.org/features/iq-register'/></stream:features>");
  CHECK(e.auth("SCRAM-SHA-1", "n,,n=alice,r=x") == failure("invalid-mechanism") + " | login_failed : a mechanism that is not on offer");
}

TEST_CASE("negotiation: STARTTLS where it has no place fails and ends the stream") {
  dialogue inside{example_org(), tls13};
  inside.says(header);
  CHECK(inside.says(starttls) == tls_failure);

  auto h = example_org();
  h.has_tls = h.require_tls = false;
  dialogue none{h};
  CHECK(none.says(header).find("starttls") == std::string::npos);
  CHECK(none.says(starttls) == tls_failure);

  logged_in late;
  CHECK(late.says(starttls) == tls_failure);
}

TEST_CASE("negotiation: bytes behind <starttls/> end the connection without a word in clear") {
  dialogue d;
  d.says(header);
  d.says(starttls);
  CHECK(d.step(on::injected_bytes{}) == "close policy-violation");
  CHECK(d.step(on::tls_established{tls13}) == "");
  dialogue e;
  e.says(header);
  e.says(starttls);
  CHECK(e.auth("PLAIN", std::string{"\0alice\0pw", 9}) == "close policy-violation");
}

TEST_CASE("negotiation: stanzas and strange elements before login") {
  for (auto& s : {"<message><body>hi</body></message>", "<presence/>", "<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>",
                  "<iq type='get' id='1'><query xmlns='jabber:iq:auth'/></iq>", "<iq type='get' id='1'/>"}) {
    CAPTURE(s);
    dialogue d{example_org(), tls13};
    d.says(header);
    CHECK(d.says(s) == stream_error("not-authorized"));
  }
  for (auto& s : {"<x xmlns='urn:x'/>", "<foo/>", "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
                  "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"}) {
    CAPTURE(s);
    dialogue d{example_org(), tls13};
    d.says(header);
    CHECK(d.says(s) == stream_error("unsupported-stanza-type"));
  }
}

TEST_CASE("negotiation: registration before login, under the TLS rule and with a bound") {
  auto h = example_org();
  h.namespaces_before_login = {"jabber:iq:register"};
  h.max_requests_before_login = 2;
  dialogue d{h, tls13};
  d.says(header);
  const std::string get = "<iq type='get' id='r1'><query xmlns='jabber:iq:register'/></iq>";
  CHECK(d.says(get) == "request jabber:iq:register r1");
  CHECK(d.says("<iq type='set' id='r2'><query xmlns='jabber:iq:register'><username>a</username></query></iq>") == "request jabber:iq:register r2");
  CHECK(d.says(get) == stream_error("policy-violation", "too many requests before login"));
  dialogue clear{h};
  clear.says(header);
  CHECK(clear.says(get) == stream_error("not-authorized"));
  dialogue result{h, tls13};
  result.says(header);
  CHECK(result.says("<iq type='result' id='r1'><query xmlns='jabber:iq:register'/></iq>") == stream_error("not-authorized"));
}

TEST_CASE("negotiation: the framer's refusals by name, with the header where it is missing") {
  struct row { const char* xml; const char* condition; };
  for (auto& r : {row{"<a></b>", "not-well-formed"}, row{"<a:b/>", "bad-namespace-prefix"}, row{"<!-- x -->", "restricted-xml"},
                  row{"<a>\xff</a>", "unsupported-encoding"}}) {
    CAPTURE(r.xml);
    dialogue d{example_org(), tls13};
    d.says(header);
    CHECK(d.says(r.xml) == stream_error(r.condition));
  }
}

TEST_CASE("negotiation: after login the header must name the same host and the same account") {
  for (auto& [change, error] : {std::pair{std::pair{"'example.org'", "'other.example'"}, stream_error("host-unknown")},
                                std::pair{std::pair{" to=", " from='bob@example.org' to="}, stream_error("invalid-from", "'from' is not who logged in")}}) {
    dialogue d{example_org(), tls13};
    d.says(header);
    d.auth("PLAIN", std::string{"\0alice\0pw", 9});
    d.step(on::password_checked{});
    CHECK(d.says(replaced(header, change.first, change.second)).ends_with(error));
    CHECK(d.lookups == 1);
  }
  dialogue d{example_org(), tls13};
  d.says(header);
  d.auth("PLAIN", std::string{"\0alice\0pw", 9});
  d.step(on::password_checked{});
  CHECK(d.says(replaced(header, " to=", " from='alice@example.org/phone' to=")).find("<bind") != std::string::npos);
}

TEST_CASE("negotiation: before bind only bind") {
  for (auto& s : {"<message to='bob@example.org'/>", "<presence/>", "<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>",
                  "<iq type='get' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
                  "<iq type='set' id='1'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>"}) {
    CAPTURE(s);
    logged_in d;
    CHECK(d.says(s) == stream_error("not-authorized", "bind a resource first"));
  }
  logged_in twice;
  CHECK(twice.auth("PLAIN", std::string{"\0bob\0pw", 7}) == stream_error("policy-violation", "logged in already"));
  logged_in strange;
  CHECK(strange.says("<x xmlns='urn:x'/>") == stream_error("unsupported-stanza-type"));
}

TEST_CASE("negotiation: bind, and what may go wrong") {
  logged_in d;
  CHECK(d.says("<iq type='set' id='q&quot;&apos;'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>") == "bind alice@example.org/N");
  CHECK(d.step(on::bind_refused{{xmpp::stanza_errc::conflict}})
        == "<iq type='error' id='q&quot;&apos;'><error type='cancel'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>");
  CHECK(d.says(replaced(bind_phone, "phone", std::string(1024, 'x'))).find("<bad-request") != std::string::npos);
  CHECK(d.says(replaced(bind_phone, "phone", "a&#x85;b")).find("<bad-request") != std::string::npos);
  CHECK(d.says(replaced(bind_phone, "phone", "\xf0\x9f\x93\xb1 <![CDATA[<&>]]>")) == "bind alice@example.org/\xf0\x9f\x93\xb1 <&>");
  CHECK(d.step(on::bound{*xmpp::make_jid("alice", "example.org", "\xf0\x9f\x93\xb1 <&>")}).find("<jid>alice@example.org/\xf0\x9f\x93\xb1 &lt;&amp;&gt;</jid>")
        != std::string::npos);
  logged_in again;
  for (int i = 0; i < 5; ++i) {
    CHECK(again.says(bind_phone) == "bind alice@example.org/phone");
    again.step(on::bind_refused{{xmpp::stanza_errc::resource_constraint}});
  }
  CHECK(again.says(bind_phone) == stream_error("policy-violation", "too many attempts to bind"));
}

TEST_CASE("negotiation: what was sent early is handled after the answer, in order and bounded") {
  logged_in d;
  d.says(bind_phone);
  CHECK(d.says("<presence/>") == "");
  CHECK(d.says("<message><body>1</body></message>") == "");
  auto told = d.step(on::bound{*xmpp::parse_jid("alice@example.org/phone")});
  CHECK(told.ends_with("</iq> | stanza <presence/> | stanza <message><body>1</body></message>"));

  logged_in flood;
  flood.says(bind_phone);
  for (int i = 0; i < 32; ++i)
    CHECK(flood.says("<presence/>") == "");
  CHECK(flood.says("<presence/>") == stream_error("policy-violation", "too much before an answer"));
  CHECK(flood.step(on::bound{*xmpp::parse_jid("alice@example.org/phone")}) == "");
}

TEST_CASE("negotiation: an answer belongs to its question; one is asked at a time") {
  dialogue d{example_org(), tls13};
  d.says(header);
  CHECK(d.step(on::password_checked{}) == "");
  CHECK(d.step(on::keys{xmpp::sasl::scram_keys{}}) == "");
  CHECK(d.auth("PLAIN", std::string{"\0alice\0pw", 9}) == "check alice pw");
  CHECK(d.says("<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>") == "");
  CHECK(d.auth("PLAIN", std::string{"\0bob\0pw", 7}) == ""); // not asked while alice's answer is due
  auto told = d.step(on::password_checked{base::fail(credentials_errc::wrong_password)});
  CHECK(told == failure("not-authorized") + " | login_failed alice: wrong password | " + failure("aborted")
                  + " | login_failed : the client gave up | check bob pw");

  dialogue e{example_org(), tls13};
  e.says(header);
  e.auth("PLAIN", std::string{"\0alice\0pw", 9});
  e.says("<presence/>"); // behind <auth/>, before the new stream
  auto after = e.step(on::password_checked{});
  CHECK(after.starts_with(success));
  CHECK(after.ends_with(stream_error("policy-violation", "an element before the stream was opened again")));
}

TEST_CASE("negotiation: a second <auth/> inside an exchange fails the first") {
  dialogue d{example_org(), tls13};
  d.says(header);
  d.says("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1'/>");
  CHECK(d.auth("PLAIN", std::string{"\0alice\0pw", 9})
        == failure("malformed-request") + " | login_failed : a second <auth/> in the middle of the first");
}

TEST_CASE("negotiation: once bound, stanzas pass and nothing else") {
  bound d;
  CHECK(d.says("<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>") == "stanza <iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>");
  CHECK(d.says("<iq type='set' id='s'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>").find("type='result'") != std::string::npos);
  CHECK(d.says(bind_phone).find("<not-allowed") != std::string::npos);
  CHECK(d.says("<x xmlns='urn:x'/>") == stream_error("unsupported-stanza-type"));
  bound header_inside;
  CHECK(header_inside.says(header) == stream_error("bad-format", "a stream header inside a stream"));
}

TEST_CASE("negotiation: <session/> for a shell that bypasses the machine") {
  auto alice = *xmpp::parse_jid("alice@example.org/phone");
  auto ask = [&](const char* type, const char* payload, const char* to) {
    auto s = xmpp::stanza::from_xml("<iq type='" + std::string{type} + "' id='1'>" + payload + "</iq>");
    s->from = alice;
    if (*to)
      s->to = *xmpp::parse_jid(to);
    auto answer = answer_when_bound(*s);
    return answer ? xmpp::to_string(answer) : "";
  };
  const char* session = "<session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>";
  CHECK(ask("set", session, "").find("type='result'") != std::string::npos);
  CHECK(ask("set", session, "example.org").find("type='result'") != std::string::npos);
  CHECK(ask("set", session, "alice@example.org").find("type='result'") != std::string::npos);
  CHECK(ask("set", session, "bob@example.org") == "");
  CHECK(ask("get", session, "") == "");
  CHECK(ask("set", "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>", "").find("<not-allowed") != std::string::npos);
  CHECK(ask("set", "<x xmlns='urn:ietf:params:xml:ns:xmpp-other'/>", "") == "");
}

TEST_CASE("negotiation: see-other-host comes once TLS is there") {
  auto h = example_org();
  h.see_other_host = "node2.example.org:5222";
  const std::string away = "[H] | <stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>node2.example.org:5222"
                           "</see-other-host></stream:error></stream:stream> | close see-other-host";
  dialogue d{h};
  CHECK(d.says(header) == tls_only);
  d.says(starttls);
  d.step(on::tls_established{tls13});
  CHECK(d.says(header) == away);
  dialogue direct{h, tls13};
  CHECK(direct.says(header) == away);
}

TEST_CASE("negotiation: the server ends it at any time, header first") {
  dialogue before;
  CHECK(before.step(on::refused{xmpp::stream_errc::connection_timeout, "login took too long"})
        == header_xml("default.example", {}, "N") + stream_error("connection-timeout", "login took too long"));
  dialogue after;
  after.says(header);
  CHECK(after.step(on::refused{xmpp::stream_errc::system_shutdown, {}}) == stream_error("system-shutdown"));
  dialogue restarted;
  restarted.says(header);
  restarted.says(starttls);
  restarted.step(on::tls_established{tls13});
  CHECK(restarted.step(on::refused{xmpp::stream_errc::system_shutdown, {}}) == "[H]" + stream_error("system-shutdown"));
  bound b;
  CHECK(b.step(on::refused{xmpp::stream_errc::conflict, {}}) == stream_error("conflict"));
}

TEST_CASE("negotiation: a closing tag is answered with one, in every state") {
  dialogue d;
  d.says(header);
  CHECK(d.says("</stream:stream>") == "</stream:stream> | close");
  dialogue waiting{example_org(), tls13};
  waiting.says(header);
  waiting.auth("PLAIN", std::string{"\0alice\0pw", 9});
  CHECK(waiting.says("</stream:stream>") == "</stream:stream> | close");
  CHECK(waiting.step(on::password_checked{}) == "");
  CHECK_FALSE(waiting.rules.is_authenticated());
}
