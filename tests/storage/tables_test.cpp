// Declarations, keys and records: what is on disk, byte by byte.
#include "storage/tables.hpp"
#include "proto/storage.pb.h"
#include "tests/storage/engines.hpp"
#include "tests/support/made.hpp"
#include <algorithm>
#include <google/protobuf/descriptor.h>
#include <random>
#include <set>

using namespace storage;
using namespace storage::testing;
namespace tables = storage::tables;
namespace pb = google::protobuf;
using namespace std::string_literals;

namespace {
using covey_tests::jid;
const auto romeo = [] { return jid("romeo@montague.example"); };

column_type type_of(const pb::FieldDescriptor& f) {
  using enum column_type;
  if (f.is_repeated()) {
    CHECK(f.type() == pb::FieldDescriptor::TYPE_STRING);
    return text_list;
  }
  switch (f.type()) {
    case pb::FieldDescriptor::TYPE_STRING: return text;
    case pb::FieldDescriptor::TYPE_BYTES: return column_type::bytes;
    case pb::FieldDescriptor::TYPE_UINT32: return u32;
    case pb::FieldDescriptor::TYPE_UINT64: return u64;
    case pb::FieldDescriptor::TYPE_BOOL: return boolean;
    case pb::FieldDescriptor::TYPE_INT64:
      CHECK(f.name().ends_with("_us"));
      return time_us;
    default: FAIL("no column type for field " << f.full_name()); return text;
  }
}
/// Leaves of the message, messages inside it taken apart.
void columns_of(const pb::Descriptor& d, const std::string& prefix, std::vector<std::pair<std::string, column_type>>& out) {
  for (int i = 0; i < d.field_count(); ++i) {
    auto& f = *d.field(i);
    if (f.type() == pb::FieldDescriptor::TYPE_MESSAGE)
      columns_of(*f.message_type(), prefix + f.name() + ".", out);
    else
      out.emplace_back(prefix + f.name(), type_of(f));
  }
}
row at(std::string key, std::string value) { return {std::move(key), std::move(value), 1}; }
} // namespace

TEST_CASE("tables: what a host's removal erases is every row of the host, and none of another") {
  memory_engine e;
  batch all;
  for (auto* host : {"a.org", "a.orga", "b.org"}) {
    auto me = jid(std::string{"me@"} + host);
    for (auto& key : {tables::account_key(*me), tables::head_key(*me), tables::roster_key(*me, *romeo()), tables::offline_key(*me, 7, {1, 2}),
                      tables::offline_id_key(*me, {1, 2})})
      all.changes.emplace_back(put{key, "x"});
  }
  REQUIRE(e.commit({&all, 1}).front() == outcome::done);
  auto before = e.rows();
  batch gone;
  gone.changes = tables::erase_host("a.org");
  std::size_t of_hosts = 0;
  for (auto* t : tables::all)
    of_hosts += !t->key.empty() && t->key.front().name == "host";
  CHECK(gone.changes.size() == of_hosts);
  REQUIRE(e.commit({&gone, 1}).front() == outcome::done);
  CHECK(e.rows() == before - before / 3);
  CHECK(e.scan(tables::accounts_of("a.org"), order::forward, 9)->empty());
  CHECK(e.scan(tables::accounts_of("a.orga"), order::forward, 9)->size() == 1);
}

TEST_CASE("tables: declarations and protobuf messages have the same columns") {
  std::set<std::string> messages;
  for (auto* t : tables::all) {
    CAPTURE(t->name);
    std::vector<std::pair<std::string, column_type>> of_record, declared;
    if (!t->record.empty()) {
      messages.emplace(t->record);
      auto* d = pb::DescriptorPool::generated_pool()->FindMessageTypeByName("covey.storage." + std::string{t->record});
      REQUIRE(d);
      columns_of(*d, "", of_record);
    }
    for (auto& c : t->value)
      declared.emplace_back(c.name, c.type == column_type::xml ? column_type::bytes : c.type);
    CHECK(declared == of_record);
  }
  messages.insert({"node_lease", "ownership"}); // the cluster's own: cluster/leases.cpp declares their tables
  auto* file = covey::storage::account::descriptor()->file(); // and no message is without a table
  for (int i = 0; i < file->message_type_count(); ++i)
    CHECK(messages.contains(file->message_type(i)->name()));
}

TEST_CASE("tables: names and ids are unique, key columns are of types that sort") {
  std::set<std::string_view> names;
  std::set<char> ids;
  for (auto* t : tables::all) {
    CAPTURE(t->name);
    CHECK(names.insert(t->name).second);
    CHECK(ids.insert(t->id).second);
    CHECK(static_cast<unsigned char>(t->id) < 0xff);
    CHECK(t->id != '\0');
    CHECK(t->version > 0);
    for (auto& c : t->key)
      CHECK((c.type == column_type::text || c.type == column_type::u64 || c.type == column_type::u128));
    if (t->id >= '\x10') {
      REQUIRE(t->key.size() >= 2);
      CHECK(t->key[0].name == "host");
      CHECK((t->id >= '\x20' || t->key[1].name == "account"));
    }
  }
}

