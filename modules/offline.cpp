// XEP-0160 Best Practices for Handling Offline Messages 1.0.1, with the stamps of XEP-0203: what nobody
// takes now is kept, in order, and given to the first resource that is ready.
#include "modules/all.hpp"
#include "modules/stamp.hpp"
#include "storage/tables.hpp"
#include "xmpp/im/message_class.hpp"
#include <algorithm>
#include <optional>

namespace modules {

namespace {
namespace tables = storage::tables;
constexpr auto ns = "msgoffline";
constexpr std::size_t page = 64;              // messages read and delivered at once at login
constexpr std::size_t page_bytes = 32 * 1024; // or so much

/// Kept with the account while it is in memory.
struct mailbox {
  bool is_counted = false, is_counting = false;
  std::size_t messages = 0;
  std::uint64_t last_entry = 0; // order of entry, whatever the clock does
  std::vector<std::function<void(effects&)>> waiting; // for the count
};

class offline final : public module {
public:
  std::string_view name() const override { return "offline"; }
  std::vector<setting_key> keys() const override {
    using enum setting_type;
    return {{"quota", number, "1000", "Messages that are kept for one account."},
            {"keep", duration, "30d", "How long they are kept; 0s: for ever."}};
  }

  void start(registrar& reg) override {
    quota_ = static_cast<std::size_t>(reg.settings().number("quota"));
    keep_ = std::chrono::milliseconds{reg.settings().number("keep")};
    clock_ = &reg.around().clock;
    random_ = &reg.around().random;
    reg.feature(ns);
    reg.filter<message_undelivered>(stage::archive, [this](message_undelivered& ev) { return keep(ev); });
    reg.observe<session_ready>(stage::delivery, [this](session_ready& ev) { give(ev); });
    reg.observe<account_removed>(stage::archive, [](account_removed&) {}); // tables::erase_account has its rows
  }

private:
  mailbox& of(account_view& a) const {
    auto& s = a.state(this);
    if (!s.has_value())
      s = mailbox{};
    return *std::any_cast<mailbox>(&s);
  }

  verdict keep(message_undelivered& ev) {
    if (!xmpp::im::keepable(xmpp::im::facts_of(*ev.what)))
      return verdict::pass();
    auto& box = of(ev.account);
    auto store = [this, what = ev.what, &account = ev.account](effects& out) { put(what, account, out); };
    if (box.is_counted) {
      store(ev.out);
      return verdict::taken();
    }
    box.waiting.push_back(std::move(store));
    count(ev.account, ev.out);
    return verdict::taken();
  }

  /// How much is there already: once, when the first message comes.
  void count(account_view& account, effects& out) {
    auto& box = of(account);
    if (std::exchange(box.is_counting, true))
      return;
    out.load(tables::offline_of(*account.bare()), static_cast<std::uint32_t>(quota_ + 1), [this, &account](modules::rows r, effects& o) {
      auto& b = of(account);
      b.is_counting = false;
      if (r) {
        b.is_counted = true;
        b.messages = r->size();
      }
      for (auto& f : std::exchange(b.waiting, {}))
        f(o); // without a count the commit will say whether the store is there
    });
  }

  void put(const xmpp::stanza_ref& what, account_view& account, effects& out) {
    auto& box = of(account);
    if (box.messages >= quota_)
      return out.bounce(*what, {xmpp::stanza_errc::service_unavailable, xmpp::error_type::cancel,
                                "the mailbox of the receiver is full"});
    auto now = clock_->wall();
    auto us = now.time_since_epoch().count();
    box.last_entry = std::max(box.last_entry + 1, static_cast<std::uint64_t>(us));
    auto id = what->stanza_id ? what->stanza_id : base::u128{random_->number(), random_->number()};
    tables::offline_message m{xmpp::to_string(what), us,
                              keep_.count() ? us + std::chrono::duration_cast<std::chrono::microseconds>(keep_).count() : 0};
    storage::batch b;
    b.id = id;
    auto second = tables::offline_id_key(*account.bare(), id);
    b.changes.emplace_back(storage::put{tables::offline_key(*account.bare(), box.last_entry, id), tables::encode(m)});
    b.changes.emplace_back(storage::put{second, {}});
    b.preconditions.push_back({std::move(second), 0}); // the same message again is kept once
    ++box.messages;
    out.commit(std::move(b), [this, what, &account](storage::outcome o, effects& done) {
      if (o == storage::outcome::done)
        return done.complete(what->completion, outcome::stored);
      --of(account).messages;
      if (o == storage::outcome::conflict) // it is there already
        return done.complete(what->completion, outcome::stored);
      done.bounce(*what, {xmpp::stanza_errc::resource_constraint, xmpp::error_type::wait, "the message could not be stored"});
    });
  }

