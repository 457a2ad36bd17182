#!/usr/bin/python3
# Stream management, resumption, client state and carbons, seen from outside (XEP-0198, XEP-0352, XEP-0280). Once with
# one reactor, once with two.
import re
import time
import unittest

import harness
import test_sasl2 as sasl2

sm = "urn:xmpp:sm:3"


class Management(harness.Case):
    names = ("alice", "bob", "carol", "admin", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "mallory")
    tables = "[management]\nwindow = \"4s\"\nack_timeout = \"5s\"\n"

    def managed(self, name, resource="r", resume=True, presence=True):
        c = self.client(name, resource)
        if presence:
            c.presence()
        wish = " resume='true'" if resume else ""
        c.send(f"<enable xmlns='{sm}'{wish}/>")
        c.read_until("<enabled ")
        c.enabled = c.read_until("/>")
        c.id = (re.search(" id='([^']*)'", c.enabled) or [None, None])[1]
        c.jid = f"{name}@localhost/{resource}"
        return c

    def resume(self, name, previd, h):
        c = self.raw()
        c.header()
        self.assertIn("success", c.plain(name))
        c.header()
        c.send(f"<resume xmlns='{sm}' previd='{previd}' h='{h}'/>")
        c.answer = c.read_until("</failed>", "/>")
        return c

    def chat(self, c, to, text):
        c.send(f"<message to='{to}' type='chat' id='{text}'><body>{text}</body></message>")

    def said(self, c):
        """The count of the server's next answer, whatever presence comes before it (other tests' resources go, too)."""
        c.read_until("<a xmlns", "<a ")
        return int(re.search("h='([0-9]+)'", c.read_until("/>"))[1])

    def ack(self, c):
        """What the server says it has handled."""
        c.send(f"<r xmlns='{sm}'/>")
        return self.said(c)

    # --- counts

    def test_offered_enabled_once_and_counted(self):
        c = self.raw()
        c.header()
        c.plain("alice")
        self.assertIn(f"<sm xmlns='{sm}'/>", c.header())
        c.send(f"<enable xmlns='{sm}'/>")
        self.assertIn("unexpected-request", c.read_until("</failed>"), "no resource is bound")
        c.bind("counted")
        c.send(f"<r xmlns='{sm}'/>")
        self.assertIn("unexpected-request", c.read_until("</failed>"))
        c.send(f"<enable xmlns='{sm}'/>")
        self.assertEqual(c.read_until("/>"), f"<enabled xmlns='{sm}'/>")
        c.send(f"<enable xmlns='{sm}'/>")
        self.assertIn("unexpected-request", c.read_until("</failed>"))
        self.assertEqual(self.ack(c), 0)
        c.ping()
        c.presence()
        self.assertEqual(self.ack(c), 3)
        c.send(f"<resume xmlns='{sm}' previd='x' h='0'/>")
        self.assertIn("unexpected-request", c.read_until("</failed>"), "it is bound")

    def test_all_in_one_write(self):
        c = self.raw()
        c.header()
        c.plain("alice")
        c.header()
        c.send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>hurry</resource></bind></iq>"
               f"<enable xmlns='{sm}' resume='true'/><presence/><iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq><r xmlns='{sm}'/>")
        c.read_until("/hurry</jid>")
        c.read_until("<enabled ")
        self.assertEqual(self.said(c), 2)

    def test_asked_again_and_again(self):
        c = self.managed("carol", "impatient")
        for _ in range(3):  # each is answered, those without news within 100 ms of the last
            self.assertEqual(self.ack(c), 0)
        c.send(f"<presence/><r xmlns='{sm}'/>" * 3)
        said = 0
        while said < 3:  # one answer for several, where they came together
            said = self.said(c)
        self.assertEqual(said, 3)

    def test_a_count_that_is_too_high_ends_the_stream(self):
        for h in (1000, 4294967295):
            c = self.managed("mallory", f"high{h}")
            c.send(f"<a xmlns='{sm}' h='{h}'/>")
            got = c.read_to_end()
            self.assertIn("<undefined-condition ", got)
            self.assertRegex(got, f"<handled-count-too-high xmlns='{sm}' h='{h}' send-count='[0-9]+'/>")
            self.assertTrue(got.endswith("</stream:stream>"))

    def test_a_malformed_count_is_answered(self):
        c = self.managed("mallory", "malformed")
        c.send(f"<a xmlns='{sm}' h='many'/>")
        self.assertIn("<bad-request ", c.read_until("</failed>"))
        c.ping()

    def test_the_server_asks_and_acks_without_being_asked(self):
        bob = self.managed("bob", "asked")
        alice = self.managed("alice", "asks")
        self.chat(alice, bob.jid, "m1")
        bob.read_until("<body>m1</body>")
        bob.read_until(f"<r xmlns='{sm}'/>")
        alice.send(f"<r xmlns='{sm}'/>")
        self.assertEqual(self.said(alice), 0, "nobody has it yet")
        bob.send(f"<a xmlns='{sm}' h='1'/>")
        self.assertEqual(self.said(alice), 1, "unasked, as the last answer did not cover everything")

    def test_what_is_not_acknowledged_is_stored_and_not_given_twice(self):
        carol = self.managed("carol", "slow")
        alice = self.managed("alice", "spools")
        self.chat(alice, "carol@localhost", "late")
        carol.read_until("<body>late</body>")
        alice.send(f"<r xmlns='{sm}'/>")
        self.assertEqual(self.said(alice), 0)
        alice.socket.settimeout(10)
        alice.read_until(f"<a xmlns='{sm}' h='1'/>")  # stored after half a second
        second = self.client("carol", "second").presence()
        self.assertNotIn("late", second.ping(), "its session still tries")
        carol.send(f"<a xmlns='{sm}' h='1'/>")
        carol.ping()
        carol.send("</stream:stream>")
        carol.read_to_end()
        third = self.client("carol", "third").presence()
        self.assertNotIn("late", third.ping() + second.ping(), "it was acknowledged")

    def test_what_is_acknowledged_with_the_last_bytes_is_not_given_again(self):
        alice = self.managed("alice", "lasts")
        for n, end in enumerate(("", "</stream:stream>", "<not></well-formed>") * 3):
            grace = self.managed("grace", f"last{n}", resume=False)
            self.chat(alice, grace.jid, f"last {n}")
            grace.read_until(f"<body>last {n}</body>")
            grace.send(f"<a xmlns='{sm}' h='1'/><message to='alice@localhost/lasts' type='chat'><body>heard {n}</body></message>" + end)
            grace.close()
            alice.read_until(f"<body>heard {n}</body>")
        again = self.client("grace", "again").presence()
        self.assertNotIn("last ", again.ping())

    def test_a_goodbye_with_open_messages_stores_them(self):
        dave = self.managed("dave", "gone")
        alice = self.managed("alice", "stores")
        self.chat(alice, dave.jid, "kept")
        dave.read_until("<body>kept</body>")
        dave.send("</stream:stream>")
        dave.read_to_end()
        again = self.client("dave", "again").presence()
        again.read_until("<body>kept</body>")

    # --- resumption

    def test_resumed_with_everything_once_and_in_order(self):
        erin = self.managed("erin", "cut")
        watcher = self.client("erin", "watcher").presence()
        watcher.ping()
        alice = self.client("alice", "sends")
        for n in range(3):
            self.chat(alice, erin.jid, f"before{n}")
        erin.read_until("<body>before2</body>")
        h = 3 + 1  # and the presence of the other resource
        erin.close()
        time.sleep(0.3)
        for n in range(3):
            self.chat(alice, erin.jid, f"while{n}")
        alice.ping()
        erin2 = self.resume("erin", erin.id, h)
        self.assertIn(f"<resumed xmlns='{sm}' previd='{erin.id}' h='0'/>", erin2.answer)
        got = erin2.read_until("<body>while2</body>")
        self.assertEqual(re.findall("<body>([^<]*)</body>", got), ["while0", "while1", "while2"])
        self.assertNotIn("unavailable", watcher.ping(), "nobody noticed")
        self.chat(erin2, "alice@localhost/sends", "back")
        alice.read_until("<body>back</body>")
        erin2.send(f"<r xmlns='{sm}'/>")
        erin2.read_until(f"<a xmlns='{sm}' h='1'/>")  # the first answer may have been before alice's node said so

    def test_resumed_while_the_old_connection_seems_alive(self):
        frank = self.managed("frank", "twice")
        alice = self.client("alice", "twice")
        self.chat(alice, frank.jid, "one")
        frank.read_until("<body>one</body>")
        second = self.resume("frank", frank.id, 0)
        self.assertIn("<resumed ", second.answer)
        second.read_until("<body>one</body>")
        self.assertIn("<conflict ", frank.read_to_end())
        self.chat(alice, frank.jid, "two")
        second.read_until("<body>two</body>")
        third = self.resume("frank", frank.id, 2)
        self.assertIn("<resumed ", third.answer, "the id stays, however often")
        self.assertIn("<conflict ", second.read_to_end())
        self.chat(alice, frank.jid, "three")
        third.read_until("<body>three</body>")

    def test_resumption_of_the_unknown_the_foreign_and_the_forged(self):
        grace = self.managed("grace", "mine")
        forged = grace.id[:10] + ("A" if grace.id[10] != "A" else "B") + grace.id[11:]
        for name, previd in (("mallory", grace.id), ("grace", forged), ("grace", "x"), ("grace", "A" * 5000)):
            with self.subTest(previd[:20]):
                c = self.resume(name, previd, 0)
                self.assertIn("<item-not-found ", c.answer)
                self.assertIn("<jid>", c.bind("fresh"), "the stream goes on")
        for h in ("many", "-1", ""):
            c = self.resume("grace", grace.id, h)
            self.assertIn("<bad-request ", c.answer)
        c = self.resume("grace", grace.id, 77)
        self.assertIn("<item-not-found ", c.answer, "it cannot have handled so many")
        self.assertIn("<resumed ", self.resume("grace", grace.id, 0).answer, "and nothing of it hurt")

    def test_not_resumed_in_time(self):
        heidi = self.managed("heidi", "late").presence("<presence><show>away</show></presence>")
        watcher = self.client("heidi", "watcher").presence()
        watcher.ping()
        alice = self.managed("alice", "late")
        self.chat(alice, heidi.jid, "lost1")
        heidi.read_until("<body>lost1</body>")
        heidi.close()
        time.sleep(0.2)
        self.chat(alice, heidi.jid, "lost2")
        alice.send("<iq type='get' id='q' to='heidi@localhost/late'><q xmlns='urn:x'/></iq>")
        watcher.socket.settimeout(10)
        got = watcher.read_until("<body>lost2</body>")
        if "type='unavailable'" not in got:  # another pair: nothing says which comes first
            watcher.read_until("type='unavailable'")
        self.assertEqual(re.findall("<body>([^<]*)</body>", got), ["lost1", "lost2"], "another device has them now")
        self.assertIn("<service-unavailable ", alice.read_until("</iq>"))
        self.assertIn("from='localhost' stamp='", got.split("<body>lost1</body>")[1].split("</message>")[0], "it says that it is late")
        answer = self.resume("heidi", heidi.id, 0).answer
        self.assertIn("<item-not-found ", answer)
        self.assertIn(" h='2'", answer, "what was handled of what it sent after <enable/>: presence and a ping")
        self.assertNotIn(" h=", self.resume("alice", heidi.id, 0).answer, "not for another account")

    def test_without_resumption_the_session_ends_with_its_connection(self):
        ivan = self.managed("ivan", "short", resume=False)
        self.assertNotIn("id=", ivan.enabled)
        alice = self.managed("alice", "short")
        self.chat(alice, ivan.jid, "open")
        ivan.read_until("<body>open</body>")
        ivan.close()
        ivan = self.client("ivan", "next")
        ivan.send("<presence/>")
        ivan.read_until("<body>open</body>")

    def test_a_client_that_does_not_answer_has_lost_its_connection(self):
        judy = self.managed("judy", "deaf")
        alice = self.client("alice", "deaf")
        self.chat(alice, judy.jid, "hello")
        judy.read_until("<body>hello</body>")
        judy.socket.settimeout(15)
        judy.read_to_end()
        self.assertIn("<resumed ", self.resume("judy", judy.id, 0).answer)

    def test_one_round_trip_back_by_the_modern_login(self):
        # XEP-0388, 0386, 0484: bound with everything at once, then resumed with a token
        inner = (f"<bind xmlns='urn:xmpp:bind:0'><tag>T</tag><enable xmlns='{sm}' resume='true'/><enable xmlns='urn:xmpp:carbons:2'/>"
                 f"<inactive xmlns='urn:xmpp:csi:0'/></bind>")
        c = self.raw()
        offer = c.header()
        for feature in (sm, "urn:xmpp:carbons:2", "urn:xmpp:csi:0"):
            self.assertIn(f"<feature var='{feature}'/>", offer)
        got = sasl2.by_password(c, sasl2.agent(sasl2.phone) + sasl2.request() + inner, name="grace")
        previd = re.search(f"<bound xmlns='urn:xmpp:bind:0'><enabled xmlns='{sm}' id='([^']*)' resume='true'", got)[1]
        token = sasl2.token_in(got)
        full = re.search("<authorization-identifier>([^<]*)<", got)[1]
        c.send("<presence/>")
        alice = self.client("alice", "modern")
        other = self.client("grace", "other")
        self.chat(other, "alice@localhost/modern", "copied")
        self.assertIn("<sent ", c.read_until("<body>copied</body>"), "carbons came with the resource")
        self.chat(alice, full, "first")
        c.read_until("<body>first</body>")
        c.close()
        time.sleep(0.2)
        self.chat(alice, full, "second")
        alice.ping()
        back = self.raw()
        back.header()
        resume = f"<resume xmlns='{sm}' previd='{previd}' h='3'/>"  # the own presence, a copy, the message
        got = sasl2.by_token(back, token, inner=resume, name="grace")
        self.assertIn(f"<resumed xmlns='{sm}' previd='{previd}' h='", got)
        self.assertEqual(re.findall("<body>([^<]*)</body>", back.read_until("<body>second</body>")), ["second"])
        back.ping()
        gone = self.raw()
        gone.header()
        got = sasl2.by_password(gone, sasl2.agent(sasl2.laptop) + f"<resume xmlns='{sm}' previd='nothing' h='0'/>" + inner, name="grace")
        self.assertRegex(got, f"<failed xmlns='{sm}'><item-not-found")
        self.assertIn("<bound ", got, "what cannot be resumed is bound")

    # --- client state

    def test_an_inactive_client_hears_of_what_is_urgent(self):
        bob = self.client("bob", "sleeps").presence()
        other = self.client("bob", "talks").presence()
        bob.ping()
        bob.send("<inactive xmlns='urn:xmpp:csi:0'/>")
        bob.ping()
        for show in ("away", "xa", "dnd"):
            other.presence(f"<presence><show>{show}</show></presence>")
        other.send("<message to='bob@localhost/sleeps' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>")
        other.ping()
        bob.send("<iq type='get' id='quiet' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>")
        got = bob.read_until("id='quiet' type='result'/>")
        self.assertEqual(got.count("<presence"), 1, "superseded ones are gone; an answer brings the rest along")
        self.assertIn("<show>dnd</show>", got)
        self.assertIn("<composing ", got)
        other.presence("<presence><show>chat</show></presence>")
        other.send("<message to='bob@localhost/sleeps' type='chat'><body>urgent</body></message>")
        got = bob.read_until("<body>urgent</body>")
        self.assertLess(got.index("<show>chat</show>"), got.index("urgent"))
        other.presence("<presence><show>xa</show></presence>")
        bob.send("<active xmlns='urn:xmpp:csi:0'/>")
        bob.read_until("<show>xa</show>")

    # --- carbons

    def copies(self, c):
        c.send("<iq type='set' id='carbons'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
        got = c.read_until("id='carbons'") + c.read_until("/>")
        self.assertIn("type='result'", got)
        return got

    def count(self, got):
        """Stanzas in what has come: all that begins one and is not inside a copy."""
        return got.count("<iq ") + got.count("<presence ") + got.count("<received ")

    def test_carbons_of_what_is_sent_and_received(self):
        one, two = self.client("carol", "one").presence(), self.client("carol", "two").presence()
        self.copies(two)
        bob = self.client("bob", "talks2").presence()
        self.chat(bob, "carol@localhost/one", "to-one")
        one.read_until("<body>to-one</body>")
        got = two.read_until("</received></message>")
        self.assertRegex(got, "<message from='carol@localhost' to='carol@localhost/two' type='chat'><received xmlns='urn:xmpp:carbons:2'>"
                              "<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='bob@localhost/talks2' ")
        self.assertIn("<body>to-one</body>", got)
        self.chat(one, "bob@localhost/talks2", "from-one")
        bob.read_until("<body>from-one</body>")
        got = two.read_until("</sent></message>")
        self.assertIn("<body>from-one</body>", got)
        self.assertIn(" from='carol@localhost/one'", got)
        for extra in ("<private xmlns='urn:xmpp:carbons:2'/>", "<no-copy xmlns='urn:xmpp:hints'/>"):
            one.send(f"<message to='bob@localhost/talks2' type='chat'><body>secret</body>{extra}</message>")
            bob.read_until("<body>secret</body>")
        self.chat(bob, "carol@localhost", "to-both")
        self.assertEqual(one.read_until("<body>to-both</body>").count("<received "), 0)
        got = two.read_until("<body>to-both</body>")
        self.assertNotIn("<received ", got, "it has the message itself")
        self.assertNotIn("secret", got)

    def test_forged_copies_are_refused(self):
        bob = self.client("bob", "forges")
        bob.send("<message to='carol@localhost' type='chat' id='f'><received xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>"
                 "<message xmlns='jabber:client' from='x@y'><body>forged</body></message></forwarded></received></message>")
        bob.read_until("<forbidden ")
        bob.send("<iq type='set' id='c' to='carol@localhost'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
        self.assertIn("<forbidden ", bob.read_until("</iq>"))

    def test_a_copy_that_was_acknowledged_counts_as_delivered(self):
        phone, desk = self.managed("dave", "phone"), self.managed("dave", "desk")
        phone.ping()
        got = self.copies(desk)
        alice = self.managed("alice", "counts")
        self.chat(alice, phone.jid, "once")
        phone.read_until("<body>once</body>")
        got += desk.read_until("</received></message>")
        desk.send(f"<a xmlns='{sm}' h='{self.count(got)}'/>")
        alice.send(f"<r xmlns='{sm}'/>")
        self.assertEqual(self.said(alice) or self.said(alice), 1)
        phone.close()
        time.sleep(5)  # its window closes
        self.assertNotIn("once", desk.ping(), "it is not sent to the other device again")


class ManagementOnTwoReactors(Management):
    reactors = 2


if __name__ == "__main__":
    harness.main()
