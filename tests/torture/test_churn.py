#!/usr/bin/python3
# Connections that come and go in every way leave memory and descriptors where they were: 2,000 of them, 100,000
# with --long.
import socket
import struct
import unittest

import common
import harness
from harness import Raw

count = 100_000 if harness.is_long else 2_000
at_once = 50


class Churn(unittest.TestCase):
    def setUp(self):
        self.server = harness.Server("", '[limits]\nstrangers_per_address = 100000\n[log]\nlevel = "warning"', reactors=2)
        self.addCleanup(self.server.close)
        self.server.start()
        self.server.add("alice", "bob")

    def open(self, direct=False):
        s = socket.create_connection(("127.0.0.1", self.server.direct if direct else self.server.port), 10)
        s.settimeout(10)
        return s

    def reset(self, s):
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()

    def one(self, n):
        """Opens one connection of kind n and returns what drops it."""
        kind = n % 10
        if kind < 3:  # not a byte
            s = self.open()
            return s.close if kind else lambda: self.reset(s)
        if kind < 5:  # half a header
            s = self.open()
            s.sendall(b"<stream:stream to='localhost' version='1.0' xmlns='jabber:cl")
            return s.close if kind == 3 else lambda: self.reset(s)
        if kind < 7:  # half a TLS handshake, or none
            s = self.open(direct=True)
            s.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100) if kind == 5 else b"this is no TLS at all\r\n")
            return s.close
        if kind == 7:  # features read, the login begun
            raw = Raw(self.server)
            raw.header()
            raw.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1'>biwsbj1hbGljZSxyPWFiYw==</auth>")
            return raw.close
        raw = Raw(self.server).login("alice", f"r{n % 16}")  # a session, in the middle of a stanza
        raw.send("<presence/><message to='bob@localhost'><body>half a")
        return raw.close if kind == 8 else lambda: self.reset(raw.socket)

    def churn(self, number):
        held = []
        for n in range(number):
            held.append(self.one(n))
            if len(held) == at_once:
                for drop in held:
                    drop()
                held = []
        for drop in held:
            drop()

    def settle(self, listening):
        """When only the listeners are left: kB of memory, and descriptors of every kind."""
        gone = common.wait_until(lambda: common.descriptors(self.server, "socket") <= listening)
        self.assertTrue(gone, f"{common.descriptors(self.server, 'socket') - listening} connections are still there")
        return common.memory_kb(self.server), common.descriptors(self.server)

    def test_nothing_stays(self):
        listening = common.descriptors(self.server, "socket")
        self.churn(1_000)  # pools, caches and loops fill once
        warm, idle = self.settle(listening)
        self.churn(count)
        after, open_now = self.settle(listening)
        print(f"{count} connections: {warm} kB before, {after} kB after", flush=True)
        self.assertLessEqual(open_now, idle)
        self.assertLess(after - warm, 4_096 + warm // 10)
        self.assertEqual(self.server.cli("sessions", "--json").stdout.count('"jid"'), 0)
        Raw(self.server).login("bob").close()


if __name__ == "__main__":
    harness.main()
