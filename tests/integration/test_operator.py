#!/usr/bin/python3
# What an operator does to a running server: new settings, certificates and hosts, without a stream that notices.
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.request
import xml.etree.ElementTree

import harness
from harness import Raw, password


def wait_for(what, limit=10):
    """The first true value of `what()`."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


class Own(unittest.TestCase):
    """A server for each test."""

    def serve(self, extra="", tables=""):
        server = harness.Server(extra, tables)
        self.addCleanup(server.close)
        server.start()
        return server

    def raw(self, server, *args, **kw):
        r = Raw(server, *args, **kw)
        self.addCleanup(r.close)
        return r

    def rewrite(self, server, old, new):
        text = server.config.read_text()
        self.assertIn(old, text)
        server.config.write_text(text.replace(old, new))

    def json(self, server, *words):
        done = server.cli(*words, "--json")
        return done.returncode, json.loads(done.stdout)

    def offers(self, server, ns, name="alice"):
        """Whether the host tells a fresh session of this feature."""
        raw = self.raw(server).login(name, "disco")
        raw.send("<iq type='get' id='d' to='localhost'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
        return f"'{ns}'" in raw.read_until("</query></iq>")


class Reload(Own):
    def test_settings_change_under_a_stream_that_goes_on(self):
        server = self.serve("limits.roster = 3")
        server.add("alice")
        alice = self.raw(server).login("alice", "stays")
        self.assertTrue(self.offers(server, "urn:xmpp:ping"))
        self.rewrite(server, "limits.roster = 3", "limits.roster = 4\nmodules.ping.on = false\nlog.level = \"debug\"\nlimits.stanza = \"20 kB\"")
        code, diff = self.json(server, "config", "diff")
        self.assertEqual(code, 0)
        self.assertEqual({c["key"]: (c["before"], c["after"], c["live"]) for c in diff["changed"]},
                         {"limits.roster": ("3", "4", True), "modules.ping.on": ("true", "false", True), "log.level": ('"info"', '"debug"', True),
                          "limits.stanza": ('"256 kB"', '"20 kB"', True)})
        self.assertTrue(self.offers(server, "urn:xmpp:ping"))  # nothing has happened yet
        code, done = self.json(server, "reload")
        self.assertEqual(code, 0)
        self.assertEqual(len(done["changed"]), 4)
        self.assertFalse(self.offers(server, "urn:xmpp:ping"))
        alice.ping()  # a session keeps the modules that it began with
        alice.send("<message to='bob@localhost'><body>" + "x" * 30_000 + "</body></message>")  # limits of the node hold at once
        self.assertIn("<policy-violation ", alice.read_to_end())
        self.assertEqual(self.json(server, "config", "diff")[1]["changed"], [])
        self.assertEqual(self.json(server, "config", "show")[0], 0)

    def test_with_a_mistake_nothing_changes_and_all_mistakes_are_told(self):
        server = self.serve("limits.roster = 3")
        server.add("alice")
        alice = self.raw(server).login("alice", "stays")
        self.rewrite(server, "limits.roster = 3", "limits.roster = \"x\"\nmodules.ping.on = false\nlog.levle = \"debug\"\ndomains = [\"-\"]")
        for words in (("reload",), ("config", "diff")):
            code, refused = self.json(server, *words)
            self.assertEqual(code, 78)
            self.assertEqual(sorted(p["key"] for p in refused["problems"]), ["domains", "limits.roster", "log.levle"])
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: server.log.read_text().count("config.mistake") >= 6)
        self.assertTrue(self.offers(server, "urn:xmpp:ping"))
        alice.ping()

    def test_what_needs_a_restart_waits_for_it(self):
        server = self.serve()
        self.rewrite(server, "reactors = 1", 'reactors = 2\nstorage.cache = "16 MB"')
        self.rewrite(server, "[listen]", f'[listen]\nshaped = ["127.0.0.1:{server.port}"]\ntrusted_proxies = ["127.0.0.1"]')
        self.rewrite(server, "[tls]", '[tls]\nticket_rotation = "0s"')
        keys = {"reactors", "storage.cache", "listen.shaped", "listen.trusted_proxies", "tls.ticket_rotation"}
        for _ in range(2):  # they are still told of
            code, done = self.json(server, "reload")
            self.assertEqual((code, {(c["key"], c["live"]) for c in done["changed"]}), (0, {(k, False) for k in keys}))
        self.assertRegex(server.log.read_text(), 'need_restart="?reactors ')
        context = harness.trusting()
        first = self.raw(server, direct=True, context=context)
        first.header()
        self.assertTrue(first.socket.session.has_ticket)  # as before
        server.stop()
        server.start()
        self.assertEqual(self.json(server, "config", "diff")[1]["changed"], [])

    def test_logins_and_streams_follow_and_a_lost_session_comes_back(self):
        server = self.serve()
        server.add("alice")

        def seen():
            raw = self.raw(server, direct=True)
            before = raw.header()
            raw.plain("alice")
            return raw, before, raw.header()
        raw, before, after = seen()
        for text in ("urn:xmpp:fast:0", ">SCRAM-SHA-512<", "urn:xmpp:carbons:2"):
            self.assertIn(text, before)
        self.assertNotIn("ANONYMOUS", before)
        for text in ("urn:xmpp:sm:3", "urn:xmpp:csi:0", "<max-bytes>262144<"):
            self.assertIn(text, after)
        self.assertNotIn("<compression", after)
        raw.bind("kept")
        raw.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
        previd = re.search(r" id='([^']*)'", raw.read_until("/>"))[1]
        raw.socket.close()
        self.rewrite(server, "reactors = 1", 'reactors = 1\ncompression.on = true\nclient_state.on = false\nmodules.carbons.on = false\nlimits.stanza = "20 kB"')
        self.rewrite(server, "iterations = 4096", 'iterations = 4096\nfast.on = false\nmechanisms = ["SCRAM-SHA-256", "PLAIN", "ANONYMOUS"]')
        code, done = self.json(server, "reload")
        self.assertEqual((code, {c["live"] for c in done["changed"]}), (0, {True}))
        raw, before, after = seen()
        for text in ("urn:xmpp:fast:0", ">SCRAM-SHA-512<", "urn:xmpp:carbons:2"):
            self.assertNotIn(text, before)
        self.assertIn("ANONYMOUS", before)
        self.assertNotIn("urn:xmpp:csi:0", after)
        for text in ("<compression", "<max-bytes>20480<"):
            self.assertIn(text, after)
        raw.send(f"<resume xmlns='urn:xmpp:sm:3' previd='{previd}' h='0'/>")
        self.assertIn("<resumed ", raw.read_until("/>"))
        raw.ping()
        self.assertNotEqual(server.cli("user", "add", "anonymous-x@localhost", "--password-stdin", text=password + "\n").returncode, 0)
        self.rewrite(server, "compression.on = true", "compression.on = true\nmanagement.on = false")
        self.assertEqual(server.cli("reload").returncode, 0)
        self.assertNotIn("urn:xmpp:sm:3", seen()[2])
        raw.ping()

    def test_limits_of_addresses_follow(self):
        server = self.serve()
        server.add("alice")
        first = self.raw(server).login("alice", "first")
        self.rewrite(server, "reactors = 1", 'reactors = 1\nlimits.clients_per_address = 1\nlimits.rate.address.stanzas = 100\nlimits.rate.address.stanzas_burst = 5')
        self.assertEqual({c["live"] for c in self.json(server, "reload")[1]["changed"]}, {True})
        second = self.raw(server).login("alice", "second")  # who was there before is not counted
        third = self.raw(server)
        third.header()
        third.plain("alice")
        self.assertIn("<policy-violation", third.read_to_end())
        for _ in range(20):
            second.send("<message to='localhost'/>")
        second.ping()
        first.ping()
        metrics = urllib.request.urlopen(f"http://127.0.0.1:{server.http}/metrics", timeout=10).read().decode()
        self.assertGreater(float(re.search(r"^covey_reads_delayed_total (\S+)$", metrics, re.M)[1]), 0)
        self.rewrite(server, "limits.clients_per_address = 1", "limits.clients_per_address = 0")
        self.assertEqual(server.cli("reload").returncode, 0)
        self.raw(server).login("alice", "fourth")

    def test_a_log_file_is_opened_again(self):
        server = self.serve()
        file = server.folder / "covey.log"
        self.rewrite(server, "reactors = 1", f'reactors = 1\nlog.file = "{file}"')
        self.assertEqual(server.cli("reload").returncode, 0)
        server.cli("reload")
        wait_for(lambda: file.exists() and "config.reloaded" in file.read_text())
        file.rename(server.folder / "covey.log.1")
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: file.exists() and "config.reloaded" in file.read_text())

    def test_a_certificate_is_swapped_and_a_broken_one_refused(self):
        server = self.serve()
        server.add("alice")
        certificate, key = server.folder / "own.pem", server.folder / "own.key"

        def make():
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", certificate,
                            "-days", "30", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
            return harness.ssl.PEM_cert_to_DER_cert(certificate.read_text())

        def shown():
            return self.raw(server, direct=True).socket.getpeercert(binary_form=True)

        first = make()
        self.rewrite(server, "require = false", f'require = false\ncertificate = "{certificate}"\nkey = "{key}"')
        self.assertNotEqual(shown(), first)
        alice = self.raw(server, direct=True).login("alice")
        self.assertEqual(server.cli("reload").returncode, 0)
        self.assertEqual(shown(), first)
        second = make()
        self.assertEqual(shown(), first)
        self.assertEqual(server.cli("reload").returncode, 0)
        self.assertEqual(shown(), second)
        key.write_text("no key")
        code, refused = self.json(server, "reload")
        self.assertEqual((code, refused["problems"][0]["key"]), (78, "tls.key"))
        self.assertEqual(shown(), second)
        alice.ping()


class Hosts(Own):
    def domains(self, server):
        return [h["domain"] for h in self.json(server, "host", "list")[1]["hosts"]]

    def add_user(self, server, jid):
        self.assertEqual(server.cli("user", "add", jid, "--password-stdin", text=password + "\n").returncode, 0)

    def test_a_host_comes_serves_outlives_a_restart_and_goes(self):
        server = self.serve()
        server.add("alice")
        alice = self.raw(server).login("alice")
        self.assertEqual(server.cli("host", "add", "Example.NET", "--set", "limits.roster=5", "--set", "resource_conflict=refuse").returncode, 0)
        self.assertEqual(self.domains(server), ["localhost", "example.net"])
        file = server.folder / "data/hosts/example.net.toml"
        self.assertIn('resource_conflict = "refuse"', file.read_text())
        self.assertEqual(server.cli("host", "add", "example.net").returncode, 5)
        self.assertEqual(server.cli("host", "add", "a b").returncode, 2)
        self.add_user(server, "bob@example.net")
        # its certificate is there at once, and trusted by whoever trusts the authority
        context = harness.ssl.create_default_context(cafile=server.authority)
        with socket.create_connection(("127.0.0.1", server.direct)) as plain, context.wrap_socket(plain, server_hostname="example.net") as tls:
            self.assertIn(("DNS", "example.net"), tls.getpeercert()["subjectAltName"])
        bob = self.raw(server, to="example.net").login("bob", "one")
        twin = self.raw(server, to="example.net")
        twin.header()
        twin.plain("bob")
        twin.header()
        self.assertIn("<conflict ", twin.bind("one"))  # the setting of this host
        alice.send("<message to='bob@example.net/one' type='chat'><body>hello</body></message>")
        bob.read_until("hello")
        self.assertEqual(server.cli("config", "check").returncode, 0)
        server.stop()
        server.start()
        self.assertEqual(self.domains(server), ["localhost", "example.net"])
        alice, bob = self.raw(server).login("alice"), self.raw(server, to="example.net").login("bob")
        waiting = self.raw(server, to="example.net")
        waiting.header()
        self.assertEqual(server.cli("host", "remove", "example.net").returncode, 2)  # nobody to ask
        self.assertEqual(server.cli("host", "remove", "example.net", "--yes").returncode, 0)
        self.assertFalse(file.exists())
        for stream in (bob, waiting):
            got = stream.read_to_end()
            self.assertIn("<host-gone ", got)
            self.assertTrue(got.endswith("</stream:stream>"))
        late = self.raw(server, to="example.net")
        late.send("<stream:stream to='example.net' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>")
        self.assertIn("<host-unknown ", late.read_to_end())
        alice.send("<message to='bob@example.net' id='m' type='chat'><body>hello</body></message>")
        self.assertIn("<remote-server-not-found ", alice.read_until("</message>"))
        self.assertEqual(server.cli("host", "remove", "example.net", "--yes").returncode, 4)
        self.assertNotIn("actor.crashed", server.log.read_text())

    def test_data_is_kept_or_erased(self):
        server = self.serve()
        server.add("bob")  # of another host, by the same name
        self.assertEqual(server.cli("host", "add", "example.net").returncode, 0)
        self.add_user(server, "bob@example.net")
        self.assertEqual(server.cli("host", "remove", "example.net", "--yes").returncode, 0)
        self.assertEqual(server.cli("host", "add", "example.net").returncode, 0)
        bob = self.raw(server, to="example.net").login("bob")
        bob.send("<iq type='set' id='r'><query xmlns='jabber:iq:roster'><item jid='x@example.net'/></query></iq>")
        bob.read_until("id='r' type='result'/>")
        self.assertEqual(server.cli("host", "remove", "example.net", "--yes", "--erase-data").returncode, 0)
        self.assertFalse((server.folder / "data/certificates/example.net.pem").exists())
        self.assertEqual(server.cli("host", "add", "example.net").returncode, 0)
        raw = self.raw(server, to="example.net")
        raw.header()
        self.assertIn("not-authorized", raw.plain("bob"))
        self.add_user(server, "bob@example.net")
        again = self.raw(server, to="example.net").login("bob")
        again.send("<iq type='get' id='g'><query xmlns='jabber:iq:roster'/></iq>")
        again.read_until("<query xmlns='jabber:iq:roster'/></iq>")
        self.raw(server).login("bob")
        # what was kept can be erased later
        self.assertEqual(server.cli("host", "remove", "example.net", "--yes").returncode, 0)
        self.assertEqual(server.cli("host", "remove", "example.net", "--yes", "--erase-data").returncode, 0)

    def test_settings_of_a_host(self):
        server = self.serve()
        self.assertEqual(server.cli("host", "add", "example.net").returncode, 0)
        file = server.folder / "data/hosts/example.net.toml"
        self.assertEqual(server.cli("host", "set", "example.net", "limits.roster=5", "modules.register.enabled=true").returncode, 0)
        before = file.read_text()
        code, refused = self.json(server, "host", "set", "example.net", "limits.roster=many", "limits.rostr=5", "modules.ping.on=false")
        self.assertEqual((code, len(refused["problems"])), (78, 2))
        self.assertEqual(file.read_text(), before)
        self.assertEqual(server.cli("host", "set", "example.net", "limits.roster=").returncode, 0)
        self.assertNotIn("roster", file.read_text())
        self.assertEqual(server.cli("host", "set", "localhost", "limits.roster=5").returncode, 5)  # it stands in the main file
        self.assertEqual(server.cli("host", "set", "nowhere.example", "limits.roster=5").returncode, 4)
        self.assertEqual(server.cli("host", "set", "example.net", "nonsense").returncode, 2)
        self.assertEqual(server.cli("host", "remove", "localhost", "--yes").returncode, 5)
        code, refused = self.json(server, "host", "add", "two.example", "--set", "reactors=4")
        self.assertEqual(code, 78)
        self.assertFalse((server.folder / "data/hosts/two.example.toml").exists())
        self.assertEqual(self.domains(server), ["localhost", "example.net"])

    def test_hosts_have_modules_with_settings_of_their_own(self):
        server = self.serve()
        self.assertEqual(server.cli("host", "add", "example.net", "--set", "modules.offline.quota=1").returncode, 0)
        server.add("alice", "bob")
        self.add_user(server, "bob@example.net")
        alice = self.raw(server).login("alice").presence()
        for host, kept in (("example.net", 1), ("localhost", 2)):
            for number in range(2):
                alice.send(f"<message to='bob@{host}' id='{host}{number}' type='chat'><body>kept {number}</body></message>")
            bob = self.raw(server, to=host).login("bob")
            if kept == 1:
                alice.read_until("</message>")
            bob.send("<presence/>")
            bob.read_until(f"kept {kept - 1}")

    def test_a_domain_of_the_file_comes_and_goes_with_a_reload(self):
        server = self.serve('domains = ["b.example"]')
        self.add_user(server, "bob@b.example")
        bob = self.raw(server, to="b.example").login("bob")
        self.rewrite(server, 'domains = ["b.example"]', 'domains = ["c.example"]')
        self.assertEqual(server.cli("reload").returncode, 0)
        self.assertIn("<host-gone ", bob.read_to_end())
        self.assertEqual(self.domains(server), ["localhost", "c.example"])
        self.add_user(server, "bob@c.example")
        self.raw(server, to="c.example").login("bob")


class Backup(Own):
    def test_a_backup_under_load_is_restored_elsewhere(self):
        server = self.serve()
        server.add("alice", "bob")
        self.assertEqual(server.cli("host", "add", "example.net").returncode, 0)
        alice = self.raw(server).login("alice").presence()
        for number in range(200):
            alice.send(f"<message to='bob@localhost' type='chat'><body>before {number}</body></message>")
        alice.ping()
        wait_for(lambda: self.json(server, "stats")[1]["stats"]["covey_storage_batches_total"] >= 200)
        for number in range(200):  # these may be in it or not
            alice.send(f"<message to='bob@localhost' type='chat'><body>meanwhile {number}</body></message>")
        archive = server.folder / "covey.tar"
        code, done = self.json(server, "backup", archive)
        self.assertEqual((code, done["file"], done["bytes"]), (0, str(archive), archive.stat().st_size))
        self.assertEqual(archive.stat().st_mode & 0o777, 0o600)
        self.assertEqual(list((server.folder / "data").glob("backup.*")), [])
        self.assertIn("store/CURRENT", subprocess.run(["tar", "-tf", archive], capture_output=True, text=True, check=True).stdout)
        self.assertEqual(server.cli("backup", archive).returncode, 2)  # it is there
        self.assertEqual(server.cli("backup", archive, "--yes").returncode, 0)
        self.assertEqual(server.cli("backup", "/proc/covey.tar").returncode, 1)
        self.assertEqual(server.cli("restore", archive, "--yes").returncode, 5)  # it runs
        authority = server.authority.read_text()
        server.stop()
        self.assertEqual(server.cli("backup", archive, "--yes").returncode, 3)
        other = harness.Server()
        self.addCleanup(other.close)
        code, done = self.json(other, "restore", archive)
        self.assertEqual((code, done["replaced"]), (0, ""))
        other.start()
        self.assertEqual(other.authority.read_text(), authority)
        bob = self.raw(other).login("bob")
        bob.send("<presence/>")
        got = bob.read_until("before 199")
        self.assertEqual(len(re.findall("<body>before", got)), 200)
        self.assertEqual([h["domain"] for h in self.json(other, "host", "list")[1]["hosts"]], ["localhost", "example.net"])

    def test_what_is_there_is_moved_aside_and_a_damaged_archive_changes_nothing(self):
        server = self.serve()
        server.add("alice")
        archive = server.folder / "covey.tar"
        self.assertEqual(server.cli("backup", archive).returncode, 0)
        server.add("carol")
        server.stop()
        self.assertEqual(server.cli("restore", archive).returncode, 5)  # nobody to ask
        whole = archive.read_bytes()
        for broken in (whole[:-20_000], whole[:len(whole) // 2], b"x" * 10_000):
            archive.write_bytes(broken)
            self.assertEqual(server.cli("restore", archive, "--yes").returncode, 1)
        archive.write_bytes(whole)
        server.start()
        self.raw(server).login("carol")  # still the old data
        server.stop()
        code, done = self.json(server, "restore", archive, "--yes")
        self.assertEqual(code, 0)
        self.assertTrue((pathlib.Path(done["replaced"]) / "store/CURRENT").exists())
        server.start()
        self.raw(server).login("alice")
        raw = self.raw(server)
        raw.header()
        self.assertIn("not-authorized", raw.plain("carol"))

    def test_an_interrupted_restore_keeps_the_server_from_starting(self):
        server = self.serve()
        archive = server.folder / "covey.tar"
        self.assertEqual(server.cli("backup", archive).returncode, 0)
        server.stop()
        (server.folder / "data/restoring").mkdir()
        with self.assertRaises(RuntimeError):
            server.start()
        self.assertIn("interrupted", server.log.read_text())
        self.assertEqual(server.cli("restore", archive, "--yes").returncode, 0)
        server.start()


class Transfer(Own):
    def exported(self, server, *what):
        file = server.folder / "accounts.xml"
        code, done = self.json(server, "export", *what, file, "--yes")
        self.assertEqual((code, done["bytes"]), (0, file.stat().st_size))
        self.assertEqual(file.stat().st_mode & 0o777, 0o600)
        return file

    def roster(self, raw):
        raw.send("<iq type='get' id='ros'><query xmlns='jabber:iq:roster'/></iq>")
        return sorted(re.findall(r"<item [^>]*jid='([^']*)'", raw.read_until("</query></iq>", "<query xmlns='jabber:iq:roster'/></iq>")))

    def test_accounts_move_to_another_server_and_may_do_so_twice(self):
        server = self.serve()
        server.add("alice", "bob", "carol")
        alice, bob = self.raw(server).login("alice").presence(), self.raw(server).login("bob").presence()
        alice.send("<iq type='set' id='i'><query xmlns='jabber:iq:roster'><item jid='friend@elsewhere.example' name='A &amp; B'><group>Friends</group></item></query></iq>")
        alice.read_until("id='i' type='result'/>")
        alice.send("<presence type='subscribe' to='bob@localhost'/>")
        bob.read_until("type='subscribe'")
        bob.send("<presence type='subscribed' to='alice@localhost'/>")
        alice.read_until("<presence from='bob@localhost/r'")
        alice.send("<presence type='subscribe' to='carol@localhost'><nick xmlns='http://jabber.org/protocol/nick'>Al</nick></presence>")
        for number in range(3):
            alice.send(f"<message to='carol@localhost' type='chat' id='m{number}'><body>kept {number} &lt;&amp;&gt;</body></message>")
        alice.ping()
        file = wait_for(lambda: (f := self.exported(server)).read_text().count("<body>") == 3 and f)
        tree = xml.etree.ElementTree.parse(file)
        pie = "{urn:xmpp:pie:0}"
        users = {u.get("name"): u for u in tree.getroot().find(f"{pie}host[@jid='localhost']")}
        self.assertEqual(sorted(users), ["alice", "bob", "carol"])
        self.assertEqual(len(users["alice"].findall("{urn:xmpp:pie:0#scram}scram-credentials")), 3)
        self.assertEqual(users["carol"].find("{jabber:client}presence").get("type"), "subscribe")
        self.assertEqual([d.get("from") for d in users["carol"].iter("{urn:xmpp:delay}delay")], ["localhost"] * 3)
        self.assertNotIn(password, file.read_text())
        only = self.exported(server, "bob@localhost").read_text()
        self.assertEqual(re.findall("<user name='([^']*)'", only), ["bob"])
        self.assertEqual(server.cli("export", "nobody.example", server.folder / "x.xml").returncode, 4)
        self.assertFalse((server.folder / "x.xml").exists())
        file = self.exported(server)
        other = self.serve()
        for users, existed in ((3, 0), (0, 3)):
            code, done = self.json(other, "import", file)
            self.assertEqual((code, done["users"], done["existed"], done["mistakes"], done["skipped"]), (0, users, existed, [], {}))
        moved = self.raw(other).login("alice")
        self.assertEqual(self.roster(moved), ["bob@localhost", "carol@localhost", "friend@elsewhere.example"])
        carol = self.raw(other).login("carol")
        carol.send("<presence/>")
        got = carol.read_until("kept 2 ")
        self.assertEqual(re.findall(r"<body>kept (\d) ", got), ["0", "1", "2"])
        if "type='subscribe'" not in got:
            carol.read_until("type='subscribe'")
        again = self.exported(other)
        self.assertEqual(sorted(re.findall("<user name='([^']*)'", again.read_text())), ["alice", "bob", "carol"])

    def test_mistakes_are_told_by_line_and_the_rest_is_read(self):
        server = self.serve()
        file = server.folder / "in.xml"
        file.write_text("""<?xml version='1.0'?>
