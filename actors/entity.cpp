// Feeds a machine, carries out what it asks, and ends when nothing is left to do.
#include "actors/entity.hpp"
#include "actors/account.hpp"
#include "actors/node.hpp"
#include "actors/peers.hpp"
#include "actors/router.hpp"
#include "actors/session.hpp"
#include "base/log.hpp"
#include <algorithm>

namespace actors {

std::unique_ptr<modules::entity_machine> entity::make_machine() const {
  if (auto i = host_->view.entities.find(where_.bare->local()); i != host_->view.entities.end())
    return i->second();
  return std::make_unique<account>(where_.bare, host_, home_.around());
}

/// The new one knows what the old one knew to have arrived; that is returned.
std::unique_ptr<modules::entity_machine> entity::exchange_machine() {
  auto fresh = make_machine();
  fresh->know_arrived(machine_->arrived_lately());
  return std::exchange(machine_, std::move(fresh));
}

entity::entity(home& h, cluster::address& where, host_ref host)
  : home_(h), where_(where), host_(std::move(host)), is_leased_(host_->is_shared && host_->view.entities.contains(where.bare->local())), machine_(make_machine()) {
  owner_ = find_owner();
  begun_ = home_.now();
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
  if (!finishing_.empty() && under_way_.empty() && waiting_.empty() && awaited_.empty()) [[unlikely]] // these are what still calls it
    finishing_.clear();
  if (owes_look_ && under_way_.empty() && waiting_.empty()) [[unlikely]]
    look_there_again();
  if (!marks_.empty()) [[unlikely]]
    answer_marks();
  if (machine_->is_idle() && sessions_.empty() && (!idle_.is_armed() || machine_->is_void()))
    rest();
}

bool entity::has_work() const {
  return !sessions_.empty() || passages_ || words_ || !machine_->is_idle() || !under_way_.empty() || !waiting_.empty();
}

bool entity::end_if_idle() {
  if (has_work())
    return false;
  where_.entity.store(0, std::memory_order_relaxed);
  auto bare = where_.bare;
  if (home_.around().registry().remove_if_idle(where_)) { // from here on `where_` is gone
    if (has_written_ && home_.around().peers())
      home_.around().peers()->remember_written(bare);
    home_.end(*this);
    return true;
  }
  where_.entity.store(id(), std::memory_order_relaxed);
  return false;
}

/// Ends a while after the last thing happened, or soon where nothing is behind the address: names that do not exist
/// must not fill the memory. An entity with a session or work stays.
void entity::rest() {
  auto wait = machine_->is_void() || owner_ != cluster::self ? base::duration{} : home_.around().settings().entity_idle;
  idle_ = home_.loop().after(wait, [this] {
    if (!has_work() && !end_if_idle()) // with work carry_out() arms it again
      rest();
  });
}

/// Also one that has left because this address moved: answers under way are still for it.
entity::attached* entity::find_receiver(std::uint64_t session) {
  if (auto* a = find_attached(session))
    return a;
  for (auto& a : former_)
    if (a.session == session)
      return &a;
  return nullptr;
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
  std::optional<attached> before;
  if (auto* again = find_attached(who.session)) {
    bool is_from_before = who.epoch < again->epoch && who.epoch > 0; // by a slower link than that from where it is now
    if (again->where == who.where || is_from_before) // the first: it was not sure
      return;
    before = *again;
    forget(who.session); // it goes on elsewhere, and must be told all anew
    home_.around().registry().withdraw(where_, who.session);
    step(modules::event::detach{who.session, true, true});
  }
  if (owner_ != cluster::self && !may_begin_with(who)) {
    say_last_word({who.session, who.where, who.full, 0, nullptr}); // it may be waited for where the account is
    return turn_away(who.where, who.session, {});
  }
  idle_.cancel();
  sessions_.push_back({who.session, who.where, who.full, who.clock, who.limit});
  auto session = who.session;
  bool is_waited_for = before || who.awaits_word;
  if (before)
    begin_passage(*before);
  if (who.awaits_word)
    await_word(session);
  if (who.before) { // it has been let in
    sessions_.back().is_bound = true;
    sessions_.back().epoch = who.epoch;
    home_.around().registry().publish(where_, {who.full, who.where, who.session, who.clock, who.before->priority, who.before->is_available});
  }
  step(modules::event::attach{std::move(who)});
  if (!is_waited_for)
    end_passage(session); // of one that has just been found in the table
  look_for_sessions();
}

void entity::on_detach(std::uint64_t session, bool is_silent) {
  if (!find_attached(session))
    return;
  forget(session);
  end_passage(session);
  home_.around().registry().withdraw(where_, session);
  step(modules::event::detach{session, is_silent});
}

void entity::on_outbound(const cluster::place& from, std::uint64_t session, xmpp::delivery&& what) {
  if (!find_attached(session) && home_.around().peers()) [[unlikely]]
    return turn_away(from, session, std::move(what));
  step(modules::event::outbound{session, std::move(what)});
}

void entity::on_spool(const cluster::place& from, std::uint64_t session, std::vector<xmpp::delivery> what) {
  if (find_attached(session) || !home_.around().peers()) [[likely]]
    return step(modules::event::spool{session, std::move(what)});
  for (auto& d : what)
    tell_unspooled(from, std::move(d));
}

/// It is the session's again. One on another node hears it as the outcome of what it sent here.
void entity::tell_unspooled(const cluster::place& to, xmpp::delivery&& what) {
  if (to.node != cluster::self)
    return home_.complete(what.what->completion, modules::outcome::abandoned);
  home_.pass_or_return<&actors::session::on_unspooled>(to.reactor, to.ref, std::move(what));
}

void entity::on_settled(const cluster::place& from, std::uint64_t session, std::vector<base::u128> ids) {
  if (ids.empty()) // the word that went behind all it was sent at its old place
    return end_passage(session);
  if (find_attached(session) || !home_.around().peers()) [[likely]]
    return step(modules::event::settled{session, std::move(ids)});
  on_arrived(ids, true); // the session may be gone before it hears where its account is
  tell({session, from, nullptr, 0, nullptr}, [ids](actors::session& s) { s.on_settled_elsewhere(ids); },
       {.what = cluster::control::kind::elsewhere, .ids = ids}, {nullptr, where_.bare});
}

void entity::on_moved(std::uint64_t session, const cluster::place& from, const cluster::place& to) {
  auto* a = find_attached(session);
  bool is_attached = a && a->where == from;
  if (is_attached) {
    a->where = to;
    home_.around().registry().relocate(where_, session, to);
  }
  home_.post<actors::session>(from.reactor, from.ref, [is_attached](actors::session& s) { s.on_moved(is_attached); });
}

void entity::on_left(std::uint64_t session, const cluster::place& from) {
  if (auto* a = find_attached(session); a && a->where == from)
    on_detach(session);
}

void entity::remove(std::function<void(base::result<void, storage::errc>)> then) {
  step(modules::event::remove{[&h = home_, me = id(), then = std::move(then)](base::result<void, storage::errc> r) {
    then(r); // the answer first: its own stream is among those that end
    if (r)
      h.post_from_anywhere<entity>(me, [](entity& e) {
        e.end_sessions(xmpp::stream_errc::not_authorized, "the account has been removed");
      });
  }});
}

/// Behind what is on its way to them: an answer that a session's reactor has been given passes here, too.
void entity::end_sessions(xmpp::stream_errc why, const std::string& text) {
  for (auto& a : sessions_) {
    if (a.where.node != cluster::self) {
      home_.post<entity>(home_.index(), id(), [a, why, text](entity& self) {
        self.say(a, {.what = cluster::control::kind::close, .code = static_cast<std::uint8_t>(why), .text = text});
      });
      continue;
    }
    home_.post(a.where.reactor, [to = a.where, me = id(), back = home_.index(), why, text](home& there) {
      there.post<entity>(back, me, [to, why, text](entity& self) {
        self.home_.post<session>(to.reactor, to.ref, [why, text](session& s) { s.close(why, text); });
      });
    });
  }
}

/// What the machine knows of them; before take_held(), as some may wait to be attached.
std::vector<std::shared_ptr<const modules::session_view>> entity::recall_sessions() const {
  std::vector<std::shared_ptr<const modules::session_view>> all;
  for (auto& a : sessions_)
    all.push_back(machine_->recall(a.session));
  return all;
}

void entity::attach_again(const std::vector<std::shared_ptr<const modules::session_view>>& views) {
  auto view = views.begin();
  for (auto& a : std::exchange(sessions_, {})) {
    sessions_.push_back(a);
    step(modules::event::attach{{a.session, a.full, a.where, a.clock, a.limit, false, *view++}});
  }
}

void entity::on_crash(std::string_view) {
  auto views = recall_sessions();
  auto held = machine_->take_held();
  waiting_.clear();
  under_way_.clear(); // what was asked for the old state is not for the new one
  awaited_.clear();
  timers_.clear();
  (void)exchange_machine();
  attach_again(views);
  for (auto& d : held)
    route_again(home_, std::move(d));
  owes_look_ ? look_there_again() : answer_marks();
  rest();
}

void entity::on_completed(std::uint32_t number, modules::outcome how, const xmpp::error_ref&) {
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
  if (passages_ && hold_for_passage(e)) [[unlikely]]
    return;
  auto* a = find_receiver(e.session);
  if (!a) [[unlikely]]
    return deliver_unattached(e);
  if (a->where.node != cluster::self) [[unlikely]] {
    if (!e.what.to && !e.what.what->to)
      e.what.to = a->full;
    return send_to_session(a->where.node, e.session, std::move(e.what));
  }
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
void entity::carry(modules::effect::commit& e) {
  has_written_ |= sessions_.empty();
  waiting_.push_back({std::move(e)});
}

void entity::arm_timer(std::uint32_t id, base::duration after, std::function<void(entity&)> then) {
  auto i = std::find_if(timers_.begin(), timers_.end(), [&](auto& t) { return t->id == id; });
  if (i == timers_.end())
    i = timers_.insert(timers_.end(), std::make_unique<named_timer>(named_timer{id, {}}));
  home_.loop().arm((*i)->timer, after, [this, then = std::move(then)] { home_.post<entity>(home_.index(), this->id(), then); });
}

void entity::carry(modules::effect::set_timer& e) {
  arm_timer(e.id, e.after, [id = e.id](entity& self) {
    if (self.may_act()) // else its owner has a timer of its own
      self.step(modules::event::timer{id});
  });
}

void entity::carry(modules::effect::broadcast& e) { broadcast(home_, e.domain, e.what); }
void entity::carry(modules::effect::complete& e) { home_.complete(e.id, e.how, std::move(e.why)); }

void entity::carry(modules::effect::accept& e) {
  auto* a = find_attached(e.session);
  if (!a)
    return;
  a->full = e.full;
  a->is_bound = true;
  is_beginning_ = false;
  home_.around().registry().publish(where_, {e.full, a->where, e.session, a->clock, 0, false});
  tell(*a, [full = e.full](session& s) { s.on_accepted(full); }, {.what = cluster::control::kind::accepted, .full = e.full});
}

void entity::carry(modules::effect::refuse& e) {
  auto* a = find_attached(e.session);
  if (!a)
    return;
  if (a->is_bound) // it came back to an account that has crashed, and has no way back to the bind
    return tell(*a, [](session& s) { s.close(xmpp::stream_errc::internal_server_error, {}); },
                {.what = cluster::control::kind::close, .code = static_cast<std::uint8_t>(xmpp::stream_errc::internal_server_error)});
  tell(*a, [why = e.why](session& s) { s.on_refused(why); },
       {.what = cluster::control::kind::refused, .code = static_cast<std::uint8_t>(e.why.condition), .type = static_cast<std::uint8_t>(e.why.type), .text = e.why.text});
  forget(e.session);
}

void entity::carry(modules::effect::end_session& e) {
  if (auto* a = find_attached(e.session))
    tell(*a, [why = e.why, text = e.text](session& s) { s.close(why, text); },
         {.what = cluster::control::kind::close, .code = static_cast<std::uint8_t>(e.why), .text = e.text});
}

void entity::carry(modules::effect::publish& e) {
  auto* a = find_attached(e.what.id);
  if (!a)
    return;
  home_.around().registry().publish(where_, {a->full, a->where, e.what.id, a->clock, e.what.priority, e.what.is_available});
  if (!home_.around().peers())
    return;
  tell(*a, [v = e.what](session& s) { s.on_view(v); }, {.what = cluster::control::kind::view, .flags = flags_of(e.what), .priority = e.what.priority},
       {e.what.presence, a->full});
}

void entity::carry(modules::effect::share& e) {
  auto* a = find_attached(e.session);
  if (!a)
    return;
  if (a->where.node == cluster::self)
    return home_.post<session>(a->where.reactor, a->where.ref, [what = e.what](session& s) { s.set_snapshot(what); });
  using c = cluster::control;
  c said{.what = c::kind::share, .flags = static_cast<std::uint8_t>((e.what->copies_sent ? c::wants_copies : 0) | (e.what->blocked ? c::has_list : 0))};
  if (e.what->blocked)
    said.jids = e.what->blocked->items();
  say(*a, std::move(said));
}

void entity::carry(modules::effect::unspooled& e) {
  if (auto* a = find_attached(e.session))
    tell_unspooled(a->where, std::move(e.what));
  else
    route_again(home_, std::move(e.what));
}

// --- storage

/// What a thread of the storage calls: the answer comes home through the lane. It is dropped where nobody waits for it
/// any more: the machine has crashed, or the operation took too long.
template <class Answer>
std::function<void(Answer)> entity::answer_home(std::uint64_t number) {
  home_.around().operations.fetch_add(1, std::memory_order_relaxed);
  return [&h = home_, me = id(), number](Answer a) {
    h.post_from_anywhere([me, number, a = std::move(a)](home& at) mutable {
      at.around().operations.fetch_sub(1, std::memory_order_relaxed);
      if (auto* self = at.find<entity>(me))
        at.guard(me, [&] { self->on_answer(number, std::move(a)); });
    });
  };
}

bool entity::is_under_way(bool (*what)(const continuation&)) const {
  return std::any_of(under_way_.begin(), under_way_.end(), [&](auto& o) { return what(o->then); });
}

void entity::start_operations() {
  auto is_load = [](const continuation& c) { return std::holds_alternative<modules::on_rows>(c); };
  std::size_t n = 0;
  for (; n < waiting_.size() && !is_under_way(is_load); ++n) {
    if (auto* l = std::get_if<modules::effect::load>(&waiting_[n].what)) {
      if (!under_way_.empty())
        break;
      host_->store->scan(std::move(l->range), l->order, l->limit, answer_home<modules::rows>(await(std::move(l->then))));
    } else {
      auto& c = std::get<modules::effect::commit>(waiting_[n].what);
      if (is_leased_) {
        auto fence = home_.around().peers()->owned().fence(*where_.bare);
        if (!fence) {
          answer_home<storage::outcome>(await(std::move(c.then)))(storage::outcome::unavailable);
          continue;
        }
        c.what.preconditions.push_back(std::move(*fence)); // another node may take over before it is done
      }
      host_->store->submit(std::move(c.what), answer_home<storage::outcome>(await(std::move(c.then))));
    }
  }
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(n));
  if (waiting_.empty())
    waiting_ = {}; // an idle account keeps no room for what it may do next
}

/// The number of an operation that begins now, and that does not wait for ever.
std::uint64_t entity::await(continuation then) {
  auto number = next_operation_++;
  under_way_.push_back(std::make_unique<started>(started{number, std::move(then), {}}));
  auto limit = std::max(host_->storage_wait, home_.around().settings().storage_timeout);
  home_.loop().arm(under_way_.back()->limit, limit, [this, number] {
    thread_local base::time_point silent_until; // a storage that stands still is one event, not one for each that waits
    if (home_.now() >= silent_until) {
      silent_until = home_.now() + std::chrono::seconds{1};
      base::log::warning("storage.timed_out", "the storage did not answer in time; what needed it is refused", {{"entity", where_.bare->full()}});
    }
    home_.post<entity>(home_.index(), id(), [number](entity& self) { self.on_late(number); });
  });
  return number;
}

std::optional<entity::continuation> entity::take_under_way(std::uint64_t number) {
  auto i = std::find_if(under_way_.begin(), under_way_.end(), [&](auto& o) { return o->number == number; });
  if (i == under_way_.end())
    return std::nullopt;
  auto then = std::move((*i)->then);
  under_way_.erase(i);
  return then;
}

/// A commit may have been done all the same.
void entity::on_late(std::uint64_t number) {
  auto then = take_under_way(number);
  if (!then)
    return;
  if (auto* rows = std::get_if<modules::on_rows>(&*then))
    go_on(*rows, modules::rows{base::fail(storage::errc::unavailable)});
  else
    go_on(std::get<modules::on_commit>(*then), storage::outcome::unknown);
}

void entity::on_answer(std::uint64_t number, modules::rows what) {
  if (auto then = take_under_way(number))
    go_on(std::get<modules::on_rows>(*then), std::move(what));
}
void entity::on_answer(std::uint64_t number, storage::outcome how) {
  if (auto then = take_under_way(number))
    go_on(std::get<modules::on_commit>(*then), how);
}

template <class Then, class Answer>
void entity::go_on(Then& then, Answer a) {
  modules::effects todo;
  if (then)
    then(std::move(a), todo);
  carry_out(todo);
}

} // namespace actors
