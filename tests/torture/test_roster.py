#!/usr/bin/python3
# Two sessions of one account change its roster at the same time on two reactors: every change is there, and
# both see all of them in one order. 500 changes, 10,000 with --long.
import json
import re
import threading
import unittest

import common  # noqa: F401 (the path of the harness)
import harness
from harness import Raw

count = 10_000 if harness.is_long else 500
window = 32  # changes under way of each session
contacts = 40


class Roster(unittest.TestCase):
    def setUp(self):
        self.server = harness.Server(reactors=2)
        self.addCleanup(self.server.close)
        self.server.start()
        self.server.add("alice")

    def session(self, resource):
        raw = Raw(self.server).login("alice", resource)
        self.addCleanup(raw.close)
        raw.send("<iq type='get' id='all'><query xmlns='jabber:iq:roster'/></iq>")
        raw.read_until("id='all' type='result'><query xmlns='jabber:iq:roster'/></iq>", "</query></iq>")
        return raw

    def change(self, raw, mark, seen, versions, failures):
        """Sends half of the changes, and reads answers and pushes, until everything has come."""
        try:
            sent = answered = 0
            while answered < count // 2 or len(seen) < count:
                while sent < count // 2 and sent - answered < window:
                    raw.send(f"<iq type='set' id='{mark}{sent}'><query xmlns='jabber:iq:roster'>"
                             f"<item jid='c{sent % contacts}@localhost' name='{mark}{sent}'/></query></iq>")
                    sent += 1
                text = raw.read_until("</iq>", f"type='result'/>")
                if push := re.search(r"<query [^>]*ver='([^']*)'[^>]*><item [^>]*name='([^']*)'", text):
                    versions.append(push[1])
                    seen.append(push[2])
                elif re.search(rf"<iq [^>]*id='{mark}{answered}'[^>]*type='result'/>", text):
                    answered += 1
                else:
                    raise AssertionError(f"after {answered} answers: {text}")
        except BaseException as e:
            failures.append(e)

    def test_every_change_in_one_order(self):
        raws = [self.session("a"), self.session("b")]
        where = {s["reactor"] for s in json.loads(self.server.cli("sessions", "--json").stdout)["sessions"]}
        self.assertEqual(len(where), 2, "the two sessions are on two reactors")
        seen, versions, failures = ([], []), ([], []), []
        threads = [threading.Thread(target=self.change, args=(raws[i], "ab"[i], seen[i], versions[i], failures), daemon=True) for i in range(2)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(1200)
        if failures:
            raise failures[0]
        self.assertEqual(seen[0], seen[1], "one order for both")
        self.assertEqual(versions[0], versions[1])
        self.assertEqual(len(set(versions[0])), count, "each change is a version of its own")
        for mark in "ab":
            mine = [int(name[1:]) for name in seen[0] if name[0] == mark]
            self.assertEqual(mine, list(range(count // 2)), "every change of a session, in its order")
        last = {int(name[1:]) % contacts: name for name in seen[0]}
        for restart in (False, True):
            if restart:
                self.assertEqual(self.server.stop(), 0)
                self.server.start()
            raw = Raw(self.server).login("alice", "end")
            raw.send("<iq type='get' id='end'><query xmlns='jabber:iq:roster'/></iq>")
            answer = raw.read_until("</query></iq>")
            raw.close()
            there = {int(re.search(r"jid='c(\d+)@", i)[1]): re.search(r" name='([^']*)'", i)[1] for i in re.findall(r"<item [^>]*>", answer)}
            self.assertEqual(there, last)
        print(f"{count} changes", flush=True)


if __name__ == "__main__":
    harness.main()