<server-data xmlns='urn:xmpp:pie:0'>
  <host jid='nowhere.example'><user name='x'/></host>
  <host jid='localhost'>
    <user name='a@b'/>
    <user name='alice' password='correct horse 1'>
      <query xmlns='jabber:iq:roster'><item jid='@@'/><item jid='b@x.example' subscription='both'/></query>
      <vCard xmlns='vcard-temp-of-the-future'><FN>A</FN></vCard>
    </user>
    <user name='nopassword'/>
  </host>
</server-data>
""")
        code, done = self.json(server, "import", file)
        self.assertEqual((code, [m["line"] for m in done["mistakes"]]), (1, [3, 5, 7]))
        self.assertEqual((done["users"], done["without_password"], done["contacts"]), (2, 1, 1))
        self.assertEqual(done["skipped"], {"<vCard xmlns='vcard-temp-of-the-future'>": 1})
        self.assertEqual(self.roster(self.raw(server).login("alice")), ["b@x.example"])
        self.assertEqual(server.cli("user", "password", "nopassword@localhost", "--password-stdin", text="secret 1\n").returncode, 0)
        self.raw(server).login("nopassword", secret="secret 1")
        for text, line in (("<server-data xmlns='urn:xmpp:pie:0'>\n<host jid='localhost'>\n<user name='z'>", 3), ("", 1), ("\n<html/>", 2)):
            file.write_text(text)
            code, done = self.json(server, "import", file)
            self.assertEqual((code, done["mistakes"][-1]["line"]), (1, line))
        self.assertEqual(server.cli("import", server.folder / "missing.xml").returncode, 2)
        self.assertNotIn(password, server.log.read_text())

    def test_many_accounts_are_read_in_bounded_memory(self):
        server = self.serve()
        server.cli("sessions")
        file = server.folder / "many.xml"
        keys = ("<scram-credentials xmlns='urn:xmpp:pie:0#scram' mechanism='SCRAM-SHA-1'><iter-count>4096</iter-count><salt>c2FsdA==</salt>"
                "<server-key>Ch+4i2S1FqrCqDZBHyg9xOdR3W0=</server-key><stored-key>BAUJlyGS3Uityr9ngP0XE3LcyY8=</stored-key></scram-credentials>")
        with open(file, "w") as out:
            out.write("<server-data xmlns='urn:xmpp:pie:0'><host jid='localhost'>")
            for number in range(300):
                out.write(f"<user name='u{number}'>{keys}<offline-messages>")
                out.writelines(f"<message xmlns='jabber:client' from='x@y.example'><body>{number} {i} {'z' * 5000}</body></message>" for i in range(20))
                out.write("</offline-messages></user>\n")
            out.write("</host></server-data>")

        def memory():
            return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{server.process.pid}/status").read_text())[1]) // 1024

        before = memory()
        code, done = self.json(server, "import", file)
        self.assertEqual((code, done["users"], done["messages"]), (0, 300, 6000))
        self.assertLess(memory() - before, 100)  # MB: write buffers and block cache included

    @unittest.skipUnless(shutil.which("prosodyctl"), "prosodyctl is not installed")
    def test_an_account_of_prosody_logs_in_with_its_password(self):
        server = self.serve(tables='[host."localhost".sasl]\nmechanisms = ["SCRAM-SHA-1", "PLAIN"]')  # it has keys for these alone
        folder = server.folder / "prosody"
        (folder / "data").mkdir(parents=True)
        (folder / "prosody.cfg.lua").write_text(f"""run_as_root = true
