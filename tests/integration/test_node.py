#!/usr/bin/python3
# What an operator relies on: only the named ports are open, secrets are in no log and on no command line, probes
# and metrics answer, policies of the configuration hold, stream headers get the errors that RFC 6120 names.
import pathlib
import re
import unittest
import urllib.error
import urllib.request

import harness
from harness import Raw, password


def listening(pid):
    """The local TCP ports that a process listens on, with their addresses."""
    sockets = set()
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            if found := re.match(r"socket:\[(\d+)\]", str(entry.readlink())):
                sockets.add(found[1])
        except FileNotFoundError:  # closed meanwhile
            pass
    found = set()
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                address, port = fields[1].rsplit(":", 1)
                found.add((address, int(port, 16)))
    return found


class Operator(harness.Case):
    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.server.http}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()

    def test_only_the_named_ports_are_open_on_loopback(self):
        wanted = {("0100007F", p) for p in (self.server.port, self.server.direct, self.server.http)}
        self.assertEqual(listening(self.server.process.pid), wanted)

    def test_probes_and_metrics(self):
        self.assertEqual(self.get("/livez")[0], 200)
        for path in ("/readyz", "/readyz/alone"):
            self.assertEqual(self.get(path), (200, "ready\n"))
        self.client("alice", "metrics").ping()
        _, text = self.get("/metrics")
        self.assertGreater(sum(float(n) for n in re.findall(r"^covey_stanzas_received_total\S* (\S+)$", text, re.M)), 0)
        documented = (harness.root / "docs/metrics.md").read_text() + (harness.root / "docs/storage.md").read_text()
        self.assertEqual([n for n in set(re.findall(r"^# TYPE (covey_\S+)", text, re.M)) if n not in documented], [])
        with self.assertRaises(urllib.error.HTTPError):
            self.get("/../etc/passwd")

    def test_no_secret_in_the_log_nor_on_a_command_line(self):
        self.client("alice", "secrets")
        wrong = self.raw()
        wrong.header()
        wrong.plain("alice", "a wrong secret 77")
        log = self.server.log.read_text()
        self.assertIn("auth.failed", log)
        for secret in (password, "a wrong secret 77"):
            self.assertNotIn(secret, log)
        self.assertNotIn(password, pathlib.Path(f"/proc/{self.server.process.pid}/cmdline").read_text())
        stored = b"".join(f.read_bytes() for f in (self.server.folder / "data").rglob("*") if f.is_file())
        self.assertNotIn(password.encode(), stored)

    def test_kick_and_sessions(self):
        alice = self.client("alice", "kicked")
        self.assertIn("alice@localhost/kicked", self.server.cli("sessions", "--json").stdout)
        self.assertEqual(self.server.cli("kick", "alice@localhost/kicked", "--reason", "see you", "--yes").returncode, 0)
        got = alice.read_to_end()
        self.assertIn("see you", got)
        self.assertTrue(got.endswith("</stream:stream>"))
        self.assertNotIn("alice@localhost/kicked", self.server.cli("sessions", "--json").stdout)

    def test_a_new_password_and_a_removed_account(self):
        bob = self.client("bob", "removed")
        self.assertEqual(self.server.cli("user", "password", "bob@localhost", "--password-stdin", text="another 99\n").returncode, 0)
        raw = self.raw()
        raw.header()
        self.assertIn("not-authorized", raw.plain("bob"))
        self.assertIn("success", raw.plain("bob", "another 99"))
        self.assertEqual(self.server.cli("user", "remove", "bob@localhost", "--yes").returncode, 0)
        self.assertIn("<not-authorized ", bob.read_to_end())
        self.server.add("bob")
        raw = self.raw().login("bob")  # a new account by the old name has nothing of the old one
        raw.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
        raw.read_until("id='r' type='result'><query xmlns='jabber:iq:roster'/></iq>")

    def test_an_account_that_comes_again_works_like_new(self):
        for _ in range(3):
            alice, carol = self.client("alice", "again"), self.client("carol", "again")
            for c in (alice, carol):
                c.send("<iq type='get' id='ros'><query xmlns='jabber:iq:roster'/></iq>")
                c.read_until("id='ros' type='result'><query xmlns='jabber:iq:roster'/></iq>")
                c.presence()
            alice.send("<presence type='subscribe' to='carol@localhost'/>")
            self.assertIn("ask='subscribe'", alice.read_until("</query></iq>"))
            carol.read_until("type='subscribe'")
            carol.send("<presence type='subscribed' to='alice@localhost'/>")
            alice.read_until("<presence from='carol@localhost/again'")
            for name in ("alice", "carol"):
                self.assertEqual(self.server.cli("user", "remove", f"{name}@localhost", "--yes").returncode, 0)
            self.server.add("alice", "carol")


