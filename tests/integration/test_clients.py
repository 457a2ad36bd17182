#!/usr/bin/python3
# Unmodified clients: aioxmpp, slixmpp with each of its mechanisms, @xmpp/client on node, profanity in a terminal.
# All verify the certificate by the local authority, but profanity, which trusts it for the test.
import asyncio
import os
import pathlib
import shutil
import ssl
import subprocess
import tempfile
import time
import unittest

import aioxmpp
import aioxmpp.ibr
import aioxmpp.security_layer
import slixmpp

import harness
from harness import Raw, password


def run(steps, limit=60):
    async def bounded():
        return await asyncio.wait_for(steps(), limit)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(bounded())
    finally:  # clients leave tasks behind
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.close()


class Slixmpp(harness.Case):
    # slixmpp 1.8 binds by tls-unique alone, and says "y" with SCRAM where -PLUS is offered, which is a downgrade
    # (RFC 5802 section 6): its SCRAM works where -PLUS is not on offer, else it falls back to PLAIN.
    tables = '[host."localhost".sasl]\nmechanisms = ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"]'

    def login(self, mechanism, secret=password, direct=False):
        async def steps():
            xmpp = slixmpp.ClientXMPP("alice@localhost/slix", secret, sasl_mech=mechanism)
            xmpp.ssl_context = ssl.create_default_context(cafile=str(self.server.authority))
            xmpp.ca_certs = str(self.server.authority)
            done = asyncio.get_running_loop().create_future()
            xmpp.add_event_handler("session_start", lambda _: done.done() or done.set_result("in"))
            xmpp.add_event_handler("failed_all_auth", lambda _: done.done() or done.set_result("out"))
            xmpp.connect(("127.0.0.1", self.server.direct if direct else self.server.port), use_ssl=direct)
            how = await asyncio.wait_for(done, 20)
            xmpp.abort()
            return how
        return run(steps)

    def test_each_mechanism(self):
        for mechanism in ("PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256"):
            with self.subTest(mechanism):
                self.assertEqual(self.login(mechanism), "in")
                self.assertIn(f"mechanism={mechanism}", self.server.log.read_text())

    def test_direct_tls(self):
        self.assertEqual(self.login("SCRAM-SHA-256", direct=True), "in")

    def test_a_wrong_password(self):
        for mechanism in ("PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256"):
            with self.subTest(mechanism):
                self.assertEqual(self.login(mechanism, "wrong"), "out")


class Aioxmpp(harness.Case):
    names = ()

    def security(self, secret):
        def context():
            c = aioxmpp.security_layer.default_ssl_context()
            c.load_verify_locations(str(self.server.authority))
            return c
        return aioxmpp.make_security_layer(secret)._replace(ssl_context_factory=context)

    def peer(self, direct=False):
        if direct:
            return [("localhost", self.server.direct, aioxmpp.connector.XMPPOverTLSConnector())]
        return [("localhost", self.server.port, aioxmpp.connector.STARTTLSConnector())]

    async def register(self, name):
        jid = aioxmpp.JID.fromstr(f"{name}@localhost")
        _, stream, _ = await aioxmpp.node.connect_xmlstream(jid, aioxmpp.security_layer.SecurityLayer(
            self.security("").ssl_context_factory, aioxmpp.security_layer.PKIXCertificateVerifier, True, ()), override_peer=self.peer())
        await aioxmpp.ibr.register(stream, aioxmpp.ibr.Query(name, password))
        await stream.close_and_wait()

    def client(self, name, direct=False):
        return aioxmpp.PresenceManagedClient(aioxmpp.JID.fromstr(f"{name}@localhost/aio"), self.security(password), override_peer=self.peer(direct))

    def test_register_subscribe_chat_offline(self):
        async def steps():
            await self.register("juliet")
            await self.register("romeo")
            juliet, romeo = self.client("juliet"), self.client("romeo", direct=True)
            rosters = [c.summon(aioxmpp.RosterClient) for c in (juliet, romeo)]
            inbox = asyncio.Queue()
            for c in (juliet, romeo):
                dispatcher = c.summon(aioxmpp.dispatcher.SimpleMessageDispatcher)
                dispatcher.register_callback(aioxmpp.MessageType.CHAT, None, inbox.put_nowait)
            asked = asyncio.get_running_loop().create_future()
            rosters[1].on_subscribe.connect(lambda stanza: asked.done() or asked.set_result(stanza.from_))
            there = asyncio.get_running_loop().create_future()

            def say(to, text):
                m = aioxmpp.Message(aioxmpp.MessageType.CHAT, to=aioxmpp.JID.fromstr(to))
                m.body[None] = text
                return m

            async with juliet.connected() as j:
                juliet.summon(aioxmpp.PresenceClient).on_available.connect(
                    lambda full, _: full.localpart == "romeo" and not there.done() and there.set_result(full))
                async with romeo.connected() as r:
                    rosters[0].subscribe(aioxmpp.JID.fromstr("romeo@localhost"))
                    who = await asyncio.wait_for(asked, 10)
                    rosters[1].approve(who)
                    self.assertEqual(str(await asyncio.wait_for(there, 10)), "romeo@localhost/aio")
                    await j.send(say("romeo@localhost", "wherefore art thou <romeo>?"))
                    got = await asyncio.wait_for(inbox.get(), 10)
                    self.assertEqual((str(got.from_), got.body.any()), ("juliet@localhost/aio", "wherefore art thou <romeo>?"))
                    await r.send(say("juliet@localhost/aio", "here ☺"))
                    self.assertEqual((await asyncio.wait_for(inbox.get(), 10)).body.any(), "here ☺")
                for n in range(20):
                    await j.send(say("romeo@localhost", f"gone {n}"))
                await aioxmpp.ping.ping(juliet, aioxmpp.JID.fromstr("localhost"))
            romeo = self.client("romeo")
            romeo.summon(aioxmpp.dispatcher.SimpleMessageDispatcher).register_callback(aioxmpp.MessageType.CHAT, None, inbox.put_nowait)
            async with romeo.connected():
                got = [await asyncio.wait_for(inbox.get(), 10) for _ in range(20)]
                self.assertEqual([m.body.any() for m in got], [f"gone {n}" for n in range(20)])
                self.assertTrue(all(m.xep0203_delay for m in got))
        run(steps)


