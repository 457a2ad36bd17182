#!/usr/bin/python3
# SASL on the wire with each mechanism, the channel bindings of SCRAM among them: tls-server-end-point by
# Python's TLS, tls-exporter by OpenSSL's own client.
import base64
import hashlib
import hmac
import os
import re
import select
import subprocess
import time
import unittest

import harness
from harness import Raw, password

sasl = "urn:ietf:params:xml:ns:xmpp-sasl"


class OpenSsl:
    """The like of Raw over `openssl s_client`, which tells the keying material of its connection."""

    def __init__(self, server):
        self.process = subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{server.direct}", "-servername", "localhost",
                                         "-alpn", "xmpp-client", "-CAfile", server.authority, "-verify_return_error", "-verify_hostname", "localhost",
                                         "-nocommands", "-keymatexport", "EXPORTER-Channel-Binding", "-keymatexportlen", "32"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.buffer = ""
        self.exporter = bytes.fromhex(re.search(r"Keying material: ([0-9A-F]{64})", self.read_until("Max Early Data", "\n---\n\n", "Keying material: ") + self.read_until("\n"))[1])

    def send(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def read_until(self, *words):
        end = time.monotonic() + 10
        while not (ends := [self.buffer.find(w) + len(w) for w in words if w in self.buffer]):
            if not select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError(self.buffer)
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                raise EOFError(self.buffer)
            self.buffer += data.decode(errors="replace")
        got, self.buffer = self.buffer[:min(ends)], self.buffer[min(ends):]
        return got

    header, bind = Raw.header, Raw.bind
    to = "localhost"

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def scram(raw, mechanism, name="alice", secret=password, flag="n", binding=b"", tamper=lambda final: final):
    """Runs the exchange of RFC 5802 as a client; the server's last answer. AssertionError: the server did not prove itself."""
    algorithm = "sha" + re.search(r"SHA-(\d+)", mechanism)[1]
    gs2 = f"{flag},,"
    nonce = base64.b64encode(os.urandom(18)).decode()
    bare = f"n={name},r={nonce}"
    first = base64.b64encode((gs2 + bare).encode()).decode()
    raw.send(f"<auth xmlns='{sasl}' mechanism='{mechanism}'>{first}</auth>")
    answer = raw.read_until("</challenge>", "</failure>")
    if "</failure>" in answer:
        return answer
    challenge = base64.b64decode(re.search(r"<challenge[^>]*>([^<]*)<", answer)[1]).decode()
    theirs, salt, rounds = re.fullmatch(r"r=([^,]*),s=([^,]*),i=(\d+),h=[^,]+", challenge).groups()
    assert theirs.startswith(nonce) and len(theirs) > len(nonce)
    bound = base64.b64encode(gs2.encode() + binding).decode()
    without_proof = f"c={bound},r={theirs}"
    salted = hashlib.pbkdf2_hmac(algorithm, secret.encode(), base64.b64decode(salt), int(rounds))
    key = hmac.digest(salted, b"Client Key", algorithm)
    said = f"{bare},{challenge},{without_proof}".encode()
    signature = hmac.digest(hashlib.new(algorithm, key).digest(), said, algorithm)
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature))).decode()
    final = tamper(f"{without_proof},p={proof}")
    raw.send(f"<response xmlns='{sasl}'>{base64.b64encode(final.encode()).decode()}</response>")
    answer = raw.read_until("</success>", "</failure>")
    if "</success>" in answer:
        v = base64.b64decode(re.search(r"<success[^>]*>([^<]*)<", answer)[1]).decode()
        mine = hmac.digest(hmac.digest(salted, b"Server Key", algorithm), said, algorithm)
        assert v == "v=" + base64.b64encode(mine).decode(), "the server did not prove that it knows the keys"
    return answer


