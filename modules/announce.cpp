// The announce address of a host: what one of its administrators sends to announce@host goes to everyone
// online. The smallest service there is: an entity of its own behind one address.
#include "modules/all.hpp"
#include "modules/disco.hpp"
#include "storage/tables.hpp"
#include <algorithm>
#include <deque>

namespace modules {

namespace {
constexpr auto local_part = "announce";
constexpr auto name_for_people = "Announcements";

/// Each announcement is a row before anybody hears of it: who said what to everybody is known afterwards, and where several
/// nodes serve the host, only one that owns this address can write it (cluster/leases.hpp).
class announcer final : public entity_machine {
public:
  announcer(const host_view& host, const base::clock& clock, base::random& random, std::uint32_t kept)
    : host_(host), clock_(clock), random_(random), kept_(kept) {}

  void step(entity_event& ev, base::time_point, effects& out) override {
    if (auto* in = std::get_if<event::stanza>(&ev))
      on_stanza(in->what.what, out);
  }
  bool is_idle() const override { return waiting_.empty(); }
  std::vector<xmpp::delivery> take_held() override {
    std::vector<xmpp::delivery> all;
    for (auto& s : std::exchange(waiting_, {}))
      all.push_back({s, {}});
    return all;
  }

private:
  static constexpr std::size_t most_waiting = 64;
  static constexpr int most_attempts = 5;

  void on_stanza(const xmpp::stanza_ref& what, effects& out) {
    using xmpp::stanza_errc;
    const auto& s = *what;
    if (s.kind() == xmpp::stanza_kind::presence || s.type() == xmpp::stanza_type::error
        || s.type() == xmpp::stanza_type::result)
      return out.complete(s.completion, outcome::refused);
    if (s.kind() == xmpp::stanza_kind::iq)
      return on_iq(s, out);
    if (std::find(host_.admins.begin(), host_.admins.end(), s.from->bare()) == host_.admins.end())
      return out.bounce(s, stanza_errc::forbidden);
    xmpp::document parser;
    if (parser.parse(s.bytes()).child("body", "jabber:client").text().empty())
      return out.bounce(s, stanza_errc::bad_request);
    if (waiting_.size() >= most_waiting)
      return out.bounce(s, {stanza_errc::resource_constraint, xmpp::error_type::wait, "too many announcements wait"});
    waiting_.push_back(what);
    if (waiting_.size() == 1)
      write(0, out);
  }

  /// The first of those that wait, under the next number. One whose outcome was lost, and that comes again, has one.
  void write(int attempts, effects& out) {
    if (auto id = waiting_.front()->stanza_id; id && std::ranges::find(written_, id) != written_.end())
      return tell(read(*waiting_.front()), out);
    if (last_)
      return commit(attempts, out);
    out.load(storage::tables::announcements_of(host_.domain->domain()), 1, [this, attempts](rows r, effects& o) {
      if (!r)
        return fail(o);
      last_ = r->empty() ? 0 : storage::tables::announcement_number_of(r->front());
      commit(attempts, o);
    }, storage::order::reverse);
  }

  storage::tables::announcement read(const xmpp::stanza& s) const {
    xmpp::document parser;
    auto root = parser.parse(s.bytes());
    return {std::string{s.from->bare()}, root.child("subject", "jabber:client").text(), root.child("body", "jabber:client").text(),
            clock_.wall().time_since_epoch().count()};
  }

  void commit(int attempts, effects& out) {
    namespace tables = storage::tables;
    auto a = read(*waiting_.front());
    auto number = *last_ + 1;
    auto domain = host_.domain->domain();
    auto key = tables::announcement_key(domain, number);
    storage::batch b{{random_.number(), random_.number()}, {storage::put{key, tables::encode(a)}}, {{key, 0}}, storage::durability::durable};
    if (number > kept_)
      b.changes.emplace_back(storage::erase_range{tables::announcements_of(domain).from, tables::announcement_key(domain, number - kept_ + 1)});
    out.commit(std::move(b), [this, a, number, attempts](storage::outcome how, effects& o) {
      if (how == storage::outcome::conflict && attempts + 1 < most_attempts) {
        last_ = std::nullopt; // another owner of this address has written meanwhile
        return write(attempts + 1, o);
      }
      if (how != storage::outcome::done) {
        last_ = std::nullopt;
        return fail(o);
      }
      last_ = number;
      written_.push_back(waiting_.front()->stanza_id);
      if (written_.size() > most_waiting)
        written_.pop_front();
      tell(a, o);
    });
  }

  void tell(const storage::tables::announcement& a, effects& out) {
    auto asked = std::move(waiting_.front());
    waiting_.pop_front();
    xmpp::writer w; // in the host's name: who sent it is the host's business
    w.open("message").attr("type", "headline");
    if (!a.subject.empty())
      w.leaf("subject", a.subject);
    w.leaf("body", a.body).close();
    auto message = xmpp::stanza::from_xml(w.take());
    message->from = host_.domain;
    message->to = host_.domain; // each receiver's own address replaces it
    message->stanza_id = asked->stanza_id; // not written; told once more, by this owner or the next, it is known
    out.broadcast(std::string{host_.domain->domain()}, std::move(message));
    out.complete(asked->completion, outcome::acknowledged);
    go_on(out);
  }

  void fail(effects& out) {
    auto asked = std::move(waiting_.front());
    waiting_.pop_front();
    out.bounce(*asked, {xmpp::stanza_errc::resource_constraint, xmpp::error_type::wait, "the announcement could not be kept, and nobody was told"});
    go_on(out);
  }

  void go_on(effects& out) {
    if (!waiting_.empty())
      write(0, out);
  }

  static void on_iq(const xmpp::stanza& s, effects& out) {
    auto answer = answer_disco(s, {"component", "generic", name_for_people});
    if (!answer)
      return out.bounce(s, xmpp::stanza_errc::service_unavailable);
    out.route({std::move(answer), {}});
    out.complete(s.completion, outcome::acknowledged);
  }

  const host_view& host_;
  const base::clock& clock_;
  base::random& random_;
  const std::uint32_t kept_;
  std::deque<xmpp::stanza_ref> waiting_; // the first is being written
  std::optional<std::uint64_t> last_;    // number, as far as it is known
  std::deque<base::u128> written_;       // ids of the last ones
};

class announce final : public module {
public:
  std::string_view name() const override { return "announce"; }
  std::vector<setting_key> keys() const override {
    return {{"keep", setting_type::number, "100", "Announcements that are kept, with who sent them (table announcements); older ones go.", 1, 100'000}};
  }
  void start(registrar& reg) override {
    reg.item({std::string{local_part} + '@' + std::string{reg.host().domain->domain()}, {}, name_for_people});
    auto kept = static_cast<std::uint32_t>(std::max<std::int64_t>(1, reg.settings().number("keep")));
    reg.entity(local_part, [&host = reg.host(), &around = reg.around(), kept] { return std::make_unique<announcer>(host, around.clock, around.random, kept); });
  }
};
} // namespace

std::unique_ptr<module> make_announce() { return std::make_unique<announce>(); }

} // namespace modules
