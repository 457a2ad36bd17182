#!/usr/bin/python3
# What an account keeps on its server: private XML, vCard with avatar, last activity; and the host's contact addresses.
import asyncio
import base64
import hashlib
import re

import slixmpp

import harness
from test_clients import run


class Raw(harness.Case):
    tables = '[modules.contact]\nabuse = ["mailto:abuse@example.org", "xmpp:abuse@example.org"]\nsupport = ["https://example.org/help"]'

    def ask(self, who, text, kind="get", to=""):
        to = f" to='{to}'" if to else ""
        who.send(f"<iq type='{kind}' id='q'{to}>{text}</iq>")
        got = who.read_until("id='q'") + who.read_until(">")
        return got if got.endswith("/>") else got + who.read_until("</iq>")

    def test_private_xml(self):
        query = "<query xmlns='jabber:iq:private'>{}</query>"
        alice = self.client("alice")
        kept = "<storage xmlns='storage:bookmarks'><conference jid='a@b' name='x &amp; y'><nick>me</nick></conference></storage>"
        self.assertIn("type='result'", self.ask(alice, query.format(kept), "set"))
        alice.close()
        alice = self.client("alice", "later")
        self.assertIn(kept, self.ask(alice, query.format("<storage xmlns='storage:bookmarks'/>")))
        alice.send("<iq type='set' id='s'>" + query.format("<a xmlns='urn:a'>1</a>") + "</iq>")  # without waiting
        self.assertIn("<a xmlns='urn:a'>1</a>", self.ask(alice, query.format("<a xmlns='urn:a'/>")))
        self.assertIn("<forbidden ", self.ask(self.client("bob"), query.format("<storage xmlns='storage:bookmarks'/>"), to="alice@localhost"))
        for bad, kind, wanted in (("", "get", "bad-request"), ("<a/>", "set", "not-acceptable"), ("<a xmlns='u'>" + "x" * 70_000 + "</a>", "set", "not-acceptable")):
            self.assertIn(f"<{wanted} ", self.ask(alice, query.format(bad), kind))
        many = "".join(f"<a xmlns='urn:many:{n}'>x</a>" for n in range(101))
        self.assertIn("<resource-constraint ", self.ask(alice, query.format(many), "set"))

    def test_vcard_of_who_is_away(self):
        vcard = "<vCard xmlns='vcard-temp'><FN>Carol</FN><PHOTO><TYPE>image/png</TYPE><BINVAL>YWJj</BINVAL></PHOTO></vCard>"
        carol, bob = self.client("carol"), self.client("bob", "v")
        self.assertIn("<service-unavailable ", self.ask(bob, "<vCard xmlns='vcard-temp'/>", to="carol@localhost"))
        nobody = self.ask(bob, "<vCard xmlns='vcard-temp'/>", to="nobody@localhost")
        self.assertIn("<service-unavailable ", nobody)
        self.assertIn("type='result'", self.ask(carol, vcard, "set"))
        carol.close()
        self.assertIn(vcard, self.ask(bob, "<vCard xmlns='vcard-temp'/>", to="carol@localhost"))
        self.assertIn("<forbidden ", self.ask(bob, vcard, "set", to="carol@localhost"))
        self.assertIn("<not-acceptable ", self.ask(bob, "<vCard xmlns='vcard-temp'><FN>" + "x" * 140_000 + "</FN></vCard>", "set"))

    def test_presence_tells_the_photo_and_its_change(self):
        photo = hashlib.sha1(b"abc").hexdigest()
        alice, other = self.client("alice", "one").presence(), self.client("alice", "two").presence()
        other.buffer = ""
        self.ask(alice, "<vCard xmlns='vcard-temp'><PHOTO><BINVAL>YWJj</BINVAL></PHOTO></vCard>", "set")
        self.assertIn("from='alice@localhost/one'", other.read_until(f"<photo>{photo}</photo>"))
        other.send("<presence><show>away</show><x xmlns='vcard-temp:x:update'><photo>0123</photo></x></presence>")
        got = alice.read_until("away</show>") + alice.read_until("</presence>")
        self.assertIn(f"<photo>{photo}</photo>", got)
        self.assertNotIn("0123", got)
        late = self.client("alice", "three")
        late.send("<presence/>")
        self.assertIn(photo, late.read_until("</presence>"))

    def test_last_activity(self):
        admin, bob = self.client("admin").presence(), self.client("bob", "l").presence()
        query = "<query xmlns='jabber:iq:last'/>"
        self.assertRegex(self.ask(bob, query, to="localhost"), r"seconds='\d+'")
        self.assertIn("<forbidden ", self.ask(bob, query, to="admin@localhost"))
        self.assertIn("<forbidden ", self.ask(bob, query, to="admin@localhost/r"))
        self.ask(bob, "<query xmlns='jabber:iq:roster'/>")
        bob.send("<presence type='subscribe' to='admin@localhost'/>")
        admin.read_until("type='subscribe'")
        admin.send("<presence type='subscribed' to='bob@localhost'/>")
        bob.read_until("type='subscribed'")
        self.assertIn("seconds='0'", self.ask(bob, query, to="admin@localhost"))
        admin.send("<presence type='unavailable'><status>gone &amp; away</status></presence></stream:stream>")
        admin.read_to_end()
        got = self.ask(bob, query, to="admin@localhost")
        self.assertRegex(got, r"seconds='[0-9]'")
        self.assertIn(">gone &amp; away</query>", got)

    def test_contact_addresses(self):
        alice = self.client("alice", "c")
        info = self.ask(alice, "<query xmlns='http://jabber.org/protocol/disco#info'/>", to="localhost")
        self.assertIn("<field var='FORM_TYPE' type='hidden'><value>http://jabber.org/network/serverinfo</value></field>"
                      "<field var='abuse-addresses'><value>mailto:abuse@example.org</value><value>xmpp:abuse@example.org</value></field>"
                      "<field var='support-addresses'><value>https://example.org/help</value></field>", info)
        # what the stream features announce is the hash of what was answered (XEP-0115 section 5.1)
        raw = self.raw()
        raw.header()
        raw.plain("alice")
        ver = re.search(r"ver='([^']+)'", raw.header())[1]
        text = "".join(f"{c}/{t}//{n}<" for c, t, n in sorted(re.findall(r"<identity category='([^']+)' type='([^']+)' name='([^']+)'", info)))
        text += "".join(f + "<" for f in sorted(re.findall(r"<feature var='([^']+)'", info)))
        text += "http://jabber.org/network/serverinfo<abuse-addresses<mailto:abuse@example.org<xmpp:abuse@example.org<support-addresses<https://example.org/help<"
        self.assertEqual(ver, base64.b64encode(hashlib.sha1(text.encode()).digest()).decode())


