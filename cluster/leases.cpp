// Leases and ownership over rows with versions.
#include "cluster/leases.hpp"
#include "proto/storage.pb.h"
#include "storage/tables.hpp"
#include <algorithm>

namespace cluster {

using storage::tables::node_leases, storage::tables::ownerships;

std::string lease_key(node_id node) { return storage::key_builder{node_leases}.number(node).take(); }
std::string ownership_key(const std::string& name) { return storage::key_builder{ownerships}.text(name).take(); }

std::uint64_t leases::ask(operation o, const std::string& key, lease_effects& out) {
  operations_.emplace(++last_op_, std::move(o));
  out.reads.push_back({last_op_, key});
  return last_op_;
}

std::uint64_t leases::submit(operation o, storage::batch b, lease_effects& out) {
  operations_.emplace(++last_op_, std::move(o));
  out.commits.push_back({last_op_, std::move(b)});
  return last_op_;
}

storage::batch leases::make_batch(std::string key, std::string value, storage::version expected) {
  return {{random_.number(), random_.number()}, {storage::put{key, std::move(value)}}, {{std::move(key), expected}}, storage::durability::durable};
}

bool leases::claim(const std::string& name, base::time_point now) {
  if (wants_.size() >= options_.most_names && !wants_.contains(name))
    return false;
  auto& w = wants_[name];
  w.is_wanted = true;
  w.next = std::min(w.next, now);
  return true;
}

void leases::release(const std::string& name, base::time_point now, lease_effects& out) {
  auto i = wants_.find(name);
  if (i == wants_.end())
    return;
  auto& w = i->second;
  bool was_ours = w.at == step::owned || w.at == step::paused || w.at == step::checking;
  if (was_ours) {
    out.ended.push_back(name);
    give_back(name, w, now, out);
  } else if (w.is_unsure) {
    w.is_wanted = false; // as long as this node lives nobody else could take it
    return;
  }
  wants_.erase(i); // what is under way for it finds nothing when it comes back
}

void leases::release_all(base::time_point now, lease_effects& out) {
  for (auto i = wants_.begin(); i != wants_.end();) {
    auto name = i->first;
    ++i; // release() may erase it
    release(name, now, out);
  }
}

void leases::give_back(const std::string& name, const want& w, base::time_point now, lease_effects& out) {
  covey::storage::ownership none; // the row stays: an epoch must never come twice
  none.set_epoch(w.epoch + 1);
  submit({operation::kind::give_back, name, 0, now}, make_batch(ownership_key(name), none.SerializeAsString(), w.version), out);
}

/// Nobody knows whether it was given back. It may be wanted again meanwhile, and again not: as long as the row may say that it is
/// ours, nobody else can have it.
void leases::doubt(const std::string& name, base::time_point now) {
  auto [i, is_new] = wants_.try_emplace(name);
  auto& w = i->second;
  w.is_unsure = w.is_doubted = true;
  if (!is_new)
    return; // the row is read before anything else
  w.is_wanted = false;
  w.next = now + options_.renew_every / 4;
}

bool leases::is_giving_back(const std::string& name) const {
  return std::ranges::any_of(operations_, [&](auto& o) { return o.second.what == operation::kind::give_back && o.second.name == name; });
}

void leases::process_gone(node_id node, life of) {
  auto& l = gone_[node];
  l = std::max(l, of);
}

void leases::reborn(life own, base::time_point now, lease_effects& out) {
  life_ = own;
  operations_.clear();
  own_op_ = 0;
  is_read_ = has_lease_ = false;
  has_lapsed_ = true;
  next_renewal_ = now;
  std::erase_if(wants_, [](auto& i) { return !i.second.is_wanted; }); // rows of an earlier life are anybody's
  for (auto& [name, w] : wants_) {
    if (w.at == step::owned || w.at == step::paused || w.at == step::checking)
      out.ended.push_back(name);
    w = {};
    w.next = now;
  }
  for (auto& [node, w] : watches_)
    w = {};
}

void leases::expire_operations(base::time_point now) {
  for (auto i = operations_.begin(); i != operations_.end();) {
    if (now - i->second.started < options_.answer_limit) {
      ++i;
      continue;
    }
    auto op = i->first;
    if (own_op_ == op) { // whatever became of it, the row says
      own_op_ = 0;
      is_read_ = false;
    }
    if (auto w = wants_.find(i->second.name); w != wants_.end() && w->second.op == op) {
      w->second.op = 0;
      if (w->second.at == step::reading || w->second.at == step::taking)
        w->second.at = step::idle;
      if (w->second.at == step::checking)
        w->second.at = step::paused;
    }
    if (auto w = watches_.find(i->second.node); w != watches_.end() && w->second.op == op)
      w->second.op = 0;
    if (i->second.what == operation::kind::give_back)
      doubt(i->second.name, now);
    i = operations_.erase(i);
  }
}

void leases::tick(base::time_point now, lease_effects& out) {
  if (is_superseded_)
    return;
  expire_operations(now);
  if (!has_lapsed_ && !is_valid(now))
    lapse(out);
  if (own_op_ == 0 && now >= next_renewal_)
    renew(now, out);
  if (!is_valid(now))
    return; // nothing is claimed by a node that cannot keep it
  for (auto& [name, w] : wants_) {
    if (w.op != 0 || now < w.next || is_giving_back(name)) // it is wanted again: what the row says now may be over in a moment
      continue;
    if (w.at == step::paused) {
      w.at = step::checking;
      w.op = ask({operation::kind::check, name, 0, now}, ownership_key(name), out);
    } else if (w.at == step::idle || w.at == step::watching) {
      w.at = w.at == step::idle ? step::reading : w.at;
      w.op = ask({operation::kind::read_name, name, 0, now}, ownership_key(name), out);
    }
  }
  std::erase_if(watches_, [&](auto& i) { // whoever holds nothing of what is wanted here is not watched
    return i.second.op == 0 && now - i.second.asked > 10 * options_.taken_after && std::none_of(wants_.begin(), wants_.end(), [&](auto& w) { return w.second.holder == i.first; });
  });
  for (auto& [node, w] : watches_)
    if (w.op == 0 && now >= w.next) {
      w.next = now + options_.renew_every;
      w.op = ask({operation::kind::watch, {}, node, now}, lease_key(node), out);
    }
}

void leases::renew(base::time_point now, lease_effects& out) {
  next_renewal_ = now + options_.renew_every;
  if (!is_read_) {
    own_op_ = ask({operation::kind::read_own, {}, 0, now}, lease_key(me_), out);
    return;
  }
  covey::storage::node_lease l;
  l.set_life(life_);
  l.set_count(++count_);
  own_op_ = submit({operation::kind::renew, {}, 0, now}, make_batch(lease_key(me_), l.SerializeAsString(), version_), out);
}

/// Until the row says otherwise nothing is ours for certain.
void leases::lapse(lease_effects& out) {
  has_lapsed_ = true;
  for (auto& [name, w] : wants_)
    if (w.at == step::owned) {
      w.at = step::paused;
      out.paused.push_back(name);
    }
}

void leases::renewed(base::time_point started, base::time_point now, lease_effects& out) {
  if (!has_lapsed_ && !is_valid(now))
    lapse(out); // nobody looked at the clock meanwhile
  has_lease_ = true;
  valid_from_ = std::max(valid_from_, started); // when it was asked for: it may have been done at once
  if (is_valid(now))
    has_lapsed_ = false;
  else if (!has_lapsed_)
    lapse(out);
}

void leases::on_read(std::uint64_t op, const base::result<std::optional<storage::row>, storage::errc>& r, base::time_point now, lease_effects& out) {
  auto asked = operations_.extract(op);
  if (!asked)
    return;
  auto& o = asked.mapped();
  if (o.what == operation::kind::read_own) {
    own_op_ = 0;
    if (!r)
      return;
    covey::storage::node_lease l;
    if (*r && l.ParseFromString((*r)->value) && l.life() > life_) {
      is_superseded_ = true; // a later life of this node is at work: this one is a copy
      lapse(out);
      return;
    }
    is_read_ = true;
    version_ = *r ? (*r)->version : 0;
    next_renewal_ = now;
    return;
  }
  if (o.what == operation::kind::watch) {
    auto w = watches_.find(o.node);
    if (w == watches_.end() || w->second.op != op)
      return;
    w->second.op = 0;
    if (r)
      on_watch_read(w->second, *r, o.started, now);
    return;
  }
  auto w = wants_.find(o.name);
  if (w == wants_.end() || w->second.op != op)
    return;
  w->second.op = 0;
  w->second.next = now + options_.renew_every;
  if (!r) {
    if (w->second.at == step::checking)
      w->second.at = step::paused;
    else if (w->second.at == step::reading)
      w->second.at = step::idle;
    return;
  }
  on_name_read(o.name, w->second, *r, now, out);
}

void leases::on_name_read(const std::string& name, want& w, const std::optional<storage::row>& r, base::time_point now, lease_effects& out) {
  covey::storage::ownership o;
  if (r && !o.ParseFromString(r->value)) {
    w.at = step::idle; // not ours to repair
    return;
  }
  bool is_ours = r && o.node() == me_ && o.life() == life_;
  if (w.at == step::checking) {
    if (!is_ours || r->version != w.version)
      return lose(name, w, now, out);
    if (!is_valid(now)) {
      w.at = step::paused;
      return;
    }
    w.at = step::owned;
    out.resumed.push_back(name);
    return;
  }
  w.version = r ? r->version : 0;
  w.epoch = o.epoch();
  w.holder = o.node();
  w.holder_life = o.life();
  w.is_unsure = is_ours; // until it is owned
  if (!w.is_wanted) {
    if (is_ours)
      give_back(name, w, now, out);
    wants_.erase(name);
    return;
  }
  if (is_ours && w.is_doubted)
    return take(name, w, std::nullopt, now, out); // as another epoch's, so that what comes late finds another row
  w.is_doubted = false;
  if (is_ours) { // an answer that was lost
    w.at = is_valid(now) ? step::owned : step::paused;
    out.gained.push_back(name);
    if (w.at == step::paused)
      out.paused.push_back(name);
    return;
  }
  w.at = step::watching;
  consider(name, w, now, out);
}

/// May it be taken?
void leases::consider(const std::string& name, want& w, base::time_point now, lease_effects& out) {
  if (w.holder == 0 || w.holder == me_) // nobody's, or an earlier life's of this very process or folder
    return take(name, w, std::nullopt, now, out);
  if (auto g = gone_.find(w.holder); g != gone_.end() && g->second >= w.holder_life)
    return take(name, w, std::nullopt, now, out);
  auto& seen = watches_[w.holder];
  if (!seen.is_known)
    return;
  if (seen.of > w.holder_life) { // the row is a later life's: the holder's can never be renewed again
    if (seen.read_started - seen.of_since >= options_.taken_after)
      take(name, w, std::nullopt, now, out);
    return;
  }
  if (seen.read_started - seen.since < options_.taken_after)
    return;
  // If it renews at this moment, one of the two batches fails.
  take(name, w, storage::precondition{lease_key(w.holder), seen.version}, now, out);
}

void leases::on_watch_read(watch& w, const std::optional<storage::row>& r, base::time_point started, base::time_point now) {
  covey::storage::node_lease l;
  if (r && !l.ParseFromString(r->value))
    return;
  auto version = r ? r->version : 0;
  if (!w.is_known || w.of != l.life())
    w.of_since = now;
  if (!w.is_known || w.of != l.life() || w.version != version)
    w.since = now;
  w.version = version;
  w.of = l.life();
  w.is_known = true;
  w.read_started = started;
}

void leases::take(const std::string& name, want& w, std::optional<storage::precondition> of_lease, base::time_point now, lease_effects& out) {
  if (!is_valid(now)) {
    w.at = step::idle;
    return;
  }
  covey::storage::ownership o;
  o.set_node(me_);
  o.set_life(life_);
  o.set_epoch(w.epoch + 1);
  auto b = make_batch(ownership_key(name), o.SerializeAsString(), w.version);
  if (of_lease)
    b.preconditions.push_back(std::move(*of_lease));
  w.at = step::taking;
  w.is_unsure = true;
  w.op = submit({operation::kind::take, name, 0, now}, std::move(b), out);
}

void leases::lose(const std::string& name, want& w, base::time_point now, lease_effects& out) {
  w = {};
  w.next = now + options_.renew_every;
  out.ended.push_back(name);
}

void leases::on_commit(std::uint64_t op, storage::outcome how, base::time_point now, lease_effects& out) {
  auto asked = operations_.extract(op);
  if (!asked)
    return;
  auto& o = asked.mapped();
  if (o.what == operation::kind::renew) {
    own_op_ = 0;
    if (how == storage::outcome::done) {
      ++version_;
      return renewed(o.started, now, out);
    }
    is_read_ = false; // what the row says now counts
    next_renewal_ = std::min(next_renewal_, now + options_.renew_every / 4);
    return;
  }
  if (o.what == operation::kind::give_back) {
    if (how != storage::outcome::done && how != storage::outcome::conflict)
      doubt(o.name, now);
    return;
  }
  auto w = wants_.find(o.name);
  if (w == wants_.end() || w->second.op != op)
    return;
  w->second.op = 0;
  if (o.what != operation::kind::take)
    return;
  w->second.is_unsure = how != storage::outcome::done && how != storage::outcome::conflict;
  if (!w->second.is_wanted && !w->second.is_unsure) {
    if (how == storage::outcome::done) {
      w->second.version += 1;
      w->second.epoch += 1;
      give_back(o.name, w->second, now, out);
    }
    wants_.erase(w);
    return;
  }
  if (how != storage::outcome::done) { // conflict: somebody was faster; unknown: the row says
    w->second.at = step::idle;
    w->second.next = now + options_.renew_every / 4;
    return;
  }
  w->second.is_doubted = false;
  w->second.version += 1;
  w->second.epoch += 1;
  w->second.holder = me_;
  w->second.holder_life = life_;
  w->second.at = is_valid(now) ? step::owned : step::paused;
  out.gained.push_back(o.name);
  if (w->second.at == step::paused)
    out.paused.push_back(o.name);
}

bool leases::owns(const std::string& name, base::time_point now) const {
  auto i = wants_.find(name);
  return i != wants_.end() && i->second.at == step::owned && is_valid(now);
}

std::optional<storage::precondition> leases::fence(const std::string& name, base::time_point now) const {
  if (!owns(name, now))
    return std::nullopt;
  return storage::precondition{ownership_key(name), wants_.at(name).version};
}

std::uint64_t leases::epoch(const std::string& name) const {
  auto i = wants_.find(name);
  return i != wants_.end() && (i->second.at == step::owned || i->second.at == step::paused || i->second.at == step::checking) ? i->second.epoch : 0;
}

bool leases::is_over(node_id node, life of, base::time_point now) {
  if (auto g = gone_.find(node); g != gone_.end() && g->second >= of)
    return true;
  if (node == me_)
    return of >> process_shift < life_ >> process_shift;
  auto& seen = watches_[node];
  seen.asked = now;
  if (!seen.is_known)
    return false;
  return seen.of >> process_shift > of >> process_shift || seen.read_started - seen.since >= options_.taken_after;
}

node_id leases::holder(const std::string& name) const {
  auto i = wants_.find(name);
  return i == wants_.end() ? 0 : i->second.holder;
}

} // namespace cluster
