#!/usr/bin/python3
# kill -9 under load, again and again: after each start everything that was acknowledged is there, nothing is
# repaired by hand. 3 rounds, 100 with --long; COVEY_SEED repeats a run.
#
# Acknowledged is: an account whose registration was answered, a roster change and a password change that were
# answered, a request for a subscription whose roster push came, and a message for somebody offline that the
# server counted as committed (without stream management no answer speaks of messages). What was under way when
# the server died may be there or not, but not half: stored messages are a gapless beginning of those sent.
import os
import random
import re
import threading
import time
import unittest

import common
import harness
from harness import Raw, password

seed = int(os.environ.get("COVEY_SEED", time.time_ns() % 1_000_000))
rounds = 100 if harness.is_long else 3
gone = (OSError, EOFError)


class Worker(threading.Thread):
    """Does its work until the server is gone. A failed check is kept for the test."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self.work, self.failure = work, None
        self.start()

    def run(self):
        try:
            self.work()
        except gone:
            pass
        except BaseException as e:
            self.failure = e


class Kill(unittest.TestCase):
    def setUp(self):
        print(f"COVEY_SEED={seed}", flush=True)
        self.server = harness.Server("", "[modules.offline]\nquota = 100000\n[limits]\nroster = 1000000", reactors=2)
        self.addCleanup(self.server.close)
        self.server.start()
        self.server.add("roster", "secret", "asker", "sender", "carol")
        self.accounts = {}      # name: answered (True) or under way
        self.contacts = {}      # contact: the names that it may have; None: absent
        self.secrets = [password]  # any of these may be the password
        self.asked = {}         # contact: answered or under way

    # --- the load

    def register(self, number):
        raw = Raw(self.server)
        raw.header()
        for n in range(100_000):
            name = f"u{number}-{n}"
            self.accounts[name] = False
            if "type='result'" not in raw.register(name):
                raise AssertionError(f"{name} was not registered")
            self.accounts[name] = True

    def change_roster(self, number, resource):
        raw = Raw(self.server).login("roster", resource)
        for n in range(100_000):
            contact, name = f"{resource}{n % 50}@localhost", f"{number}.{n}"
            before = self.contacts.get(contact, [None])
            new = None if n % 7 == 6 and before != [None] else name
            self.contacts[contact] = [*before, new]
            inside = f"name='{name}'" if new else "subscription='remove'"
            raw.send(f"<iq type='set' id='r{n}'><query xmlns='jabber:iq:roster'><item jid='{contact}' {inside}/></query></iq>")
            answer = raw.read_until(f"id='r{n}' type='result'/>", f"id='r{n}' type='error'")
            if answer.endswith("'error'"):
                raise AssertionError(raw.read_until("</iq>"))
            self.contacts[contact] = [new]

    def change_password(self, number):
        raw = Raw(self.server).login("secret", "p", self.secrets[0])
        for n in range(100_000):
            new = f"secret {number} {n}"
            self.secrets = [self.secrets[0], new]
            raw.send(f"<iq type='set' id='p{n}' to='localhost'><query xmlns='jabber:iq:register'><username>secret</username><password>{new}</password></query></iq>")
            raw.read_until(f"id='p{n}' type='result'/>")
            self.secrets = [new]

    def ask(self, number):
        raw = Raw(self.server).login("asker", "a")
        raw.send("<iq type='get' id='all'><query xmlns='jabber:iq:roster'/></iq>")
        raw.read_until("</query></iq>", "id='all' type='result'><query xmlns='jabber:iq:roster'/></iq>")
        for name in [n for n, known in self.accounts.items() if known]:
            if name in self.asked:
                continue
            self.asked[name] = False
            raw.send(f"<presence type='subscribe' to='{name}@localhost'/>")
            push = raw.read_until("</query></iq>")
            if f"{name}@localhost" not in push or "ask='subscribe'" not in push:
                raise AssertionError(push)
            self.asked[name] = True

    # --- what must be there

    def check_accounts(self):
        known = [n for n, answered in self.accounts.items() if answered]
        for name in random.sample(known, min(20, len(known))) + known[-3:]:
            raw = Raw(self.server)
            raw.header()
            self.assertIn("success", raw.plain(name), f"account {name} was acknowledged and is gone")
            raw.close()

    def items(self, name):
        raw = Raw(self.server).login(name, "check")
        raw.send("<iq type='get' id='check'><query xmlns='jabber:iq:roster'/></iq>")
        answer = raw.read_until("</query></iq>", "id='check' type='result'><query xmlns='jabber:iq:roster'/></iq>")
        raw.close()
        return {re.search(r"jid='([^']*)'", i)[1]: i for i in re.findall(r"<item [^>]*>", answer)}

    def check_roster(self):
        there = self.items("roster")
        for contact, allowed in self.contacts.items():
            item = there.pop(contact, None)
            name = re.search(r" name='([^']*)'", item)[1] if item else None
            self.assertIn(name, allowed, f"roster item {contact}")
            self.contacts[contact] = [name]
        self.assertEqual(there, {})

    def check_asked(self):
        there = self.items("asker")
        for name, answered in list(self.asked.items()):
            item = there.get(f"{name}@localhost")
            if answered:
                self.assertIn("ask='subscribe'", item or "", f"request to {name} was acknowledged and is gone")
            elif not item:
                del self.asked[name]

    def check_password(self):
        works = []
        for secret in self.secrets:
            raw = Raw(self.server)
            raw.header()
            if "success" in raw.plain("secret", secret):
                works.append(secret)
            raw.close()
        self.assertEqual(len(works), 1, "exactly one password is the account's")
        self.secrets = works

    def check_messages(self, box, least, sent):
        raw = Raw(self.server).login(box, "check")
        raw.send(f"<presence/><message to='{box}@localhost/check' type='chat'><body>that was all</body></message>")
        got = [int(n) for n in re.findall(r"<body>m(\d+)</body>", raw.read_until("<body>that was all</body>"))]
        raw.close()
        self.assertEqual(got, list(range(len(got))), "stored messages are a gapless beginning")
        self.assertGreaterEqual(len(got), least, f"{least} messages were committed")
        self.assertLessEqual(len(got), sent)

    def test_acknowledged_is_there_after_kill_9(self):
        dice = random.Random(seed)
        for number in range(rounds):
            box, sent, counted = f"box{number}", [0], 0
            self.server.add(box)

            def send():
                raw = Raw(self.server).login("sender", "s")
                for n in range(20_000):
                    sent[0] = n + 1
                    raw.send(f"<message to='{box}@localhost' type='chat'><body>m{n}</body></message>")
                    if n % 50 == 49:
                        raw.ping()
                        time.sleep(0.005)

            before = common.metric(self.server, "covey_storage_batches_total")
            if number % 3 == 0:  # messages alone: then the server's count of batches tells how many are durable
                workers = [Worker(send)]
                end = time.monotonic() + dice.uniform(0.2, 1)
                while time.monotonic() < end:
                    counted = int(common.metric(self.server, "covey_storage_batches_total") - before)
            else:
                workers = [Worker(send), Worker(lambda: self.register(number)), Worker(lambda: self.change_roster(number, "x")),
                           Worker(lambda: self.change_roster(number, "y")), Worker(lambda: self.change_password(number)), Worker(lambda: self.ask(number))]
                time.sleep(dice.uniform(0.2, 1.5))
            self.server.process.kill()
            self.server.process.wait()
            for w in workers:
                w.join(30)
                self.assertFalse(w.is_alive())
                if w.failure:
                    raise w.failure
            self.assertGreater(sent[0], 0)
            self.server.start()
            self.check_messages(box, counted, sent[0])
            self.check_accounts()
            self.check_roster()
            self.check_password()
            self.check_asked()
        known = sum(self.accounts.values())
        print(f"{rounds} rounds, {known} accounts, {len(self.contacts)} contacts, {sum(self.asked.values())} requests", flush=True)
        self.assertGreater(known, 0)
        self.assertGreater(len(self.contacts), 0)
        self.assertEqual(self.server.stop(), 0)


if __name__ == "__main__":
    harness.main()
