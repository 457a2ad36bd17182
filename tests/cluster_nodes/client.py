# A client with stream management, on a thread of its own: it acknowledges what comes, keeps what it sent until the server has
# acknowledged it, remembers everything, and can come back at another node. And talks between two of them, with their count.
import dataclasses
import re
import socket
import threading
import time
import xml.etree.ElementTree as tree

import nodes
from nodes import harness

sm = "urn:xmpp:sm:3"
jabber = "{jabber:client}"
stanzas = {jabber + name for name in ("message", "presence", "iq")}
header = b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"


@dataclasses.dataclass
class Came:
    """A message as it came: itself, or in a carbon."""
    text: str
    sender: str
    kind: str
    stanza_id: str
    is_delayed: bool
    is_carbon: bool
    at: float
    number: int  # of all stanzas that are acknowledged on this stream


class Stream(harness.Raw):
    """To a node or the proxy where it is; harness.Raw knows one address alone."""

    def __init__(self, at):
        self.to, self.lag, self.buffer = nodes.host, at.lag, ""
        self.socket = socket.create_connection((at.ip, at.port), 10)
        self.socket.settimeout(10)


class Client(threading.Thread):
    """`at` is a node or the proxy. `before`: it is that one, which has lost its connection: it resumes its session, or binds anew where
    that is gone, and sends again what was not acknowledged."""

    def __init__(self, at, name, resource="r", before=None):
        super().__init__(daemon=True)
        self.user, self.resource = name, resource
        self.bare = f"{name}@{nodes.host}"
        self.jid = f"{self.bare}/{resource}"
        self.changed = threading.Condition()  # its lock guards all of this, and what is written
        self.outbox, self.acked, self.acknowledged = [], 0, []  # (text or None, XML); how many; their texts
        self.handled, self.told, self.acks = 0, 0, False        # stanzas that came, that the server was told; whether it is told
        self.messages, self.presences, self.pushes, self.roster = [], [], [], {}
        self.asked, self.answers = 0, {}
        self.ended, self.error, self.problem, self.is_resumed = False, None, None, False
        self.raw, self.session = Stream(at), None
        try:
            self.log_in(before)
        except BaseException:
            self.raw.close()
            raise
        self.raw.socket.settimeout(None)
        self.start()
        try:
            self.introduce()
        except BaseException:  # it was not told that anything had come, but for what came before it could be
            self.drop()
            if before and not self.session:
                before.messages += self.messages
            raise
        if before:
            for text, xml in before.outbox:
                if text or self.is_resumed:
                    self.send(xml, text)
        with self.changed:
            self.acks = True
            if self.handled != self.told:
                self.acknowledge_all()

    def log_in(self, before):
        self.raw.header()
        if "success" not in (got := self.raw.plain(self.user)):
            raise AssertionError(f"{self.user} is not let in: {got}")
        self.raw.header()
        if before:
            self.resume(before)
        if not self.is_resumed:
            self.begin()

    def introduce(self):
        if self.is_resumed:
            return
        self.wait(lambda: self.session, "stream management")
        # who has asked for the roster hears of its changes and of requests
        self.roster = {item.get("jid"): item.get("subscription") for item in self.ask("<query xmlns='jabber:iq:roster'/>").iter("{jabber:iq:roster}item")}
        self.send("<presence/>")

    def begin(self):
        if "<jid>" not in (got := self.raw.bind(self.resource)):
            raise AssertionError(f"{self.jid} is not bound: {got}")
        self.raw.send(f"<enable xmlns='{sm}' resume='true'/>")

    def resume(self, before):
        self.raw.send(f"<resume xmlns='{sm}' previd='{before.session}' h='{before.handled}'/>")
        got = self.raw.read_until("<resumed ", "<failed ") + self.raw.read_until("/>", "</failed>", "'>")
        if "<failed " in got and got.endswith("'>"):
            got += self.raw.read_until("</failed>")
        self.is_resumed = "<resumed " in got
        if self.is_resumed:
            self.session, self.handled, self.acked = before.session, before.handled, before.acked
        if h := re.search(" h='([0-9]+)'", got):  # said where it failed, too, if the node knows
            before.acknowledge(int(h[1]))
            self.acked = int(h[1]) if self.is_resumed else 0

    # --- what comes

    def run(self):
        try:
            self.read()
        except (OSError, tree.ParseError):
            pass
        except BaseException as why:
            self.problem = why
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def read(self):
        parser = tree.XMLPullParser(("start", "end"))
        parser.feed(header)
        data, depth, root = self.raw.buffer.encode(), 0, None
        while True:
            parser.feed(data)
            for what, element in parser.read_events():
                root = element if root is None else root
                depth += 1 if what == "start" else -1
                if what == "end" and depth == 1:
                    self.take(element)
                    root.clear()
                elif depth == 0:
                    return
            data = self.raw.socket.recv(65536)
            if not data:
                return

    def take(self, element):
        with self.changed:
            if element.tag in stanzas:
                self.handled += 1
                getattr(self, "take_" + element.tag.removeprefix(jabber))(element)
            elif element.tag == f"{{{sm}}}enabled":
                self.session, self.handled = element.get("id"), 0
                for early in self.messages:  # after bind, before this: they were delivered by being written
                    early.number = 0
            elif element.tag == f"{{{sm}}}r":
                self.acknowledge_all()
            elif element.tag == f"{{{sm}}}a":
                self.acknowledge(int(element.get("h")))
            elif element.tag == "{http://etherx.jabber.org/streams}error":
                self.error = element[0].tag.split("}")[1]
            self.changed.notify_all()

    def take_message(self, element):
        inner = element.find(f"*/{{urn:xmpp:forward:0}}forwarded/{jabber}message")
        message = element if inner is None else inner
        body, mark = message.find(jabber + "body"), message.find("{urn:xmpp:sid:0}stanza-id")
        text = body.text if body is not None else message.get("id")
        self.messages.append(Came(text, message.get("from"), message.get("type"), mark.get("id") if mark is not None else None,
                                  message.find("{urn:xmpp:delay}delay") is not None, inner is not None, time.monotonic(), self.handled))

    def take_presence(self, element):
        status = element.find(jabber + "status")
        self.presences.append((element.get("from"), element.get("type") or "available", status.text if status is not None else None))

    def take_iq(self, element):
        if element.get("type") in ("result", "error"):
            self.answers[element.get("id")] = element
        elif (query := element.find("{jabber:iq:roster}query")) is not None:
            self.pushes.append({k: item.get(k) for item in query for k in ("jid", "name", "subscription", "ask")})
            self.send(f"<iq type='result' id='{element.get('id')}'/>")
        else:
            self.send(f"<iq type='result' id='{element.get('id')}' to='{element.get('from')}'/>")

    def wait(self, is_so, what, limit=15):
        """What `is_so` returns, as soon as that is something. It is asked after each stanza that comes."""
        end = time.monotonic() + limit
        with self.changed:
            while not (found := is_so()):
                left = end - time.monotonic()
                if left <= 0 or self.ended and not is_so():
                    raise AssertionError(f"{self.jid}: {what}: {'the stream ended' if self.ended else f'not within {limit} s'} {self.error or ''}{self.problem or ''}")
                self.changed.wait(left)
        return found

    def hears(self, text, limit=15):
        """The first message with this text that is no carbon."""
        return self.wait(lambda: next((m for m in self.messages if m.text == text and not m.is_carbon), None), f"message {text!r}", limit)

    def sees(self, jid, kind="available", status=None, limit=15):
        return self.wait(lambda: next((p for p in self.presences if p[0] == jid and p[1] == kind and status in (None, p[2])), None),
                         f"{kind} of {jid}", limit)

    def count(self, jid, kind):
        """How many presences of this kind have come."""
        with self.changed:
            return sum(1 for p in self.presences if p[0] == jid and p[1] == kind)

    # --- acknowledgements

    def acknowledge(self, h):
        new = (h - self.acked) % 2**32
        if new > len(self.outbox):
            raise AssertionError(f"{self.jid}: the server acknowledges {h}, {self.acked} were, {len(self.outbox)} are open")
        self.acknowledged += [text for text, _ in self.outbox[:new] if text]
        del self.outbox[:new]
        self.acked = h

    def acknowledge_all(self):
        if self.acks:
            self.told = self.handled
            self.write(f"<a xmlns='{sm}' h='{self.handled}'/>")

    # --- what goes

    def write(self, xml):
        with self.changed:
            try:
                self.raw.send(xml)
            except OSError:
                pass  # the reader sees it, too; what was meant to go stays in the outbox

    def send(self, xml, text=None):
        """One stanza. `text`: what it is known by when it is acknowledged, and then it is sent again after a loss."""
        with self.changed:
            self.outbox.append((text, xml))
            self.write(xml)

    def say(self, to, text):
        self.send(f"<message to='{to}' type='chat' id='{text}'><origin-id xmlns='urn:xmpp:sid:0' id='{text}'/><body>{text}</body></message>", text)

    def ask(self, payload, kind="get", to=None):
        """The answer of a request."""
        with self.changed:
            self.asked += 1
            name = f"ask{self.asked}"
            self.send(f"<iq type='{kind}' id='{name}' to='{to or self.bare}'>{payload}</iq>")
        self.wait(lambda: name in self.answers, f"answer to {payload}")
        return self.answers.pop(name)

    def ping(self):
        """Everything sent before has been handled by its session, and all that this brought at once has come."""
        self.ask("<ping xmlns='urn:xmpp:ping'/>", to=nodes.host)

    def ask_for_acks(self):
        self.write(f"<r xmlns='{sm}'/>")

    def settle(self, limit=30):
        """Everything sent is acknowledged."""
        self.ask_for_acks()
        try:
            self.wait(lambda: not self.outbox, "all stanzas acknowledged", limit)
        except AssertionError as why:
            raise AssertionError(f"{why}; {len(self.outbox)} are open from {self.outbox[0] if self.outbox else None}") from None

    def again(self, at):
        """This client, come back there."""
        self.drop()
        return Client(at, self.user, self.resource, self)

    def leave(self):
        """Logs out."""
        self.write("</stream:stream>")
        self.join(10)
        self.drop()

    def drop(self):
        """The connection is gone, without a word."""
        try:
            self.raw.socket.shutdown(2)
        except OSError:
            pass
        if self.is_alive():
            self.join(10)
        self.raw.close()


