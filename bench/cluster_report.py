# Writes bench/CLUSTER.md of what bench/cluster has measured; its last part, the history, is kept.
import datetime
import os
import pathlib
import platform
import re

def cpu_model():
    found = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def show(ratio_of):
    return f"{ratio_of['ratio']:.2f} ×"


def verdict(is_met):
    return "yes" if is_met else "**no**"


def of_talks(results):
    mine, theirs = results.get("crossings", {}).get("talks", {}), results.get("ejabberd", {}).get("talks", {})
    limits = {"one crossing": 2.5, "two crossings": 4}
    lines = ["## Messages between nodes", "",
             "A hundred pairs where nothing else is said, 100 bytes of body, µs of CPU (user and system, of all nodes together) per message. On one node; sender and receiver on two; the",
             "receiver's account on a third, where its other device came first. How often a message crosses was checked by the bytes that each node sends.",
             "Covey's links have mutual TLS, ejabberd's have none. Ratios are medians of rounds in turn.", "",
             "| load | way | target | covey | met | covey, µs | messages a second | p50, µs | p99, µs | ejabberd | ejabberd, µs | p50, µs | p99, µs |", "|---|---|---|---|---|---|---|---|---|---|---|---|---|"]
    for name in [*mine] or [*theirs]:
        for way in ("one node", *limits):
            m, e = mine.get(name, {}).get(way), theirs.get(name, {}).get(way)
            if not m and not e:
                continue
            limit = limits.get(way)
            # at a fixed rate most of the CPU is waking up: of that the design says nothing
            is_bound = limit and m and name != "1,000 a second"
            lines.append(f"| {name} | {way} | {f'{limit} × one node' if is_bound else ''} | {show(m) if m and limit else ''} | "
                         f"{verdict(m['ratio'] <= limit) if is_bound else ''} | " + (f"{m['us']:.2f} | {m['per_second']:,.0f} | {m['p50']:.0f} | {m['p99']:.0f}" if m else " | | | ")
                         + " | " + (f"{e['ratio']:.2f} × | {e['us']:.2f} | {e['p50']:.0f} | {e['p99']:.0f}" if e else " | | | ") + " |")
    if mine:
        sent = mine["window 10"]
        lines += ["", "Bytes that each node sent to others for a message, window 10: "
                  + "; ".join(f"{way}: " + ", ".join(f"{n} {b}" for n, b in sent[way]["bytes"].items()) for way in ("one node", *limits)) + ".",
                  f"Three nodes without a client use {results['crossings']['idle']:.1%} of a core."]
    return lines


def of_rows(results):
    lines = ["## The table of sessions", "",
             "All nodes in one process, on both cores, with all that a node has below its reactors: mutual TLS on loopback, and the rows' RocksDB.", "",
             "| what | target | covey | met |", "|---|---|---|---|"]
    if r := results.get("rows"):
        rate = r["rate"]
        lines += [f"| new sessions a second, to two peers that show them | | {rate['new_per_second']:,.0f} ({rate['new_cpu_us']:.1f} µs of CPU each, all three nodes) | |",
                  f"| changes a second (priority) | | {rate['changes_per_second']:,.0f} ({rate['change_cpu_us']:.1f} µs) | |"]
        for asked, x in r["lag"].items():
            lines.append(f"| lag of {int(asked):,} changes a second, until both peers' look-ups show them | | p50 {x['p50_us'] / 1e3:.1f} ms, p99 {x['p99_us'] / 1e3:.1f} ms, "
                         f"most {x['max_us'] / 1e3:.0f} ms ({x['per_second']:,.0f} were done; {x['cpu']:.0%} of a core) | |")
    if r := results.get("join"):
        lines.append(f"| a new node holds {r['rows']:,.0f} rows of two others | 30 s (issue: to add a node) | {r['seconds']:.2f} s ({r['cpu_us_per_row']:.1f} µs of CPU a row, all three nodes; "
                     f"differences found later: {r['divergences']:.0f}) | {verdict(r['seconds'] < 30 and not r['divergences'])} |")
    if r := results.get("memory"):
        lines.append(f"| memory of a remote row, {r['rows']:,} rows, {r['name_length']} characters | 250 B | {r['heap_per_row']:.0f} B of heap, {r['rss_per_row']:.0f} B of RSS "
                     f"(a look-up: {r['look_up_ns']:.0f} ns) | {verdict(r['heap_per_row'] <= 250)} |")
    return lines


def of_faults(results):
    lines = ["## Faults", "", "Three nodes with PostgreSQL; the worst of all turns.", "", "| what | target | covey | met |", "|---|---|---|---|"]
    if r := results.get("kill"):
        about = f"{r['sessions']:,} sessions on the node, {r['times']} turns"
        lines += [f"| kill -9 to its rows purged at the others ({about}) | 5 s | {r['purged']:.2f} s | {verdict(r['purged'] < 5)} |",
                  f"| kill -9 to unavailable presence at 20 contacts on the others, once each | 5 s | {r['told']:.2f} s | {verdict(r['told'] < 5)} |"]
    if r := results.get("heal"):
        about = f"{r['how']} for 15 s; {r['sessions']:,} sessions, {r['times']} turns"
        lines += [f"| healed to all sessions known to all nodes ({about}) | 5 s | {r['known']:.2f} s | {verdict(r['known'] < 5)} |",
                  f"| healed to messages both ways, not by the offline store | 5 s | {r['heard']:.2f} s | {verdict(r['heard'] < 5)} |"]
    return lines


