// What a login reads and changes of an account (accounts.hpp): SCRAM keys, passwords, tokens of clients.
#include "xmpp/stamp.hpp"
#include "server/accounts.hpp"
#include "xmpp/sasl/scram_keys.hpp"
#include <algorithm>

namespace server {

using base::crypto::hash;
using xmpp::sasl::credentials_errc;
namespace sasl = xmpp::sasl;
namespace tables = storage::tables;

namespace {
constexpr int most_attempts = 5;            // at a change that others make impossible
constexpr std::size_t most_token_rows = 1'000;
constexpr std::size_t seed_size = 16;

sasl::account_facts facts_of(tables::account& a, std::uint64_t version) {
  sasl::account_facts f{version};
  for (auto h : {hash::sha1, hash::sha256, hash::sha512})
    if (a.keys(h))
      f.add(h);
  return f;
}
} // namespace

std::string stored_accounts::random_bytes(std::size_t size) const {
  std::string bytes(size, '\0');
  random_.fill({reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size()});
  return bytes;
}

std::int64_t stored_accounts::now_us() const { return node_.clock().wall().time_since_epoch().count(); }

// --- keys

void stored_accounts::find(const std::string& local, std::function<void(base::result<found, credentials_errc>)> then) {
  auto bare = xmpp::make_jid(local, host_);
  if (!bare || local.empty())
    return then(base::fail(credentials_errc::no_such_user));
  store_.scan(storage::only(tables::account_key(**bare)), storage::order::forward, 1, [then = std::move(then)](auto rows) {
    if (!rows)
      return then(base::fail(credentials_errc::unavailable));
    if (rows->empty())
      return then(base::fail(credentials_errc::no_such_user));
    auto a = tables::decode_account(rows->front());
    if (!a)
      return then(base::fail(credentials_errc::unavailable));
    if (a->is_disabled)
      return then(base::fail(credentials_errc::disabled));
    then(found{std::move(*a), rows->front().version});
  });
}

/// If nobody has changed it since it was read.
void stored_accounts::put(const std::string& local, found changed, std::function<void(sasl::account_answer)> then) {
  auto key = tables::account_key(**xmpp::make_jid(local, host_));
  storage::batch b;
  b.changes.emplace_back(storage::put{key, tables::encode(changed.row)});
  b.preconditions.push_back({std::move(key), changed.version});
  auto facts = facts_of(changed.row, changed.version + 1);
  store_.submit(std::move(b), [facts, then = std::move(then)](storage::outcome o) {
    if (o == storage::outcome::done)
      return then(facts);
    then(base::fail(o == storage::outcome::conflict ? credentials_errc::changed : credentials_errc::unavailable));
  });
}

void stored_accounts::find_keys(std::string local, hash h, std::function<void(sasl::keys_answer)> then) {
  find(local, [h, then = std::move(then)](auto f) {
    if (!f)
      return then(base::fail(f.error()));
    auto& keys = f->row.keys(h);
    if (!keys)
      return then(base::fail(credentials_errc::no_such_user));
    auto facts = facts_of(f->row, f->version);
    then(sasl::known_keys{std::move(*keys), facts});
  });
}

void stored_accounts::find_account(std::string local, std::function<void(sasl::account_answer)> then) {
  find(local, [then = std::move(then)](auto f) {
    if (!f)
      return then(base::fail(f.error()));
    then(facts_of(f->row, f->version));
  });
}

void stored_accounts::check_password(std::string local, std::string password, std::function<void(sasl::account_answer)> then) {
  find(local, [this, local, password = std::move(password), then](auto f) mutable {
    if (!f && f.error() == credentials_errc::unavailable)
      return then(base::fail(credentials_errc::unavailable));
    auto job = [this, local, password = std::move(password), f = std::move(f), then]() mutable {
      // a name without an account costs the same; keys of another hash are of accounts that came from elsewhere
      auto h = !f || f->row.sha256 ? hash::sha256 : f->row.sha1 ? hash::sha1 : hash::sha512;
      auto used = f && f->row.keys(h) ? *f->row.keys(h) : sasl::fake_keys(h, settings().fake_secret, local, settings().iterations);
      bool is_right = sasl::matches(h, used, password);
      if (f && is_right)
        return add_missing_keys(local, std::move(password), std::move(*f), then);
      base::crypto::wipe(password);
      then(base::fail(f ? credentials_errc::wrong_password : f.error()));
    };
    if (!hashing_.run(std::move(job)))
      then(base::fail(credentials_errc::unavailable));
  });
}

/// The one moment when the server has the password: keys for hashes that came later are made of it.
void stored_accounts::add_missing_keys(const std::string& local, std::string password, found f, std::function<void(sasl::account_answer)> then) {
  auto before = facts_of(f.row, f.version);
  for (auto h : settings().hashes)
    if (!f.row.keys(h))
      if (auto keys = sasl::make_scram_keys(h, password, random_bytes(sasl::salt_size), settings().iterations))
        f.row.keys(h) = std::move(*keys);
  base::crypto::wipe(password);
  if (facts_of(f.row, f.version).hashes == before.hashes)
    return then(before);
  put(local, std::move(f), [before, then](sasl::account_answer now) { then(now ? *now : before); }); // else at the next login
}

void stored_accounts::add_keys(std::string local, std::uint64_t version, hash h, sasl::scram_keys keys,
                               std::function<void(sasl::account_answer)> then) {
  find(local, [this, local, version, h, keys = std::move(keys), then](auto f) mutable {
    if (!f)
      return then(base::fail(f.error()));
    if (f->version != version || f->row.keys(h))
      return then(base::fail(credentials_errc::changed));
    f->row.keys(h) = std::move(keys);
    put(local, std::move(*f), then);
  });
}

// --- tokens (XEP-0484)

/// A row without the database's secret is worth nothing, nor is one that was moved to another account or client.
std::string stored_accounts::secret_of(const tables::client_tokens::token& t, std::string_view local, std::string_view client) const {
  auto input = t.seed;
  for (std::string_view part : {std::string_view{host_}, local, client, sasl::name_of(t.mechanism)})
    input.append(1, '\0').append(part);
  return base::to_base64(base::crypto::hmac(hash::sha256, settings().token_secret, input));
}

void stored_accounts::find_tokens(std::string local, std::string client, std::function<void(sasl::tokens_answer)> then) {
  auto bare = xmpp::make_jid(local, host_);
  if (!bare || local.empty())
    return then(base::fail(credentials_errc::no_such_user));
  store_.scan(storage::only(tables::tokens_key(**bare, client)), storage::order::forward, 1, [this, local, client, then = std::move(then)](auto rows) {
    if (!rows)
      return then(base::fail(credentials_errc::unavailable));
    if (rows->empty())
      return then(base::fail(credentials_errc::no_such_user));
    auto t = tables::decode_tokens(rows->front());
    if (!t)
      return then(base::fail(credentials_errc::unavailable));
    auto as_token = [&](const tables::client_tokens::token& of, bool supersedes) {
      return sasl::token{secret_of(of, local, client), of.mechanism, of.count, now_us() >= of.expires_us,
                         now_us() - of.issued_us >= settings().token_rotation.count(), supersedes};
    };
    sasl::client_tokens found;
    if (t->fresh)
      found.fresh = as_token(*t->fresh, t->current.has_value());
    if (t->current)
      found.current = as_token(*t->current, false);
    then(std::move(found));
  });
}

void stored_accounts::change_tokens(sasl::token_change what, std::function<void(sasl::token_change_answer)> then) {
  try_change(what, most_attempts, then);
}

/// Reads all clients of the account, as a new one may be one too many.
void stored_accounts::try_change(const sasl::token_change& c, int attempts, const std::function<void(sasl::token_change_answer)>& then) {
  auto bare = *xmpp::make_jid(c.local, host_);
  auto own_key = tables::tokens_key(*bare, c.client);
  store_.scan(tables::tokens_of(*bare), storage::order::forward, most_token_rows, [=, this](auto rows) {
    if (!rows)
      return then(base::fail(credentials_errc::unavailable));
    tables::client_tokens own;
    std::uint64_t own_version = 0;
    std::vector<std::pair<std::int64_t, std::string>> others; // last issued, key
    for (auto& r : *rows) {
      auto t = tables::decode_tokens(r);
      if (!t)
        return then(base::fail(credentials_errc::unavailable));
      if (r.key == own_key) {
        own = std::move(*t);
        own_version = r.version;
      } else {
        others.emplace_back(std::max(t->fresh ? t->fresh->issued_us : 0, t->current ? t->current->issued_us : 0), r.key);
      }
    }
    storage::batch b;
    b.durability = storage::durability::relaxed; // a count alone: it guards against nothing that a crash helps
    if (!c.used.empty()) {
      auto is_used = [&](const std::optional<tables::client_tokens::token>& t) { return t && secret_of(*t, c.local, c.client) == c.used; };
      if (is_used(own.fresh)) {
        own.current = std::exchange(own.fresh, std::nullopt);
        b.durability = storage::durability::durable;
      } else if (!is_used(own.current)) {
        return then(base::fail(credentials_errc::changed));
      }
      if (c.count && *c.count <= own.current->count)
        return then(base::fail(credentials_errc::changed));
      own.current->count = c.count.value_or(own.current->count);
      if (c.invalidate)
        own = {};
    }
    std::optional<sasl::issued_token> issued;
    if (c.issue) {
      auto now = now_us();
      auto expires = now + settings().token_lifetime.count();
      own.fresh = tables::client_tokens::token{random_bytes(seed_size), *c.issue, now, expires, 0};
      issued = sasl::issued_token{secret_of(*own.fresh, c.local, c.client), xmpp::stamp(base::wall_time{std::chrono::microseconds{expires}})};
      std::sort(others.begin(), others.end());
      for (std::size_t i = 0; i + settings().clients_with_tokens <= others.size(); ++i) // this one is among them
        b.changes.emplace_back(storage::erase{others[i].second});
    }
    if (c.issue || c.invalidate)
      b.durability = storage::durability::durable;
    if (own.fresh || own.current)
      b.changes.emplace_back(storage::put{own_key, tables::encode(own)});
    else
      b.changes.emplace_back(storage::erase{own_key});
    b.preconditions.push_back({own_key, own_version});
    if (c.used.empty()) // a password: it must be the one in force
      b.preconditions.push_back({tables::account_key(*bare), c.account_version});
    store_.submit(std::move(b), [=, this](storage::outcome o) {
      if (o == storage::outcome::done) {
        if (issued)
          issued_->add();
        return then(issued);
      }
      if (o == storage::outcome::conflict && attempts > 1)
        return try_change(c, attempts - 1, then);
      then(base::fail(o == storage::outcome::conflict ? credentials_errc::changed : credentials_errc::unavailable));
    });
  });
}

} // namespace server