  /// What is kept comes before any other message to this session; IQs and presence do not wait.
  void give(session_ready& ev) {
    ev.account.hold_messages(ev.session);
    next_page(ev.session, ev.account, tables::offline_of(*ev.account.bare()), ev.out);
  }

  /// What of a page is under way: the next one is read when all of it has been written.
  struct progress {
    std::size_t open = 0;
    bool is_broken = false; // the session went: the rest stays for the next one
    std::optional<storage::key_range> rest;
  };

  void next_page(std::uint64_t session, account_view& account, storage::key_range range, effects& out) {
    auto until = range.until;
    out.load(std::move(range), page, [this, session, &account, until](modules::rows r, effects& o) {
      if (!r || r->empty())
        return account.release_messages(session, o);
      auto now = clock_->wall().time_since_epoch().count();
      auto on_page = std::make_shared<progress>();
      if (r->size() == page)
        on_page->rest = storage::key_range{r->back().key + '\0', until};
      std::size_t bytes = 0;
      for (auto& row : *r) {
        if (bytes > 0 && bytes + row.value.size() > page_bytes) { // a session has room for so much at once
          on_page->rest = storage::key_range{row.key, until};
          break;
        }
        if (deliver(session, account, row, now, on_page, o))
          bytes += row.value.size();
      }
      if (on_page->open == 0)
        go_on(session, account, *on_page, o);
    });
  }

  void go_on(std::uint64_t session, account_view& account, progress& p, effects& out) {
    if (p.rest && !p.is_broken)
      return next_page(session, account, *p.rest, out);
    account.release_messages(session, out);
  }

  /// False: it was not worth delivering.
  bool deliver(std::uint64_t session, account_view& account, const storage::row& row, std::int64_t now,
               const std::shared_ptr<progress>& on_page, effects& out) {
    auto m = tables::decode_offline(row);
    auto id = tables::stanza_id_of(row);
    auto s = m && !(m->expires_us && m->expires_us <= now) ? stamped(*m, account) : nullptr;
    if (!s) {
      forget(account, row.key, id, out);
      return false;
    }
    ++on_page->open;
    out.deliver(session, {std::move(s), {}}, [this, session, &account, on_page, key = row.key, id](outcome how, effects& o) {
      if (how == outcome::acknowledged) // written to its socket; else it stays for the next login
        forget(account, key, id, o);
      else
        on_page->is_broken = true;
      if (--on_page->open == 0)
        go_on(session, account, *on_page, o);
    });
    return true;
  }

  void forget(account_view& account, const std::string& key, base::u128 id, effects& out) {
    storage::batch b;
    b.changes.emplace_back(storage::erase{key});
    b.changes.emplace_back(storage::erase{tables::offline_id_key(*account.bare(), id)});
    b.durability = storage::durability::relaxed; // lost with a crash it comes twice, never not at all
    if (auto& box = of(account); box.messages > 0)
      --box.messages;
    out.commit(std::move(b));
  }

  /// The stanza with its delay, framed again: it was written by this server.
  static xmpp::stanza_ref stamped(const tables::offline_message& m, account_view& account) {
    auto close = m.stanza.rfind("</");
    if (close == std::string::npos)
      return nullptr;
    auto xml = m.stanza;
    xml.insert(close, delay(base::wall_time{std::chrono::microseconds{m.stored_us}}, account.bare()->domain()));
    xmpp::framer f;
    f.enter_stream(nullptr);
    if (f.run(xml) != xmpp::framer_event::element || f.position() != xml.size())
      return nullptr; // damaged on disk
    auto s = xmpp::stanza::make(f.result(), xml);
    auto from = xmpp::parse_jid(xmpp::decode_entities(s->raw_from()));
    if (!from)
      return nullptr;
    s->from = *from;
    s->to = account.bare();
    return s;
  }

  std::size_t quota_ = 0;
  std::chrono::milliseconds keep_{};
  const base::clock* clock_ = nullptr;
  base::random* random_ = nullptr;
};
} // namespace

std::unique_ptr<module> make_offline() { return std::make_unique<offline>(); }

} // namespace modules
