// All rows of a node from one engine to another.
#include "base/bytes.hpp"
#include "server/admin/service.hpp" // socket_in
#include "server/cli/commands.hpp"
#include "server/cli/coveyd.hpp"

namespace cli {

int migrate(const options& o) {
  auto loaded = load(o);
  if (!loaded.problems.empty())
    return o.json ? say(true, server::exit_config, {}, {{"problems", to_json(loaded.problems)}}) : say_problems(loaded.problems);
  if (probe(server::socket_in(loaded.config.run_folder)) == reach::up)
    return say(o.json, exit_code::conflict, "the server runs: covey stop first");
  std::string said;
  std::optional<std::uint64_t> rows;
  base::result<int, std::string> code = 0;
  {
    progress bar{"migrate"};
    code = run_coveyd({"--config", o.config, "--migrate", o.words[0], o.words[1]}, [&](const std::string& line) {
      auto space = std::min(line.find(' '), line.size());
      auto number = base::to_number<std::uint64_t>(std::string_view{line}.substr(std::min(space + 1, line.size())));
      if (line.starts_with("progress ") && number)
        bar.show(*number, 0, "rows");
      else if (line.starts_with("rows ") && number)
        rows = number;
      else
        said += (said.empty() ? "" : "\n") + line;
    });
  }
  if (!code)
    return say(o.json, exit_code::failed, code.error());
  if (*code != 0 || !rows)
    return say(o.json, exit_code::failed, said.empty() ? "coveyd, which copies the rows, ended unasked" : said);
  return say(o.json, exit_code::ok,
             std::to_string(*rows) + " rows were copied and compared; " + o.words[0] + " stays as it was\n    next: storage.engine = \""
                 + o.words[1].substr(0, o.words[1].find(':')) + "\" in " + o.config + ", then start the server",
             {{"rows", *rows}, {"from", o.words[0]}, {"to", o.words[1]}});
}

} // namespace cli
