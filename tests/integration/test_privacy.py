#!/usr/bin/python3
# Who reaches whom: blocking with reports, unsolicited messages, pre-approved subscriptions, limits of rosters.
import asyncio

import aioxmpp
import aioxmpp.blocking
import slixmpp

import harness
import test_clients
from test_clients import run


def block(*items, verb="block"):
    inside = "".join(f"<item jid='{i}'/>" for i in items)
    return f"<iq type='set' id='b'><{verb} xmlns='urn:xmpp:blocking'>{inside}</{verb}></iq>"


class Befriended(harness.Case):
    def ask(self, who, text):
        """The answer with the id 'b', and what came before it."""
        who.send(text)
        got = who.read_until("id='b'") + who.read_until(">")
        return got if got.endswith("/>") else got + who.read_until("</iq>")

    def interested(self, who):
        """It gets roster pushes and answers to subscriptions."""
        self.ask(who, "<iq type='get' id='b'><query xmlns='jabber:iq:roster'/></iq>")
        return who

    def befriend(self, one, other, a, b):
        """Both see each other's presence; `one` and `other` are their streams."""
        self.interested(one)
        self.interested(other)
        one.send(f"<presence type='subscribe' to='{b}@localhost'/>")
        other.read_until("type='subscribe'")
        other.send(f"<presence type='subscribed' to='{a}@localhost'/><presence type='subscribe' to='{a}@localhost'/>")
        seen = one.read_until("type='subscribe'")
        one.send(f"<presence type='subscribed' to='{b}@localhost'/>")
        other.read_until("type='subscribed'")
        other.read_until(f"<presence from='{a}@localhost/")
        if f"<presence from='{b}@localhost/" not in seen:
            one.read_until(f"<presence from='{b}@localhost/")
        one.ping()
        other.ping()
        one.buffer = other.buffer = ""

    def silence(self, who, unwanted):
        who.ping()
        self.assertNotIn(unwanted, who.buffer)


