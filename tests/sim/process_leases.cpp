// What a simulated node owns by lease: it writes a row now and then, fenced, as a room or a service would.
#include "tests/sim/process.hpp"

namespace sim {

namespace {
constexpr const char* owned[]{"room1@sim", "room2@sim", "announce"};
} // namespace

void process::start_leases() {
  for (const auto* name : owned)
    leases_.claim(name, s_.w.now());
}

void process::tick_leases() {
  cluster::lease_effects out;
  leases_.tick(s_.w.now(), out);
  carry(std::move(out));
  work_as_owner();
}

void process::give_leases_back() {
  cluster::lease_effects out;
  leases_.release_all(s_.w.now(), out);
  carry(std::move(out));
}

void process::carry(cluster::lease_effects&& todo) {
  for (const auto& name : todo.gained) {
    ++s_.seen.lease_changes;
    s_.w.trace("node%zu owns %s, epoch %llu", index_, name.c_str(), static_cast<unsigned long long>(leases_.epoch(name)));
  }
  for (const auto& name : todo.paused)
    s_.w.trace("node%zu pauses %s", index_, name.c_str());
  for (const auto& name : todo.resumed)
    s_.w.trace("node%zu resumes %s", index_, name.c_str());
  for (const auto& name : todo.ended)
    s_.w.trace("node%zu ends %s", index_, name.c_str());
  for (auto& r : todo.reads) {
    auto until = r.key + std::string(1, '\0');
    s_.database.scan(index_, {r.key, until}, [this, lives = lives_, op = r.op](store::rows rows) {
      if (!*lives)
        return;
      post(source::other, [this, op, rows = std::move(rows)] {
        cluster::lease_effects out;
        base::result<std::optional<storage::row>, storage::errc> one;
        if (!rows)
          one = base::fail(rows.error());
        else if (!rows->empty())
          one = rows->front();
        leases_.on_read(op, one, s_.w.now(), out);
        carry(std::move(out));
      });
    });
  }
  for (auto& c : todo.commits)
    s_.database.commit(index_, std::move(c.what), [this, lives = lives_, op = c.op](storage::outcome how) {
      if (!*lives)
        return;
      post(source::other, [this, op, how] {
        cluster::lease_effects out;
        leases_.on_commit(op, how, s_.w.now(), out);
        carry(std::move(out));
      });
    });
}

/// The row says who wrote it in which epoch, and counts: the checker reads all its versions.
void process::work_as_owner() {
  for (const auto* name : owned) {
    auto fence = leases_.fence(name, s_.w.now());
    if (!fence || !s_.w.luck.in(3))
      continue;
    std::string value = std::to_string(leases_.epoch(name)) + " node" + std::to_string(index_) + " " + std::to_string(life_);
    storage::batch b{{life_, ++last_batch_}, {storage::put{std::string{"w/"} + name, value}}, {*fence}, storage::durability::durable};
    s_.database.commit(index_, std::move(b), [](storage::outcome) {});
    ++s_.seen.lease_writes;
  }
}

} // namespace sim
