#!/usr/bin/python3
# The tests of one node (tests/integration), run by three: each client that a test starts is on the next node, so what two
# of them do to each other crosses nodes. One PostgreSQL and three nodes for all; each class has a database and settings of
# its own. Without --long: one test for each feature.
import importlib
import re
import shutil
import signal
import subprocess
import unittest
import urllib.request

import nodes
from nodes import harness

# What is about one node by its nature, and why: a module, a class, or a test.
left_out = {
    "test_operator": "settings, hosts, backups, the log and the metrics of one node; the archive is RocksDB's",
    "test_transport": "connections, rates, limits by address, TLS sessions and certificates of one process",
    "test_node.Operator.test_only_the_named_ports_are_open_on_loopback": "the ports of one process",
    "test_node.Operator.test_probes_and_metrics": "those of one process",
    "test_node.Operator.test_no_secret_in_the_log_nor_on_a_command_line": "of one process",
    "test_node.Operator.test_kick_and_sessions": "a node lists and ends the sessions that it has",
    "test_node.Headers": "stream headers never leave their connection",
    "test_node.Starting": "the start of one process",
    "test_rules.Streams": "stream errors never leave their connection",
    "test_rules.Shutdown": "the stop of one process; test_cluster has that of a node among others",
    "test_accounts.Lines": "the log and the limits of one process",
    "test_login.TlsRequired": "TLS of one connection; starts a server of its own",
    "test_sasl2.Upgrade": "one server before and after an upgrade",
    "test_sasl2.Certificates.test_with_a_ticket_a_certificate_is_worth_what_this_host_s_authorities_say": "TLS tickets are good at the node that gave them",
}

# What else --long has: every way of logging in, other clients for the same, waiting for time to pass, two reactors, and everything
# again with the first client at each of the nodes.
long_only = (
    "test_account_data.Slixmpp", "test_accounts.Networks", "test_accounts.RemovalOnTwo", "test_clients.Slixmpp", "test_clients.Node.test_a_wrong_password",
    "test_clients.Node.test_chat_by_direct_tls", "test_delivery.OnTwoReactors", "test_first_chat.OnTwoReactors", "test_framing.Framing", "test_login.Mechanisms",
    "test_management.ManagementOnTwoReactors", "test_management.Management.test_a_client_that_does_not_answer_has_lost_its_connection",
    "test_management.Management.test_a_goodbye_with_open_messages_stores_them", "test_node.RenamedResource", "test_privacy.Clients", "test_rules.TwoReactors",
    "test_sasl2.Certificates", "test_sasl2.Login", "test_sasl2.Rotation")


class Logs:
    """What all nodes have said."""

    def __init__(self, members):
        self.members = members

    def read_text(self, errors="replace"):
        return "".join(n.log.read_text(errors=errors) for n in self.members)