class Headers(harness.Case):
    names = ()

    def test_errors_of_headers(self):
        ns = "xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'"
        for attributes, wanted in (("version='1.0'", "improper-addressing"), ("to='localhost'", "unsupported-version"),
                                   ("to='localhost' version='0.9'", "unsupported-version"), ("to='not a domain' version='1.0'", "host-unknown"),
                                   ("to='other.example' version='1.0'", "host-unknown")):
            with self.subTest(attributes):
                raw = self.raw()
                raw.send(f"<stream:stream {attributes} {ns}>")
                got = raw.read_to_end()
                self.assertIn(f"<{wanted} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>", got)
                self.assertRegex(got, r"^(<\?xml[^>]*>)?<stream:stream [^>]*from='localhost'[^>]*>")
                self.assertTrue(got.endswith("</stream:stream>"), got)
        raw = self.raw()
        raw.send(f"<?xml version='1.0' encoding='UTF-16'?><stream:stream to='localhost' version='1.0' {ns}>")
        self.assertIn("<unsupported-encoding ", raw.read_to_end())

    def test_a_later_version_is_answered_with_ours(self):
        raw = self.raw()
        raw.send("<stream:stream to='localhost' version='1.7' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>")
        self.assertIn("version='1.0'", raw.read_until("</stream:features>"))

    def test_every_stream_has_an_id_of_its_own(self):
        ids = {re.search(r" id='([^']+)'", self.raw().header())[1] for _ in range(20)}
        self.assertEqual(len(ids), 20)


class RefusedResource(harness.Case):
    extra = 'resource_conflict = "refuse"'

    def test_the_second_is_refused(self):
        first = self.client("alice", "same")
        second = self.raw()
        second.header()
        second.plain("alice")
        second.header()
        self.assertIn("<conflict ", second.bind("same"))
        self.assertIn("<jid>alice@localhost/other</jid>", second.bind("other"))
        first.ping()


class RenamedResource(harness.Case):
    extra = 'resource_conflict = "rename"'

    def test_the_second_gets_another_name(self):
        first = self.client("alice", "same")
        second = self.raw()
        second.header()
        second.plain("alice")
        second.header()
        found = re.search(r"<jid>alice@localhost/(.+)</jid>", second.bind("same"))
        self.assertNotEqual(found[1], "same")
        first.ping()
        second.ping()


class Starting(unittest.TestCase):
    def test_mistakes_are_all_told_before_a_port_is_opened(self):
        server = harness.Server()
        self.addCleanup(server.close)
        server.config.write_text(server.config.read_text().replace("iterations = 4096", "iterations = 1\niteration = 7") + "\nnonsense = 1\n")
        with self.assertRaises(RuntimeError):
            server.start()
        self.assertEqual(server.process.returncode, 78)
        log = server.log.read_text()
        for wanted in ("sasl.iterations", "sasl.iteration", "nonsense", str(server.config)):
            self.assertIn(wanted, log)

    def test_a_second_start_on_the_same_ports_says_so(self):
        server = harness.Server().start()
        self.addCleanup(server.close)
        other = harness.Server()
        self.addCleanup(other.close)
        other.config.write_text(re.sub(r'c2s = \["[^"]*"\]', f'c2s = ["127.0.0.1:{server.port}"]', other.config.read_text()))
        process = harness.subprocess.run([harness.build / "server/coveyd", "--config", other.config], stdin=harness.subprocess.DEVNULL,
                                         stdout=harness.subprocess.PIPE, stderr=harness.subprocess.STDOUT, text=True, timeout=60, env=harness.environment)
        self.assertNotEqual(process.returncode, 0)
        self.assertIn(str(server.port), process.stdout)

    def test_after_kill_9_it_is_ready_again_soon(self):
        server = harness.Server().start()
        self.addCleanup(server.close)
        server.add("alice")
        server.process.kill()
        server.process.wait()
        server.start()
        self.assertIn("<success", (raw := Raw(server)).header() and raw.plain("alice"))
        raw.close()


if __name__ == "__main__":
    harness.main()
