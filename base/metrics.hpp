// The metric facade (prometheus-cpp behind it). A handle is a plain atomic: counting costs one
// relaxed add and takes no lock. Names start with `covey_`; docs/metrics.md lists each.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

namespace base::metrics {

using labels = std::map<std::string, std::string>;

class counter {
public:
  void add(std::uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t value() const { return value_.load(std::memory_order_relaxed); }

private:
  std::atomic<std::uint64_t> value_{0};
};

class gauge {
public:
  void add(std::int64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  void set(std::int64_t n) { value_.store(n, std::memory_order_relaxed); }
  [[nodiscard]] std::int64_t value() const { return value_.load(std::memory_order_relaxed); }

private:
  std::atomic<std::int64_t> value_{0};
};

/// Lives as long as the process; the same name and labels give the same handle. Any thread.
[[nodiscard]] counter& make_counter(const std::string& name, const std::string& help, const labels& l = {});
[[nodiscard]] gauge& make_gauge(const std::string& name, const std::string& help, const labels& l = {});
/// Read when somebody looks, on the scraper's thread.
void watch(const std::string& name, const std::string& help, const labels& l,
           std::function<double()> read);
/// All of them in the Prometheus text format.
[[nodiscard]] std::string expose();
/// The current values by name and labels, for `covey stats`.
[[nodiscard]] std::map<std::string, double> values();

} // namespace base::metrics