class Server:
    """What harness.Server is for one node. The commands of an operator are given to the first one."""
    cluster, count, lag = None, 0, 0.06
    settings = ['admins = ["admin@localhost"]', "tls.require = false", "sasl.plain_without_tls = true", "sasl.iterations = 4096",
                "modules.register.enabled = true", "modules.register.per_hour = 0", "modules.register.shortest_password = 1"]

    def __init__(self, extra="", tables="", reactors=1, inside=None):
        assert not inside, "lines in the tables listen and tls"
        self.members, self.log, self.turn = self.cluster.nodes, Logs(self.cluster.nodes), 0
        first, database = self.members[0], f"class{Server.count}"
        Server.count += 1
        self.cluster.database.as_user("createdb", "-h", self.cluster.database.folder, "-U", "covey", database)
        connection = self.cluster.database.connection.replace("dbname=covey", f"dbname={database}")
        for n in self.members:
            n.log.unlink(missing_ok=True)
            n.configure(connection, n.folder / "data/certificates", True, [f"reactors = {reactors}", extra, *self.settings, tables])
        self.add, self.authority = first.add, first.authority

    def next(self):
        """The node of the next client."""
        self.turn += 1
        return self.members[(self.turn - 1) % len(self.members)]

    port = property(lambda self: self.next().port)
    direct = property(lambda self: self.next().direct)

    def cli(self, *words, **more):
        """At the first node; what each counts for itself is asked of all."""
        done = [n.cli(*words, **more) for n in (self.members if words[0] == "stats" else self.members[:1])]
        return subprocess.CompletedProcess(done[0].args, max(d.returncode for d in done), "".join(d.stdout for d in done), "".join(d.stderr for d in done))

    def start(self):
        first, *others = self.members
        first.start()  # it makes the tables
        for n in others:
            n.spawn()
        for n in others:
            n.wait()
        for n in self.members:
            nodes.wait_for(lambda: self.metric(n, "nodes") == len(self.members) - 1, f"{n.name} sees the others")
            nodes.wait_for(lambda: self.metric(n, "services_without_owner") == 0, f"{n.name} knows who has the announce address")
        return self

    @staticmethod
    def metric(node, name):
        with urllib.request.urlopen(f"http://127.0.0.1:{node.http}/metrics", timeout=10) as page:
            return int(re.search(rf"^covey_cluster_{name} (\d+)$", page.read().decode(), re.M)[1])

    def stop(self):
        for n in self.members:
            if n.process and n.process.poll() is None:
                n.process.send_signal(signal.SIGTERM)
        for n in self.members:
            nodes.end(n.process, limit=40)
        bad = [f"{n.name} ended with {n.process.returncode}: {nodes.tail(n.log)}" for n in self.members if n.process and n.process.returncode]
        if bad:
            raise RuntimeError("\n".join(bad))

    close = stop


class AcrossNodes:
    """Before a class of tests."""
    server_class, first = Server, 0  # the node of its first client

    def run(self, result=None):
        self.server.turn = self.first  # the same nodes each time, whatever ran before
        before = [len(kind) for kind in (result.failures, result.errors)]
        super().run(result)
        if fresh := result.failures[before[0]:] + result.errors[before[1]:]:
            print(*(why for _, why in fresh), sep="\n")
            for n in self.server.members:
                print(f"--- {n.name}\n{nodes.tail(n.log)}", flush=True)


def setUpModule():
    cluster = Server.cluster = nodes.Cluster(3)
    unittest.addModuleCleanup(cluster.close)
    cluster.start()
    cluster.proxy.stop()
    certificates, *copies = (n.folder / "data/certificates" for n in cluster.nodes)
    for n in cluster.nodes:
        nodes.end(n.process)
    for copy in copies:  # one authority, so each makes what its clients trust
        shutil.copytree(certificates, copy, dirs_exist_ok=True)


def classes():
    """Those of tests/integration that are not left out, by name, with None for each of their tests that is."""
    out = [*left_out, *(() if harness.is_long else long_only)]
    unused = {*left_out, *long_only}
    for file in sorted((harness.root / "tests/integration").glob("test_*.py")):
        unused.discard(file.stem)
        if file.stem in out:
            continue
        for c in vars(importlib.import_module(file.stem)).values():
            if not isinstance(c, type) or not issubclass(c, unittest.TestCase) or c.__module__ != file.stem:
                continue
            name = f"{file.stem}.{c.__name__}"
            unused -= {name, *(f"{name}.{test}" for test in dir(c))}
            if name in out:
                continue
            assert issubclass(c, harness.Case), f"{name} starts servers of its own: give it a harness.Case, or leave it out"
            yield name.removeprefix("test_").replace(".", "_"), c, {key.removeprefix(name + "."): None for key in out if key.startswith(name + ".")}
    assert not unused, f"no such tests: {unused}"


for name, c, without in classes():
    for first in (0, 1, 2) if harness.is_long else (1,):
        full = f"{name}_from_n{first + 1}" if harness.is_long else name
        globals()[full] = type(full, (AcrossNodes, c), {**without, "first": first})


if __name__ == "__main__":
    harness.main()
