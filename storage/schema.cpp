// The schema row and the steps of migrations.
#include "storage/schema.hpp"
#include "base/log.hpp"
#include "proto/storage.pb.h"
#include "storage/tables.hpp"
#include <chrono>
#include <thread>

namespace storage::tables {

namespace {
namespace pb = covey::storage;

std::string encode(std::uint32_t version, std::uint32_t jid_profile) {
  pb::schema m;
  m.set_version(version);
  m.set_jid_profile(jid_profile);
  return m.SerializeAsString();
}

/// False: somebody else was faster.
base::result<bool, std::string> write(engine& e, std::vector<change> changes, std::uint32_t to, std::uint32_t jid_profile, version before) {
  batch b;
  auto key = key_builder{schema}.take();
  b.changes = std::move(changes);
  b.changes.emplace_back(put{key, encode(to, jid_profile)});
  b.preconditions.push_back({key, before});
  switch (e.commit({&b, 1}).front()) {
    case outcome::done: return true;
    case outcome::conflict: return false;
    default: return base::fail(std::string{"the schema row cannot be written"});
  }
}
/// False: another node changes it at this moment.
base::result<bool, std::string> check_once(engine& e, const schema_target& to);
} // namespace

schema_target current_schema() { return {schema_version, xmpp::jid_profile_version, {}}; }

base::result<void, std::string> check_schema(engine& e, const schema_target& to) {
  constexpr int most = 40; // nodes of a cluster start at once, and a step may take a while
  for (int n = 0; n < most; ++n) {
    auto is_done = check_once(e, to);
    if (!is_done)
      return base::fail(is_done.error());
    if (*is_done)
      return {};
    std::this_thread::sleep_for(std::chrono::milliseconds{250});
  }
  return base::fail(std::string{"another node has been changing the schema for ten seconds; start again"});
}

namespace {
base::result<bool, std::string> check_once(engine& e, const schema_target& to) {
  auto key = key_builder{schema}.take();
  auto there = e.get(key);
  if (!there)
    return base::fail(std::string{"the schema row cannot be read"});
  if (!*there) {
    auto any = e.scan({{}, "\xff"}, order::forward, 1);
    if (!any)
      return base::fail(std::string{"the database cannot be read"});
    if (!any->empty())
      return base::fail(std::string{"this database has rows but no schema row: it is damaged, or not covey's"});
    return write(e, {}, to.version, to.jid_profile, 0);
  }
  pb::schema m;
  if (!m.ParseFromString((*there)->value) || m.version() == 0)
    return base::fail(std::string{"the schema row is corrupt"});
  if (m.version() > to.version)
    return base::fail("this database has schema " + std::to_string(m.version()) + ", written by a newer covey; this one knows up to "
                      + std::to_string(to.version));
  if (m.jid_profile() != to.jid_profile)
    return base::fail("this database was written with JID profile " + std::to_string(m.jid_profile()) + "; this covey has "
                      + std::to_string(to.jid_profile));
  auto row_version = (*there)->version;
  for (auto at = m.version(); at < to.version; ++at, ++row_version) {
    const migration* next = nullptr;
    for (auto& s : to.steps)
      if (s.to == at + 1)
        next = &s;
    if (!next)
      return base::fail("there is no way from schema " + std::to_string(at) + " to " + std::to_string(at + 1));
    auto changes = next->step(e);
    if (!changes)
      return base::fail("migration to schema " + std::to_string(at + 1) + ": " + changes.error());
    if (auto ok = write(e, std::move(*changes), at + 1, to.jid_profile, row_version); !ok || !*ok)
      return ok;
    base::log::info("storage.migrated", "the database has a new schema", {{"version", std::to_string(at + 1)}});
  }
  return true;
}
} // namespace

} // namespace storage::tables
