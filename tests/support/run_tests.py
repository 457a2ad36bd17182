#!/usr/bin/python3
# Runs every test of a finished build: unit programs, then integration and torture scripts. Ends with
# "N passed, N failed". --long: the counts that the long runs name, and half an hour of fuzzing for each target. NAME...:
# only what contains it.
import argparse
import os
import pathlib
import re
import subprocess
import sys
import time

root = pathlib.Path(__file__).resolve().parents[2]
parser = argparse.ArgumentParser()
parser.add_argument("--long", action="store_true")
parser.add_argument("names", nargs="*")
options = parser.parse_args()
environment = dict(os.environ, COVEY_BUILD=str(root / "build"), COVEY_TEST_LONG="1" if options.long else "")
passed = failed = 0


def wanted(name):
    return not options.names or any(n in name for n in options.names)


def run(name, command, limit):
    """One program; its own counts where it prints them."""
    global passed, failed
    if not wanted(name):
        return
    began = time.monotonic()
    try:
        done = subprocess.run(command, cwd=root, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=limit, text=True, errors="replace")
        output, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired as late:
        output, code = (late.stdout or b"").decode(errors="replace") + f"\nno end within {limit} s", 1
    doctest = re.search(r"test cases:\s*\d+\s*\|\s*(\d+) passed\s*\|\s*(\d+) failed", output)
    script = re.search(r"^(\d+) passed, (\d+) failed$", output, re.M)
    counts = doctest or script
    good, bad = (int(counts[1]), int(counts[2])) if counts else (1 if code == 0 else 0, 0 if code == 0 else 1)
    if code != 0 and bad == 0:
        bad = 1
    passed += good
    failed += bad
    print(f"{'ok  ' if code == 0 else 'FAIL'} {name}: {good} passed, {bad} failed, {time.monotonic() - began:.1f} s", flush=True)
    if code != 0:
        print(output[-8000:], flush=True)


for program in sorted((root / "build" / "tests").glob("test_*")):
    if program.is_file() and os.access(program, os.X_OK):
        run("unit/" + program.name, [str(program)], 7200 if options.long else 300)  # test_sim: 10,000 seeds
for folder, limit in (("integration", 300), ("torture", 300), ("cluster_nodes", 600)):
    for script in sorted((root / "tests" / folder).glob("test_*.py")):
        run(f"{folder}/{script.stem}", ["/usr/bin/python3", str(script)], 7200 if options.long else limit)
if options.long and wanted("fuzz"):
    targets = len(list((root / "tests/fuzz").glob("*_fuzz.cpp")))
    environment["COVEY_FUZZ_SECONDS"] = str(1_800 * targets)  # half an hour each
    run("fuzz", ["/usr/bin/python3", str(root / "tests/support/run_checks.py"), "fuzz"], 1_800 * targets + 1_800)
if passed + failed == 0:
    print("no test has this name")
    failed = 1
print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
