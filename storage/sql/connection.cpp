// libpq, non-blocking.
#include "storage/sql/connection.hpp"
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <libpq-fe.h>
#include <poll.h>

namespace storage::sql {

namespace {
constexpr std::size_t most_prepared = 500; // statements on one connection; more are prepared each time

struct result_closer {
  void operator()(PGresult* r) const { PQclear(r); }
};
using result_ptr = std::unique_ptr<PGresult, result_closer>;

void note_warning(void* to, const PGresult* r) {
  auto* severity = PQresultErrorField(r, PG_DIAG_SEVERITY_NONLOCALIZED);
  if (severity && std::strcmp(severity, "WARNING") == 0)
    *static_cast<bool*>(to) = true;
}

std::string field(const PGresult* r, int code) {
  auto* text = PQresultErrorField(r, code);
  return text ? text : "";
}

reply read(const PGresult* r) {
  reply out;
  out.tag = PQcmdStatus(const_cast<PGresult*>(r));
  out.affected = std::strtoull(PQcmdTuples(const_cast<PGresult*>(r)), nullptr, 10);
  int rows = PQntuples(r), columns = PQnfields(r);
  out.rows.reserve(static_cast<std::size_t>(rows));
  for (int i = 0; i < rows; ++i) {
    auto& cells = out.rows.emplace_back(static_cast<std::size_t>(columns));
    for (int c = 0; c < columns; ++c)
      if (!PQgetisnull(r, i, c))
        cells[static_cast<std::size_t>(c)].emplace(PQgetvalue(r, i, c), static_cast<std::size_t>(PQgetlength(r, i, c)));
  }
  return out;
}

std::string trimmed(std::string s) {
  while (!s.empty() && (s.back() == '\n' || s.back() == ' '))
    s.pop_back();
  for (auto& c : s)
    if (c == '\n')
      c = ' ';
  return s;
}
} // namespace

struct connection::raw {
  PGconn* c = nullptr;
  bool warned = false;
  ~raw() { PQfinish(c); }
};

connection::connection(std::unique_ptr<raw> r) : raw_(std::move(r)) {}
connection::~connection() = default;

base::result<std::unique_ptr<connection>, std::string> connection::open(const std::vector<std::pair<std::string, std::string>>& parameters) {
  std::vector<const char*> names, values;
  for (auto& [name, value] : parameters) {
    names.push_back(name.c_str());
    values.push_back(value.c_str());
  }
  names.push_back(nullptr);
  values.push_back(nullptr);
  auto r = std::make_unique<raw>();
  // The blocking call: the other one ignores connect_timeout, so that a dead first host would hide the second (libpq 15)
  r->c = PQconnectdbParams(names.data(), values.data(), 0);
  if (!r->c || PQstatus(r->c) != CONNECTION_OK)
    return base::fail(trimmed(r->c ? PQerrorMessage(r->c) : "no memory"));
  PQsetNoticeReceiver(r->c, note_warning, &r->warned);
  if (PQsetnonblocking(r->c, 1) != 0 || PQenterPipelineMode(r->c) != 1)
    return base::fail(trimmed(PQerrorMessage(r->c)));
  return std::unique_ptr<connection>{new connection{std::move(r)}};
}

bool connection::wait(short events, base::time_point deadline) const {
  pollfd p{PQsocket(raw_->c), events, 0};
  for (;;) {
    auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - base::steady::now()).count();
    if (left <= 0)
      return false;
    int n = poll(&p, 1, static_cast<int>(std::min<std::int64_t>(left, 60'000)));
    if (n > 0)
      return true;
    if (n < 0 && errno != EINTR)
      return false;
  }
}

std::optional<replies> connection::run(std::span<const statement> todo, base::time_point deadline) {
  auto lose = [&]() -> std::optional<replies> {
    is_lost_ = true;
    return std::nullopt;
  };
  if (is_lost_)
    return std::nullopt;
  auto* c = raw_->c;
  raw_->warned = false;
  struct expected { const std::string* prepares; bool is_kept; }; // prepares: the text; null: a statement of `todo`
  std::vector<expected> order;
  for (auto& s : todo) {
    std::string name;
    if (auto i = prepared_.find(s.text); i != prepared_.end()) {
      name = i->second;
    } else {
      bool is_kept = prepared_.size() < most_prepared;
      if (is_kept)
        name = "s" + std::to_string(++names_);
      if (PQsendPrepare(c, name.c_str(), s.text.c_str(), 0, nullptr) != 1)
        return lose();
      order.push_back({&s.text, is_kept});
      if (is_kept)
        prepared_.emplace(s.text, name);
    }
    std::vector<const char*> values;
    std::vector<int> sizes, formats(s.args.size(), 1);
    for (auto& a : s.args) {
      values.push_back(a.data());
      sizes.push_back(static_cast<int>(a.size()));
    }
    if (PQsendQueryPrepared(c, name.c_str(), static_cast<int>(s.args.size()), values.data(), sizes.data(), formats.data(), 1) != 1)
      return lose();
    order.push_back({nullptr, true});
  }
  if (PQpipelineSync(c) != 1)
    return lose();
  replies out;
  for (std::size_t n = 0;;) {
    int left = PQflush(c);
    if (left < 0)
      return lose();
    bool is_busy = PQisBusy(c) != 0;
    result_ptr r{is_busy ? nullptr : PQgetResult(c)};
    if (!r) {
      if (PQstatus(c) == CONNECTION_BAD)
        return lose();
      if (!is_busy && base::steady::now() < deadline)
        continue; // the end of one statement's results
      // reads while it writes: a server that waits to send would not read on
      if (!wait(left ? POLLIN | POLLOUT : POLLIN, deadline) || PQconsumeInput(c) != 1)
        return lose();
      continue;
    }
    auto status = PQresultStatus(r.get());
    if (status == PGRES_PIPELINE_SYNC)
      break;
    if (n >= order.size())
      return lose();
    auto what = order[n++];
    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK) {
      if (!what.prepares && out.is_ok())
        out.all.push_back(read(r.get()));
      continue;
    }
    if (what.prepares && what.is_kept)
      prepared_.erase(*what.prepares);
    if (status == PGRES_FATAL_ERROR && out.is_ok()) {
      out.state = field(r.get(), PG_DIAG_SQLSTATE);
      out.text = field(r.get(), PG_DIAG_MESSAGE_PRIMARY);
      if (out.state.empty())
        return lose(); // libpq's own error: the socket
    }
  }
  out.has_warning = raw_->warned;
  return out;
}

std::optional<bool> connection::set(const std::string& text, base::time_point deadline) {
  statement s{text, {}};
  auto r = run({&s, 1}, deadline);
  if (!r)
    return std::nullopt;
  return r->is_ok();
}

std::string connection::told(const char* name) const {
  auto* v = PQparameterStatus(raw_->c, name);
  return v ? v : "";
}

std::string connection::peer() const {
  auto* host = PQhost(raw_->c);
  auto* port = PQport(raw_->c);
  return std::string{host ? host : ""} + ' ' + (port ? port : "");
}

base::result<std::vector<std::pair<std::string, std::string>>, std::string> parse_connection(const std::string& text) {
  char* why = nullptr;
  auto* all = PQconninfoParse(text.c_str(), &why);
  PQfreemem(why); // it may repeat half a password
  if (!all)
    return base::fail(std::string{"not a connection string of PostgreSQL: keyword=value …, with quotes around values with spaces, or postgresql://…"});
  std::vector<std::pair<std::string, std::string>> out;
  for (auto* o = all; o->keyword; ++o)
    if (o->val)
      out.emplace_back(o->keyword, o->val);
  PQconninfoFree(all);
  auto otherwise = [&](const char* name, const char* value) {
    for (auto& o : out)
      if (o.first == name)
        return;
    out.emplace_back(name, value);
  };
  otherwise("dbname", "covey");
  otherwise("connect_timeout", "2"); // of each address; libpq knows nothing shorter
  otherwise("tcp_user_timeout", "5000");
  otherwise("target_session_attrs", "read-write");
  otherwise("application_name", "covey");
  out.emplace_back("client_encoding", "UTF8");
  return out;
}

bool is_going_away(std::string_view state) {
  // the server stops, starts or is a standby now; the connection broke; nothing of it may be believed
  return state.starts_with("08") || state.starts_with("57P") || state == "25006";
}

bool is_worth_again(std::string_view state) {
  return state.starts_with("40") || state == "23505"; // serialization, deadlock; somebody created the same row meanwhile
}

} // namespace storage::sql
