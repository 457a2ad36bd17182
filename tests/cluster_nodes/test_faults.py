#!/usr/bin/python3
# Faults of the network and the machines under a cluster, each node in a network namespace of its own: clients talk all the time, and
# what was acknowledged is counted. Without --long: one split. test_cluster.py has the killed node and the one that stands still.
import shutil
import signal
import threading
import time
import unittest

import client
import namespaces
import nodes
from client import Client, Roamer, Talk, befriend
from nodes import harness
from test_cluster import Case, settings

missing, network = None, None
long = unittest.skipUnless(harness.is_long, "only with --long")


def setUpModule():
    global network
    if missing:
        raise unittest.SkipTest(f"needs network namespaces, which this machine does not let it make: {missing}")
    network = namespaces.Network()


def tearDownModule():
    network.close()


class Faults(Case):
    """n1, n2 and n3 in places of their own, the database in another ("db"), HAProxy and the clients in that of the test. Everybody
    is where his name says; carol and dave, on n2, are those who are cut off in most tests."""
    names = ("alice", "bob", "carol", "dave", "erin", "zoe", "late")
    scenes = 0

    @classmethod
    def setUpClass(cls):
        cls.cluster = nodes.Cluster(cls.size, extra=settings, places=network, ports=lambda number: range(5222, 5228 if number else 5224))
        try:
            cls.prepare()
            cls.cluster.start()
            cls.cluster["n1"].add(*cls.names)
        except BaseException:
            cls.cluster.close()
            raise

    @classmethod
    def prepare(cls):
        pass

    def setUp(self):
        self.addCleanup(self.mend)
        self.addCleanup(network.heal)

    def scene(self, per_second=10):
        """Friends on all nodes. dave's account is at home on n2, where his desk came first, but his phone is on n1."""
        Faults.scenes += 1
        self.alice, self.bob, self.carol = (self.client(at, name) for at, name in (("n1", "alice"), ("n3", "bob"), ("n2", "carol")))
        self.desk, self.phone, self.erin = self.client("n2", "dave", "desk"), self.client("n1", "dave", "phone"), self.client("n3", "erin")
        self.friends = (self.alice, self.bob), (self.alice, self.carol), (self.bob, self.carol)
        for one, other in self.friends:
            befriend(one, other)
        ways = {"alice-bob": (self.alice, self.bob), "bob-alice": (self.bob, self.alice), "carol-desk": (self.carol, self.desk),
                "alice-carol": (self.alice, self.carol), "carol-alice": (self.carol, self.alice), "bob-carol": (self.bob, self.carol),
                "carol-bob": (self.carol, self.bob), "phone-erin": (self.phone, self.erin), "erin-phone": (self.erin, self.phone)}
        devices = {self.desk: [self.phone], self.phone: [self.desk]}
        talks = {label: Talk(f"{label}-{self.scenes}", *who, per_second=per_second, others=devices.get(who[1], ())) for label, who in ways.items()}
        self.addCleanup(lambda: [t.stop() for t in talks.values()])
        return talks

    # --- what is seen

    def watch_health(self):
        """By name of a node: what its /readyz says from now on, as (when, status, text)."""
        seen, is_over = {n.name: [] for n in self.cluster.nodes}, threading.Event()

        def look(node):
            while not is_over.wait(0.1):
                seen[node.name].append((time.monotonic(), *node.probe("/readyz")))
        lookers = [threading.Thread(target=look, args=(n,), daemon=True) for n in self.cluster.nodes]

        def stop():
            is_over.set()
            for one in lookers:
                one.join()
        self.addCleanup(stop)
        for one in lookers:
            one.start()
        return seen

    def has_converged(self):
        """All nodes see all, and the same number of sessions at each."""
        seen = []
        for n in self.cluster.nodes:
            try:
                seen.append(sorted((o["name"], "alive" if o["state"] == "self" else o["state"], o["sessions"]) for o in n.ask("cluster", "status")["nodes"]))
            except RuntimeError:
                return False
        return all(s == seen[0] for s in seen) and len(seen[0]) == self.size and all(state == "alive" for _, state, _ in seen[0])

    def reach(self, ways, began, limit=60):
        """When a message to the very session came at once, each way."""
        open_ways, number, took = list(ways), 0, 0
        while open_ways:
            self.assertLess(time.monotonic(), began + limit, f"not routable: {[(a.jid, b.jid) for a, b in open_ways]}")
            number += 1
            for one, other in open_ways:
                one.say(other.jid, f"probe:{one.user}-{other.user}-{self.scenes}-{number}")
            time.sleep(0.1)
            for way in list(open_ways):
                start = f"probe:{way[0].user}-{way[1].user}-{self.scenes}-"
                came = [m.at for m in list(way[1].messages) if (m.text or "").startswith(start) and not m.is_delayed and m.at > began]
                if came:
                    took = max(took, min(came) - began)
                    open_ways.remove(way)
        return took

    def presences(self, watcher, of):
        with watcher.changed:
            return [kind for jid, kind, _ in watcher.presences if jid == of.jid]

    def lose_sight(self, pairs, began):
        """When the last of them saw the other one leave."""
        for one, other in pairs:
            one.sees(other.jid, "unavailable", limit=20)
            other.sees(one.jid, "unavailable", limit=20)
        return time.monotonic() - began

    def regain_sight(self, pairs, began):
        ways = [*pairs, *((b, a) for a, b in pairs)]
        blind = lambda: [(one, other) for one, other in ways if self.presences(one, other)[-1] != "available"]
        try:
            nodes.wait_for(lambda: not blind(), "all see each other again", 30)
        except TimeoutError:
            self.fail("not seen again: " + ", ".join(f"{other.jid} by {one.jid} ({self.presences(one, other)})" for one, other in blind()))
        return time.monotonic() - began

    def conclude(self, what, talks, healthy, began, healed, ended=None, may_bounce=False):
        """Stops the talks, prints and judges the count. `healthy`: those between clients that no fault concerned."""
        ended = ended or time.monotonic()
        for t in talks.values():
            t.stop()
        for c in {t.senders[-1] for t in talks.values()}:
            c.settle(60)
        try:
            nodes.wait_for(lambda: all(t.acknowledged() - t.bounced() <= t.delivered() for t in talks.values()), "all of it comes", 30, 0.2)
        except TimeoutError:
            pass  # the count says what is missing
        for t in talks.values():
            if (c := t.count())["lost"] or c["doubled"] or c["reordered"] or c["bounced"] and not may_bounce:
                print(f"{t.label}: {c}\n  {t.story(began)}", flush=True)
        found = client.total(list(talks.values()))
        gap, where = max(((talks[label].longest_gap(began, ended), label) for label in healthy), default=(0, ""))
        print(f"\n{what}: {', '.join(f'{name} {n}' for name, n in found.items())}, longest gap for clients of healthy nodes {gap:.1f} s ({where}), "
              f"time to heal {healed:.1f} s", flush=True)
        self.assertGreater(found["sent"], 0)
        self.assertEqual(found["acknowledged"], found["sent"], "a sender waits for an acknowledgement")
        if not may_bounce:
            self.assertEqual(found["bounced"], 0)
        self.assertEqual({name: found[name] for name in ("lost", "doubled", "reordered")}, dict(lost=0, doubled=0, reordered=0))
        return gap

    def lost(self, names):
        return [(getattr(self, a), getattr(self, b)) for a, b in names]

    def all_ways(self):
        return [w for a, b in self.friends for w in ((a, b), (b, a))]

    def stay(self):
        for c in (self.alice, self.bob, self.carol, self.desk, self.phone, self.erin):
            self.assertFalse(c.ended, f"{c.jid} lost its connection: {c.error} {c.problem}")

    def heal(self, pairs, ways):
        """How long until everything is as before: presence, routes, what the nodes say."""
        network.heal()
        healed = time.monotonic()
        routable = self.reach(ways, healed)
        seen = self.regain_sight(pairs, healed)
        try:
            nodes.wait_for(self.has_converged, "the nodes agree", 30, 0.2)
        except TimeoutError:
            self.fail("the nodes do not agree: " + str([n.ask("cluster", "status") for n in self.cluster.nodes]))
        print(f"\nafter the end of the fault: sessions routable {routable:.1f} s, presence {seen:.1f} s, nodes agree {time.monotonic() - healed:.1f} s", flush=True)
        return routable

    def split(self, what, cut, lost, healthy, lasts=15, limit=5, **more):
        """`lost`: friends that lose sight of each other."""
        talks = self.scene()
        lost = self.lost(lost)
        time.sleep(2)
        began = time.monotonic()
        cut()
        print(f"\n{what}: the others' users leave after {self.lose_sight(lost, began):.1f} s", flush=True)
        time.sleep(max(0, began + lasts - time.monotonic()))
        took = self.heal(lost, self.all_ways())
        ended = time.monotonic()
        time.sleep(2)
        gap = self.conclude(what, talks, healthy, began, took, ended, **more)
        self.stay()
        for one, other in self.all_ways():
            kinds = self.presences(one, other)
            expected = int(any({one, other} == set(pair) for pair in lost))
            self.assertEqual(kinds.count("unavailable"), expected, f"{one.jid} was told of {other.jid}: {kinds}")
        self.assertLess(took, limit)
        self.assertLess(gap, 2)


