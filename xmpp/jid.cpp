// Preparing JIDs: ICU for what is not plain ASCII; and the pool and cache of prepared ones.
#include "xmpp/jid.hpp"
#include "base/bytes.hpp"
#include "xmpp/framer.hpp"
#include <arpa/inet.h>
#include <array>
#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <optional>
#include <unicode/uidna.h>
#include <unicode/usprep.h>
#include <unicode/ustring.h>

namespace xmpp {

namespace {
constexpr std::size_t longest_part = 1'023;
constexpr std::size_t longest_kept = 255; // in a cache, which strangers fill
constexpr std::string_view forbidden_local = "\"&'/:<>@ ";

bool is_ascii(std::string_view s) {
  for (char c : s)
    if (static_cast<unsigned char>(c) >= 0x80)
      return false;
  return true;
}

using utf16 = std::u16string;
std::optional<utf16> widen(std::string_view s) {
  utf16 out(s.size() + 1, u'\0');
  std::int32_t size = 0;
  UErrorCode ec = U_ZERO_ERROR;
  u_strFromUTF8(out.data(), static_cast<std::int32_t>(out.size()), &size, s.data(), static_cast<std::int32_t>(s.size()), &ec);
  if (U_FAILURE(ec))
    return std::nullopt;
  out.resize(static_cast<std::size_t>(size));
  return out;
}
std::optional<std::string> narrow(const utf16& s) {
  std::string out(s.size() * 3 + 1, '\0');
  std::int32_t size = 0;
  UErrorCode ec = U_ZERO_ERROR;
  u_strToUTF8(out.data(), static_cast<std::int32_t>(out.size()), &size, s.data(), static_cast<std::int32_t>(s.size()), &ec);
  if (U_FAILURE(ec))
    return std::nullopt;
  out.resize(static_cast<std::size_t>(size));
  return out;
}

/// Kept for ever: a jid may still be prepared while the process ends.
UStringPrepProfile* profile(UStringPrepProfileType type) {
  UErrorCode ec = U_ZERO_ERROR;
  auto* p = usprep_openByType(type, &ec);
  return U_FAILURE(ec) ? nullptr : p;
}

base::result<std::string, jid_errc> stringprep(std::string_view in, UStringPrepProfile* p, jid_errc refused) {
  auto wide = widen(in);
  if (!wide)
    return base::fail(jid_errc::bad_utf8);
  utf16 out(wide->size() * 4 + 16, u'\0');
  UErrorCode ec = U_ZERO_ERROR;
  auto size = usprep_prepare(p, wide->data(), static_cast<std::int32_t>(wide->size()), out.data(),
                             static_cast<std::int32_t>(out.size()), USPREP_ALLOW_UNASSIGNED, nullptr, &ec);
  if (U_FAILURE(ec))
    return base::fail(refused);
  out.resize(static_cast<std::size_t>(size));
  utf16 again(out.size() + 16, u'\0'); // what does not fit is not the same
  auto size_again = usprep_prepare(p, out.data(), size, again.data(), static_cast<std::int32_t>(again.size()),
                                   USPREP_ALLOW_UNASSIGNED, nullptr, &ec);
  if (U_FAILURE(ec) || std::u16string_view{again}.substr(0, static_cast<std::size_t>(size_again)) != out)
    return base::fail(refused); // two spellings of one name would be two accounts
  auto text = narrow(out);
  if (!text)
    return base::fail(jid_errc::bad_utf8);
  return *text;
}

base::result<std::string, jid_errc> prepare_local(std::string_view in) {
  if (in.size() > longest_part)
    return base::fail(jid_errc::too_long);
  std::string out;
  if (is_ascii(in)) {
    out.reserve(in.size());
    for (char c : in) {
      if (c < 0x21 || c == 0x7f)
        return base::fail(jid_errc::bad_local);
      out.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c | 32) : c);
    }
  } else {
    static auto* const nodeprep = profile(USPREP_RFC3920_NODEPREP);
    auto prepared = stringprep(in, nodeprep, jid_errc::bad_local);
    if (!prepared)
      return prepared;
    out = std::move(*prepared);
  }
  if (out.empty())
    return base::fail(jid_errc::empty);
  if (out.size() > longest_part)
    return base::fail(jid_errc::too_long);
  if (out.find_first_of(forbidden_local) != out.npos) // a full-width @ becomes a real one: refused here
    return base::fail(jid_errc::bad_local);
  return out;
}

base::result<std::string, jid_errc> prepare_resource(std::string_view in) {
  if (in.size() > longest_part)
    return base::fail(jid_errc::too_long);
  if (is_ascii(in)) {
    for (char c : in)
      if (c < 0x20 || c == 0x7f)
        return base::fail(jid_errc::bad_resource);
    return std::string{in};
  }
  static auto* const resourceprep = profile(USPREP_RFC3920_RESOURCEPREP);
  auto out = stringprep(in, resourceprep, jid_errc::bad_resource);
  if (!out)
    return out;
  if (out->empty())
    return base::fail(jid_errc::empty);
  if (out->size() > longest_part)
    return base::fail(jid_errc::too_long);
  return out;
}

