# Nodes in network namespaces of their own, a cable between each two, and faults of these cables. The test itself goes into a
# namespace first, which is the place of HAProxy and the clients. None of them has a name outside: they are gone with the
# processes that are in them, however these end, and the machine's own network is left alone.
import os
import subprocess
import sys

import nodes

here = "hub"  # the place where the test is
inside = "COVEY_IN_NAMESPACE"  # set in the environment of a test that has moved

# What a place needs, by the first test that would miss it.
needs = {"cables": "ip link add name a type veth peer name b && ip link set lo up",
         "rules": "nft add table inet covey",
         "loss": "nft add table inet covey && nft add chain inet covey input && nft add rule inet covey input numgen random mod 100 '<' 20 drop",
         "speed": "ip link add name a type veth peer name b && tc qdisc add dev a root tbf rate 1mbit burst 10kb latency 50ms",
         "mount": "mount -t tmpfs -o size=1m none /mnt"}


def movers():
    """Words that take a command into a network, and a table of mounts, of its own."""
    return ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-current-user", "--keep-caps"]), "--net", "--mount", "--"]


def why_not(what):
    """Why this machine cannot do it; nothing, if it can."""
    try:
        done = subprocess.run([*movers(), "sh", "-ec", needs[what]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30)
    except OSError as why:
        return str(why)
    return f"{needs[what]}: {done.stdout.strip() or 'failed'}" if done.returncode else None


def enter():
    """This program once more, in places of its own. Returns why not, or nothing when it is there."""
    if inside in os.environ:
        nodes.run(["ip", "link", "set", "lo", "up"])
        return None
    if missing := why_not("cables") or why_not("rules"):
        return missing
    sys.stdout.flush()
    words = movers()
    os.execvpe(words[0], [*words, sys.executable, *sys.argv], {**os.environ, inside: "1"})


class Network:
    """Places by name, each with an address, and the cables between all of them: in each place the cable has the name of the place where
    it ends."""

    def __init__(self):
        self.holders, self.rules, self.slow = {here: None}, {}, set()
        self.address(here)

    def ip(self, name):
        return f"10.213.0.{list(self.holders).index(name) + 1}"

    def words(self, name):
        """They take a command there."""
        holder = self.holders[name]
        return ["nsenter", f"--net=/proc/{holder.pid}/ns/net", "--"] if holder else []

    def do(self, name, program, lines):
        """Commands for `ip`, `tc` or `nft`, all in one."""
        flags = ["-f"] if program == "nft" else ["-batch"]
        done = subprocess.run([*self.words(name), program, *flags, "-"], input="\n".join(lines) + "\n", stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=30)
        if done.returncode:
            raise RuntimeError(f"{program} in {name}: {done.stdout.strip()}")

    def address(self, name):
        self.do(name, "ip", ["link set lo up", f"address add {self.ip(name)}/32 dev lo"])

    def __call__(self, name):
        """A place with this name, made when it is first asked for: its address and the words that lead there."""
        if name not in self.holders:
            others = list(self.holders)
            holder = nodes.launch(["sleep", "infinity"], os.devnull, inside=["unshare", "--net", "--"])
            own = os.readlink("/proc/self/ns/net")
            nodes.wait_for(lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != own, f"{name} is a place")
            self.holders[name] = holder
            self.address(name)
            for other in others:
                self.cable(name, other)
        return self.ip(name), self.words(name)

    def cable(self, one, other):
        at = self.holders[other].pid if self.holders[other] else os.getpid()
        self.do(one, "ip", [f"link add name {other} type veth peer name {one} netns {at}"])
        for a, b in ((one, other), (other, one)):
            self.do(a, "ip", [f"link set {b} up", f"route add {self.ip(b)}/32 dev {b} src {self.ip(a)}"])

    # --- faults

    def cut(self, one, other, both=True, rule="drop"):
        """Nothing comes from `one` to the other any more; nor back."""
        for a, b in ((one, other), (other, one))[:2 if both else 1]:
            self.rules.setdefault(b, {})[a] = rule
            self.carry_out(b)

    def lose(self, one, other, percent):
        self.cut(one, other, rule=f"numgen random mod 100 < {percent} drop")

    def carry_out(self, name):
        """In one step: at no moment is one rule there without another."""
        chain = [f'iifname "{a}" {rule}' for a, rule in self.rules.get(name, {}).items()]
        self.do(name, "nft", ["add table inet covey", "delete table inet covey",
                              "table inet covey {", "chain input {", "type filter hook input priority 0", *chain, "}", "}"])

    def slow_down(self, one, other, rate):
        """At most so much a second, as 256kbit, and up to a second of it waits."""
        for a, b in ((one, other), (other, one)):
            self.do(a, "tc", [f"qdisc replace dev {b} root tbf rate {rate} burst 16kb latency 1s"])
            self.slow.add((a, b))

    def heal(self):
        for name in self.rules:
            self.rules[name] = {}
            self.carry_out(name)
        for a, b in self.slow:
            self.do(a, "tc", [f"qdisc del dev {b} root"])
        self.slow.clear()

    def close(self):
        """What is in a place must have ended before."""
        for name, holder in list(self.holders.items()):
            if holder:
                nodes.end(holder, limit=5)
                del self.holders[name]
        self.do(here, "ip", [f"address del {self.ip(here)}/32 dev lo"])
