// Translates administration calls; the only gRPC code of the server program.
#include "server/admin/service.hpp"
#include "actors/peers.hpp"
#include "actors/session_info.hpp"
#include "base/log.hpp"
#include "base/metrics.hpp"
#include "proto/admin.grpc.pb.h"
#include "server/accounts.hpp"
#include "server/admin/calls.hpp"
#include "server/admin/files.hpp"
#include "server/backup.hpp"
#include "server/changes.hpp"
#include "server/runner.hpp"
#include "server/transfer/transfer.hpp"
#include <grpcpp/grpcpp.h>

namespace server {

namespace {
namespace pb = covey::admin;
using modules::account_errc;
using server::answer;

void answer(pb::status* s, const base::result<void, account_errc>& r, const std::string& jid) {
  if (r)
    return answer(s, pb::code::ok, jid);
  switch (r.error()) {
    case account_errc::exists: return answer(s, pb::code::conflict, jid + " exists already");
    case account_errc::not_found: return answer(s, pb::code::not_found, "there is no account " + jid);
    case account_errc::bad_password: return answer(s, pb::code::usage, "this password cannot be used: it is empty or has forbidden characters");
    case account_errc::not_allowed: return answer(s, pb::code::failed, "the accounts of this host are kept elsewhere");
    case account_errc::unavailable: return answer(s, pb::code::failed, "the storage does not answer");
    case account_errc::overloaded: return answer(s, pb::code::failed, "the server is busy: try again");
  }
}

void answer(pb::change_reply* to, const change_outcome& o) {
  using enum change_outcome::kind;
  auto code = o.what == done ? pb::code::ok : o.what == usage ? pb::code::usage : o.what == not_found ? pb::code::not_found
              : o.what == conflict ? pb::code::conflict : o.what == mistakes ? pb::code::mistakes : pb::code::failed;
  answer(to->mutable_result(), code, o.text);
  for (auto& v : o.changed) {
    auto* c = to->add_changed();
    c->set_key(v.key);
    c->set_before(v.before);
    c->set_after(v.after);
    c->set_live(v.is_live);
  }
  for (auto& v : o.problems) {
    auto* p = to->add_problems();
    p->set_file(v.file);
    p->set_line(v.line);
    p->set_column(v.column);
    p->set_key(v.key);
    p->set_found(v.found);
    p->set_allowed(v.allowed);
    p->set_remedy(v.remedy);
    p->set_meant(v.meant);
  }
}

class handlers final : public pb::admin::AsyncService {
public:
  handlers(runner& r, changes& c, std::function<void()> stop) : runner_(r), changes_(c), stop_(std::move(stop)) {}
  void start(admin_socket& at);

private:
  using end_call = std::function<void()>; // sends the answer

  /// The account and who keeps it; null: answered already.
  xmpp::jid_ref account(const std::string& text, stored_accounts*& keeper, pb::status& out) {
    auto j = xmpp::parse_jid(text);
    if (!j || (*j)->is_domain() || !(*j)->is_bare()) {
      answer(&out, pb::code::usage, '"' + text + "\" is no bare JID like alice@example.org");
      return nullptr;
    }
    keeper = runner_.accounts_of((*j)->domain());
    if (auto there = runner_.node().find_elsewhere((*j)->domain()); !keeper && there) {
      answer(&out, pb::code::not_found, there->domain + " is served by " + there->node + " alone: ask there");
      return nullptr;
    }
    if (!keeper) {
      answer(&out, pb::code::not_found, std::string{(*j)->domain()} + " is no host of this server");
      return nullptr;
    }
    return *j;
  }

  /// `call(keeper, jid, then)`, then the answer.
  template <class Call>
  void with_account(const std::string& text, pb::status& out, end_call end, Call call) {
    stored_accounts* keeper = nullptr;
    auto j = account(text, keeper, out);
    if (!j) {
      return end();
    }
    call(*keeper, j, [end, &out, j](base::result<void, account_errc> r) {
      answer(&out, r, std::string{j->bare()});
      end();
    });
  }

