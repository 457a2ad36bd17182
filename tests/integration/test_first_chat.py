#!/usr/bin/python3
# Two users chat through an unmodified client (slixmpp) that verifies the certificate. Never to break.
import asyncio
import ssl

import slixmpp

import harness


class Client(slixmpp.ClientXMPP):
    def __init__(self, server, name):
        super().__init__(f"{name}@localhost/test", harness.password)
        self.ssl_context = ssl.create_default_context(cafile=str(server.authority))
        self.ssl_context.verify_mode = ssl.CERT_REQUIRED
        self.ca_certs = str(server.authority)
        for plugin in ("xep_0030", "xep_0092", "xep_0199", "xep_0202", "xep_0203"):
            self.register_plugin(plugin)
        self.inbox = asyncio.Queue()
        self.online = asyncio.get_running_loop().create_future()
        self.add_event_handler("session_start", self.on_start)
        self.add_event_handler("message", self.inbox.put_nowait)
        self.connect(("127.0.0.1", server.port))

    async def on_start(self, _):
        await self.get_roster()
        self.send_presence()
        await self.get_roster()  # its account answers behind the presence: what came before that is stored, and given later
        if not self.online.done():
            self.online.set_result(True)

    async def next(self):
        return await asyncio.wait_for(self.inbox.get(), 10)


class FirstChat(harness.Case):
    def go(self, steps):
        async def bounded():
            await asyncio.wait_for(steps(), 60)
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(bounded())
        finally:  # slixmpp leaves tasks behind
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.close()

    async def pair(self):
        alice, bob = Client(self.server, "alice"), Client(self.server, "bob")
        await asyncio.wait_for(asyncio.gather(alice.online, bob.online), 20)
        return alice, bob

    def test_messages_both_ways(self):
        async def steps():
            alice, bob = await self.pair()
            for n in range(20):
                alice.send_message(mto="bob@localhost", mbody=f"to bob {n}", mtype="chat")
            got = [await bob.next() for _ in range(20)]
            self.assertEqual([m["body"] for m in got], [f"to bob {n}" for n in range(20)])
            self.assertEqual(str(got[0]["from"]), "alice@localhost/test")
            bob.send_message(mto=got[0]["from"], mbody="grüß dich 😀 <&>", mtype="chat")
            answer = await alice.next()
            self.assertEqual(answer["body"], "grüß dich 😀 <&>")
            await alice.disconnect()
            await bob.disconnect()
        self.go(steps)

    def test_subscription_and_presence(self):
        async def steps():
            alice, bob = await self.pair()
            seen = asyncio.get_running_loop().create_future()
            alice.add_event_handler("got_online", lambda p: p["from"].bare == "bob@localhost" and not seen.done() and seen.set_result(p))
            alice.send_presence_subscription("bob@localhost")
            await asyncio.wait_for(seen, 10)
            for _ in range(100):  # both directions, as slixmpp approves and asks back by itself
                if alice.client_roster["bob@localhost"]["subscription"] == "both":
                    break
                await asyncio.sleep(0.05)
            self.assertEqual(alice.client_roster["bob@localhost"]["subscription"], "both")
            gone = asyncio.get_running_loop().create_future()
            alice.add_event_handler("got_offline", lambda p: p["from"].bare == "bob@localhost" and not gone.done() and gone.set_result(p))
            await bob.disconnect()
            await asyncio.wait_for(gone, 10)
            await alice.disconnect()
        self.go(steps)

    def test_offline_messages_wait_in_order_with_their_time(self):
        async def steps():
            alice = Client(self.server, "alice")
            await asyncio.wait_for(alice.online, 20)
            for n in range(100):
                alice.send_message(mto="carol@localhost", mbody=f"waiting {n}", mtype="chat")
            await alice["xep_0199"].ping("localhost")
            await asyncio.sleep(0.5)
            carol = Client(self.server, "carol")
            got = [await carol.next() for _ in range(100)]
            self.assertEqual([m["body"] for m in got], [f"waiting {n}" for n in range(100)])
            self.assertTrue(all(m["delay"]["stamp"] for m in got))
            await carol.disconnect()
            await asyncio.sleep(0.5)
            again = Client(self.server, "carol")
            await asyncio.wait_for(again.online, 20)
            alice.send_message(mto="carol@localhost", mbody="fresh", mtype="chat")
            self.assertEqual((await again.next())["body"], "fresh")  # none of the old ones a second time
            await alice.disconnect()
            await again.disconnect()
        self.go(steps)

    def test_questions_to_the_server(self):
        async def steps():
            alice = Client(self.server, "alice")
            await asyncio.wait_for(alice.online, 20)
            info = await alice["xep_0030"].get_info(jid="localhost")
            features = info["disco_info"]["features"]
            for ns in ("urn:xmpp:ping", "jabber:iq:version", "urn:xmpp:time", "jabber:iq:register", "msgoffline", "urn:xmpp:sid:0",
                       "http://jabber.org/protocol/caps"):
                self.assertIn(ns, features)
            version = await alice["xep_0092"].get_version("localhost")
            self.assertEqual(version["software_version"]["name"], "covey")
            time = await alice["xep_0202"].get_entity_time("localhost")
            self.assertRegex(str(time), r"<utc>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z</utc>")
            self.assertGreater(await alice["xep_0199"].ping("localhost"), 0)
            await alice.disconnect()
        self.go(steps)


class OnTwoReactors(FirstChat):
    reactors = 2


if __name__ == "__main__":
    harness.main()
