// What a client says and hears.
#include "tests/sim_nodes/client.hpp"
#include "base/bytes.hpp"
#include <algorithm>

namespace sim_nodes {

namespace {
constexpr auto host = "sim";
const std::string header = "<stream:stream to='sim' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

std::string_view start_tag(std::string_view e) {
  char quote = 0;
  for (std::size_t i = 0; i < e.size(); ++i)
    if (quote) {
      if (e[i] == quote)
        quote = 0;
    } else if (e[i] == '\'' || e[i] == '"') {
      quote = e[i];
    } else if (e[i] == '>') {
      return e.substr(0, i + 1);
    }
  return {};
}

/// Of the element's own start tag; empty: it is not there.
std::string_view attr(std::string_view e, std::string_view name) {
  auto tag = start_tag(e);
  for (std::size_t at = 0; (at = tag.find(name, at)) != tag.npos; ++at) {
    auto end = at + name.size();
    if (tag[at - 1] != ' ' || end + 1 >= tag.size() || tag[end] != '=')
      continue;
    auto quote = tag[end + 1];
    auto from = end + 2;
    return tag.substr(from, tag.find(quote, from) - from);
  }
  return {};
}

bool is(std::string_view e, std::string_view name) {
  return e.size() > name.size() + 1 && e[0] == '<' && e.substr(1, name.size()) == name && (e[name.size() + 1] == ' ' || e[name.size() + 1] == '>' || e[name.size() + 1] == '/');
}

/// The first element, whole; empty: it is not all there. The server writes no comments and no CDATA.
std::string_view first_element(std::string_view in) {
  std::size_t at = 0;
  int depth = 0;
  for (;;) {
    at = in.find('<', at);
    if (at == in.npos)
      return {};
    auto tag = start_tag(in.substr(at));
    if (tag.empty())
      return {};
    if (tag[1] == '/')
      --depth;
    else if (tag[tag.size() - 2] != '/')
      ++depth;
    at += tag.size();
    if (depth == 0)
      return in.substr(0, at);
  }
}
} // namespace

std::uint32_t number_in(std::string_view text) { return static_cast<std::uint32_t>(std::strtoul(std::string{text}.c_str(), nullptr, 10)); }

client::client(world& w, history& seen, client_world& around, sim::chance& luck, identity who)
  : world_(w), seen_(seen), around_(around), luck_(luck), who_(std::move(who)) {}

std::string client::bare() const { return "user" + std::to_string(who_.account) + '@' + host; }

std::vector<std::uint64_t> client::unacknowledged() const {
  std::vector<std::uint64_t> all;
  for (auto* list : {&again_, &unacked_})
    for (auto& u : *list)
      if (u.message)
        all.push_back(u.message);
  return all;
}

// --- connections

void client::come() {
  wants_ = true;
  if (phase_ != phase::off)
    return;
  pipe_ = around_.connect(who_.number, ++seen_.last_stream, *this);
  if (!pipe_)
    return come_later(300ms, 1500ms);
  world_.trace("%s connects to node%zu", name().c_str(), pipe_->node);
  buffer_.clear();
  phase_ = phase::header;
  is_leaving_ = false;
  heard_ = world_.now();
  send(header);
  watch(pipe_->stream);
}

void client::come_later(duration shortest, duration longest) {
  if (!wants_)
    return;
  world_.after(luck_.between(shortest, longest), [this] {
    if (wants_ && phase_ == phase::off)
      come();
  });
}

/// A server that does not answer is left; one that has nothing to say is asked.
void client::watch(stream_id stream) {
  world_.after(1s, [this, stream] {
    if (!pipe_ || pipe_->stream != stream)
      return;
    auto silence = world_.now() - heard_;
    if (silence > (phase_ == phase::online ? 25s : 15s)) {
      world_.trace("%s has heard nothing for too long", name().c_str());
      return lose(false);
    }
    bool may_speak = phase_ == phase::online && !is_leaving_;
    if (may_speak && !unacked_.empty())
      send("<r xmlns='urn:xmpp:sm:3'/>");
    else if (may_speak && silence > 8s)
      send_stanza("<iq type='get' id='p" + std::to_string(++last_iq_) + "' to='sim'><ping xmlns='urn:xmpp:ping'/></iq>");
    watch(stream);
  });
}

void client::gone() {
  is_ack_due_ = false;
  pipe_ = nullptr;
  phase_ = phase::off;
  around_.moved(who_.account);
  come_later(5ms, luck_.in(3) ? 8s : 1s);
}

void client::lose(bool is_silent) {
  if (!pipe_)
    return;
  world_.trace("%s loses its connection to node%zu%s", name().c_str(), pipe_->node, is_silent ? " in silence" : "");
  auto p = std::exchange(pipe_, nullptr);
  p->user = nullptr;
  around_.hang_up(p, is_silent);
  gone();
}

void client::restart() {
  world_.trace("%s starts anew", name().c_str());
  previd_.clear();
  if (pipe_)
    lose(luck_.in(3));
}

void client::leave() {
  wants_ = false;
  end_stay();
  world_.trace("%s leaves", name().c_str());
  previd_.clear();
  if (!pipe_)
    return;
  if (phase_ != phase::online)
    return lose(false);
  send("</stream:stream>");
  is_leaving_ = true;
}

void client::be_deaf(duration how_long) { deaf_until_ = world_.now() + how_long; }

void client::on_gone(stream_id stream) {
  if (!pipe_ || pipe_->stream != stream)
    return;
  world_.trace("%s: node%zu has closed the connection", name().c_str(), pipe_->node);
  pipe_->user = nullptr;
  gone();
}

// --- what it says

void client::send(std::string xml) {
  if (pipe_)
    around_.send(pipe_, std::move(xml), {});
}

void client::send_stanza(std::string xml, std::uint64_t message, std::uint64_t announcement) {
  ++out_;
  unacked_.push_back({out_, message, announcement, xml});
  send(std::move(xml));
}

void client::say(const std::string& to, std::size_t account) {
  if (phase_ != phase::online || is_leaving_)
    return;
  auto number = seen_.messages.size();
  auto& m = seen_.messages.emplace_back();
  m.from = who_.number;
  m.account = account;
  m.to = to;
  m.login = login_;
  m.sent = world_.now();
  auto id = "m" + std::to_string(number);
  world_.trace("%s says %s to %s", name().c_str(), id.c_str(), to.c_str());
  auto xml = "<message type='chat' id='" + id + "' to='" + to + "'><body>" + id + "</body>";
  if (who_.has_origin_ids)
    xml += "<origin-id xmlns='urn:xmpp:sid:0' id='" + id + "'/>";
  send_stanza(xml + "</message>", number);
}

void client::announce() {
  if (phase_ != phase::online || is_leaving_)
    return;
  auto number = seen_.announcements.size();
  auto& a = seen_.announcements.emplace_back();
  a.from = who_.number;
  a.sent = world_.now();
  auto id = "a" + std::to_string(number);
  world_.trace("%s announces %s", name().c_str(), id.c_str());
  send_stanza("<message type='chat' id='" + id + "' to='announce@sim'><body>" + id + ".</body><origin-id xmlns='urn:xmpp:sid:0' id='" + id + "'/></message>", 0, number);
}

void client::send_ack() {
  if (!pipe_ || phase_ != phase::online || is_leaving_) // nothing follows its </stream:stream>
    return;
  around_.send(pipe_, "<a xmlns='urn:xmpp:sm:3' h='" + std::to_string(in_) + "'/>",
               [this, until = in_, login = login_](std::size_t node) { on_heard(until, login, node); });
}

/// The server has read the ack.
void client::on_heard(std::uint32_t until, login_id login, std::size_t node) {
  if (login != login_)
    return;
  while (!got_.empty() && got_.begin()->first <= until) {
    auto [message, copy] = got_.begin()->second;
    auto& c = seen_.messages[message].copies[copy];
    c.is_heard = true;
    c.heard = world_.now();
    c.node = node;
    got_.erase(got_.begin());
  }
}

/// What an earlier session, or the earlier stream of this one, did not get acknowledged.
void client::send_again() {
  for (auto& u : std::exchange(again_, {})) {
    if (u.message)
      seen_.messages[u.message].is_resent = true;
    if (u.announcement)
      seen_.announcements[u.announcement].is_resent = true;
    world_.trace("%s says %c%llu again", name().c_str(), u.message ? 'm' : 'a', static_cast<unsigned long long>(u.message + u.announcement));
    send_stanza(std::move(u.xml), u.message, u.announcement);
  }
}

// --- what it hears

void client::on_bytes(stream_id stream, const std::string& bytes) {
  if (!pipe_ || pipe_->stream != stream)
    return;
  heard_ = world_.now();
  seen_.note(world_, bytes);
  buffer_ += bytes;
  while (pipe_ && pipe_->stream == stream) {
    buffer_.erase(0, std::min(buffer_.find_first_not_of(" \n"), buffer_.size()));
    if (buffer_.starts_with("<?xml")) {
      auto end = buffer_.find("?>");
      if (end == buffer_.npos)
        return;
      buffer_.erase(0, end + 2);
    } else if (buffer_.starts_with("<stream:stream")) {
      auto tag = start_tag(buffer_);
      if (tag.empty())
        return;
      buffer_.erase(0, tag.size());
    } else if (buffer_.starts_with("</stream:stream>")) {
      world_.trace("%s: node%zu has ended the stream", name().c_str(), pipe_->node);
      auto p = std::exchange(pipe_, nullptr);
      p->user = nullptr;
      around_.hang_up(p, false);
      return gone();
    } else {
      auto e = std::string{first_element(buffer_)};
      if (e.empty())
        return;
      buffer_.erase(0, e.size());
      on_element(e);
    }
  }
}

void client::begin_session() {
  if (!previd_.empty()) { // whoever sends it does not know whether the server has died with what it had
    phase_ = phase::resume;
    return around_.send(pipe_, "<resume xmlns='urn:xmpp:sm:3' h='" + std::to_string(in_) + "' previd='" + previd_ + "'/>", {});
  }
  phase_ = phase::bind;
  end_stay();
  stay_ = seen_.stays.size();
  seen_.stays.push_back({who_.account, who_.number, world_.now(), time_point::max()});
  unmanaged_ = seen_.unmanaged.size();
  seen_.unmanaged.push_back({who_.account, world_.now(), world_.now() + 60s}); // unless <enabled/> comes
  send("<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>" + who_.resource + "</resource></bind></iq>");
}

/// Its session is replaced, or ends, as soon as the server hears of that.
void client::end_stay() {
  if (stay_)
    seen_.stays[*stay_].until = world_.now() + 5s;
  stay_ = {};
}

void client::on_element(std::string_view e) {
  if (is(e, "stream:error")) {
    world_.trace("%s: %.*s", name().c_str(), static_cast<int>(std::min<std::size_t>(e.size(), 200)), e.data());
    if (e.find("<conflict") != e.npos) {
      ++seen_.conflicts;
      previd_.clear();
    }
    return;
  }
  switch (phase_) {
    case phase::off: return;
    case phase::header:
      if (is(e, "stream:features")) {
        phase_ = phase::auth;
        auto plain = std::string{"\0", 1} + "user" + std::to_string(who_.account) + std::string{"\0x", 2};
        send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" + base::to_base64(plain) + "</auth>");
      }
      return;
    case phase::auth:
      if (is(e, "success")) {
        phase_ = phase::header_again;
        return send(header);
      }
      world_.trace("%s is not let in", name().c_str());
      return lose(false);
    case phase::header_again:
      if (is(e, "stream:features"))
        begin_session();
      return;
    case phase::resume:
      if (is(e, "resumed")) {
        ++seen_.resumptions;
        world_.trace("%s has resumed at node%zu, which has had %.*s of %u", name().c_str(), pipe_->node, static_cast<int>(attr(e, "h").size()), attr(e, "h").data(), out_);
        phase_ = phase::online;
        around_.moved(who_.account);
        on_heard(in_, login_, pipe_->node);
        on_handled(number_in(attr(e, "h")));
        again_ = std::exchange(unacked_, {}); // under the same numbers, for the server's count begins there
        out_ = acked_;
        return send_again();
      }
      if (is(e, "failed")) {
        ++seen_.refused_resumptions;
        world_.trace("%s cannot resume", name().c_str());
        if (auto h = attr(e, "h"); !h.empty())
          on_handled(number_in(h));
        previd_.clear();
        begin_session();
      }
      return;
    case phase::bind:
      if (is(e, "iq") && attr(e, "id") == "bind") {
        if (attr(e, "type") != "result") {
          world_.trace("%s is not bound: %.*s", name().c_str(), static_cast<int>(e.size()), e.data());
          return lose(false);
        }
        phase_ = phase::enable;
        seen_.given_up[login_] = world_.now();
        login_ = ++seen_.logins;
        sees_.clear();
        got_.clear();
        send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
      }
      return;
    case phase::enable:
      if (is(e, "enabled")) {
        seen_.unmanaged[unmanaged_].until = world_.now();
        previd_ = attr(e, "id");
        in_ = out_ = acked_ = 0;
        for (auto& u : std::exchange(unacked_, {}))
          if (u.message || u.announcement)
            again_.push_back(std::move(u));
        phase_ = phase::online;
        world_.trace("%s is bound at node%zu", name().c_str(), pipe_->node);
        around_.moved(who_.account);
        send_stanza("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>");
        if (who_.wants_copies)
          send_stanza("<iq type='set' id='copies'><enable xmlns='urn:xmpp:carbons:2'/></iq>");
        send_stanza("<presence/>");
        return send_again();
      }
      on_stanza(e); // nobody counts it as yet
      return;
    case phase::online: break;
  }
  if (is(e, "a"))
    return on_handled(number_in(attr(e, "h")));
  if (is(e, "r")) {
    if (std::exchange(is_ack_due_, true))
      return;
    world_.after(std::max<duration>(who_.ack_delay, deaf_until_ - world_.now()), [this, stream = pipe_->stream] {
      if (!pipe_ || pipe_->stream != stream)
        return;
      is_ack_due_ = false;
      send_ack();
    });
    return;
  }
  on_stanza(e);
}

void client::on_handled(std::uint32_t h) {
  acked_ = h;
  while (!unacked_.empty() && unacked_.front().number <= h) {
    auto& u = unacked_.front();
    if (u.message && !std::exchange(seen_.messages[u.message].is_acknowledged, true)) {
      seen_.messages[u.message].acknowledged = world_.now();
      seen_.messages[u.message].told = login_;
      world_.trace("%s: m%llu is acknowledged", name().c_str(), static_cast<unsigned long long>(u.message));
    }
    if (u.announcement)
      seen_.announcements[u.announcement].is_acknowledged = true;
    unacked_.pop_front();
  }
}

void client::on_stanza(std::string_view e) {
  ++in_;
  if (is(e, "message"))
    return on_message(e);
  if (is(e, "presence")) {
    std::string from{attr(e, "from")};
    auto type = attr(e, "type");
    world_.trace("%s: %s is %.*s", name().c_str(), from.c_str(), type.empty() ? 5 : static_cast<int>(type.size()), type.empty() ? "there" : type.data());
    if (type.empty())
      sees_.insert(from);
    else if (type == "unavailable")
      sees_.erase(from);
  }
}

void client::on_message(std::string_view e) {
  bool is_error = attr(e, "type") == "error";
  auto body = e.find("<body>");
  if (body == e.npos && !is_error)
    return;
  auto text = is_error ? attr(e, "id") : e.substr(body + 6);
  if (text.size() < 2)
    return;
  bool is_announcement = text.starts_with('a');
  auto number = number_in(text.substr(1));
  if (number == 0 || number >= (is_announcement ? seen_.announcements.size() : seen_.messages.size()))
    return seen_.violate(world_, "%s got a message that nobody sent: %.*s", name().c_str(), static_cast<int>(e.size()), e.data());
  if (is_error) {
    world_.trace("%s: %c%u comes back: %.*s", name().c_str(), text[0], number, static_cast<int>(e.size()), e.data());
    if (is_announcement)
      seen_.announcements[number].is_bounced = true;
    else
      seen_.messages[number].is_bounced = true;
    return;
  }
  if (is_announcement) {
    if (attr(e, "type") == "headline" && ++seen_.announcements[number].copies[pipe_->stream] > 1 && !seen_.announcements[number].is_resent)
      seen_.violate(world_, "announcement a%u came twice on one stream to %s", number, name().c_str());
    return;
  }
  auto& m = seen_.messages[number];
  bool is_carbon = e.find("urn:xmpp:carbons:2") != e.npos;
  bool is_delayed = e.find("urn:xmpp:delay") != e.npos;
  world_.trace("%s gets m%u%s%s from node%zu", name().c_str(), number, is_carbon ? " as a copy" : "", is_delayed ? ", delayed" : "", pipe_->node);
  bool is_sent_copy = is_carbon && e.find("<sent ") != e.npos;
  if (is_sent_copy)
    return;
  m.copies.push_back({who_.number, login_, pipe_->stream, world_.now(), is_carbon, is_delayed, !sees_.contains(full()), false, {}, pipe_->node});
  if (phase_ == phase::online)
    got_[in_] = {number, m.copies.size() - 1};
}

} // namespace sim_nodes
