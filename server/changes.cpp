// Reads, prepares, writes, swaps; in this order, so that what fails leaves everything as it was.
#include "server/changes.hpp"
#include "base/files.hpp"
#include "base/log.hpp"
#include "net/tls_identity.hpp"
#include "server/certificates.hpp"
#include "server/config/values.hpp"
#include "server/files.hpp"
#include "server/renewal.hpp"
#include "server/runner.hpp"
#include <algorithm>
#include <filesystem>
#include <sstream>

namespace server {

using kind = change_outcome::kind;

namespace {
change_outcome refuse(kind what, std::string text) { return {what, std::move(text), {}, {}}; }

/// A domain as it is kept, or nothing.
std::optional<std::string> prepared(const std::string& domain) {
  auto j = xmpp::parse_jid(domain);
  if (!j || !(*j)->is_domain() || !(*j)->is_bare())
    return std::nullopt;
  return std::string{(*j)->domain()};
}

/// The value as it is written in a file: what somebody typed on a command line has lost its quotes.
std::string as_written(const std::string& typed, const key* k) {
  auto parsed = toml::parse("x = " + typed);
  auto* node = parsed && parsed.table().size() == 1 ? parsed.table().get("x") : nullptr;
  if (node && (!k || convert(*k, *node)))
    return text_of(*node);
  toml::value<std::string> bare{typed};
  if (!node || (k && convert(*k, bare)))
    return in_quotes(typed);
  return text_of(*node);
}

/// Without the line that sets `name`, and with `line` above the first table where it is not empty.
std::string with_line(const std::string& text, const std::string& name, const std::string& line) {
  std::istringstream in{text};
  std::string out, next;
  bool is_written = line.empty();
  while (std::getline(in, next)) {
    if (auto a = split_assignment(next); a && a->first == name)
      continue;
    if (!is_written && next.starts_with('[')) {
      out += line + '\n';
      is_written = true;
    }
    out += next + '\n';
  }
  return is_written ? out : out + line + '\n';
}

/// What is in force after a reload: what waits for a restart is as it was.
std::vector<effective_value> after(const std::vector<effective_value>& before, std::vector<effective_value> written, const std::vector<changed_value>& changed) {
  for (auto& c : changed) {
    if (c.is_live)
      continue;
    auto is_it = [&](auto& v) { return v.key == c.key; };
    auto old = std::find_if(before.begin(), before.end(), is_it);
    auto fresh = std::find_if(written.begin(), written.end(), is_it);
    if (old == before.end())
      written.erase(fresh);
    else if (fresh == written.end())
      written.push_back(*old);
    else
      *fresh = *old;
  }
  return written;
}
} // namespace

changes::changes(runner& r, std::string file, std::vector<effective_value> in_force)
  : runner_(r), file_(std::move(file)), keys_(all_keys(modules::all())), in_force_(std::move(in_force)) {
  show_certificates();
}

std::vector<effective_value> changes::in_force() const {
  std::lock_guard guard{values_mutex_};
  return in_force_;
}

std::string changes::folder() const { return hosts_folder_in(runner_.settings()->data_folder); }

loaded changes::read(std::optional<host_file> instead) const {
  return load_config(file_, own_environment(), {true, false, folder(), std::move(instead)});
}

change_outcome changes::diff() {
  std::lock_guard guard{mutex_};
  auto next = read();
  if (!next.problems.empty())
    return {kind::mistakes, {}, {}, std::move(next.problems)};
  return {kind::done, {}, compare(in_force(), next.effective, keys_), {}};
}

change_outcome changes::reload() {
  std::lock_guard guard{mutex_};
  return apply(read(), {});
}

change_outcome changes::apply(loaded next, const step& just_before) {
  auto failed = [this](const std::string& why) {
    refused_.add();
    base::log::error("config.not_reloaded", "the configuration in force stays", {{"error", why}});
    return refuse(kind::failed, why);
  };
  if (!next.problems.empty()) {
    refused_.add();
    for (auto& p : next.problems)
      base::log::error("config.mistake", "the configuration in force stays",
                       {{"file", p.file}, {"line", std::to_string(p.line)}, {"key", p.key}, {"found", p.found}, {"allowed", p.allowed}, {"remedy", p.remedy}});
    return {kind::mistakes, {}, {}, std::move(next.problems)};
  }
  auto& c = next.config;
  auto changed = compare(in_force(), next.effective, keys_);
  c.data_folder = runner_.settings()->data_folder;
  if (auto made = provide_certificates(c); !made.failed.empty())
    return failed(made.failed);
  auto last = [&]() -> base::result<void, std::string> {
    if (just_before)
      if (auto ok = just_before(); !ok)
        return ok;
    try {
      base::log::start(c.log_level, c.log_format, c.log_file);
    } catch (const std::exception& e) {
      return base::fail(std::string{e.what()});
    }
    return {};
  };
  if (auto ok = runner_.change(c, last); !ok)
    return failed(ok.error());
  {
    std::lock_guard guard{values_mutex_};
    in_force_ = after(in_force_, std::move(next.effective), changed);
  }
  show_certificates();
  reloads_.add();
  std::string waiting;
  for (auto& v : changed)
    if (!v.is_live)
      waiting += (waiting.empty() ? "" : " ") + v.key;
  base::log::info("config.reloaded", "the files are in force", {{"changed", std::to_string(changed.size())}, {"need_restart", waiting}});
  return {kind::done, {}, std::move(changed), {}};
}

change_outcome changes::with_settings(const std::string& domain, std::string text, const std::vector<std::string>& settings) {
  for (auto& s : settings) {
    auto equals = s.find('=');
    auto name = s.substr(0, equals);
    while (name.ends_with(' '))
      name.pop_back();
    if (equals == s.npos || name.empty() || name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_.") != name.npos)
      return refuse(kind::usage, '"' + s + "\" is no setting like limits.roster=500");
    auto value = s.substr(std::min(s.find_first_not_of(' ', equals + 1), s.size()));
    auto k = std::find_if(keys_.begin(), keys_.end(), [&](auto& x) { return x.name == name; });
    text = with_line(text, name, value.empty() ? "" : name + " = " + as_written(value, k == keys_.end() ? nullptr : &*k));
  }
  auto path = folder() + '/' + domain + ".toml";
  return apply(read(host_file{domain, text}), [&]() -> base::result<void, std::string> {
    std::error_code ec;
    std::filesystem::create_directories(folder(), ec);
    return write_whole(path, text);
  });
}

change_outcome changes::add_host(const std::string& name, const std::vector<std::string>& settings) {
  auto domain = prepared(name);
  if (!domain)
    return refuse(kind::usage, '"' + name + "\" is no domain");
  std::lock_guard guard{mutex_};
  if (runner_.node().find_host(*domain))
    return refuse(kind::conflict, *domain + " is a host of this server already");
  return with_settings(*domain, "# A host that was added with `covey host add`: what could stand under [host.\"" + *domain + "\"].\n", settings);
}

change_outcome changes::set_host(const std::string& name, const std::vector<std::string>& settings) {
  auto domain = prepared(name);
  std::lock_guard guard{mutex_};
  if (!domain || !runner_.node().find_host(*domain))
    return refuse(kind::not_found, name + " is no host of this server");
  auto text = base::read_file(folder() + '/' + *domain + ".toml");
  if (!text)
    return refuse(kind::conflict, *domain + " stands in " + file_ + ": write its settings there, under [host.\"" + *domain + "\"], then covey reload");
  return with_settings(*domain, std::move(*text), settings);
}

change_outcome changes::remove_host(const std::string& name, bool erases) {
  auto domain = prepared(name);
  if (!domain)
    return refuse(kind::usage, '"' + name + "\" is no domain");
  std::lock_guard guard{mutex_};
  bool is_served = runner_.node().find_host(*domain) != nullptr;
  auto path = folder() + '/' + *domain + ".toml";
  std::error_code ec;
  change_outcome out;
  if (is_served && !std::filesystem::exists(path, ec))
    return refuse(kind::conflict, *domain + " stands in " + file_ + ": take it out there, then covey reload");
  if (!is_served && !erases)
    return refuse(kind::not_found, *domain + " is no host of this server");
  if (is_served)
    out = apply(read(host_file{*domain, {}}), [&] { return remove_file(path); });
  if (out.what != kind::done || !erases)
    return out;
  if (auto ok = runner_.erase_rows(*domain); !ok)
    return refuse(kind::failed, ok.error());
  for (auto* end : {".pem", ".key"})
    (void)remove_file(runner_.settings()->data_folder + "/certificates/" + ascii_name(*domain) + end);
  return out;
}

std::vector<host_info> changes::hosts() const {
  std::map<std::string, std::size_t, std::less<>> sessions;
  runner_.node().registry().for_each_session([&](auto& row) { ++sessions[std::string{row.full->domain()}]; });
  std::vector<host_info> all;
  auto now = runner_.settings();
  for (auto& h : now->hosts) {
    host_info i{h.domain, h.file.empty() ? file_ : h.file, h.engine, h.certificate, !h.file.empty(), 0, sessions[h.domain]};
    if (auto c = net::check_certificate(h.certificate, h.key, {}))
      i.certificate_until = std::chrono::duration_cast<std::chrono::seconds>(c->not_after.time_since_epoch()).count();
    all.push_back(std::move(i));
  }
  return all;
}

/// For those who watch: when each host's certificate ends.
void changes::show_certificates() {
  constexpr auto name = "covey_certificate_until_seconds";
  for (auto& domain : std::exchange(shown_, {}))
    base::metrics::forget(name, {{"host", domain}});
  for (auto& h : hosts())
    if (h.certificate_until) {
      base::metrics::make_gauge(name, "When the host's certificate ends, in seconds since 1970.", {{"host", h.domain}}).set(h.certificate_until);
      shown_.push_back(h.domain);
    }
}

void changes::renew_certificates() {
  std::lock_guard guard{mutex_};
  auto c = *runner_.settings();
  auto made = provide_certificates(c);
  auto failed = made.failed;
  if (made.is_any_new) {
    if (auto ok = runner_.change(std::move(c)); !ok)
      failed = ok.error();
    else
      base::log::info("certificate.renewed", "new connections get the new certificates", {});
    show_certificates();
  }
  if (!failed.empty())
    base::log::error("certificate.not_renewed", "the certificate in force stays", {{"error", failed}});
}

} // namespace server