class Network(Faults):
    """Each test ends with a whole cluster."""
    healthy = ("alice-bob", "bob-alice")  # dave is at home on n2: what is for his phone on n1 waits until n2 is given up
    around_carol = (("alice", "carol"), ("bob", "carol"))

    def isolate(self, *more):
        for other in ("n1", "n3", *more):
            network.cut("n2", other)

    def test_a_node_is_cut_off_from_the_others(self):
        seen, began = self.watch_health(), []

        def cut():
            began.append(time.monotonic())
            self.isolate()
        # carol-desk: the smaller part goes on, too
        self.split("symmetric split", cut, self.around_carol, (*self.healthy, "carol-desk"))
        n2 = self.cluster["n2"]
        nodes.wait_for(lambda: self.cluster.proxy.gives_to(n2), "HAProxy gives it clients again", 10)
        self.assertIn("Server c2s/n2 is DOWN", self.cluster.proxy.log.read_text(errors="replace"))
        red = [(at, text) for at, status, text in seen["n2"] if status != 200]
        self.assertTrue(red, "the smaller part was never red")
        print(f"n2 was not ready from {red[0][0] - began[0]:.1f} s to {red[-1][0] - began[0]:.1f} s after the cut", flush=True)
        self.assertLess(red[0][0] - began[0], 11)
        self.assertGreater(red[-1][0] - began[0], 14.5, "it was green before the end of the split")
        self.assertEqual({text for _, text in red}, {"not ready: in a minority, more nodes of the cluster are silent than answer\n"})
        for name in ("n1", "n3"):
            self.assertEqual([s for s in seen[name] if s[1] != 200], [], f"{name} is on the larger side")
        self.assertEqual([seen[n.name][-1][1] for n in self.cluster.nodes], [200, 200, 200])

    @long
    def test_a_survivor_of_silent_nodes_is_red_and_clients_get_to_it(self):
        n1, n2, n3 = self.cluster.nodes
        proxy = self.cluster.proxy
        began = time.monotonic()
        for n in (n2, n3):
            n.freeze()
        nodes.wait_for(lambda: n1.probe("/readyz")[0] == 503, "it takes itself for the smaller part", 11)
        self.assertIn("minority", n1.probe("/readyz")[1])
        self.assertEqual(n1.probe("/readyz/alone"), (200, "ready\n"))
        nodes.wait_for(lambda: not any(proxy.gives_to(n, backend) for n in (n2, n3) for backend in ("c2s", "c2s_alone")), "HAProxy leaves the silent ones alone", 15)
        nodes.wait_for(lambda: not proxy.gives_to(n1), "and this one, as long as others are ready", 10)
        for number in range(3):
            self.keep(Client(proxy, "late", f"alone{number}")).ping()
        nodes.wait_for(lambda: [n["state"] for n in n1.ask("cluster", "status")["nodes"]].count("dead") == 2, "they are given up", 15)
        self.keep(Client(proxy, "late", "later")).ping()
        self.assertEqual(n1.probe("/readyz")[0], 503)
        print(f"\nn1 took clients of HAProxy alone until {time.monotonic() - began:.1f} s after the others fell silent", flush=True)
        for n in (n2, n3):
            n.thaw()
        nodes.wait_for(lambda: all(n.is_ready() for n in self.cluster.nodes), "all are ready", 20)
        nodes.wait_for(self.has_converged, "the nodes agree", 30, 0.2)
        nodes.wait_for(lambda: all(proxy.gives_to(n) for n in self.cluster.nodes), "HAProxy gives all of them clients", 10)

    @long
    def test_killed_nodes_do_not_make_a_survivor_red(self):
        n1, n2, n3 = self.cluster.nodes
        seen = self.watch_health()
        for n in (n2, n3):
            n.kill()
        self.keep(Client(self.cluster.proxy, "late", "survives")).ping()
        time.sleep(13)  # past the time after which silence would count as death
        self.assertEqual([s for s in seen["n1"] if s[1] != 200], [])
        self.assertGreater(len(seen["n1"]), 50)
        self.mend()
        nodes.wait_for(self.has_converged, "the nodes agree", 30, 0.2)
        self.assertEqual([s for s in seen["n1"] if s[1] != 200], [])

    @long
    def test_a_node_is_cut_off_from_the_others_and_the_database(self):
        self.split("split without the database", lambda: self.isolate("db"), self.around_carol, self.healthy)

    @long
    def test_nothing_comes_from_one_node_to_another(self):
        self.split("one-way split", lambda: network.cut("n1", "n2", both=False), (("alice", "carol"),), self.healthy)

    @long
    def test_two_nodes_reach_the_third_but_not_each_other(self):
        self.split("partial split", lambda: network.cut("n1", "n2"), (("alice", "carol"),), self.healthy)

    @long
    def test_a_node_stands_still_for_thirty_seconds(self):
        talks = self.scene()
        time.sleep(2)
        began = time.monotonic()
        self.cluster["n2"].freeze()
        for c in (self.alice, self.bob):
            c.sees(self.carol.jid, "unavailable", limit=20)
        time.sleep(max(0, began + 30 - time.monotonic()))
        self.cluster["n2"].thaw()
        took, ended = self.heal(self.lost(self.around_carol), self.all_ways()), time.monotonic()
        time.sleep(2)
        gap = self.conclude("stopped for 30 s", talks, self.healthy, began, took, ended)
        self.stay()
        for c in (self.alice, self.bob):
            self.assertEqual(self.presences(c, self.carol).count("unavailable"), 1)
        self.assertLess(took, 5)
        self.assertLess(gap, 2)

    def endure(self, what, fault, per_second=10, lasts=20):
        """A fault that nobody need notice: who is seen to leave comes back."""
        talks = self.scene(per_second)
        time.sleep(2)
        began = time.monotonic()
        fault()
        time.sleep(lasts)
        for t in talks.values():
            t.stop()
        took = self.heal(self.friends, self.all_ways())
        gaps = ", ".join(f"{label} {t.longest_gap(began, began + lasts):.1f}" for label, t in talks.items())
        left = sum(self.presences(one, other).count("unavailable") for one, other in self.all_ways())
        self.conclude(what, talks, talks, began, took, began + lasts)
        print(f"longest gaps: {gaps} s; seen to leave {left} times", flush=True)
        self.stay()
        self.assertLess(took, 15)

    @long
    def test_one_packet_of_five_is_lost_between_the_nodes(self):
        if why := namespaces.why_not("loss"):
            self.skipTest(why)
        self.endure("20 % of packets lost", lambda: [network.lose(a, b, 20) for a, b in (("n1", "n2"), ("n1", "n3"), ("n2", "n3"))])

    @long
    def test_a_link_is_slower_than_what_is_said_over_it(self):
        if why := namespaces.why_not("speed"):
            self.skipTest(why)
        self.endure("slow link", lambda: network.slow_down("n1", "n2", "100kbit"), per_second=40)


