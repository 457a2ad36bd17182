// Logging in by XEP-0388 as dialogues: inline binding and resumption, tokens, upgrades, pipelining, and each rule broken once.
#include "tests/xmpp/dialogue.hpp"
#include "xmpp/sasl/hashed_token.hpp"
#include "xmpp/stream/sasl2_request.hpp"

namespace {

const std::string agent = "<user-agent id='d4565fa7-4d72-4749-b3d3-740edbf87770'><software>Test</software></user-agent>";
const std::string client = "d4565fa7-4d72-4749-b3d3-740edbf87770";
const std::string plain_alice{"\0alice\0pw", 9};
const std::string identity = "<authorization-identifier>alice@example.org</authorization-identifier>";
const std::string identity_full = "<authorization-identifier>alice@example.org/phone</authorization-identifier>";
const std::string to_bind = "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/><session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session>";
const auto phone = [] { return *xmpp::parse_jid("alice@example.org/phone"); };

host_settings modern() {
  auto h = example_org();
  h.stream_management = h.carbons = h.client_state = h.tokens = true;
  h.upgrades = {hash::sha256, hash::sha512};
  return h;
}
std::string failure2(std::string_view condition) {
  return "<failure xmlns='urn:xmpp:sasl:2'><" + std::string{condition} + " xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/></failure>";
}
std::string success2(const std::string& inner, const std::string& features) {
  return "<success xmlns='urn:xmpp:sasl:2'>" + inner + "</success>" + features;
}
xmpp::sasl::account_facts version(std::uint64_t v, std::initializer_list<hash> hashes = {hash::sha1, hash::sha256, hash::sha512}) {
  xmpp::sasl::account_facts f{v};
  for (auto h : hashes)
    f.add(h);
  return f;
}
xmpp::sasl::token token_of(std::string secret, bool is_due = false, bool supersedes = false) {
  xmpp::sasl::token t;
  t.secret = std::move(secret);
  t.is_due = is_due;
  t.supersedes = supersedes;
  return t;
}

struct modern_dialogue : dialogue {
  explicit modern_dialogue(host_settings h = modern(), const std::string& head = header) : dialogue(std::move(h), tls13) { says(head); }
  std::string authenticate(std::string_view mechanism, std::string_view message, const std::string& inner = {}) {
    return says("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='" + std::string{mechanism} + "'><initial-response>"
                + base::to_base64(message) + "</initial-response>" + inner + "</authenticate>");
  }
  /// PLAIN, and the password is right.
  std::string in_by_password(const std::string& inner, xmpp::sasl::account_facts f = version(3)) {
    CHECK(authenticate("PLAIN", plain_alice, inner) == "check alice pw");
    return step(on::password_checked{f});
  }
  std::string by_token(const std::string& secret, const std::string& inner) {
    return authenticate("HT-SHA-256-NONE", std::string{"alice\0", 6} + xmpp::sasl::initiator_proof(secret, {}), agent + inner);
  }
  std::string response2(std::string_view message) {
    return says("<response xmlns='urn:xmpp:sasl:2'>" + base::to_base64(message) + "</response>");
  }
  /// SCRAM-SHA-1 up to the answer to the proof.
  std::string in_by_scram(const std::string& inner, xmpp::sasl::account_facts f, std::string password = "pw") {
    std::string bare = "n=alice,r=clientnonce";
    CHECK(authenticate("SCRAM-SHA-1", "n,," + bare, inner) == "find_keys alice sha1");
    auto keys = *xmpp::sasl::make_scram_keys(hash::sha1, "pw", "0123456789abcdef", 4'096);
    step(on::keys{xmpp::sasl::known_keys{keys, f}});
    auto server_first = *base::from_base64(between(last_sent, "<challenge xmlns='urn:xmpp:sasl:2'>", "</challenge>"));
    auto salted = base::crypto::pbkdf2(hash::sha1, password, "0123456789abcdef", 4'096);
    auto key = base::crypto::hmac(hash::sha1, salted, "Client Key");
    auto last = "c=biws,r=" + server_first.substr(2, server_first.find(',') - 2);
    auto signature = base::crypto::hmac(hash::sha1, base::crypto::digest(hash::sha1, key), bare + "," + server_first + "," + last);
    return response2(last + ",p=" + base::to_base64(base::crypto::exclusive_or(key, signature)));
  }
};
const std::string authenticated = "authenticated alice@example.org PLAIN | ";

} // namespace

TEST_CASE("sasl2: what is on offer, and for whom") {
  dialogue d{modern(), tls13};
  auto offer = d.says(header);
  CHECK(between(offer, "<authentication xmlns='urn:xmpp:sasl:2'>", "</authentication>")
        == mechanisms + "<inline><bind xmlns='urn:xmpp:bind:0'><inline><feature var='urn:xmpp:carbons:2'/><feature var='urn:xmpp:csi:0'/>"
           "<feature var='urn:xmpp:sm:3'/></inline></bind><sm xmlns='urn:xmpp:sm:3'/><fast xmlns='urn:xmpp:fast:0'><mechanism>HT-SHA-256-EXPR</mechanism>"
           "<mechanism>HT-SHA-256-ENDP</mechanism><mechanism>HT-SHA-256-NONE</mechanism></fast></inline>"
           "<upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-SHA-256</upgrade><upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-SHA-512</upgrade>");
  dialogue unbound{modern(), tls_facts{"TLSv1.2", {}}};
  CHECK(between(unbound.says(header), "<fast xmlns='urn:xmpp:fast:0'>", "</fast>") == "<mechanism>HT-SHA-256-NONE</mechanism>");
  auto h = modern();
  h.require_tls = false;
  dialogue clear{h};
  CHECK(clear.says(header).find("sasl:2") == std::string::npos); // XEP-0388 section 4: after TLS only
  CHECK(clear.says("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='SCRAM-SHA-1'/>") == failure2("invalid-mechanism") + " | login_failed : a mechanism that is not on offer");
  dialogue early{modern()};
  early.says(header);
  CHECK(early.says("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'/>") == failure2("encryption-required") + " | login_failed : login before TLS");
}

TEST_CASE("limits of a stream are told, before and after login (XEP-0478)") {
  auto h = modern();
  h.max_bytes_before_login = 16'384;
  h.max_bytes = 262'144;
  dialogue d{h, tls13};
  CHECK(d.says(header).find("<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>16384</max-bytes></limits>") != std::string::npos);
  modern_dialogue e{h};
  CHECK(e.in_by_password("").find("<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>262144</max-bytes></limits>") != std::string::npos);
}

TEST_CASE("sasl2: without anything inline the stream goes on to bind, without a new header") {
  modern_dialogue d{example_org()};
  CHECK(d.in_by_password("") == authenticated + success2(identity, to_bind + "</stream:features>"));
  CHECK(d.says(bind_phone) == "bind alice@example.org/phone");
  CHECK(d.step(on::bound{phone()}).starts_with("<iq type='result'"));
  CHECK(d.rules.is_bound());
}

TEST_CASE("sasl2: SCRAM with the server's proof beside the identity; the hash of the offer is in the challenge") {
  modern_dialogue d;
  auto told = d.in_by_scram("", version(1));
  CHECK(told.starts_with("authenticated alice@example.org SCRAM-SHA-1 | <success xmlns='urn:xmpp:sasl:2'><additional-data>"));
  CHECK(told.find("</additional-data>" + identity + "</success>" + to_bind) != std::string::npos);
  modern_dialogue wrong;
  CHECK(wrong.in_by_scram("<bind xmlns='urn:xmpp:bind:0'/>", version(1), "guess") == failure2("not-authorized") + " | login_failed alice: wrong password");
  modern_dialogue stripped;
  CHECK(stripped.authenticate("SCRAM-SHA-1", "y,,n=alice,r=x") == failure2("not-authorized") + " | login_failed : downgrade: the client saw no -PLUS, but it was offered");
  modern_dialogue asked;
  asked.authenticate("SCRAM-SHA-512", "n,,n=alice,r=x");
  asked.step(on::keys{*xmpp::sasl::make_scram_keys(hash::sha512, "pw", "salt", 4'096)});
  auto offer = xmpp::sasl::downgrade_text({"SCRAM-SHA-512-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"},
                                          {"tls-exporter", "tls-server-end-point"});
  CHECK(base::from_base64(between(asked.last_sent, "sasl:2'>", "<"))->ends_with(",h=" + base::to_base64(base::crypto::digest(hash::sha512, offer))));
}

TEST_CASE("bind2: the resource is the tag and what stays the same for a client, but does not tell its id") {
  auto bound_as = [](const std::string& inner) {
    modern_dialogue d;
    d.in_by_password(inner); // the command masks random numbers, the machine's own is asked for
    return d.bound_to;
  };
  auto with = [&](const std::string& tag, const std::string& of) { return bound_as(of + "<bind xmlns='urn:xmpp:bind:0'>" + tag + "</bind>"); };
  auto first = with("<tag>Phone App</tag>", agent);
  CHECK(first.starts_with("alice@example.org/Phone App/"));
  CHECK(first == with("<tag>Phone App</tag>", agent));
  CHECK(first.find(client) == std::string::npos);
  CHECK(first != with("<tag>Phone App</tag>", replaced(agent, "d4565fa7", "e4565fa7")));
  CHECK(with("", agent).size() == std::string{"alice@example.org/"}.size() + 18);
  CHECK(with("<tag>" + std::string(1'100, 'x') + "</tag>", agent) == with("", agent)); // cannot be part of one
  CHECK(with("<tag>a&#x85;b</tag>", agent) == with("", agent));
}

TEST_CASE("bind2: what is asked for inline goes with the command, the answers stand inside <bound/>") {
  modern_dialogue d;
  CHECK(d.in_by_password("<bind xmlns='urn:xmpp:bind:0'><tag>T</tag><enable xmlns='urn:xmpp:sm:3' resume='true' max='600'/><enable xmlns='urn:xmpp:carbons:2'/>"
                         "<inactive xmlns='urn:xmpp:csi:0'/></bind>")
        == authenticated + "bind alice@example.org/T/N managed resumable 600 carbons inactive");
  CHECK(d.step(on::bound{phone(), "<enabled xmlns='urn:xmpp:sm:3' id='x'/>"})
        == success2(identity_full + "<bound xmlns='urn:xmpp:bind:0'><enabled xmlns='urn:xmpp:sm:3' id='x'/></bound>", "<stream:features/>"));
  CHECK(d.rules.is_bound());
  CHECK(d.says("<presence/>") == "stanza <presence/>");
  CHECK(d.says("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'/>")
        == "stanza <authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'/>"); // which the session does not know

  modern_dialogue active;
  CHECK(active.in_by_password("<bind xmlns='urn:xmpp:bind:0'><active xmlns='urn:xmpp:csi:0'/><enable xmlns='urn:xmpp:sm:3' max='x'/></bind>")
        == authenticated + "bind alice@example.org/N managed 0");
  modern_dialogue bare{example_org()}; // a host without them
  CHECK(bare.in_by_password("<bind xmlns='urn:xmpp:bind:0'><enable xmlns='urn:xmpp:sm:3'/><enable xmlns='urn:xmpp:carbons:2'/><inactive xmlns='urn:xmpp:csi:0'/></bind>")
        == authenticated + "bind alice@example.org/N");
  CHECK(bare.step(on::bound{phone()}) == success2(identity_full + "<bound xmlns='urn:xmpp:bind:0'/>", "<stream:features/>"));
}

TEST_CASE("bind2: who cannot be bound is logged in all the same, and may try again") {
  modern_dialogue d;
  d.in_by_password("<bind xmlns='urn:xmpp:bind:0'/>");
  CHECK(d.step(on::bind_refused{xmpp::stanza_errc::resource_constraint})
        == success2(identity + "<failed xmlns='urn:xmpp:bind:0'><resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>",
                    to_bind + "<sm xmlns='urn:xmpp:sm:3'/></stream:features>"));
  CHECK(d.says(bind_phone) == "bind alice@example.org/phone");
}

TEST_CASE("resume inline: it comes first; a new session only where it fails") {
  const std::string resume = "<resume xmlns='urn:xmpp:sm:3' previd='earlier' h='5'/>", bind = "<bind xmlns='urn:xmpp:bind:0'/>";
  modern_dialogue d;
  CHECK(d.in_by_password(bind + resume) == authenticated + "resume earlier 5 of alice@example.org");
  CHECK(d.step(on::resumed{phone(), 7}) == success2(identity_full + "<resumed xmlns='urn:xmpp:sm:3' previd='earlier' h='7'/>", ""));
  CHECK(d.rules.is_bound());

  const std::string failed = "<failed xmlns='urn:xmpp:sm:3' h='9'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>";
  modern_dialogue gone;
  gone.in_by_password(resume + bind);
  CHECK(gone.step(on::resume_refused{xmpp::stanza_errc::item_not_found, 9}) == "bind alice@example.org/N");
  CHECK(gone.step(on::bound{phone()}) == success2(identity_full + failed + "<bound xmlns='urn:xmpp:bind:0'/>", "<stream:features><sm xmlns='urn:xmpp:sm:3'/></stream:features>"));

  modern_dialogue alone;
  alone.in_by_password(resume);
  CHECK(alone.step(on::resume_refused{xmpp::stanza_errc::item_not_found, 9}) == success2(identity + failed, to_bind + "<sm xmlns='urn:xmpp:sm:3'/></stream:features>"));
  CHECK_FALSE(alone.rules.is_bound());

  for (auto& bad : {"<resume xmlns='urn:xmpp:sm:3' h='5'/>", "<resume xmlns='urn:xmpp:sm:3' previd='x'/>", "<resume xmlns='urn:xmpp:sm:3' previd='x' h='4294967296'/>"}) {
    CAPTURE(bad);
    modern_dialogue m;
    CHECK(m.in_by_password(bad + bind) == authenticated + "bind alice@example.org/N");
    CHECK(m.step(on::bound{phone()}).find("<failed xmlns='urn:xmpp:sm:3'><bad-request") != std::string::npos);
  }
  modern_dialogue bare{example_org()};
  CHECK(bare.in_by_password(resume) == authenticated + success2(identity, to_bind + "</stream:features>"));
}

TEST_CASE("resume before bind in the profile of RFC 6120") {
  logged_in d{modern()};
  CHECK(d.says("<resume xmlns='urn:xmpp:sm:3' previd='earlier' h='5'/>") == "resume earlier 5 of alice@example.org");
  CHECK(d.step(on::resume_refused{xmpp::stanza_errc::item_not_found}) == "<failed xmlns='urn:xmpp:sm:3'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>");
  CHECK(d.says("<enable xmlns='urn:xmpp:sm:3'/>").find("<unexpected-request") != std::string::npos);
  CHECK(d.says("<resume xmlns='urn:xmpp:sm:3' previd='earlier'/>").find("<bad-request") != std::string::npos);
  d.says("<resume xmlns='urn:xmpp:sm:3' previd='earlier' h='5'/>");
  CHECK(d.step(on::resumed{phone(), 7}) == "<resumed xmlns='urn:xmpp:sm:3' previd='earlier' h='7'/>");
  CHECK(d.rules.is_bound());
}

TEST_CASE("token: asked for with a password, for one client and one mechanism") {
  const std::string ask = "<request-token xmlns='urn:xmpp:fast:0' mechanism='HT-SHA-256-EXPR'/>";
  modern_dialogue d;
  CHECK(d.in_by_password(agent + ask + "<bind xmlns='urn:xmpp:bind:0'/>") == "change_tokens alice of " + client + " version 3 issue HT-SHA-256-EXPR");
  CHECK(d.step(on::tokens_changed{xmpp::sasl::issued_token{"secret<", "2026-01-22T00:00:00.000Z"}}) == authenticated + "bind alice@example.org/N");
  CHECK(d.step(on::bound{phone()}).find("<bound xmlns='urn:xmpp:bind:0'/><token xmlns='urn:xmpp:fast:0' expiry='2026-01-22T00:00:00.000Z' token='secret&lt;'/></success>")
        != std::string::npos);
  // a password is good without one: no id of a client, a mechanism that is none or not on offer, a store that fails
  for (auto& without : {ask, agent + replaced(ask, "EXPR", "UNIQ"), agent + replaced(ask, "HT-SHA-256-EXPR", "PLAIN"), agent + replaced(ask, " mechanism='HT-SHA-256-EXPR'", "")}) {
    modern_dialogue m;
    CHECK(m.in_by_password(without).find("</authorization-identifier></success>") != std::string::npos);
  }
  modern_dialogue full;
  full.in_by_password(agent + ask);
  CHECK(full.step(on::tokens_changed{base::fail(credentials_errc::unavailable)}).find("</authorization-identifier></success>") != std::string::npos);
  auto h = modern();
  h.tokens = false;
  modern_dialogue none{h};
  CHECK(none.in_by_password(agent + ask).find("</authorization-identifier></success>") != std::string::npos);
}

TEST_CASE("token: one round trip, and no row changes for a token that is neither new nor old nor counted") {
  modern_dialogue d;
  CHECK(d.by_token("t", "<fast xmlns='urn:xmpp:fast:0'/><bind xmlns='urn:xmpp:bind:0'/>") == "find_tokens alice of " + client);
  CHECK(d.step(on::tokens{xmpp::sasl::client_tokens{{}, token_of("t")}}) == "authenticated alice@example.org HT-SHA-256-NONE | bind alice@example.org/N");
  CHECK(d.step(on::bound{phone()}) == success2("<additional-data>" + base::to_base64(xmpp::sasl::responder_proof("t", {})) + "</additional-data>" + identity_full
                                               + "<bound xmlns='urn:xmpp:bind:0'/>", "<stream:features><sm xmlns='urn:xmpp:sm:3'/></stream:features>"));
}

TEST_CASE("token: what a login changes") {
  struct row { std::string inner; xmpp::sasl::client_tokens there; std::string change; };
  auto fast = [](const std::string& attributes) { return "<fast xmlns='urn:xmpp:fast:0'" + attributes + "/>"; };
  auto is = "change_tokens alice of " + client + " used t";
  const row rows[] = {
    {fast(" count='8'"), {{}, token_of("t")}, is + " count 8"},
    {fast(""), {token_of("t", false, true), token_of("old")}, is},                       // the first use of a new one ends the old one
    {fast(""), {{}, token_of("t", true)}, is + " issue HT-SHA-256-NONE"},                // rotation
    {fast(" invalidate='true'"), {{}, token_of("t", true)}, is + " invalidate"},         // section 4.6: no new one, even if due
    {fast(" invalidate='1'") + "<request-token xmlns='urn:xmpp:fast:0' mechanism='HT-SHA-256-ENDP'/>", {{}, token_of("t")}, is + " invalidate issue HT-SHA-256-ENDP"},
  };
  for (auto& r : rows) {
    CAPTURE(r.inner);
    modern_dialogue d;
    d.by_token("t", r.inner);
    CHECK(d.step(on::tokens{r.there}) == r.change);
    CHECK(d.step(on::tokens_changed{std::nullopt}).find("<success") != std::string::npos);
    // somebody was faster with the same token, or took it away
    modern_dialogue e;
    e.by_token("t", r.inner);
    e.step(on::tokens{r.there});
    CHECK(e.step(on::tokens_changed{base::fail(credentials_errc::changed)}) == failure2("not-authorized") + " | login_failed alice: the credentials were changed meanwhile");
    CHECK_FALSE(e.rules.is_authenticated());
  }
}

TEST_CASE("token: refused by name, counted like a wrong password") {
  const std::string fast = "<fast xmlns='urn:xmpp:fast:0'/>";
  modern_dialogue d;
  d.by_token("stolen", fast);
  CHECK(d.step(on::tokens{xmpp::sasl::client_tokens{{}, token_of("t")}}) == failure2("not-authorized") + " | login_failed alice: wrong token");
  d.by_token("t", fast);
  auto expired = token_of("t");
  expired.is_expired = true;
  CHECK(d.step(on::tokens{xmpp::sasl::client_tokens{{}, expired}}) == failure2("credentials-expired") + " | login_failed alice: the token has expired");
  d.by_token("t", fast);
  CHECK(d.step(on::tokens{base::fail(credentials_errc::no_such_user)})
        == failure2("not-authorized") + " | login_failed alice: no token of this client | " + stream_error("policy-violation", "too many failed logins"));

  auto proof = std::string{"alice\0", 6} + xmpp::sasl::initiator_proof("t", {});
  const std::string cause = " | login_failed : a token without <fast/> or <user-agent/>";
  CHECK(modern_dialogue{}.authenticate("HT-SHA-256-NONE", proof, agent) == failure2("malformed-request") + cause);
  CHECK(modern_dialogue{}.authenticate("HT-SHA-256-NONE", proof, fast) == failure2("malformed-request") + cause);
  for (auto& count : {"0", "-1", "x", "4294967296", ""})
    CHECK(modern_dialogue{}.by_token("t", "<fast xmlns='urn:xmpp:fast:0' count='" + std::string{count} + "'/>") == failure2("malformed-request") + " | login_failed : bad <authenticate/>");
  CHECK(modern_dialogue{}.authenticate("PLAIN", plain_alice, "<user-agent id='" + std::string(65, 'x') + "'/>") == failure2("malformed-request") + " | login_failed : bad <authenticate/>");
  auto none = failure("invalid-mechanism") + " | login_failed : a mechanism that is not on offer";
  CHECK(modern_dialogue{}.auth("HT-SHA-256-NONE", proof) == none); // not in the profile of RFC 6120
  CHECK(modern_dialogue{example_org()}.by_token("t", fast) == replaced(none, failure("invalid-mechanism"), failure2("invalid-mechanism")));
}

TEST_CASE("upgrade: keys for another hash, worked out by the client, before <success/>") {
  const std::string ask = "<upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-SHA-256</upgrade><upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-SHA-512</upgrade>"
                          "<upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-SHA-512</upgrade><upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-BLOOP</upgrade>";
  const std::string next = "<next xmlns='urn:xmpp:sasl:2' task='UPGR-SCRAM-SHA-512'/>";
  auto salted_with = [](const std::string& sent, const char* password) {
    auto salt = *base::from_base64(between(sent, "iterations='4096'>", "<"));
    return base::crypto::pbkdf2(hash::sha512, password, salt, 4'096);
  };
  auto data = [](const std::string& inner) { return "<task-data xmlns='urn:xmpp:sasl:2'>" + inner + "</task-data>"; };
  auto hash_xml = [](const std::string& bytes) { return "<hash xmlns='urn:xmpp:scram-upgrade:0'>" + base::to_base64(bytes) + "</hash>"; };

  modern_dialogue d; // SHA-256 is there already
  auto told = d.in_by_scram(ask + agent + "<request-token xmlns='urn:xmpp:fast:0' mechanism='HT-SHA-256-NONE'/>", version(3, {hash::sha1, hash::sha256}));
  CHECK(told.starts_with("<continue xmlns='urn:xmpp:sasl:2'><additional-data>"));
  CHECK(told.ends_with("</additional-data><tasks><task>UPGR-SCRAM-SHA-512</task></tasks></continue>"));
  CHECK_FALSE(d.rules.is_authenticated());
  CHECK(d.says(next).starts_with("<task-data xmlns='urn:xmpp:sasl:2'><salt xmlns='urn:xmpp:scram-upgrade:0' iterations='4096'>"));
  auto salted = salted_with(d.last_sent, "pw");
  CHECK(d.says(data(hash_xml(salted))) == "add_keys alice sha512 to version 3");
  CHECK(d.added == *xmpp::sasl::make_scram_keys(hash::sha512, "pw", d.added.salt, 4'096));
  CHECK(d.step(on::keys_added{version(4)}) == "change_tokens alice of " + client + " version 4 issue HT-SHA-256-NONE");
  CHECK(d.step(on::tokens_changed{std::nullopt}).find("<success xmlns='urn:xmpp:sasl:2'>" + identity) != std::string::npos);

  auto at_task = [&] {
    auto m = std::make_unique<modern_dialogue>();
    m->in_by_scram(ask, version(3, {hash::sha1, hash::sha256}));
    return m;
  };
  CHECK(at_task()->says(replaced(next, "512", "256")) == failure2("malformed-request") + " | login_failed alice: a task that was not offered");
  CHECK(at_task()->says("<abort xmlns='urn:xmpp:sasl:2'/>") == failure2("aborted") + " | login_failed : the client gave up");
  for (auto& other : {data(hash_xml(salted)), std::string{"<presence/>"}, std::string{"<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'/>"}, starttls})
    CHECK(at_task()->says(other) == stream_error("policy-violation", "not what the task needs"));
  for (auto& bad : {data(""), data(hash_xml("short")), data("<hash xmlns='urn:xmpp:scram-upgrade:0'>$</hash>")}) {
    auto m = at_task();
    m->says(next);
    CHECK(m->says(bad) == failure2("malformed-request") + " | login_failed alice: not a salted password");
  }
  auto changed = at_task(); // the password was changed since it was verified
  changed->says(next);
  changed->says(data(hash_xml(salted)));
  CHECK(changed->step(on::keys_added{base::fail(credentials_errc::changed)}) == failure2("not-authorized") + " | login_failed alice: the credentials were changed meanwhile");

  modern_dialogue there; // nothing is missing
  CHECK(there.in_by_scram(ask, version(3)).starts_with("authenticated"));
  modern_dialogue seen; // the server has seen the password
  CHECK(seen.in_by_password(ask, version(3, {hash::sha256})).starts_with("authenticated"));
  modern_dialogue thief; // a token may not become a password
  thief.by_token("t", "<fast xmlns='urn:xmpp:fast:0'/>" + ask);
  CHECK(thief.step(on::tokens{xmpp::sasl::client_tokens{{}, token_of("t")}}).starts_with("authenticated"));
  auto h = modern();
  h.upgrades.clear();
  modern_dialogue off{h};
  CHECK(off.in_by_scram(ask, version(3, {hash::sha1})).starts_with("authenticated"));
}

TEST_CASE("pipelining: features that have changed fail a login without prejudice (XEP-0509)") {
  dialogue d{modern(), tls13};
  auto at_once = [&](const std::string& value) {
    return "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><initial-response>" + base::to_base64(plain_alice)
           + "</initial-response><config-version xmlns='urn:xmpp:iap:0' scheme='opaque' value='" + value + "'/></authenticate>";
  };
  d.says(header);
  auto value = between(d.last_sent, "<config-version xmlns='urn:xmpp:iap:0' scheme='opaque' value='", "'");
  CHECK(value.size() == 24);
  const std::string mismatch = "<failure xmlns='urn:xmpp:sasl:2'><aborted xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/><config-version-mismatch xmlns='urn:xmpp:iap:0'/></failure>";
  for (int i = 0; i < 10; ++i)
    CHECK(d.says(at_once("other")) == mismatch);
  CHECK(d.says(at_once(value)) == "check alice pw");
  dialogue endless{modern(), tls13};
  endless.says(header);
  for (int i = 0; i < 10; ++i)
    endless.says(at_once("other"));
  CHECK(endless.says(at_once("other")) == mismatch + " | " + stream_error("policy-violation", "too many requests before login"));
  auto h = modern(); // anything else in the features is another version
  h.carbons = false;
  dialogue e{h, tls13};
  e.says(header);
  CHECK(between(e.last_sent, "scheme='opaque' value='", "'") != value);
}

TEST_CASE("sasl2: the identity must be the one that the header named") {
  auto from = [](const std::string& who) { return replaced(header, " to=", " from='" + who + "' to="); };
  modern_dialogue d{modern(), from("alice@example.org/x")};
  CHECK(d.in_by_password("").find("<success") != std::string::npos);
  modern_dialogue e{modern(), from("bob@example.org")};
  CHECK(e.in_by_password("") == failure2("invalid-authzid") + " | login_failed alice: 'from' is not who logged in");
}

TEST_CASE("sasl2: inside an exchange nothing else; the two profiles do not mix") {
  auto begun = [] {
    auto d = std::make_unique<modern_dialogue>();
    CHECK(d->says("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'/>") == "<challenge xmlns='urn:xmpp:sasl:2'/>");
    return d;
  };
  CHECK(begun()->response2(plain_alice) == "check alice pw");
  CHECK(begun()->says("<abort xmlns='urn:xmpp:sasl:2'><text>no</text></abort>") == failure2("aborted") + " | login_failed : the client gave up");
  for (auto& other : {std::string{"<presence/>"}, std::string{"<iq type='get' id='1'><query xmlns='jabber:iq:register'/></iq>"}, starttls, std::string{"<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'/>"},
                      std::string{"<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"}, std::string{"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>"}})
    CHECK(begun()->says(other) == stream_error("policy-violation", "something else in the middle of a login"));
  CHECK(begun()->says("<next xmlns='urn:xmpp:sasl:2' task='x'/>") == stream_error("unsupported-stanza-type"));
  modern_dialogue legacy;
  legacy.says("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>");
  CHECK(legacy.authenticate("PLAIN", plain_alice) == failure("malformed-request") + " | login_failed : the other profile in the middle of a login");
  CHECK(modern_dialogue{}.response2("x") == failure2("malformed-request") + " | login_failed : <response/> without <authenticate/>");
  CHECK(modern_dialogue{}.says("<success xmlns='urn:xmpp:sasl:2'/>") == stream_error("unsupported-stanza-type"));
  CHECK(modern_dialogue{}.says("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><initial-response>$</initial-response></authenticate>")
        == failure2("incorrect-encoding") + " | login_failed : not base64");
  CHECK(modern_dialogue{}.says("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><initial-response>=</initial-response></authenticate>")
        == failure2("incorrect-encoding") + " | login_failed : not base64"); // no such sign here
  modern_dialogue twice;
  twice.in_by_password("");
  CHECK(twice.authenticate("PLAIN", plain_alice) == stream_error("policy-violation", "logged in already"));
}

TEST_CASE("sasl2: what came early is handled once the session is bound") {
  modern_dialogue d;
  d.authenticate("PLAIN", plain_alice, "<bind xmlns='urn:xmpp:bind:0'/>");
  CHECK(d.says("<presence/>") == "");
  CHECK(d.step(on::password_checked{}) == authenticated + "bind alice@example.org/N");
  CHECK(d.says("<message/>") == "");
  CHECK(d.step(on::bound{phone()}).ends_with("</stream:features> | stanza <presence/> | stanza <message/>"));
  // an answer to another question is none
  modern_dialogue e;
  e.authenticate("PLAIN", plain_alice);
  CHECK(e.step(on::keys{xmpp::sasl::scram_keys{}}) == "");
  CHECK(e.step(on::tokens{xmpp::sasl::client_tokens{}}) == "");
  CHECK(e.step(on::tokens_changed{std::nullopt}) == "");
  CHECK(e.step(on::keys_added{}) == "");
  CHECK(e.step(on::bound{phone()}) == "");
}

TEST_CASE("EXTERNAL and ANONYMOUS on a stream, in both profiles") {
  auto h = example_org();
  h.mechanisms.push_back(xmpp::sasl::mechanism_kind::anonymous);
  auto certified = tls13;
  certified.client_addresses = {"alice@example.org"};
  dialogue d{h, certified};
  CHECK(d.says(header).find("<mechanism>EXTERNAL</mechanism><mechanism>SCRAM-SHA-512-PLUS") != std::string::npos);
  CHECK(d.says("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>") == "find_account alice");
  CHECK(d.step(on::password_checked{}) == success + " | authenticated alice@example.org EXTERNAL | restart");
  dialogue e{h, certified};
  e.says(header);
  CHECK(e.says("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='EXTERNAL'><initial-response/></authenticate>") == "find_account alice");
  dialogue without{h, tls13};
  CHECK(without.says(header).find("EXTERNAL") == std::string::npos);
  CHECK(without.auth("EXTERNAL", "") == failure("invalid-mechanism") + " | login_failed : a mechanism that is not on offer");
  CHECK(without.auth("ANONYMOUS", "trace") == success + " | authenticated anonymous-N@example.org ANONYMOUS | restart");
  dialogue off{example_org(), tls13};
  CHECK(off.says(header).find("ANONYMOUS") == std::string::npos);
}
