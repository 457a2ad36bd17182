// What is read becomes rows; the account's own row comes last.
#include "base/clock.hpp"
#include "server/accounts.hpp"
#include "server/runner.hpp"
#include "server/transfer/sections.hpp"
#include "server/transfer/transfer.hpp"
#include "xmpp/sasl/anonymous.hpp"
#include "xmpp/sasl/scram_keys.hpp"
#include <condition_variable>

namespace server::transfer {

namespace tables = storage::tables;
using storage::outcome;

namespace {
constexpr std::size_t most_mistakes = 100, most_kinds = 100, most_in_flight = 256, batch_rows = 256;

/// Batches that are committed together, as many as there are; waits for all of them.
class group {
public:
  explicit group(storage::store& s) : store_(s) {}
  ~group() { wait(); }
  void submit(storage::batch b) {
    std::unique_lock guard{mutex_};
    changed_.wait(guard, [&] { return open_ < most_in_flight; });
    ++open_;
    guard.unlock();
    store_.submit(std::move(b), [this](outcome o) {
      std::lock_guard inner{mutex_};
      --open_;
      done_ += o == outcome::done;
      failed_ += o != outcome::done && o != outcome::conflict;
      changed_.notify_all();
    });
  }
  /// False: some have failed. A conflict is none: it is there already.
  bool wait() {
    std::unique_lock guard{mutex_};
    changed_.wait(guard, [&] { return open_ == 0; });
    return failed_ == 0;
  }
  [[nodiscard]] std::size_t done() const { return done_; }

private:
  storage::store& store_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t open_ = 0, done_ = 0, failed_ = 0;
};
} // namespace

struct importer::impl final : reader::target {
  runner& server;
  reader in{*this};
  import_summary summary;
  std::string host;                 // empty: the one that is read is not served
  std::optional<incoming> user;
  std::string password;
  std::uint64_t user_line = 0;
  bool has_new_rows = false;
  std::optional<mistake> fatal;     // of the storage
  base::secure_random random;

  explicit impl(runner& r) : server(r) {}

  void complain(std::uint64_t line, std::string text) {
    ++summary.all_mistakes;
    if (summary.mistakes.size() < most_mistakes)
      summary.mistakes.push_back({line, std::move(text)});
  }

  void on_host(const xmpp::element& start, std::uint64_t line) override {
    std::string name{start.attr_or("jid", {})};
    auto j = xmpp::parse_jid(name);
    host = j && (*j)->is_domain() && server.accounts_of((*j)->domain()) ? std::string{(*j)->domain()} : std::string{};
    if (host.empty())
      complain(line, '"' + name + "\" is no host of this server; nothing of it is read. covey host add " + name);
  }

  void on_user(const xmpp::element& start, std::uint64_t line) override {
    user.reset();
    if (host.empty())
      return;
    std::string name{start.attr_or("name", {})};
    auto jid = xmpp::make_jid(name, host);
    if (!jid || (*jid)->is_domain())
      return complain(line, '"' + name + "\" is no name of an account");
    auto* accounts = server.accounts_of(host);
    if (accounts && accounts->settings().has_strangers && (*jid)->local().starts_with(xmpp::sasl::anonymous_prefix))
      return complain(line, '"' + name + "\" is a name that ANONYMOUS gives to strangers");
    user = incoming{};
    user->jid = *jid;
    auto now = server.settings();
    for (auto& h : now->hosts)
      if (h.domain == host)
        user->most_contacts = h.max_roster;
    password = start.attr_or("password", {});
    user_line = line;
  }

  void on_child(const xmpp::element& child, std::string_view xml, std::uint64_t line) override {
    if (!user)
      return;
    for (auto& s : sections()) {
      bool is_stanza = s.ns == "jabber:client" && child.ns() == pie_ns; // some leave its namespace out
      if (child.name() != s.name || (child.ns() != s.ns && !is_stanza))
        continue;
      if (auto ok = s.read(*user, child, xml); !ok)
        complain(line, std::string{user->jid->full()} + ": " + ok.error());
      if (user->batches.size() >= most_in_flight)
        write_messages();
      return;
    }
    on_unknown(child, line);
  }

  void on_unknown(const xmpp::element& what, std::uint64_t line) override {
    if (what.ns() == "http://www.w3.org/2001/XInclude")
      return complain(line, "an XInclude: put the files together first (xmllint --xinclude)");
    auto kind = "<" + std::string{what.name()} + " xmlns='" + std::string{what.ns()} + "'>";
    if (summary.skipped.size() < most_kinds || summary.skipped.contains(kind))
      ++summary.skipped[kind];
  }

