// The tables of one virtual host's store: accounts, heads, rosters, offline messages, secrets.
#pragma once
#include "storage/schema.hpp"
#include "storage/table.hpp"
#include "xmpp/im/roster.hpp"
#include "xmpp/sasl/credentials.hpp"
#include <optional>

namespace storage::tables {

namespace detail {
using enum column_type;
inline constexpr column account_key[]{{"host", text}, {"account", text}};
inline constexpr column account_value[]{
    {"sha1.salt", bytes}, {"sha1.iterations", u32}, {"sha1.stored_key", bytes}, {"sha1.server_key", bytes},
    {"sha256.salt", bytes}, {"sha256.iterations", u32}, {"sha256.stored_key", bytes}, {"sha256.server_key", bytes},
    {"created_us", time_us}, {"disabled", boolean},
    {"sha512.salt", bytes}, {"sha512.iterations", u32}, {"sha512.stored_key", bytes}, {"sha512.server_key", bytes}};
inline constexpr column tokens_key[]{{"host", text}, {"account", text}, {"client", text}};
inline constexpr column tokens_value[]{
    {"fresh.seed", bytes}, {"fresh.mechanism", text}, {"fresh.issued_us", time_us}, {"fresh.expires_us", time_us}, {"fresh.count", u32},
    {"current.seed", bytes}, {"current.mechanism", text}, {"current.issued_us", time_us}, {"current.expires_us", time_us}, {"current.count", u32}};
inline constexpr column head_value[]{{"roster_version", u64}};
inline constexpr column roster_key[]{{"host", text}, {"account", text}, {"contact", text}};
inline constexpr column roster_value[]{{"name", text}, {"groups", text_list}, {"state", u32}, {"listed", boolean}, {"request", xml}};
inline constexpr column offline_key[]{{"host", text}, {"account", text}, {"entry", u64}, {"stanza_id", u128}};
inline constexpr column offline_value[]{{"stanza", xml}, {"stored_us", time_us}, {"expires_us", time_us}};
inline constexpr column offline_id_key[]{{"host", text}, {"account", text}, {"stanza_id", u128}};
inline constexpr column offline_id_value[]{{"bytes", u32}};
inline constexpr column private_key[]{{"host", text}, {"account", text}, {"namespace", text}, {"name", text}};
inline constexpr column private_value[]{{"xml", xml}};
inline constexpr column vcard_value[]{{"xml", xml}};
inline constexpr column vcard_photo_value[]{{"sha1", text}};
inline constexpr column last_activity_value[]{{"left_us", time_us}, {"status", text}};
inline constexpr column invitation_key[]{{"host", text}, {"account", text}, {"token", text}};
inline constexpr column invitation_value[]{{"inviter", text}, {"name", text}, {"expires_us", time_us}, {"registers", boolean}};
inline constexpr column block_value[]{{"created_us", time_us}};
inline constexpr column secret_key[]{{"name", text}};
inline constexpr column secret_value[]{{"value", bytes}};
inline constexpr column node_lease_key[]{{"node", u64}};
inline constexpr column node_lease_value[]{{"life", u64}, {"count", u64}};
inline constexpr column ownership_key[]{{"name", text}};
inline constexpr column ownership_value[]{{"node", u64}, {"life", u64}, {"epoch", u64}};
inline constexpr column announcement_key[]{{"host", text}, {"number", u64}};
inline constexpr column announcement_value[]{{"sender", text}, {"sent_us", time_us}, {"subject", text}, {"body", text}};
inline constexpr column schema_value[]{{"version", u32}, {"jid_profile", u32}};
} // namespace detail

inline constexpr table schema{"schema", '\x01', 1, "schema", {}, detail::schema_value};
inline constexpr table secrets{"secrets", '\x02', 1, "secret", detail::secret_key, detail::secret_value};
/// Of the nodes of a cluster, and of what exists once in it (cluster/leases.hpp).
inline constexpr table node_leases{"node_leases", '\x03', 1, "node_lease", detail::node_lease_key, detail::node_lease_value};
inline constexpr table ownerships{"ownerships", '\x04', 1, "ownership", detail::ownership_key, detail::ownership_value};
inline constexpr table accounts{"accounts", '\x10', 1, "account", detail::account_key, detail::account_value};
inline constexpr table heads{"account_heads", '\x11', 1, "account_head", detail::account_key, detail::head_value};
inline constexpr table rosters{"rosters", '\x12', 1, "roster_item", detail::roster_key, detail::roster_value};
inline constexpr table offline{"offline", '\x13', 1, "offline_message", detail::offline_key, detail::offline_value};
/// Second key of offline by stanza-id: inserted if absent, so that nothing is kept twice.
inline constexpr table offline_ids{"offline_ids", '\x14', 1, "offline_id", detail::offline_id_key, detail::offline_id_value};
inline constexpr table tokens{"tokens", '\x15', 1, "client_tokens", detail::tokens_key, detail::tokens_value};
inline constexpr table private_xml{"private_xml", '\x16', 1, "private_xml", detail::private_key, detail::private_value};
inline constexpr table vcards{"vcards", '\x17', 1, "vcard", detail::account_key, detail::vcard_value};
inline constexpr table blocks{"blocks", '\x18', 1, "block", detail::roster_key, detail::block_value};
inline constexpr table invitations{"invitations", '\x19', 1, "invitation", detail::invitation_key, detail::invitation_value};
/// Beside vcards, because it is read at each login.
inline constexpr table vcard_photos{"vcard_photos", '\x1a', 1, "vcard_photo", detail::account_key, detail::vcard_photo_value};
inline constexpr table last_activities{"last_activity", '\x1b', 1, "last_activity", detail::account_key, detail::last_activity_value};
inline constexpr table announcements{"announcements", '\x20', 1, "announcement", detail::announcement_key, detail::announcement_value};
inline constexpr const table* all[]{&schema, &secrets, &node_leases, &ownerships, &accounts, &heads, &rosters, &offline, &offline_ids, &tokens, &private_xml, &vcards, &blocks,
                                     &invitations, &vcard_photos, &last_activities, &announcements};

// --- accounts
struct account {
  std::optional<xmpp::sasl::scram_keys> sha1, sha256, sha512;
  std::int64_t created_us = 0;
  bool is_disabled = false; // whoever sets it erases the account's tokens in the same batch: a login by token reads them alone
  [[nodiscard]] std::optional<xmpp::sasl::scram_keys>& keys(base::crypto::hash h) {
    return h == base::crypto::hash::sha1 ? sha1 : h == base::crypto::hash::sha256 ? sha256 : sha512;
  }
};
[[nodiscard]] std::string account_key(const xmpp::jid& bare);
[[nodiscard]] std::string encode(const account& a);
/// Errors of all decoders: corrupt.
[[nodiscard]] base::result<account, errc> decode_account(const row& r);
/// The accounts of one host, in order of their names; local_of() reads a key back (empty: corrupt).
[[nodiscard]] key_range accounts_of(std::string_view host);
[[nodiscard]] std::string local_of(const row& r);

// --- heads
struct head { std::uint64_t roster_version = 0; };
[[nodiscard]] std::string head_key(const xmpp::jid& bare);
[[nodiscard]] std::string encode(const head& h);
[[nodiscard]] base::result<head, errc> decode_head(const row& r);

// --- rosters
struct roster_row {
  xmpp::im::roster_item item;
  std::string request;
};
[[nodiscard]] std::string roster_key(const xmpp::jid& bare, const xmpp::jid& contact);
[[nodiscard]] key_range roster_of(const xmpp::jid& bare);
[[nodiscard]] std::string encode(const roster_row& r);
[[nodiscard]] base::result<roster_row, errc> decode_roster(const row& r);

// --- offline messages: key order is order of entry
struct offline_message {
  std::string stanza;
  std::int64_t stored_us = 0, expires_us = 0;
};
[[nodiscard]] std::string offline_key(const xmpp::jid& bare, std::uint64_t entry, base::u128 stanza_id);
[[nodiscard]] std::string offline_id_key(const xmpp::jid& bare, base::u128 stanza_id);
[[nodiscard]] key_range offline_of(const xmpp::jid& bare);
/// The second keys: one row for each message, with its size.
[[nodiscard]] key_range offline_ids_of(const xmpp::jid& bare);
[[nodiscard]] std::uint64_t entry_of(const row& offline_row);
/// Zero: the key is corrupt.
[[nodiscard]] base::u128 stanza_id_of(const row& offline_row);
[[nodiscard]] std::string encode(const offline_message& m);
[[nodiscard]] base::result<offline_message, errc> decode_offline(const row& r);
[[nodiscard]] std::string encode_offline_id(std::size_t bytes);
/// 0 where it is not known.
[[nodiscard]] std::size_t offline_bytes_of(const row& id_row);

// --- tokens of the clients of an account
struct client_tokens {
  struct token {
    std::string seed;
    xmpp::sasl::mechanism_kind mechanism{};
    std::int64_t issued_us = 0, expires_us = 0;
    std::uint32_t count = 0;
  };
  std::optional<token> fresh, current;
};
[[nodiscard]] std::string tokens_key(const xmpp::jid& bare, std::string_view client);
[[nodiscard]] key_range tokens_of(const xmpp::jid& bare);
[[nodiscard]] std::string encode(const client_tokens& t);
[[nodiscard]] base::result<client_tokens, errc> decode_tokens(const row& r);

// --- announcements of a host, numbered from 1
struct announcement {
  std::string sender, subject, body;
  std::int64_t sent_us = 0;
};
[[nodiscard]] std::string announcement_key(std::string_view host, std::uint64_t number);
[[nodiscard]] key_range announcements_of(std::string_view host);
[[nodiscard]] std::string encode(const announcement& a);
/// 0: the key is corrupt.
[[nodiscard]] std::uint64_t announcement_number_of(const row& r);

// --- private XML (XEP-0049): one element each
[[nodiscard]] std::string private_xml_key(const xmpp::jid& bare, std::string_view ns, std::string_view name);
[[nodiscard]] key_range private_xml_of(const xmpp::jid& bare);
[[nodiscard]] std::string encode_private_xml(std::string_view xml);
[[nodiscard]] base::result<std::string, errc> decode_private_xml(const row& r);

// --- vCards (XEP-0054), and the hash of the photo in each (XEP-0153)
[[nodiscard]] std::string vcard_key(const xmpp::jid& bare);
[[nodiscard]] std::string encode_vcard(std::string_view xml);
[[nodiscard]] base::result<std::string, errc> decode_vcard(const row& r);
[[nodiscard]] std::string vcard_photo_key(const xmpp::jid& bare);
[[nodiscard]] std::string encode_vcard_photo(std::string_view sha1);
[[nodiscard]] base::result<std::string, errc> decode_vcard_photo(const row& r);

// --- blocked JIDs: bare, full or domains
struct block { std::int64_t created_us = 0; };
[[nodiscard]] std::string block_key(const xmpp::jid& bare, const xmpp::jid& blocked);
[[nodiscard]] key_range blocks_of(const xmpp::jid& bare);
[[nodiscard]] std::string encode(const block& b);
/// Whom the row blocks; null: the key is corrupt.
[[nodiscard]] xmpp::jid_ref blocked_in(const row& r);

// --- invitations (XEP-0401). Without an account: what a token is worth. With an account and a bare JID as token: who may
// become its contact unasked. With an account and an empty token: the name is kept for somebody.
struct invitation {
  std::string inviter; // bare JID; empty: an operator
  std::string name;    // local part of the account that may be made with it; empty: any
  std::int64_t expires_us = 0;
  bool registers = false; // whoever has it may make an account
};
[[nodiscard]] std::string invitation_key(std::string_view host, std::string_view account, std::string_view token);
[[nodiscard]] key_range invitations_of(std::string_view host);
[[nodiscard]] std::string encode(const invitation& i);
[[nodiscard]] base::result<invitation, errc> decode_invitation(const row& r);

// --- when its last session ended (XEP-0012)
struct last_activity {
  std::int64_t left_us = 0;
  std::string status;
};
[[nodiscard]] std::string last_activity_key(const xmpp::jid& bare);
[[nodiscard]] std::string encode(const last_activity& a);
[[nodiscard]] base::result<last_activity, errc> decode_last_activity(const row& r);

/// Every row of the account: what its removal erases.
[[nodiscard]] std::vector<change> erase_account(const xmpp::jid& bare);

/// Every row of the host, in every table whose keys begin with one.
[[nodiscard]] std::vector<change> erase_host(std::string_view host);

// --- secrets
/// The value under `name`, made with `fresh` if there is none. Blocks: at start only.
[[nodiscard]] std::string secret_key(std::string_view name);
[[nodiscard]] std::string encode_secret(const std::string& value);
[[nodiscard]] base::result<std::string, errc> decode_secret(const row& r);
[[nodiscard]] base::result<std::string, errc> secret(engine& e, std::string_view name, const std::string& fresh);


} // namespace storage::tables
