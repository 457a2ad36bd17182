// The same rules as over gRPC, with calls for packets.
#include "cluster/memory_transport.hpp"

namespace cluster::wire {

void memory_network::cut(const std::string& from, const std::string& to) {
  cuts_.insert({from, to});
  auto i = nodes_.find(from);
  if (i == nodes_.end())
    return;
  std::vector<link_id> broken;
  for (auto& [id, e] : i->second->links_)
    if (e.address == to)
      broken.push_back(id);
  for (auto id : broken)
    i->second->drop(id, {close_cause::reset, {}, "cut"}, {}, false);
}

memory_transport::memory_transport(memory_network& net, hello own, post_function post, transport_events& events, const transport_limits& limits,
                                   std::string bears)
  : net_(net), own_(std::move(own)), at_(own_.address), bears_(bears.empty() ? own_.node : std::move(bears)), post_(std::move(post)), events_(&events),
    limits_(limits), alive_(std::make_shared<memory_transport*>(this)) {
  net_.nodes_[at_] = this;
}

memory_transport::~memory_transport() { kill(); }

void memory_transport::post(std::function<void()> job) {
  post_([weak = std::weak_ptr{alive_}, job = std::move(job)] {
    if (auto still = weak.lock())
      job();
  });
}

void memory_transport::to_other(end& e, std::function<void(memory_transport&, link_id)> job) {
  if (auto other = e.other.lock(); other && e.there != 0)
    (*other)->post([o = *other, there = e.there, job = std::move(job)]() mutable { job(*o, there); });
}

memory_transport::end* memory_transport::find(link_id link) {
  auto i = links_.find(link);
  return i == links_.end() ? nullptr : &i->second;
}

link_id memory_transport::dial(const std::string& address, const std::string& node) {
  auto id = ++last_;
  auto& e = links_[id];
  e.is_dialled = true;
  e.node = node;
  e.address = address;
  table_.add(id, true);
  auto i = net_.nodes_.find(address);
  if (i == net_.nodes_.end() || net_.is_cut(at_, address) || net_.is_cut(address, at_)) {
    auto cause = i == net_.nodes_.end() ? close_cause::connection_refused : close_cause::unreachable;
    post([this, id, cause] { drop(id, {cause, {}, "nobody is there"}, {}, false); });
    return id;
  }
  i->second->post([to = i->second, from = this, id, own = own_, bears = bears_] { to->on_dialled(from, id, own, bears); });
  return id;
}

void memory_transport::on_dialled(memory_transport* from, link_id there, hello peer, std::string bears) {
  auto i = net_.nodes_.find(peer.address);
  if (i == net_.nodes_.end() || i->second != from || !from->find(there))
    return; // gone meanwhile
  auto id = ++last_;
  auto& e = links_[id];
  e.other = from->alive_;
  e.there = there;
  e.peer = peer;
  e.address = peer.address;
  table_.add(id, false);
  auto version = check_hello(own_, peer, bears);
  auto verdict = version ? events_->accept(peer) : base::result<void, refusal>{base::fail(version.error())};
  auto* other = from->find(there);
  other->other = alive_;
  other->there = id;
  if (!verdict)
    return drop(id, {close_cause::refused_here, verdict.error(), {}}, verdict.error(), true);
  e.version = *version;
  table_.on_accept(id, peer);
  to_other(e, [own = own_, bears = bears_](memory_transport& o, link_id l) { o.on_answer(l, own, bears); });
}

void memory_transport::on_answer(link_id link, hello peer, std::string bears) {
  auto* e = find(link);
  if (!e)
    return;
  e->peer = peer;
  auto version = check_hello(own_, peer, bears);
  if (version && !e->node.empty() && peer.node != e->node)
    version = base::fail(refusal{refusal_code::wrong_certificate, '"' + e->node + "\" was dialled, \"" + peer.node + "\" answered"});
  if (!version) {
    auto cause = version.error().code == refusal_code::wrong_certificate ? close_cause::bad_certificate : close_cause::refused_here;
    return drop(link, {cause, version.error(), {}}, version.error(), true);
  }
  if (auto verdict = events_->accept(peer); !verdict)
    return drop(link, {close_cause::refused_here, verdict.error(), {}}, verdict.error(), true);
  auto d = table_.on_hello(link, own_, peer);
  refusal again{refusal_code::duplicate, "there is another link"};
  if (!d.stays)
    return drop(link, {close_cause::duplicate, again, {}}, again, true);
  for (auto id : d.go)
    drop(id, {close_cause::duplicate, again, {}}, again, true);
  e->version = *version;
  e->is_connected = true;
  to_other(*e, [](memory_transport& o, link_id l) { o.on_ready(l); });
  events_->connected(link, peer, *version);
}

void memory_transport::on_ready(link_id link) {
  auto* e = find(link);
  if (!e)
    return;
  refusal again{refusal_code::duplicate, "there is another link"};
  for (auto id : table_.on_ready(link))
    drop(id, {close_cause::duplicate, again, {}}, again, true);
  e->is_connected = true;
  events_->connected(link, e->peer, e->version);
}

sent memory_transport::send(link_id link, std::string frame) {
  auto* e = find(link);
  if (!e || !e->is_connected)
    return sent::gone;
  if (frame.size() > limits_.packet)
    return sent::too_large;
  if (e->out_bytes + frame.size() > limits_.queue && !e->out.empty())
    return sent::full;
  e->out_bytes += frame.size();
  e->out.push_back(std::move(frame));
  if (e->out.size() == 1)
    to_other(*e, [](memory_transport& o, link_id l) { o.fetch(l); });
  return sent::ok;
}

void memory_transport::fetch(link_id link) {
  auto* e = find(link);
  auto other = e ? e->other.lock() : nullptr;
  auto* there = other ? (*other)->find(e->there) : nullptr;
  if (!there || !e->is_connected)
    return;
  auto frames = std::move(there->out);
  there->out.clear();
  there->out_bytes = 0;
  to_other(*e, [](memory_transport& o, link_id l) {
    if (o.find(l))
      o.events_->written(l);
  });
  events_->received(link, std::move(frames));
}

void memory_transport::close(link_id link, const refusal& why) {
  if (find(link))
    post([this, link, why] { drop(link, {close_cause::refused_here, why, {}}, why, true); });
}

/// Off the table here, and told to the other end: by a refusal, or by a reset.
void memory_transport::drop(link_id link, const closing& here, const refusal& there, bool says_why) {
  auto* e = find(link);
  if (!e)
    return;
  bool is_told = e->is_dialled || e->is_connected;
  closing how{close_cause::reset, {}, {}};
  if (says_why)
    how = {there.code == refusal_code::duplicate ? close_cause::duplicate : close_cause::refused, there, {}};
  to_other(*e, [how, frames = e->is_connected ? std::move(e->out) : std::vector<std::string>{}](memory_transport& o, link_id l) mutable {
    auto* mine = o.find(l);
    if (!mine)
      return;
    if (mine->is_connected && !frames.empty())
      o.events_->received(l, std::move(frames)); // what was sent before
    if ((mine = o.find(l)))
      mine->other.reset();
    o.drop(l, how, {}, false);
  });
  links_.erase(link);
  table_.remove(link);
  if (is_told && events_)
    events_->closed(link, here);
}

/// Every link is over, which the other ends learn.
void memory_transport::end_all(const closing& how) {
  auto all = std::move(links_);
  links_.clear();
  for (auto& [id, e] : all)
    to_other(e, [how](memory_transport& o, link_id l) {
      if (auto* mine = o.find(l))
        mine->other.reset();
      o.drop(l, how, {}, false);
    });
}

void memory_transport::stop() {
  end_all({close_cause::refused, {refusal_code::leaving, "the node stops"}, {}});
  kill();
}

void memory_transport::kill() {
  end_all({close_cause::reset, {}, "the other process ended"});
  if (auto i = net_.nodes_.find(at_); i != net_.nodes_.end() && i->second == this)
    net_.nodes_.erase(i);
  events_ = nullptr;
  alive_ = nullptr;
}

} // namespace cluster::wire