  void add_user(const pb::account_password& in, pb::status& out, end_call end) {
    with_account(in.jid(), out, end, [&](auto& k, auto& j, auto then) { k.create(j, in.password(), then); });
  }
  void set_password(const pb::account_password& in, pb::status& out, end_call end) {
    with_account(in.jid(), out, end, [&](auto& k, auto& j, auto then) { k.set_password(j, in.password(), then); });
  }
  void remove_user(const pb::account& in, pb::status& out, end_call end) {
    with_account(in.jid(), out, end, [&](auto& k, auto& j, auto then) { k.remove(j, then); });
  }

  void list_sessions(const pb::session_filter& in, pb::session_list& out, end_call end) {
    auto wanted = in.jid().empty() ? base::result<xmpp::jid_ref, xmpp::jid_errc>{nullptr} : xmpp::parse_jid(in.jid());
    if (!wanted) {
      answer(out.mutable_result(), pb::code::usage, '"' + in.jid() + "\" is no JID");
      return end();
    }
    runner_.list_sessions([this, end, &out, only = *wanted](std::vector<actors::session_info> all) {
      for (auto& s : all) {
        if (only && s.jid != only->full() && !s.jid.starts_with(std::string{only->full()} + '/'))
          continue;
        auto* o = out.add_sessions();
        o->set_jid(s.jid);
        o->set_peer(s.peer);
        o->set_tls(s.is_tls);
        o->set_since(s.since);
        o->set_reactor(s.reactor);
        o->set_priority(s.priority);
        o->set_available(s.is_available);
        o->set_id(s.id);
        o->set_stream(s.stream);
      }
      if (only)
        add_sessions_elsewhere(*only, out);
      end();
    });
  }

  /// Those of one account or name, from the table that every node has.
  void add_sessions_elsewhere(const xmpp::jid& who, pb::session_list& out) {
    auto* others = runner_.peers();
    if (!others || who.is_domain())
      return;
    others->rows().sessions_of(who, [&](std::string_view full, const cluster::entry& e) {
      if (e.node == cluster::self || (!who.is_bare() && full != who.full()))
        return;
      auto* o = out.add_sessions();
      o->set_jid(std::string{full});
      o->set_node(others->name_of(e.node));
      o->set_priority(e.what.priority);
      o->set_available(e.what.flags & cluster::attributes::available);
      o->set_id(e.session);
    });
  }

  void kick(const pb::kick_request& in, pb::status& out, end_call end) {
    if (auto j = xmpp::parse_jid(in.jid()); !j || (*j)->is_domain())
      answer(&out, pb::code::usage, '"' + in.jid() + "\" is no JID of an account or session");
    else if (runner_.kick(in.jid(), in.reason()))
      answer(&out, pb::code::ok, in.jid());
    else
      answer(&out, pb::code::not_found, "there is no session " + in.jid());
    end();
  }

  void invite(const pb::invite_request& in, pb::invite_reply& out, end_call done) {
    auto end = [done, &out](pb::code code, std::string text) {
      answer(out.mutable_result(), code, std::move(text));
      done();
    };
    auto whom = xmpp::parse_jid(in.jid());
    if (!whom || !(*whom)->is_bare())
      return end(pb::code::usage, '"' + in.jid() + "\" is no bare JID like alice@example.org, and no host");
    auto host = runner_.node().find_host((*whom)->domain());
    if (!host)
      return end(pb::code::not_found, std::string{(*whom)->domain()} + " is no host of this server");
    if (!host->view.invite)
      return end(pb::code::failed, "modules.invites is off");
    host->view.invite(*whom, [end, &out](base::result<modules::invitation, std::string> r) {
      if (!r)
        return end(pb::code::failed, r.error());
      out.set_uri(r->uri);
      out.set_landing(r->landing);
      out.set_expires(std::chrono::duration_cast<std::chrono::seconds>(r->expires.time_since_epoch()).count());
      end(pb::code::ok, r->uri);
    });
  }

  void stats(const pb::empty&, pb::stats_reply& out, end_call end) {
    for (auto& [name, v] : base::metrics::values())
      (*out.mutable_values())[name] = v;
    end();
  }

