#!/usr/bin/python3
# Who gets a stanza, seen from outside (RFC 6121 sections 4, 5, 8): each type of message to each kind of address,
# presence to those who may see it, requests between clients. Once with one reactor, once with two.
import unittest

import harness


class Delivery(harness.Case):
    names = ("alice", "bob", "carol", "admin", "hidden", "never", "mary", "nick", "olga", "paul", "quinn", "rosa")
    counter = 0

    def fence(self, sender, receiver, to):
        """Everything that the sender sent to the receiver before has come, or will not come. What has come."""
        Delivery.counter += 1
        mark = f"fence{Delivery.counter}"
        sender.send(f"<message to='{to}' type='chat'><body>{mark}</body></message>")
        return receiver.read_until(f"<body>{mark}</body>")

    def settled(self, sender, account):
        """What has come until this account has handled everything that the sender sent to it."""
        Delivery.counter += 1
        mark = f"settled{Delivery.counter}"
        sender.send(f"<iq to='{account}@localhost/gone' type='get' id='{mark}'><q xmlns='urn:x'/></iq>")
        got = sender.read_until(f"id='{mark}'")
        sender.read_until("</iq>")
        return got

    def send(self, sender, to, kind, body):
        sender.send(f"<message to='{to}' type='{kind}' id='{body}'><body>{body}</body></message>")
        sender.ping()

    def test_to_a_bare_address_with_somebody_there(self):
        bob = self.client("bob", "there").presence()
        alice = self.client("alice", "sender")
        alice.ping()
        for kind, arrives in (("normal", True), ("chat", True), ("headline", True), ("groupchat", False), ("error", False)):
            with self.subTest(kind):
                self.send(alice, "bob@localhost", kind, f"bare-{kind}")
                self.assertEqual(f"<body>bare-{kind}</body>" in self.fence(alice, bob, "bob@localhost/there"), arrives)
        self.assertIn("<service-unavailable ", self.error_for(alice, "bob@localhost", "groupchat"))

    def error_for(self, sender, to, kind):
        sender.send(f"<message to='{to}' type='{kind}' id='why'><body>x</body></message>")
        sender.read_until("id='why'")  # errors of what was sent before may come first
        answer = sender.read_until("</message>")
        self.assertIn("type='error'", answer)
        return answer

    def test_a_headline_reaches_every_resource_that_is_ready(self):
        ready = [self.client("carol", r).presence() for r in ("one", "two")]
        shy = self.client("carol", "shy").presence("<presence><priority>-5</priority></presence>")
        alice = self.client("alice", "head")
        self.send(alice, "carol@localhost", "headline", "extra")
        for c, r in zip(ready, ("one", "two")):
            self.assertEqual(self.fence(alice, c, f"carol@localhost/{r}").count("<body>extra</body>"), 1)
        self.assertNotIn("extra", self.fence(alice, shy, "carol@localhost/shy"))

    def test_what_waits_for_one_who_is_away_and_what_does_not(self):
        alice = self.client("alice", "away")
        for kind in ("normal", "chat", "headline", "error"):
            self.send(alice, "hidden@localhost", kind, f"away-{kind}")
        self.send(alice, "hidden@localhost/gone", "chat", "away-full")
        self.assertIn("<service-unavailable ", self.error_for(alice, "hidden@localhost", "groupchat"))
        shy = self.client("hidden", "shy").presence("<presence><priority>-1</priority></presence>")
        self.assertNotIn("away-", self.fence(alice, shy, "hidden@localhost/shy"))  # kept for one who wants them
        shy.send("<presence/>")
        shy.read_until("<body>away-normal</body>")
        shy.read_until("<body>away-chat</body>")
        shy.read_until("<body>away-full</body>")
        self.assertNotIn("away-", self.fence(alice, shy, "hidden@localhost/shy"))

    def test_to_a_resource_that_is_not_there(self):
        bob = self.client("bob", "other").presence()
        alice = self.client("alice", "full")
        self.send(alice, "bob@localhost/gone", "chat", "chat-anyway")  # like one to the bare address
        self.assertIn("<body>chat-anyway</body>", self.fence(alice, bob, "bob@localhost/other"))
        alice.send("<iq to='bob@localhost/gone' type='get' id='g'><q xmlns='urn:x'/></iq>")
        self.assertIn("<service-unavailable ", alice.read_until("</iq>"))
        alice.send("<iq to='bob@localhost/gone' type='result' id='stray'/><iq to='bob@localhost/gone' type='error' id='stray'/>"
                   "<message to='bob@localhost/gone' type='error' id='stray'><body>stray</body></message>")
        self.assertNotIn("stray", self.settled(alice, "bob"), "an answer is never answered")
        self.assertNotIn("stray", self.fence(alice, bob, "bob@localhost/other"))

    def test_an_account_that_does_not_exist(self):
        alice = self.client("alice", "nobody").presence()
        for _ in range(3):  # looked up, remembered, still remembered
            self.assertIn("<service-unavailable ", self.error_for(alice, "nobody@localhost", "chat"))
            alice.send("<presence to='nobody@localhost'/><presence to='nobody@localhost' type='unsubscribed'/>"
                       "<presence to='nobody@localhost/x' type='probe'/>")
            self.assertNotRegex(self.settled(alice, "nobody"), "<presence [^>]*from='nobody@", "presence to nobody is ignored")

    def test_requests_between_clients(self):
        bob, alice = self.client("bob", "asked"), self.client("alice", "asks")
        alice.send("<iq to='bob@localhost/asked' type='get' id='q&apos;1'><q xmlns='urn:example:q'>what &amp; why</q></iq>")
        request = bob.read_until("</iq>")
        self.assertIn("from='alice@localhost/asks'", request)
        self.assertIn("what &amp; why", request)
        bob.send("<iq to='alice@localhost/asks' type='result' id='q&apos;1'><q xmlns='urn:example:q'>because</q></iq>")
        answer = alice.read_until("</iq>")
        self.assertIn("from='bob@localhost/asked'", answer)
        self.assertRegex(answer, r"""id=('q&apos;1'|"q'1"|'q&#39;1')""")

    def test_nothing_overtakes(self):
        bob, alice = self.client("bob", "order").presence(), self.client("alice", "order")
        alice.send("".join(f"<message to='bob@localhost/order' type='chat'><body>m{n}</body></message>"
                           f"<iq to='bob@localhost/order' type='get' id='m{n}'><q xmlns='urn:x'/></iq>" for n in range(500)))
        for n in range(500):
            bob.read_until(f"<body>m{n}</body>")
            self.assertIn(f"id='m{n}'", bob.read_until("</iq>"))

    def test_the_last_words_before_the_end_are_heard(self):
        bob, alice = self.client("bob", "last").presence(), self.client("alice", "last")
        alice.send("<message to='bob@localhost/last' type='chat'><body>and good night</body></message></stream:stream>")
        bob.read_until("and good night")

    def interested(self, name, resource, presence="<presence/>"):
        """A client that has asked for its roster: only it is told what becomes of subscriptions (section 2.1.6)."""
        client = self.client(name, resource)
        client.send("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>")
        client.read_until("id='roster' type='result'><query xmlns='jabber:iq:roster'/></iq>", "</query></iq>")
        return client.presence(presence)

    def befriend(self, one, other, a, b):
        one.send(f"<presence to='{b}@localhost' type='subscribe'/>")
        other.read_until("type='subscribe'")
        other.send(f"<presence to='{a}@localhost' type='subscribed'/>")
        one.read_until("type='subscribed'")

    def test_the_life_of_a_subscription(self):
        mary, nick = self.interested("mary", "m"), self.interested("nick", "n", "<presence><status>first</status></presence>")
        mary.send("<presence to='nick@localhost' type='probe'/>")
        self.assertNotIn("first", self.settled(mary, "nick"), "a stranger sees nothing")
        self.befriend(mary, nick, "mary", "nick")
        self.assertIn("<status>first</status>", mary.read_until("</presence>"))
        nick.send("<presence><show>away</show><status>second</status></presence>")
        self.assertIn("<status>second</status>", mary.read_until("</presence>"))
        later = self.client("mary", "later")
        later.send("<presence/>")
        later.read_until("<status>second</status>")  # the server asks on behalf of the new one
        mary.read_until("from='mary@localhost/later'")
        nick.send("<presence type='unavailable'><status>bye</status></presence>")
        for c in (mary, later):
            self.assertIn("type='unavailable'", c.read_until("<status>bye</status>"))
        nick.send("<presence><status>third</status></presence>")
        for c in (mary, later):
            c.read_until("<status>third</status>")
        mary.send("<presence to='nick@localhost' type='unsubscribe'/>")
        nick.read_until("type='unsubscribe'")
        nick.ping()
        nick.send("<presence><status>unseen</status></presence>")
        nick.read_until("<status>unseen</status>")  # its own resources are told
        self.assertNotIn("unseen", self.fence(nick, mary, "mary@localhost/m"))
        self.assertNotIn("unseen", self.fence(nick, later, "mary@localhost/later"))

    def test_one_who_comes_and_changes_at_once_is_told_who_is_there(self):
        quinn, rosa = self.interested("quinn", "q"), self.interested("rosa", "r", "<presence><status>here</status></presence>")
        self.befriend(quinn, rosa, "quinn", "rosa")
        quinn.read_until("<status>here</status>")
        self.server.stop()
        self.server.start()
        self.client("rosa", "r").presence("<presence><status>here</status></presence>")
        again = self.client("quinn", "again")  # its contacts have to be read: the second presence comes meanwhile
        again.send("<presence/><presence><show>away</show></presence>")
        again.read_until("<status>here</status>")

    def test_presence_is_broadcast_to_all_who_may_see_it_and_to_nobody_else(self):
        olga, paul = self.interested("olga", "o"), self.interested("paul", "p")
        stranger = self.client("never", "s").presence()
        self.befriend(olga, paul, "olga", "paul")
        paul.send("<presence><status>hello</status></presence>")
        olga.read_until("<status>hello</status>")
        paul.ping()
        self.assertNotIn("hello", self.fence(paul, stranger, "never@localhost/s"))
        paul.socket.close()  # without a word
        self.assertIn("from='paul@localhost/p'", olga.read_until("type='unavailable'"))


class OnTwoReactors(Delivery):
    reactors = 2


if __name__ == "__main__":
    harness.main()
