#!/usr/bin/python3
# The rules of RFC 6120 and 6121 by hand-written streams: stream errors, addresses, IQs, roster, subscriptions,
# presence, conflicts, offline messages, registration, announcements.
import re
import time
import unittest

import harness
from harness import Raw, password


class Streams(harness.Case):
    def error_after(self, text, wanted, login=False, **kw):
        raw = self.raw(**kw)
        if login:
            raw.login("alice", "errors")
        raw.send(text)
        got = raw.read_to_end()
        self.assertIn(f"<{wanted} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>", got)
        self.assertTrue(got.endswith("</stream:stream>"), got)
        return got

    def test_headers(self):
        good = "xmlns:stream='http://etherx.jabber.org/streams'"
        got = self.error_after(f"<stream:stream to='elsewhere.example' version='1.0' xmlns='jabber:client' {good}>", "host-unknown")
        self.assertIn("<stream:stream", got)  # the header comes before the error
        self.error_after(f"<stream:stream to='localhost' version='1.0' xmlns='jabber:server' {good}>", "invalid-namespace")
        self.error_after("<stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='wrong'>", "invalid-namespace")
        self.error_after("GET / HTTP/1.1\r\n\r\n", "not-well-formed")
        self.error_after("<!DOCTYPE lolz [<!ENTITY a 'b'>]><stream:stream>", "restricted-xml")

    def test_bad_xml_ends_the_stream_before_and_after_login(self):
        header = "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
        for bad, wanted in (("<a><!-- no --></a>", "restricted-xml"), ("<a>&nope;</a>", "restricted-xml"), ("<a></b>", "not-well-formed"),
                            ("<x:a/>", "bad-namespace-prefix"), ("<a>\x01</a>", "not-well-formed")):
            with self.subTest(bad):
                self.error_after(header + bad, wanted)
                self.error_after(bad, wanted, login=True)
        self.error_after(b"<message>\xff\xfe</message>", "unsupported-encoding", login=True)

    def test_order_of_negotiation(self):
        header = "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
        self.error_after(header + "<message to='bob@localhost'><body>x</body></message>", "not-authorized")
        self.error_after("<unknown xmlns='urn:x'/>", "unsupported-stanza-type", login=True)
        self.error_after("<message from='bob@localhost/x' to='bob@localhost'/>", "invalid-from", login=True)

    def test_a_large_element_is_refused_before_login_and_a_huge_one_after(self):
        header = "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
        self.error_after(header + "<a>" + "x" * 20_000, "policy-violation")
        self.error_after("<message to='bob@localhost'><body>" + "x" * 300_000, "policy-violation", login=True)

    def test_one_byte_at_a_time(self):
        raw = self.raw()
        for b in b"<?xml version='1.0'?><stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>":
            raw.socket.sendall(bytes([b]))
        raw.read_until("</stream:features>")

    def test_the_end_is_answered(self):
        raw = self.client("alice", "end")
        raw.send("</stream:stream>")
        self.assertTrue(raw.read_to_end().endswith("</stream:stream>"))

    def test_bytes_behind_starttls_are_fatal(self):
        raw = self.raw()
        raw.header()
        raw.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><auth mechanism='PLAIN'>AGFsaWNlAHg=</auth>")
        got = raw.read_to_end()
        self.assertNotIn("<success", got)

    def test_direct_tls_and_starttls(self):
        direct = self.raw(direct=True)
        self.assertIn("SCRAM-SHA-256-PLUS", direct.header())
        later = self.raw()
        later.header()
        later.start_tls()
        self.assertIn("SCRAM-SHA-256-PLUS", later.header())
        self.assertIn("success", later.plain("alice"))


class Login(harness.Case):
    def test_wrong_password_unknown_user_and_foreign_identity_look_the_same(self):
        for name, secret, authzid, wanted in (("alice", "wrong", "", "not-authorized"), ("nobody", "wrong", "", "not-authorized"),
                                              ("alice", password, "bob@localhost", "invalid-authzid")):
            raw = self.raw()
            raw.header()
            self.assertIn(wanted, raw.plain(name, secret, authzid))
        raw = self.raw()
        raw.header()
        self.assertIn("success", raw.plain("alice", password, "alice@localhost"))

    def test_bind_conflict_replaces(self):
        first = self.client("alice", "same")
        second = self.client("alice", "same")
        self.assertIn("<conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>", first.read_to_end())
        second.ping()

    def test_a_resource_is_made_up_where_none_is_wished(self):
        raw = self.raw()
        raw.header()
        raw.plain("alice")
        raw.header()
        self.assertRegex(raw.bind(), r"<jid>alice@localhost/.+</jid>")

    def test_spellings_of_a_name_are_one_account(self):
        raw = self.raw()
        raw.header()
        self.assertIn("success", raw.plain("ALICE"))
        raw.header()
        self.assertIn("<jid>alice@localhost/x</jid>", raw.bind("x"))


