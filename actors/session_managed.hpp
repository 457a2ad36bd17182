// What a session keeps while stream management is on. For the session's own files.
#pragma once
#include "actors/connection.hpp"
#include "actors/entity.hpp"
#include "actors/node.hpp"
#include "actors/router.hpp"
#include "actors/resumption.hpp"
#include "actors/session.hpp"
#include "actors/stream.hpp"

namespace actors {

/// The least time between two <r/>, and between two <a/> that say nothing new.
inline constexpr auto ask_again = std::chrono::milliseconds{100};
/// Longer than storing may take.
inline base::duration abandoned_after(const host& h) { return std::max<base::duration>(std::chrono::seconds{15}, h.storage_wait + std::chrono::seconds{5}); }

struct session::managed {
  xmpp::stream::management::unacknowledged queue;
  std::vector<xmpp::delivery> doubles; // of what is in it: its client gets them once, but somebody waits for each
  base::duration window{};          // how long it waits without a stream; zero: it cannot be resumed
  base::time_point asked{};         // when the last <r/> went out
  base::time_point lost{};          // when the stream was
  base::time_point mark_moved{};    // when the low-water mark last did, or began to be waited for
  base::time_point resumes_until{}; // <resumed/> waits for the mark no longer
  base::time_point again_at = base::time_point::max(); // stanzas wait to be sent once more
  base::time_point due{};           // of the timer
  net::timer timer;
  base::time_point told_at{}; // when the last <a/> went out
  std::uint32_t told = 0;     // and what it said
  bool is_asked = false; // an <r/> is unanswered
  bool is_doubted = false; // for too long; what has come meanwhile is read first
  bool owes_answer = false; // the last <r/> has had none
  bool owes_ack = false; // an <r/> of the client was answered before all had ended
};

/// All that a session is, on its way to its next place (XEP-0198 section 5).
struct session::value {
  xmpp::jid_ref full, bare;
  cluster::address* own = nullptr;
  std::shared_ptr<const modules::session_view> view;
  std::uint64_t clock = 0;
  std::uint32_t epoch = 0;
  cluster::peer_number account_at = cluster::self;
  base::ref<cluster::session_limit> limit;
  modules::snapshot_ref snapshot;
  std::uint64_t session_id = 0;
  base::wall_time since;
  std::vector<xmpp::jid_ref> directed;
  std::vector<open_stanza> open;
  std::uint32_t base = 1, next = 1;
  std::unique_ptr<managed> kept;
  std::unique_ptr<xmpp::im::held_back> held;
  std::unique_ptr<xmpp::stream::recent_ids> recent;
};

} // namespace actors
