// Answers, gathered by target.
#include "storage/completion.hpp"
#include "base/log.hpp"
#include <algorithm>
#include <exception>

namespace storage {

void answers::add(completion_target* to, std::function<void()> run) {
  if (!run)
    return;
  auto i = std::find_if(groups_.begin(), groups_.end(), [&](auto& g) { return g.to == to; });
  if (i == groups_.end())
    i = groups_.insert(i, group{to, {}});
  i->runs.push_back(std::move(run));
}

void answers::send() {
  auto guarded = [](auto&& f) {
    try {
      f();
    } catch (const std::exception& e) {
      base::log::error("storage.answer_failed", "whoever asked the storage failed on the answer", {{"error", e.what()}});
    } catch (...) {
      base::log::error("storage.answer_failed", "whoever asked the storage failed on the answer", {});
    }
  };
  for (auto& g : groups_)
    if (g.to)
      guarded([&] { g.to->post(std::move(g.runs)); });
    else
      for (auto& run : g.runs)
        guarded(run);
  groups_.clear();
}

} // namespace storage
