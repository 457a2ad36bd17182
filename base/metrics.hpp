// The metric facade (prometheus-cpp behind it). A handle is a plain atomic: counting costs one
// relaxed add and takes no lock. Names start with `covey_`; docs/metrics.md lists each.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

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

/// How values are spread over ranges. Observing costs three relaxed adds.
class histogram {
public:
  /// Upper ends of the ranges, rising; one more range is above them.
  explicit histogram(std::vector<double> bounds) : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}
  void observe(double v) {
    std::size_t i = 0;
    while (i < bounds_.size() && v > bounds_[i])
      ++i;
    counts_[i].fetch_add(1, std::memory_order_relaxed);
    sum_.fetch_add(v, std::memory_order_relaxed);
  }
  [[nodiscard]] const std::vector<double>& bounds() const { return bounds_; }
  /// Of the range `i` alone.
  [[nodiscard]] std::uint64_t count(std::size_t i) const { return counts_[i].load(std::memory_order_relaxed); }
  [[nodiscard]] double sum() const { return sum_.load(std::memory_order_relaxed); }

private:
  const std::vector<double> bounds_;
  std::vector<std::atomic<std::uint64_t>> counts_;
  std::atomic<double> sum_{0};
};

/// Lives as long as the process; the same name and labels give the same handle. Any thread.
[[nodiscard]] counter& make_counter(const std::string& name, const std::string& help, const labels& l = {});
[[nodiscard]] gauge& make_gauge(const std::string& name, const std::string& help, const labels& l = {});
/// The first caller's bounds are taken.
[[nodiscard]] histogram& make_histogram(const std::string& name, const std::string& help, const std::vector<double>& bounds, const labels& l = {});
/// A gauge or watch with these labels is no longer shown. A handle to it stays good.
void forget(const std::string& name, const labels& l);
/// Read when somebody looks, on the scraper's thread.
void watch(const std::string& name, const std::string& help, const labels& l,
           std::function<double()> read);
/// All of them in the Prometheus text format.
[[nodiscard]] std::string expose();
/// The current values by name and labels, for `covey stats`.
[[nodiscard]] std::map<std::string, double> values();

} // namespace base::metrics
