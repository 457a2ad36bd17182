// The kinds of data that an account has, each as XML of XEP-0227 and as rows. A feature with a table of its
// own adds a section.
#pragma once
#include "server/transfer/reader.hpp"
#include "storage/tables.hpp"
#include <map>
#include <span>

namespace server::transfer {

/// An account while it is read from a file.
struct incoming {
  xmpp::jid_ref jid;
  storage::tables::account account;
  std::map<std::string, storage::tables::roster_row> roster; // by contact
  std::size_t most_contacts = 0;
  std::uint64_t last_entry = 0;                      // of its offline messages
  std::vector<storage::batch> batches;               // in order; a conflict means that it is there already
  std::vector<storage::change> changes;              // of other tables
};

/// An account while it is written.
struct outgoing {
  xmpp::jid_ref jid;
  const storage::tables::account& account;
  storage::engine& from;
};

struct section {
  std::string_view name, ns; // of a child of <user/>
  /// Errors: a text for the operator; nothing of the child is taken then.
  base::result<void, std::string> (*read)(incoming& to, const xmpp::element& child, std::string_view xml);
  /// Appends its XML, nothing where there is none. Errors: the storage's.
  base::result<void, storage::errc> (*write)(const outgoing& of, std::string& out);
};
[[nodiscard]] std::span<const section> sections();

} // namespace server::transfer