TEST_CASE("keys: the bytes that docs/storage.md says") {
  CHECK(tables::account_key(*romeo()) == "\x10montague.example\0\0romeo\0\0"s);
  CHECK(tables::head_key(*romeo()) == "\x11montague.example\0\0romeo\0\0"s);
  CHECK(tables::roster_key(*romeo(), *jid("nurse@capulet.example")) == "\x12montague.example\0\0romeo\0\0nurse@capulet.example\0\0"s);
  CHECK(tables::offline_key(*romeo(), 0x0102030405060708u, {0x1112131415161718u, 0x2122232425262728u})
        == "\x13montague.example\0\0romeo\0\0\x01\x02\x03\x04\x05\x06\x07\x08\x11\x12\x13\x14\x15\x16\x17\x18!\x22#$%&'("s);
  CHECK(tables::offline_id_key(*romeo(), {1, 2}) == "\x14montague.example\0\0romeo\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\2"s);
  CHECK(tables::private_xml_key(*romeo(), "storage:bookmarks", "storage") == "\x16montague.example\0\0romeo\0\0storage:bookmarks\0\0storage\0\0"s);
  CHECK(tables::vcard_key(*romeo()) == "\x17montague.example\0\0romeo\0\0"s);
  CHECK(tables::vcard_photo_key(*romeo()) == "\x1amontague.example\0\0romeo\0\0"s);
  CHECK(tables::invitation_key("a.example", "", "t0") == "\x19" "a.example\0\0\0\0t0\0\0"s);
  CHECK(tables::last_activity_key(*romeo()) == "\x1bmontague.example\0\0romeo\0\0"s);
  CHECK(tables::announcement_key("a.example", 3) == "\x20" "a.example\0\0\0\0\0\0\0\0\0\3"s);
  CHECK(tables::block_key(*romeo(), *jid("nurse@capulet.example/x")) == "\x18montague.example\0\0romeo\0\0nurse@capulet.example/x\0\0"s);
  // a contact without a local part, and a full JID that is asked for: always its bare one
  CHECK(tables::roster_key(*romeo(), *jid("capulet.example")).ends_with("\0\0capulet.example\0\0"s));
  CHECK(tables::account_key(*jid("romeo@montague.example/orchard")) == tables::account_key(*romeo()));
}

TEST_CASE("keys: byte order is column order, and every key reads back") {
  static constexpr column columns[]{{"a", column_type::text}, {"n", column_type::u64}, {"b", column_type::text}, {"i", column_type::u128}};
  static constexpr table t{"t", '\x40', 1, "", columns, {}};
  struct value {
    std::string a;
    std::uint64_t n;
    std::string b;
    std::uint64_t i, j;
    auto operator<=>(const value&) const = default;
  };
  std::vector<value> values;
  std::mt19937_64 random{7};
  std::string letters = "\0\1a\xff"s;
  auto text = [&] {
    std::string s;
    for (auto n = random() % 4; n > 0; --n)
      s.push_back(letters[random() % letters.size()]);
    return s;
  };
  auto number = [&] { return random() % 2 ? random() % 3 : ~(random() % 3); };
  for (int k = 0; k < 400; ++k)
    values.push_back({text(), number(), text(), number(), number()});
  auto key = [](const value& v) { return key_builder{t}.text(v.a).number(v.n).text(v.b).id({v.i, v.j}).take(); };
  // std::string compares as unsigned bytes
  for (auto& x : values) {
    for (auto& y : values)
      CHECK((x < y) == (key(x) < key(y)));
    auto k = key(x);
    key_reader r{t, k};
    CHECK(*r.text() == x.a);
    CHECK(*r.number() == x.n);
    CHECK(*r.text() == x.b);
    CHECK(*r.id() == base::u128{x.i, x.j});
    CHECK(r.is_at_end());
    // a prefix's range holds exactly the keys with these columns
    auto range = key_builder{t}.text(x.a).number(x.n).range();
    for (auto& y : values)
      CHECK((key(y) >= range.from && key(y) < range.until) == (x.a == y.a && x.n == y.n));
    CHECK(is_one_key(only(k)));
    CHECK_FALSE(is_one_key(range));
  }
}

