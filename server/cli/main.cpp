// covey: the operator's command line. Exit codes: 0 ok, 1 failed, 2 usage, 3 unreachable, 4 not found,
// 5 conflict, 78 mistakes in the configuration (docs/cli.md).
#include "server/certificates.hpp"
#include "server/cli/commands.hpp"
#include "server/cli/completion.hpp"
#include "server/cli/qr.hpp"
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <iostream>
#include <unistd.h>

namespace {
using namespace cli;

std::string default_config() {
  auto* named = std::getenv("COVEY_CONFIG");
  return named ? named : "/etc/covey/covey.toml";
}

// --- accounts

int with_password(const options& o, grpc::Status (stub::*method)(grpc::ClientContext*, const pb::account_password&, pb::status*), const char* done) {
  auto jid = account_of(o);
  if (!jid)
    return exit_code::usage;
  auto password = cli::read_password(o.password, true);
  if (!password)
    return exit_code::usage;
  pb::account_password in;
  in.set_jid(*jid);
  in.set_password(*password);
  pb::status out;
  int code = 0;
  return call(o, code, method, in, &out) ? cli::say(o.json, out, *jid + done) : code;
}

int user_remove(const options& o) {
  auto jid = account_of(o);
  if (!jid)
    return exit_code::usage;
  if (!o.yes && !cli::confirm("Remove " + *jid + " with everything that is kept for it?"))
    return cli::say(o.json, exit_code::usage, "nothing was removed: say --yes");
  pb::account in;
  in.set_jid(*jid);
  pb::status out;
  int code = 0;
  return call(o, code, &stub::remove_user, in, &out) ? cli::say(o.json, out, *jid + " has been removed") : code;
}

// --- sessions

int sessions(const options& o) {
  auto jid = account_of(o);
  if (!jid)
    return exit_code::usage;
  pb::session_filter in;
  in.set_jid(*jid);
  pb::session_list out;
  int code = 0;
  if (!call(o, code, &stub::list_sessions, in, &out))
    return code;
  if (out.result().result() != pb::code::ok)
    return cli::say(o.json, out.result(), {});
  if (o.json) {
    auto list = nlohmann::json::array();
    for (auto& s : out.sessions())
      list.push_back({{"jid", s.jid()}, {"peer", s.peer()}, {"tls", s.tls()}, {"since", s.since()}, {"reactor", s.reactor()},
                      {"priority", s.priority()}, {"available", s.available()}, {"id", s.id()}, {"stream", s.stream()}, {"node", s.node()}});
    return cli::say(true, exit_code::ok, {}, {{"sessions", std::move(list)}});
  }
  for (auto& s : out.sessions())
    std::cout << s.jid() << "  " << (s.node().empty() ? s.peer() + (s.tls() ? "  tls" : "  clear") : "at " + s.node()) << (s.available() ? "  available " + std::to_string(s.priority()) : "  unavailable") << '\n';
  std::cout << out.sessions_size() << (out.sessions_size() == 1 ? " session\n" : " sessions\n");
  return exit_code::ok;
}

int kick(const options& o) {
  auto jid = account_of(o);
  if (!jid)
    return exit_code::usage;
  if (!o.yes && !cli::confirm("End what is connected as " + *jid + '?'))
    return cli::say(o.json, exit_code::usage, "nobody was kicked: say --yes");
  pb::kick_request in;
  in.set_jid(*jid);
  in.set_reason(o.reason);
  pb::status out;
  int code = 0;
  return call(o, code, &stub::kick, in, &out) ? cli::say(o.json, out, *jid + " has been told to go") : code;
}

int stats(const options& o) {
  pb::stats_reply out;
  int code = 0;
  if (!call(o, code, &stub::stats, pb::empty{}, &out))
    return code;
  std::map<std::string, double> values{out.values().begin(), out.values().end()};
  if (o.json)
    return cli::say(true, exit_code::ok, {}, {{"stats", values}});
  for (auto& [name, v] : values)
    std::cout << name << ' ' << v << '\n';
  return exit_code::ok;
}

int stop(const options& o) {
  if (!o.yes && !cli::confirm("Stop the server? Its users are told, and what is under way is finished."))
    return cli::say(o.json, exit_code::usage, "nothing was stopped: say --yes");
  pb::status out;
  int code = 0;
  return call(o, code, &stub::stop, pb::empty{}, &out) ? cli::say(o.json, out, "stopping") : code;
}

int drain(const options& o) {
  pb::status out;
  int code = 0;
  return call(o, code, &stub::drain, pb::empty{}, &out) ? cli::say(o.json, out, "no new sessions; those that are there stay until covey stop") : code;
}

int invite(const options& o) {
  auto hosts = load(o).config.hosts;
  if (o.jid.empty() && hosts.size() != 1)
    return cli::say(o.json, exit_code::usage, "to which host? covey invite example.org");
  pb::invite_request in;
  in.set_jid(o.jid.empty() ? hosts[0].domain : o.jid);
  pb::invite_reply out;
  int code = 0;
  if (!call(o, code, &stub::invite, in, &out))
    return code;
  if (out.result().result() != pb::code::ok)
    return cli::say(o.json, out.result(), {});
  if (o.json)
    return cli::say(true, exit_code::ok, {}, {{"uri", out.uri()}, {"landing", out.landing()}, {"expires", out.expires()}});
  auto& link = out.landing().empty() ? out.uri() : out.landing();
  std::cout << out.uri() << '\n' << (out.landing().empty() ? "" : out.landing() + '\n');
  if (isatty(STDOUT_FILENO))
    std::cout << '\n' << cli::qr_code(link) << '\n';
  std::time_t until = out.expires();
  char text[64] = "";
  std::strftime(text, sizeof text, "%F %H:%M %Z", std::localtime(&until));
  std::cerr << "good once, until " << text << '\n';
  return exit_code::ok;
}

// --- configuration

int config_check(const options& o) {
  bool runs = cli::probe(socket_of(o)) == cli::reach::up; // then it holds its ports
  auto problems = server::load_config(o.config, server::own_environment(), {true, !runs}).problems;
  if (o.json)
    return cli::say(true, problems.empty() ? static_cast<int>(exit_code::ok) : server::exit_config, {}, {{"problems", to_json(problems)}});
  return problems.empty() ? cli::say(false, exit_code::ok, o.config + " is good") : say_problems(problems);
}

/// Of the files as they are now; config_diff() says what a running server has instead.
int config_show(const options& o) {
  auto loaded = load(o);
  auto list = nlohmann::json::array();
  for (auto& v : loaded.effective) {
    if (!o.effective && v.origin == "default")
      continue;
    if (o.json)
      list.push_back({{"key", v.key}, {"value", v.text}, {"origin", v.origin}});
    else
      std::cout << v.key << " = " << v.text << "   # " << v.origin << '\n';
  }
  int code = loaded.problems.empty() ? static_cast<int>(exit_code::ok) : server::exit_config;
  if (o.json)
    return cli::say(true, code, {}, {{"values", std::move(list)}, {"problems", to_json(loaded.problems)}});
  return loaded.problems.empty() ? code : say_problems(loaded.problems);
}

int config_docs(const options&) {
  std::cout << server::document(server::all_keys(modules::all()));
  return exit_code::ok;
}

/// A file that nobody has written yet. False: it is there, or cannot be made (errno).
bool write_new(const std::string& path, const std::string& text) {
  auto* f = std::fopen(path.c_str(), "wxe");
  if (!f)
    return false;
  bool ok = std::fwrite(text.data(), 1, text.size(), f) == text.size();
  return std::fclose(f) == 0 && ok;
}

/// The one-line file and the certificates. What is there already stays.
int setup(const options& o) {
  auto domain = xmpp::parse_jid(o.domain);
  if (!domain || !(*domain)->is_domain() || !(*domain)->is_bare())
    return cli::say(o.json, exit_code::usage, '"' + o.domain + "\" is no domain");
  std::string name{(*domain)->domain()}, did;
  std::error_code ec;
  bool is_new = !std::filesystem::exists(o.config, ec);
  if (is_new) {
    if (auto folder = std::filesystem::path{o.config}.parent_path(); !folder.empty())
      std::filesystem::create_directories(folder, ec);
    std::string text = "domain = \"" + name + "\"\n";
    if (!o.data.empty())
      text += "data = \"" + o.data + "\"\nrun = \"" + o.data + "/run\"\n";
    if (!write_new(o.config, text))
      return cli::say(o.json, exit_code::failed, o.config + " cannot be written: " + std::strerror(errno));
    did = "wrote " + o.config + '\n';
  } else {
    did = o.config + " was there already and stays as it is\n";
  }
  auto loaded = load(o);
  if (!loaded.problems.empty()) {
    if (o.json)
      return cli::say(true, server::exit_config, {}, {{"problems", to_json(loaded.problems)}});
    return say_problems(loaded.problems);
  }
  auto& hosts = loaded.config.hosts;
  auto host = std::find_if(hosts.begin(), hosts.end(), [&](auto& h) { return h.domain == name; });
  if (host == hosts.end())
    return cli::say(o.json, exit_code::conflict, o.config + " serves " + hosts[0].domain + " and stays as it is\n    add there: domains = [\"" + name + "\"]");
  if (!host->certificate.empty())
    return cli::say(o.json, exit_code::ok, did + "the certificate is " + host->certificate,
                    {{"config", o.config}, {"is_new", is_new}, {"certificate", host->certificate}});
  auto made = server::local_certificate(loaded.config.data_folder + "/certificates", name);
  if (!made)
    return cli::say(o.json, exit_code::failed, made.error());
  did += (made->is_new ? "made the certificate " : "the certificate is ") + made->chain + '\n';
  did += "clients of this machine trust it after: " + server::how_to_trust(made->authority) + '\n';
  did += "next: coveyd --config " + o.config + ", then: covey user add alice@" + name;
  return cli::say(o.json, exit_code::ok, did,
                  {{"config", o.config}, {"is_new", is_new}, {"certificate", made->chain}, {"authority", made->authority},
                   {"trust", server::how_to_trust(made->authority)}});
}

} // namespace

