// One generator for three shells: words by the command that was typed so far.
#include "server/cli/completion.hpp"
#include <CLI/CLI.hpp>
#include <map>

namespace cli {

namespace {
/// "" and "user add" → what may follow.
void collect(const CLI::App& app, const std::string& path, std::map<std::string, std::string>& words) {
  std::string all;
  for (auto* sub : app.get_subcommands({})) {
    all += sub->get_name() + ' ';
    collect(*sub, path.empty() ? sub->get_name() : path + ' ' + sub->get_name(), words);
  }
  for (auto* o : app.get_options())
    for (auto& name : o->get_lnames())
      all += "--" + name + ' ';
  words[path] = all;
}
} // namespace

std::string completion(const CLI::App& app, const std::string& shell) {
  std::map<std::string, std::string> words;
  collect(app, "", words);
  std::string out;
  if (shell == "fish") {
    for (auto& [path, list] : words) {
      auto condition = path.empty() ? std::string{"__fish_use_subcommand"} : "__fish_seen_subcommand_from " + path.substr(path.rfind(' ') + 1);
      out += "complete -c covey -f -n '" + condition + "' -a '" + list + "'\n";
    }
    return out;
  }
  if (shell == "zsh")
    out += "#compdef covey\nautoload -U +X bashcompinit && bashcompinit\n";
  out += "_covey() {\n  local path=\"\" w\n  for w in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
         "    case $w in -*) ;; *) case \"$path $w\" in ";
  std::string known;
  for (auto& [path, list] : words)
    if (!path.empty())
      known += (known.empty() ? "\" " : "|\" ") + path + "\"";
  out += known + ") path=\"$path $w\" ;; esac ;; esac\n  done\n  local words=\"\"\n  case \"$path\" in\n";
  for (auto& [path, list] : words)
    out += "    \"" + (path.empty() ? path : ' ' + path) + "\") words=\"" + list + "\" ;;\n";
  out += "  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n}\ncomplete -F _covey covey\n";
  return out;
}

} // namespace cli
