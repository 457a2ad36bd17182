#!/usr/bin/python3
# Style, unit tests under AddressSanitizer and UBSan, the threaded ones under ThreadSanitizer, fuzzing.
# Ends with "N passed, N failed". NAME...: only what contains it (style, asan, tsan, fuzz).
import os
import pathlib
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

root = pathlib.Path(__file__).resolve().parents[2]
names = sys.argv[1:]
jobs = os.environ.get("JOBS", str(os.cpu_count()))
fuzz_seconds = int(os.environ.get("COVEY_FUZZ_SECONDS", "300"))  # for all targets together
environment = dict(os.environ, CCACHE_SLOPPINESS="pch_defines,time_macros", ASAN_OPTIONS="detect_leaks=1",
                   UBSAN_OPTIONS="print_stacktrace=1", TSAN_OPTIONS=f"halt_on_error=0 exitcode=66 suppressions={root}/tests/support/tsan.supp")
passed = failed = 0
counting = threading.Lock()


def wanted(name):
    return not names or any(n in name for n in names)


def run(name, command, limit=1800):
    global passed, failed
    began = time.monotonic()
    try:
        done = subprocess.run(command, cwd=root, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=limit, text=True, errors="replace")
        output, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired as late:
        output, code = (late.stdout or b"").decode(errors="replace") + f"\nno end within {limit} s", 1
    counts = re.search(r"test cases:\s*\d+\s*\|\s*(\d+) passed\s*\|\s*(\d+) failed", output) or re.search(r"^(\d+) passed, (\d+) failed$", output, re.M)
    good, bad = (int(counts[1]), int(counts[2])) if counts else (int(code == 0), int(code != 0))
    if code != 0 and bad == 0:
        bad = 1
    with counting:
        passed += good
        failed += bad
    print(f"{'ok  ' if code == 0 else 'FAIL'} {name}: {good} passed, {bad} failed, {time.monotonic() - began:.0f} s", flush=True)
    if code != 0:
        print(output[-8000:], flush=True)
    return code == 0


def build(folder, targets, *options):
    """True if it was built; a failure counts."""
    launcher = ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"]
    for command in (["cmake", "-G", "Ninja", "-S", ".", "-B", folder, *launcher, *options], ["ninja", "-C", folder, "-j", jobs, *targets]):
        done = subprocess.run(command, cwd=root, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            global failed
            failed += 1
            print(f"FAIL building {folder}\n{done.stdout[-6000:]}", flush=True)
            return False
    return True


def programs(folder, layers):
    return [root / folder / "tests" / f"test_{layer}" for layer in layers if (root / folder / "tests" / f"test_{layer}").exists()]


if wanted("style"):
    run("style", ["/usr/bin/python3", "tests/support/style.py"])
memory_checked = ["base", "xmpp", "net", "storage", "cluster", "cluster_rpc", "modules", "actors", "config"]  # test_server starts whole programs: plain only
if wanted("asan") and build("build-asan", [f"test_{layer}" for layer in memory_checked], "-DCOVEY_SANITIZE=asan", "-DCOVEY_BENCH=OFF"):
    for program in programs("build-asan", memory_checked):
        run("asan/" + program.name, [str(program)])
if wanted("tsan"):
    caf = root / "build-caf-tsan"
    if (caf / "lib/libcaf_core.so").exists() or run("tsan/libcaf_core", ["tests/support/build_caf_tsan.sh", str(caf)]):
        if build("build-tsan", ["test_base", "test_net", "test_storage", "test_cluster", "test_actors"], "-DCOVEY_SANITIZE=tsan", f"-DCOVEY_CAF_TSAN={caf}", "-DCOVEY_BENCH=OFF"):
            for program in programs("build-tsan", ["base", "net", "storage", "cluster", "actors"]):
                run("tsan/" + program.name, [str(program)])
if wanted("fuzz") and build("build-fuzz", [], "-DCOVEY_SANITIZE=fuzz", "-DCMAKE_CXX_COMPILER=clang++-14"):
    targets = sorted(p for p in (root / "build-fuzz/tests/fuzz").glob("fuzz_*") if p.is_file() and os.access(p, os.X_OK))

    def fuzz(target):
        corpus = root / "tests/fuzz/corpus" / target.name.removeprefix("fuzz_")
        found = root / "build-fuzz" / (target.name + "-found")
        found.mkdir(exist_ok=True)
        run("fuzz/" + target.name, [str(target), f"-max_total_time={fuzz_seconds // len(targets)}", "-timeout=10", "-max_len=4096",
                                    "-print_final_stats=0", f"-artifact_prefix={found}-", str(found), str(corpus)], fuzz_seconds + 120)

    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as workers:  # a core each
        list(workers.map(fuzz, targets))
print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
