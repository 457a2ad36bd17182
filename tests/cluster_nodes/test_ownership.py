#!/usr/bin/python3
# What one node alone has: a service that exists once in the cluster, by lease, while its owner is killed or stands still; and
# a host that is pinned to a node, which needs no database.
import re
import time

import nodes
from client import Client
from nodes import harness
from test_cluster import Case, settings

service = f"announce@{nodes.host}"


class Leases(Case):
    """The announce address. Each announcement is a row, numbered by its owner, before anybody hears of it."""
    extra, names = [*settings, f'admins = ["alice@{nodes.host}"]'], ("alice", "bob", "carol", "dave")

    def rows(self):
        """Number and body of each announcement, in order."""
        folder = self.cluster.database.folder
        got = self.cluster.database.as_user("psql", "-h", folder, "-U", "covey", "-AtF", " ", "-c", "select number, body from announcements order by number", "covey")
        return [line.split(" ", 1) for line in got.splitlines()]

    def owners(self, of=None):
        """Names of the nodes that have it, as each says in its log."""
        found = []
        for n in of or self.cluster.nodes:
            said = re.findall(rf"(cluster\.owned|cluster\.not_owned)\b.*{service}", n.log.read_text(errors="replace"))
            if said and said[-1] == "cluster.owned" and n.process.poll() is None:
                found.append(n.name)
        return found

    def owner(self):
        return self.cluster[nodes.wait_for(lambda: len(self.owners()) == 1 and self.owners(), "one node has the service", 30)[0]]

    def announce(self, admin, text, limit=40):
        """Until it is taken: a wait error is to be tried again. How often it was refused."""
        for refused in range(int(limit / 0.5)):
            mark = len(admin.messages)
            admin.say(service, text)
            admin.settle()
            admin.ping()
            try:
                nodes.wait_for(lambda: any(m.kind == "error" or m.text == text for m in admin.messages[mark:]), "an answer", 20)
            except TimeoutError:
                self.fail(f"neither an announcement nor an error came for {text!r}")
            if any(m.text == text and m.kind == "headline" for m in admin.messages[mark:]):
                return refused
            time.sleep(0.5)
        self.fail(f"nobody took {text!r} within {limit} s")

    def heard(self, c):
        return [m.text for m in c.messages if m.kind == "headline"]

    def test_from_each_node_everybody_hears_it_once(self):
        alice = [self.client(at, "alice", at) for at in ("n1", "n2", "n3")]
        bob, carol = self.client("n1", "bob"), self.client("n3", "carol")
        self.owner()
        mark = len(self.rows())
        for n, a in enumerate(alice):
            self.announce(a, f"hear this {n}")
        for c in (*alice, bob, carol):
            nodes.wait_for(lambda: len([t for t in self.heard(c) if t.startswith("hear this")]) >= 3, "all of them", 10)
            c.ping()
            self.assertEqual([t for t in self.heard(c) if t.startswith("hear this")], [f"hear this {n}" for n in range(3)])
        rows = self.rows()
        self.assertEqual([int(number) for number, _ in rows], list(range(1, len(rows) + 1)))
        self.assertEqual([body for _, body in rows[mark:]], [f"hear this {n}" for n in range(3)])

    def test_only_administrators_may(self):
        bob = self.client("n2", "bob", "asks")
        bob.say(service, "me too")
        nodes.wait_for(lambda: any(m.kind == "error" for m in bob.messages), "forbidden", 10)

    def fault(self, what, cure):
        """The owner falls away; the others go on, one of them as the owner; and when it is back there is still one."""
        owner = self.owner()
        well = [n for n in self.cluster.nodes if n is not owner]
        alice, bob = self.client(well[0].name, "alice", "well"), self.client(well[1].name, "bob", "well")
        there = Client(owner, "alice", "there")  # says something in the moment of the fault
        self.announce(alice, f"before {what}")
        bob.hears(f"before {what}")  # it is for whoever is there: nobody keeps it for a node that the dead one has not told
        there.say(service, f"into {what}")
        began = time.monotonic()
        getattr(owner, what)()
        refused = self.announce(alice, f"during {what}")
        taken = time.monotonic() - began
        fresh = nodes.wait_for(lambda: self.owners(well), "another node has it", 5)
        self.assertEqual(len(fresh), 1)
        self.assertTrue(taken < 25, f"{taken:.1f} s without an owner")
        time.sleep(max(0.0, 15 - (time.monotonic() - began)))  # it has been given up, and joins again
        cure(owner)
        nodes.wait_for(lambda: owner.is_ready() and len(owner.ask("cluster", "status")["nodes"]) == 3, "it is back", 40)
        nodes.wait_for(lambda: len(self.owners()) == 1, "there is one owner", 40)
        self.announce(alice, f"after {what}")
        bob.hears(f"after {what}")
        time.sleep(1)
        for c in (alice, bob):
            c.ping()
            texts = [t for t in self.heard(c) if t.endswith(what)]
            self.assertEqual(len(texts), len(set(texts)), f"twice: {texts}")
            self.assertEqual([t for t in texts if not t.startswith("into")], [f"{when} {what}" for when in ("before", "during", "after")])
        rows = self.rows()
        self.assertEqual([int(number) for number, _ in rows], list(range(1, len(rows) + 1)), "one writer at a time")
        bodies = [body for _, body in rows if body.endswith(what)]
        self.assertEqual(len(bodies), len(set(bodies)), f"written twice: {bodies}")
        heard = {t for t in self.heard(bob) if t.endswith(what)}
        self.assertLessEqual(heard, set(bodies))
        if untold := set(bodies) - heard:  # its owner lost the lease between the row and the word: then it is not acknowledged, or refused
            self.assertEqual(untold, {f"into {what}"})
            self.assertTrue(f"into {what}" not in there.acknowledged or any(m.kind == "error" for m in there.messages))
        there.drop()
        print(f"owner of a service: {what}: {taken:.1f} s until another one acts, {refused} refused with wait", flush=True)

    def test_owner_is_killed(self):
        self.fault("kill", lambda n: n.start())

    def test_owner_stands_still(self):
        self.fault("freeze", lambda n: n.thaw())