def befriend(one, other):
    """Each sees the other's presence, now if they have been friends before."""
    for asking, asked in () if one.roster.get(other.bare) == "both" else ((one, other), (other, one)):
        asking.send(f"<presence to='{asked.bare}' type='subscribe'/>")
        asked.sees(asking.bare, "subscribe")
        asked.send(f"<presence to='{asking.bare}' type='subscribed'/>")
        asking.sees(asked.bare, "subscribed")
    one.sees(other.jid)
    other.sees(one.jid)


class Talk(threading.Thread):
    """One says so many numbered messages a second to another, until `stop`. Who comes back at another node is added to `senders` or
    `receivers`; what he says from then on goes by the last sender. `others`: further devices of the receiver, which get what is for a
    session that is not known to be there (RFC 6121 section 8.5.3.2.1)."""

    def __init__(self, label, sender, receiver, to=None, per_second=20, others=()):
        super().__init__(daemon=True)
        self.label, self.to, self.pause, self.sent, self.is_over = label, to or receiver.jid, 1 / per_second, 0, threading.Event()
        self.senders, self.receivers, self.others = [sender], [receiver], list(others)
        self.start()

    def run(self):
        while not self.is_over.wait(self.pause):
            sender = self.senders[-1]
            if not sender.ended:
                self.sent += 1
                sender.say(self.to, f"{self.label}:{self.sent}")
                if self.sent % 10 == 0:  # what is acknowledged is not sent again
                    sender.ask_for_acks()

    def stop(self):
        self.is_over.set()
        self.join(30)

    def number(self, text):
        """That of one of its messages, or nothing."""
        label, _, rest = (text or "").partition(":")
        return int(rest) if label == self.label and rest.isdecimal() else None

    def copies(self):
        """What came of it: for each stream, in order. One that was resumed goes on."""
        streams = []
        for r in self.receivers:
            came = [m for m in list(r.messages) if not m.is_carbon and m.kind != "error" and self.number(m.text)]
            streams = [*streams[:-1], streams[-1] + came] if r.is_resumed else [*streams, came]
        return streams + [came for o in self.others if (came := [m for m in list(o.messages) if not m.is_carbon and m.kind != "error" and self.number(m.text)])]

    def acknowledged(self):
        return {n for s in self.senders for n in map(self.number, list(s.acknowledged)) if n}

    def delivered(self):
        return {self.number(m.text) for stream in self.copies() for m in stream}

    def bounced(self):
        return {self.number(m.text) for s in self.senders for m in list(s.messages) if m.kind == "error" and self.number(m.text)}

    def longest_gap(self, began, ended):
        """The longest time between them in which nothing of it came."""
        moments = sorted([began, ended, *(m.at for stream in self.copies() for m in stream if began < m.at < ended)])
        return max(b - a for a, b in zip(moments, moments[1:]))

    def story(self, began):
        """What is missing, came out of order or twice, and what came around it: number, seconds since `began`, d for delayed."""
        told = [f"missing {sorted(self.acknowledged() - self.bounced() - self.delivered())[:50]}"]
        told += [f"bounced {m.text} at {m.at - began:.1f}" for s in self.senders for m in list(s.messages) if m.kind == "error" and self.number(m.text)]
        before = set()
        for stream in self.copies():
            seen, last = set(), 0
            numbers = [self.number(m.text) for m in stream]
            for k, (n, m) in enumerate(zip(numbers, stream)):
                if n in seen or n not in before and not m.is_delayed and n < last:
                    told += [f"{a}@{b.at - began:.1f}{'d' * b.is_delayed}" for a, b in zip(numbers[max(0, k - 2):k + 2], stream[max(0, k - 2):k + 2])] + ["|"]
                seen.add(n)
                last = last if m.is_delayed or n in before else max(last, n)
            before |= seen
        return " ".join(told[:60])

    def count(self):
        return count(self.sent, self.acknowledged(), self.bounced(), [[(self.number(m.text), m.stanza_id, m.is_delayed) for m in stream] for stream in self.copies()])