TEST_CASE("keys: garbage is corrupt, and stays so") {
  for (auto garbage : {""s, "\x13"s, "\x12x\0\0"s, "\x10montague"s, "\x10montague\0"s, "\x10montague\0\1romeo\0\0"s, "\x10\0\xff"s}) {
    CAPTURE(garbage);
    key_reader k{tables::accounts, garbage};
    auto host = k.text(), local = k.text();
    CHECK_FALSE(local.has_value());
    CHECK_FALSE(k.is_at_end());
    CHECK_FALSE(k.text().has_value());
    CHECK_FALSE(k.number().has_value());
    CHECK_FALSE(k.id().has_value());
  }
  CHECK(tables::local_of(at("garbage", "")).empty());
  CHECK(tables::stanza_id_of(at("garbage", "")) == base::u128{});
}

TEST_CASE("accounts: keys in, keys out; a host's accounts in order") {
  tables::account a;
  a.sha1 = xmpp::sasl::scram_keys{"salt\0"s, 4096, "stored", "server"};
  a.sha512 = xmpp::sasl::scram_keys{"other salt", 5000, "stored 512", "server 512"};
  a.created_us = 1'700'000'000'000'000;
  a.is_disabled = true;
  auto back = tables::decode_account(at(tables::account_key(*romeo()), tables::encode(a)));
  REQUIRE(back.has_value());
  CHECK(back->sha1 == a.sha1);
  CHECK_FALSE(back->sha256);
  CHECK(back->keys(base::crypto::hash::sha512) == a.sha512);
  CHECK(back->created_us == a.created_us);
  CHECK(back->is_disabled);

  memory_engine e;
  for (auto who : {"zoe@a.example", "bob@a.example", "eve@aa.example", "adam@a.example", "x@a.exampl"})
    REQUIRE(commit(e, make({put{tables::account_key(*jid(who)), tables::encode(a)}})) == outcome::done);
  auto rows = e.scan(tables::accounts_of("a.example"), order::forward, 10);
  REQUIRE(rows.has_value());
  std::string names;
  for (auto& r : *rows)
    names += tables::local_of(r) + " ";
  CHECK(names == "adam bob zoe ");
}

TEST_CASE("tokens: two of each client, apart from other clients and accounts") {
  using enum xmpp::sasl::mechanism_kind;
  tables::client_tokens t;
  t.current = tables::client_tokens::token{"seed\0"s, ht_sha256_exporter, 5, 6, 7};
  auto key = tables::tokens_key(*romeo(), "a client");
  auto back = tables::decode_tokens(at(key, tables::encode(t)));
  REQUIRE(back.has_value());
  CHECK_FALSE(back->fresh);
  REQUIRE(back->current);
  CHECK(back->current->seed == t.current->seed);
  CHECK(back->current->mechanism == ht_sha256_exporter);
  CHECK(back->current->issued_us == 5);
  CHECK(back->current->expires_us == 6);
  CHECK(back->current->count == 7);
  auto range = tables::tokens_of(*romeo());
  CHECK((range.from <= key && key < range.until));
  CHECK(tables::tokens_key(*jid("romeo2@montague.example"), "a client") >= range.until);
  CHECK(key != tables::tokens_key(*romeo(), "b client"));
  covey::storage::client_tokens later; // of a mechanism that only a later version knows
  later.mutable_fresh()->set_mechanism("HT-SHA-512-EXPR");
  CHECK_FALSE(tables::decode_tokens(at(key, later.SerializeAsString()))->fresh);
}

TEST_CASE("rosters: items and requests") {
  tables::roster_row r;
  r.item.contact = jid("nurse@capulet.example");
  r.item.name = "Nurse ☕";
  r.item.groups = {"Family", "Servants"};
  auto state = xmpp::im::subscription_state::from_bits(1 | 8);
  REQUIRE(state.has_value());
  r.item.state = *state;
  r.item.is_listed = false;
  r.request = "<presence type='subscribe'/>";
  auto back = tables::decode_roster(at(tables::roster_key(*romeo(), *r.item.contact), tables::encode(r)));
  REQUIRE(back.has_value());
  CHECK(*back->item.contact == *r.item.contact);
  CHECK(back->item.name == r.item.name);
  CHECK(back->item.groups == r.item.groups);
  CHECK(back->item.state.bits() == r.item.state.bits());
  CHECK_FALSE(back->item.is_listed);
  CHECK(back->request == r.request);
}

TEST_CASE("blocks: the blocked JID is read back from the key") {
  for (auto who : {"nurse@capulet.example", "capulet.example", "nurse@capulet.example/kitchen"}) {
    auto back = tables::blocked_in(at(tables::block_key(*romeo(), *jid(who)), tables::encode(tables::block{7})));
    REQUIRE(back);
    CHECK(back->full() == who);
  }
  CHECK_FALSE(tables::blocked_in(at(tables::blocks_of(*romeo()).from + "@@@\0\0"s, "")));
  CHECK_FALSE(tables::blocked_in(at(tables::account_key(*romeo()), "")));
}