def of_store(results):
    r = results["store"]
    lines = ["## Durable messages", "",
             "100 senders, 10 open each, to 200 users who are not there; a message counts when it is acknowledged, and all were fetched in the end. The node and its",
             "database share core 0. µs of CPU a message.", "", "| engine | messages a second | covey, µs | database, µs |", "|---|---|---|---|"]
    for engine, x in r.items():
        lines.append(f"| {engine} | {x['per_second']:,.0f} | {x['us_per_unit']:.1f} | {x['other_us_per_unit']:.1f} |")
    if len(r) == 2:
        lines.append(f"\nPostgreSQL takes {r['postgresql']['per_second'] / r['rocksdb']['per_second']:.2f} of what RocksDB does.")
    return lines


def of_growth(results):
    lines = ["## Growth", "",
             "Connections, streams, sessions and accounts of one process and one reactor over a transport in memory: all of covey but its sockets (of which the kernel's and",
             "Asio's memory is not in here), without TLS, passwords and contacts. Messages of 100 bytes, 1,000 on their way: among 100 pairs, and among all in turn. The clients'",
             "part of the CPU is in it.", "", "| sessions | bytes of heap for each | of RSS | µs to log in | µs a message, 100 pairs | µs a message, all pairs |", "|---|---|---|---|---|---|"]
    for r in results["growth"]:
        lines.append(f"| {r['sessions']:,} | {r['bytes']:,.0f} | {r['rss']:,.0f} | {r['login_us']:.0f} | {r['hot_us']:.2f} | {r['cold_us']:.2f} |")
    return lines


def write(path, figures, results, failed, note):
    """`figures`: all that there are; `results`: of each part what was found, and when."""
    parts, results = results, {name: part["found"] for name, part in results.items()}
    date = datetime.date.today().isoformat()
    own = [way["own"] for f in ("crossings", "ejabberd") for t in results.get(f, {}).get("talks", {}).values() for way in t.values()]
    missing = [f for f in figures if f not in results]
    busiest = max((part["foreign"] for part in parts.values()), default=0)
    lines = ["# A cluster: results", "",
             f"{cpu_model()}, {os.cpu_count()} cores, Linux {platform.release()}; `./dev bench cluster`. Faults, rates, joins and stores have three rounds at most.",
             "Nodes, databases and HAProxy are on core 0, the generator on core 1: three nodes share one core, so what they do at the same time adds up. " + note,
             *([f"The generator's own core was busy, at most: {max(own):.0%}."] if own else []), "",
             "| part | date | rounds | others kept so much of the machine busy just before |", "|---|---|---|---|"]
    for name, part in parts.items():
        lines.append(f"| {name} | {part['date']} | {part['rounds']}{', quick' if part['quick'] else ''} | {part['foreign']:.0%} |")
    if busiest > 0.1:
        lines += ["", "**The machine was not quiet. These figures show what was seen; repeat the run on a quiet machine.**"]
    if missing:
        lines += ["", "Not measured yet: " + ", ".join(missing) + "."]
    if failed:
        lines += ["", "**Failed:** " + "; ".join(failed).replace("\n", " ") + "."]
    for part, of in ((("crossings", "ejabberd"), of_talks), (("rows", "join", "memory"), of_rows), (("kill", "heal"), of_faults), (("store",), of_store), (("growth",), of_growth)):
        if any(f in results for f in part):
            lines += ["", *of(results)]
    history = [line for line in (path.read_text().split("## History\n", 1)[-1].split("\n") if path.exists() else []) if line.startswith("| 2")]

    def at(*keys, digits=2):
        x = results
        for k in keys:
            x = x.get(k, {}) if isinstance(x, dict) else {}
        return "" if x == {} else f"{x:.{digits}f}"
    columns = {"date": date, "others busy": f"{busiest:.0%}", "1 crossing ×": at("crossings", "talks", "window 10", "one crossing", "ratio"),
               "2 crossings ×": at("crossings", "talks", "window 10", "two crossings", "ratio"), "changes/s": at("rows", "rate", "changes_per_second", digits=0),
               "lag p99 ms": "" if "rows" not in results else f"{results['rows']['lag']['1000']['p99_us'] / 1e3:.1f}", "join s": at("join", "seconds"),
               "row B": at("memory", "heap_per_row", digits=0), "purged s": at("kill", "purged"), "told s": at("kill", "told"), "healed s": at("heal", "heard"),
               "PostgreSQL/s": at("store", "postgresql", "per_second", digits=0), "RocksDB/s": at("store", "rocksdb", "per_second", digits=0)}
    row = "| " + " | ".join(columns.values()) + " |"
    if history[-1:] != [row]:  # where other parts were measured anew
        history.append(row)
    path.write_text("\n".join([*lines, "", "## History", "", "| " + " | ".join(columns) + " |", "|---" * len(columns) + "|", *history]) + "\n")
