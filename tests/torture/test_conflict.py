#!/usr/bin/python3
# Many log in at once with one address on two reactors: exactly one session is left, it works, and nothing of the
# replaced ones stays. 20 rounds of 12 clients, 400 with --long.
import json
import threading
import unittest

import common
import harness
from harness import Raw

rounds = 400 if harness.is_long else 20
at_once = 12


class Conflict(unittest.TestCase):
    def setUp(self):
        self.server = harness.Server("", "[limits]\nstrangers_per_address = 100000", reactors=2)
        self.addCleanup(self.server.close)
        self.server.start()
        self.server.add("alice", "watcher")

    def sessions(self):
        done = self.server.cli("sessions", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return [s for s in json.loads(done.stdout)["sessions"] if s["jid"].startswith("alice@")]

    def one(self, start, outcomes):
        """Logs in when all are ready; then is replaced, or stays."""
        raw = Raw(self.server)
        try:
            raw.header()
            assert "success" in raw.plain("alice")
            raw.header()
            start.wait(30)
            raw.send("<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>same</resource></bind></iq>")
            raw.read_until("<jid>alice@localhost/same</jid></bind></iq>")
            raw.send("<presence/>")
            outcomes.append(raw)
        except BaseException as e:  # of another thread: the test looks at it
            raw.close()
            outcomes.append(e)

    def test_one_is_left(self):
        watcher = Raw(self.server).login("watcher", "w").presence()
        self.addCleanup(watcher.close)
        idle = common.descriptors(self.server)
        for number in range(rounds):
            start, outcomes = threading.Barrier(at_once), []
            threads = [threading.Thread(target=self.one, args=(start, outcomes), daemon=True) for _ in range(at_once)]
            for t in threads:
                t.start()
            for t in threads:
                t.join(60)
            self.assertEqual(len(outcomes), at_once, "somebody hangs")
            bound = [o for o in outcomes if isinstance(o, Raw)]
            for o in outcomes:  # replaced before its answer could be written: its stream has ended with the reason
                if isinstance(o, BaseException):
                    self.assertIn("<conflict ", str(o))
            self.assertEqual(len(self.sessions()), 1)
            mark = f"round{number}"
            watcher.send(f"<message to='alice@localhost/same' type='chat'><body>{mark}</body></message>")
            got = 0
            for raw in bound:  # the replaced ones were told so; the last one has the message
                text = raw.read_until(mark, "</stream:stream>")
                if text.endswith(mark):
                    got += 1
                else:
                    self.assertIn("<conflict ", text)
            self.assertEqual(got, 1, "exactly one gets what is sent to the address")
            for raw in bound:
                raw.close()
            self.assertTrue(common.wait_until(lambda: not self.sessions()), "a session stays")
        self.assertTrue(common.wait_until(lambda: common.descriptors(self.server) <= idle), "descriptors stay")
        watcher.ping()


if __name__ == "__main__":
    harness.main()
