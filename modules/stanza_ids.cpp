// XEP-0359 Unique and Stable Stanza IDs 0.7.0. Every message gets its id where it enters: a keyed hash of
// sender, recipient, id and origin-id, so that what a client sends again has its first copy's id.
#include "modules/all.hpp"
#include <algorithm>

namespace modules {

namespace {
constexpr auto ns = "urn:xmpp:sid:0";
constexpr std::size_t longest_id = 256; // of what is hashed; longer ids are cut, which only makes them less unique

class stanza_ids final : public module {
public:
  std::string_view name() const override { return "stanza_ids"; }
  void start(registrar& reg) override {
    reg.feature(ns);
    reg.feature(ns, at::account);
    base::siphash_key key{reg.around().stanza_id_key};
    reg.filter<stanza_entered>(stage::late, [key, &random = reg.around().random](stanza_entered& ev) {
      auto& s = ev.what;
      if (s.kind() != xmpp::stanza_kind::message)
        return verdict::pass();
      s.stanza_id_by = ev.what.to; // forged ones with this `by` are left out when it is written
      if (s.type() != xmpp::stanza_type::error)
        s.stanza_id = make_id(s, key, random);
      return verdict::pass();
    });
  }

private:
  static base::u128 make_id(const xmpp::stanza& s, base::siphash_key key, base::random& random) {
    auto origin = s.tag().origin_id ? s.at(s.tag().origin_id).substr(0, longest_id) : std::string_view{};
    if (origin.empty()) // it sends anew, whatever id it uses
      return {random.number(), random.number()};
    char bytes[4 * 1024 + 2 * longest_id];
    char* o = bytes;
    auto put = [&](std::string_view part) { // delimited by length: no two inputs look alike
      *o++ = static_cast<char>(part.size() >> 8);
      *o++ = static_cast<char>(part.size());
      o = std::copy(part.begin(), part.end(), o);
    };
    put(s.from->bare().substr(0, 1'500));
    put(s.to->bare().substr(0, 1'500));
    put(s.id().substr(0, longest_id));
    put(origin);
    return base::siphash128({bytes, static_cast<std::size_t>(o - bytes)}, key);
  }
};
} // namespace

std::unique_ptr<module> make_stanza_ids() { return std::make_unique<stanza_ids>(); }

} // namespace modules
