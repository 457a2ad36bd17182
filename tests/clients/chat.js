// Two users, each at a service of its own, chat through @xmpp/client: `node chat.js SERVICE SERVICE NAME NAME PASSWORD
// [MECHANISM]`. Prints "all is well".
import { client, xml } from "@xmpp/client";

const [here, there, one, two, password, mechanism] = process.argv.slice(2);
const wait = setTimeout(() => fail(new Error("no end")), 30000);

/** The client waits for an answer to its stream header only once the write has ended; where the answer was faster, it
 * misses it, goes on by the features, and 2 s later reports a time-out of something that has happened. */
const isLate = (error) => error?.name === "TimeoutError";

function fail(error) {
  if (isLate(error)) return; // `wait` has the last word
  console.error(error);
  process.exit(1);
}

/** A session with an inbox that can be waited for. */
async function login(service, username) {
  const credentials = mechanism ? (authenticate) => authenticate({ username, password }, mechanism) : undefined;
  const userAgent = xml("user-agent", { id: "tests" }); // its default needs a newer node than Debian's
  const xmpp = client({ service, domain: "localhost", resource: "node", username, password, credentials, userAgent });
  const inbox = [];
  const waiting = [];
  xmpp.on("error", fail);
  xmpp.on("stanza", (stanza) => {
    inbox.push(stanza);
    for (const look of [...waiting]) look();
  });
  xmpp.next = (wanted) =>
    new Promise((resolve) => {
      const look = () => {
        const at = inbox.findIndex(wanted);
        if (at < 0) return;
        waiting.splice(waiting.indexOf(look), 1);
        resolve(inbox.splice(at, 1)[0]);
      };
      waiting.push(look);
      look();
    });
  const online = new Promise((resolve) => xmpp.once("online", resolve));
  await Promise.race([online, xmpp.start().catch((error) => (isLate(error) ? online : Promise.reject(error)))]);
  if (!xmpp.isSecure()) throw new Error("the stream is not encrypted");
  xmpp.roster = () => xmpp.iqCaller.request(xml("iq", { type: "get" }, xml("query", "jabber:iq:roster")));
  await xmpp.roster(); // who asks for the roster is told of subscriptions
  return xmpp;
}

const says = (text) => (s) => s.is("message") && s.getChildText("body") === text;
const is = (type) => (s) => s.is("presence") && s.attrs.type === type;

async function main() {
  const a = await login(here, one);
  const b = await login(there, two);
  await a.send(xml("presence"));
  await b.send(xml("presence"));
  await a.send(xml("presence", { to: `${two}@localhost`, type: "subscribe" }));
  await b.next(is("subscribe"));
  await b.send(xml("presence", { to: `${one}@localhost`, type: "subscribed" }));
  await a.next(is("subscribed"));
  await a.next((s) => s.is("presence") && s.attrs.from === b.jid.toString() && !s.attrs.type);
  for (let n = 0; n < 50; n++) {
    await a.send(xml("message", { to: `${two}@localhost`, type: "chat" }, xml("body", {}, `there <${n}> & "back"`)));
    const got = await b.next(says(`there <${n}> & "back"`));
    await b.send(xml("message", { to: got.attrs.from, type: "chat" }, xml("body", {}, `back ${n} 😀`)));
    await a.next(says(`back ${n} 😀`));
  }
  const roster = await a.roster();
  const item = roster.getChild("query").getChildren("item").find((i) => i.attrs.jid === `${two}@localhost`);
  if (item.attrs.subscription !== "to") throw new Error(`subscription is ${item.attrs.subscription}`);
  const full = b.jid.toString(); // by Bind 2 the server names the resource
  await b.stop();
  await a.next((s) => s.is("presence") && s.attrs.type === "unavailable" && s.attrs.from === full);
  await a.stop();
  clearTimeout(wait);
  console.log("all is well");
}

main().catch(fail);
