// Files of XEP-0227: their outline, whatever the pieces; their contents as rows and back.
#include "server/transfer/sections.hpp"
#include "storage/memory/engine.hpp"
#include <doctest/doctest.h>

using namespace server::transfer;
namespace tables = storage::tables;

namespace {
/// Notes what it is told.
struct notes final : reader::target {
  std::string said;
  void on_host(const xmpp::element& e, std::uint64_t line) override { add("host " + std::string{e.attr_or("jid", {})}, line); }
  void on_user(const xmpp::element& e, std::uint64_t line) override { add("user " + std::string{e.attr_or("name", {})}, line); }
  void on_child(const xmpp::element& e, std::string_view xml, std::uint64_t line) override {
    add(std::string{e.name()} + '{' + std::string{e.ns()} + "} " + std::to_string(xml.size()), line);
  }
  void on_user_end() override { said += "end\n"; }
  void on_unknown(const xmpp::element& e, std::uint64_t line) override { add("unknown " + std::string{e.name()}, line); }
  void add(const std::string& what, std::uint64_t line) { said += std::to_string(line) + ": " + what + '\n'; }
};

struct outcome {
  std::string said;
  std::optional<mistake> wrong;
};
outcome read(const std::string& text, std::size_t piece = 1u << 20) {
  notes n;
  reader r{n};
  base::result<void, mistake> ok;
  for (std::size_t at = 0; at < text.size() && ok; at += piece)
    ok = r.feed(std::string_view{text}.substr(at, piece));
  if (ok)
    ok = r.end();
  return {n.said, ok ? std::nullopt : std::optional{ok.error()}};
}

const std::string good = R"(<?xml version='1.0' encoding='UTF-8'?>
<!-- made by hand -->
<server-data xmlns='urn:xmpp:pie:0'>
  <host jid='a.org'>
    <user name='alice' x:note="a > b" xmlns:x='urn:x'>
      <query xmlns='jabber:iq:roster'><item jid='b@a.org'/></query>
      <!-- <user name='nobody'/> -->
      <offline-messages>
        <message xmlns='jabber:client' from='b@a.org'><body>
</body></message>
      </offline-messages>
    </user>
    <user name='bob'/>
    <x xmlns='urn:y'/>
  </host>
  <host jid='b.org'/>
</server-data>
)";

xmpp::jid_ref jid(std::string_view s) { return xmpp::parse_jid(s).value(); }

incoming account_of(std::string_view name) {
  incoming to;
  to.jid = jid(name);
  to.most_contacts = 10;
  return to;
}

/// What the section of this element says to it.
std::string take(incoming& to, const std::string& xml) {
  xmpp::document d;
  auto child = d.parse(xml, pie_ns);
  for (auto& s : sections())
    if (child.name() == s.name && child.ns() == s.ns) {
      auto ok = s.read(to, child, xml);
      return ok ? "" : ok.error();
    }
  return "no section";
}

void commit(storage::engine& e, const storage::batch& b) { (void)e.commit({&b, 1}); }
} // namespace