class Node(harness.Case):
    """@xmpp/client, as tests/clients/package-lock.json names it."""
    folder = harness.root / "tests/clients"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        try:
            if not (cls.folder / "node_modules/.package-lock.json").exists():
                done = subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=cls.folder, stdin=subprocess.DEVNULL,
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240)
                if done.returncode:
                    raise RuntimeError("npm ci: " + done.stdout[-2000:])
        except BaseException:
            cls.server.close()
            raise

    def chat(self, services, *mechanism, expect=0):
        done = subprocess.run(["node", "--experimental-global-webcrypto", self.folder / "chat.js", *services, "alice", "bob",
                               password if expect == 0 else "wrong", *mechanism], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=60, env=dict(os.environ, NODE_EXTRA_CA_CERTS=str(self.server.authority)))
        self.assertEqual(done.returncode, expect, done.stdout[-3000:])
        return done.stdout

    def services(self, scheme="xmpp"):
        """One for each user."""
        return [f"{scheme}://localhost:{self.server.direct if scheme == 'xmpps' else self.server.port}" for _ in range(2)]

    def forget(self):
        for name in ("alice", "bob"):
            self.server.cli("user", "remove", f"{name}@localhost", "--yes")
        self.server.add("alice", "bob")

    def test_chat_by_starttls(self):
        self.forget()
        self.assertIn("all is well", self.chat(self.services(), "SCRAM-SHA-1"))

    def test_chat_by_direct_tls(self):
        self.forget()
        self.assertIn("all is well", self.chat(self.services("xmpps"), "PLAIN"))

    def test_a_wrong_password(self):
        self.assertIn("not-authorized", self.chat(self.services(), "SCRAM-SHA-1", expect=1))


class Profanity(harness.Case):
    """A terminal client by tmux: keys in, screen out."""

    def setUp(self):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="covey-prof-"))
        self.addCleanup(shutil.rmtree, self.home, ignore_errors=True)
        self.tmux("new-session", "-d", "-x", "160", "-y", "50", "-s", "p", "profanity")
        self.addCleanup(self.tmux, "kill-server")
        self.wait_for("Profanity")

    def tmux(self, *words):
        return subprocess.run(["tmux", "-S", self.home / "socket", "-f", "/dev/null", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=20, env=dict(os.environ, HOME=str(self.home), XDG_CONFIG_HOME=str(self.home / "config"),
                                                              XDG_DATA_HOME=str(self.home / "data"), TERM="xterm", LANG="C.UTF-8"))

    def wait_for(self, text, limit=20):
        end = time.monotonic() + limit
        while time.monotonic() < end:
            screen = self.tmux("capture-pane", "-p", "-t", "p").stdout
            if text in screen:
                return screen
            time.sleep(0.1)
        self.fail(f"no {text!r} on the screen:\n{screen}\nand in the log:\n{self.server.log.read_text()[-2000:]}")

    def type(self, text):
        self.tmux("send-keys", "-t", "p", "-l", text)
        self.tmux("send-keys", "-t", "p", "Enter")

    def test_chat_with_a_person_at_a_terminal(self):
        self.type(f"/connect bob@localhost server 127.0.0.1 port {self.server.port} tls trust")
        self.wait_for("Enter password")
        self.type(password)
        self.wait_for("logged in successfully")
        alice = Raw(self.server, direct=True)
        alice.header()
        alice.plain("alice")
        alice.header()
        alice.bind("r")
        alice.presence()
        self.addCleanup(alice.close)
        self.type("/msg alice@localhost good evening from a terminal")
        self.assertIn("from='bob@localhost/", alice.read_until("<body>good evening from a terminal</body>"))
        alice.send("<message to='bob@localhost' type='chat'><body>and back to it</body></message>")
        self.wait_for("and back to it")
        self.type("/disconnect")
        self.wait_for("logged out")


if __name__ == "__main__":
    harness.main()