@long
class Machines(Faults):
    """Nodes and disks. Here everybody comes back by HAProxy."""

    @classmethod
    def prepare(cls):
        cls.disk = cls.cluster["n2"].folder / "data"
        cls.disk.mkdir()
        if not namespaces.why_not("mount"):
            nodes.run(["mount", "-t", "tmpfs", "-o", "size=128m,mode=700", "none", cls.disk])
            cls.addClassCleanup(lambda: nodes.run(["umount", "-l", cls.disk]))

    def crowd(self):
        """Four at HAProxy, who talk with each other; and zoe, who is away: what is for her is stored."""
        Faults.scenes += 1
        people = {name: Roamer(self.cluster.proxy, name) for name in ("alice", "bob", "carol", "dave")}
        for p in people.values():
            self.addCleanup(p.stop)
        names = list(people)
        talks = {}
        for k, name in enumerate(names):
            for other in (names[(k + 1) % 4], names[(k + 2) % 4]):
                talks[f"{name}-{other}"] = Talk(f"{name}-{other}-{self.scenes}", people[name].now, people[other].now, per_second=10)
        away = Client(self.cluster.proxy, "zoe")
        away.leave()
        talks["alice-zoe"] = Talk(f"alice-zoe-{self.scenes}", people["alice"].now, away, to=away.bare, per_second=5)
        self.addCleanup(lambda: [t.stop() for t in talks.values()])
        for p in people.values():
            p.talks = list(talks.values())
        return people, talks

    def conclude_crowd(self, what, people, talks, began, healed):
        ended = time.monotonic()
        time.sleep(2)
        for t in talks.values():
            t.stop()
        zoe = self.keep(Client(self.cluster.proxy, "zoe"))
        talks["alice-zoe"].receivers.append(zoe)
        for p in people.values():
            self.assertIsNone(p.problem, f"{p.now.jid} does not come back: {p.problem}")
        self.conclude(what, talks, [label for label in talks if label != "alice-zoe"], began, healed, ended)
        absences = [a for p in people.values() for a in p.absences]
        print(f"came back {len(absences)} times, resumed {sum(p.resumed for p in people.values())} of them, refused {sum(p.refused for p in people.values())} times, "
              f"longest absence {max(absences, default=0):.1f} s", flush=True)
        return absences

    def restart_all(self, what, how):
        people, talks = self.crowd()
        time.sleep(3)
        began = time.monotonic()
        for n in self.cluster.nodes:
            n.process.send_signal(how)
        for n in self.cluster.nodes:
            n.process.wait(30)
            n.spawn()
        for n in self.cluster.nodes:
            n.wait()
        nodes.wait_for(self.has_converged, "the nodes agree", 30, 0.2)
        nodes.wait_for(lambda: all(p.absences and not p.now.ended for p in people.values()), "all have come back", 30)
        healed = time.monotonic() - began
        self.conclude_crowd(what, people, talks, began, healed)

    def test_all_nodes_are_killed_at_once(self):
        self.restart_all("all killed at once", signal.SIGKILL)

    def test_all_nodes_are_restarted_at_once(self):
        self.restart_all("all restarted at once", signal.SIGTERM)

    def test_one_node_after_the_other_is_upgraded(self):
        people, talks = self.crowd()
        time.sleep(3)
        began = time.monotonic()
        for n in self.cluster.nodes:
            n.ask("drain")
            nodes.wait_for(lambda: not self.cluster.proxy.gives_to(n), "HAProxy gives it nobody any more", 10)
            n.stop()
            n.start()
            nodes.wait_for(self.has_converged, "the nodes agree", 30, 0.2)
            nodes.wait_for(lambda: self.cluster.proxy.gives_to(n), "HAProxy gives it clients", 10)
        absences = self.conclude_crowd("rolling upgrade", people, talks, began, time.monotonic() - began)
        self.assertGreater(len(absences), 0)
        self.assertLess(max(absences), 10)

    def test_the_disk_of_a_node_is_full(self):
        if why := namespaces.why_not("mount"):
            self.skipTest(why)
        talks = self.scene()
        time.sleep(2)
        began = time.monotonic()
        filler = self.disk / "filler"
        self.addCleanup(lambda: filler.unlink(missing_ok=True))
        with open(filler, "wb", buffering=0) as f:
            try:
                while True:
                    f.write(bytes(65536))
            except OSError:
                pass
        for number in range(30):  # each is a row on the disk of n2, and one that goes
            self.client("n1", "late", f"late{number}").leave()
        time.sleep(10)
        self.assertEqual(shutil.disk_usage(self.disk).free, 0)
        self.assertIsNone(self.cluster["n2"].process.poll(), "it has ended")
        filler.unlink()
        took, ended = self.heal((), self.all_ways()), time.monotonic()
        time.sleep(2)
        gap = self.conclude("full disk", talks, talks, began, took, ended)
        self.stay()
        self.assertLess(gap, 2)
        self.cluster["n2"].kill()  # and it starts from what could be written
        self.cluster["n2"].start()
        nodes.wait_for(self.has_converged, "the nodes agree", 30, 0.2)


