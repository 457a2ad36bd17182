#!/usr/bin/python3
# What must not break a node: kill -9 under load, connections opened and dropped, concurrent roster changes,
# hostile input. Short here; --long runs the full counts (COVEY_TEST_LONG).
#
# Acknowledged means, for these clients without stream management: a registration or roster change that got its
# result, and a message to an absent user whose sender then saw the stored message counted by a later answer of
# the same account (the roster change that follows it): the account commits in order.
import os
import pathlib
import random
import re
import signal
import socket
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
import harness
from harness import Raw, is_long, password


def proc(server, what):
    folder = pathlib.Path(f"/proc/{server.process.pid}")
    if what == "fds":
        return len(list((folder / "fd").iterdir()))
    return int(re.search(r"RssAnon:\s*(\d+)", (folder / "status").read_text())[1])  # kB


class KillNine(unittest.TestCase):
    """Everything acknowledged is there after kill -9 and a start, no repair step."""

    def test_kill_under_load(self):
        rounds = 100 if is_long else 3
        server = harness.Server().start()
        known, roster, seed = [], {}, random.Random(7)
        try:
            server.add("writer", "absent")
            for n in range(rounds):
                acknowledged = {"names": [], "contacts": []}
                stop = threading.Event()
                threads = [threading.Thread(target=self.register, args=(server, n, acknowledged, stop)),
                           threading.Thread(target=self.change_roster, args=(server, n, acknowledged, stop))]
                for t in threads:
                    t.start()
                time.sleep(seed.uniform(0.2, 0.7))
                server.stop(signal.SIGKILL)
                stop.set()
                for t in threads:
                    t.join(20)
                server.start()
                known += acknowledged["names"]
                roster.update(dict(acknowledged["contacts"]))
                for name in acknowledged["names"]:
                    raw = Raw(server)
                    raw.header()
                    self.assertIn("success", raw.plain(name, "pass word"), f"{name} was acknowledged and is gone")
                    raw.close()
                writer = Raw(server).login("writer", "check")
                writer.send("<iq type='get' id='all'><query xmlns='jabber:iq:roster'/></iq>")
                got = writer.read_until("</query></iq>", "<query xmlns='jabber:iq:roster'/></iq>")
                writer.close()
                have = dict(re.findall(r"jid='(c[\d-]+@localhost)' name='(v\d+)'", got))
                for jid, name in roster.items():
                    self.assertIn(jid, have)
                    self.assertGreaterEqual(int(have[jid][1:]), int(name[1:]), f"{jid} lost an acknowledged change")
            self.assertGreater(len(known) + len(roster), rounds)
            print(f"{rounds} kills: {len(known)} accounts and {len(roster)} contacts acknowledged, lost 0", flush=True)
        finally:
            server.close()

    @staticmethod
    def register(server, round_number, acknowledged, stop):
        try:
            for n in range(10_000):
                if stop.is_set():
                    return
                raw = Raw(server)
                raw.header()
                if "result" in raw.register(f"u{round_number}-{n}", "pass word"):
                    acknowledged["names"].append(f"u{round_number}-{n}")
                raw.close()
        except (OSError, EOFError, AssertionError):
            pass

    @staticmethod
    def change_roster(server, round_number, acknowledged, stop):
        try:
            raw = Raw(server).login("writer", f"w{round_number}")
            for n in range(100_000):
                if stop.is_set():
                    return
                jid = f"c{n % 50}@localhost"
                raw.send(f"<iq type='set' id='c{n}'><query xmlns='jabber:iq:roster'><item jid='{jid}' name='v{round_number * 100_000 + n}'/></query></iq>")
                raw.read_until(f"id='c{n}' type='result'/>")
                acknowledged["contacts"].append((jid, f"v{round_number * 100_000 + n}"))
        except (OSError, EOFError, AssertionError):
            pass


class Churn(unittest.TestCase):
    def test_connections_opened_and_dropped_leave_nothing(self):
        count = 100_000 if is_long else 2_000
        server = harness.Server(tables="[limits]\nstrangers_per_address = 1000").start()
        try:
            server.add("alice")
            half = b"<?xml version='1.0'?><stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'><au"

            def churn(n):
                for k in range(n):
                    s = socket.create_connection(("127.0.0.1", server.port), 10)
                    if k % 3:
                        s.sendall(half[:k % len(half)])
                    s.close()
            churn(1_000)
            time.sleep(1.5)
            fds, memory = proc(server, "fds"), proc(server, "memory")
            churn(count)
            for _ in range(100):
                time.sleep(0.1)
                if proc(server, "fds") <= fds:
                    break
            self.assertLessEqual(proc(server, "fds"), fds)
            self.assertLess(proc(server, "memory") - memory, 8_000)  # kB
            Raw(server).login("alice").ping()
        finally:
            server.close()


