// vCards as far as a server looks into them: the hash of the photo (XEP-0153 section 3.1) and where presence says it.
#pragma once
#include "xmpp/element.hpp"
#include "xmpp/stanza.hpp"
#include <string>

namespace xmpp::im {

inline constexpr std::string_view vcard_ns = "vcard-temp";

/// SHA-1 of the image in `<PHOTO><BINVAL/></PHOTO>` as lower-case hexadecimal digits. Empty: there is none, or what
/// stands there is not base64 (white space in it does not count).
[[nodiscard]] std::string photo_hash(const element& vcard);

/// What an available presence claims of the photo: nothing, or its hash ("" for `<photo/>` and an empty `<x/>`).
[[nodiscard]] std::optional<std::string> photo_claimed(const stanza& presence);
/// The presence with `<x xmlns='vcard-temp:x:update'><photo>sha1</photo></x>` in place of what it claims; itself if it
/// claims just that. Addresses and completion are the same. Itself, too, if its
/// namespaces, written anew, are over the framer's hard limits.
[[nodiscard]] stanza_ref with_photo(const stanza_ref& presence, std::string_view sha1);

} // namespace xmpp::im
