// A disk that is full for a while: commits fail, reads go on, and nobody has to restart anything.
#include "tests/storage/engines.hpp"
#include <atomic>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>
#include <thread>

using namespace storage;
using namespace storage::testing;

namespace {
/// The real disk until it is told to be full: then nothing is appended or created any more.
class disk final : public ::rocksdb::FileSystemWrapper {
public:
  disk() : FileSystemWrapper(::rocksdb::FileSystem::Default()) {}
  const char* Name() const override { return "disk"; }
  std::atomic<bool> is_full{false};
  std::atomic<int> refused{0};

  ::rocksdb::IOStatus NewWritableFile(const std::string& name, const ::rocksdb::FileOptions& o,
                                      std::unique_ptr<::rocksdb::FSWritableFile>* made, ::rocksdb::IODebugContext* c) override {
    if (is_full)
      return no_space();
    auto s = target()->NewWritableFile(name, o, made, c);
    if (s.ok())
      *made = std::make_unique<file>(std::move(*made), *this);
    return s;
  }

private:
  ::rocksdb::IOStatus no_space() {
    ++refused;
    return ::rocksdb::IOStatus::NoSpace("No space left on device");
  }
  class file final : public ::rocksdb::FSWritableFileOwnerWrapper {
  public:
    file(std::unique_ptr<::rocksdb::FSWritableFile> f, disk& d) : FSWritableFileOwnerWrapper(std::move(f)), disk_(d) {}
    using FSWritableFileOwnerWrapper::Append;
    ::rocksdb::IOStatus Append(const ::rocksdb::Slice& data, const ::rocksdb::IOOptions& o, ::rocksdb::IODebugContext* c) override {
      if (!disk_.is_full)
        return FSWritableFileOwnerWrapper::Append(data, o, c);
      // as a real one does: the part that still fits is written
      (void)FSWritableFileOwnerWrapper::Append({data.data(), data.size() / 2}, o, c);
      return disk_.no_space();
    }

  private:
    disk& disk_;
  };
};

/// Tries until it is done, for 20 seconds at most.
bool is_done_in_time(engine& e, const batch& b) {
  for (int i = 0; i < 200; ++i) {
    auto o = commit(e, b);
    if (o == outcome::done)
      return true;
    if (o != outcome::unavailable)
      return false;
    std::this_thread::sleep_for(std::chrono::milliseconds{100});
  }
  return false;
}
} // namespace

TEST_CASE("full disk: unavailable while it lasts, reads go on, and it recovers by itself") {
  auto full = std::make_shared<disk>();
  auto env = ::rocksdb::NewCompositeEnv(full);
  temporary_folder folder;
  auto options = small(folder / "db");
  options.env = env.get();
  {
    auto e = open_or_fail(options);
    REQUIRE(commit(*e, make({put{"before", "1"}})) == outcome::done);
    for (int time = 0; time < 3; ++time) {
      CAPTURE(time);
      auto n = std::to_string(time);
      full->is_full = true;
      for (int i = 0; i < 5; ++i)
        CHECK(commit(*e, make({put{"lost" + n, "1"}, put{"before", "lost"}})) == outcome::unavailable);
      CHECK(full->refused > 0);
      CHECK(get(*e, "before")->value == "1");
      CHECK(commit(*e, make({put{"x", ""}}, {{"before", 9}})) == outcome::conflict); // known without the disk
      full->is_full = false;
      REQUIRE(is_done_in_time(*e, make({put{"after" + n, "1"}}, {{"after" + n, 0}})));
      CHECK(all(*e).find("lost") == std::string::npos);
    }
    CHECK(get(*e, "before")->version == 1);
  }
  auto e = open_or_fail(options);
  CHECK(all(*e) == "after0=1@1 after1=1@1 after2=1@1 before=1@1");
}

TEST_CASE("full disk: a process that ends while the disk is full finds what was acknowledged") {
  auto full = std::make_shared<disk>();
  auto env = ::rocksdb::NewCompositeEnv(full);
  temporary_folder folder;
  auto options = small(folder / "db");
  options.env = env.get();
  {
    auto e = open_or_fail(options);
    REQUIRE(commit(*e, make({put{"kept", "1"}})) == outcome::done);
    full->is_full = true;
    CHECK(commit(*e, make({put{"lost", "1"}})) == outcome::unavailable);
  }
  auto refused = open_rocksdb(options); // still full: it says so
  CHECK_FALSE(refused.has_value());
  full->is_full = false;
  auto e = open_or_fail(options);
  CHECK(all(*e) == "kept=1@1");
}
