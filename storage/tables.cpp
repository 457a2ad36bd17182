// Keys and records of the tables.
#include "storage/tables.hpp"
#include "proto/storage.pb.h"

namespace storage::tables {

namespace {
namespace pb = covey::storage;

key_builder of(const table& t, const xmpp::jid& bare) {
  key_builder k{t};
  k.text(bare.domain()).text(bare.local());
  return k;
}

template <class Message>
base::result<Message, errc> parse(const row& r) {
  Message m;
  if (!m.ParseFromString(r.value))
    return base::fail(errc::corrupt);
  return m;
}

void put_keys(pb::account::keys& to, const xmpp::sasl::scram_keys& k) {
  to.set_salt(k.salt);
  to.set_iterations(k.iterations);
  to.set_stored_key(k.stored_key);
  to.set_server_key(k.server_key);
}
xmpp::sasl::scram_keys get_keys(const pb::account::keys& k) {
  return {k.salt(), k.iterations(), k.stored_key(), k.server_key()};
}
} // namespace

std::string account_key(const xmpp::jid& bare) { return of(accounts, bare).take(); }

std::string encode(const account& a) {
  pb::account m;
  if (a.sha1)
    put_keys(*m.mutable_sha1(), *a.sha1);
  if (a.sha256)
    put_keys(*m.mutable_sha256(), *a.sha256);
  if (a.sha512)
    put_keys(*m.mutable_sha512(), *a.sha512);
  m.set_created_us(a.created_us);
  m.set_disabled(a.is_disabled);
  return m.SerializeAsString();
}

base::result<account, errc> decode_account(const row& r) {
  auto m = parse<pb::account>(r);
  if (!m)
    return base::fail(m.error());
  account a;
  if (m->has_sha1())
    a.sha1 = get_keys(m->sha1());
  if (m->has_sha256())
    a.sha256 = get_keys(m->sha256());
  if (m->has_sha512())
    a.sha512 = get_keys(m->sha512());
  a.created_us = m->created_us();
  a.is_disabled = m->disabled();
  return a;
}

key_range accounts_of(std::string_view host) { return key_builder{accounts}.text(host).range(); }
std::string local_of(const row& r) {
  key_reader k{accounts, r.key};
  (void)k.text();
  return k.text().value_or(std::string{});
}

std::string head_key(const xmpp::jid& bare) { return of(heads, bare).take(); }

std::string encode(const head& h) {
  pb::account_head m;
  m.set_roster_version(h.roster_version);
  return m.SerializeAsString();
}

base::result<head, errc> decode_head(const row& r) {
  auto m = parse<pb::account_head>(r);
  if (!m)
    return base::fail(m.error());
  return head{m->roster_version()};
}

std::string roster_key(const xmpp::jid& bare, const xmpp::jid& contact) {
  return of(rosters, bare).text(contact.bare()).take();
}
key_range roster_of(const xmpp::jid& bare) { return of(rosters, bare).range(); }

std::string encode(const roster_row& r) {
  pb::roster_item m;
  m.set_name(r.item.name);
  for (auto& g : r.item.groups)
    m.add_groups(g);
  m.set_state(r.item.state.bits());
  m.set_listed(r.item.is_listed);
  m.set_request(r.request);
  return m.SerializeAsString();
}

base::result<roster_row, errc> decode_roster(const row& r) {
  auto m = parse<pb::roster_item>(r);
  if (!m)
    return base::fail(m.error());
  key_reader k{rosters, r.key};
  (void)k.text();
  (void)k.text();
  auto name = k.text();
  if (!name || !k.is_at_end())
    return base::fail(errc::corrupt);
  auto contact = xmpp::parse_jid(*name);
  auto state = xmpp::im::subscription_state::from_bits(m->state());
  if (!contact || !state)
    return base::fail(errc::corrupt);
  roster_row out;
  out.item.contact = *contact;
  out.item.name = m->name();
  out.item.groups.assign(m->groups().begin(), m->groups().end());
  out.item.state = *state;
  out.item.is_listed = m->listed();
  out.request = m->request();
  return out;
}

std::string offline_key(const xmpp::jid& bare, std::uint64_t entry, base::u128 stanza_id) {
  return of(offline, bare).number(entry).id(stanza_id).take();
}
std::string offline_id_key(const xmpp::jid& bare, base::u128 stanza_id) {
  return of(offline_ids, bare).id(stanza_id).take();
}
key_range offline_of(const xmpp::jid& bare) { return of(offline, bare).range(); }

key_range offline_ids_of(const xmpp::jid& bare) { return of(offline_ids, bare).range(); }

std::uint64_t entry_of(const row& r) {
  key_reader k{offline, r.key};
  (void)k.text();
  (void)k.text();
  return k.number().value_or(0);
}
base::u128 stanza_id_of(const row& r) {
  key_reader k{offline, r.key};
  (void)k.text();
  (void)k.text();
  (void)k.number();
  return k.id().value_or(base::u128{});
}

std::string encode(const offline_message& o) {
  pb::offline_message m;
  m.set_stanza(o.stanza);
  m.set_stored_us(o.stored_us);
  m.set_expires_us(o.expires_us);
  return m.SerializeAsString();
}

base::result<offline_message, errc> decode_offline(const row& r) {
  auto m = parse<pb::offline_message>(r);
  if (!m)
    return base::fail(m.error());
  return offline_message{m->stanza(), m->stored_us(), m->expires_us()};
}

std::string encode_offline_id(std::size_t bytes) {
  pb::offline_id m;
  m.set_bytes(static_cast<std::uint32_t>(bytes));
  return m.SerializeAsString();
}

std::size_t offline_bytes_of(const row& r) {
  auto m = parse<pb::offline_id>(r);
  return m ? m->bytes() : 0;
}

std::string tokens_key(const xmpp::jid& bare, std::string_view client) { return of(tokens, bare).text(client).take(); }
key_range tokens_of(const xmpp::jid& bare) { return of(tokens, bare).range(); }

namespace {
void put_token(pb::client_tokens::token& to, const client_tokens::token& t) {
  to.set_seed(t.seed);
  to.set_mechanism(std::string{xmpp::sasl::name_of(t.mechanism)});
  to.set_issued_us(t.issued_us);
  to.set_expires_us(t.expires_us);
  to.set_count(t.count);
}
/// Nothing: of a mechanism that this version does not know, so nobody can use it.
std::optional<client_tokens::token> get_token(const pb::client_tokens::token& t) {
  auto kind = xmpp::sasl::parse_mechanism(t.mechanism());
  if (!kind)
    return std::nullopt;
  return client_tokens::token{t.seed(), *kind, t.issued_us(), t.expires_us(), t.count()};
}
} // namespace

std::string encode(const client_tokens& t) {
  pb::client_tokens m;
  if (t.fresh)
    put_token(*m.mutable_fresh(), *t.fresh);
  if (t.current)
    put_token(*m.mutable_current(), *t.current);
  return m.SerializeAsString();
}

base::result<client_tokens, errc> decode_tokens(const row& r) {
  auto m = parse<pb::client_tokens>(r);
  if (!m)
    return base::fail(m.error());
  client_tokens t;
  if (m->has_fresh())
    t.fresh = get_token(m->fresh());
  if (m->has_current())
    t.current = get_token(m->current());
  return t;
}

std::string private_xml_key(const xmpp::jid& bare, std::string_view ns, std::string_view name) {
  return of(private_xml, bare).text(ns).text(name).take();
}
key_range private_xml_of(const xmpp::jid& bare) { return of(private_xml, bare).range(); }

std::string encode_private_xml(std::string_view xml) {
  pb::private_xml m;
  m.set_xml(xml.data(), xml.size());
  return m.SerializeAsString();
}

base::result<std::string, errc> decode_private_xml(const row& r) {
  auto m = parse<pb::private_xml>(r);
  if (!m)
    return base::fail(m.error());
  return m->xml();
}

std::string vcard_key(const xmpp::jid& bare) { return of(vcards, bare).take(); }

std::string encode_vcard(std::string_view xml) {
  pb::vcard m;
  m.set_xml(xml.data(), xml.size());
  return m.SerializeAsString();
}

base::result<std::string, errc> decode_vcard(const row& r) {
  auto m = parse<pb::vcard>(r);
  if (!m)
    return base::fail(m.error());
  return m->xml();
}

std::string vcard_photo_key(const xmpp::jid& bare) { return of(vcard_photos, bare).take(); }

std::string encode_vcard_photo(std::string_view sha1) {
  pb::vcard_photo m;
  m.set_sha1(sha1.data(), sha1.size());
  return m.SerializeAsString();
}

base::result<std::string, errc> decode_vcard_photo(const row& r) {
  auto m = parse<pb::vcard_photo>(r);
  if (!m)
    return base::fail(m.error());
  return m->sha1();
}

std::string block_key(const xmpp::jid& bare, const xmpp::jid& blocked) { return of(blocks, bare).text(blocked.full()).take(); }
key_range blocks_of(const xmpp::jid& bare) { return of(blocks, bare).range(); }

std::string encode(const block& b) {
  pb::block m;
  m.set_created_us(b.created_us);
  return m.SerializeAsString();
}

xmpp::jid_ref blocked_in(const row& r) {
  key_reader k{blocks, r.key};
  (void)k.text();
  (void)k.text();
  auto name = k.text();
  if (!name || !k.is_at_end())
    return nullptr;
  auto who = xmpp::parse_jid(*name);
  return who ? *who : nullptr;
}

std::string invitation_key(std::string_view host, std::string_view account, std::string_view token) {
  return key_builder{invitations}.text(host).text(account).text(token).take();
}
key_range invitations_of(std::string_view host) { return key_builder{invitations}.text(host).range(); }

std::string encode(const invitation& i) {
  pb::invitation m;
  m.set_inviter(i.inviter);
  m.set_name(i.name);
  m.set_expires_us(i.expires_us);
  m.set_registers(i.registers);
  return m.SerializeAsString();
}

base::result<invitation, errc> decode_invitation(const row& r) {
  auto m = parse<pb::invitation>(r);
  if (!m)
    return base::fail(m.error());
  return invitation{m->inviter(), m->name(), m->expires_us(), m->registers()};
}

std::string announcement_key(std::string_view host, std::uint64_t number) {
  return key_builder{announcements}.text(host).number(number).take();
}
key_range announcements_of(std::string_view host) { return key_builder{announcements}.text(host).range(); }

std::string encode(const announcement& a) {
  pb::announcement m;
  m.set_sender(a.sender);
  m.set_sent_us(a.sent_us);
  m.set_subject(a.subject);
  m.set_body(a.body);
  return m.SerializeAsString();
}

std::uint64_t announcement_number_of(const row& r) {
  key_reader k{announcements, r.key};
  (void)k.text();
  return k.number().value_or(0);
}

std::string last_activity_key(const xmpp::jid& bare) { return of(last_activities, bare).take(); }

std::string encode(const last_activity& a) {
  pb::last_activity m;
  m.set_left_us(a.left_us);
  m.set_status(a.status);
  return m.SerializeAsString();
}

base::result<last_activity, errc> decode_last_activity(const row& r) {
  auto m = parse<pb::last_activity>(r);
  if (!m)
    return base::fail(m.error());
  return last_activity{m->left_us(), m->status()};
}

std::vector<change> erase_account(const xmpp::jid& bare) {
  std::vector<change> all;
  all.emplace_back(erase{account_key(bare)});
  all.emplace_back(erase{head_key(bare)});
  for (auto* t : {&rosters, &offline, &offline_ids, &tokens, &private_xml, &vcards, &blocks, &invitations, &vcard_photos, &last_activities}) {
    auto r = of(*t, bare).range();
    all.emplace_back(erase_range{std::move(r.from), std::move(r.until)});
  }
  return all;
}

std::vector<change> erase_host(std::string_view host) {
  std::vector<change> changes;
  for (auto* t : all)
    if (!t->key.empty() && t->key.front().name == "host") {
      auto r = key_builder{*t}.text(host).range();
      changes.emplace_back(erase_range{std::move(r.from), std::move(r.until)});
    }
  return changes;
}

std::string secret_key(std::string_view name) { return key_builder{secrets}.text(name).take(); }

std::string encode_secret(const std::string& value) {
  pb::secret m;
  m.set_value(value);
  return m.SerializeAsString();
}

base::result<std::string, errc> decode_secret(const row& r) {
  auto m = parse<pb::secret>(r);
  if (!m)
    return base::fail(m.error());
  return m->value();
}

base::result<std::string, errc> secret(engine& e, std::string_view name, const std::string& fresh) {
  auto key = secret_key(name);
  for (int attempt = 0; attempt < 2; ++attempt) {
    auto there = e.get(key);
    if (!there)
      return base::fail(there.error());
    if (*there)
      return decode_secret(**there);
    batch b;
    b.changes.emplace_back(put{key, encode_secret(fresh)});
    b.preconditions.push_back({key, 0});
    auto result = e.commit({&b, 1}).front();
    if (result == outcome::done)
      return fresh;
    if (result != outcome::conflict) // conflict: another node was first; read its value
      return base::fail(errc::unavailable);
  }
  return base::fail(errc::conflict);
}

} // namespace storage::tables