class Hosts(Case):
    """./dev cluster 3 --per-host: n1.localhost on n1 alone, and so on."""

    kind, extra = nodes.HostsApart, [*settings, "management.on = false"]

    @classmethod
    def add_users(cls):
        for n, name in zip(cls.cluster.nodes, ("alice", "bob", "carol")):
            done = n.cli("user", "add", f"{name}@{n.own_host}", "--password-stdin", text=harness.password + "\n")
            assert done.returncode == 0, done.stderr

    def login(self, name, at):
        node = self.cluster[at]
        c = harness.Raw(node, to=node.own_host)
        self.addCleanup(c.close)
        c.header()
        self.assertIn("success", c.plain(name))
        c.header()
        self.assertIn("<jid>", c.bind("r"))
        return c

    def test_clients_are_sent_to_the_node_of_their_host(self):
        c = harness.Raw(self.cluster["n1"], to="n2.localhost")
        self.addCleanup(c.close)
        c.header(features=False)
        got = c.read_to_end()
        self.assertIn(f"<see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>127.0.0.1:{self.cluster['n2'].port}</see-other-host>", got)
        self.assertIn("from='n2.localhost'", got)

    def test_a_command_says_where_to_ask(self):
        done = self.cluster["n1"].cli("user", "add", "eve@n2.localhost", "--password-stdin", text=harness.password + "\n")
        self.assertEqual(done.returncode, 4, done.stderr)
        self.assertIn("n2.localhost is served by n2 alone", done.stdout + done.stderr)

    def test_two_hosts_on_two_nodes(self):
        alice, bob = self.login("alice", "n1"), self.login("bob", "n2")
        alice.send("<presence/>")
        bob.send("<presence/>")
        for c in (alice, bob):
            c.send("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>")
            c.read_until("id='roster'")
        alice.send("<presence type='subscribe' to='bob@n2.localhost'/>")
        bob.read_until("type='subscribe'")
        bob.send("<presence type='subscribed' to='alice@n1.localhost'/>")
        bob.send("<presence type='subscribe' to='alice@n1.localhost'/>")
        self.assertIn("<presence from='bob@n2.localhost/r'", alice.read_until("type='subscribe'"))
        alice.send("<presence type='subscribed' to='bob@n2.localhost'/>")
        bob.read_until("<presence from='alice@n1.localhost/r'")
        alice.send("<message to='bob@n2.localhost' type='chat' id='m1'><body>over there</body></message>")
        self.assertIn("from='alice@n1.localhost/r'", bob.read_until("<body>over there</body>"))
        bob.send("<message to='alice@n1.localhost/r' type='chat'><body>over here</body></message>")
        alice.read_until("<body>over here</body>")
        alice.send("<iq type='get' id='disco' to='n2.localhost'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
        self.assertIn("type='result'", alice.read_until("id='disco'", "</iq>") + alice.read_until("</iq>"))

    def test_while_its_node_is_away_senders_wait(self):
        alice, carol = self.login("alice", "n1"), self.login("carol", "n3")
        alice.send("<presence/>")
        carol.ping()
        self.cluster["n3"].kill()
        nodes.wait_for(lambda: [n["state"] for n in self.cluster["n1"].ask("cluster", "status")["nodes"] if n["name"] == "n3"] == ["dead"], "n3 is given up", 20)
        alice.send("<message to='carol@n3.localhost' type='chat' id='lost'><body>are you there</body></message>")
        got = alice.read_until("</message>")
        self.assertRegex(got, "<error type='wait'><resource-constraint ")
        self.cluster["n3"].start()
        carol = self.login("carol", "n3")
        carol.send("<presence/>")
        nodes.wait_for(lambda: [n["state"] for n in self.cluster["n1"].ask("cluster", "status")["nodes"] if n["name"] == "n3"] == ["alive"], "n3 is back", 20)
        alice.send("<message to='carol@n3.localhost' type='chat'><body>there again</body></message>")
        carol.read_until("<body>there again</body>")


if __name__ == "__main__":
    harness.main()
