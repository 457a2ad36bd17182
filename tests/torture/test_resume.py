#!/usr/bin/python3
# Connections are cut at random points while two clients with stream management write to each other; each comes back by
# resumption. What was sent arrives once and in order: lost 0, doubled 0 (docs/delivery.md). --long: a thousand cuts.
import os
import pathlib
import random
import re
import socket
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
import harness

sm = "urn:xmpp:sm:3"
cuts = 1000 if harness.is_long else 60


class Client:
    """A client that keeps what it sent until the server has acknowledged it, and resumes."""

    def __init__(self, server, name):
        self.server, self.name, self.got, self.handled, self.sent = server, name, [], 0, 0
        self.unacked, self.acked, self.buffer = [], 0, ""
        self.raw = harness.Raw(server).login(name, "r")
        self.raw.send(f"<presence/><enable xmlns='{sm}' resume='true'/>")
        self.id = re.search(" id='([^']*)'", self.raw.read_until("<enabled ") + self.raw.read_until("/>"))[1]
        self.buffer, self.raw.buffer = self.raw.buffer, ""

    def say(self, to, text):
        xml = f"<message to='{to}@localhost/r' type='chat'><origin-id xmlns='urn:xmpp:sid:0' id='{text}'/><body>{text}</body></message>"
        self.unacked.append(xml)
        self.write(xml)

    def write(self, xml):
        try:
            self.raw.socket.sendall(xml.encode())
        except OSError:
            pass

    def pump(self, seconds=0.0):
        """Reads what is there; answers <r/>."""
        end = time.monotonic() + seconds
        while True:
            self.raw.socket.settimeout(max(0.001, end - time.monotonic()))
            try:
                data = self.raw.socket.recv(65536)
                if not data:
                    return
                self.buffer += data.decode()
            except (TimeoutError, socket.timeout):
                pass
            except OSError:
                return
            self.parse()
            if time.monotonic() >= end:
                return

    def parse(self):
        while True:
            m = re.match(r"<r xmlns='urn:xmpp:sm:3'/>|<a xmlns='urn:xmpp:sm:3' h='([0-9]+)'/>|<message [^>]*>.*?</message>|<presence[^>]*/>|<presence[^>]*>.*?</presence>",
                         self.buffer, re.S)
            if not m:
                return
            self.buffer = self.buffer[m.end():]
            text = m[0]
            if text.startswith("<r "):
                self.write(f"<a xmlns='{sm}' h='{self.handled}'/>")
            elif text.startswith("<a "):
                self.acknowledge(int(m[1]))
            else:
                self.handled += 1
                self.got += re.findall("<body>([^<]*)</body>", text)

    def acknowledge(self, h):
        assert h >= self.acked and h - self.acked <= len(self.unacked), f"{self.name}: h {h}, acked {self.acked}, open {len(self.unacked)}"
        self.unacked = self.unacked[h - self.acked:]
        self.acked = h

    def cut(self):
        if random.random() < 0.5:
            self.raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
        self.raw.close()

    def resume(self):
        self.raw = harness.Raw(self.server)
        self.raw.header()
        assert "success" in self.raw.plain(self.name)
        self.raw.header()
        self.raw.send(f"<resume xmlns='{sm}' previd='{self.id}' h='{self.handled}'/>")
        answer = self.raw.read_until("/>", "</failed>")
        if "<resumed " not in answer:
            raise AssertionError(f"{self.name}: {answer}")
        self.acknowledge(int(re.search(" h='([0-9]+)'", answer)[1]))
        self.buffer, self.raw.buffer = self.raw.buffer, ""
        for xml in self.unacked:
            self.write(xml)
        return answer


def run(reactors):
    seed = int(os.environ.get("COVEY_SEED", time.time_ns() % 1_000_000))
    random.seed(seed)
    print(f"seed {seed}, {reactors} reactors, {cuts} cuts", flush=True)
    server = harness.Server(reactors=reactors).start()
    try:
        server.add("alice", "bob")
        clients = {n: Client(server, n) for n in ("alice", "bob")}
        said = {"alice": [], "bob": []}
        for k in range(cuts):
            for name, other in (("alice", "bob"), ("bob", "alice")):
                for _ in range(random.randrange(6)):
                    text = f"{name}{len(said[name])}"
                    said[name].append(text)
                    clients[name].say(other, text)
            for c in clients.values():
                c.pump(random.choice((0, 0.002, 0.02)))
            victim = clients[random.choice(("alice", "bob"))]
            if random.random() < 0.8:
                victim.cut()
                if random.random() < 0.5:
                    for c in clients.values():
                        if c is not victim:
                            c.pump(0.005)
            victim.resume()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and any(len(clients[o].got) < len(said[n]) for n, o in (("alice", "bob"), ("bob", "alice"))):
            for c in clients.values():
                c.pump(0.05)
        for name, other in (("alice", "bob"), ("bob", "alice")):
            got = clients[other].got
            lost = [t for t in said[name] if t not in set(got)]
            doubled = len(got) - len(set(got))
            assert not lost, f"lost {len(lost)} of {len(said[name])}: {lost[:5]}"
            assert doubled == 0, f"doubled {doubled}"
            assert got == said[name], "out of order"
        print(f"{sum(map(len, said.values()))} messages: lost 0, doubled 0", flush=True)
    finally:
        server.close()


if __name__ == "__main__":
    failed = 0
    for n in (1, 2):
        try:
            run(n)
        except (AssertionError, EOFError, OSError) as why:
            failed += 1
            print(f"FAIL with {n} reactors: {why!r}", flush=True)
    print(f"{2 - failed} passed, {failed} failed", flush=True)
    raise SystemExit(1 if failed else 0)
