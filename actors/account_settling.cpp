// What is stored for an account is given a moment later where somebody may yet say that it has arrived: an account that has just come
// to this node, and a session that replaces one on another node.
#include "actors/account.hpp"
#include <algorithm>

namespace actors {

namespace {
constexpr auto settle_after = std::chrono::milliseconds{500}; // its other sessions come meanwhile, and the word of the node before
constexpr auto settle_first = std::chrono::milliseconds{200}; // another device may come at another node in the same moment
constexpr std::uint8_t most_settle_waits = 6;                 // that node may be lost
} // namespace

void account::on(modules::event::look_again&, effects& out) {
  read_roster_again(out);
  has_word_ = true;
  if (settle_waits_ == 0)
    return look_for_messages(out);
  for (std::size_t k = 0; k < members_.size(); ++k)
    expect_messages(members_[k], out);
}

void account::read_roster_again(effects& out) {
  (void)enqueue([this](effects& o) { // it may have changed these rows, too
    has_roster_ = false;
    read_roster(o, [this](std::optional<storage::errc>, effects& o1) {
      for (auto& m : members_)
        if (m.view.is_introduced && std::any_of(contacts_.begin(), contacts_.end(), [](auto& c) { return c.state.pending_in; }))
          deliver_requests(m.view.id, o1);
      finish(o1);
    });
  }, out);
}

/// What is stored may be a session's that is still on its way here, or be acknowledged already at the node where the account
/// was: given now, it would come twice.
void account::settle_later(effects& out) {
  settle_waits_ = 1;
  out.set_timer(settle, settle_after);
  read_roster_again(out);
}

void account::look_in_a_moment(effects& out) {
  settle_waits_ = 1;
  has_word_ = true;
  out.set_timer(settle, settle_first);
}

void account::look_for_messages(effects& out) {
  bool is_first = true;
  for (std::size_t k = 0; k < members_.size(); ++k) {
    auto& m = members_[k];
    auto id = m.view.id;
    bool is_to_be_served = is_ready(m) && (std::exchange(is_first, false) || m.is_unserved);
    if (is_to_be_served && m.holds_messages)
      m.is_unserved = true; // what is being read for it may be older than what there is to find
    else if (is_to_be_served)
      on_ready(m, out);
    expect_nothing(id, out); // or whoever reads it holds the messages himself by now
  }
}

void account::expect_nothing(std::uint64_t session, effects& out) {
  if (auto* m = find_member(session); m && std::exchange(m->waits_for_look, false) && !m->holds_messages)
    give_held(*m, out);
}

/// What is said to it from now on waits for what is stored, if there is any.
void account::expect_messages(member& m, effects& out) {
  if (!is_ready(m) || m.waits_for_look || host_->view.expects.empty())
    return;
  m.waits_for_look = true;
  modules::session_expects ev{m.view.id, *this, out};
  (void)host_->view.expects.run(ev);
}

/// It may have what is stored for the account.
void account::on_ready(member& m, effects& out) {
  m.is_unserved = settle_waits_ > 0;
  if (m.is_unserved)
    return expect_messages(m, out);
  modules::session_ready ev{m.view.id, *this, out};
  (void)host_->view.ready.run(ev);
}

void account::on_settle_time(effects& out) {
  if (!has_word_ && settle_waits_++ < most_settle_waits)
    return out.set_timer(settle, settle_after);
  settle_waits_ = 0;
  look_for_messages(out);
}

} // namespace actors