TEST_CASE("records: garbage and impossible values are corrupt, never an exception") {
  std::mt19937 random{3};
  auto key = tables::roster_key(*romeo(), *jid("nurse@capulet.example"));
  for (int i = 0; i < 3'000; ++i) {
    std::string garbage(random() % 40, '\0');
    for (auto& c : garbage)
      c = static_cast<char>(random());
    (void)tables::decode_account(at(key, garbage));
    (void)tables::decode_head(at(key, garbage));
    (void)tables::decode_tokens(at(key, garbage));
    (void)tables::decode_offline(at(key, garbage));
    (void)tables::decode_roster(at(garbage, garbage));
    (void)tables::local_of(at("\x10" + garbage, ""));
    (void)tables::stanza_id_of(at("\x13" + garbage, ""));
  }
  for (auto truncated : {"\x0a\x10x"s, "\xff"s, "\x08"s}) {
    CHECK(tables::decode_account(at(key, truncated)).error() == errc::corrupt);
    CHECK(tables::decode_head(at(key, truncated)).error() == errc::corrupt);
    CHECK(tables::decode_offline(at(key, truncated)).error() == errc::corrupt);
    CHECK(tables::decode_roster(at(key, truncated)).error() == errc::corrupt);
  }
  covey::storage::roster_item m;
  CHECK(tables::decode_roster(at(key, m.SerializeAsString())).has_value());
  m.set_state(0xffff'ffff); // bits that nobody defined
  CHECK(tables::decode_roster(at(key, m.SerializeAsString())).error() == errc::corrupt);
  CHECK(tables::decode_roster(at(tables::account_key(*romeo()), "")).error() == errc::corrupt);
  CHECK(tables::decode_roster(at(tables::roster_of(*romeo()).from + "@@@\0\0"s, "")).error() == errc::corrupt);
}

TEST_CASE("offline: oldest first, whatever its id; the second key is there once") {
  memory_engine e;
  auto keep = [&](std::uint64_t entry, base::u128 id, std::string xml) {
    auto second = tables::offline_id_key(*romeo(), id);
    return commit(e, make({put{tables::offline_key(*romeo(), entry, id), tables::encode(tables::offline_message{xml, 5, 6})}, put{second, ""}}, {{second, 0}}));
  };
  CHECK(keep(2, {1, 1}, "<b/>") == outcome::done);
  CHECK(keep(1, {9, 9}, "<a/>") == outcome::done);
  CHECK(keep(300, {0, 1}, "<c/>") == outcome::done);
  CHECK(keep(4, {9, 9}, "<again/>") == outcome::conflict);
  auto rows = e.scan(tables::offline_of(*romeo()), order::forward, 10);
  REQUIRE(rows.has_value());
  std::string all;
  for (auto& r : *rows)
    all += tables::decode_offline(r)->stanza;
  CHECK(all == "<a/><b/><c/>");
  CHECK(tables::stanza_id_of(rows->front()) == base::u128{9, 9});
  auto m = tables::decode_offline(rows->front());
  CHECK(m->stored_us == 5);
  CHECK(m->expires_us == 6);
}

TEST_CASE_TEMPLATE("removing an account takes every row of it and none of its neighbours", Kind, in_memory, on_rocksdb) {
  fresh<Kind> db;
  for (auto who : {"rome@montague.example", "romeo@montague.example", "romeo2@montague.example", "romeo@montague.examplee"}) {
    auto j = jid(who);
    tables::roster_row item;
    item.item.contact = jid("nurse@capulet.example");
    REQUIRE(commit(*db, make({put{tables::account_key(*j), tables::encode(tables::account{})}, put{tables::head_key(*j), tables::encode(tables::head{3})},
                              put{tables::roster_key(*j, *item.item.contact), tables::encode(item)},
                              put{tables::offline_key(*j, 1, {1, 1}), tables::encode(tables::offline_message{})}, put{tables::offline_id_key(*j, {1, 1}), ""}}))
            == outcome::done);
  }
  REQUIRE(commit(*db, make(tables::erase_account(*romeo()))) == outcome::done);
  auto rows = db->scan({"\x10", "\x7f"}, order::forward, 100);
  REQUIRE(rows.has_value());
  CHECK(rows->size() == 15);
  for (auto& r : *rows)
    CHECK(r.key.find("montague.example\0\0romeo\0"s) == std::string::npos);
  for (auto* t : tables::all) // a table of accounts that the removal forgot would show here
    if (t->id >= '\x10' && t->id < '\x20') {
      auto mine = key_builder{*t}.text("montague.example").text("romeo").range();
      auto key = mine.from + (t->key.size() > 2 ? std::string(24, 'x') : "");
      REQUIRE(commit(*db, make({put{key, ""}})) == outcome::done);
      REQUIRE(commit(*db, make(tables::erase_account(*romeo()))) == outcome::done);
      CAPTURE(t->name);
      CHECK_FALSE(get(*db, key));
    }
}
