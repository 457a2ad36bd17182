// The keys of TLS tickets where several nodes show clients one address: rows of the database that they share, so that a client
// resumes its TLS session at any of them (net/ticket_keys.hpp).
#pragma once
#include "base/clock.hpp"
#include "base/random.hpp"
#include "net/ticket_keys.hpp"
#include "storage/store.hpp"
#include <map>
#include <memory>
#include <mutex>

namespace server {

class shared_tickets : public std::enable_shared_from_this<shared_tickets> {
public:
  /// All references outlive the store's last answer.
  shared_tickets(storage::store& in, net::ticket_keys& keys, base::random& random, const base::clock& clock, base::duration rotation)
    : in_(in), keys_(keys), random_(random), clock_(clock), rotation_(rotation) {}

  /// Reads the keys of now, of before and of next, and makes those that are missing: whoever is first. To be called a few
  /// times in each rotation; asynchronous. While the database is away the keys that are known stay.
  void refresh();

private:
  void read(std::int64_t period);
  void make(std::int64_t period);
  void found(std::int64_t period, const std::string& bytes);
  [[nodiscard]] std::int64_t period_now() const;

  storage::store& in_;
  net::ticket_keys& keys_;
  base::random& random_;
  const base::clock& clock_;
  const base::duration rotation_;
  std::mutex mutex_;
  std::map<std::int64_t, std::string> known_; // by period
};

} // namespace server