class Blocking(Befriended):
    names = ("alice", "bob", "carol", "dave", "erin", "frank", "admin")

    def test_every_kind_of_stanza_both_ways(self):
        alice, bob = self.client("alice").presence(), self.client("bob").presence()
        self.befriend(alice, bob, "alice", "bob")
        self.assertIn("type='result'", self.ask(alice, block("bob@localhost")))
        self.assertIn("type='unavailable'", bob.read_until("from='alice@localhost/r'", "/>") + bob.read_until("/>"))
        for to in ("alice@localhost", "alice@localhost/r"):
            bob.send(f"<message to='{to}' type='chat' id='m'><body>psst</body></message>")
            self.assertIn("service-unavailable", bob.read_until("</message>"))
            bob.send(f"<iq to='{to}' type='get' id='q'><query xmlns='jabber:iq:version'/></iq>")
            self.assertIn("service-unavailable", bob.read_until("</iq>"))
        bob.send("<presence><status>blocked</status></presence><presence to='alice@localhost'><status>blocked</status></presence>"
                 "<presence type='subscribe' to='alice@localhost'/><presence type='probe' to='alice@localhost'/>")
        bob.ping()
        for text in ("<message to='bob@localhost' id='b'><body>x</body></message>", "<iq to='bob@localhost/r' type='get' id='b'><q xmlns='x'/></iq>",
                     "<presence to='bob@localhost/r' id='b'/>", "<presence type='subscribe' to='bob@localhost' id='b'/>"):
            alice.send(text)
            got = alice.read_until("</error>")
            self.assertIn("<not-acceptable ", got)
            self.assertIn("<blocked xmlns='urn:xmpp:blocking:errors'/>", got)
        self.silence(alice, "blocked</status>")
        alice.send("<presence><status>hidden</status></presence>")
        alice.ping()
        self.silence(bob, "hidden")
        got = self.ask(alice, block("bob@localhost", verb="unblock"))
        self.assertIn("type='result'", got)
        self.assertIn("hidden", bob.read_until("</presence>"))
        if "<status>blocked</status>" not in got:
            alice.read_until("<status>blocked</status>")  # was asked for again
        bob.send("<message to='alice@localhost' type='chat'><body>at last</body></message>")
        alice.read_until("at last")

    def test_the_list_outlives_sessions_and_pushes_go_to_who_asked(self):
        carol = self.client("carol", "one").presence()
        other = self.client("carol", "two").presence()
        self.assertIn("<blocklist xmlns='urn:xmpp:blocking'/>", self.ask(other, "<iq type='get' id='b'><blocklist xmlns='urn:xmpp:blocking'/></iq>"))
        self.ask(carol, block("example.net", "x@example.org/y"))
        push = other.read_until("</iq>")
        self.assertIn("from='carol@localhost'", push)
        self.assertIn("<item jid='example.net'/>", push)
        self.silence(carol, "<block ")
        carol.close()
        other.close()
        again = self.client("carol", "three")
        again.send("<message to='any@example.net' id='b'><body>x</body></message>")  # before anything else is said
        self.assertIn("<blocked ", again.read_until("</message>"))
        got = self.ask(again, "<iq type='get' id='b'><blocklist xmlns='urn:xmpp:blocking'/></iq>")
        self.assertEqual(got.count("<item "), 2)
        self.assertIn("type='result'", self.ask(again, "<iq type='set' id='b'><unblock xmlns='urn:xmpp:blocking'/></iq>"))
        self.assertIn("<blocklist xmlns='urn:xmpp:blocking'/>", self.ask(again, "<iq type='get' id='b'><blocklist xmlns='urn:xmpp:blocking'/></iq>"))

    def test_who_is_away_is_protected_too(self):
        dave = self.client("dave")
        self.ask(dave, block("erin@localhost"))
        dave.close()
        erin = self.client("erin")
        erin.send("<message to='dave@localhost' type='chat'><body>kept?</body></message>")
        self.assertIn("service-unavailable", erin.read_until("</message>"))
        dave = self.client("dave").presence()
        self.silence(dave, "kept?")

    def test_the_largest_list_and_one_more(self):
        frank = self.client("frank")
        self.assertIn("type='result'", self.ask(frank, block(*(f"user{n}@spam.example" for n in range(1000)))))
        self.assertIn("<resource-constraint ", self.ask(frank, block("one@more.example")))
        for bad, wanted in ((block(), "bad-request"), (block("a b@c"), "jid-malformed")):
            self.assertIn(wanted, self.ask(frank, bad))
        frank.send("<message to='user999@spam.example'><body>x</body></message>")
        self.assertIn("<blocked ", frank.read_until("</message>"))
        self.server.cli("user", "remove", "frank@localhost", "--yes")
        self.server.add("frank")
        frank = self.client("frank", "new")
        self.assertIn("<blocklist xmlns='urn:xmpp:blocking'/>", self.ask(frank, "<iq type='get' id='b'><blocklist xmlns='urn:xmpp:blocking'/></iq>"))

    def test_a_report_reaches_log_metrics_and_administrator(self):
        admin, erin = self.client("admin").presence(), self.client("erin")
        self.ask(erin, "<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'><item jid='spammer@example.net'><report xmlns='urn:xmpp:reporting:1' "
                       "reason='urn:xmpp:reporting:spam'><text>cheap watches</text></report></item></block></iq>")
        self.assertIn("erin@localhost reports spammer@example.net", admin.read_until("cheap watches"))
        self.assertIn("abuse.reported", self.server.log.read_text())
        self.assertRegex(self.server.cli("stats").stdout, r'covey_abuse_reports_total.*spam.* 1\b')

    def test_disco(self):
        alice = self.client("alice", "disco")
        alice.send("<iq type='get' to='localhost' id='d'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
        got = alice.read_until("</iq>")
        self.assertIn("'urn:xmpp:blocking'", got)
        self.assertIn("'urn:xmpp:reporting:1'", got)


class Clients(test_clients.Aioxmpp):
    names = ("juliet", "romeo", "alice")
    test_register_subscribe_chat_offline = None

    def test_aioxmpp_blocks(self):
        async def steps():
            juliet = self.client("juliet")
            service = juliet.summon(aioxmpp.BlockingClient)
            changed = asyncio.Queue()
            service.on_jids_blocked.connect(lambda jids: changed.put_nowait(jids) and False)
            romeo = aioxmpp.JID.fromstr("romeo@localhost")
            async with juliet.connected():
                if not hasattr(service, "blocklist"):
                    await asyncio.sleep(0.2)
                await service.block_jids([romeo])
                self.assertEqual(await asyncio.wait_for(changed.get(), 10), frozenset([romeo]))
                self.assertIn(romeo, service.blocklist)
                await service.unblock_jids([romeo])
                await service.block_jids([romeo])
                await service.unblock_all()
        run(steps)

    def test_slixmpp_blocks(self):
        async def steps():
            xmpp = slixmpp.ClientXMPP("alice@localhost/slix", harness.password, sasl_mech="PLAIN")
            xmpp.ca_certs = str(self.server.authority)
            xmpp.register_plugin("xep_0191")
            started = asyncio.get_running_loop().create_future()
            xmpp.add_event_handler("session_start", lambda _: started.done() or started.set_result(True))
            xmpp.connect(("127.0.0.1", self.server.port))
            await asyncio.wait_for(started, 20)
            blocking = xmpp["xep_0191"]
            await blocking.block("iago@localhost")
            got = await blocking.get_blocked()
            self.assertEqual({str(j) for j in got["blocklist"]["items"]}, {"iago@localhost"})
            await blocking.unblock("iago@localhost")
            self.assertFalse((await blocking.get_blocked())["blocklist"]["items"])
            xmpp.abort()
        run(steps)


class Unsolicited(Befriended):
    tables = "[modules.unsolicited]\non = true"

    def test_only_who_is_known_gets_through(self):
        alice, bob = self.client("alice").presence(), self.client("bob").presence()
        bob.send("<message to='alice@localhost' type='chat'><body>buy this</body></message>")
        self.assertIn("service-unavailable", bob.read_until("</message>"))
        self.silence(alice, "buy this")
        alice.send("<message to='bob@localhost' type='chat'><body>what is it?</body></message>")
        bob.read_until("what is it?")
        bob.send("<message to='alice@localhost' type='chat'><body>watches</body></message>")
        alice.read_until("watches")

    def test_contacts_of_who_is_away(self):
        carol, bob = self.client("carol").presence(), self.client("bob", "x").presence()
        self.befriend(carol, bob, "carol", "bob")
        carol.close()
        bob.read_until("type='unavailable'")
        bob.send("<message to='carol@localhost' type='chat'><body>for later</body></message>")
        bob.ping()
        carol = self.client("carol")
        carol.send("<presence/>")
        carol.read_until("for later")


class Rosters(Befriended):
    extra = "limits.roster = 3"

    def test_pre_approval(self):
        raw = self.raw()
        raw.header()
        raw.plain("alice")
        self.assertIn("<sub xmlns='urn:xmpp:features:pre-approval'/>", raw.header())
        raw.bind("r")
        alice = raw.presence()
        self.interested(alice)
        alice.send("<presence type='subscribed' to='bob@localhost'/>")
        self.assertIn("approved='true'", alice.read_until("</iq>"))
        bob = self.interested(self.client("bob").presence())
        bob.send("<presence type='subscribe' to='alice@localhost'/>")
        bob.read_until("type='subscribed'")
        bob.read_until("from='alice@localhost/r'")
        push = alice.read_until("</iq>")
        self.assertIn("subscription='from'", push)
        self.assertNotIn("approved", push)
        self.silence(alice, "type='subscribe'")
        alice.send("<presence type='subscribed' to='carol@localhost'/>")
        alice.read_until("approved='true'")
        alice.send("<presence type='unsubscribed' to='carol@localhost'/>")  # taken back
        self.assertNotIn("approved", alice.read_until("</iq>"))
        carol = self.client("carol").presence()
        carol.send("<presence type='subscribe' to='alice@localhost'/>")
        alice.read_until("type='subscribe'")

    def test_a_roster_has_its_limit(self):
        admin = self.client("admin")
        for n in range(3):
            self.assertIn("type='result'", self.ask(admin, f"<iq type='set' id='b'><query xmlns='jabber:iq:roster'><item jid='c{n}@x.example'/></query></iq>"))
        full = self.ask(admin, "<iq type='set' id='b'><query xmlns='jabber:iq:roster'><item jid='c3@x.example'/></query></iq>")
        self.assertIn("<resource-constraint ", full)
        self.assertIn("the roster is full", full)
        for kind in ("subscribe", "subscribed"):
            admin.send(f"<presence type='{kind}' to='c4@x.example' id='p'/>")
            self.assertIn("<resource-constraint ", admin.read_until("</presence>"))
        self.assertIn("type='result'", self.ask(admin, "<iq type='set' id='b'><query xmlns='jabber:iq:roster'><item jid='c1@x.example' name='known'/></query></iq>"))
        self.ask(admin, "<iq type='set' id='b'><query xmlns='jabber:iq:roster'><item jid='c1@x.example' subscription='remove'/></query></iq>")
        self.assertIn("type='result'", self.ask(admin, "<iq type='set' id='b'><query xmlns='jabber:iq:roster'><item jid='c3@x.example'/></query></iq>"))


if __name__ == "__main__":
    harness.main()
