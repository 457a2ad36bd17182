#!/usr/bin/python3
# Invitations: covey invite, registration with a token where nobody may register, contacts by a link.
import json
import re

import harness


class Invites(harness.Case):
    names = ("alice", "bob")
    tables = '[modules.invites]\nlanding = "https://example.org/invite/#{token}"\n[host."localhost".modules.register]\nenabled = false'

    def invite(self, *words):
        done = self.server.cli("invite", *words)
        self.assertEqual(done.returncode, 0, done.stderr)
        uri, landing = done.stdout.split()
        token = re.search(r"preauth=([0-9a-f]{32})", uri)[1]
        self.assertEqual(landing, f"https://example.org/invite/#{token}")
        return uri, token

    def present(self, raw, token):
        raw.send(f"<iq type='set' to='localhost' id='pa'><preauth xmlns='urn:xmpp:pars:0' token='{token}'/></iq>")
        return raw.read_until("id='pa' type='result'/>", "</iq>")

    def stranger(self):
        raw = self.raw()
        features = raw.header()
        self.assertIn("<register xmlns='urn:xmpp:ibr-token:0'/>", features)
        self.assertNotIn("iq-register", features)
        return raw

    def test_a_link_makes_one_account(self):
        uri, token = self.invite("localhost")
        self.assertEqual(uri, f"xmpp:localhost?register;preauth={token}")
        raw = self.stranger()
        self.assertIn("<not-allowed ", raw.register("eve"))
        self.assertIn("<item-not-found ", self.present(raw, "0" * 32))
        self.assertIn("type='result'", self.present(raw, token))
        self.assertIn("<conflict ", raw.register("alice"))  # does not use it up
        self.assertIn("type='result'", raw.register("eve"))
        self.assertIn("<conflict ", raw.register("mallory"))
        self.assertIn("<item-not-found ", self.present(self.stranger(), token))
        self.client("eve").ping()

    def test_a_link_for_one_name(self):
        uri, token = self.invite("juliet@localhost")
        self.assertEqual(uri, f"xmpp:juliet@localhost?register;preauth={token}")
        other = self.stranger()
        self.assertIn("type='result'", self.present(other, self.invite()[1]))
        self.assertIn("<conflict ", other.register("juliet"))  # kept for her
        raw = self.stranger()
        self.assertIn("type='result'", self.present(raw, token))
        self.assertIn("<not-acceptable ", raw.register("nurse"))
        self.assertIn("type='result'", raw.register("juliet"))

    def test_two_streams_and_one_link(self):
        token = self.invite("localhost")[1]
        streams = [self.stranger() for _ in range(2)]
        for raw in streams:
            self.assertIn("type='result'", self.present(raw, token))
        answers = [raw.register(f"twin{n}") for n, raw in enumerate(streams)]
        self.assertEqual(sum("type='result'" in a for a in answers), 1, answers)

    def test_who_is_invited_by_a_user_becomes_a_contact(self):
        alice = self.client("alice").presence()
        alice.send("<iq type='get' id='ro'><query xmlns='jabber:iq:roster'/></iq>")
        alice.read_until("id='ro' type='result'")
        uri, token = self.invite("alice@localhost")
        self.assertEqual(uri, f"xmpp:alice@localhost?roster;preauth={token};ibr=y")
        raw = self.stranger()
        self.present(raw, token)
        self.assertIn("type='result'", raw.register("newcomer"))
        fresh = self.client("newcomer")
        fresh.send("<iq type='get' id='ro'><query xmlns='jabber:iq:roster'/></iq>")
        self.assertIn("jid='alice@localhost'", fresh.read_until("</iq>"))
        fresh.send("<presence><status>I am new</status></presence>")
        while "jid='newcomer@localhost' subscription='both'" not in (got := alice.read_until("</iq>")):
            self.assertNotIn("<presence from='newcomer@localhost' to='alice@localhost' type='subscribe'", got)
        alice.read_until("I am new")
        fresh.read_until("from='alice@localhost/r'")
        fresh.send("<iq type='get' id='again'><query xmlns='jabber:iq:roster'/></iq>")
        roster = fresh.read_until("id='again' type='result'") + fresh.read_until("</iq>")
        self.assertRegex(roster, r"jid='alice@localhost' subscription='both'")

    def test_a_link_for_who_has_an_account(self):
        token = self.invite("bob@localhost")[1]
        bob, alice = self.client("bob").presence(), self.client("alice", "p").presence()
        alice.send("<presence type='subscribed' to='bob@localhost'/>"
                   f"<presence type='subscribe' to='bob@localhost'><preauth xmlns='urn:xmpp:pars:0' token='{token}'/></presence>")
        alice.read_until("from='bob@localhost/r'")
        bob.read_until("from='alice@localhost/p'")
        bob.ping()
        self.assertNotIn("type='subscribe'", bob.buffer)
        carol = self.stranger()
        self.assertIn("<item-not-found ", self.present(carol, token))  # used

    def test_the_command(self):
        got = json.loads(self.server.cli("--json", "invite", "alice@localhost").stdout)
        self.assertTrue(got["ok"])
        self.assertTrue(got["uri"].startswith("xmpp:alice@localhost?roster"))
        self.assertGreater(got["expires"], 0)
        self.assertEqual(self.server.cli("invite", "alice@localhost/x").returncode, 2)
        self.assertEqual(self.server.cli("invite", "elsewhere.example").returncode, 4)
        self.assertIn("good once, until 20", self.server.cli("invite").stderr)


if __name__ == "__main__":
    harness.main()
