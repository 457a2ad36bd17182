// Accounts as a file of XEP-0227: out of the running server, and into it.
#include "server/cli/receive.hpp"
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <grpcpp/grpcpp.h>
#include <iostream>

namespace cli {

int export_data(const options& o) {
  pb::export_filter filter;
  if (o.words.size() > 1)
    filter.set_what(o.words.front());
  return receive(o, "export", o.words.back(), [&](stub& server, grpc::ClientContext& context) { return server.export_data(&context, filter); });
}

int import_data(const options& o) {
  std::ifstream in{o.file, std::ios::binary};
  std::error_code ec;
  auto total = std::filesystem::file_size(o.file, ec);
  if (!in || ec)
    return say(o.json, exit_code::usage, o.file + " cannot be read: " + (ec ? ec.message() : std::strerror(errno)));
  auto socket_file = socket_of(o);
  if (auto found = probe(socket_file); found != reach::up)
    return say_unreachable(o.json, socket_file, found);
  client c{socket_file};
  grpc::ClientContext context;
  pb::import_reply out;
  auto to = c.calls().import_data(&context, &out);
  std::string piece(64 * 1024, '\0');
  pb::data_part part;
  std::uint64_t done = 0;
  {
    progress bar{"import"};
    while (in.read(piece.data(), static_cast<std::streamsize>(piece.size())) || in.gcount() > 0) {
      part.set_data(piece.data(), static_cast<std::size_t>(in.gcount()));
      if (!to->Write(part))
        break; // the server has said why
      done += static_cast<std::uint64_t>(in.gcount());
      bar.show(done >> 10, total >> 10, "kB");
    }
    to->WritesDone();
  }
  int code = 0;
  if (!succeeded(o, code, socket_file, to->Finish()))
    return code;
  code = out.result().result();
  auto list = nlohmann::json::array();
  for (auto& m : out.mistakes()) {
    list.push_back({{"line", m.line()}, {"text", m.text()}});
    if (!o.json)
      std::cerr << o.file << (m.line() ? ':' + std::to_string(m.line()) : "") << ": " << m.text() << '\n';
  }
  if (!o.json && out.all_mistakes() > static_cast<std::uint64_t>(out.mistakes_size()))
    std::cerr << "and " << out.all_mistakes() - static_cast<std::uint64_t>(out.mistakes_size()) << " more mistakes\n";
  std::map<std::string, std::uint64_t> skipped{out.skipped().begin(), out.skipped().end()};
  if (!o.json)
    for (auto& [kind, n] : skipped)
      std::cerr << "not read: " << kind << ", " << n << " times\n";
  auto text = std::to_string(out.users()) + " accounts were made, " + std::to_string(out.existed()) + " were there; " + std::to_string(out.contacts()) + " contacts, "
              + std::to_string(out.messages()) + " messages";
  if (out.without_password() > 0)
    text += "; " + std::to_string(out.without_password()) + " accounts have no password: covey user password JID";
  if (out.only_sha1() > 0)
    text += "; " + std::to_string(out.only_sha1()) + " accounts have keys for SCRAM-SHA-1 only: see docs/operation.md";
  return say(o.json, code, text,
             {{"users", out.users()}, {"existed", out.existed()}, {"without_password", out.without_password()}, {"only_sha1", out.only_sha1()}, {"contacts", out.contacts()},
              {"messages", out.messages()}, {"mistakes", std::move(list)}, {"all_mistakes", out.all_mistakes()}, {"skipped", skipped}});
}

} // namespace cli