TEST_CASE("XEP-0227: the outline is the same whatever the pieces") {
  auto whole = read(good);
  CHECK_FALSE(whole.wrong);
  CHECK(whole.said == "4: host a.org\n5: user alice\n6: query{jabber:iq:roster} 61\n9: message{jabber:client} 70\nend\n13: user bob\nend\n14: unknown x\n16: host b.org\n");
  for (std::size_t piece : {1, 2, 3, 7, 64, 1'000}) {
    CAPTURE(piece);
    CHECK(read(good, piece).said == whole.said);
  }
  CHECK_FALSE(read("\xef\xbb\xbf" + good).wrong);
}

TEST_CASE("XEP-0227: what is wrong is told with its line") {
  auto with = [](const std::string& old, const std::string& fresh) {
    auto text = good;
    text.replace(text.find(old), old.size(), fresh);
    return text;
  };
  struct row { std::string text; std::uint64_t line; const char* part; };
  for (auto& r : {row{"", 1, "empty"}, row{"\n\n<x/>", 3, "no file of XEP-0227"}, row{with("urn:xmpp:pie:0", "urn:other"), 3, "another namespace"},
                  row{good.substr(0, good.size() - 20), 16, "not whole"}, row{good + "<x/>", 18, "behind the end"}, row{good + "x", 18, "text"},
                  row{with("<item jid='b@a.org'/>", "<item jid='b@a.org'>"), 6, "not well-formed"}, row{with("</offline-messages>", "</user>"), 11, "closing tag"},
                  row{with("<!-- made by hand -->", "<!DOCTYPE x [<!ENTITY y 'z'>]>"), 2, "DTD"}, row{with("<body>\n", "<body>&y;\n"), 9, "entity of its own"},
                  row{with("  <host jid='b.org'/>", "stray"), 16, "text where"}, row{with("<x xmlns='urn:y'/>", "<y:x/>"), 14, "prefix"},
                  row{with("<body>\n", "<body>\xff\n"), 9, "UTF-8"}}) {
    CAPTURE(r.text);
    for (std::size_t piece : {1u << 20, 5u}) {
      auto o = read(r.text, piece);
      REQUIRE(o.wrong);
      CHECK(o.wrong->line == r.line);
      CAPTURE(o.wrong->text);
      CHECK(o.wrong->text.find(r.part) != std::string::npos);
    }
  }
}

TEST_CASE("XEP-0227: nothing grows without bound") {
  std::string start = "<server-data xmlns='urn:xmpp:pie:0'><host jid='a.org'><user name='x'>";
  CHECK(read(start + "<x>" + std::string(17u << 20, 'y'), 65'536).wrong->text.find("16 MB") != std::string::npos);
  CHECK(read("<server-data " + std::string(1u << 20, 'y'), 65'536).wrong->text.find("without an end") != std::string::npos);
  CHECK(read("<!--" + std::string(2u << 20, 'y'), 65'536).wrong->text.find("without an end") != std::string::npos);
  std::string deep = start;
  for (int i = 0; i < 100; ++i)
    deep += "<x>";
  CHECK(read(deep).wrong->text.find("nested") != std::string::npos);
}

TEST_CASE("sections: an account goes out and comes back as it was") {
  storage::memory_engine rows, again;
  auto alice = jid("alice@a.org");
  tables::account account;
  account.sha1 = xmpp::sasl::scram_keys{"salt 1", 4'096, std::string(20, 's'), std::string(20, 'k')};
  account.sha256 = xmpp::sasl::scram_keys{"salt 2", 10'000, std::string(32, 's'), std::string(32, 'k')};
  account.sha512 = xmpp::sasl::scram_keys{"salt 3", 10'000, std::string(64, 's'), std::string(64, 'k')};
  storage::batch b;
  auto contact = [&](const char* name, xmpp::im::subscription_state state, bool is_listed, std::string request) {
    tables::roster_row r;
    r.item.contact = jid(name);
    r.item.name = "<" + std::string{name} + ">";
    r.item.groups = {"a & b", "c"};
    r.item.state = state;
    r.item.is_listed = is_listed;
    r.request = std::move(request);
    b.changes.emplace_back(storage::put{tables::roster_key(*alice, *r.item.contact), tables::encode(r)});
  };
  contact("both@b.org", {.to = true, .from = true}, true, "");
  contact("asked@b.org", {.pending_out = true}, true, "");
  contact("asks@b.org", {.pending_in = true}, false, "<presence from='asks@b.org' to='alice@a.org' type='subscribe'><nick>x</nick></presence>");
  contact("mutual@b.org", {.to = true, .pending_in = true}, true, "<presence from='mutual@b.org' type='subscribe'></presence>");
  for (std::uint64_t n = 1; n < 600; ++n) // more than are read at once
    b.changes.emplace_back(storage::put{tables::offline_key(*alice, n, {0, n}),
                                        tables::encode(tables::offline_message{"<message from='b@b.org/x' type='chat'><body>" + std::to_string(n) + "</body></message>", static_cast<std::int64_t>(n * 1'000'000), 0})});
  b.changes.emplace_back(storage::put{tables::vcard_key(*alice), tables::encode_vcard("<vCard xmlns='vcard-temp'><FN>A &amp; B</FN><PHOTO><BINVAL>eA==</BINVAL></PHOTO></vCard>")});
  for (auto* name : {"one", "two"})
    b.changes.emplace_back(storage::put{tables::private_xml_key(*alice, "urn:x", name), tables::encode_private_xml("<" + std::string{name} + " xmlns='urn:x'><a/></" + name + ">")});
  b.changes.emplace_back(storage::put{tables::block_key(*alice, *jid("spam.org")), tables::encode(tables::block{7})});
  commit(rows, b);
  std::string xml;
  for (auto& s : sections())
    REQUIRE(s.write({alice, account, rows}, xml));
  auto text = "<server-data xmlns='urn:xmpp:pie:0'><host jid='a.org'><user name='alice'>" + xml + "</user></host></server-data>";
  REQUIRE_FALSE(read(text).wrong);

  struct taker final : reader::target {
    incoming to = account_of("alice@a.org");
    void on_host(const xmpp::element&, std::uint64_t) override {}
    void on_user(const xmpp::element&, std::uint64_t) override {}
    void on_child(const xmpp::element& child, std::string_view raw, std::uint64_t) override {
      for (auto& s : sections())
        if (child.name() == s.name && child.ns() == s.ns)
          REQUIRE(s.read(to, child, raw));
    }
    void on_user_end() override {}
    void on_unknown(const xmpp::element&, std::uint64_t) override { FAIL("unknown"); }
  } back;
  reader r{back};
  REQUIRE(r.feed(text));
  REQUIRE(r.end());
  CHECK(back.to.account.sha1 == account.sha1);
  CHECK(back.to.account.sha256 == account.sha256);
  CHECK(back.to.account.sha512 == account.sha512);
  REQUIRE(back.to.roster.size() == 4);
  CHECK(back.to.roster.at("both@b.org").item.state == xmpp::im::subscription_state{.to = true, .from = true});
  CHECK(back.to.roster.at("both@b.org").item.name == "<both@b.org>");
  CHECK(back.to.roster.at("both@b.org").item.groups == std::vector<std::string>{"a & b", "c"});
  CHECK(back.to.roster.at("asked@b.org").item.state == xmpp::im::subscription_state{.pending_out = true});
  CHECK(back.to.roster.at("asks@b.org").item.state == xmpp::im::subscription_state{.pending_in = true});
  CHECK_FALSE(back.to.roster.at("asks@b.org").item.is_listed);
  CHECK(back.to.roster.at("asks@b.org").request.find("<nick>x</nick>") != std::string::npos);
  CHECK(back.to.roster.at("mutual@b.org").item.state == xmpp::im::subscription_state{.to = true, .pending_in = true});
  CHECK(back.to.roster.at("mutual@b.org").item.is_listed);
  storage::batch personal;
  personal.changes = back.to.changes;
  commit(again, personal);
  CHECK(tables::decode_vcard(again.get(tables::vcard_key(*alice)).value().value()).value() == "<vCard xmlns='vcard-temp'><FN>A &amp; B</FN><PHOTO><BINVAL>eA==</BINVAL></PHOTO></vCard>");
  CHECK(tables::decode_vcard_photo(again.get(tables::vcard_photo_key(*alice)).value().value()).value() == "11f6ad8ec52a2984abaafd7c3b516503785c2072");
  CHECK(tables::decode_private_xml(again.get(tables::private_xml_key(*alice, "urn:x", "two")).value().value()).value() == "<two xmlns='urn:x'><a/></two>");
  auto blocked = again.scan(tables::blocks_of(*alice), storage::order::forward, 10).value();
  REQUIRE(blocked.size() == 1);
  CHECK(tables::blocked_in(blocked[0])->full() == "spam.org");
  REQUIRE(back.to.batches.size() == 599);
  for (int round = 0; round < 2; ++round) // the second time it is there already
    for (auto& message : back.to.batches)
      CHECK(again.commit({&message, 1}).front() == (round == 0 ? storage::outcome::done : storage::outcome::conflict));
  auto kept = again.scan(tables::offline_of(*alice), storage::order::forward, 1'000).value();
  REQUIRE(kept.size() == 599);
  for (std::size_t n = 0; n < kept.size(); ++n) {
    auto m = tables::decode_offline(kept[n]).value();
    CHECK(m.stanza.find("<body>" + std::to_string(n + 1) + "</body>") != std::string::npos);
    CHECK(m.stored_us == static_cast<std::int64_t>((n + 1) * 1'000'000));
  }
}

TEST_CASE("sections: what cannot be taken is said, and leaves the rest alone") {
  auto to = account_of("alice@a.org");
  auto scram = [](const char* mechanism, const char* count, const char* salt, const char* stored) {
    return std::string{"<scram-credentials xmlns='urn:xmpp:pie:0#scram' mechanism='"} + mechanism + "'><iter-count>" + count + "</iter-count><salt>" + salt
           + "</salt><server-key>Ch+4i2S1FqrCqDZBHyg9xOdR3W0=</server-key><stored-key>" + stored + "</stored-key></scram-credentials>";
  };
  auto key = "BAUJlyGS3Uityr9ngP0XE3LcyY8=";
  CHECK(take(to, scram("SCRAM-MD5", "4096", "eA==", key)).find("does not know") != std::string::npos);
  for (auto& bad : {scram("SCRAM-SHA-1", "0", "eA==", key), scram("SCRAM-SHA-1", "-1", "eA==", key), scram("SCRAM-SHA-1", "999999999", "eA==", key),
                    scram("SCRAM-SHA-1", "4096", "?", key), scram("SCRAM-SHA-1", "4096", "eA==", "eA=="), scram("SCRAM-SHA-256", "4096", "eA==", key)})
    CHECK(take(to, bad).find("bad salt") != std::string::npos);
  CHECK_FALSE(to.account.sha1);
  CHECK(take(to, scram("SCRAM-SHA-1", "4096", "eA==", key)) == "");
  CHECK(to.account.sha1->iterations == 4'096);
  CHECK(take(to, "<query xmlns='jabber:iq:roster'><item jid='@@'/><item jid='b@a.org' subscription='to'/><item jid='alice@a.org'/></query>").find("no JID") != std::string::npos);
  CHECK(to.roster.size() == 1);
  CHECK(take(to, "<query xmlns='jabber:iq:roster'><item jid='c@a.org' name='" + std::string(2'000, 'x') + "'/></query>").find("too long") != std::string::npos);
  CHECK(to.roster.size() == 1);
  std::string many = "<query xmlns='jabber:iq:roster'>";
  for (int i = 0; i < 20; ++i)
    many += "<item jid='m" + std::to_string(i) + "@a.org'/>";
  CHECK(take(to, many + "</query>").find("limits.roster") != std::string::npos);
  CHECK(to.roster.size() == 10);
  CHECK(take(to, "<presence xmlns='jabber:client' type='subscribe'/>").find("no request") != std::string::npos);
  CHECK(take(to, "<message xmlns='jabber:client'><body>x</body></message>").find("without a sender") != std::string::npos);
  CHECK(take(to, "<message xmlns='jabber:client' from='b@a.org'><delay xmlns='urn:xmpp:delay' stamp='yesterday'/></message>").find("stamp") != std::string::npos);
  CHECK(to.batches.empty());
  CHECK(take(to, "<vCard xmlns='other'/>") == "no section");
}