pidfile = "{folder}/pid"
data_path = "{folder}/data"
log = {{ info = "{folder}/log" }}
storage = "xep0227"
authentication = "internal_hashed"
modules_enabled = {{ "roster"; "saslauth" }}
VirtualHost "localhost"
""")
        subprocess.run(["prosodyctl", "--config", folder / "prosody.cfg.lua", "register", "moved", "localhost", password], capture_output=True, timeout=60)
        made = folder / "data/moved@localhost.xml"
        self.assertTrue(made.exists())
        code, done = self.json(server, "import", made)
        self.assertEqual((code, done["users"], done["without_password"]), (0, 1, 0))
        raw = self.raw(server)
        raw.header()
        self.assertIn("not-authorized", raw.plain("moved", "wrong"))
        self.assertIn("success", raw.plain("moved"))
        client = subprocess.run(["/usr/bin/python3", "-c", SCRAM_LOGIN, str(server.port), password], capture_output=True, text=True, timeout=60)
        self.assertIn("in", client.stdout, client.stderr)


class Watching(Own):
    def lines(self, server):
        return [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]

    def test_one_number_follows_a_stream_and_its_session_through_the_log(self):
        server = self.serve('log.format = "json"\nlog.level = "debug"')
        server.add("alice", "bob")
        bob = self.raw(server).login("bob")
        wrong = self.raw(server)
        wrong.header()
        wrong.plain("alice", "a wrong secret 77")
        wrong.plain("alice")
        wrong.header()
        wrong.bind("phone")
        code, shown = self.json(server, "sessions", "alice@localhost/phone")
        number = str(shown["sessions"][0]["stream"])
        server.cli("kick", "alice@localhost/phone", "--yes")
        wrong.read_to_end()
        bob.send("</stream:stream>")
        bob.read_to_end()
        wait_for(lambda: sum(line["code"] == "stream.ended" and "jid" in line for line in self.lines(server)) == 2)
        lines = self.lines(server)
        of_alice = [line for line in lines if line.get("stream") == number]
        self.assertEqual([line["code"] for line in of_alice], ["auth.failed", "auth.ok", "session.bound", "session.kicked", "stream.closed", "stream.ended"])
        self.assertEqual((of_alice[2]["jid"], of_alice[-1]["jid"], of_alice[-1]["cause"]), ("alice@localhost/phone", "alice@localhost/phone", "policy-violation"))
        others = {line["stream"] for line in lines if line.get("jid", "").startswith("bob")}
        self.assertEqual(len(others), 1)
        self.assertNotIn(number, others)
        for line in lines:  # no line about a stream without its number
            if line["code"].startswith(("auth.", "session.", "stream.", "connection.")):
                self.assertRegex(line["stream"], "^[1-9][0-9]*$")

    def test_secrets_stay_out_of_the_log(self):
        server = self.serve('log.level = "debug"')
        server.add("alice")
        raw = self.raw(server)
        raw.header()
        raw.plain("alice", "a wrong secret 77")
        self.raw(server).login("alice")
        stranger = self.raw(server)
        stranger.header()
        stranger.register("dora", "a new secret 78")
        self.assertEqual(server.cli("user", "password", "alice@localhost", "--password-stdin", text="another secret 79\n").returncode, 0)
        file = server.folder / "in.xml"
        file.write_text("<server-data xmlns='urn:xmpp:pie:0'><host jid='localhost'><user name='eve' password='a moved secret 80'/></host></server-data>")
        self.assertEqual(server.cli("import", file).returncode, 0)
        self.rewrite(server, "reactors = 1", 'reactors = 1\nnonsense = "a secret 81"')
        server.cli("reload")
        stored = b"".join(f.read_bytes() for f in (server.folder / "data").rglob("*") if f.is_file())
        for secret in (password, "a wrong secret 77", "a new secret 78", "another secret 79", "a moved secret 80"):
            for spelled in (secret, harness.base64.b64encode(secret.encode()).decode(), harness.base64.b64encode(f"\0alice\0{secret}".encode()).decode()):
                self.assertNotIn(spelled, server.log.read_text())
                self.assertNotIn(spelled.encode(), stored)

    def test_metrics_answer_what_is_asked_at_night(self):
        server = self.serve()
        server.add("alice")
        wrong = self.raw(server)
        wrong.header()
        wrong.plain("alice", "wrong")
        self.raw(server).login("alice")

        def stats():
            return self.json(server, "stats")[1]["stats"]

        found = stats()
        for name, value in {'covey_logins_total{mechanism="PLAIN"}': 1, 'covey_login_failures_total{error="not-authorized"}': 1, "covey_sessions": 1,
                            "covey_strangers": 1, "covey_hosts": 1, "covey_ready": 1, "covey_operations": 0, "covey_storage_waiting_batches": 0,
                            "covey_storage_waiting_reads": 0, "covey_hashing_waiting": 0}.items():
            self.assertEqual(found[name], value, name)
        self.assertGreater(found["covey_process_resident_bytes"], 1e6)
        self.assertGreater(found["covey_storage_commit_seconds_count"], 0)
        self.assertGreater(found["covey_storage_commit_seconds_sum"], 0)
        days = (found['covey_certificate_until_seconds{host="localhost"}'] - time.time()) / 86400
        self.assertTrue(300 < days < 400, days)
        text = urllib.request.urlopen(f"http://127.0.0.1:{server.http}/metrics", timeout=10).read().decode()
        self.assertRegex(text, r'covey_storage_commit_seconds_bucket\{le="\+Inf"\} [1-9]')
        self.assertEqual(server.cli("host", "add", "example.net").returncode, 0)
        self.assertIn('covey_certificate_until_seconds{host="example.net"}', stats())
        self.assertEqual(server.cli("host", "remove", "example.net", "--yes").returncode, 0)
        found = stats()
        self.assertNotIn('covey_certificate_until_seconds{host="example.net"}', found)
        self.assertEqual((found["covey_hosts"], found["covey_config_reloads_total"]), (1, 2))
        wrong.close()
        wait_for(lambda: stats().get('covey_streams_ended_total{cause="lost"}', 0) >= 1)


class Unit(Own):
    unit = harness.root / "deploy/covey.service"

    def line(self, name):
        return re.search(rf"^{name}=(.*)$", self.unit.read_text(), re.M)[1]

    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
    def test_the_unit_is_good_and_hardened(self):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "covey.service"
            file.write_text(self.unit.read_text().replace("/usr/bin/coveyd", str(harness.build / "server/coveyd")).replace("/usr/bin/covey ", f"{harness.build}/server/covey "))
            done = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, timeout=60)
            self.assertNotIn("covey.service", done.stderr)  # each complaint names it
            done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=20", file], capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stdout)  # exposure of at most 2.0

    def test_its_commands_do_what_it_says(self):
        server = self.serve()
        self.assertEqual((self.line("Type"), self.line("Restart")), ("notify", "on-failure"))
        words = self.line("ExecReload").split()
        self.assertEqual(words[:2], ["/usr/bin/covey", "--config"])
        self.rewrite(server, "reactors = 1", "reactors = 1\nlimits.roster = 5")
        self.assertIn("limits.roster", server.cli(*words[3:]).stdout)
        self.rewrite(server, "limits.roster = 5", "limits.roster = x")
        self.assertIn(str(server.cli(*words[3:]).returncode), self.line("RestartPreventExitStatus").split())

    def test_threads_that_are_woken_do_not_interrupt(self):
        self.assertEqual(self.line("CPUSchedulingPolicy"), "batch")
        pid = self.serve().process.pid
        threads = [int(t) for t in os.listdir(f"/proc/{pid}/task")]
        self.assertGreater(len(threads), 1)
        self.assertEqual({os.sched_getscheduler(t) for t in threads}, {os.SCHED_BATCH})


# Logs in with SCRAM-SHA-1, as a client does that never knew Prosody.
SCRAM_LOGIN = """
import asyncio, ssl, sys, slixmpp
class client(slixmpp.ClientXMPP):
    def __init__(self):
        super().__init__("moved@localhost", sys.argv[2], sasl_mech="SCRAM-SHA-1")
        self.ssl_context.check_hostname = False
        self.ssl_context.verify_mode = ssl.CERT_NONE
        self.add_event_handler("session_start", lambda e: (print("in"), self.disconnect()))
        self.add_event_handler("failed_auth", lambda e: self.disconnect())
c = client()
c.connect(("127.0.0.1", int(sys.argv[1])))
c.loop.run_until_complete(asyncio.wait_for(c.disconnected, 30))
"""


if __name__ == "__main__":
    harness.main()
