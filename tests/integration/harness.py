# Starts a coveyd of its own on free loopback ports in a temporary folder, and talks to it raw or by clients.
import base64
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import unittest

root = pathlib.Path(__file__).resolve().parents[2]
build = pathlib.Path(os.environ.get("COVEY_BUILD", root / "build"))
is_long = bool(os.environ.get("COVEY_TEST_LONG"))
password = "correct horse 1"
environment = {k: v for k, v in os.environ.items() if not k.startswith("COVEY_")}  # they would be settings


def free_ports(count):
    """Ports that nobody listens on now. Held together, so that they differ."""
    held = [socket.socket() for _ in range(count)]
    for s in held:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


class Server:
    """One node. `extra`: TOML lines; top-level ones first. `inside`: lines of the tables listen and tls; {port} and {direct} are ports."""

    lag = 0  # seconds, that what one client sends needs to another one's node

    def __init__(self, extra="", tables="", reactors=1, folder=None, inside=None):
        self.folder = pathlib.Path(folder or tempfile.mkdtemp(prefix="covey-test-"))
        self.owns_folder = folder is None
        self.port, self.direct, self.http = free_ports(3)
        self.config = self.folder / "covey.toml"
        inside = {table: lines.format(port=self.port, direct=self.direct, folder=self.folder) for table, lines in (inside or {}).items()}
        self.config.write_text(f"""domain = "localhost"
data = "{self.folder}/data"
run = "{self.folder}/run"
reactors = {reactors}
admins = ["admin@localhost"]
{extra}
[listen]
c2s = ["127.0.0.1:{self.port}"]
c2s_direct = ["127.0.0.1:{self.direct}"]
http = ["127.0.0.1:{self.http}"]
{inside.get("listen", "")}
[tls]
require = false
{inside.get("tls", "")}
[sasl]
plain_without_tls = true
iterations = 4096
[modules.register]
enabled = true
per_hour = 0
shortest_password = 1
{tables}
""")
        self.process = None
        self.log = self.folder / "log"

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([build / "server/coveyd", "--config", self.config], stdin=subprocess.DEVNULL, env=environment,
                                            stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                if (self.folder / "run/admin.sock").exists():  # it comes last
                    return self
                time.sleep(0.02)
            except OSError:
                if self.process.poll() is not None:
                    raise RuntimeError("coveyd ended: " + self.log.read_text(errors="replace"))
                time.sleep(0.02)
        raise RuntimeError("coveyd does not listen")

    def stop(self, how=signal.SIGTERM, limit=40):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(limit)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
        return self.process.returncode if self.process else None

    def close(self):
        try:
            self.stop()
        finally:
            if self.owns_folder:
                shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def authority(self):
        return self.folder / "data/certificates/ca.pem"

    def cli(self, *words, text=None):
        return subprocess.run([build / "server/covey", "--config", self.config, *words], input=text, stdout=subprocess.PIPE, env=environment,
                              stderr=subprocess.PIPE, text=True, timeout=30)

    def add(self, *names):
        for name in names:
            done = self.cli("user", "add", f"{name}@localhost", "--password-stdin", text=password + "\n")
            assert done.returncode == 0, done.stderr


class Raw:
    """A stream by hand: sends text, waits for text."""

    def __init__(self, server, direct=False, context=None, to="localhost"):
        self.to, self.lag = to, server.lag
        self.socket = socket.create_connection(("127.0.0.1", server.direct if direct else server.port), 10)
        self.socket.settimeout(10)
        self.buffer = ""
        if direct:
            self.wrap(context or trusting())

    def wrap(self, context):
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")

    def send(self, text):
        self.socket.sendall(text.encode() if isinstance(text, str) else text)

    def read_until(self, *words):
        """Everything up to and with the first of `words` that comes. EOFError: the peer closed."""
        while True:
            ends = [self.buffer.find(w) + len(w) for w in words if w in self.buffer]
            if ends:
                end = min(ends)
                got, self.buffer = self.buffer[:end], self.buffer[end:]
                return got
            data = self.socket.recv(65536)
            if not data:
                raise EOFError(self.buffer)
            self.buffer += data.decode(errors="replace")

    def read_to_end(self):
        try:
            while data := self.socket.recv(65536):
                self.buffer += data.decode(errors="replace")
        except (ConnectionResetError, ssl.SSLError):
            pass
        got, self.buffer = self.buffer, ""
        return got

    def header(self, extra="", features=True):
        self.send(f"<?xml version='1.0'?><stream:stream to='{self.to}' version='1.0' xmlns='jabber:client' "
                  f"xmlns:stream='http://etherx.jabber.org/streams'{extra}>")
        return self.read_until("</stream:features>") if features else None

    def start_tls(self, context=None):
        self.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        self.read_until("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        self.wrap(context or trusting())

    def plain(self, name, secret=password, authzid=""):
        token = base64.b64encode(f"{authzid}\0{name}\0{secret}".encode()).decode()
        self.send(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{token}</auth>")
        return self.read_until("</failure>", "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")

    def bind(self, resource=""):
        inside = f"<resource>{resource}</resource>" if resource else ""
        self.send(f"<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>{inside}</bind></iq>")
        return self.read_until("</iq>")

    def login(self, name, resource="r", secret=password):
        self.header()
        assert "success" in self.plain(name, secret)
        self.header()
        assert "<jid>" in self.bind(resource)
        return self

    def presence(self, text="<presence/>"):
        """When the account has sent it back, it is known there. Messages that come with it, kept for this login, are still to be read."""
        self.send(text)
        early = self.ping()
        while not re.search(r"<presence from='([^']+)' to='\1'(/>|>.*?</presence>)", early, re.S):
            early += self.read_until(">")
        self.buffer = "".join(re.findall(r"<message.*?</message>", early, re.S)) + self.buffer
        return self

    def ping(self):
        """A round trip: everything sent before has been handled by the server's session, and where there are several nodes has come to the others."""
        time.sleep(self.lag)
        self.counter = getattr(self, "counter", 0) + 1
        self.send(f"<iq type='get' id='ping{self.counter}' to='{self.to}'><ping xmlns='urn:xmpp:ping'/></iq>")
        got = self.read_until(f"id='ping{self.counter}' type='result'/>")
        time.sleep(self.lag)
        return got

    def register(self, name, secret=password):
        self.send(f"<iq type='set' id='reg'><query xmlns='jabber:iq:register'><username>{name}</username>"
                  f"<password>{secret}</password></query></iq>")
        return self.read_until("</iq>", "type='result'/>")

    def close(self):
        self.socket.close()


def trusting():
    """For tests that are not about verification."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Case(unittest.TestCase):
    """One server for all tests of a class."""
    server_class = Server  # tests/cluster_nodes/test_features.py has three nodes instead
    extra, tables, reactors, names, inside = "", "", 1, ("alice", "bob", "carol", "admin"), None

    @classmethod
    def setUpClass(cls):
        cls.server = cls.server_class(cls.extra, cls.tables, cls.reactors, inside=cls.inside)
        try:
            cls.server.start()
            cls.server.add(*cls.names)
        except BaseException:
            cls.server.close()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def raw(self, *args, **kw):
        r = Raw(self.server, *args, **kw)
        self.addCleanup(r.close)
        return r

    def client(self, name, resource="r"):
        return self.raw().login(name, resource)


def main():
    """Runs the tests of the calling file; the last line is for the runner."""
    result = unittest.main(exit=False, verbosity=2).result
    bad = len(result.failures) + len(result.errors)
    print(f"{max(0, result.testsRun - bad - len(result.skipped))} passed, {bad} failed", flush=True)
    raise SystemExit(1 if bad else 0)