class Mechanisms(harness.Case):
    def tls(self):
        raw = self.raw(direct=True)
        features = raw.header()
        return raw, features, hashlib.sha256(raw.socket.getpeercert(True)).digest()

    def openssl(self):
        raw = OpenSsl(self.server)
        self.addCleanup(raw.close)
        return raw, raw.header()

    def test_scram_without_binding(self):
        for mechanism in ("SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"):
            for is_direct in (False, True):
                raw = self.raw(direct=is_direct)
                raw.header()
                self.assertIn("<success", scram(raw, mechanism))
                raw.header()
                self.assertIn("<jid>alice@localhost/x</jid>", raw.bind("x"))

    def test_scram_bound_to_the_certificate(self):
        for mechanism in ("SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-512-PLUS"):
            raw, features, end_point = self.tls()
            self.assertIn(f">{mechanism}<", features)
            self.assertIn("tls-server-end-point", features)
            self.assertIn("<success", scram(raw, mechanism, flag="p=tls-server-end-point", binding=end_point))

    def test_scram_bound_to_the_connection(self):
        for mechanism in ("SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-512-PLUS"):
            raw, features = self.openssl()
            self.assertIn("tls-exporter", features)
            self.assertIn("<success", scram(raw, mechanism, flag="p=tls-exporter", binding=raw.exporter))
            raw.header()
            self.assertIn("<jid>alice@localhost/x</jid>", raw.bind("x"))

    def test_a_binding_of_another_connection_fails(self):
        raw, _ = self.openssl()
        self.assertIn("not-authorized", scram(raw, "SCRAM-SHA-256-PLUS", flag="p=tls-exporter", binding=os.urandom(32)))
        raw, _, end_point = self.tls()
        self.assertIn("not-authorized", scram(raw, "SCRAM-SHA-256-PLUS", flag="p=tls-server-end-point", binding=end_point[::-1]))

    def test_downgrades_and_changed_messages_fail(self):
        raw, _, end_point = self.tls()
        self.assertIn("not-authorized", scram(raw, "SCRAM-SHA-256", flag="y"))  # -PLUS was on offer
        self.assertIn("<failure", scram(raw, "SCRAM-SHA-256", flag="p=tls-server-end-point", binding=end_point))
        self.assertIn("<failure", scram(raw, "SCRAM-SHA-256-PLUS", flag="n"))
        raw, _, _ = self.tls()
        self.assertIn("<failure", scram(raw, "SCRAM-SHA-256", tamper=lambda final: final.replace("c=biws", "c=eSws")))
        self.assertIn("<failure", scram(raw, "SCRAM-SHA-256", tamper=lambda final: re.sub(r"r=([^,]*)", r"r=\1x", final)))
        self.assertIn("<failure", scram(raw, "SCRAM-SHA-256", tamper=lambda final: final[:-5] + "AAA=="))

    def test_plain_with_and_without_tls(self):
        raw, features, _ = self.tls()
        self.assertIn(">PLAIN<", features)
        self.assertIn("<success", raw.plain("alice"))

    def test_wrong_password_and_unknown_user_look_alike(self):
        for mechanism in ("SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"):
            wrong = [scram(self.tls()[0], mechanism, name, "wrong") for name in ("alice", "nobody")]
            self.assertEqual(wrong[0], wrong[1])
            self.assertIn("<not-authorized/>", wrong[0])

    def test_a_stranger_always_gets_the_same_salt(self):
        first = base64.b64encode(b"n,,n=nobody,r=abcdefgh").decode()
        salts = set()
        for _ in range(3):
            raw, _, _ = self.tls()
            raw.send(f"<auth xmlns='{sasl}' mechanism='SCRAM-SHA-256'>{first}</auth>")
            answer = raw.read_until("</challenge>")
            salts.add(re.search(r"s=([^,]*),i=4096", base64.b64decode(re.search(r">([^<]*)</challenge>", answer)[1]).decode())[1])
        self.assertEqual(len(salts), 1)

    def test_errors_of_the_framework(self):
        for text, wanted in ((f"<auth xmlns='{sasl}' mechanism='NO-SUCH'/>", "invalid-mechanism"),
                             (f"<auth xmlns='{sasl}' mechanism='PLAIN'>not base64!</auth>", "incorrect-encoding"),
                             (f"<auth xmlns='{sasl}' mechanism='PLAIN'>YQ==</auth>", "malformed-request"),
                             (f"<auth xmlns='{sasl}' mechanism='SCRAM-SHA-1'/>", None)):
            raw, _, _ = self.tls()
            raw.send(text)
            got = raw.read_until("</failure>", "</challenge>", f"<challenge xmlns='{sasl}'/>")
            self.assertIn(f"<{wanted}/>" if wanted else "<challenge", got)
        raw, _, _ = self.tls()
        raw.send(f"<auth xmlns='{sasl}' mechanism='SCRAM-SHA-1'/>")
        raw.read_until("<challenge")
        raw.send(f"<abort xmlns='{sasl}'/>")
        self.assertIn("<aborted/>", raw.read_until("</failure>"))


class TlsRequired(unittest.TestCase):
    """The default: before TLS nothing but STARTTLS."""

    def test_no_login_in_the_clear(self):
        server = harness.Server()
        server.config.write_text(server.config.read_text().replace("require = false", "require = true").replace("plain_without_tls = true", "plain_without_tls = false"))
        self.addCleanup(server.close)
        server.start()
        server.add("alice")
        raw = Raw(server)
        self.addCleanup(raw.close)
        features = raw.header()
        self.assertIn("<required/>", features)
        self.assertNotIn("mechanism", features)
        for answer in (raw.plain("alice"), scram(raw, "SCRAM-SHA-256")):
            self.assertIn("<encryption-required/>", answer)
        raw.start_tls()
        self.assertNotIn("starttls", raw.header())
        self.assertIn("<success", scram(raw, "SCRAM-SHA-256"))


if __name__ == "__main__":
    harness.main()
