// The negotiation of a client's stream as dialogues: what the client says, what the machine commands.
#include "tests/xmpp/dialogue.hpp"

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
    {with(" to=", " from='alice@other.example' to="), own("example.org", "alice@other.example") + stream_error("invalid-from", "'from' is not of this host")},
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
           "<mechanism>SCRAM-SHA-512</mechanism><mechanism>SCRAM-SHA-256</mechanism><mechanism>SCRAM-SHA-1</mechanism></mechanisms></stream:features>");
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
           "<authentication xmlns='urn:xmpp:sasl:2'><mechanism>PLAIN</mechanism><inline><bind xmlns='urn:xmpp:bind:0'><inline/></bind></inline></authentication>"
           "<register xmlns='http://jabber.org/features/iq-register'/><config-version xmlns='urn:xmpp:iap:0' scheme='opaque' value='N'/></stream:features>");
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
