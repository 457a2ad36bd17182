// XEP-0160 Best Practices for Handling Offline Messages 1.0.1, with the stamps of XEP-0203: what nobody
// takes now is kept, in order, and given to the first resource that is ready.
#include "base/log.hpp"
#include "modules/all.hpp"
#include "xmpp/stamp.hpp"
#include "storage/tables.hpp"
#include "xmpp/im/message_class.hpp"
#include <algorithm>
#include <deque>
#include <optional>

namespace modules {

namespace {
namespace tables = storage::tables;
constexpr auto ns = "msgoffline";
constexpr std::size_t page = 64;              // messages read and delivered at once at login
constexpr std::size_t page_bytes = 32 * 1024; // or so much
constexpr std::size_t most_unerased = 1'000;  // of one account
constexpr std::size_t most_kept = 64;         // of one account
constexpr int most_tries = 10;                // each is as long as the store lets it wait

/// Kept with the account while it is in memory.
struct mailbox {
  bool is_counted = false, is_counting = false;
  std::size_t messages = 0, bytes = 0;
  std::uint64_t last_entry = 0; // order of entry, whatever the clock does
  std::vector<std::function<void(effects&)>> waiting; // for the count
  /// What nobody was there for is on its way to the store. Who comes meanwhile reads that behind it, not past it.
  std::size_t keeping = 0;
  struct reader { std::uint64_t session; std::size_t behind; };
  std::vector<reader> readers;
  struct coming { base::u128 id; bool is_settled = false; };
  std::vector<coming> coming; // to be written for a session, until it is
  /// A row that a session has been sent and not yet acknowledged, or that was kept because it had not.
  struct owned {
    base::u128 id;
    std::uint64_t entry; // 0: not known, somebody else wrote it
    std::uint64_t session;
    std::size_t bytes;
  };
  std::vector<owned> rows;
  /// A row of what nobody was there for, lately: it may have come to a session by another way, as its sender did not wait for the store.
  struct kept_row { base::u128 id; std::uint64_t entry; std::size_t bytes; };
  std::deque<kept_row> kept;
  /// Acknowledged, and its row may still be there: it is being erased, or the store was away.
  struct erased {
    std::string key; // empty: not known
    base::u128 id;
    int tries = 1;
    bool is_tried = true; // at this moment
  };
  std::vector<erased> unerased;
  /// Rows that went while scans were under way, which may still show them.
  std::vector<base::u128> gone;
  std::uint32_t scans = 0;
};

class offline final : public module {
public:
  std::string_view name() const override { return "offline"; }
  std::vector<setting_key> keys() const override {
    using enum setting_type;
    return {{"quota", number, "1000", "Messages that are kept for one account."},
            {"quota_size", size, "16 MB", "And so many bytes of them.", 1'024},
            {"keep", duration, "30d", "How long they are kept; 0s: for ever."}};
  }

  void start(registrar& reg) override {
    quota_ = static_cast<std::size_t>(reg.settings().number("quota"));
    quota_size_ = static_cast<std::size_t>(reg.settings().number("quota_size"));
    keep_ = std::chrono::milliseconds{reg.settings().number("keep")};
    clock_ = &reg.around().clock;
    random_ = &reg.around().random;
    reg.feature(ns);
    reg.filter<message_undelivered>(stage::archive, [this](message_undelivered& ev) { return keep(ev); });
    reg.filter<message_unacknowledged>(stage::archive, [this](message_unacknowledged& ev) { return spool(ev); });
    reg.observe<message_settled>(stage::archive, [this](message_settled& ev) { settle(ev); });
    reg.observe<session_ready>(stage::delivery, [this](session_ready& ev) { give(ev.session, ev.account, ev.out); });
    reg.observe<session_expects>(stage::delivery, [this](session_expects& ev) { look_whether_any(ev.session, ev.account, ev.out); });
    reg.observe<session_ended>(stage::delivery, [this](session_ended& ev) { pass_on(ev); });
  }

private:
  mailbox& of(account_view& a) const { return a.state_of<mailbox>(this); }

  // --- storing

  verdict keep(message_undelivered& ev) {
    if (!xmpp::im::keepable(xmpp::im::facts_of(*ev.what.what)))
      return verdict::pass();
    ++of(ev.account).keeping;
    store(ev.what, 0, ev.account, ev.out);
    return verdict::taken();
  }

  /// It is stored, or its sender knows that it is not.
  void end_keeping(account_view& account, effects& out) {
    auto& box = of(account);
    --box.keeping;
    for (auto& r : box.readers)
      --r.behind;
    for (auto& r : std::exchange(box.readers, {}))
      if (r.behind > 0)
        box.readers.push_back(r);
      else
        read_for(r.session, account, out);
  }

  /// For a session that is still there and whose client does not acknowledge: kept until it does.
  verdict spool(message_unacknowledged& ev) {
    if (!xmpp::im::keepable(xmpp::im::facts_of(*ev.what.what)))
      return verdict::pass();
    store(ev.what, ev.session, ev.account, ev.out);
    return verdict::taken();
  }

  void store(const xmpp::delivery& what, std::uint64_t owner, account_view& account, effects& out) {
    constexpr std::size_t most_waiting = 1'000;
    auto& box = of(account);
    if (owner)
      box.coming.push_back({what.what->stanza_id});
    if (box.is_counted)
      return put(what, owner, account, out);
    if (box.waiting.size() >= most_waiting)
      return failed(what, owner, account, out, {xmpp::stanza_errc::resource_constraint, xmpp::error_type::wait, {}});
    box.waiting.push_back([this, what, owner, &account](effects& o) { put(what, owner, account, o); });
    count(account, out);
  }

  /// How much is there already: once, when the first message comes. Only the second keys are read.
  void count(account_view& account, effects& out) {
    auto& box = of(account);
    if (std::exchange(box.is_counting, true))
      return;
    out.load(tables::offline_ids_of(*account.bare()), static_cast<std::uint32_t>(quota_ + 1), [this, &account](modules::rows r, effects& o) {
      auto& b = of(account);
      b.is_counting = false;
      if (r) {
        b.is_counted = true;
        b.messages = r->size();
        for (auto& row : *r)
          b.bytes += tables::offline_bytes_of(row);
      }
      for (auto& f : std::exchange(b.waiting, {}))
        f(o); // without a count the commit will say whether the store is there
    });
  }

  [[nodiscard]] bool has_room(const mailbox& box, const xmpp::stanza& s) const {
    return box.messages < quota_ && box.bytes + s.bytes().size() <= quota_size_;
  }

  void put(const xmpp::delivery& what, std::uint64_t owner, account_view& account, effects& out) {
    auto& box = of(account);
    if (!has_room(box, *what.what))
      return make_room(what, owner, account, out);
    insert(what, owner, account, out);
  }

  /// The mailbox is full: what has expired goes first.
  void make_room(const xmpp::delivery& what, std::uint64_t owner, account_view& account, effects& out) {
    out.load(tables::offline_of(*account.bare()), page, [this, what, owner, &account](modules::rows r, effects& o) {
      auto now = clock_->wall().time_since_epoch().count();
      if (r)
        for (auto& row : *r)
          if (auto m = tables::decode_offline(row); m && m->expires_us && m->expires_us <= now)
            forget(account, row.key, tables::stanza_id_of(row), m->stanza.size(), o);
      if (has_room(of(account), *what.what))
        return insert(what, owner, account, o);
      failed(what, owner, account, o, {xmpp::stanza_errc::service_unavailable, xmpp::error_type::cancel, "the mailbox of the receiver is full"});
    });
  }

  void insert(const xmpp::delivery& what, std::uint64_t owner, account_view& account, effects& out) {
    auto& box = of(account);
    if (owner && is_settled(box, what.what->stanza_id)) { // its client was faster
      (void)take_coming(box, what.what->stanza_id, owner);
      return out.complete(what.what->completion, outcome::acknowledged);
    }
    auto now = clock_->wall();
    auto us = now.time_since_epoch().count();
    box.last_entry = std::max(box.last_entry + 1, static_cast<std::uint64_t>(us));
    auto id = what.what->stanza_id ? what.what->stanza_id : base::u128{random_->number(), random_->number()};
    tables::offline_message m{xmpp::to_string(what.what), what.delayed_us ? what.delayed_us : us,
                              keep_.count() ? us + std::chrono::duration_cast<std::chrono::microseconds>(keep_).count() : 0};
    storage::batch b;
    b.id = id;
    auto second = tables::offline_id_key(*account.bare(), id);
    b.changes.emplace_back(storage::put{tables::offline_key(*account.bare(), box.last_entry, id), tables::encode(m)});
    b.changes.emplace_back(storage::put{second, tables::encode_offline_id(m.stanza.size())});
    b.preconditions.push_back({std::move(second), 0}); // the same message again is kept once
    auto bytes = m.stanza.size();
    ++box.messages;
    box.bytes += bytes;
    // an ack may overtake the commit: what is erased then is erased behind it; the same message again leaves the first one's row
    bool is_first = owner && std::ranges::find(box.rows, id, &mailbox::owned::id) == box.rows.end();
    if (is_first)
      box.rows.push_back({id, box.last_entry, owner, bytes});
    out.commit(std::move(b), [this, what, owner, id, bytes, is_first, entry = box.last_entry, &account](storage::outcome o, effects& done) {
      if (o == storage::outcome::done || o == storage::outcome::conflict)
        (void)take_coming(of(account), what.what->stanza_id, owner);
      if (o == storage::outcome::done) {
        for (auto& r : of(account).rows)
          if (r.id == id)
            r.entry = entry; // of the attempt that was done
        if (!owner)
          note_kept(account, {id, entry, bytes}, done);
        return stored(what, owner, account, done);
      }
      uncount(of(account), bytes);
      if (o == storage::outcome::conflict) { // it is there already
        if (is_first)
          written_by_another(account, id, done);
        return stored(what, owner, account, done);
      }
      if (is_first && o != storage::outcome::unknown) // else it may be there, under this key
        disown(account, id);
      failed(what, owner, account, done, {xmpp::stanza_errc::resource_constraint, xmpp::error_type::wait, "the message could not be stored"});
    });
  }

  void stored(const xmpp::delivery& what, std::uint64_t owner, account_view& account, effects& out) {
    out.complete(what.what->completion, outcome::stored);
    if (!owner)
      end_keeping(account, out);
  }

  void note_kept(account_view& account, const mailbox::kept_row& row, effects& out) {
    if (account.has_arrived(row.id)) // while it was being written
      return forget(account, tables::offline_key(*account.bare(), row.entry, row.id), row.id, row.bytes, out);
    auto& all = of(account).kept;
    if (all.size() >= most_kept)
      all.pop_front();
    all.push_back(row);
  }

  /// Nobody knows under which key. It may have been acknowledged meanwhile.
  void written_by_another(account_view& account, base::u128 id, effects& out) {
    auto& box = of(account);
    if (auto o = std::ranges::find(box.rows, id, &mailbox::owned::id); o != box.rows.end())
      o->entry = 0;
    else if (std::erase_if(box.unerased, [&](auto& u) { return u.id == id; }) > 0)
      look_for({id}, account, out);
  }

  /// Without a session that still tries to deliver it, its sender hears of it; unless its client has it meanwhile.
  void failed(const xmpp::delivery& what, std::uint64_t owner, account_view& account, effects& out, const xmpp::stanza_error& why) {
    if (!owner) {
      out.bounce(*what.what, why);
      return end_keeping(account, out);
    }
    if (take_coming(of(account), what.what->stanza_id, owner))
      return out.complete(what.what->completion, outcome::acknowledged);
    if (is_live(account, owner))
      return out.unspooled(owner, what);
    out.route({what.what, {}, {}, false, false, false, true, what.delayed_us});
  }

  // --- giving

  static bool is_live(account_view& account, std::uint64_t session) {
    return std::ranges::any_of(account.sessions(), [&](auto& s) { return s.id == session; });
  }

  /// What is kept comes before any other message to this session; IQs and presence do not wait.
  void give(std::uint64_t session, account_view& account, effects& out) {
    account.hold_messages(session);
    if (auto& box = of(account); box.keeping > 0)
      return box.readers.push_back({session, box.keeping});
    read_for(session, account, out);
  }

  /// What is just being stored here counts, too; where it cannot be read there may be some.
  void look_whether_any(std::uint64_t session, account_view& account, effects& out) {
    out.load(tables::offline_of(*account.bare()), 1, [this, session, &account](modules::rows r, effects& o) {
      if (r && r->empty() && of(account).keeping == 0)
        account.expect_nothing(session, o);
    });
  }

  void read_for(std::uint64_t session, account_view& account, effects& out) {
    next_page(session, account, tables::offline_of(*account.bare()), out);
  }

  /// What of a page is under way: the next one is read when all of it has been acknowledged.
  struct progress {
    std::size_t open = 0;
    bool is_broken = false; // the session went: the rest stays for the next one
    std::optional<storage::key_range> rest;
  };

  void next_page(std::uint64_t session, account_view& account, storage::key_range range, effects& out) {
    auto until = range.until;
    ++of(account).scans;
    out.load(std::move(range), page, [this, session, &account, until](modules::rows r, effects& o) {
      auto& box = of(account);
      --box.scans;
      if (!r || r->empty()) {
        tidy(box);
        return account.release_messages(session, o);
      }
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
      tidy(box);
      if (on_page->open == 0)
        go_on(session, account, *on_page, o);
    });
  }

  void go_on(std::uint64_t session, account_view& account, progress& p, effects& out) {
    if (p.rest && !p.is_broken)
      return next_page(session, account, *p.rest, out);
    account.release_messages(session, out);
  }

  /// False: it was not worth delivering, or somebody has it.
  bool deliver(std::uint64_t session, account_view& account, const storage::row& row, std::int64_t now,
               const std::shared_ptr<progress>& on_page, effects& out) {
    auto& box = of(account);
    auto id = tables::stanza_id_of(row);
    auto owner = std::ranges::find_if(box.rows, [&](auto& o) { return o.id == id; });
    if ((owner != box.rows.end() && is_live(account, owner->session)) || std::ranges::find(box.gone, id) != box.gone.end())
      return false;
    if (auto u = std::ranges::find(box.unerased, id, &mailbox::erased::id); u != box.unerased.end()) {
      u->key = row.key;
      if (!u->is_tried)
        erase(account, *u, out);
      return false;
    }
    auto m = tables::decode_offline(row);
    if (m && ((m->expires_us && m->expires_us <= now) || account.has_arrived(id))) { // the second: it was stored for one of several sessions
      forget(account, row.key, id, m->stanza.size(), out);
      return false;
    }
    auto s = m ? stamped(*m, account) : nullptr;
    if (!s) { // it stays: somebody may still read it
      base::log::error("offline.damaged", "a stored message is not what was written; it is not delivered",
                       {{"jid", account.bare()->bare()}, {"entry", std::to_string(tables::entry_of(row))}});
      return false;
    }
    s->stanza_id = id; // should its sender send it again
    if (owner != box.rows.end())
      owner->session = session;
    else
      box.rows.push_back({id, tables::entry_of(row), session, m->stanza.size()});
    ++on_page->open;
    out.deliver(session, {std::move(s), {}, {}, false, false, true, true}, [this, session, &account, on_page, key = row.key, id, bytes = m->stanza.size()](outcome how, effects& o) {
      if (how == outcome::acknowledged) { // written to a socket that cannot say more; else it stays for the next login
        forget(account, key, id, bytes, o);
      } else {
        disown(account, id);
        on_page->is_broken = true;
      }
      if (--on_page->open == 0)
        go_on(session, account, *on_page, o);
    });
    return true;
  }

  /// Acknowledged after all.
  void settle(message_settled& ev) {
    auto& box = of(ev.account);
    std::vector<base::u128> unknown;
    for (auto& id : ev.stanza_ids) {
      auto o = std::ranges::find(box.rows, id, &mailbox::owned::id);
      bool is_coming = false; // once for each session that asked
      for (auto& c : box.coming)
        if (c.id == id)
          is_coming = c.is_settled = true;
      auto k = std::ranges::find(box.kept, id, &mailbox::kept_row::id);
      if (o == box.rows.end() && k != box.kept.end()) {
        forget(ev.account, tables::offline_key(*ev.account.bare(), k->entry, id), id, k->bytes, ev.out);
      } else if (o == box.rows.end()) {
        if (ev.has_begun_anew && !is_coming)
          unknown.push_back(id);
      } else if (o->entry == 0) {
        disown(ev.account, id);
        unknown.push_back(id);
      } else // whoever of its sessions said so: the message has arrived
        forget(ev.account, tables::offline_key(*ev.account.bare(), o->entry, id), id, o->bytes, ev.out);
    }
    if (!unknown.empty())
      look_for(std::move(unknown), ev.account, ev.out);
  }

  /// Rows that were kept before this account started again, here or on another node.
  void look_for(std::vector<base::u128> ids, account_view& account, effects& out) {
    auto& late = of(account).unerased;
    auto before = late.size();
    for (auto& id : ids)
      if (std::ranges::find(late, id, &mailbox::erased::id) == late.end() && late.size() < most_unerased)
        late.push_back({{}, id});
    if (late.size() > before)
      find_unerased(account, out);
  }

  void find_unerased(account_view& account, effects& out) {
    out.load(tables::offline_of(*account.bare()), static_cast<std::uint32_t>(quota_ + 1), [this, &account](modules::rows r, effects& o) {
      auto& late = of(account).unerased;
      if (!r) {
        bool is_worth_it = false;
        for (auto& u : late)
          if (u.key.empty())
            is_worth_it |= u.is_tried = ++u.tries < most_tries;
        return is_worth_it ? find_unerased(account, o) : void();
      }
      auto gone = std::exchange(late, {});
      for (auto& u : gone)
        if (!u.key.empty())
          late.push_back(std::move(u));
      for (auto& row : *r)
        if (auto u = std::ranges::find_if(gone, [&](auto& g) { return g.key.empty() && g.id == tables::stanza_id_of(row); }); u != gone.end())
          if (auto m = tables::decode_offline(row))
            forget(account, row.key, u->id, m->stanza.size(), o);
    });
  }

  /// A session has ended: what it had not acknowledged is for another one that is ready, now.
  void pass_on(session_ended& ev) {
    auto& box = of(ev.account);
    if (std::erase_if(box.rows, [&](auto& o) { return o.session == ev.session.id; }) == 0)
      return;
    for (auto& s : ev.account.sessions())
      if (s.is_available && s.priority >= 0)
        return give(s.id, ev.account, ev.out);
  }

  /// What was to be written; true: it has been acknowledged meanwhile, and need not be.
  static bool take_coming(mailbox& box, base::u128 id, std::uint64_t owner) {
    auto c = std::ranges::find(box.coming, id, &mailbox::coming::id);
    if (!owner || c == box.coming.end())
      return false;
    auto is_settled = c->is_settled;
    box.coming.erase(c);
    return is_settled;
  }
  static bool is_settled(const mailbox& box, base::u128 id) {
    return std::ranges::any_of(box.coming, [&](auto& c) { return c.id == id && c.is_settled; });
  }
  void disown(account_view& account, base::u128 id) const {
    std::erase_if(of(account).rows, [&](auto& o) { return o.id == id; });
  }
  static void uncount(mailbox& box, std::size_t bytes) {
    box.messages -= std::min<std::size_t>(box.messages, 1);
    box.bytes -= std::min(box.bytes, bytes);
  }
  static void tidy(mailbox& box) {
    if (box.scans == 0)
      box.gone.clear();
  }

  void forget(account_view& account, const std::string& key, base::u128 id, std::size_t bytes, effects& out) {
    auto& box = of(account);
    bool is_counted = bytes > 0 && std::ranges::find(box.unerased, id, &mailbox::erased::id) == box.unerased.end(); // else that has been done
    if (is_counted)
      uncount(box, bytes);
    disown(account, id);
    std::erase_if(box.kept, [&](auto& k) { return k.id == id; });
    if (box.scans > 0)
      box.gone.push_back(id);
    mailbox::erased u{key, id};
    bool is_known = std::ranges::any_of(box.unerased, [&](auto& other) { return other.id == id && other.key == key; });
    if (!is_known && box.unerased.size() < most_unerased)
      box.unerased.push_back(u);
    erase(account, u, out);
  }

  /// Tried again for a while, and whenever the store is seen to be back.
  void erase(account_view& account, mailbox::erased& u, effects& out) {
    u.is_tried = true;
    storage::batch b;
    b.changes.emplace_back(storage::erase{u.key});
    b.changes.emplace_back(storage::erase{tables::offline_id_key(*account.bare(), u.id)});
    b.durability = storage::durability::relaxed; // lost with a crash it comes twice, never not at all
    out.commit(std::move(b), [this, id = u.id, key = u.key, &account](storage::outcome how, effects& o) {
      auto& late = of(account).unerased;
      auto it = std::ranges::find_if(late, [&](auto& l) { return l.id == id && l.key == key; });
      if (how != storage::outcome::done) {
        if (it == late.end())
          return;
        it->is_tried = ++it->tries < most_tries;
        return it->is_tried ? erase(account, *it, o) : void();
      }
      if (it != late.end())
        late.erase(it);
      bool are_some_not_found = false;
      for (auto& other : late) {
        if (other.is_tried)
          continue;
        other.tries = 0;
        if (other.key.empty())
          are_some_not_found = other.is_tried = true;
        else
          erase(account, other, o);
      }
      if (are_some_not_found)
        find_unerased(account, o);
    });
  }

  /// The stanza with its delay, framed again: it was written by this server.
  static xmpp::stanza_ref stamped(const tables::offline_message& m, account_view& account) {
    auto close = m.stanza.rfind("</");
    if (close == std::string::npos)
      return nullptr;
    auto xml = m.stanza;
    xml.insert(close, xmpp::delay(base::wall_time{std::chrono::microseconds{m.stored_us}}, account.bare()->domain()));
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

  std::size_t quota_ = 0, quota_size_ = 0;
  std::chrono::milliseconds keep_{};
  const base::clock* clock_ = nullptr;
  base::random* random_ = nullptr;
};
} // namespace

std::unique_ptr<module> make_offline() { return std::make_unique<offline>(); }

} // namespace modules
