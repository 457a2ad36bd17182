// JIDs: one shared immutable allocation each. A jid that exists is valid and prepared.
#pragma once
#include "base/ref.hpp"
#include "base/result.hpp"
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace xmpp {

/// Of the profile below. It is stored in the database: changing it is a migration.
inline constexpr std::uint32_t jid_profile_version = 1;

enum class jid_errc {
  empty,           // no domain part, or a separator with nothing behind or before it
  too_long,        // a part over 1,023 bytes (RFC 7622 section 3.2 to 3.4)
  bad_utf8,
  bad_domain,      // UTS 46 refuses it, or it has a character that no host name has
  bad_local,       // nodeprep refuses it, or it has one of "&'/:<>@ and space
  bad_resource,    // resourceprep refuses it
};

class jid;
using jid_ref = base::ref<const jid>;

/// Prepared bytes with the offsets of the parts and the hash of the bare JID.
class jid : public base::counted<jid> {
public:
  [[nodiscard]] std::string_view full() const { return {bytes_, size_}; }
  [[nodiscard]] std::string_view bare() const { return {bytes_, bare_size_}; }
  [[nodiscard]] std::string_view local() const { return {bytes_, local_size_}; }
  [[nodiscard]] std::string_view domain() const {
    auto at = local_size_ ? local_size_ + 1u : 0u;
    return {bytes_ + at, bare_size_ - at};
  }
  [[nodiscard]] std::string_view resource() const {
    return size_ > bare_size_ ? full().substr(bare_size_ + 1u) : std::string_view{};
  }
  [[nodiscard]] bool is_bare() const { return size_ == bare_size_; }
  [[nodiscard]] bool is_domain() const { return local_size_ == 0; }
  /// base::hash_bytes of bare(): the same for all resources of an account.
  [[nodiscard]] std::uint64_t hash() const { return hash_; }
  /// Has one of & < ' and so must be escaped in an attribute.
  [[nodiscard]] bool needs_escape() const { return needs_escape_; }

  friend bool operator==(const jid& a, const jid& b) {
    return a.hash_ == b.hash_ && a.full() == b.full();
  }
  static void destroy(jid* j);

private:
  friend class jid_builder;
  jid() = default;
  std::uint64_t hash_ = 0;
  std::uint16_t local_size_ = 0, bare_size_ = 0, size_ = 0;
  bool needs_escape_ = false;
  bool is_pooled_ = false;
  char bytes_[1];
};

[[nodiscard]] inline bool same_bare(const jid& a, const jid& b) {
  return a.hash() == b.hash() && a.bare() == b.bare();
}

/// Splits first, then prepares each part, then checks that no separator appeared (docs/jid.md).
[[nodiscard]] base::result<jid_ref, jid_errc> parse_jid(std::string_view text);
/// From parts that are not yet prepared; `local` and `resource` may be empty.
[[nodiscard]] base::result<jid_ref, jid_errc> make_jid(std::string_view local, std::string_view domain,
                                                       std::string_view resource = {});
/// `j` itself when it has no resource.
[[nodiscard]] jid_ref bare_of(const jid_ref& j);
[[nodiscard]] jid_ref domain_of(const jid& j);
/// Errors: bad_resource, too_long, empty, bad_utf8.
[[nodiscard]] base::result<jid_ref, jid_errc> with_resource(const jid& bare, std::string_view resource);

/// One allocation per distinct bare JID while somebody holds it: rosters of a million accounts name
/// the same few JIDs. Sharded, any thread. A pooled jid leaves the pool when its last holder does.
[[nodiscard]] jid_ref pooled(const jid_ref& j);

/// Raw bytes of a `to`, references not decoded, to its prepared jid. One per reactor: two ways, 4,096
/// sets, of no more than 255 bytes each; longer ones are prepared each time.
class jid_cache {
public:
  jid_cache();
  /// Null if `raw` is not a JID (such answers are not kept).
  [[nodiscard]] jid_ref find(std::string_view raw);

private:
  struct entry {
    std::uint64_t hash = 0;
    jid_ref prepared;
    std::unique_ptr<std::string> raw; // only where it differs from the prepared bytes
  };
  std::vector<entry> entries_;
};

} // namespace xmpp
