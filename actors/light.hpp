// Light actors: plain objects in their reactor's table, named by slot and generation. No CAF here.
#pragma once
#include "modules/api/effects.hpp"
#include <cassert>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace actors {

/// Slot and generation in one number; 0 names nobody.
using light_id = std::uint64_t;

/// An address, a state that nobody else touches, one message at a time, a crash that ends it alone.
class light {
public:
  light() = default;
  light(const light&) = delete;
  light& operator=(const light&) = delete;
  virtual ~light() = default;
  /// Something thrown while this actor handled an item. It must end (or restart) itself; what it
  /// throws here ends it without more ado.
  virtual void on_crash(std::string_view why) = 0;
  /// A completion that carried this actor's id has ended. `why`: the error, where it bounced.
  virtual void on_completed(std::uint32_t, modules::outcome, const xmpp::error_ref& /*why*/) {}
  /// Of the stream that it belongs to: stands in every log line about it. 0: none.
  [[nodiscard]] virtual std::uint64_t log_id() const { return 0; }
  [[nodiscard]] light_id id() const { return id_; }

private:
  friend class light_table;
  light_id id_ = 0;
};

/// Owns the light actors of one reactor. Only its thread.
class light_table {
public:
  light_id insert(std::unique_ptr<light> actor) {
    std::uint32_t slot;
    if (free_.empty()) {
      slot = static_cast<std::uint32_t>(slots_.size());
      slots_.emplace_back();
    } else {
      slot = free_.back();
      free_.pop_back();
    }
    auto& s = slots_[slot];
    s.actor = std::move(actor);
    s.actor->id_ = std::uint64_t{slot} << 32 | s.generation;
    return s.actor->id_;
  }
  [[nodiscard]] light* find(light_id id) const {
    auto slot = static_cast<std::uint32_t>(id >> 32);
    if (slot >= slots_.size() || slots_[slot].generation != static_cast<std::uint32_t>(id))
      return nullptr;
    return slots_[slot].actor.get();
  }
  /// From now on find() gives null; the object itself is handed back to be destroyed later.
  std::unique_ptr<light> remove(light_id id) {
    if (!find(id))
      return nullptr;
    auto slot = static_cast<std::uint32_t>(id >> 32);
    auto& s = slots_[slot];
    if (++s.generation == 0) // 0 is never given out: an id of 0 names nobody
      s.generation = 1;
    free_.push_back(slot);
    return std::move(s.actor);
  }
  template <class F>
  void for_each(F f) const {
    for (auto& s : slots_)
      if (s.actor)
        f(*s.actor);
  }
  [[nodiscard]] std::size_t size() const { return slots_.size() - free_.size(); }

private:
  struct slot { std::unique_ptr<light> actor; std::uint32_t generation = 1; };
  std::vector<slot> slots_;
  std::vector<std::uint32_t> free_;
};

} // namespace actors
