#!/usr/bin/python3
# The rules of the tree that a machine can check: layers, first lines, sizes, words.
import pathlib
import re
import subprocess
import sys

root = pathlib.Path(__file__).resolve().parents[2]
above = {  # what a layer may include
    "base": set(),
    "xmpp": {"base"},
    "net": {"base"},
    "storage": {"base", "xmpp", "proto"},
    "cluster": {"base", "xmpp", "storage", "proto"},
    "modules": {"base", "xmpp", "storage", "cluster", "proto"},
    "actors": {"base", "xmpp", "net", "storage", "cluster", "modules", "proto"},
    "server": {"base", "xmpp", "net", "storage", "cluster", "modules", "actors", "proto"},
}
foreign = {  # header prefix -> where it may be included
    "caf/": ("actors/", "server/runner", "tests/actors/", "tests/support/"),
    "grpcpp/": ("cluster/rpc/", "tests/cluster_rpc/", "server/admin/", "server/cli/"),
    "rocksdb/": ("storage/rocksdb/", "tests/storage/"),
    "libpq-fe.h": ("storage/sql/",),
    "boost/asio": ("net/", "tests/net/", "bench/"),
    "boost/beast": ("net/", "tests/net/"),
    "openssl/": ("base/crypto.cpp", "base/x509.cpp", "net/", "tests/", "bench/"),
    "rapidxml/": ("xmpp/element.cpp", "bench/"),
}
problems = []
checks = 0
files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=root, stdout=subprocess.PIPE, text=True).stdout.split("\n")
code = re.compile(r"\.(cpp|hpp|py|proto|cmake|sh)$|CMakeLists\.txt$|^dev$|^\.ci/run$")
own = "tests/support/style.py"  # names the words that it forbids
for name in filter(None, files):
    path = root / name
    if not path.is_file() or not code.search(name):
        continue
    checks += 1
    text = path.read_text(errors="replace")
    lines = text.split("\n")
    first = lines[1] if lines and lines[0].startswith("#!") else lines[0]
    if not first.startswith(("//", "#")):
        problems.append(f"{name}:1: the first line says what the file is")
    if name.endswith((".cpp", ".hpp")) and len(lines) > 601:
        problems.append(f"{name}: {len(lines) - 1} lines; at most 600")
    if "\t" in text:
        problems.append(f"{name}: has tabs")
    if name != own:
        for number, line in enumerate(lines, 1):
            if re.search(r"\b(TODO|FIXME|XXX)\b", line):
                problems.append(f"{name}:{number}: unfinished work")
            if re.search(r"(^|[^A-Za-z0-9_./])/(work|root|home)/", line):
                problems.append(f"{name}:{number}: a path of one machine")
    layer = name.split("/")[0]
    for number, line in enumerate(lines, 1):
        found = re.match(r'\s*#include [<"]([^>"]+)[>"]', line)
        if not found or not name.endswith((".cpp", ".hpp")):
            continue
        header = found[1]
        other = header.split("/")[0]
        if layer in above and other in above and other != layer and other not in above[layer]:
            problems.append(f"{name}:{number}: {layer} may not include {header}")
        if layer == "actors" and other == "modules" and not header.startswith("modules/api/"):
            problems.append(f"{name}:{number}: of modules only api/")
        for prefix, places in foreign.items():
            if header.startswith(prefix) and not name.startswith(places):
                problems.append(f"{name}:{number}: {header} is for {', '.join(places)}")
print("\n".join(problems))
print(f"{checks - len({p.split(':')[0] for p in problems})} passed, {len(problems)} failed")
sys.exit(1 if problems else 0)
