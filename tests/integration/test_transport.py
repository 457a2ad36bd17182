#!/usr/bin/python3
# What is between the network and XML: PROXY headers, compression, rates, limits by address, silent clients, TLS
# sessions that are resumed, certificates by name and their renewal.
import json
import random
import re
import signal
import socket
import ssl
import struct
import subprocess
import time
import unittest
import urllib.request
import zlib

import harness
from harness import Raw


class Transport(harness.Case):
    def metric(self, name):
        """The sum over all reactors; `name` may have labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.server.http}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return sum(float(n) for n in re.findall(rf"^{re.escape(name)}\S* (\S+)$", text, re.M))

    def wait_for(self, condition, what):
        deadline = time.monotonic() + 10
        while not condition():
            self.assertLess(time.monotonic(), deadline, what)
            time.sleep(0.02)

    def wait_for_log(self, *words):
        self.wait_for(lambda: any(all(w in line for w in words) for line in self.server.log.read_text().splitlines()), words)

    def peer_of(self, jid):
        return next(s["peer"] for s in json.loads(self.server.cli("sessions", "--json").stdout)["sessions"] if s["jid"] == jid)


# --- PROXY protocol

def version_2(command, family, rest=b""):
    return b"\r\n\r\n\0\r\nQUIT\n" + bytes((command, family)) + struct.pack(">H", len(rest)) + rest


def tcp_4(address, port=40000):
    return socket.inet_aton(address) + socket.inet_aton("10.0.0.1") + struct.pack(">HH", port, 5222)


class Proxied(Transport):
    extra = "limits.strangers_per_address = 3"
    inside = {"listen": 'proxy_protocol = ["127.0.0.1:{port}", "127.0.0.1:{direct}"]\ntrusted_proxies = ["192.0.2.0/24", "127.0.0.0/8"]\nproxy_timeout = "1s"'}

    def behind(self, header):
        raw = self.raw()
        raw.send(header)
        return raw

    def test_the_header_says_who_the_client_is(self):
        for n, (header, peer) in enumerate((
                ("PROXY TCP4 203.0.113.7 10.0.0.1 40000 5222\r\n", "203.0.113.7:40000"),
                ("PROXY TCP6 2001:db8::7 ::1 40001 5222\r\n", "[2001:db8::7]:40001"),
                (version_2(0x21, 0x11, tcp_4("203.0.113.8") + b"\x02\0\x09localhost"), "203.0.113.8:40000"),
                ("PROXY UNKNOWN\r\n", "127.0.0.1:"), (version_2(0x20, 0), "127.0.0.1:"), (version_2(0x21, 0x31, bytes(216)), "127.0.0.1:"))):
            with self.subTest(peer):
                self.behind(header).login("alice", f"p{n}").ping()
                self.assertTrue(self.peer_of(f"alice@localhost/p{n}").startswith(peer))
        self.wait_for_log("auth.ok", "203.0.113.7:40000")

    def test_in_pieces_and_together_with_what_follows(self):
        raw = self.raw()
        for byte in version_2(0x21, 0x11, tcp_4("203.0.113.9")):
            raw.send(bytes((byte,)))
            time.sleep(0.002)
        raw.login("bob", "pieces").ping()
        self.assertEqual(self.peer_of("bob@localhost/pieces"), "203.0.113.9:40000")
        raw = self.behind(b"PROXY TCP4 203.0.113.9 10.0.0.1 40002 5222\r\n<stream:stream to='localhost' version='1.0' xmlns='jabber:client' "
                          b"xmlns:stream='http://etherx.jabber.org/streams'>")
        raw.read_until("</stream:features>")

    def test_direct_tls_behind_a_proxy(self):
        s = socket.create_connection(("127.0.0.1", self.server.direct), 10)
        self.addCleanup(s.close)
        s.sendall(b"PROXY TCP4 203.0.113.10 10.0.0.1 40000 5223\r\n")
        raw = self.raw()
        raw.socket.close()
        raw.socket = s
        raw.wrap(harness.trusting())
        raw.login("carol", "direct").ping()
        self.assertEqual(self.peer_of("carol@localhost/direct"), "203.0.113.10:40000")

    def test_without_a_good_header_it_is_closed_without_a_word(self):
        before = self.metric('covey_connections_refused_total{reason="proxy"}')
        for bytes_, why in (("<stream:stream>", "missing"), ("PROXY TCP4 no\r\n", "malformed"), ("PROXY " + "x" * 200, "too long"),
                            (version_2(0x21, 0x11, tcp_4("203.0.113.9") + bytes(5_000)), "too long"),
                            (version_2(0x21, 0x11, tcp_4("203.0.113.9") + b"\x03\0\x04abcd"), "bad checksum")):
            with self.subTest(why):
                self.assertEqual(self.behind(bytes_).read_to_end(), "")
                self.wait_for_log("proxy.refused", "127.0.0.1:", why)
        began = time.monotonic()
        self.assertEqual(self.behind("PROXY TCP4 ").read_to_end(), "")
        self.assertGreater(time.monotonic() - began, 0.9)
        self.wait_for_log("proxy.refused", "deadline")
        self.assertEqual(self.metric('covey_connections_refused_total{reason="proxy"}'), before + 6)

    def test_limits_count_by_the_client_s_address(self):
        header = "PROXY TCP4 203.0.113.77 10.0.0.1 40000 5222\r\n"
        held = [self.behind(header) for _ in range(3)]
        for raw in held:
            raw.header()
        self.assertEqual(self.behind(header).read_to_end(), "")
        self.behind(header.replace(".77", ".78")).header()
        held[0].close()
        self.wait_for(lambda: self.may_come(header), "a place becomes free")

    def may_come(self, header):
        try:
            return bool(self.behind(header).header())
        except (EOFError, OSError):
            return False


class Stranger(Transport):
    names = ()
    inside = {"listen": 'proxy_protocol = ["127.0.0.1:{port}"]\ntrusted_proxies = ["192.0.2.0/24"]'}

    def test_a_header_from_a_stranger_is_not_believed(self):
        raw = self.raw()
        try:
            raw.send("PROXY TCP4 192.0.2.1 10.0.0.1 40000 5222\r\n")
        except OSError:  # closed before
            pass
        self.assertEqual(raw.read_to_end(), "")
        self.wait_for_log("proxy.refused", "stranger")
        raw = self.raw(direct=True)  # the other listener is behind no proxy
        raw.header()


# --- compression

compress = "<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>"


class Zipped(Raw):
    """A stream that is compressed once it has logged in."""

    def start(self, name):
        self.header()
        self.plain(name)
        self.header()
        self.send(compress)
        self.read_until("<compressed xmlns='http://jabber.org/protocol/compress'/>")
        self.inflate = zlib.decompressobj()
        self.deflate = zlib.compressobj(9)
        plain, outer = self.socket, self

        class Compressed:
            def sendall(self, data):
                plain.sendall(outer.pack(data))

            def recv(self, n):
                while data := plain.recv(n):
                    if text := outer.inflate.decompress(data):
                        return text
                return b""

            def close(self):
                plain.close()
        self.below, self.socket = plain, Compressed()
        return self

    def pack(self, data):
        return self.deflate.compress(data) + self.deflate.flush(zlib.Z_SYNC_FLUSH)


class Compression(Transport):
    extra = "compression.on = true\ncompression.streams = 20"

    def zipped(self, name, **kw):
        raw = Zipped(self.server, **kw)
        self.addCleanup(raw.close)
        return raw.start(name)

    def bound(self, name, resource="z", **kw):
        raw = self.zipped(name, **kw)
        self.assertNotIn("compression", raw.header())  # not twice
        self.assertIn("<jid>", raw.bind(resource))
        return raw

    def test_offered_after_login_only(self):
        raw = self.raw()
        self.assertNotIn("compression", raw.header())
        raw.plain("alice")
        self.assertIn("<compression xmlns='http://jabber.org/features/compress'><method>zlib</method></compression>", raw.header())

    def test_messages_to_and_from_compressed_streams(self):
        for direct in (False, True):
            with self.subTest(direct=direct):
                alice, bob = self.bound("alice", f"z{direct}", direct=direct).presence(), self.client("bob", f"p{direct}").presence()
                for size in (1, 1_000, 100_000):
                    text = " ".join(f"word{random.randrange(500)}" for _ in range(size))[:size]  # what repeats too much is a bomb
                    alice.send(f"<message to='bob@localhost/p{direct}' type='chat'><body>{text}</body></message>")
                    self.assertIn(f"<body>{text}</body>", bob.read_until("</message>"))
                    bob.send(f"<message to='alice@localhost/z{direct}' type='chat'><body>{text}</body></message>")
                    self.assertIn(f"<body>{text}</body>", alice.read_until("</message>"))
                alice.send("</stream:stream>")
                self.assertTrue(alice.read_to_end().endswith("</stream:stream>"))

    def test_other_methods_and_too_many_streams(self):
        raw = self.raw()
        raw.header()
        raw.plain("alice")
        raw.header()
        raw.send(compress.replace("zlib", "lzw"))
        raw.read_until("<failure xmlns='http://jabber.org/protocol/compress'><unsupported-method/></failure>")
        self.assertIn("<jid>", raw.bind("plain"))
        streams = []
        while "<compressed" in self.answer_to_compress(streams):
            self.assertLessEqual(len(streams), 20)
        self.assertIn("<jid>", streams[-1].bind("without"))
        for raw in streams:
            raw.close()
        self.wait_for(lambda: "<compressed" in self.answer_to_compress(streams), "streams that end give their place back")

    def answer_to_compress(self, streams):
        raw = self.raw()
        streams.append(raw)
        raw.header()
        raw.plain("alice")
        raw.header()
        raw.send(compress)
        return raw.read_until("<compressed xmlns='http://jabber.org/protocol/compress'/>",
                              "<failure xmlns='http://jabber.org/protocol/compress'><setup-failed/></failure>")

    def test_a_bomb_ends_its_stream_and_no_other(self):
        bob = self.client("bob", "calm")
        alice = self.bound("alice", "bomb")
        bomb = alice.pack(b"<message><body>" + b" " * 200_000_000)
        try:
            alice.below.sendall(bomb)
        except OSError:
            pass
        bob.ping()
        self.assertIn("<policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>", alice.read_to_end())
        self.wait_for_log("connection.inflate_failed", "swells")
        bob.ping()

    def test_broken_bytes_and_bytes_behind_the_request(self):
        alice = self.bound("alice", "broken")
        alice.below.sendall(b"\xff" * 100)
        self.assertIn("<undefined-condition ", alice.read_to_end())
        raw = self.raw()
        raw.header()
        raw.plain("alice")
        raw.header()
        raw.send(compress + "<iq type='set'>")
        self.assertNotIn("<stream:stream", raw.read_to_end())


# --- rates and limits

class Rates(Transport):
    extra = "limits.rate.account.stanzas = 20\nlimits.rate.account.stanzas_burst = 20"

    def time_of_pings(self, client, count):
        began = time.monotonic()
        client.send("".join(f"<iq type='get' id='n{i}' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>" for i in range(count)))
        for i in range(count):
            client.read_until(f"id='n{i}' type='result'/>")  # in order, none lost
        return time.monotonic() - began

    def test_who_is_too_fast_is_read_later_but_for_administrators(self):
        self.assertGreater(self.time_of_pings(self.client("alice"), 60), 1.5)
        self.assertLess(self.time_of_pings(self.client("admin"), 60), 1.5)
        self.assertGreater(self.metric("covey_reads_delayed_total"), 0)
        self.assertGreater(self.time_of_pings(self.raw(direct=True).login("alice", "tls"), 60), 1.5)

    def test_a_stream_that_ends_while_it_is_held(self):
        carol = self.client("carol", "ends")
        carol.send("<presence/>" * 100 + "</stream:stream>")
        carol.close()
        self.wait_for(lambda: "carol@localhost/ends" not in self.server.cli("sessions", "--json").stdout, "the session ends")


class ListenerRates(Transport):
    extra = ('limits.rate.listener.bytes = "20 kB"\nlimits.rate.listener.bytes_burst = "20 kB"\n'
             'limits.rate.address.stanzas = 40\nlimits.rate.address.stanzas_burst = 80')
    inside = {"listen": 'shaped = ["127.0.0.1:{direct}"]'}

    def time_to_send(self, client, size):
        began = time.monotonic()
        client.send(f"<iq type='get' id='big' to='localhost'><x xmlns='urn:x'>{'x' * size}</x></iq>")
        client.read_until("id='big'")
        return time.monotonic() - began

    def test_bytes_by_listener_stanzas_by_address(self):
        shaped, free = self.raw(direct=True).login("alice", "s"), self.client("bob", "f")
        self.assertGreater(self.time_to_send(shaped, 80_000), 1.5)
        self.assertLess(self.time_to_send(free, 80_000), 1)
        time.sleep(2)  # the address's bucket is full again
        began = time.monotonic()
        pair = [self.client("bob", "one"), self.client("carol", "two")]
        for c in pair:
            c.send("".join(f"<iq type='get' id='n{i}' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>" for i in range(70)))
        for c in pair:
            c.read_until("id='n69' type='result'/>")
        self.assertGreater(time.monotonic() - began, 1)  # 140 stanzas of one address, 80 at once


class ClientsPerAddress(Transport):
    extra = "limits.clients_per_address = 2"

    def test_the_third_client_of_an_address(self):
        one, two = self.client("alice", "1"), self.client("bob", "2")
        third = self.raw()
        third.header()
        self.assertIn("success", third.plain("carol"))
        self.assertIn("<policy-violation ", third.read_to_end())
        self.wait_for_log("connection.too_many", "127.0.0.1:")
        self.assertEqual(self.metric('covey_connections_refused_total{reason="clients"}'), 1)
        one.close()
        two.ping()
        self.wait_for(lambda: "alice@localhost/1" not in self.server.cli("sessions", "--json").stdout, "the first is gone")
        self.client("carol", "3").ping()


# --- silence

class Pinged(Transport):
    extra = 'keepalive.by = "ping"\nkeepalive.interval = "1s"\nkeepalive.timeout = "1s"'

    def test_who_answers_stays_and_who_does_not_goes(self):
        alice, bob = self.client("alice", "answers"), self.client("bob", "does-not")
        ends = time.monotonic() + 6
        while time.monotonic() < ends:
            ping = alice.read_until("</iq>")
            self.assertIn("from='localhost'", ping)
            self.assertIn("to='alice@localhost/answers'", ping)
            self.assertIn("<ping xmlns='urn:xmpp:ping'/>", ping)
            number = re.search(r"id='([^']+)'", ping)[1]
            alice.send(f"<iq type='result' id='{number}' to='localhost'/>")
        got = bob.read_to_end()
        self.assertIn("<ping ", got)
        self.assertIn("<connection-timeout xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>", got)
        sessions = self.server.cli("sessions", "--json").stdout
        self.assertIn("alice@localhost/answers", sessions)
        self.assertNotIn("bob@localhost/does-not", sessions)
        self.assertEqual(self.metric("covey_connections_silent_total"), 1)
        self.wait_for_log("connection.silent")


class Whitespace(Transport):
    extra = 'keepalive.by = "whitespace"\nkeepalive.interval = "1s"'

    def test_one_byte_after_silence(self):
        alice = self.client("alice")
        self.assertEqual(alice.socket.recv(10), b" ")
        self.assertEqual(alice.socket.recv(10), b" ")
        alice.ping()


class KernelAsks(Transport):
    extra = 'keepalive.interval = "100s"'

    def test_the_kernel_s_timer_runs_for_bound_connections(self):
        alice = self.client("alice")
        alice.ping()
        port = alice.socket.getsockname()[1]

        def shown():
            return subprocess.run(["ss", "-tnoH", f"sport = :{self.server.port} and dport = :{port}"], stdout=subprocess.PIPE, text=True).stdout
        self.wait_for(lambda: re.search(r"timer:\(keepalive,(1min3\d|9\d)", shown()), "a keepalive timer")


# --- TLS

def connect(server, name="localhost", session=None, version=None, context=None):
    context = context or harness.trusting()
    if version:
        context.maximum_version = version
    s = context.wrap_socket(socket.create_connection(("127.0.0.1", server.direct), 10), server_hostname=name, session=session)
    s.sendall(f"<stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>".encode())
    s.recv(65536)  # tickets of TLS 1.3 come before
    return s


class Tickets(Transport):
    names = ()
    inside = {"tls": 'ticket_rotation = "3s"'}

    def test_resumed_until_the_keys_are_forgotten(self):
        for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
            with self.subTest(version):
                context = harness.trusting()
                first = connect(self.server, version=version, context=context)
                self.assertFalse(first.session_reused)
                again = connect(self.server, session=first.session, version=version, context=context)
                self.assertTrue(again.session_reused)
                if version == ssl.TLSVersion.TLSv1_3:  # its tickets are used once: who is resumed gets the next
                    self.assertNotEqual(again.session.id, first.session.id)
                third = connect(self.server, session=again.session, version=version, context=context)
                self.assertTrue(third.session_reused)
                time.sleep(6.5)
                late = connect(self.server, session=first.session, version=version, context=context)
                self.assertFalse(late.session_reused)
                for s in (first, again, third, late):
                    s.close()

    def test_openssl_resumes_and_a_renewed_certificate_ends_it(self):
        def client(*words):
            return subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{self.server.direct}", "-servername", "localhost", *words],
                                  input="<stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
                                        "</stream:stream>", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=20).stdout
        saved = str(self.server.folder / "session")
        self.assertIn("New, TLSv1.2", client("-tls1_2", "-sess_out", saved))
        self.assertIn("Reused, TLSv1.2", client("-tls1_2", "-sess_in", saved))
        context = harness.trusting()
        first = connect(self.server, context=context)
        (self.server.folder / "data/certificates/localhost.key").unlink()
        self.server.process.send_signal(signal.SIGHUP)
        self.wait_for_log("config.reloaded")
        second = connect(self.server, session=first.session, context=context)
        self.assertFalse(second.session_reused)  # tls-server-end-point would be another at each end
        third = connect(self.server, session=second.session, context=context)
        self.assertTrue(third.session_reused)
        for s in (first, second, third):
            s.close()


class NoTickets(Transport):
    names = ()
    inside = {"tls": 'ticket_rotation = "0s"'}

    def test_none_is_given(self):
        for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
            context = harness.trusting()
            first = connect(self.server, version=version, context=context)
            self.assertFalse(first.session.has_ticket if first.session else False)
            again = connect(self.server, session=first.session, version=version, context=context)
            self.assertFalse(again.session_reused)
            first.close()
            again.close()


class Names(Transport):
    names = ("alice",)
    extra = 'domains = ["other.example", "own.example"]'
    tables = '[host."own.example".tls]\ncertificate = "{folder}/own.pem"\nkey = "{folder}/own.key"'

    @classmethod
    def setUpClass(cls):
        server = harness.Server()
        cls.tables = Names.tables.format(folder=server.folder)
        server = cls.server = harness.Server(cls.extra, cls.tables, folder=server.folder)
        server.owns_folder = True
        cls.make_own()
        server.start()
        server.add("alice")

    @classmethod
    def make_own(cls):
        f = cls.server.folder
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=own",
                        "-addext", "subjectAltName=DNS:own.example", "-keyout", f / "own.key", "-out", f / "own.pem"], check=True, stderr=subprocess.DEVNULL)

    def certificates(self):
        all_of_them = {}
        for name in ("localhost", "other.example", "own.example"):
            s = connect(self.server, name)
            all_of_them[name] = s.getpeercert(binary_form=True)
            s.close()
        return all_of_them

    def renew(self, *words):
        seen = self.server.log.read_text().count("\n")
        self.server.process.send_signal(signal.SIGHUP)
        self.wait_for(lambda: any(all(w in line for w in words) for line in self.server.log.read_text().splitlines()[seen:]), words)

    def test_each_name_has_its_own_and_each_can_be_renewed_while_streams_live(self):
        before = self.certificates()
        self.assertEqual(len(set(before.values())), 3)
        alice = self.raw(direct=True).login("alice", "lives")
        (self.server.folder / "data/certificates/other.example.key").unlink()
        self.renew("config.reloaded")
        after = self.certificates()
        self.assertEqual(after["localhost"], before["localhost"])
        self.assertEqual(after["own.example"], before["own.example"])
        self.assertNotEqual(after["other.example"], before["other.example"])
        self.make_own()
        self.renew("config.reloaded")
        renewed = self.certificates()
        self.assertNotEqual(renewed["own.example"], after["own.example"])
        (self.server.folder / "own.pem").write_text("nonsense")
        self.renew("config.mistake", "own.example")
        self.assertEqual(self.certificates(), renewed)
        alice.ping()
        s = connect(self.server, "unknown.example")  # the first host's
        self.assertEqual(s.getpeercert(binary_form=True), renewed["localhost"])
        s.close()


if __name__ == "__main__":
    harness.main()