  void write_messages() {
    group g{*server.store_of(host)};
    for (auto& b : std::exchange(user->batches, {}))
      g.submit(std::move(b));
    if (!g.wait())
      fatal = mistake{user_line, "the storage failed at " + std::string{user->jid->full()}};
    summary.messages += g.done();
  }

  void on_user_end() override {
    if (!user || fatal)
      return;
    write_messages();
    write_roster();
    if (!fatal)
      write_account();
    user.reset();
    base::crypto::wipe(password);
  }

  void write_roster() {
    has_new_rows = !user->roster.empty() || !user->changes.empty();
    auto& store = *server.store_of(host);
    {
      group g{store};
      storage::batch b;
      b.changes = std::move(user->changes);
      for (auto& [contact, row] : user->roster) {
        b.changes.emplace_back(storage::put{tables::roster_key(*user->jid, *row.item.contact), tables::encode(row)});
        if (b.changes.size() >= batch_rows)
          g.submit(std::exchange(b, {}));
      }
      if (!b.changes.empty())
        g.submit(std::move(b));
      if (!g.wait())
        fatal = mistake{user_line, "the storage failed at " + std::string{user->jid->full()}};
    }
    summary.contacts += user->roster.size();
    if (!user->roster.empty() && !fatal && !raise_version(store))
      fatal = mistake{user_line, "the storage failed at " + std::string{user->jid->full()}};
  }

  /// Of the roster: whoever has it in memory, or has an older one, reads it again.
  bool raise_version(storage::store& store) {
    constexpr int attempts = 5;
    auto key = tables::head_key(*user->jid);
    for (int i = 0; i < attempts; ++i) {
      auto row = store.blocking().get(key);
      if (!row)
        return false;
      tables::head head;
      if (*row)
        head = tables::decode_head(**row).value_or(tables::head{});
      ++head.roster_version;
      storage::batch b;
      b.changes.emplace_back(storage::put{key, tables::encode(head)});
      b.preconditions.push_back({key, *row ? (*row)->version : 0});
      group g{store};
      g.submit(std::move(b));
      if (!g.wait())
        return false;
      if (g.done() == 1)
        return true;
    }
    return false;
  }

  static bool has_keys(const tables::account& a) { return a.sha1 || a.sha256 || a.sha512; }

  void make_keys(tables::account& a, const account_settings& s) {
    for (auto h : s.hashes) {
      std::string salt(xmpp::sasl::salt_size, '\0');
      random.fill({reinterpret_cast<std::uint8_t*>(salt.data()), salt.size()});
      auto keys = xmpp::sasl::make_scram_keys(h, password, salt, s.iterations);
      if (!keys)
        return complain(user_line, std::string{user->jid->full()} + ": a password that cannot be used; set another one with covey user password");
      a.keys(h) = std::move(*keys);
    }
  }

  void write_account() {
    auto& store = *server.store_of(host);
    auto& a = user->account;
    auto* accounts = server.accounts_of(host);
    if (!accounts) // the host was removed meanwhile
      return complain(user_line, host + " is not served any more");
    if (!password.empty() && !has_keys(a))
      make_keys(a, accounts->settings());
    a.created_us = base::system_clock{}.wall().time_since_epoch().count();
    storage::batch b;
    auto key = tables::account_key(*user->jid);
    b.changes.emplace_back(storage::put{key, tables::encode(a)});
    b.preconditions.push_back({key, 0});
    group g{store};
    g.submit(std::move(b));
    if (!g.wait())
      fatal = mistake{user_line, "the storage failed at " + std::string{user->jid->full()}};
    bool is_new = g.done() == 1;
    (is_new ? summary.users : summary.existed) += fatal ? 0 : 1;
    summary.without_password += is_new && !has_keys(a);
    summary.only_sha1 += is_new && a.sha1 && !a.sha256 && !a.sha512;
    if (is_new || has_new_rows)
      accounts->has_changed(user->jid);
  }
};

importer::importer(runner& r) : impl_(std::make_unique<impl>(r)) {}
importer::~importer() = default;
const import_summary& importer::summary() const { return impl_->summary; }

base::result<void, mistake> importer::feed(std::string_view bytes) {
  auto ok = impl_->in.feed(bytes);
  if (impl_->fatal)
    return base::fail(*impl_->fatal);
  return ok;
}

base::result<void, mistake> importer::end() { return impl_->in.end(); }

} // namespace server::transfer
