#!/usr/bin/python3
# The modern login on the wire: SASL2, Bind 2, tokens, upgrades, pipelining, client certificates, strangers. No client
# in Debian speaks it, so the dialogues are by hand.
import base64
import hashlib
import hmac
import os
import pathlib
import re
import socket
import subprocess
import tempfile
import time
import unittest

import harness
from harness import Raw, password, trusting
from test_login import OpenSsl

sasl2 = "urn:xmpp:sasl:2"
sasl1 = "urn:ietf:params:xml:ns:xmpp-sasl"
phone = "d4565fa7-4d72-4749-b3d3-740edbf87770"
laptop = "5f9c8f36-7e5a-4d53-9d9d-7c3a1d2a9d11"
bind = "<bind xmlns='urn:xmpp:bind:0'><tag>Test</tag></bind>"


def b64(data):
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def agent(client):
    return f"<user-agent id='{client}'><software>Test</software></user-agent>"


def authenticate(mechanism, message, inner=""):
    initial = "" if message is None else f"<initial-response>{b64(message)}</initial-response>"
    return f"<authenticate xmlns='{sasl2}' mechanism='{mechanism}'>{initial}{inner}</authenticate>"


def answer(raw):
    """What ends a login, with the features behind <success/>."""
    got = raw.read_until("</success>", "</failure>", "</continue>")
    return got + raw.read_until("</stream:features>") if "</success>" in got and "<resumed" not in got else got


def log_in(raw, mechanism, message, inner=""):
    raw.send(authenticate(mechanism, message, inner))
    return answer(raw)


def by_password(raw, inner="", name="alice", secret=password):
    return log_in(raw, "PLAIN", f"\0{name}\0{secret}", inner)


def proof(token, binding=b"", who=b"Initiator"):
    return hmac.digest(token.encode(), who + binding, "sha256")


def by_token(raw, token, client=phone, inner="", mechanism="HT-SHA-256-NONE", binding=b"", name="alice", fast=""):
    got = log_in(raw, mechanism, name.encode() + b"\0" + proof(token, binding), agent(client) + f"<fast xmlns='urn:xmpp:fast:0'{fast}/>" + inner)
    if "<success" in got:
        assert base64.b64decode(re.search("<additional-data>(.*?)</additional-data>", got)[1]) == proof(token, binding, b"Responder"), "not the server"
    return got


def request(mechanism="HT-SHA-256-NONE"):
    return f"<request-token xmlns='urn:xmpp:fast:0' mechanism='{mechanism}'/>"


def token_in(got):
    found = re.search(r"<token xmlns='urn:xmpp:fast:0' expiry='(\d{4}-\d\d-\d\dT[^']*Z)' token='([^']*)'/>", got)
    return found and found[2]


def offered(features):
    """The text whose hash XEP-0474 wants, from what the client itself has read."""
    inside = re.search(f"<authentication xmlns='{sasl2}'>(.*?)<inline>", features)[1]
    names = sorted(re.findall("<mechanism>(.*?)</mechanism>", inside))
    types = sorted(re.findall("<channel-binding type='(.*?)'/>", features))
    return "\x1e".join(names) + ("\x1f" + "\x1e".join(types) if types else "")


def scram(raw, mechanism, inner="", name="alice", secret=password, flag="n", binding=b"", features=None):
    """The exchange of RFC 5802 in XEP-0388; the last answer, its proof checked. `features`: to look for a downgrade."""
    algorithm = "sha" + re.search(r"SHA-(\d+)", mechanism)[1]
    nonce = b64(os.urandom(18))
    bare = f"n={name},r={nonce}"
    raw.send(authenticate(mechanism, f"{flag},,{bare}", inner))
    got = raw.read_until("</challenge>", "</failure>")
    if "</failure>" in got:
        return got
    challenge = base64.b64decode(re.search("<challenge[^>]*>([^<]*)<", got)[1]).decode()
    theirs, salt, rounds, offer = re.fullmatch(r"r=([^,]*),s=([^,]*),i=(\d+),h=(.*)", challenge).groups()
    if features is not None and offer != b64(hashlib.new(algorithm, offered(features).encode()).digest()):
        raise AssertionError("downgrade: this is not what the server offered")
    without_proof = f"c={b64(flag.encode() + b',,' + binding)},r={theirs}"
    salted = hashlib.pbkdf2_hmac(algorithm, secret.encode(), base64.b64decode(salt), int(rounds))
    key = hmac.digest(salted, b"Client Key", algorithm)
    said = f"{bare},{challenge},{without_proof}".encode()
    signature = hmac.digest(hashlib.new(algorithm, key).digest(), said, algorithm)
    last = f"{without_proof},p={b64(bytes(a ^ b for a, b in zip(key, signature)))}"
    raw.send(f"<response xmlns='{sasl2}'>{b64(last)}</response>")
    got = answer(raw)
    if "<additional-data>" in got:
        v = base64.b64decode(re.search("<additional-data>(.*?)</additional-data>", got)[1]).decode()
        assert v == "v=" + b64(hmac.digest(hmac.digest(salted, b"Server Key", algorithm), said, algorithm)), "not the server"
    return got


