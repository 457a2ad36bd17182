#!/usr/bin/python3
# Accounts as others see them: what a removal leaves behind, who may ask what an account is, and what the log says.
import re
import time
import unittest

import harness
from harness import Raw, password

info = "<query xmlns='http://jabber.org/protocol/disco#info'/>"


def befriend(one, two):
    """Both see each other's presence; both sides know it when this returns."""
    a, b = (c.address for c in (one, two))
    for asks, answers, to, at in ((one, two, b, a), (two, one, a, b)):
        asks.send(f"<presence type='subscribe' to='{to}'/>")
        answers.read_until("type='subscribe'")
        answers.send(f"<presence type='subscribed' to='{at}'/>")
        asks.read_until("type='subscribed'")
    for c in (one, two):
        while "subscription='both'" not in c.roster():
            time.sleep(0.05)


class Friend(Raw):
    def login(self, name, *args, **kw):
        super().login(name, *args, **kw)
        self.address = f"{name}@localhost"
        self.roster()
        return self.presence()

    def roster(self):
        self.asked = getattr(self, "asked", 0) + 1
        self.send(f"<iq type='get' id='roster{self.asked}'><query xmlns='jabber:iq:roster'/></iq>")
        self.read_until(f"id='roster{self.asked}' type='result'>")
        return self.read_until("<query xmlns='jabber:iq:roster'/></iq>", "</query></iq>")


class Removal(harness.Case):
    names = ("alice", "bob", "carol", "dave", "admin")

    def friend(self, name, resource="r", secret=password):
        raw = Friend(self.server)
        self.addCleanup(raw.close)
        return raw.login(name, resource, secret)

    def assert_forgotten(self, watcher, name):
        """The watcher was told everything; whoever has the name next inherits nothing."""
        got = watcher.read_until("subscription='none'") + watcher.read_until("</query></iq>")
        told = re.search(r"<presence[^>]*type='unavailable'[^>]*>", got)
        self.assertIn(f"from='{name}@localhost/r'", told and told[0])
        self.assertRegex(watcher.roster(), rf"jid='{name}@localhost'[^>]*subscription='none'")
        self.server.add(name)
        heir = self.friend(name)
        self.assertNotIn("<item", heir.roster())
        watcher.presence("<presence><status>after</status></presence>")
        heir.ping()
        time.sleep(0.2)
        heir.ping()
        self.assertNotIn("<status>after</status>", heir.buffer)
        watcher.buffer = ""
        heir.presence("<presence><status>heir</status></presence>")
        time.sleep(0.2)
        watcher.ping()
        self.assertNotIn("<status>heir</status>", watcher.buffer)

    def test_by_an_administrator(self):
        alice, bob = self.friend("alice"), self.friend("bob")
        befriend(alice, bob)
        self.assertEqual(self.server.cli("user", "remove", "alice@localhost", "--yes").returncode, 0)
        self.assertIn("<not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>", alice.read_to_end())
        self.assert_forgotten(bob, "alice")
        self.assertIn("account.removed", self.server.log.read_text())

    def test_of_somebody_who_is_not_there(self):
        carol, dave = self.friend("carol"), self.friend("dave")
        befriend(carol, dave)
        carol.send("</stream:stream>")
        carol.read_to_end()
        dave.read_until("type='unavailable'")
        self.assertEqual(self.server.cli("user", "remove", "carol@localhost", "--yes").returncode, 0)
        got = dave.read_until("subscription='none'")
        self.assertIn("carol@localhost", got)
        self.assertEqual(self.server.cli("user", "remove", "carol@localhost", "--yes").returncode, 4, "gone is gone")

    def test_the_answer_comes_before_the_end(self):
        for n in range(10):
            name = f"leaver{n}"
            stranger = self.raw()
            stranger.header()
            self.assertIn("type='result'", stranger.register(name))
            user = self.raw().login(name)
            to = ("", " to='localhost'")[n % 2]
            user.send(f"<iq type='set' id='rm'{to}><query xmlns='jabber:iq:register'><remove/></query></iq>")
            user.read_until("id='rm' type='result'/>")
            self.assertIn("not-authorized", user.read_to_end())