class Stanzas(harness.Case):
    def test_iq_errors(self):
        alice = self.client("alice", "iq")
        for to, kind, inner, wanted in (("localhost", "get", "<q xmlns='urn:unknown'/>", "service-unavailable"),
                                        ("localhost", "get", "", "bad-request"), ("localhost", "odd", "<q xmlns='x'/>", "bad-request"),
                                        ("a b@c", "get", "<q xmlns='x'/>", "jid-malformed"), ("nobody@localhost", "get", "<q xmlns='x'/>", "service-unavailable"),
                                        ("bob@localhost/none", "get", "<q xmlns='x'/>", "service-unavailable"),
                                        ("x@elsewhere.example", "get", "<q xmlns='x'/>", "remote-server-not-found")):
            with self.subTest(to=to, kind=kind, inner=inner):
                alice.send(f"<iq to='{to}' type='{kind}' id='e'>{inner}</iq>")
                self.assertIn(f"<{wanted} ", alice.read_until("</iq>"))

    def test_to_a_bare_jid_goes_to_the_highest_priorities_and_never_to_a_negative_one(self):
        low, high, never = (self.client("bob", r) for r in ("low", "high", "never"))
        low.presence("<presence><priority>1</priority></presence>")
        high.presence("<presence><priority>5</priority></presence>")
        never.presence("<presence><priority>-1</priority></presence>")
        alice = self.client("alice", "to-bare")
        alice.send("<message to='bob@localhost' type='chat'><body>who</body></message>")
        high.read_until("<body>who</body>")
        never.ping()
        self.assertNotIn("<body>who", never.buffer)
        alice.send("<message to='bob@localhost/never' type='chat'><body>you</body></message>")
        never.read_until("<body>you</body>")

    def test_ill_formed_namespaces_cannot_be_made_for_others(self):
        bob = self.client("bob", "ns").presence()
        alice = self.client("alice", "ns")
        alice.send("<message xmlns:p='urn:p' to='bob@localhost/ns' type='chat'><body>q</body><p:x/></message>")
        self.assertIn("xmlns:p='urn:p'", bob.read_until("</message>"))

    def test_directed_presence_ends_with_the_session(self):
        carol = self.client("carol", "dir").presence()
        alice = self.client("alice", "dir").presence()
        alice.send("<presence to='carol@localhost/dir'/>")
        carol.read_until("<presence from='alice@localhost/dir'")
        alice.close()
        self.assertIn("alice@localhost/dir", carol.read_until("type='unavailable'"))

    def test_offline_messages_survive_a_restart(self):
        alice = self.client("alice", "off")
        alice.send("<message to='carol@localhost' type='chat' id='keep'><body>kept</body></message>")
        alice.ping()
        time.sleep(0.5)
        self.server.stop()
        self.server.start()
        carol = self.client("carol", "off")
        carol.send("<presence/>")
        got = carol.read_until("</message>")
        self.assertIn("kept", got)
        self.assertIn("urn:xmpp:delay", got)

    def test_announcements_are_for_administrators(self):
        bob = self.client("bob", "ann").presence()
        alice = self.client("alice", "ann")
        alice.send("<message to='announce@localhost' id='a'><body>psst</body></message>")
        self.assertIn("<forbidden ", alice.read_until("</message>"))
        admin = self.client("admin", "ann")
        admin.send("<message to='announce@localhost'><body>to all &amp; sundry</body></message>")
        self.assertIn("to all &amp; sundry", bob.read_until("</message>"))