/// Letters, digits, hyphens inside, underscores; ASCII labels as DNS has them (RFC 1035 section 2.3.4).
base::result<void, jid_errc> check_host_name(std::string_view s) {
  for (;;) {
    auto dot = s.find('.');
    auto label = s.substr(0, dot);
    if (label.empty() || label.front() == '-' || label.back() == '-' || (is_ascii(label) && label.size() > 63))
      return base::fail(jid_errc::bad_domain);
    for (char c : label)
      if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || static_cast<unsigned char>(c) >= 0x80))
        return base::fail(jid_errc::bad_domain);
    if (dot == s.npos)
      return {};
    s.remove_prefix(dot + 1);
  }
}

/// One spelling per address (RFC 5952).
base::result<std::string, jid_errc> prepare_ipv6(std::string_view in) {
  in6_addr address;
  char text[INET6_ADDRSTRLEN];
  if (in.back() != ']' || inet_pton(AF_INET6, std::string{in.substr(1, in.size() - 2)}.c_str(), &address) != 1
      || in.find('\0') != in.npos || !inet_ntop(AF_INET6, &address, text, sizeof text))
    return base::fail(jid_errc::bad_domain);
  return '[' + std::string{text} + ']';
}

/// An A-label hides what it stands for, in whatever case it is written.
bool has_a_label(std::string_view s) {
  for (std::size_t k = 0; k + 4 <= s.size(); ++k)
    if ((s[k] | 32) == 'x' && (s[k + 1] | 32) == 'n' && s[k + 2] == '-' && s[k + 3] == '-')
      return true;
  return false;
}

base::result<std::string, jid_errc> prepare_idn(std::string_view in) {
  static UIDNA* const idna = [] {
    UErrorCode ec = U_ZERO_ERROR;
    return uidna_openUTS46(UIDNA_NONTRANSITIONAL_TO_UNICODE | UIDNA_CHECK_BIDI, &ec);
  }();
  UIDNAInfo info = UIDNA_INFO_INITIALIZER;
  UErrorCode ec = U_ZERO_ERROR;
  std::string out(in.size() * 4 + 64, '\0');
  if (!widen(in))
    return base::fail(jid_errc::bad_utf8);
  auto size = uidna_nameToUnicodeUTF8(idna, in.data(), static_cast<std::int32_t>(in.size()), out.data(),
                                      static_cast<std::int32_t>(out.size()), &info, &ec);
  if (U_FAILURE(ec) || (info.errors & ~static_cast<std::uint32_t>(UIDNA_ERROR_HYPHEN_3_4)) != 0) // such names exist in DNS
    return base::fail(jid_errc::bad_domain);
  out.resize(static_cast<std::size_t>(size));
  return out;
}

/// Lower case, or UTS 46's Unicode form, without a final dot (RFC 7622 section 3.2: stripped once mapped).
base::result<std::string, jid_errc> map_domain(std::string_view in) {
  std::string out;
  if (is_ascii(in) && !has_a_label(in)) {
    out.reserve(in.size());
    for (char c : in)
      out.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c | 32) : c);
  } else {
    auto prepared = prepare_idn(in);
    if (!prepared)
      return prepared;
    out = std::move(*prepared);
    auto again = prepare_idn(out);
    if (!again || *again != out) // an A-label within an A-label: two spellings of one name
      return base::fail(jid_errc::bad_domain);
  }
  if (out.size() > 1 && out.ends_with('.'))
    out.pop_back();
  return out;
}

base::result<std::string, jid_errc> prepare_domain(std::string_view in) {
  if (in.size() > longest_part)
    return base::fail(jid_errc::too_long);
  if (in.starts_with('['))
    return prepare_ipv6(in);
  auto out = map_domain(in);
  if (!out)
    return out;
  if (out->empty())
    return base::fail(jid_errc::empty);
  if (out->size() > longest_part)
    return base::fail(jid_errc::too_long);
  if (auto ok = check_host_name(*out); !ok)
    return base::fail(ok.error());
  return out;
}
} // namespace

/// Makes the one allocation. Everything in it has been prepared.
class jid_builder {
public:
  static jid_ref build(std::string_view local, std::string_view domain, std::string_view resource) {
    auto size = local.size() + (local.empty() ? 0 : 1) + domain.size() + (resource.empty() ? 0 : 1) + resource.size();
    auto* memory = std::malloc(sizeof(jid) + size);
    if (!memory)
      throw std::bad_alloc{};
    auto* j = new (memory) jid;
    char* o = j->bytes_;
    auto add = [&](std::string_view s) {
      std::memcpy(o, s.data(), s.size());
      o += s.size();
    };
    if (!local.empty()) {
      add(local);
      *o++ = '@';
    }
    add(domain);
    j->bare_size_ = static_cast<std::uint16_t>(o - j->bytes_);
    if (!resource.empty()) {
      *o++ = '/';
      add(resource);
    }
    *o = '\0';
    j->local_size_ = static_cast<std::uint16_t>(local.size());
    j->size_ = static_cast<std::uint16_t>(size);
    j->hash_ = base::hash_bytes(j->bare());
    j->needs_escape_ = j->full().find_first_of("&<'") != std::string_view::npos;
    return jid_ref{j};
  }
  static void mark_pooled(const jid& j) { const_cast<jid&>(j).is_pooled_ = true; }
  /// False: the last holder is letting it go at this moment.
  static bool revive(const jid& j) {
    auto n = j.refs_.load(std::memory_order_relaxed);
    while (n != 0)
      if (j.refs_.compare_exchange_weak(n, n + 1, std::memory_order_acquire))
        return true;
    return false;
  }
};