@long
class Database(Faults):
    """A pair of PostgreSQL, the second one with everything that the first one has acknowledged."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        first = cls.cluster.database
        cls.standby = nodes.Postgres(cls.cluster.folder / "standby", network("db2"), first)
        try:
            cls.standby.start()
            for n in cls.cluster.nodes:
                n.configure(f"host={first.ip},{cls.standby.ip} dbname=covey user=covey", cls.cluster["n1"].certificates, True, settings)
                n.stop()
                n.start()
        except BaseException:
            cls.tearDownClass()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.cluster.stop()
        cls.standby.stop()
        cls.cluster.close()

    def with_one_away(self):
        """The talks of a scene, and one to somebody who is away: each of these messages is a commit."""
        talks = self.scene()
        away = self.client("n1", "zoe")
        away.leave()
        talks["bob-zoe"] = Talk(f"bob-zoe-{self.scenes}", self.bob, away, to=away.bare)
        self.addCleanup(talks["bob-zoe"].stop)
        return talks

    def conclude_with_one_away(self, what, talks, began, healed, **more):
        time.sleep(2)
        for t in talks.values():
            t.stop()
        talks["bob-zoe"].receivers.append(self.client("n2", "zoe"))
        gap = self.conclude(what, talks, [label for label in talks if label != "bob-zoe"], began, healed, began + healed, **more)
        self.stay()
        return gap

    def stored(self, limit):
        """When a message for somebody who is away is acknowledged again."""
        number, end = 0, time.monotonic() + limit
        while time.monotonic() < end:
            number += 1
            text = f"stored:{self.scenes}-{number}"
            self.erin.say(f"late@{nodes.host}", text)
            try:
                self.erin.wait(lambda: text in self.erin.acknowledged, "it is stored", 5)
            except AssertionError:
                continue
            if not any(m.kind == "error" and m.text == text for m in self.erin.messages):
                return
        self.fail("nothing is stored")

    def test_a_the_database_is_away_for_a_minute(self):
        talks = self.with_one_away()
        time.sleep(2)
        began = time.monotonic()
        for n in self.cluster.nodes:
            for place in ("db", "db2"):
                network.cut(n.name, place)
        time.sleep(60)
        network.heal()
        healed = time.monotonic()
        self.stored(30)
        took = time.monotonic() - healed
        gap = self.conclude_with_one_away("database away for a minute", talks, began, 60 + took, may_bounce=True)
        print(f"stored again {took:.1f} s after it is back", flush=True)
        self.assertLess(took, 10)

    def test_b_the_primary_is_killed_and_the_standby_takes_over(self):
        talks = self.with_one_away()
        self.carol.acks = False  # what is for her is stored, too
        time.sleep(3)
        began = time.monotonic()
        first = self.cluster.database
        first.process.kill()
        for n in self.cluster.nodes:  # the machine is gone
            network.cut(n.name, "db")
        first.process.wait()
        time.sleep(3)
        self.standby.query("select pg_promote()")
        self.stored(30)
        took = time.monotonic() - began
        self.carol.acks = True
        self.carol.acknowledge_all()
        self.conclude_with_one_away("primary killed", talks, began, took)
        self.client("n3", "late", "after").ping()  # who logs in is read from the new one
        self.assertLess(took, 15)


if __name__ == "__main__":
    missing = namespaces.enter()
    harness.main()