class RemovalOnTwo(Removal):
    reactors = 2


class Disco(harness.Case):
    def ask(self, client, to, what=info):
        client.counter = getattr(client, "counter", 0) + 1
        client.send(f"<iq type='get' id='d{client.counter}' to='{to}'>{what}</iq>")
        client.read_until(f"id='d{client.counter}'")
        return client.read_until("</iq>")

    def test_an_account_that_is_not_in_memory_knows_who_may_ask(self):
        alice, bob = (Friend(self.server).login(n) for n in ("alice", "bob"))
        befriend(alice, bob)
        self.server.stop()
        self.server.start()
        bob, carol = (self.client(n) for n in ("bob", "carol"))
        self.assertIn("category='account' type='registered'", self.ask(bob, "alice@localhost"))
        for to in ("alice@localhost", "nobody@localhost"):  # a stranger cannot tell them apart
            self.assertIn("<service-unavailable ", self.ask(carol, to))

    def test_the_announce_address_says_what_it_is(self):
        bob = self.client("bob", "disco")
        got = self.ask(bob, "announce@localhost")
        self.assertIn("<identity category='component' type='generic' name='Announcements'/>", got)
        self.assertIn("<feature var='http://jabber.org/protocol/disco#info'/>", got)
        self.assertIn("<query xmlns='http://jabber.org/protocol/disco#items'", self.ask(bob, "announce@localhost", "<query xmlns='http://jabber.org/protocol/disco#items'/>"))
        self.assertIn("<item-not-found ", self.ask(bob, "announce@localhost", info.replace("/>", " node='x'/>")))
        self.assertIn("<service-unavailable ", self.ask(bob, "announce@localhost", "<query xmlns='jabber:iq:version'/>"))


class Lines(harness.Case):
    """One line for each thing that an operator wants to know of."""
    tables = '[limits]\nstrangers_per_address = 20'

    def line(self, code, *words):
        for _ in range(100):
            for line in self.server.log.read_text().splitlines():
                if f" {code} " in line and all(w in line for w in words):
                    return line
            time.sleep(0.05)
        self.fail(f"no line {code} with {words}:\n" + self.server.log.read_text()[-3000:])

    def test_handshakes_stream_errors_kicks_registrations(self):
        raw = self.raw()
        raw.header()
        raw.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        raw.read_until("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        raw.send("this is no handshake" * 10)
        self.line("tls.failed", "peer=127.0.0.1:", "cause=")
        alice = self.client("alice", "bad")
        alice.send("<message from='bob@localhost'/>")
        alice.read_to_end()
        self.line("stream.closed", "jid=alice@localhost/bad", "peer=127.0.0.1:", "condition=invalid-from")
        bob = self.client("bob", "kicked")
        self.assertEqual(self.server.cli("kick", "bob@localhost/kicked", "--reason", "out of here", "--yes").returncode, 0)
        bob.read_to_end()
        self.line("session.kicked", "jid=bob@localhost/kicked", "out of here")
        stranger = self.raw()
        stranger.header()
        stranger.register("announce")
        self.line("register.refused", "jid=announce@localhost", "peer=127.0.0.1", "error=conflict")

    def test_too_many_strangers(self):
        crowd = [self.raw() for _ in range(25)]
        self.line("connection.refused", "peer=127.0.0.1")
        for raw in crowd:
            raw.close()


class Networks(harness.Case):
    tables = '[host."localhost".modules.register]\nallow_from = ["192.0.2.0/24"]\n'

    def test_strangers_from_elsewhere_get_no_account(self):
        raw = self.raw()
        raw.header()
        self.assertIn("<forbidden ", raw.register("somebody"))


if __name__ == "__main__":
    harness.main()