class Login(harness.Case):
    def stream(self, direct=False, extra="", **kw):
        raw = self.raw(direct=direct, **kw)
        return raw, raw.header(extra)

    def test_what_is_on_offer(self):
        raw, features = self.stream(direct=True)
        for part in (f"<authentication xmlns='{sasl2}'><mechanism>SCRAM-SHA-512-PLUS</mechanism>", "<bind xmlns='urn:xmpp:bind:0'>",
                     "<fast xmlns='urn:xmpp:fast:0'><mechanism>HT-SHA-256-EXPR</mechanism><mechanism>HT-SHA-256-ENDP</mechanism><mechanism>HT-SHA-256-NONE</mechanism></fast>",
                     "<upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-SHA-512</upgrade>", "<config-version xmlns='urn:xmpp:iap:0'",
                     "<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>16384</max-bytes></limits>", "tls-server-end-point"):
            self.assertIn(part, features)
        self.assertNotIn("EXTERNAL", features)
        self.assertNotIn("ANONYMOUS", features)
        self.assertIn("<max-bytes>262144</max-bytes>", by_password(raw))

    def test_every_scram_binds_in_the_same_exchange(self):
        for mechanism in ("SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"):
            for is_plus in (False, True):
                raw, features = self.stream(direct=True)
                end_point = hashlib.sha256(raw.socket.getpeercert(True)).digest() if is_plus else b""
                got = scram(raw, mechanism + ("-PLUS" if is_plus else ""), agent(phone) + bind, flag="p=tls-server-end-point" if is_plus else "n",
                            binding=end_point, features=features)
                self.assertRegex(got, "<authorization-identifier>alice@localhost/Test/[0-9a-f]{18}</authorization-identifier><bound xmlns='urn:xmpp:bind:0'/>")
                self.assertNotIn("xmpp-bind", got)  # it is bound: nothing of it is on offer any more
                raw.presence()

    def test_without_inline_features_the_stream_goes_on(self):
        raw, _ = self.stream()
        got = by_password(raw)
        self.assertIn("<authorization-identifier>alice@localhost</authorization-identifier></success><stream:features><bind", got)
        self.assertIn("<jid>alice@localhost/x</jid>", raw.bind("x"))
        raw.presence()

    def test_the_same_client_replaces_its_earlier_session(self):
        first, _ = self.stream()
        name = re.search("<authorization-identifier>(.*?)<", by_password(first, agent(phone) + bind))[1]
        other, _ = self.stream()
        self.assertNotIn(name, by_password(other, agent(laptop) + bind))
        again, _ = self.stream()
        self.assertIn(name, by_password(again, agent(phone) + bind))
        self.assertIn("<conflict", first.read_to_end())
        other.ping()

    def test_failures_by_name_and_their_limit(self):
        raw, _ = self.stream(direct=True)
        self.assertEqual(by_password(raw, bind, secret="wrong"), f"<failure xmlns='{sasl2}'><not-authorized xmlns='{sasl1}'/></failure>")
        self.assertIn("<invalid-mechanism", log_in(raw, "DIGEST-MD5", ""))
        self.assertIn("<malformed-request", log_in(raw, "PLAIN", "no"))
        self.assertIn("<not-authorized", scram(raw, "SCRAM-SHA-256", flag="y"))  # -PLUS was on offer
        raw.send(authenticate("PLAIN", None))
        raw.read_until(f"<challenge xmlns='{sasl2}'/>")
        raw.send(f"<abort xmlns='{sasl2}'/>")
        self.assertIn("<aborted", raw.read_until("</failure>"))
        for _ in range(3):
            self.assertIn("<not-authorized", by_password(raw, name="nobody"))
        self.assertIn("<policy-violation", raw.read_to_end())  # the eighth

    def test_the_header_names_who_logs_in(self):
        raw, _ = self.stream(extra=" from='alice@localhost'")
        self.assertIn("<success", by_password(raw))
        raw, _ = self.stream(extra=" from='bob@localhost'")
        self.assertIn("<invalid-authzid", by_password(raw))

    def test_a_changed_offer_is_noticed(self):
        raw, features = self.stream(direct=True)
        weaker = re.sub("<mechanism>SCRAM-SHA-(512|256)(-PLUS)?</mechanism>", "", features)
        with self.assertRaisesRegex(AssertionError, "downgrade"):
            scram(raw, "SCRAM-SHA-1", features=weaker)
        raw, features = self.stream(direct=True)
        with self.assertRaisesRegex(AssertionError, "downgrade"):
            scram(raw, "SCRAM-SHA-1", features=features.replace("<channel-binding type='tls-exporter'/>", ""))

    def test_a_login_in_one_round_trip(self):
        raw, features = self.stream()
        version = re.search("<config-version [^>]*value='(.*?)'", features)[1]
        token = token_in(by_password(raw, agent(phone) + request()))
        head = ("<stream:stream to='localhost' from='alice@localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>")

        def at_once(value):
            return head + authenticate("HT-SHA-256-NONE", b"alice\0" + proof(token), agent(phone) + "<fast xmlns='urn:xmpp:fast:0'/>" + bind
                                       + f"<config-version xmlns='urn:xmpp:iap:0' scheme='opaque' value='{value}'/>")
        raw = self.raw()
        raw.send(at_once(version) + "<iq type='get' id='early' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>")  # even what comes behind it
        raw.read_until("</stream:features>")
        self.assertIn("<bound ", answer(raw))
        raw.read_until("id='early' type='result'/>")
        raw = self.raw()
        raw.send(at_once("another"))
        raw.read_until("</stream:features>")
        self.assertIn("<config-version-mismatch xmlns='urn:xmpp:iap:0'/>", raw.read_until("</failure>"))
        self.assertIn("<success", by_token(raw, token))