namespace {
struct seeded_hash { // strangers choose the names
  std::size_t operator()(std::string_view s) const { return base::hash_bytes(s); }
};

/// Weak: holds plain pointers, each removed by whoever drops its last reference.
struct jid_pool {
  struct shard {
    std::mutex mutex;
    boost::unordered_flat_map<std::string_view, const jid*, seeded_hash> jids;
  };
  std::array<shard, 64> shards;
  shard& of(std::uint64_t hash) { return shards[hash >> 58]; }
};
jid_pool& pool() {
  static auto* p = new jid_pool; // never destroyed: a jid may go after main has returned
  return *p;
}
} // namespace

void jid::destroy(jid* j) {
  if (j->is_pooled_) {
    auto& s = pool().of(j->hash_);
    std::lock_guard guard{s.mutex};
    auto i = s.jids.find(j->bare());
    if (i != s.jids.end() && i->second == j)
      s.jids.erase(i);
  }
  j->~jid();
  std::free(j);
}

jid_ref pooled(const jid_ref& j) {
  auto bare = bare_of(j);
  auto& s = pool().of(bare->hash());
  std::lock_guard guard{s.mutex};
  if (auto i = s.jids.find(bare->bare()); i != s.jids.end()) {
    if (jid_builder::revive(*i->second))
      return jid_ref{i->second, false};
    s.jids.erase(i); // its key dies with it
  }
  auto fresh = jid_builder::build(bare->local(), bare->domain(), {}); // its own: the flag is set before anybody sees it
  jid_builder::mark_pooled(*fresh);
  s.jids.emplace(fresh->bare(), fresh.get());
  return fresh;
}

base::result<jid_ref, jid_errc> make_jid(std::string_view local, std::string_view domain, std::string_view resource) {
  if (domain.empty())
    return base::fail(jid_errc::empty);
  std::string l, r;
  auto d = prepare_domain(domain);
  if (!d)
    return base::fail(d.error());
  if (!local.empty()) {
    auto prepared = prepare_local(local);
    if (!prepared)
      return base::fail(prepared.error());
    l = std::move(*prepared);
  }
  if (!resource.empty()) {
    auto prepared = prepare_resource(resource);
    if (!prepared)
      return base::fail(prepared.error());
    r = std::move(*prepared);
  }
  return jid_builder::build(l, *d, r);
}

base::result<jid_ref, jid_errc> parse_jid(std::string_view text) {
  auto slash = text.find('/'); // RFC 7622 section 3.1: the first slash, then the first at-sign before it
  auto bare = text.substr(0, slash);
  auto at = bare.find('@');
  if (slash != text.npos && slash + 1 == text.size())
    return base::fail(jid_errc::empty);
  if (at == 0)
    return base::fail(jid_errc::empty);
  auto local = at == bare.npos ? std::string_view{} : bare.substr(0, at);
  auto domain = at == bare.npos ? bare : bare.substr(at + 1);
  return make_jid(local, domain, slash == text.npos ? std::string_view{} : text.substr(slash + 1));
}

jid_ref bare_of(const jid_ref& j) {
  return j->is_bare() ? j : jid_builder::build(j->local(), j->domain(), {});
}

jid_ref domain_of(const jid& j) {
  return jid_builder::build({}, j.domain(), {});
}

base::result<jid_ref, jid_errc> with_resource(const jid& bare, std::string_view resource) {
  if (resource.empty())
    return base::fail(jid_errc::empty);
  auto r = prepare_resource(resource);
  if (!r)
    return base::fail(r.error());
  return jid_builder::build(bare.local(), bare.domain(), *r);
}

jid_cache::jid_cache() : entries_(8'192) {}

jid_ref jid_cache::find(std::string_view raw) {
  auto h = base::hash_bytes(raw);
  auto* e = &entries_[(h & 4'095) * 2];
  for (int way = 0; way < 2; ++way)
    if (e[way].hash == h && e[way].prepared && (e[way].raw ? *e[way].raw == raw : e[way].prepared->full() == raw))
      return e[way].prepared;
  auto parsed = raw.find('&') == raw.npos ? parse_jid(raw) : parse_jid(decode_entities(raw));
  if (!parsed)
    return nullptr;
  if (raw.size() > longest_kept)
    return *parsed;
  if (e[0].prepared)
    std::swap(e[0], e[1]); // the newest stays; an empty way is taken first
  e[0].hash = h;
  e[0].prepared = *parsed;
  e[0].raw = (*parsed)->full() == raw ? nullptr : std::make_unique<std::string>(raw);
  return e[0].prepared;
}

} // namespace xmpp
