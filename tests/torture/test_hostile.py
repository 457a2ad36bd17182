#!/usr/bin/python3
# Hostile input on every port: what RFC 6120 names for it, or a clean close, in bounded memory and time, while a
# pair of users who chat all the time notices nothing.
import base64
import resource
import select
import socket
import ssl
import threading
import time
import unittest

import common
import harness
from harness import Raw, password

header = "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
streams = "urn:ietf:params:xml:ns:xmpp-streams"


class Bystanders:
    """Two users who chat one by one; the slowest round trip is kept."""

    def __init__(self, server):
        self.ends = [Raw(server).login(name, "bystander") for name in ("alice", "bob")]
        for e in self.ends:
            e.presence()
        self.stops, self.count, self.slowest, self.failure = False, 0, 0.0, None
        self.thread = threading.Thread(target=self.chat, daemon=True)
        self.thread.start()

    def chat(self):
        try:
            while not self.stops:
                began = time.monotonic()
                for i in (0, 1):
                    to = ("bob", "alice")[i]
                    self.ends[i].send(f"<message to='{to}@localhost/bystander' type='chat'><body>n{self.count}</body></message>")
                    self.ends[1 - i].read_until(f"<body>n{self.count}</body>")
                self.count += 1
                self.slowest = max(self.slowest, time.monotonic() - began)
                time.sleep(0.005)
        except BaseException as e:
            self.failure = e

    def end(self):
        self.stops = True
        self.thread.join(30)
        for e in self.ends:
            e.close()


class Attack(harness.Case):
    reactors = 2
    names = ("alice", "bob", "carol", "dave")
    tables = '[limits]\nstrangers_per_address = 5000\noutput = "1 MB"\n[log]\nlevel = "warning"'

    def setUp(self):
        self.bystanders = Bystanders(self.server)
        self.addCleanup(self.nobody_noticed)
        self.memory = common.memory_kb(self.server)

    def nobody_noticed(self):
        self.bystanders.end()
        if self.bystanders.failure:
            raise self.bystanders.failure
        self.assertGreater(self.bystanders.count, 0)
        self.assertIsNone(self.server.process.poll())

    def grew_kb(self):
        return common.memory_kb(self.server) - self.memory

    def flood(self, raw, text, seconds=15):
        """Sends `text` again and again; True: the peer closed, or took no more, in time."""
        data, end = text.encode(), time.monotonic() + seconds
        raw.socket.settimeout(3)
        try:
            while time.monotonic() < end:
                raw.socket.send(data)
        except (OSError, ssl.SSLError):
            return True
        return False

    def refused(self, raw, text, *conditions):
        try:
            raw.send(text)
        except OSError:
            pass  # closed while we were still sending; the reason is there to be read
        got = raw.read_to_end()
        self.assertTrue(any(f"<{c} xmlns='{streams}'/>" in got for c in conditions), f"{conditions}: {got[-400:]}")