  void drain(const pb::empty&, pb::status& out, end_call end) {
    runner_.drain();
    base::log::info("server.draining", "no new sessions; those that are there stay until the server stops", {});
    answer(&out, pb::code::ok, "no new sessions from now on");
    end();
  }

  void cluster_status(const pb::empty&, pb::cluster_reply& out, end_call end) {
    auto* others = runner_.peers();
    auto s = others ? others->status() : std::nullopt;
    if (!others)
      answer(out.mutable_result(), pb::code::not_found, "this node is in no cluster: covey cluster init-ca, or covey join");
    else if (!s)
      answer(out.mutable_result(), pb::code::failed, "the cluster's thread does not answer");
    if (s) {
      auto add = [&](const std::string& name, const std::string& address, const std::string& version, std::string_view state, bool is_draining, std::size_t sessions) {
        auto* n = out.add_nodes();
        n->set_name(name);
        n->set_address(address);
        n->set_version(version);
        n->set_state(std::string{state});
        n->set_draining(is_draining);
        n->set_sessions(sessions);
        return n;
      };
      add(s->own.name, s->own.address, COVEY_VERSION, "self", s->is_draining, s->sessions);
      for (auto& p : s->peers) {
        auto* n = add(p.name, p.address, p.release, actors::to_text(p.state), p.is_draining, p.sessions);
        n->set_lag(p.lag);
        n->set_open(p.open);
      }
      out.set_divergences(s->divergences);
    }
    end();
  }

  void leave_cluster(const pb::empty&, pb::status& out, end_call end) {
    auto left = runner_.leave_cluster();
    answer(&out, left ? pb::code::ok : pb::code::failed, left ? "this node leaves the cluster and stops" : left.error());
    end();
    if (left)
      stop_();
  }

  void show_config(const pb::empty&, pb::config_reply& out, end_call end) {
    for (auto& v : changes_.in_force()) {
      auto* o = out.add_values();
      o->set_key(v.key);
      o->set_text(v.text);
      o->set_origin(v.origin);
    }
    end();
  }

  /// Off the socket's thread: it blocks.
  template <class Job>
  void in_background(pb::change_reply& out, end_call end, Job job) {
    auto run = [end, &out, job = std::move(job)] {
      answer(&out, job());
      end();
    };
    if (!jobs_.run(run)) {
      answer(&out, {change_outcome::kind::failed, "the server is busy: try again", {}, {}});
      end();
    }
  }

  void reload(const pb::empty&, pb::change_reply& out, end_call end) {
    in_background(out, std::move(end), [this] { return changes_.reload(); });
  }
  void diff_config(const pb::empty&, pb::change_reply& out, end_call end) {
    in_background(out, std::move(end), [this] { return changes_.diff(); });
  }
  void add_host(const pb::host_change& in, pb::change_reply& out, end_call end) {
    in_background(out, std::move(end), [this, &in] { return changes_.add_host(in.domain(), {in.settings().begin(), in.settings().end()}); });
  }
  void set_host(const pb::host_change& in, pb::change_reply& out, end_call end) {
    in_background(out, std::move(end), [this, &in] { return changes_.set_host(in.domain(), {in.settings().begin(), in.settings().end()}); });
  }
  void remove_host(const pb::host_change& in, pb::change_reply& out, end_call end) {
    in_background(out, std::move(end), [this, &in] { return changes_.remove_host(in.domain(), in.erase_data()); });
  }

  void list_hosts(const pb::empty&, pb::host_list& out, end_call end) {
    for (auto& h : changes_.hosts()) {
      auto* o = out.add_hosts();
      o->set_domain(h.domain);
      o->set_file(h.file);
      o->set_added(h.is_added);
      o->set_engine(h.engine);
      o->set_certificate(h.certificate);
      o->set_certificate_until(h.certificate_until);
      o->set_sessions(h.sessions);
    }
    end();
  }

  file_sender::method backup(admin_socket& at) {
    auto in = std::make_shared<pb::empty>();
    return {[this, &at, in](auto* context, auto* to, void* tag) { Requestbackup(context, in.get(), to, &at.queue(), &at.queue(), tag); },
            [this]() -> base::result<file_source, file_sender::refusal> {
              auto made = server::backup::begin(runner_, changes_.file());
              if (!made)
                return base::fail(file_sender::refusal{pb::code::failed, made.error()});
              std::shared_ptr<server::backup> archive = std::move(*made);
              return file_source{[archive] { return archive->next(); }, archive->total()};
            }};
  }

