#!/usr/bin/python3
# A cluster on loopback: coveyd nodes n1, n2, …, one PostgreSQL, HAProxy before them by deploy/haproxy.cfg. Tests use its
# classes; called as a program it is `./dev cluster`. Whatever it started ends with it, however it ends.
import argparse
import fcntl
import ipaddress
import json
import math
import os
import pathlib
import pwd
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
import harness  # noqa: E402

host = "localhost"


_given = set()  # a node listens some time after its ports were found


def free_ports(count):
    """Ports that nobody listens on now, outside those that the system gives to outgoing connections: so a node that is down keeps
    its own, and nobody who dials it there meets himself. None is given twice, and programs that run at the same time take them
    from different ranges."""
    first = 15_000 + os.getpid() % 17 * 1_000
    held = []
    for port in random.sample(sorted(set(range(first, first + 1_000)) - _given), 100):
        s = socket.socket()
        try:
            s.bind(("127.0.0.1", port))
            held.append(s)
        except OSError:
            s.close()
        if len(held) == count:
            break
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    _given.update(ports)
    return ports


def wait_for(is_so, what, limit=30, step=0.05):
    """What `is_so` returns, as soon as that is something."""
    end = time.monotonic() + limit
    while not (found := is_so()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {limit} s: {what}")
        time.sleep(step)
    return found


def run(words, **more):
    done = subprocess.run([str(w) for w in words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, **more)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.stdout.strip()}")
    return done.stdout


def launch(words, log, how="KILL", user=(), inside=()):
    """A process that is ended by the signal `how` when the thread that called this ends: call it from the main one. Ctrl-C of the
    terminal does not reach it. `inside`: words that take it to another place first (namespaces.py)."""
    with open(log, "ab") as to:
        return subprocess.Popen([*inside, "setpriv", *user, f"--pdeathsig={how}", "--", *map(str, words)], stdin=subprocess.DEVNULL, stdout=to, stderr=to,
                                env=harness.environment, start_new_session=True)


def end(process, how=signal.SIGTERM, limit=20):
    if process and process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.send_signal(how)
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def tail(log, size=2_000):
    return log.read_text(errors="replace")[-size:] if log.exists() else ""


class Postgres:
    """PostgreSQL in a folder of its own, on a unix socket that only this user and its own can reach. Made at the first start.
    `place`: there it listens, too. `primary`: that one's synchronous standby."""

    def __init__(self, folder, place=None, primary=None):
        self.folder, self.log, self.process, self.user = folder, folder.parent / f"{folder.name}.log", None, []
        self.ip, self.inside = place or ("", ())
        self.primary = primary
        self.connection = f"host={self.ip or folder} dbname=covey user=covey"
        folder.mkdir(exist_ok=True)
        folder.chmod(0o700)
        if os.geteuid() == 0:  # it refuses to run as root
            try:
                who = pwd.getpwnam("postgres")
            except KeyError:
                who = pwd.getpwnam("nobody")
            self.user = [f"--reuid={who.pw_uid}", f"--regid={who.pw_gid}", "--clear-groups"]
            os.chown(folder, who.pw_uid, who.pw_gid)
            if subprocess.run(["setpriv", *self.user, "--", "test", "-x", folder]).returncode:
                raise RuntimeError(f"the user {who.pw_name}, as whom PostgreSQL has to run, cannot reach {folder}: name another place, as with --data /var/tmp/cluster")

    @staticmethod
    def program(name):
        """Where Debian has it, of the newest version."""
        found = sorted(pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: float(p.parts[-3]))
        return found[-1] if found else shutil.which(name) or name

    def as_user(self, name, *words, inside=()):
        return run([*inside, "setpriv", *self.user, "--", self.program(name), *words], cwd="/", env=dict(harness.environment, LC_ALL="C"))

    def start(self):
        data = self.folder / "data"
        if not data.exists():
            fresh = self.folder / "fresh"  # half of it may be there, of a start that was interrupted
            shutil.rmtree(fresh, ignore_errors=True)
            if self.primary:
                self.as_user("pg_basebackup", "-D", fresh, "-R", "-c", "fast", "-d", f"host={self.primary.ip} user=covey application_name=standby", inside=self.inside)
            else:
                self.as_user("initdb", "-D", fresh, "-U", "covey", "--auth=trust", "--encoding=UTF8", "--locale=C")
            if self.ip and not self.primary:
                with open(fresh / "pg_hba.conf", "a") as rules:
                    rules.write("".join(f"host {what} all {ipaddress.ip_network(self.ip + '/8', False)} trust\n" for what in ("all", "replication")))
            fresh.rename(data)
        self.process = launch([self.program("postgres"), "-D", data, "-k", self.folder, "-c", f"listen_addresses={self.ip}"], self.log, "QUIT", self.user, self.inside)
        wait_for(self.answers, f"PostgreSQL is up: {self.log}")
        if self.primary:
            self.primary.query("alter system set synchronous_standby_names = 'standby'")  # after the copy, which does not want one
            self.primary.query("select pg_reload_conf()")
            wait_for(lambda: self.primary.query("select 1 from pg_stat_replication where sync_state = 'sync'"), "the standby has everything")
        elif not self.query("select 1 from pg_database where datname = 'covey'"):
            self.as_user("createdb", "-h", self.folder, "-U", "covey", "covey")

    def query(self, text):
        return self.as_user("psql", "-h", self.folder, "-U", "covey", "-Atc", text, "postgres")

    def answers(self):
        if self.process.poll() is not None:
            raise RuntimeError("PostgreSQL ended: " + tail(self.log))
        try:
            return self.as_user("pg_isready", "-q", "-h", self.folder, "-U", "covey", "-d", "postgres") == ""
        except RuntimeError:
            return False

    def stop(self):
        end(self.process, signal.SIGINT)


class Node(harness.Server):
    """One coveyd: `port` and `direct` are for clients that want this very node, `proxied` and `proxied_direct` for HAProxy."""

    def __init__(self, name, folder, ports, place=("127.0.0.1", ())):
        self.ip, self.inside = place
        self.name, self.folder, self.owns_folder, self.process = name, folder, False, None
        self.port, self.direct, self.proxied, self.proxied_direct, self.http, self.link = ports
        self.config, self.log = folder / "covey.toml", folder / "log"
        self.address = f"{self.ip}:{self.link}"
        folder.mkdir(exist_ok=True)

    def configure(self, connection, certificates, linked, extra):
        """All keys dotted, so that lines may follow in any order."""
        def at(*ports):
            return json.dumps([f"{self.ip}:{p}" for p in ports])
        lines = [*self.first_lines(host),
                 f"listen.c2s = {at(self.port, self.proxied)}", f"listen.c2s_direct = {at(self.direct, self.proxied_direct)}",
                 f"listen.http = {at(self.http)}", f"listen.proxy_protocol = {at(self.proxied, self.proxied_direct)}",
                 f'listen.trusted_proxies = ["{ipaddress.ip_network(self.ip + "/8", False)}"]', 'keepalive.by = "ping"  # the kernel would ask HAProxy, not the client',
                 'storage.engine = "postgresql"', f'storage.connection = "{connection}"']
        if linked:
            lines += [f'cluster.listen = "{self.address}"', f'cluster.address = "{self.address}"']
        if certificates != self.folder / "data/certificates":  # all nodes show clients the same one
            lines += [f'tls.certificate = "{certificates}/{host}.pem"', f'tls.key = "{certificates}/{host}.key"']
        self.config.write_text("\n".join([*lines, *extra]) + "\n")
        self.certificates = certificates

    def first_lines(self, domain):
        return [f'domain = "{domain}"', f'data = "{self.folder}/data"', f'run = "{self.folder}/run"']

    @property
    def own_host(self):
        """Where each node serves one of its own (HostsApart)."""
        return f"{self.name}.{host}"

    def configure_apart(self, nodes, extra):
        """The same hosts on each node, which serves one of them."""
        lines = [*self.first_lines(nodes[0].own_host), f"domains = {json.dumps([n.own_host for n in nodes[1:]])}",
                 f'listen.c2s = ["{self.ip}:{self.port}"]', f'listen.c2s_direct = ["{self.ip}:{self.direct}"]', f'listen.http = ["{self.ip}:{self.http}"]',
                 f'cluster.listen = "{self.address}"', f'cluster.address = "{self.address}"']
        for n in nodes:
            lines += [f'host."{n.own_host}".cluster.node = "{n.name}"', f'host."{n.own_host}".cluster.clients = "{n.ip}:{n.port}"']
        self.config.write_text("\n".join([*lines, *extra]) + "\n")
        self.certificates = self.folder / "data/certificates"

    @property
    def authority(self):
        return self.certificates / "ca.pem"

    def ask(self, *words):
        """Answer of the command line as an object. RuntimeError: it says why not."""
        done = self.cli(*words, "--json")
        if done.returncode:
            raise RuntimeError(f"covey {words[0]} at {self.name}: {(done.stdout + done.stderr).strip()}")
        return json.loads(done.stdout)

    @property
    def is_member(self):
        return (self.folder / "data/cluster/node.pem").exists()

    def is_ready(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended ({self.process.returncode}): {tail(self.log)}")
        return self.probe("/readyz")[0] == 200

    def probe(self, path):
        """Status and text; 0 if it does not answer."""
        try:
            with urllib.request.urlopen(f"http://{self.ip}:{self.http}{path}", timeout=2) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.read().decode()
        except OSError:
            return 0, ""

    def spawn(self):
        self.process = launch([harness.build / "server/coveyd", "--config", self.config], self.log, inside=self.inside)

    def wait(self, limit=30):
        wait_for(self.is_ready, f"{self.name} is ready: {self.log}", limit)

    def start(self):
        self.spawn()
        self.wait()
        return self

    def kill(self):
        """As kill -9, or a machine that loses its power."""
        self.process.kill()
        self.process.wait()

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)


class Proxy:
    """HAProxy. Clients that do not care for the node come here: `port` and `direct`, as a node has them."""
    ip, lag = "127.0.0.1", 0

    def __init__(self, folder, ports):
        self.config, self.log, self.processes = folder / "haproxy.cfg", folder / "haproxy.log", []
        self.port, self.direct = ports

    def configure(self, nodes):
        """deploy/haproxy.cfg with these nodes and ports, and without what needs root, or a machine of its own."""
        text = (harness.root / "deploy/haproxy.cfg").read_text()
        text = re.sub(r"^ *(user|group|maxconn|bind \[::\]).*\n", "", text, flags=re.M).replace("/dev/log", "stdout format raw")
        for given, own in ((":5222", self.port), (":5223", self.direct)):
            text = text.replace(f"bind {given}\n", f"bind 127.0.0.1:{own}\n")

        def servers(found):
            first = found[0].splitlines()[0] + "\n"
            return "".join(re.sub(r"\bn1\b", n.name, first).replace("10.0.0.1:15222", f"{n.ip}:{n.proxied}")
                           .replace("10.0.0.1:15223", f"{n.ip}:{n.proxied_direct}").replace("port 5280", f"port {n.http}") for n in nodes)
        self.config.write_text(re.sub(r"(^ *server .*\n)+", servers, text, flags=re.M))

    def start(self):
        """Also when it runs: then the new one takes over the ports, and the old one ends with its last client."""
        old = [w for p in self.processes if p.poll() is None for w in ("-sf", p.pid)]
        fresh = launch(["haproxy", "-db", "-f", self.config, *old], self.log)
        self.processes.append(fresh)

        def listens():
            if fresh.poll() is not None:
                raise RuntimeError("HAProxy ended: " + tail(self.log))
            return self.serves()
        wait_for(listens, f"HAProxy listens: {self.log}")
        return self

    def serves(self):
        """A client that connects gets to a node."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as s:
                s.settimeout(5)
                s.sendall(b"<?xml version='1.0'?><stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>")
                return s.recv(100) != b""
        except OSError:
            return False

    def gives_to(self, node, backend="c2s"):
        """Whether it gives clients to this node, by its log."""
        said = re.findall(rf"Server {backend}/{node.name} is (UP|DOWN)", self.log.read_text(errors="replace"))
        return not said or said[-1] == "UP"

    def stop(self):
        for p in self.processes:
            end(p)


class Absent:
    """Instead of a database and a proxy, where none is needed."""
    processes, process, log, connection = (), None, None, ""

    def configure(self, _):
        pass

    def start(self):
        pass

    def stop(self):
        pass


class Cluster:
    """`ports`: of a node by its number, 0 for HAProxy's two; free ones if there is none. `extra`: lines for each configuration.
    linked=False: the nodes share the database and know nothing of each other. `places`: gives each node and the database its address
    and the words that take it there (namespaces.py), by its name."""

    is_shared = True  # every node serves the host, from one database

    def __init__(self, count=3, folder=None, linked=True, ports=None, extra=(), name="loopback", places=None):
        self.folder = pathlib.Path(folder or tempfile.mkdtemp(prefix="covey-cluster-"))
        self.owns_folder, self.linked, self.extra, self.name = folder is None, linked, extra, name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ports = ports or (lambda number: free_ports(6 if number else 2))
        if os.geteuid() == 0:
            self.folder.chmod(0o711)  # PostgreSQL's user has to get through
        self.nodes = []
        self.places = places or (lambda _: ("127.0.0.1", ()))
        self.database = Postgres(self.folder / "postgresql", places and places("db")) if self.is_shared else Absent()
        self.proxy = Proxy(self.folder, self.ports(0)) if self.is_shared else Absent()
        for _ in range(count):
            self.prepare()

    def prepare(self):
        number = len(self.nodes) + 1
        node = Node(f"n{number}", self.folder / f"n{number}", self.ports(number), self.places(f"n{number}"))
        first = self.nodes[0] if self.nodes else node
        self.nodes.append(node)
        self.configure(node, first)
        return node

    def configure(self, node, first):
        node.configure(self.database.connection, first.folder / "data/certificates", self.linked, self.extra)

    def set_up(self, first):
        first.ask("setup", host)

    def __getitem__(self, name):
        return next(n for n in self.nodes if n.name == name)

    def start(self):
        self.database.start()
        first = self.nodes[0]
        self.set_up(first)
        if self.linked and not first.is_member:
            kept = first.folder / "data/cluster"
            if (kept / "ca.key").exists():  # it has left the cluster
                first.ask("cluster", "issue-cert", first.name, "--out", kept)
            else:
                first.ask("cluster", "init-ca", self.name, "--node", first.name)
        known = [n for n in self.nodes if n.is_member] or [first]
        for node in known:  # all at once: they look for each other
            node.spawn()
        for node in known:
            node.wait()
        for node in self.nodes:
            if node not in known:
                self.join(node)
        self.proxy.configure(self.nodes)
        self.proxy.start()
        return self

    def join(self, node):
        """What an operator does: a token from a node of the cluster, one command with it, start."""
        if self.linked:
            first = self.nodes[0]
            token = first.ask("cluster", "token", "--address", first.address)["token"]
            node.ask("join", token, "--node", node.name, "--address", node.address)
        return node.start()

    def add(self):
        """A further node, and HAProxy knows it."""
        node = self.join(self.prepare())
        self.proxy.configure(self.nodes)
        self.proxy.start()
        return node

    def stop(self):
        self.proxy.stop()
        for n in self.nodes:  # first tell all, then wait for each
            if n.process and n.process.poll() is None:
                n.process.send_signal(signal.SIGCONT)
                n.process.send_signal(signal.SIGTERM)
        for n in self.nodes:
            end(n.process)
        self.database.stop()

    def close(self):
        try:
            self.stop()
        finally:
            if self.owns_folder:
                shutil.rmtree(self.folder, ignore_errors=True)


class HostsApart(Cluster):
    """Each node serves a host of its own from its own files, and sends clients of the others there."""
    is_shared = False

    def configure(self, node, first):
        pass  # all hosts must be known

    def set_up(self, first):
        for n in self.nodes:
            n.configure_apart(self.nodes, self.extra)


# --- ./dev cluster

def fixed_ports(number):
    """5222 and 5223 for HAProxy; 5310 to 5315 for n1, 5320 to 5325 for n2, …"""
    return range(5300 + 10 * number, 5306 + 10 * number) if number else (5222, 5223)


def check_ports(count, first):
    for port in (p for number in range(first, count + 1) for p in fixed_ports(number)):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError as why:
                raise RuntimeError(f"port {port}: {why.strerror.lower()}") from None


def short(path):
    """As one would type it here."""
    return min(str(path), os.path.relpath(path), key=len)


def accounts(cluster):
    """alice and bob, with passwords that stay the same while the data is there."""
    kept = cluster.folder / "passwords.json"
    nodes = cluster.nodes if not cluster.is_shared else cluster.nodes[:1]
    at = {f"{name}@{host if cluster.is_shared else n.own_host}": n for name, n in zip(("alice", "bob"), nodes * 2)}
    known = json.loads(kept.read_text()) if kept.exists() else {}
    found = {jid: known.get(jid) or secrets.token_urlsafe(9) for jid in at}
    with open(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
        json.dump({**known, **found}, f)
    for jid, password in found.items():
        done = at[jid].cli("user", "add", jid, "--password-stdin", text=password + "\n")
        if done.returncode not in (0, 5):  # 5: it is there
            raise RuntimeError(done.stderr.strip())
    return found


def describe(cluster, found):
    nodes = cluster.nodes
    middle = nodes[len(nodes) // 2]
    covey = f"{short(harness.build / 'server/covey')} --config {short(nodes[0].config)}"
    logs = f"{short(cluster.folder)}/n*/log, postgresql.log, haproxy.log"
    if not cluster.is_shared:
        return f"""
{len(nodes)} nodes, each of which serves a host of its own. In another terminal:
  hosts:              {"; ".join(f"{n.own_host} on port {n.port} of 127.0.0.1" for n in nodes)}
  accounts:           {"   ".join(f"{jid} {password}" for jid, password in found.items())}
  connect a client:   profanity: /connect alice@{nodes[0].own_host} server 127.0.0.1 port {nodes[0].port} tls trust
                      (at another node's port it is told where to go: see-other-host)
  the cluster:        {covey} cluster status
  logs:               {short(cluster.folder)}/n*/log
Ctrl-C stops them all.
"""
    return f"""
{len(nodes)} nodes serve {host} on one PostgreSQL, behind HAProxy. In another terminal:
  accounts:           {"   ".join(f"{jid} {password}" for jid, password in found.items())}
  connect a client:   JID alice@{host}, server 127.0.0.1 (profanity: /connect alice@{host} server 127.0.0.1 tls trust)
  to one node:        the same with port {", ".join(f"{n.port} ({n.name})" for n in nodes)}; with TLS from the first byte {", ".join(str(n.direct) for n in nodes)}
  see it survive:     kill -9 {middle.process.pid} ({middle.name}{"".join(f"; {n.name} is {n.process.pid}" for n in nodes if n is not middle)}); it comes back after ten seconds
  the cluster:        {covey} cluster status
  logs:               {logs}
Ctrl-C stops them all.
"""


def watch(cluster):
    """Says which node has ended, and starts it again, as a service manager would."""
    started = {n.name: time.monotonic() for n in cluster.nodes}
    back = {}  # when it is started again; never, if it has left the cluster
    while True:
        time.sleep(0.2)
        others = (("PostgreSQL", cluster.database.process, cluster.database.log), ("HAProxy", cluster.proxy.processes[-1], cluster.proxy.log)) if cluster.is_shared else ()
        for other, process, log in others:
            if process.poll() is not None:
                raise RuntimeError(f"{other} has ended: {short(log)}")
        for n in cluster.nodes:
            code = n.process.poll()
            if code is None:
                continue
            if n.name not in back:
                if cluster.linked and not n.is_member:
                    back[n.name] = math.inf
                    print(f"{n.name} has left the cluster; the next ./dev cluster takes it in again", flush=True)
                elif code != -signal.SIGKILL and time.monotonic() - started[n.name] < 5:
                    raise RuntimeError(f"{n.name} ends as soon as it is started: {short(n.log)}\n{tail(n.log)}")
                else:
                    back[n.name] = time.monotonic() + 10
                    print(f"{n.name} {'was killed' if code == -signal.SIGKILL else 'has ended'}; its clients find another node, it comes back in ten seconds", flush=True)
            elif time.monotonic() > back[n.name]:
                del back[n.name]
                started[n.name] = time.monotonic()
                n.start()
                print(f"{n.name} is back: {n.process.pid}", flush=True)


def main():
    parser = argparse.ArgumentParser(prog="./dev cluster", description="Starts a cluster on this machine: nodes, PostgreSQL, HAProxy.")
    parser.add_argument("count", metavar="N", nargs="?", type=int, default=3, help="how many nodes, 1 to 9 (3)")
    parser.add_argument("--data", metavar="DIR", type=pathlib.Path, default=harness.root / ".covey/cluster", help="where everything is kept; it works again with what is there")
    parser.add_argument("--per-host", action="store_true", help="each node serves a host of its own from its own files: no PostgreSQL, no HAProxy")
    options = parser.parse_args()
    if options.per_host and options.data == parser.get_default("data"):
        options.data = options.data.with_name("cluster-per-host")
    if not 1 <= options.count <= 9:
        parser.error("1 to 9 nodes")

    def stop(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, stop)
    folder = options.data.resolve()
    cluster = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / "lock", "w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RuntimeError(f"{short(folder)} is in use by another ./dev cluster") from None
        check_ports(options.count, 1 if options.per_host else 0)
        cluster = (HostsApart if options.per_host else Cluster)(options.count, folder, ports=fixed_ports)
        cluster.start()
        print(describe(cluster, accounts(cluster)), flush=True)
        watch(cluster)
    except KeyboardInterrupt:
        return 0
    except (RuntimeError, TimeoutError, OSError) as why:
        print(why, file=sys.stderr)
        return 1
    finally:
        for s in (signal.SIGINT, signal.SIGTERM):
            signal.signal(s, signal.SIG_IGN)
        if cluster:
            print("stopping", flush=True)
            cluster.stop()


if __name__ == "__main__":
    sys.exit(main())