class Hostile(Attack):
    # --- bytes and XML

    def test_entity_bombs_and_what_xml_forbids(self):
        bomb = "<!DOCTYPE l [<!ENTITY a 'lol'>" + "".join(f"<!ENTITY a{n} '&a;&a;&a;&a;&a;&a;&a;&a;'>" for n in range(99)) + "]>"
        for logged_in in (False, True):
            for text, condition in ((bomb, "restricted-xml"), ("<?php evil ?>", "restricted-xml"), ("<message><!-- c --></message>", "restricted-xml"),
                                    ("<message>&a;</message>", "restricted-xml"), ("<message>&#0;</message>", "not-well-formed"),
                                    ("<message a='1' a='2'/>", "not-well-formed"), ("<message></iq>", "not-well-formed"),
                                    ("<message xmlns:a='u' xmlns:b='u' a:x='1' b:x='2'/>", "not-well-formed"), ("<u:message/>", "bad-namespace-prefix")):
                with self.subTest(text[:40], logged_in=logged_in):
                    raw = self.raw()
                    if logged_in:
                        raw.login("carol", "xml")
                        self.refused(raw, text, condition)
                    else:
                        self.refused(raw, text if text == bomb else header + text, condition)

    def test_depth_attributes_names_and_size(self):
        for logged_in in (False, True):
            for text in ("<a>" * 100_000, "<a " + " ".join(f"a{n}=''" for n in range(20_000)) + "/>", "<" + "a" * 600_000 + "/>",
                         "<message><body>" + "x" * 600_000, "<message>" + "<a/>" * 200_000, "<a " + " ".join(f"xmlns:p{n}='u'" for n in range(20_000)) + "/>"):
                with self.subTest(text[:20], logged_in=logged_in):
                    raw = self.raw()
                    if logged_in:
                        raw.login("carol", "size")
                        self.refused(raw, text, "policy-violation")
                    else:
                        self.refused(raw, header + text, "policy-violation")
        self.assertLess(self.grew_kb(), 16_384)

    def test_bytes_one_by_one_cost_no_memory(self):
        raws = [self.raw() for _ in range(50)]
        text = (header + "<auth mechanism='PLAIN' xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>").encode() + b"A" * 500
        for i in range(len(text)):
            for raw in raws:
                raw.socket.sendall(text[i:i + 1])
        for raw in raws:
            raw.send("</auth>")
            self.assertRegex(raw.read_until("</failure>"), "incorrect-encoding|malformed-request|not-authorized")

    def test_unfinished_elements_before_login_keep_little(self):
        raws = [self.raw() for _ in range(200)]
        for raw in raws:
            raw.send(header + "<a>" + "<b c='d'/>" * 1_200)  # just under the limit of 16 kB
        self.assertLess(self.grew_kb(), 200 * 16 * 4)  # at most four bytes kept for one received

    def test_wrong_utf8(self):
        for bad in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82<"):
            with self.subTest(bad):
                raw = self.client("carol", "utf8")
                self.refused(raw, b"<message to='bob@localhost'><body>" + bad + b"</body></message>", "unsupported-encoding", "not-well-formed", "bad-format")

    # --- TLS

    def test_plain_text_on_the_tls_port_and_garbage_as_handshake(self):
        s = socket.create_connection(("127.0.0.1", self.server.direct), 10)
        self.addCleanup(s.close)
        s.settimeout(10)
        s.sendall((header + "<message/>").encode())
        self.assert_closes(s)
        raw = self.raw()
        raw.header()
        raw.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        raw.read_until("<proceed")
        raw.read_until(">")
        raw.send(b"\x16\x03\x01\xff\xff" + b"\x00" * 2_000)
        self.assert_closes(raw.socket)

    def assert_closes(self, s):
        try:
            while s.recv(4096):
                pass
        except ConnectionResetError:
            pass

    def test_what_is_behind_starttls_is_never_obeyed(self):
        token = base64.b64encode(f"\0carol\0{password}".encode()).decode()
        for behind in (f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{token}</auth>", " ", header):
            raw = self.raw()
            raw.header()
            raw.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>" + behind)
            try:
                got = raw.read_to_end()
            except OSError:
                got = ""
            self.assertNotIn("<success", got)

    def test_old_tls_is_refused(self):
        context = harness.trusting()
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        with self.assertRaises((ssl.SSLError, ConnectionResetError)):
            self.raw(direct=True, context=context)

    # --- exhaustion

    def test_a_client_that_never_reads(self):
        victim = self.raw()
        victim.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        victim.login("carol", "deaf").presence()
        talker = self.client("dave", "talker").presence()
        body = "x" * 8_000
        for n in range(2_000):  # 16 MB
            talker.send(f"<message to='carol@localhost/deaf' type='chat' id='d{n}'><body>{body}</body></message>")
            if n % 100 == 99:
                talker.ping()
        self.assertLess(self.grew_kb(), 65_536)
        talker.ping()  # nobody but the deaf one is hurt

    def test_a_client_that_asks_and_never_reads(self):
        raw = self.client("carol", "asker")
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        ask = "<iq type='get' id='q' to='localhost'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
        sent = self.flood(raw, ask * 100, 664_000_000)
        self.assertLess(sent, 664_000_000, "its questions are no longer read, or its stream has ended")
        self.assertLess(self.grew_kb(), 32_768)

    def test_presence_and_roster_floods_are_bounded(self):
        raw = self.client("carol", "flood").presence()
        for n in range(3_000):
            raw.send(f"<presence to='x{n}@localhost/y'/>")
        raw.ping()
        for n in range(2_100):
            raw.send(f"<iq type='set' id='f{n}'><query xmlns='jabber:iq:roster'><item jid='f{n}@localhost'/></query></iq>")
            if n % 50 == 49:
                raw.read_until(f"id='f{n}'")
        raw.send("<iq type='set' id='over'><query xmlns='jabber:iq:roster'><item jid='over@localhost'/></query></iq>")
        got = raw.read_until("id='over'") + raw.read_until(">")
        self.assertIn("type='error'", got)
        self.assertLess(self.grew_kb(), 32_768)

    def test_names_that_do_not_exist(self):
        raw = self.client("carol", "names").presence()
        asked = answered = 0

        def all_answered():
            nonlocal answered
            answered += raw.ping().count("<error ")
            return answered >= 2 * asked

        for _ in range(200 if harness.is_long else 40):
            raw.send("".join(f"<message to='nobody{asked + n}@localhost/x' type='chat' id='m'><body>x</body></message>"
                             f"<iq type='get' to='nothing{asked + n}@localhost' id='q'><q xmlns='u'/></iq>" for n in range(500)))
            asked += 500
            self.assertTrue(common.wait_until(all_answered, 120, step=0.005), f"{answered} of {2 * asked} were answered")
        self.assertLess(self.grew_kb(), 32_768)

    def test_two_thousand_at_once(self):
        # all are accepted and answered, however fast they come
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(8_192, hard), hard))
        crowd = []
        for _ in range(2_000):
            s = socket.socket()
            self.addCleanup(s.close)
            s.setblocking(False)
            s.connect_ex(("127.0.0.1", self.server.port))
            crowd.append(s)
        for s in crowd:
            s.settimeout(20)
            connected = select.poll()
            connected.register(s, select.POLLOUT)
            self.assertTrue(connected.poll(20_000), "not accepted")
            s.sendall(header.encode())
        for s in crowd:
            got = b""
            while b"</stream:features>" not in got:
                data = s.recv(4_096)
                self.assertTrue(data, "closed")
                got += data

    # --- identity

    def test_nobody_speaks_for_another(self):
        raw = self.client("carol", "spoof")
        self.refused(raw, "<message from='alice@localhost' to='bob@localhost'><body>x</body></message>", "invalid-from")
        bob = self.client("bob", "spoofed").presence()
        raw = self.client("carol", "spoof2")
        raw.send("<message to='bob@localhost/spoofed' type='chat'><body>true</body>"
                 "<stanza-id xmlns='urn:xmpp:sid:0' id='forged' by='bob@localhost'/></message>")
        got = bob.read_until("</message>")
        self.assertIn("from='carol@localhost/spoof2'", got)
        self.assertNotIn("forged", got)

    def test_scram_downgrades_fail(self):
        raw = self.raw(direct=True)
        self.assertIn("SCRAM-SHA-256-PLUS", raw.header())
        first = base64.b64encode(b"y,,n=alice,r=abcdef").decode()  # "I would bind, but you do not offer it"
        raw.send(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-256'>{first}</auth>")
        self.assertIn("not-authorized", raw.read_until("</failure>", "</challenge>"))
        first = base64.b64encode(b"p=tls-unique,,n=alice,r=abcdef").decode()
        raw.send(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-256'>{first}</auth>")
        self.assertIn("malformed-request", raw.read_until("</failure>", "</challenge>"))


class Deadlines(Attack):
    tables = '[limits]\nlogin_timeout = "3s"\nstrangers_per_address = 5000\n[log]\nlevel = "warning"'

    def ends_within(self, raw, seconds):
        raw.socket.settimeout(seconds)
        began = time.monotonic()
        got = raw.read_to_end()
        self.assertLess(time.monotonic() - began, seconds)
        return got

    def test_strangers_have_one_deadline(self):
        silent, slow, unbound = self.raw(), self.raw(), self.raw()
        silent_tls = socket.create_connection(("127.0.0.1", self.server.direct), 10)
        self.addCleanup(silent_tls.close)
        unbound.header()
        self.assertIn("success", unbound.plain("dave"))
        unbound.header()  # logged in, and never binds
        drip = iter(header * 100)
        end = time.monotonic() + 15
        while time.monotonic() < end:
            try:
                slow.send(next(drip))
            except OSError:
                break
            if select.select([slow.socket], [], [], 0.1)[0] and not slow.socket.recv(4096):
                break
        else:
            self.fail("a byte now and then keeps a stranger alive")
        for raw in (silent, unbound):
            self.ends_within(raw, 12)
        silent_tls.settimeout(12)
        self.assertEqual(silent_tls.recv(1), b"")

    def test_an_endless_header_and_endless_space(self):
        raw = self.raw()
        self.assertTrue(self.flood(raw, "<stream:stream to='localhost' " + "a" * 65_536))
        raw = self.raw()
        self.assertTrue(self.flood(raw, " " * 65_536))  # white space costs nothing; the deadline ends it
        self.assertLess(self.grew_kb(), 8_192)


class Guessing(harness.Case):
    """A server of its own: afterwards the tester's address is locked out."""
    names = ("alice", "bob", "carol")
    tables = '[limits]\nstrangers_per_address = 5000'

    def test_ten_thousand_wrong_passwords(self):
        bystanders = Bystanders(self.server)
        there = self.client("carol", "there")
        memory, tries, streams_ended = common.memory_kb(self.server), 0, 0
        while tries < 10_000:
            raw = self.raw()
            raw.header()
            name = ("carol", "nobody", f"guess{tries}")[streams_ended % 3]  # one who is there, one who is not, ever new ones
            try:
                while tries < 10_000:
                    tries += 1
                    answer = raw.plain(name, f"guess {tries}")
                    self.assertRegex(answer, "<not-authorized/>|<temporary-auth-failure/>")
            except (EOFError, OSError):
                streams_ended += 1
            raw.close()
        self.assertGreaterEqual(streams_ended, 10_000 // 9)  # eight on a stream
        self.assertLess(common.memory_kb(self.server) - memory, 16_384)
        late = self.raw()
        late.header()
        self.assertIn("<temporary-auth-failure/>", late.plain("carol"))  # even the right one has to wait now
        there.ping()  # who is in stays in
        bystanders.end()
        self.assertIsNone(bystanders.failure)
        self.assertGreater(bystanders.count, 100)


if __name__ == "__main__":
    harness.main()