class Roster(harness.Case):
    names = ("alice", "bob", "carol", "dave", "erin", "admin")

    def roster(self, client):
        client.send("<iq type='get' id='ros'><query xmlns='jabber:iq:roster'/></iq>")
        return client.read_until("id='ros' type='result'><query xmlns='jabber:iq:roster'/></iq>", "</query></iq>")

    def test_changes_are_pushed_to_every_resource_that_asked(self):
        one, two, quiet = (self.client("alice", r) for r in ("one", "two", "quiet"))
        self.roster(one), self.roster(two)
        one.send("<iq type='set' id='s1'><query xmlns='jabber:iq:roster'><item jid='x@localhost' name='X &amp; co'><group>g</group></item></query></iq>")
        for c in (one, two):
            self.assertIn("name='X &amp; co' subscription='none'", c.read_until("</query></iq>"))
        one.read_until("id='s1' type='result'/>")
        quiet.ping()
        self.assertNotIn("roster", quiet.buffer)
        one.send("<iq type='set' id='s2'><query xmlns='jabber:iq:roster'><item jid='x@localhost' subscription='remove'/></query></iq>")
        self.assertIn("subscription='remove'", two.read_until("</query></iq>"))
        one.read_until("id='s2' type='result'/>")
        one.send("<iq type='set' id='s3'><query xmlns='jabber:iq:roster'><item jid='x@localhost' subscription='remove'/></query></iq>")
        self.assertIn("item-not-found", one.read_until("</iq>"))

    def test_versions_spare_the_roster(self):
        bob = self.client("bob", "ver")
        bob.send("<iq type='get' id='v'><query xmlns='jabber:iq:roster' ver=''/></iq>")
        ver = re.search(r"ver='([^']+)'", bob.read_until("</iq>"))[1]
        bob.send(f"<iq type='get' id='w'><query xmlns='jabber:iq:roster' ver='{ver}'/></iq>")
        bob.read_until("id='w' type='result'/>")

    def test_a_request_waits_for_its_answer_and_survives_absence(self):
        dave = self.client("dave", "s").presence()
        self.roster(dave)
        dave.send("<presence type='subscribe' to='erin@localhost'><status>please</status></presence>")
        self.assertIn("ask='subscribe'", dave.read_until("</query></iq>"))
        dave.ping()
        time.sleep(0.3)
        erin = self.client("erin", "s")
        self.roster(erin)
        erin.send("<presence/>")
        self.assertIn("please", erin.read_until("</presence>"))
        erin.send("<presence type='subscribed' to='dave@localhost'/>")
        self.assertIn("subscription='to'", dave.read_until("</query></iq>"))
        dave.read_until("type='subscribed'")
        dave.read_until("<presence from='erin@localhost/s'")
        erin.read_until("subscription='from'")
        erin.send("<presence type='unsubscribed' to='dave@localhost'/>")
        dave.read_until("subscription='none'")
        dave.read_until("type='unavailable'", "type='unsubscribed'")


class Registration(harness.Case):
    def test_account_life(self):
        raw = self.raw()
        raw.header()
        self.assertIn("type='result'", raw.register("newcomer", "first pass"))
        self.assertIn("conflict", raw.register("newcomer", "other pass"))
        self.assertIn("conflict", raw.register("announce", "other pass"))
        user = self.raw().login("newcomer", "r", "first pass")
        user.send("<iq type='set' id='pw' to='localhost'><query xmlns='jabber:iq:register'><username>newcomer</username><password>second pass</password></query></iq>")
        user.read_until("id='pw' type='result'/>")
        user.send("<iq type='set' id='x' to='localhost'><query xmlns='jabber:iq:register'><username>alice</username><password>mine now</password></query></iq>")
        self.assertIn("not-allowed", user.read_until("</iq>"))
        old = self.raw()
        old.header()
        self.assertIn("not-authorized", old.plain("newcomer", "first pass"))
        again = self.raw().login("newcomer", "s", "second pass")
        again.send("<iq type='set' id='rm'><query xmlns='jabber:iq:register'><remove/></query></iq>")
        again.read_until("id='rm' type='result'/>")
        self.assertIn("not-authorized", again.read_to_end())
        gone = self.raw()
        gone.header()
        self.assertIn("not-authorized", gone.plain("newcomer", "second pass"))


class TwoReactors(Stanzas):
    reactors = 2


class Shutdown(unittest.TestCase):
    def test_a_stop_says_so_and_keeps_what_is_under_way(self):
        server = harness.Server().start()
        try:
            server.add("alice", "bob")
            alice = Raw(server).login("alice")
            for n in range(200):
                alice.send(f"<message to='bob@localhost' type='chat'><body>last {n}</body></message>")
            alice.ping()
            self.assertEqual(server.stop(), 0)
            self.assertIn("<system-shutdown ", alice.read_to_end())
            server.start()
            bob = Raw(server).login("bob")
            bob.send("<presence/>")
            for n in range(200):
                self.assertIn(f"last {n}<", bob.read_until("</message>"))
        finally:
            server.close()


if __name__ == "__main__":
    harness.main()
