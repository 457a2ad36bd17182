# What torture tests share: the harness of the integration tests, and a look at a process from outside.
import os
import pathlib
import re
import sys
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
import harness  # noqa: E402


def metric(server, name):
    """The sum of a metric over its labels, from /metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.http}/metrics", timeout=10) as page:
        text = page.read().decode()
    return sum(float(v) for v in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.M))


def memory_kb(server):
    """Memory of the process that is no file's."""
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+)", status)[1])


def descriptors(server, kind=""):
    """How many are open, or those of one kind ("socket")."""
    found = 0
    for entry in pathlib.Path(f"/proc/{server.process.pid}/fd").iterdir():
        try:
            found += os.readlink(entry).startswith(kind)
        except FileNotFoundError:  # closed meanwhile
            pass
    return found


def wait_until(is_so, limit=30, step=0.05):
    """True as soon as it is so; False if it never was."""
    end = time.monotonic() + limit
    while not (found := is_so()) and time.monotonic() < end:
        time.sleep(step)
    return bool(found)
