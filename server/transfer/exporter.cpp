// One account after the other, each section by section.
#include "server/runner.hpp"
#include "server/transfer/sections.hpp"
#include "server/transfer/transfer.hpp"

namespace server::transfer {

namespace tables = storage::tables;

namespace {
constexpr std::size_t piece = 256 * 1024; // what is handed out at once
}

struct exporter::impl {
  runner& server;
  std::vector<std::string> hosts;  // that are still to come; the first is under way
  xmpp::jid_ref only;              // one account; null: all of the hosts
  storage::key_range accounts;     // of the host that is under way, which are still to come
  std::string out;
  std::size_t at = 0, users = 0;
  bool is_begun = false, in_host = false, is_over = false;

  base::result<void, std::string> account(storage::engine& from, const storage::row& row) {
    auto fail = [&](const std::string& jid) { return base::fail("the storage cannot read the rows of " + jid); };
    auto local = tables::local_of(row);
    auto jid = xmpp::make_jid(local, hosts.front());
    auto a = tables::decode_account(row);
    if (!jid || !a)
      return fail(local + '@' + hosts.front());
    out += "<user name='";
    xmpp::append_attribute_escaped(out, local);
    out += "'>\n";
    for (auto& s : sections()) {
      auto size = out.size();
      if (auto ok = s.write({*jid, *a, from}, out); !ok)
        return fail(local + '@' + hosts.front());
      if (out.size() > size)
        out += '\n';
    }
    out += "</user>\n";
    ++users;
    return {};
  }

  base::result<void, std::string> go_on() {
    if (!std::exchange(is_begun, true))
      out += "<?xml version='1.0' encoding='UTF-8'?>\n<server-data xmlns='" + std::string{pie_ns} + "'>\n";
    if (hosts.empty()) {
      out += "</server-data>\n";
      is_over = true;
      return {};
    }
    if (!std::exchange(in_host, true)) {
      out += "<host jid='";
      xmpp::append_attribute_escaped(out, hosts.front());
      out += "'>\n";
      accounts = only ? storage::only(tables::account_key(*only)) : tables::accounts_of(hosts.front());
    }
    auto* store = server.store_of(hosts.front());
    if (!store) // it was removed meanwhile
      return base::fail(hosts.front() + " is not served any more");
    auto row = store->blocking().scan(accounts, storage::order::forward, 1);
    if (!row)
      return base::fail("the storage cannot read the accounts of " + hosts.front());
    if (!row->empty()) {
      accounts.from = row->front().key + '\0';
      return account(store->blocking(), row->front());
    }
    out += "</host>\n";
    in_host = false;
    hosts.erase(hosts.begin());
    return {};
  }
};

exporter::exporter() = default;
exporter::~exporter() = default;
std::size_t exporter::users() const { return impl_->users; }

std::unique_ptr<exporter> exporter::begin(runner& r, const std::string& what) {
  std::unique_ptr<exporter> e{new exporter};
  e->impl_.reset(new impl{.server = r, .hosts = {}, .only = {}, .accounts = {}, .out = {}});
  auto now = r.settings();
  for (auto& h : now->hosts)
    e->impl_->hosts.push_back(h.domain);
  if (what.empty())
    return e;
  auto j = xmpp::parse_jid(what);
  if (!j || !(*j)->is_bare() || !r.accounts_of((*j)->domain()))
    return nullptr;
  e->impl_->hosts = {std::string{(*j)->domain()}};
  if (!(*j)->is_domain())
    e->impl_->only = *j;
  return e;
}

base::result<std::string, std::string> exporter::next() {
  auto& i = *impl_;
  while (!i.is_over && i.out.size() - i.at < piece)
    if (auto ok = i.go_on(); !ok)
      return base::fail(ok.error());
  auto part = i.out.substr(i.at, piece);
  i.at += part.size();
  if (i.at == i.out.size()) {
    i.out.clear();
    i.at = 0;
  }
  return part;
}

} // namespace server::transfer
