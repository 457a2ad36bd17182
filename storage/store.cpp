// Stores without threads, and what all stores share.
#include "storage/store.hpp"
#include "storage/table.hpp"

namespace storage {

namespace {
/// Exceptions of the continuation reach the caller: without a thread between them it is one program.
void answer(completion_target* to, std::function<void()> run) {
  if (!to)
    return run();
  std::vector<std::function<void()>> one;
  one.push_back(std::move(run));
  to->post(std::move(one));
}

void perform(engine& e, read&& r) {
  auto found = std::make_shared<base::result<std::vector<row>, errc>>(e.scan(r.range, r.direction, r.limit));
  if (r.then)
    answer(r.target, [then = std::move(r.then), found] { then(std::move(*found)); });
}
} // namespace

void store::get(std::string key, on_row then, completion_target* to) {
  scan(only(std::move(key)), order::forward, 1, [then = std::move(then)](base::result<std::vector<row>, errc> rows) {
    if (!then)
      return;
    if (!rows)
      return then(base::fail(rows.error()));
    then(rows->empty() ? std::optional<row>{} : std::optional<row>{std::move(rows->front())});
  }, to);
}

void threaded_store::do_read(read r) {
  auto found = r.then ? engine_->scan_in_memory(r.range, r.direction, r.limit) : std::nullopt;
  if (!found)
    return readers_.submit(std::move(r));
  at_once_.add();
  if (!r.target)
    return r.then(std::move(*found));
  answer(r.target, [then = std::move(r.then), rows = std::make_shared<std::vector<row>>(std::move(*found))] { then(std::move(*rows)); });
}

void inline_store::do_submit(batch b, answer_to whom) {
  auto o = engine_->commit({&b, 1}).front();
  if (whom.then)
    answer(whom.target, [then = std::move(whom.then), o] { then(o); });
}

void inline_store::do_read(read r) { perform(*engine_, std::move(r)); }

void stepped_store::do_submit(batch b, answer_to whom) { batches_.emplace_back(std::move(b), std::move(whom)); }
void stepped_store::do_read(read r) { reads_.push_back(std::move(r)); }

std::size_t stepped_store::commit(std::size_t most) {
  std::vector<batch> group;
  std::vector<answer_to> whom;
  for (; !batches_.empty() && group.size() < most; batches_.pop_front()) {
    group.push_back(std::move(batches_.front().first));
    whom.push_back(std::move(batches_.front().second));
  }
  if (group.empty())
    return 0;
  auto outcomes = engine_->commit(group);
  for (std::size_t i = 0; i < whom.size(); ++i)
    if (whom[i].then)
      answer(whom[i].target, [then = std::move(whom[i].then), o = outcomes[i]] { then(o); });
  return group.size();
}

bool stepped_store::read_one() {
  if (reads_.empty())
    return false;
  auto r = std::move(reads_.front());
  reads_.pop_front();
  perform(*engine_, std::move(r));
  return true;
}

void stepped_store::step() {
  while (commit() > 0 || read_one()) {
  }
}

} // namespace storage
