// What users keep at the server for themselves, as sections of XEP-0227: vCards, private XML, blocked JIDs.
#pragma once
#include "server/transfer/sections.hpp"

namespace server::transfer::personal {

base::result<void, std::string> read_vcard(incoming& to, const xmpp::element& vcard, std::string_view xml);
base::result<void, storage::errc> write_vcard(const outgoing& of, std::string& out);
base::result<void, std::string> read_private(incoming& to, const xmpp::element& query, std::string_view xml);
base::result<void, storage::errc> write_private(const outgoing& of, std::string& out);
base::result<void, std::string> read_blocks(incoming& to, const xmpp::element& list, std::string_view xml);
base::result<void, storage::errc> write_blocks(const outgoing& of, std::string& out);

} // namespace server::transfer::personal
