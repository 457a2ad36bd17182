#!/usr/bin/python3
# Several nodes serve one host: what clients on different nodes notice of each other, and what they notice when a node is
# killed, stands still, or joins. Each client is on the node that its test names; HAProxy is before them all. --long: the
# killing and the freezing five times.
import re
import socket
import ssl
import tarfile
import threading
import time
import unittest
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import client
import nodes
from client import Client, Talk, befriend
from nodes import harness

rounds = 5 if harness.is_long else 1
settings = ["reactors = 1", "tls.require = false", "sasl.plain_without_tls = true", "sasl.iterations = 4096", "limits.strangers_per_address = 10000"]


class Case(unittest.TestCase):
    """One cluster for all tests of a class."""
    kind, size, extra, names = nodes.Cluster, 3, settings, ()

    @classmethod
    def setUpClass(cls):
        cls.cluster = cls.kind(cls.size, extra=cls.extra)
        try:
            cls.cluster.start()
            cls.add_users()
        except BaseException:
            cls.cluster.close()
            raise

    @classmethod
    def add_users(cls):
        cls.cluster["n1"].add(*cls.names)

    @classmethod
    def tearDownClass(cls):
        cls.cluster.close()

    def run(self, result=None):
        before = len(result.failures) + len(result.errors)
        super().run(result)
        if len(result.failures) + len(result.errors) > before:
            for n in self.cluster.nodes:
                print(f"--- {n.name}\n{nodes.tail(n.log)}", flush=True)

    def client(self, at, name, resource="r"):
        return self.keep(Client(self.cluster[at], name, resource))

    def keep(self, c):
        self.addCleanup(c.leave)
        return c

    def mend(self):
        """The cluster is whole again, for the next test."""
        for n in self.cluster.nodes:  # all at once: one without the others is not ready
            n.thaw()
        for n in self.cluster.nodes:
            if n.process.poll() is not None:
                n.start()
            nodes.wait_for(lambda: self.cluster.proxy.gives_to(n), "HAProxy gives it clients", step=0.2)

    def finish(self, talks, what):
        """The count of them all, when everything that was sent is acknowledged and has come."""
        for t in talks:
            t.stop()
        for c in {t.senders[-1] for t in talks}:
            c.settle()
        try:
            nodes.wait_for(lambda: all(t.acknowledged() <= t.delivered() for t in talks), "all of it comes", 30, 0.2)
        except TimeoutError:
            pass  # the count says what is missing
        found = client.total(talks)
        print(f"{what}: {', '.join(f'{name} {n}' for name, n in found.items())}", flush=True)
        self.assertGreater(found["sent"], 0)
        self.assertEqual(found["acknowledged"], found["sent"], "a sender waits for an acknowledgement")
        self.assertEqual({name: found[name] for name in ("lost", "doubled", "reordered", "bounced")}, dict(lost=0, doubled=0, reordered=0, bounced=0))


