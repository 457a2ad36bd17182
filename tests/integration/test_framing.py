#!/usr/bin/python3
# What depends on framing, seen from outside: white space, other prefixes for the stream, prefixes that only the
# header binds, references in addresses, pieces of every size.
import unittest
import xml.etree.ElementTree

import harness

streams = "http://etherx.jabber.org/streams"


class Framing(harness.Case):
    names = ("alice", "bob")

    def parsed(self, text):
        return xml.etree.ElementTree.fromstring(f"<stream:stream xmlns='jabber:client' xmlns:stream='{streams}'>{text}</stream:stream>")

    def test_white_space_keeps_a_connection_alive(self):
        raw = self.raw()
        raw.send(" \n")  # before the header, too
        raw.header()
        raw.send("\n\t ")
        self.assertIn("success", raw.plain("alice"))
        raw.header()
        raw.send(" ")
        raw.bind("space")
        for text in (" ", "\r\n", " " * 5_000):
            raw.send(text)
            raw.ping()
        raw.send("  <iq type='get' id='a' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq> \n <iq type='get' id='b' to='localhost'>"
                 "<ping xmlns='urn:xmpp:ping'/></iq>   ")
        raw.read_until("id='a' type='result'/>")
        raw.read_until("id='b' type='result'/>")
        raw.send(" </stream:stream>")
        self.assertTrue(raw.read_to_end().endswith("</stream:stream>"))

    def test_a_stream_by_another_prefix_or_none(self):
        for root, declared in (("s:stream", f"xmlns='jabber:client' xmlns:s='{streams}'"), ("stream:stream", f"xmlns='jabber:client' xmlns:stream='{streams}'")):
            with self.subTest(root):
                raw = self.raw()

                def header():
                    raw.send(f"<?xml version='1.0'?><{root} to='localhost' version='1.0' {declared}>")
                    return raw.read_until("</stream:features>")
                header()
                self.assertIn("success", raw.plain("alice"))
                header()
                self.assertIn("<jid>", raw.bind("prefix"))
                raw.ping()
                raw.send(f"</{root}>")
                got = raw.read_to_end()
                self.assertNotIn("error", got)
                self.assertTrue(got.endswith("</stream:stream>"), got)

    def test_prefixes_of_the_header_reach_another_client(self):
        bob = self.client("bob", "h").presence()
        raw = self.raw()
        raw.header()
        raw.plain("alice")
        raw.header(" xmlns:a='urn:lent' xmlns:b='urn:unused' xml:lang='de'")
        raw.bind("h")
        raw.send("<message to='bob@localhost/h' id='xmlns:a='><a:x a:y='1'/></message>")
        got = self.parsed(bob.read_until("</message>"))
        message = got[0]
        self.assertEqual(message[0].tag, "{urn:lent}x")
        self.assertEqual(message[0].get("{urn:lent}y"), "1")
        self.assertEqual(message.get("{http://www.w3.org/XML/1998/namespace}lang"), "de")
        raw.send("<message xmlns='jabber&#58;client' to='bob@localhost/h' id='own'><body>x</body></message>")
        self.assertEqual(self.parsed(bob.read_until("</message>"))[0].get("id"), "own")

    def test_addresses_with_references(self):
        bob = self.client("bob", "Tom &amp; Jerry&apos;s").presence()
        alice = self.client("alice", "refs")
        alice.send("<message to='bob@localhost/Tom &#38; Jerry&apos;s' id='r1'><body>x</body></message>")
        self.assertIn("id='r1'", bob.read_until("</message>"))
        bob.send("<message to='alice@localhost/refs' id='r2'><body>y</body></message>")
        got = self.parsed(alice.read_until("</message>"))
        self.assertEqual(got[0].get("from"), "bob@localhost/Tom & Jerry's")

    def test_any_pieces(self):
        bob = self.client("bob", "pieces").presence()
        alice = self.client("alice", "pieces")
        text = "<message to='bob@localhost/pieces' id='%d'><body>\u00e4\u20ac\U0001f600 &amp; <![CDATA[<]]></body></message> \n".encode()
        for size in (1, 2, 3, 7, 50):
            whole = text % size * 3
            for at in range(0, len(whole), size):
                alice.socket.sendall(whole[at:at + size])
            for _ in range(3):
                got = self.parsed(bob.read_until("</message>"))
                self.assertEqual(got[0].get("id"), str(size))
                self.assertEqual(got[0][0].text, "\u00e4\u20ac\U0001f600 & <")


if __name__ == "__main__":
    harness.main()