class Slixmpp(harness.Case):
    tables = '[host."localhost".sasl]\nmechanisms = ["PLAIN"]'

    def client(self, name, *plugins):
        xmpp = slixmpp.ClientXMPP(f"{name}@localhost/slix", harness.password, sasl_mech="PLAIN")
        xmpp.ca_certs = str(self.server.authority)
        for p in plugins:
            xmpp.register_plugin(p)
        xmpp.started = asyncio.get_running_loop().create_future()
        xmpp.add_event_handler("session_start", lambda _: xmpp.started.done() or xmpp.started.set_result(True))
        xmpp.connect(("127.0.0.1", self.server.port))
        return xmpp

    def test_private_storage_vcard_avatar_and_last_activity(self):
        async def steps():
            alice, bob = self.client("alice", "xep_0049", "xep_0048", "xep_0054", "xep_0153", "xep_0012"), self.client("bob", "xep_0054", "xep_0153")
            await asyncio.wait_for(asyncio.gather(alice.started, bob.started), 20)
            for c in (alice, bob):
                c.auto_authorize = c.auto_subscribe = True
                c.send_presence()
            bookmarks = alice["xep_0048"].stanza.Bookmarks()
            bookmarks.add_conference("room@muc.example", "me", name="Room")
            await alice["xep_0048"].set_bookmarks(bookmarks, method="xep_0049")
            got = await alice["xep_0048"].get_bookmarks(method="xep_0049")
            self.assertEqual(str(got["private"]["bookmarks"]["conferences"][0]["jid"]), "room@muc.example")
            seen = asyncio.get_running_loop().create_future()
            bob.add_event_handler("vcard_avatar_update", lambda p: seen.done() or p["vcard_temp_update"]["photo"] and seen.set_result(p))
            bob.send_presence_subscription("alice@localhost")
            await asyncio.sleep(0.3)
            await alice["xep_0153"].set_avatar(avatar=b"an image", mtype="image/png")
            update = await asyncio.wait_for(seen, 10)
            self.assertEqual(update["vcard_temp_update"]["photo"], hashlib.sha1(b"an image").hexdigest())
            card = await bob["xep_0054"].get_vcard("alice@localhost", cached=False)
            self.assertEqual(card["vcard_temp"]["PHOTO"]["BINVAL"], b"an image")
            uptime = await alice["xep_0012"].get_last_activity("localhost")
            self.assertGreaterEqual(int(uptime["last_activity"]["seconds"]), 0)
            alice.abort()
            bob.abort()
        run(steps)


if __name__ == "__main__":
    harness.main()