class Chat(Case):
    scenes = 0
    names = ("romeo", "juliet", "rosa", "tom", "mary", "nick", "olga", "paul", "quinn", "alice", "bob", "carol", "dave", "erin", "frank")

    # --- HAProxy

    def sessions(self, node):
        with urllib.request.urlopen(f"http://127.0.0.1:{node.http}/metrics", timeout=10) as page:
            return sum(float(n) for n in re.findall(r"^covey_sessions\S* (\S+)$", page.read().decode(), re.M))

    def test_haproxy_gives_each_node_its_share_and_says_who_the_clients_are(self):
        before = [self.sessions(n) for n in self.cluster.nodes]
        held = [self.keep(Client(self.cluster.proxy, "frank", f"f{n}")) for n in range(6)]
        self.assertEqual([self.sessions(n) - b for n, b in zip(self.cluster.nodes, before)], [2, 2, 2])
        peers = {s["jid"]: s["peer"] for n in self.cluster.nodes for s in n.ask("sessions")["sessions"]}
        for c in held:
            self.assertEqual(peers[c.jid], "127.0.0.1:{}".format(c.raw.socket.getsockname()[1]))

    def test_all_show_the_same_certificate(self):
        trusts = ssl.create_default_context(cafile=str(self.cluster["n1"].authority))
        seen = set()
        for at in (*self.cluster.nodes, self.cluster.proxy):
            raw = harness.Raw(at, direct=True, context=trusts)
            self.addCleanup(raw.close)
            raw.login("frank", "tls").ping()
            seen.add(raw.socket.getpeercert(binary_form=True))
        self.assertEqual(len(seen), 1)

    def test_a_tls_session_is_resumed_at_another_node(self):
        trusts = ssl.create_default_context(cafile=str(self.cluster["n1"].authority))
        raw = harness.Raw(self.cluster["n1"], direct=True, context=trusts)
        self.addCleanup(raw.close)
        raw.login("frank", "first").ping()
        for at in ("n2", "n3"):
            node = self.cluster[at]
            with trusts.wrap_socket(socket.create_connection((node.ip, node.direct), 10), server_hostname="localhost", session=raw.socket.session) as s:
                self.assertTrue(s.session_reused, at)

    def test_a_session_of_another_node_is_listed_and_ended(self):
        frank = self.client("n3", "frank", "far")
        found = nodes.wait_for(lambda: [s for s in self.cluster["n1"].ask("sessions", frank.bare)["sessions"] if s["jid"] == frank.jid], "n1 knows it")
        self.assertEqual((found[0]["node"], found[0]["available"]), ("n3", True))
        done = self.cluster["n1"].cli("kick", frank.jid, "--reason", "enough", "--yes")
        self.assertEqual(done.returncode, 0, done.stderr)
        nodes.wait_for(lambda: frank.ended, "it ends")
        self.assertIn("policy-violation", str(frank.error))

    def test_clients_that_come_while_a_node_is_down_find_another(self):
        self.addCleanup(self.mend)
        self.cluster["n3"].kill()
        for n in range(6):  # also before HAProxy has noticed
            self.keep(Client(self.cluster.proxy, "frank", f"down{n}")).ping()

    # --- no fault

    def test_two_users_on_two_nodes(self):
        romeo, juliet = self.client("n1", "romeo"), self.client("n2", "juliet")
        befriend(romeo, juliet)
        for n in range(20):
            romeo.say(juliet.jid, f"to full {n}")
            juliet.say(romeo.bare, f"to bare {n}")
        juliet.hears("to full 19")
        romeo.hears("to bare 19")
        self.assertEqual([m.text for m in juliet.messages], [f"to full {n}" for n in range(20)])
        self.assertEqual([m.text for m in romeo.messages], [f"to bare {n}" for n in range(20)])
        self.assertEqual(juliet.messages[0].sender, romeo.jid)
        romeo.settle()
        romeo.send("<presence><show>away</show><status>reading</status></presence>")
        juliet.sees(romeo.jid, status="reading")
        phone = self.client("n3", "juliet", "phone")  # comes later, on the third node: the server asks for it
        phone.sees(romeo.jid, status="reading")
        romeo.sees(phone.jid)
        romeo.leave()
        for c in (juliet, phone):
            c.sees(romeo.jid, "unavailable")
            self.assertEqual(c.count(romeo.jid, "unavailable"), 1)
        juliet.say(romeo.bare, "while away")
        juliet.settle()
        juliet.drop()  # without a word: its session waits to be resumed, and nobody is told yet
        romeo = self.client("n2", "romeo")
        romeo.hears("while away")
        romeo.sees(juliet.jid)
        self.assertEqual(phone.count(romeo.jid, "unavailable"), 1)

    def test_a_session_is_resumed_at_another_node(self):
        rosa, tom = self.client("n1", "rosa", "moves"), self.client("n2", "tom", "stays")
        befriend(rosa, tom)
        tom.say(rosa.jid, "before")
        rosa.hears("before")
        rosa.drop()
        for n in range(3):
            tom.say(rosa.jid, f"while {n}")
        rosa = self.keep(rosa.again(self.cluster["n3"]))
        self.assertTrue(rosa.is_resumed)
        rosa.hears("while 2")
        self.assertEqual([m.text for m in rosa.messages], [f"while {n}" for n in range(3)])
        rosa.say(tom.jid, "back")
        tom.hears("back")
        self.assertEqual(tom.count(rosa.jid, "unavailable"), 0, "nobody noticed")

    def test_two_devices_of_one_account_on_two_nodes(self):
        desk, phone, nick = self.client("n1", "mary", "desk"), self.client("n2", "mary", "phone"), self.client("n3", "nick")
        desk.sees(phone.jid)
        phone.sees(desk.jid)
        for c in (desk, phone):
            c.ask("<enable xmlns='urn:xmpp:carbons:2'/>", "set")
        nick.say(desk.jid, "to the desk")
        desk.hears("to the desk")
        phone.wait(lambda: any(m.is_carbon and m.text == "to the desk" for m in phone.messages), "a copy of what the desk received")
        desk.say(nick.jid, "from the desk")
        nick.hears("from the desk")
        phone.wait(lambda: any(m.is_carbon and m.text == "from the desk" for m in phone.messages), "a copy of what the desk sent")
        desk.ask("<query xmlns='jabber:iq:roster'><item jid='tybalt@example.org' name='Tybalt'/></query>", "set")
        for c in (desk, phone):
            c.wait(lambda: any(p["jid"] == "tybalt@example.org" and p["name"] == "Tybalt" for p in c.pushes), "the roster's change")
        phone.ping()
        self.assertEqual([(m.text, m.is_carbon) for m in phone.messages], [("to the desk", True), ("from the desk", True)])
        self.assertEqual([(m.text, m.is_carbon) for m in desk.messages], [("to the desk", False)])

    def test_what_waited_comes_once_though_two_devices_come_at_once(self):
        nick = self.client("n3", "nick", "sends")
        for n in range(5):
            self.client("n1", "olga", "before").leave()
            text = f"waited {n}"
            nick.say("olga@localhost", text)
            nick.settle()
            with ThreadPoolExecutor(2) as both:
                devices = list(both.map(lambda at: self.client(at, "olga", at), ("n1", "n2")))
            got = nodes.wait_for(lambda: [(c, m) for c in devices for m in list(c.messages) if m.text == text], "it comes", 10)
            time.sleep(0.5)
            for c in devices:
                c.ping()
            self.assertEqual([m.text for c in devices for m in c.messages], [text])
            c, m = got[0]
            self.assertTrue(m.is_delayed)
            c.wait(lambda: c.told >= m.number, "its acknowledgement is asked for")
            for d in devices:
                d.leave()
            last = self.client("n3", "olga", "last")
            last.ping()
            self.assertEqual(last.messages, [], "it was acknowledged")
            last.leave()

    def test_the_later_of_two_sessions_with_one_address_stays(self):
        watcher = self.client("n3", "quinn")
        last = self.client("n1", "paul", "same")
        for n, at in enumerate(("n2", "n1", "n3", "n2")):
            last.acks = False
            watcher.say(last.jid, f"open {n}")
            last.hears(f"open {n}")
            old, last = last, self.client(at, "paul", "same")
            old.wait(lambda: old.ended, "the older session ends")
            self.assertEqual(old.error, "conflict")
            last.hears(f"open {n}")  # the older one had not acknowledged it
            watcher.say(last.jid, f"to the winner {n}")
            message = last.hears(f"to the winner {n}")
            last.wait(lambda: last.told >= message.number, "its acknowledgement is asked for")
            last.ping()
            self.assertEqual([m.text for m in last.messages], [f"open {n}", f"to the winner {n}"])
            self.assertFalse(last.ended)
        watcher.settle()

    # --- faults

    def scene(self):
        """alice and bob on n1 and n3 talk; carol on n2 is their friend, and talks with them; the account of dave is at home on
        n2, where his desk came first, but it is his phone on n1 that talks with erin on n3."""
        alice, bob, carol = (self.client(at, name) for at, name in (("n1", "alice"), ("n3", "bob"), ("n2", "carol")))
        for c in (alice, bob):
            befriend(c, carol)
        desk, phone, erin = self.client("n2", "dave", "desk"), self.client("n1", "dave", "phone"), self.client("n3", "erin")
        ways = {"alice-bob": (alice, bob), "bob-alice": (bob, alice), "bob-carol": (bob, carol), "carol-alice": (carol, alice),
                "phone-erin": (phone, erin), "erin-phone": (erin, phone)}
        Chat.scenes += 1  # what one scene leaves behind is not another's
        talks = {label: Talk(f"{label}-{Chat.scenes}", *who) for label, who in ways.items()}
        self.addCleanup(lambda: [t.stop() for t in talks.values()])
        return alice, bob, carol, desk, phone, erin, talks

    def test_a_node_is_killed_while_clients_of_the_others_talk(self):
        for _ in range(rounds):
            self.addCleanup(self.mend)
            alice, bob, carol, desk, phone, erin, talks = self.scene()
            time.sleep(3)
            carol.acks = False
            time.sleep(1)  # what she has not acknowledged is stored by now, and her friends have their acknowledgements
            with carol.changed:
                still_open = [m.text for m in carol.messages if m.number > carol.told]
            self.cluster["n2"].kill()
            began = time.monotonic()
            desk = self.keep(desk.again(self.cluster.proxy))  # before anybody knows that the node is gone
            desk.ping()
            carol.wait(lambda: carol.ended, "its connection ends")
            for c in (alice, bob):
                c.sees(carol.jid, "unavailable", limit=15)
            print(f"unavailable after {time.monotonic() - began:.1f} s", flush=True)
            carol = self.keep(carol.again(self.cluster.proxy))
            self.assertFalse(carol.is_resumed, "its session was lost with the node")
            talks["carol-alice"].senders.append(carol)
            talks["bob-carol"].receivers.append(carol)
            for text in still_open:
                carol.hears(text)
            self.assertGreater(len(still_open), 0)
            time.sleep(8)  # past the time after which silence alone would count as death
            self.finish(talks.values(), "killed")
            for c in (alice, bob, phone, erin):
                self.assertFalse(c.ended, f"{c.jid} lost its connection")
            self.mend()
            frank = self.client("n2", "frank", "after")
            frank.say(alice.jid, "n2 is back")
            alice.hears("n2 is back")
            for c in (alice, bob):
                self.assertEqual(c.count(carol.jid, "unavailable"), 1)
                self.assertEqual(c.presences[-1][:2], (carol.jid, "available"))
            self.doCleanups()

    def test_a_node_stands_still_for_five_seconds(self):
        for _ in range(rounds):
            self.addCleanup(self.mend)
            alice, bob, carol, desk, phone, erin, talks = everybody = self.scene()
            time.sleep(2)
            began = time.monotonic()
            self.cluster["n2"].freeze()
            time.sleep(5)
            self.cluster["n2"].thaw()
            ended = time.monotonic()
            time.sleep(3)
            self.finish(talks.values(), "frozen")
            for c in everybody[:6]:
                self.assertFalse(c.ended, f"{c.jid} lost its connection")
            for c in (alice, bob):
                self.assertEqual(c.count(carol.jid, "unavailable"), 0)
            moments = [began, *(m.at for m in bob.messages if talks["alice-bob"].number(m.text) and began < m.at < ended), ended]
            gap = max(b - a for a, b in zip(moments, moments[1:]))
            print(f"longest silence between clients of the other nodes: {gap:.1f} s", flush=True)
            self.assertLess(gap, 2)
            self.doCleanups()

    def flood(self, sinks, per_sender):
        """More than the link to n2 should hold, from two of n1's clients to all of these; without stream management, which would stop
        them sooner."""
        def run(sender):
            for n in range(0, per_sender, 50):
                sender.send("".join(f"<message to='{sinks[k % len(sinks)].jid}' type='chat'><body>{sender.name}:{k}</body></message>" for k in range(n, n + 50)))
        senders = [client.Stream(self.cluster["n1"]).login("frank", f"flood{k}") for k in range(2)]
        for k, s in enumerate(senders):
            self.addCleanup(s.close)
            s.name = f"flood{k}"
            s.socket.settimeout(60)
        return [threading.Thread(target=run, args=(s,), daemon=True) for s in senders]

    def paused(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.cluster['n1'].http}/metrics", timeout=10) as page:
            return sum(float(n) for n in re.findall(r"^covey_reads_waiting_total\S* (\S+)$", page.read().decode(), re.M))

    def test_only_those_who_flood_a_node_that_stands_still_wait_for_it(self):
        self.addCleanup(self.mend)
        alice, bob, tom = self.client("n1", "alice", "calm"), self.client("n3", "bob", "calm"), self.client("n1", "tom", "calm")
        sinks = [Sink(self.cluster["n2"], name) for name in ("nick", "olga", "paul", "quinn")]
        for s in sinks:
            self.addCleanup(s.close)
        talks = {f"{a.user}-{b.user}": Talk(f"{a.user}-{b.user}-calm", a, b) for a, b in ((alice, bob), (bob, alice), (tom, alice), (alice, tom))}
        time.sleep(1)
        per_sender, before = 20_000, self.paused()
        floods = self.flood(sinks, per_sender)
        began = time.monotonic()
        self.cluster["n2"].freeze()
        for f in floods:
            f.start()
        time.sleep(5)
        waited = self.paused() - before
        self.cluster["n2"].thaw()
        ended = time.monotonic()
        for f in floods:
            f.join(30)
            self.assertFalse(f.is_alive(), "a sender is not read again")
        for k, s in enumerate(sinks):
            s.wait(2 * per_sender // len(sinks))
            self.assertEqual(s.problem, None)
            for k2 in range(2):
                self.assertEqual([n for name, n in s.came if name == f"flood{k2}"], list(range(k, per_sender, len(sinks))), f"{s.jid} from flood{k2}")
        self.finish(talks.values(), "a flood for a node that stands still")
        gap, where = max((t.longest_gap(began, ended), label) for label, t in talks.items())
        print(f"{waited:.0f} pauses; longest silence between clients of the other nodes: {gap:.1f} s ({where})", flush=True)
        self.assertGreater(waited, 0, "no sender was paused: this is no flood")
        self.assertLess(gap, 1.5)


class Sink(threading.Thread):
    """Somebody without stream management who reads what a flood brings: (sender's resource, number) in `came`."""

    def __init__(self, at, name):
        super().__init__(daemon=True)
        self.raw = client.Stream(at).login(name, "sink")
        self.raw.presence()
        self.jid, self.came, self.problem = f"{name}@{nodes.host}/sink", [], None
        self.raw.socket.settimeout(30)
        self.start()

    def run(self):
        text = self.raw.buffer
        try:
            while data := self.raw.socket.recv(65536):
                text += data.decode()
                found = list(re.finditer(r"<body>(flood[0-9]+):([0-9]+)</body>", text))
                self.came += [(m[1], int(m[2])) for m in found]
                text = text[found[-1].end():] if found else text
                if "type='error'" in text:
                    self.problem = text
        except OSError as why:
            self.problem = why

    def wait(self, count):
        try:
            nodes.wait_for(lambda: len(self.came) >= count, f"{count} for {self.jid}", 30, 0.1)
        except TimeoutError:
            pass  # what is missing is judged by who waits

    def close(self):
        self.raw.close()


class Joining(Case):
    size, names = 2, ("alice", "bob", "carol", "zoe")

    def test_a_new_node_joins_by_a_token_while_clients_talk(self):
        alice, bob, zoe = self.client("n1", "alice"), self.client("n2", "bob"), self.keep(Client(self.cluster.proxy, "zoe"))
        befriend(alice, bob)
        talks = [Talk("alice-bob", alice, bob), Talk("bob-alice", bob, alice)]
        self.addCleanup(lambda: [t.stop() for t in talks])
        time.sleep(1)
        began = time.monotonic()
        n3 = self.cluster.add()
        took = time.monotonic() - began
        carol = self.client(n3.name, "carol")
        befriend(carol, alice)
        talks += [Talk("carol-bob", carol, bob), Talk("alice-carol", alice, carol)]
        time.sleep(3)
        self.finish(talks, f"joined within {took:.1f} s")
        self.assertLess(took, 30)
        zoe.ping()  # HAProxy has a new configuration, her connection is the old one
        for n in range(3):
            self.keep(Client(self.cluster.proxy, "zoe", f"new{n}")).ping()
        for c in (alice, bob):
            self.assertFalse(c.ended)
            self.assertFalse(any(kind == "unavailable" for _, kind, _ in c.presences))

    def test_a_node_that_lost_its_disk_comes_back_from_its_backup(self):
        """n1, which has the authority and the certificate that clients see."""
        n1, n2 = self.cluster.nodes[:2]
        kept, data, archive = n1.folder / "data/cluster", n1.folder / "data", n1.folder / "n1.tar"
        n1.ask("cluster", "token", "--address", n1.address)  # one that is not used
        names = ("ca.pem", "ca.key", "node.pem", "node.key")
        before = {name: (kept / name).read_bytes() for name in names}
        old = (kept / "identity").read_text().split()[0]
        n1.ask("backup", archive)
        self.assertEqual(archive.stat().st_mode & 0o777, 0o600)
        with tarfile.open(archive) as tar:
            self.assertEqual({name for name in tar.getnames() if name.startswith("cluster/")}, {f"cluster/{name}" for name in names})
        n1.kill()
        data.rename(n1.folder / "lost")
        done = n1.ask("restore", archive)
        self.assertEqual((done["replaced"], done["cluster"]), ("", "restored"))
        self.assertEqual({f.name: f.read_bytes() for f in kept.iterdir()}, before)
        for name in ("ca.key", "node.key"):
            self.assertEqual((kept / name).stat().st_mode & 0o777, 0o600)
        n1.start()
        self.assertNotEqual((kept / "identity").read_text().split()[0], old, "another disk is another node")

        def alive(at):
            return sorted(n["name"] for n in at.ask("cluster", "status")["nodes"] if n["state"] in ("self", "alive"))
        for at in (n1, n2):
            nodes.wait_for(lambda: alive(at) == sorted(n.name for n in self.cluster.nodes), f"{at.name} sees all", 30)
            versions = {n["version"] for n in at.ask("cluster", "status")["nodes"] if n["state"] in ("self", "alive")}
            self.assertEqual(len(versions), 1, versions)
            self.assertRegex(versions.pop(), r"^\d+\.\d+")
        alice, bob = self.client("n1", "alice", "back"), self.client("n2", "bob", "back")
        alice.say(bob.jid, "n1 is back")
        bob.hears("n1 is back")
        n1.ask("cluster", "token", "--address", n1.address)  # it can take in others again
        alice.leave()
        n1.stop()
        (kept / "node.pem").write_bytes(b"somebody's")  # not looked into: it is there
        (kept / "ca.key").unlink()
        done = n1.ask("restore", archive, "--yes")
        self.assertEqual(done["cluster"], "kept")
        self.assertEqual((kept / "node.pem").read_bytes(), b"somebody's")
        self.assertFalse((kept / "ca.key").exists())
        for name in ("node.pem", "ca.key"):
            (kept / name).write_bytes(before[name])
        n1.start()
        for at in (n1, n2):
            nodes.wait_for(lambda: alive(at) == sorted(n.name for n in self.cluster.nodes), f"{at.name} sees all", 30)


if __name__ == "__main__":
    harness.main()
