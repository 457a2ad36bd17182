// Unsolicited messages (XEP-0159 names the problem): who is not a contact reaches nobody until it is one. Off by default.
#include "base/bytes.hpp"
#include "modules/all.hpp"
#include <algorithm>
#include <array>
#include <boost/unordered/unordered_flat_set.hpp>
#include <mutex>

namespace modules {

namespace {
using xmpp::stanza_kind;
using xmpp::stanza_type;

/// Whom the users of one host have written to: each pair for at least `life`, sooner forgotten when there are very many.
/// Bounded; any thread. Not kept over a restart.
class correspondence {
public:
  explicit correspondence(base::duration life) : life_(life) {}

  void note(const xmpp::jid& own, const xmpp::jid& other, base::time_point now) {
    auto pair = pair_of(own, other);
    auto& s = shards_[pair >> 60];
    std::lock_guard guard{s.mutex};
    rotate(s, now);
    s.now.insert(pair);
  }
  [[nodiscard]] bool contains(const xmpp::jid& own, const xmpp::jid& other, base::time_point now) {
    auto pair = pair_of(own, other);
    auto& s = shards_[pair >> 60];
    std::lock_guard guard{s.mutex};
    rotate(s, now);
    return s.now.contains(pair) || s.before.contains(pair);
  }

private:
  static constexpr std::size_t most_per_shard = 8'192; // of each generation: 16 shards are 4 MB at most
  struct shard {
    std::mutex mutex;
    base::time_point since{};
    boost::unordered_flat_set<std::uint64_t> now, before; // generations
  };
  /// Of the hashes of the bare JIDs, which are seeded: nobody can choose them.
  static std::uint64_t pair_of(const xmpp::jid& own, const xmpp::jid& other) {
    std::string both;
    base::put_be64(both, own.hash());
    base::put_be64(both, other.hash());
    return base::hash_bytes(both);
  }
  void rotate(shard& s, base::time_point now) const {
    if (now - s.since < life_ && s.now.size() < most_per_shard)
      return;
    bool is_old = now - s.since >= 2 * life_;
    s.before = is_old ? decltype(s.before){} : std::move(s.now);
    s.now = {};
    s.since = now;
  }

  base::duration life_;
  std::array<shard, 16> shards_;
};

class unsolicited final : public module {
public:
  std::string_view name() const override { return "unsolicited"; }
  bool is_on_by_default() const override { return false; }
  std::vector<setting_key> keys() const override {
    return {{"remember", setting_type::duration, "7d", "Whom a user has written to may answer for so long.", 1'000}};
  }

  void start(registrar& reg) override {
    auto known = std::make_shared<correspondence>(std::chrono::milliseconds{reg.settings().number("remember")});
    auto& clock = reg.around().clock;
    reg.needs_roster();
    reg.filter<stanza_received>(stage::privacy, [known, &clock](stanza_received& ev) {
      auto& s = *ev.what.what;
      if (s.kind() != stanza_kind::message || is_expected(s) || is_known(*s.from, ev.account)
          || known->contains(*ev.account.bare(), *s.from, clock.now()))
        return verdict::pass();
      return verdict::refuse(xmpp::stanza_errc::service_unavailable); // as from who does not exist
    });
    // Directed presence counts: who enters a room wants its private messages.
    reg.observe<stanza_entered>(stage::late, [known, &clock](stanza_entered& ev) {
      bool is_said = (ev.what.kind() == stanza_kind::message && ev.what.type() != stanza_type::error)
                     || (ev.what.kind() == stanza_kind::presence && ev.what.type() == stanza_type::available);
      if (is_said && !same_bare(*ev.what.to, *ev.sender))
        known->note(*ev.sender, *ev.what.to, clock.now());
    });
  }

private:
  /// Errors answer something; a room sends only to who entered it.
  static bool is_expected(const xmpp::stanza& s) { return s.type() == stanza_type::error || s.type() == stanza_type::groupchat; }
  static bool is_known(const xmpp::jid& from, account_view& account) {
    auto& admins = account.host().admins;
    return same_bare(from, *account.bare()) || from.full() == account.bare()->domain() || account.knows(from)
           || std::find(admins.begin(), admins.end(), from.bare()) != admins.end();
  }
};
} // namespace

std::unique_ptr<module> make_unsolicited() { return std::make_unique<unsolicited>(); }

} // namespace modules
