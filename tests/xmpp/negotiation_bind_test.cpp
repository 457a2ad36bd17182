// The negotiation machine after login: bind, what comes early, the end.
#include "tests/xmpp/dialogue.hpp"

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

TEST_CASE("negotiation: once bound, what comes is the session's") {
  bound d;
  CHECK(d.says("<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>") == "stanza <iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>");
  CHECK(d.says("<iq type='set' id='s'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>").find("type='result'") != std::string::npos);
  CHECK(d.says(bind_phone).find("<not-allowed") != std::string::npos);
  CHECK(d.says("<enable xmlns='urn:xmpp:sm:3'/>") == "stanza <enable xmlns='urn:xmpp:sm:3'/>"); // in one write with the bind request
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