  file_sender::method export_data(admin_socket& at) {
    auto in = std::make_shared<pb::export_filter>();
    return {[this, &at, in](auto* context, auto* to, void* tag) { Requestexport_data(context, in.get(), to, &at.queue(), &at.queue(), tag); },
            [this, in]() -> base::result<file_source, file_sender::refusal> {
              std::shared_ptr<transfer::exporter> e = transfer::exporter::begin(runner_, in->what());
              if (!e)
                return base::fail(file_sender::refusal{pb::code::not_found, in->what() + " is neither a host of this server nor a JID like alice@example.org"});
              return file_source{[e] { return e->next(); }, 0};
            }};
  }

  void stop(const pb::empty&, pb::status& out, end_call end) {
    answer(&out, pb::code::ok, "stopping");
    end();
    stop_();
  }

  runner& runner_;
  changes& changes_;
  std::function<void()> stop_;
  actors::pool jobs_{1}; // last: its jobs use the rest
};

void handlers::start(admin_socket& at) {
  auto answer_by = [this](auto handle) {
    return [this, handle](auto& in, auto& out, end_call end) { (this->*handle)(in, out, std::move(end)); };
  };
  using service = handlers;
  serve(at, *this, &service::Requestadd_user, answer_by(&handlers::add_user));
  serve(at, *this, &service::Requestset_password, answer_by(&handlers::set_password));
  serve(at, *this, &service::Requestremove_user, answer_by(&handlers::remove_user));
  serve(at, *this, &service::Requestlist_sessions, answer_by(&handlers::list_sessions));
  serve(at, *this, &service::Requestkick, answer_by(&handlers::kick));
  serve(at, *this, &service::Requestinvite, answer_by(&handlers::invite));
  serve(at, *this, &service::Requeststats, answer_by(&handlers::stats));
  serve(at, *this, &service::Requestdrain, answer_by(&handlers::drain));
  serve(at, *this, &service::Requestcluster_status, answer_by(&handlers::cluster_status));
  serve(at, *this, &service::Requestleave_cluster, answer_by(&handlers::leave_cluster));
  serve(at, *this, &service::Requestshow_config, answer_by(&handlers::show_config));
  serve(at, *this, &service::Requestreload, answer_by(&handlers::reload));
  serve(at, *this, &service::Requestdiff_config, answer_by(&handlers::diff_config));
  serve(at, *this, &service::Requestadd_host, answer_by(&handlers::add_host));
  serve(at, *this, &service::Requestset_host, answer_by(&handlers::set_host));
  serve(at, *this, &service::Requestremove_host, answer_by(&handlers::remove_host));
  serve(at, *this, &service::Requestlist_hosts, answer_by(&handlers::list_hosts));
  serve(at, *this, &service::Requeststop, answer_by(&handlers::stop));
  file_sender::wait(at, jobs_, [this, &at] { return backup(at); });
  file_sender::wait(at, jobs_, [this, &at] { return export_data(at); });
  import_receiver::wait(at, jobs_, runner_, [this, &at](auto* context, auto* from, void* tag) { Requestimport_data(context, from, &at.queue(), &at.queue(), tag); });
}
} // namespace

struct admin_service::impl {
  handlers service;
  admin_socket socket;
};

admin_service::admin_service(runner& r, changes& c, std::function<void()> stop) : impl_(new impl{{r, c, std::move(stop)}, {}}) {}

admin_service::~admin_service() { close(); }

base::result<void, std::string> admin_service::listen(const std::string& socket_file) {
  grpc::ServerBuilder b;
  b.RegisterService(&impl_->service);
  b.SetMaxReceiveMessageSize(1 << 20);
  auto ok = impl_->socket.listen(socket_file, b);
  if (ok)
    impl_->service.start(impl_->socket);
  return ok;
}

void admin_service::close() { impl_->socket.close(); }

} // namespace server