class Roamer(threading.Thread):
    """Somebody who comes back at HAProxy as soon as the connection is lost, and goes on with the talks."""

    def __init__(self, at, name, talks=()):
        super().__init__(daemon=True)
        self.at, self.talks, self.is_over = at, list(talks), threading.Event()
        self.now, self.problem, self.absences, self.resumed, self.refused = Client(at, name), None, [], 0, 0
        self.start()

    def run(self):
        while not self.is_over.wait(0.05):
            if self.now.ended:
                try:
                    self.come_back()
                except BaseException as why:
                    self.problem = why
                    return

    def come_back(self, limit=60):
        left = time.monotonic()
        while not self.is_over.is_set():
            try:
                fresh = self.now.again(self.at)
                break
            except (AssertionError, EOFError, OSError):  # nobody takes it at the moment
                self.refused += 1
                if time.monotonic() > left + limit:
                    raise
                time.sleep(0.3)
        else:
            return
        for t in self.talks:
            for those in (t.senders, t.receivers):
                if those[-1] is self.now:
                    those.append(fresh)
        self.now = fresh
        self.absences.append(time.monotonic() - left)
        self.resumed += fresh.is_resumed

    def stop(self):
        self.is_over.set()
        self.join(90)
        self.now.leave()


def count(sent, acknowledged, bounced, streams):
    """`streams`: what came on each, as (number, stanza-id, is it delayed). Doubled is a copy on one unbroken stream, or with another
    stanza-id than the first one; on a later stream the same message may come again, if its ack was lost with the node. Order holds
    for what was not stored, which has no delay stamp, and comes for the first time."""
    doubled = reordered = 0
    identity = {}
    for stream in streams:
        seen, last = set(), 0
        for number, stanza_id, is_delayed in stream:
            is_first = number not in identity
            if number in seen or identity.setdefault(number, stanza_id) != stanza_id:
                doubled += 1
            elif is_first and not is_delayed:
                reordered += number < last
                last = max(last, number)
            seen.add(number)
    return {"sent": sent, "acknowledged": len(acknowledged), "delivered": len(identity), "lost": len(acknowledged - bounced - set(identity)),
            "doubled": doubled, "reordered": reordered, "bounced": len(bounced)}


def total(talks):
    counts = [t.count() for t in talks]
    return {name: sum(c[name] for c in counts) for name in counts[0]}