int main(int argc, char** argv) {
  options o;
  o.config = default_config();
  int result = 0;
  CLI::App app{"The command line of covey, an XMPP server."};
  app.set_version_flag("--version", COVEY_VERSION);
  app.require_subcommand(1);
  app.footer("Example: covey setup chat.example.org\nExit status: 0 ok, 1 failed, 2 usage, 3 unreachable, 4 not found, 5 conflict, 78 mistakes in the configuration.");
  app.fallthrough();
  app.add_option("--config", o.config, "The server's configuration file")->capture_default_str();
  app.add_flag("--json", o.json, "Print JSON (docs/cli.md has each command's schema)");

  auto command = [&](CLI::App* parent, const char* name, const char* what, const char* example, int (*run)(const options&)) {
    auto* c = parent->add_subcommand(name, what);
    c->footer(std::string{"Example: "} + example);
    c->callback([&o, &result, run] { result = run(o); });
    return c;
  };
  auto passwords = [&](CLI::App* c) {
    c->add_option("jid", o.jid, "The account: alice@example.org, or alice where there is one host")->required();
    auto* from_stdin = c->add_flag("--password-stdin", o.password.from_stdin, "The first line of standard input is the password");
    auto* from_file = c->add_option("--password-file", o.password.file, "The first line of this file is the password");
    auto* from_env = c->add_option("--password-env", o.password.variable, "This environment variable is the password");
    from_stdin->excludes(from_file)->excludes(from_env);
    from_file->excludes(from_env);
  };
  auto asks = [&](CLI::App* c) { c->add_flag("--yes", o.yes, "Do not ask"); };

  auto* s = command(&app, "setup", "Write a one-line configuration and certificates", "covey setup chat.example.org", setup);
  s->add_option("domain", o.domain, "The domain to serve")->required();
  s->add_option("--data", o.data, "Folder for data and certificates, instead of /var/lib/covey");

  auto* user = app.add_subcommand("user", "Accounts")->require_subcommand(1)->footer("Example: covey user add alice@example.org");
  passwords(command(user, "add", "Create an account", "covey user add alice@example.org",
                    [](const options& x) { return with_password(x, &stub::add_user, " has been created"); }));
  passwords(command(user, "password", "Set a new password", "covey user password alice@example.org --password-stdin < file",
                    [](const options& x) { return with_password(x, &stub::set_password, " has a new password"); }));
  auto* remove = command(user, "remove", "Remove an account with all its data", "covey user remove alice@example.org --yes", user_remove);
  remove->add_option("jid", o.jid, "The account")->required();
  asks(remove);

  command(&app, "sessions", "Who is connected", "covey sessions alice@example.org --json", sessions)
      ->add_option("jid", o.jid, "Only this account or session");
  auto* k = command(&app, "kick", "End a session, or all of an account", "covey kick alice@example.org/phone --yes", kick);
  k->add_option("jid", o.jid, "Full or bare JID")->required();
  k->add_option("--reason", o.reason, "What the client is told");
  asks(k);
  command(&app, "invite", "A link, with a QR code on a terminal, for somebody who shall get an account or become a contact",
          "covey invite alice@example.org", invite)
      ->add_option("jid", o.jid, "alice@example.org: who uses it becomes her contact, or gets this account if there is none; example.org, or nothing where there is one host: who uses it gets an account");
  command(&app, "stats", "All metrics with their present values", "covey stats --json", stats);
  asks(command(&app, "stop", "Stop the server gracefully", "covey stop --yes", stop));
  command(&app, "drain", "No new sessions, and red health: before a restart behind a load balancer", "covey drain", drain);

  command(&app, "reload", "Put the configuration, modules and certificates in force; no stream ends", "covey reload", reload);

  command(&app, "doctor", "What is wrong with the server and its machine, and how to mend it", "covey doctor --json", doctor)
      ->add_option("--nameserver", o.nameserver, "Ask this DNS server instead of the machine's: ADDRESS or ADDRESS:PORT");

  auto* keep = command(&app, "backup", "Write everything into one archive while the server runs", "covey backup /srv/backups", backup);
  keep->add_option("file", o.file, "The archive (tar), or a folder for it")->required();
  asks(keep);
  auto* back = command(&app, "restore", "Put an archive back; the server must not run", "covey restore covey-20260101-000000.tar --yes", restore);
  back->add_option("file", o.file, "The archive")->required();
  asks(back);

  command(&app, "migrate", "Copy all data to another engine; the server must not run", "covey migrate rocksdb postgresql", migrate)
      ->add_option("words", o.words, "From and to: rocksdb, postgresql, postgresql:DOMAIN; from may be a file of rows, too")
      ->required()
      ->expected(2);

  auto* out = command(&app, "export", "Write accounts into a file of XEP-0227, for another server", "covey export example.org accounts.xml", export_data);
  out->add_option("words", o.words, "A host or a bare JID (without it: all), and the file")->required()->expected(1, 2);
  asks(out);
  command(&app, "import", "Read accounts from a file of XEP-0227; may be done again", "covey import accounts.xml", import_data)
      ->add_option("file", o.file, "The file")->required();

  auto* host = app.add_subcommand("host", "Virtual hosts")->require_subcommand(1)->footer("Example: covey host add example.net");
  auto of_host = [&](CLI::App* c) {
    c->add_option("domain", o.domain, "The host's domain")->required();
    return c;
  };
  of_host(command(host, "add", "Serve another domain from now on", "covey host add example.net --set limits.roster=500", host_add))
      ->add_option("--set", o.settings, "A setting of this host: key=value; may be given again")->allow_extra_args(false);
  of_host(command(host, "set", "Change settings of an added host", "covey host set example.net limits.roster=500", host_set))
      ->add_option("settings", o.settings, "key=value; key= takes it away")->required();
  auto* gone = of_host(command(host, "remove", "Stop serving an added host", "covey host remove example.net --yes", host_remove));
  gone->add_flag("--erase-data", o.erase_data, "Erase its accounts and everything that is kept for them");
  asks(gone);
  command(host, "list", "All hosts, with sessions and certificates", "covey host list --json", host_list);

  auto* cluster = app.add_subcommand("cluster", "The cluster's authority, and who may join")->require_subcommand(1)->footer("Example: covey cluster init-ca example");
  auto in_folder = [&](CLI::App* c) {
    c->add_option("--folder", o.folder, "Instead of the folder \"cluster\" in the data folder");
    return c;
  };
  auto* init = in_folder(command(cluster, "init-ca", "Make the cluster's authority, and this node's certificate", "covey cluster init-ca example --node node1", cluster_init));
  init->add_option("name", o.name, "The cluster's name")->required();
  init->add_option("--node", o.node, "This node's name; without it the machine's");
  init->add_option("--address", o.addresses, "A host name or address to stand in the certificate; may be given again")->allow_extra_args(false);
  auto* issue = in_folder(command(cluster, "issue-cert", "A node's certificate and key, made new or renewed", "covey cluster issue-cert node2", cluster_issue));
  issue->add_option("node", o.node, "The node's name")->required();
  issue->add_option("--address", o.addresses, "A host name or address to stand in the certificate; may be given again")->allow_extra_args(false);
  issue->add_option("--out", o.out, "Folder for the three files; without it issued/NODE in the cluster's folder");
  auto* token = in_folder(command(cluster, "token", "A token with which one node may join", "covey cluster token --address node1.example.org:5290", cluster_token));
  token->add_option("--address", o.addresses, "HOST:PORT at which this node is reached; without it the machine's name and port 5290")->expected(1);
  token->add_option("--life", o.life, "How long it is good")->capture_default_str();
  command(cluster, "status", "The nodes, their sessions, and how far behind each is", "covey cluster status --json", cluster_status);
  auto* leaving = command(cluster, "leave", "Take this node out of the cluster, and stop it", "covey cluster leave --yes", cluster_leave);
  asks(leaving);
  auto* joining = in_folder(command(&app, "join", "Become a node of a cluster", "covey join covey1.pWUTuf2…", join));
  joining->add_option("token", o.token, "What `covey cluster token` printed")->required();
  joining->add_option("--node", o.node, "This node's name; without it the machine's");
  joining->add_option("--address", o.addresses, "HOST:PORT at which this node is reached; without it the machine's name and port 5290")->expected(1);

  auto* config = app.add_subcommand("config", "The configuration")->require_subcommand(1)->footer("Example: covey config check");
  command(config, "check", "Find every mistake; needs no server", "covey config check --config covey.toml", config_check);
  command(config, "show", "What is set, and where", "covey config show --effective", config_show)
      ->add_flag("--effective", o.effective, "With all defaults");
  command(config, "diff", "What differs from what a running server has, and what of it changes live", "covey config diff", config_diff);
  command(config, "docs", "docs/configuration.md, made from the code", "covey config docs", config_docs);

  auto* completion = app.add_subcommand("completion", "A completion script for bash, zsh or fish");
  completion->footer("Example: covey completion bash > /etc/bash_completion.d/covey");
  completion->add_option("shell", o.shell, "bash, zsh or fish")->required()->check(CLI::IsMember({"bash", "zsh", "fish"}));
  completion->callback([&] { std::cout << cli::completion(app, o.shell); });

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? exit_code::ok : exit_code::usage;
  }
  std::cout.flush();
  std::_Exit(result); // gRPC's own threads need no farewell: it costs more than the call
}