class ConcurrentRoster(unittest.TestCase):
    def test_two_sessions_on_two_reactors_change_one_roster(self):
        count = 10_000 if is_long else 500
        server = harness.Server(reactors=2, extra="", tables="[limits]\nroster = 20000\nsession_messages = 40000\nsession_bytes = \"64 MB\"").start()
        try:
            server.add("alice")
            clients = [Raw(server).login("alice", f"r{n}") for n in range(2)]
            for c in clients:
                c.socket.settimeout(120)
                c.send("<iq type='get' id='g'><query xmlns='jabber:iq:roster'/></iq>")
                c.read_until("id='g' type='result'><query xmlns='jabber:iq:roster'/></iq>")
            pushes = [[], []]

            def work(i):
                c, done = clients[i], 0
                sender = threading.Thread(target=lambda: [c.send(f"<iq type='set' id='s{n}'><query xmlns='jabber:iq:roster'>"
                                                                 f"<item jid='c{i}-{n}@localhost' name='n'/></query></iq>") for n in range(count // 2)])
                sender.start()
                while done < count // 2 or len(pushes[i]) < count:
                    got = c.read_until("</iq>", "/>")
                    if "type='set'" in got or "<item" in got:
                        found = re.search(r"jid='(c[\d-]+@localhost)'", got)
                        if found:
                            pushes[i].append(found[1])
                    elif "type='result'" in got:
                        done += 1
                sender.join()
            threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
            for t in threads:
                t.start()
            for t in threads:
                t.join(600)
            self.assertEqual(len(pushes[0]), count)
            self.assertEqual(pushes[0], pushes[1])  # every change, in one order
            self.assertEqual(len(set(pushes[0])), count)
            check = Raw(server).login("alice", "check")
            check.socket.settimeout(60)
            check.send("<iq type='get' id='all'><query xmlns='jabber:iq:roster'/></iq>")
            self.assertEqual(len(re.findall("<item ", check.read_until("</query></iq>"))), count)
        finally:
            server.close()


class Hostile(harness.Case):
    tables = "[limits]\nlogin_timeout = \"2s\"\noutput = \"1 MB\"\nsession_bytes = \"64 kB\""

    def others_are_fine(self):
        alice = self.client("alice", "fine")
        bob = self.client("bob", "fine").presence()
        alice.send("<message to='bob@localhost/fine'><body>still here</body></message>")
        bob.read_until("still here")

    def gone(self, raw, limit=8):
        raw.socket.settimeout(limit)
        try:
            raw.read_to_end()
        except socket.timeout:
            self.fail("the server kept the connection")

    def test_one_deadline_from_accept_to_a_bound_session(self):
        silent, header, authenticated = self.raw(), self.raw(), self.raw()
        header.header()
        authenticated.header()
        authenticated.plain("alice")
        slow = self.raw()

        def drip():
            try:
                for _ in range(40):
                    slow.send(" ")
                    time.sleep(0.2)
            except OSError:
                pass
        t = threading.Thread(target=drip)
        t.start()
        for raw in (silent, header, authenticated, slow):
            self.gone(raw)
        t.join()
        tls = self.raw(direct=False)
        tls.header()
        tls.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        tls.read_until("/>")
        self.gone(tls)  # a handshake that never comes
        self.others_are_fine()

    def test_garbage_on_both_ports(self):
        for port in (self.server.port, self.server.direct):
            for garbage in (b"\x16\x03\x01" + os.urandom(300), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 1000, b"<" * 5000, b"<a>" * 3000):
                s = socket.create_connection(("127.0.0.1", port), 10)
                s.settimeout(8)
                try:
                    s.sendall(garbage)
                    while s.recv(65536):
                        pass
                except (ConnectionResetError, BrokenPipeError):
                    pass
                s.close()
        self.others_are_fine()

    def test_memory_before_login_stays_small(self):
        time.sleep(0.5)
        before = proc(self.server, "memory")
        raws = [self.raw() for _ in range(50)]
        for r in raws:
            r.send("<stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'><a b='" + "x" * 15_000)
        time.sleep(0.5)
        self.assertLess(proc(self.server, "memory") - before, 50 * 15 * 4 + 2_000)  # kB: under four bytes a byte
        self.others_are_fine()

    def test_a_client_that_does_not_read_is_cut_off_and_its_messages_kept(self):
        sender = self.client("alice", "flood")
        deaf = self.client("carol", "deaf")
        deaf.send("<presence/>")
        time.sleep(0.3)
        before = proc(self.server, "memory")
        body = "x" * 10_000
        for n in range(900):
            sender.send(f"<message to='carol@localhost' type='chat' id='f{n}'><body>{n} {body}</body></message>")
        sender.socket.settimeout(30)
        sender.ping()
        self.assertLess(proc(self.server, "memory") - before, 60_000)
        self.others_are_fine()
        deaf.socket.settimeout(10)
        seen = set()
        try:
            while True:
                seen.add(int(re.search(r"<body>(\d+) ", deaf.read_until("</message>"))[1]))
        except (EOFError, socket.timeout, ConnectionResetError):
            pass
        deaf.close()
        time.sleep(1)
        back = self.client("carol", "back")
        back.send("<presence/>")
        back.socket.settimeout(5)
        try:
            while len(seen) < 900:
                seen.add(int(re.search(r"<body>(\d+) ", back.read_until("</message>"))[1]))
        except (EOFError, socket.timeout):
            pass
        self.assertEqual(len(seen), 900)  # nothing was lost on the way

    def test_wrong_passwords_are_limited_and_the_right_one_works_elsewhere(self):
        refused = 0
        for _ in range(1_000 if is_long else 60):
            raw = Raw(self.server)
            raw.header()
            got = raw.plain("admin", "guess")
            refused += "temporary-auth-failure" in got
            raw.close()
        self.assertGreater(refused, 0)


class Limited(unittest.TestCase):
    def test_strangers_of_one_address(self):
        server = harness.Server(tables="[limits]\nstrangers_per_address = 10").start()
        try:
            server.add("alice")
            held = [Raw(server) for _ in range(9)]
            for r in held:
                r.header()
            alice = None
            try:
                alice = Raw(server).login("alice")
            except (EOFError, OSError):
                self.fail("the tenth was refused")
            for _ in range(3):
                held.append(Raw(server))
            refused = 0
            for r in held[9:]:
                try:
                    r.header()
                except (EOFError, OSError):
                    refused += 1
            self.assertGreater(refused, 0)
            alice.ping()
        finally:
            server.close()


if __name__ == "__main__":
    harness.main()
