// Feeds a machine, carries out what it asks, and ends when nothing is left to do.
#include "actors/entity.hpp"
#include "actors/account.hpp"
#include "actors/node.hpp"
#include "actors/router.hpp"
#include "actors/session.hpp"
#include <algorithm>

namespace actors {

namespace {
std::unique_ptr<modules::entity_machine> make_machine(home& h, const host_ref& host, const xmpp::jid_ref& bare) {
  if (auto i = host->view.entities.find(bare->local()); i != host->view.entities.end())
    return i->second();
  return std::make_unique<account>(bare, host, h.around());
}
} // namespace

entity::entity(home& h, cluster::address& where, host_ref host)
  : home_(h), where_(where), host_(std::move(host)), machine_(make_machine(h, host_, where.bare)) {
  rest();
}

entity::~entity() = default;

entity& entity::at(home& h, cluster::address& where) {
  if (auto* there = h.find<entity>(where.entity.load(std::memory_order_relaxed)))
    return *there;
  auto host = h.around().find_host(where.bare->domain());
  if (!host)
    throw std::runtime_error{"the virtual host has been removed"};
  auto& fresh = h.make<entity>(where, std::move(host));
  where.entity.store(fresh.id(), std::memory_order_relaxed);
  return fresh;
}

void entity::step(modules::entity_event ev) {
  modules::effects todo;
  std::swap(todo, home_.scratch); // its vector is reused; a nested call gets an empty one
  machine_->step(ev, home_.now(), todo);
  carry_out(todo);
  todo.clear();
  std::swap(todo, home_.scratch);
}

void entity::carry_out(modules::effects& todo) {
  for (auto& item : todo.list())
    std::visit([this](auto& e) { carry(e); }, item);
  start_operations();
  if (!idle_.is_armed() && machine_->is_idle() && sessions_.empty())
    rest();
}

bool entity::has_work() const {
  return !sessions_.empty() || !machine_->is_idle() || load_under_way_ || commits_under_way_ || !waiting_.empty();
}

bool entity::end_if_idle() {
  if (has_work())
    return false;
  where_.entity.store(0, std::memory_order_relaxed);
  if (home_.around().registry().remove_if_idle(where_)) { // from here on `where_` is gone
    home_.end(*this);
    return true;
  }
  where_.entity.store(id(), std::memory_order_relaxed);
  return false;
}

/// Ends a while after the last thing happened. An entity with a session or work stays.
void entity::rest() {
  idle_ = home_.loop().after(home_.around().settings().entity_idle, [this] {
    if (!has_work() && !end_if_idle()) // with work carry_out() arms it again
      rest();
  });
}

entity::attached* entity::find_attached(std::uint64_t session) {
  for (auto& a : sessions_)
    if (a.session == session)
      return &a;
  return nullptr;
}

void entity::forget(std::uint64_t session) {
  auto i = std::find_if(sessions_.begin(), sessions_.end(), [&](auto& a) { return a.session == session; });
  if (i != sessions_.end())
    sessions_.erase(i);
}

void entity::on_attach(modules::attach_request who) {
  idle_.cancel();
  sessions_.push_back({who.session, who.where, who.full, who.clock, who.limit});
  step(modules::event::attach{std::move(who)});
}

void entity::on_detach(std::uint64_t session) {
  if (!find_attached(session))
    return;
  forget(session);
  home_.around().registry().withdraw(where_, session);
  step(modules::event::detach{session});
}

void entity::end_sessions(xmpp::stream_errc why, const std::string& text) {
  for (auto& a : sessions_)
    home_.post<session>(a.where.reactor, a.where.ref, [why, text](session& s) { s.close(why, text); });
}

void entity::on_crash(std::string_view) {
  ++generation_; // what was asked for the old state is not for the new one
  waiting_.clear();
  awaited_.clear();
  timers_.clear();
  commits_under_way_ = 0;
  load_under_way_ = false;
  machine_ = make_machine(home_, host_, where_.bare);
  auto still_there = std::exchange(sessions_, {});
  for (auto& a : still_there)
    on_attach({a.session, a.full, a.where, a.clock, a.limit});
  rest();
}

void entity::on_completed(std::uint32_t number, modules::outcome how) {
  auto i = std::find_if(awaited_.begin(), awaited_.end(), [&](auto& a) { return a.number == number; });
  if (i == awaited_.end())
    return;
  auto then = std::move(i->then);
  awaited_.erase(i);
  modules::effects todo;
  then(how, todo);
  carry_out(todo);
}

// --- effects

void entity::carry(modules::effect::route& e) {
  route(home_, std::move(e.what));
}

void entity::carry(modules::effect::deliver& e) {
  if (e.then) {
    assert(e.what.what->is_unique());
    e.what.what->completion = {id(), next_number_, home_.index(), 0};
    awaited_.push_back({next_number_++, std::move(e.then)});
  }
  auto* a = find_attached(e.session);
  if (!a)
    return route_again(home_, std::move(e.what));
  auto room = a->limit->used.charge(e.what.what->cost());
  if (room == base::room::ok) [[likely]]
    return home_.pass_or_return<&session::on_deliver>(a->where.reactor, a->where.ref, std::move(e.what));
  if (room == base::room::full) // it has not read for long: nothing it is owed fits any more
    home_.post<session>(a->where.reactor, a->where.ref, [](session& s) {
      s.close(xmpp::stream_errc::resource_constraint, "the client does not read what it is sent");
    });
  auto cost = e.what.what->cost();
  auto type = e.what.what->type();
  bool is_reply = type == xmpp::stanza_type::result || type == xmpp::stanza_type::error;
  if (room == base::room::over && (is_reply || e.what.what->kind() == xmpp::stanza_kind::presence))
    return home_.pass_or_return<&session::on_deliver>(a->where.reactor, a->where.ref, std::move(e.what));
  if (room == base::room::over)
    a->limit->used.release(cost);
  if (auto& c = e.what.what->completion; c.session == id() && c.reactor == home_.index()) // it is ours, and stays ours
    return home_.complete(c, modules::outcome::abandoned);
  step(modules::event::no_room{e.session, std::move(e.what), room});
}

void entity::carry(modules::effect::load& e) { waiting_.push_back({std::move(e)}); }
void entity::carry(modules::effect::commit& e) { waiting_.push_back({std::move(e)}); }

void entity::carry(modules::effect::set_timer& e) {
  auto i = std::find_if(timers_.begin(), timers_.end(), [&](auto& t) { return t->id == e.id; });
  if (i == timers_.end())
    i = timers_.insert(timers_.end(), std::make_unique<named_timer>(named_timer{e.id, {}}));
  home_.loop().arm((*i)->timer, e.after, [this, id = e.id] {
    home_.post<entity>(home_.index(), this->id(), [id](entity& self) { self.step(modules::event::timer{id}); });
  });
}

void entity::carry(modules::effect::broadcast& e) { broadcast(home_, e.domain, e.what); }
void entity::carry(modules::effect::complete& e) { home_.complete(e.id, e.how); }

void entity::carry(modules::effect::accept& e) {
  auto* a = find_attached(e.session);
  if (!a)
    return;
  a->full = e.full;
  home_.around().registry().publish(where_, {e.full, a->where, e.session, a->clock, 0, false});
  home_.post<session>(a->where.reactor, a->where.ref,
                      [full = e.full](session& s) { s.on_accepted(full); });
}

void entity::carry(modules::effect::refuse& e) {
  auto* a = find_attached(e.session);
  if (!a)
    return;
  home_.post<session>(a->where.reactor, a->where.ref,
                      [why = e.why](session& s) { s.on_refused(why); });
  forget(e.session);
}

void entity::carry(modules::effect::end_session& e) {
  if (auto* a = find_attached(e.session))
    home_.post<session>(a->where.reactor, a->where.ref,
                        [why = e.why, text = std::move(e.text)](session& s) { s.close(why, text); });
}

void entity::carry(modules::effect::publish& e) {
  if (auto* a = find_attached(e.session))
    home_.around().registry().publish(where_, {a->full, a->where, e.session, a->clock, e.priority, e.is_available});
}

void entity::carry(modules::effect::share& e) {
  if (auto* a = find_attached(e.session))
    home_.post<session>(a->where.reactor, a->where.ref, [what = e.what](session& s) { s.set_snapshot(what); });
}

// --- storage

/// What a thread of the storage calls: the answer comes home through the lane. An answer to what a
/// crashed machine asked is dropped.
template <class Answer, class Then>
std::function<void(Answer)> entity::answer_home(void (entity::*handle)(Then, Answer), Then then) {
  home_.around().operations.fetch_add(1, std::memory_order_relaxed);
  return [&h = home_, me = id(), g = generation_, handle, then = std::move(then)](Answer a) {
    h.post_from_anywhere([me, g, handle, then, a = std::move(a)](home& at) mutable {
      at.around().operations.fetch_sub(1, std::memory_order_relaxed);
      if (auto* self = at.find<entity>(me); self && g == self->generation_)
        at.guard(me, [&] { (self->*handle)(std::move(then), std::move(a)); });
    });
  };
}

void entity::start_operations() {
  std::size_t n = 0;
  for (; n < waiting_.size() && !load_under_way_; ++n) {
    if (auto* l = std::get_if<modules::effect::load>(&waiting_[n].what)) {
      if (commits_under_way_ > 0)
        break;
      load_under_way_ = true;
      host_->store->scan(std::move(l->range), l->order, l->limit, answer_home<modules::rows>(&entity::on_loaded, std::move(l->then)));
    } else {
      auto& c = std::get<modules::effect::commit>(waiting_[n].what);
      ++commits_under_way_;
      host_->store->submit(std::move(c.what), answer_home<storage::outcome>(&entity::on_committed, std::move(c.then)));
    }
  }
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(n));
}

void entity::on_loaded(modules::on_rows then, modules::rows result) {
  load_under_way_ = false;
  modules::effects todo;
  if (then)
    then(std::move(result), todo);
  carry_out(todo);
}

void entity::on_committed(modules::on_commit then, storage::outcome result) {
  --commits_under_way_;
  modules::effects todo;
  if (then)
    then(result, todo);
  carry_out(todo);
}

} // namespace actors