class Tokens(harness.Case):
    tables = "[sasl.fast]\nclients = 2\n"
    names = ("alice", "bob", "carol", "dave", "erin")

    def stream(self, direct=False):
        raw = self.raw(direct=direct)
        raw.header()
        return raw

    def token(self, client=phone, mechanism="HT-SHA-256-NONE", name="alice"):
        return token_in(by_password(self.stream(), agent(client) + request(mechanism), name))

    def refused(self, condition, *args, **kw):
        self.assertEqual(by_token(self.stream(), *args, **kw), f"<failure xmlns='{sasl2}'><{condition} xmlns='{sasl1}'/></failure>")

    def test_a_token_is_good_again_and_again(self):
        token = self.token()
        self.assertEqual(len(base64.b64decode(token)), 32)
        for _ in range(3):
            self.assertIn("<bound ", by_token(self.stream(), token, inner=bind))

    def test_a_stolen_token_is_worth_nothing_elsewhere(self):
        token = self.token()
        self.refused("not-authorized", token, client=laptop)
        self.refused("not-authorized", token, name="bob")
        self.refused("not-authorized", token, name="nobody")
        self.refused("not-authorized", token[:-2] + "==")
        self.token(laptop)
        self.refused("not-authorized", token, client=laptop)
        raw = self.stream(direct=True)
        self.assertIn("<not-authorized", by_token(raw, token, mechanism="HT-SHA-256-ENDP", binding=hashlib.sha256(raw.socket.getpeercert(True)).digest()))
        self.assertIn("<success", by_token(self.stream(), token))

    def test_a_token_bound_to_the_channel(self):
        token = token_in(by_password(self.stream(direct=True), agent(phone) + request("HT-SHA-256-ENDP"), "carol"))
        raw = self.stream(direct=True)
        end_point = hashlib.sha256(raw.socket.getpeercert(True)).digest()
        self.assertIn("<success", by_token(raw, token, mechanism="HT-SHA-256-ENDP", binding=end_point, name="carol"))
        self.assertIn("<not-authorized", by_token(self.stream(direct=True), token, mechanism="HT-SHA-256-ENDP", binding=end_point[::-1], name="carol"))
        self.refused("not-authorized", token, name="carol")  # without its binding
        raw = OpenSsl(self.server)
        self.addCleanup(raw.close)
        raw.header()
        token = token_in(by_password(raw, agent(laptop) + request("HT-SHA-256-EXPR"), "carol"))
        raw = OpenSsl(self.server)
        self.addCleanup(raw.close)
        raw.header()
        self.assertIn("<success", by_token(raw, token, laptop, mechanism="HT-SHA-256-EXPR", binding=raw.exporter, name="carol"))

    def test_a_count_that_does_not_grow_is_a_replay(self):
        token = self.token(name="bob")
        self.assertIn("<success", by_token(self.stream(), token, name="bob", fast=" count='5'"))
        for count in ("5", "4", "1"):
            self.refused("not-authorized", token, name="bob", fast=f" count='{count}'")
        self.refused("malformed-request", token, name="bob", fast=" count='0'")
        self.assertIn("<success", by_token(self.stream(), token, name="bob", fast=" count='6'"))

    def test_one_that_was_given_back_is_gone(self):
        token = self.token(name="dave")
        self.assertIn("<success", by_token(self.stream(), token, name="dave", fast=" invalidate='true'"))
        self.refused("not-authorized", token, name="dave")

    def test_a_new_password_ends_all_tokens(self):
        token = self.token(name="dave")
        done = self.server.cli("user", "password", "dave@localhost", "--password-stdin", text=password + "\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.refused("not-authorized", token, name="dave")

    def test_a_removed_account_leaves_none(self):
        token = self.token(name="erin")
        self.assertEqual(self.server.cli("user", "remove", "erin@localhost", "--yes").returncode, 0)
        self.refused("not-authorized", token, name="erin")
        self.server.add("erin")
        self.refused("not-authorized", token, name="erin")

    def test_the_client_that_came_least_recently_loses_its_token(self):
        self.server.add("frank")
        tokens = {}
        for client in ("one", "two", "three"):
            tokens[client] = self.token(client, name="frank")
        self.refused("not-authorized", tokens["one"], client="one", name="frank")
        for client in ("two", "three"):
            self.assertIn("<success", by_token(self.stream(), tokens[client], client, name="frank"))

    def test_a_second_request_replaces_what_was_never_used(self):
        first, second = self.token(name="bob"), self.token(name="bob")
        self.refused("not-authorized", first, name="bob")
        self.assertIn("<success", by_token(self.stream(), second, name="bob"))


class Rotation(harness.Case):
    tables = "[sasl.fast]\nlifetime = \"6s\"\nrotate = \"1s\"\n"

    def stream(self):
        raw = self.raw()
        raw.header()
        return raw

    def test_rotation_then_expiry(self):
        old = token_in(by_password(self.stream(), agent(phone) + request()))
        self.assertIsNone(token_in(by_token(self.stream(), old)))
        time.sleep(1.2)
        fresh = token_in(by_token(self.stream(), old))
        self.assertNotIn(fresh, (None, old))
        self.assertIsNotNone(newer := token_in(by_token(self.stream(), old)))  # the answer may have been lost: the old one is good
        self.assertIn("not-authorized", by_token(self.stream(), fresh))           # but only the newest new one
        self.assertIn("<success", by_token(self.stream(), newer))
        self.assertIn("not-authorized", by_token(self.stream(), old))             # its first use ended the old one
        time.sleep(6.5)
        self.assertIn("<credentials-expired", by_token(self.stream(), newer))
        self.assertIn("<success", by_password(self.stream()))


class Upgrade(unittest.TestCase):
    def test_accounts_get_the_keys_that_came_later(self):
        with tempfile.TemporaryDirectory() as folder:
            old = harness.Server(tables="[host.localhost.sasl]\nmechanisms = [\"SCRAM-SHA-1\", \"SCRAM-SHA-256\", \"PLAIN\"]\nupgrade = []\n", folder=folder).start()
            try:
                old.add("alice", "bob")
            finally:
                old.close()
            new = harness.Server(folder=folder).start()
            try:
                self.upgrade(new)
            finally:
                new.close()

    def upgrade(self, server):
        def stream():
            raw = Raw(server)
            self.addCleanup(raw.close)
            raw.header()
            return raw
        self.assertIn("<not-authorized", scram(stream(), "SCRAM-SHA-512"))
        raw = stream()
        got = scram(raw, "SCRAM-SHA-256", "<upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-SHA-512</upgrade>" + bind + agent(phone) + request())
        self.assertIn("<tasks><task>UPGR-SCRAM-SHA-512</task></tasks>", got)
        raw.send(f"<next xmlns='{sasl2}' task='UPGR-SCRAM-SHA-512'/>")
        rounds, salt = re.search(r"<salt xmlns='urn:xmpp:scram-upgrade:0' iterations='(\d+)'>([^<]*)</salt>", raw.read_until("</task-data>")).groups()
        salted = hashlib.pbkdf2_hmac("sha512", password.encode(), base64.b64decode(salt), int(rounds))
        raw.send(f"<task-data xmlns='{sasl2}'><hash xmlns='urn:xmpp:scram-upgrade:0'>{b64(salted)}</hash></task-data>")
        got = answer(raw)
        self.assertIn("<bound ", got)
        self.assertIsNotNone(token_in(got))
        self.assertIn("<success", scram(stream(), "SCRAM-SHA-512"))
        self.assertIn("<success", scram(stream(), "SCRAM-SHA-1"))  # the others are as they were
        # PLAIN: the server has the password, nobody is asked
        self.assertIn("<not-authorized", scram(stream(), "SCRAM-SHA-512", name="bob"))
        self.assertIn("<success", by_password(stream(), name="bob"))
        self.assertIn("<success", scram(stream(), "SCRAM-SHA-512", name="bob"))


class Certificates(harness.Case):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.make_authority("ca")
        cls.make_authority("other")
        cls.extra = 'domains = ["other.example"]'
        cls.tables = f"[host.localhost.tls]\nclient_ca = \"{cls.folder.name}/ca.pem\"\n[host.\"other.example\".tls]\nclient_ca = \"{cls.folder.name}/other.pem\"\n"
        super().setUpClass()

    @classmethod
    def openssl(cls, *words):
        subprocess.run(["openssl", *words], cwd=cls.folder.name, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    @classmethod
    def make_authority(cls, name):
        cls.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")

    def context(self, *addresses, authority="ca", days="2"):
        names = ",".join(f"otherName:1.3.6.1.5.5.7.8.5;UTF8:{a}" for a in addresses) or "DNS:client"
        with open(f"{self.folder.name}/ext", "w", encoding="utf-8") as f:
            f.write(f"subjectAltName={names}\n")
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=client", "-keyout", "client.key", "-out", "client.csr")
        self.openssl("x509", "-req", "-in", "client.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-CAcreateserial", "-days", days, "-extfile", "ext", "-out", "client.pem")
        context = trusting()
        context.load_cert_chain(f"{self.folder.name}/client.pem", f"{self.folder.name}/client.key")
        return context

    def stream(self, context):
        raw = self.raw(direct=True, context=context)
        return raw, raw.header()

    def test_the_certificate_says_who_it_is(self):
        raw, features = self.stream(self.context("alice@localhost"))
        self.assertIn("<mechanism>EXTERNAL</mechanism>", features)
        self.assertIn("alice@localhost/Test/", log_in(raw, "EXTERNAL", "", agent(phone) + bind))
        context = self.context("alice@localhost", "bob@localhost", "eve@elsewhere.example")
        self.assertIn("<invalid-authzid", log_in(self.stream(context)[0], "EXTERNAL", ""))
        self.assertIn("bob@localhost", log_in(self.stream(context)[0], "EXTERNAL", "bob@localhost"))
        self.assertIn("<invalid-authzid", log_in(self.stream(context)[0], "EXTERNAL", "carol@localhost"))
        self.assertIn("<not-authorized", log_in(self.stream(self.context("nobody@localhost"))[0], "EXTERNAL", ""))

    def test_after_starttls_and_in_the_old_profile(self):
        raw = self.raw()
        raw.header()
        raw.start_tls(self.context("alice@localhost"))
        self.assertIn("<mechanism>EXTERNAL</mechanism>", raw.header())
        raw.send(f"<auth xmlns='{sasl1}' mechanism='EXTERNAL'>=</auth>")
        raw.read_until(f"<success xmlns='{sasl1}'/>")

    def test_who_has_no_good_one_logs_in_by_password(self):
        for context in (trusting(), self.context(), self.context("alice@elsewhere.example"), self.context("alice@localhost", authority="other"),
                        self.context("alice@localhost", days="-1")):
            raw, features = self.stream(context)
            self.assertNotIn("EXTERNAL", features)
            self.assertIn("<invalid-mechanism", log_in(raw, "EXTERNAL", ""))
            self.assertIn("<success", by_password(raw))
        self.assertEqual(self.server.log.read_text().count("auth.certificate_refused"), 2)

    def resume(self, context, session, name="localhost"):
        raw = self.raw(to=name)
        raw.socket.close()
        raw.socket = context.wrap_socket(socket.create_connection(("127.0.0.1", self.server.direct), 10), server_hostname=name, session=session)
        return raw, "EXTERNAL" in raw.header()

    def test_with_a_ticket_a_certificate_is_worth_what_this_host_s_authorities_say(self):
        context = self.context("alice@localhost", "alice@other.example")
        first, features = self.stream(context)
        self.assertIn("EXTERNAL", features)
        again, is_offered = self.resume(context, first.socket.session)
        self.assertEqual((again.socket.session_reused, is_offered), (True, True))
        other, is_offered = self.resume(context, first.socket.session, "other.example")
        self.assertEqual((other.socket.session_reused, is_offered), (True, False))
        other, is_offered = self.resume(context, other.socket.session, "other.example")  # nor by the ticket that was given there
        self.assertEqual((other.socket.session_reused, is_offered), (True, False))
        authority = pathlib.Path(self.folder.name, "ca.pem")
        kept = authority.read_text()
        authority.write_text(pathlib.Path(self.folder.name, "other.pem").read_text())
        self.assertEqual(self.server.cli("reload").returncode, 0)
        late, is_offered = self.resume(context, again.socket.session)
        self.assertEqual((late.socket.session_reused, is_offered), (False, False))
        authority.write_text(kept)
        self.assertEqual(self.server.cli("reload").returncode, 0)


class Strangers(harness.Case):
    tables = "[host.localhost.sasl]\nmechanisms = [\"SCRAM-SHA-256\", \"PLAIN\", \"ANONYMOUS\"]\n"

    def test_a_name_for_one_session(self):
        alice = self.client("alice").presence()
        raw = self.raw()
        self.assertIn("<mechanism>ANONYMOUS</mechanism>", raw.header())
        got = log_in(raw, "ANONYMOUS", "", bind)
        name = re.search("<authorization-identifier>(anonymous-[0-9a-f]{32}@localhost)/", got)[1]
        raw.presence()
        raw.send("<message to='alice@localhost' type='chat'><body>hi</body></message>")
        self.assertIn(f"from='{name}/", alice.read_until("</message>"))
        raw.send("<presence to='alice@localhost' type='subscribe' id='s'/>")
        self.assertIn("<not-allowed", raw.read_until("</presence>"))
        raw.send("<iq type='set' id='r'><query xmlns='jabber:iq:roster'><item jid='alice@localhost'/></query></iq>")
        raw.read_until("id='r'")
        raw.send("</stream:stream>")
        raw.read_to_end()
        other = self.raw()
        other.header()
        self.assertNotIn(name, log_in(other, "ANONYMOUS", "", bind))
        alice.send(f"<message to='{name}' type='chat' id='late'><body>gone</body></message>")
        self.assertIn("<service-unavailable", alice.read_until("</message>"))
        self.assertNotEqual(self.server.cli("user", "add", "anonymous-x@localhost", "--password-stdin", text=password + "\n").returncode, 0)


if __name__ == "__main__":
    harness.main()
