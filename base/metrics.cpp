// base/metrics.hpp: our own atomics, handed to prometheus-cpp as a collectable when somebody looks.
#include "base/metrics.hpp"
#include <deque>
#include <limits>
#include <mutex>
#include <prometheus/check_names.h>
#include <prometheus/collectable.h>
#include <prometheus/text_serializer.h>
#include <sstream>
#include <stdexcept>
#include <variant>
#include <vector>

namespace base::metrics {
namespace {

using reader = std::function<double()>;

struct metric {
  metrics::labels labels;
  std::variant<counter*, gauge*, histogram*, reader> source;
};

struct family {
  std::string help;
  prometheus::MetricType type = prometheus::MetricType::Untyped;
  std::vector<metric> members;
};

/// Of all but histograms.
double value_of(const metric& m) {
  if (auto* c = std::get_if<counter*>(&m.source))
    return static_cast<double>((*c)->value());
  if (auto* g = std::get_if<gauge*>(&m.source))
    return static_cast<double>((*g)->value());
  return std::get<reader>(m.source)();
}

prometheus::ClientMetric::Histogram values_of(const histogram& h) {
  prometheus::ClientMetric::Histogram out;
  for (std::size_t i = 0; i <= h.bounds().size(); ++i) {
    out.sample_count += h.count(i);
    auto end = i < h.bounds().size() ? h.bounds()[i] : std::numeric_limits<double>::infinity();
    out.bucket.push_back({out.sample_count, end});
  }
  out.sample_sum = h.sum();
  return out;
}

class table final : public prometheus::Collectable {
public:
  counter& make_counter(const std::string& name, const std::string& help, const labels& l) {
    return make(name, help, l, prometheus::MetricType::Counter, counters_);
  }
  gauge& make_gauge(const std::string& name, const std::string& help, const labels& l) {
    return make(name, help, l, prometheus::MetricType::Gauge, gauges_);
  }
  histogram& make_histogram(const std::string& name, const std::string& help, const std::vector<double>& bounds, const labels& l) {
    return make(name, help, l, prometheus::MetricType::Histogram, histograms_, bounds);
  }
  void forget(const std::string& name, const labels& l) {
    std::lock_guard guard{mutex_};
    auto f = families_.find(name);
    if (f == families_.end())
      return;
    std::erase_if(f->second.members, [&](auto& m) { return m.labels == l; });
    if (f->second.members.empty())
      families_.erase(f);
  }
  void watch(const std::string& name, const std::string& help, const labels& l, reader read) {
    std::lock_guard guard{mutex_};
    auto& f = at(name, help, l, prometheus::MetricType::Gauge);
    for (auto& m : f.members) {
      if (m.labels != l)
        continue;
      if (!std::holds_alternative<reader>(m.source))
        throw std::logic_error("metric " + name + " is counted elsewhere");
      m.source = std::move(read);
      return;
    }
    f.members.push_back({l, std::move(read)});
  }

  std::vector<prometheus::MetricFamily> Collect() const override {
    std::vector<prometheus::MetricFamily> all;
    for (auto& [name, f] : snapshot()) {
      prometheus::MetricFamily out;
      out.name = name;
      out.help = f.help;
      out.type = f.type;
      for (auto& m : f.members) {
        prometheus::ClientMetric one;
        for (auto& [key, value] : m.labels)
          one.label.push_back({key, value});
        if (auto* h = std::get_if<histogram*>(&m.source))
          one.histogram = values_of(**h);
        else
          (f.type == prometheus::MetricType::Counter ? one.counter.value : one.gauge.value) = value_of(m);
        out.metric.push_back(std::move(one));
      }
      all.push_back(std::move(out));
    }
    return all;
  }

  // A copy, so that watchers run without the lock: they may make metrics themselves.
  std::map<std::string, family> snapshot() const {
    std::lock_guard guard{mutex_};
    return families_;
  }

private:
  template <class T, class... Args>
  T& make(const std::string& name, const std::string& help, const labels& l, prometheus::MetricType type,
          std::deque<T>& store, const Args&... args) {
    std::lock_guard guard{mutex_};
    auto& f = at(name, help, l, type);
    for (auto& m : f.members) {
      if (m.labels != l)
        continue;
      if (auto* known = std::get_if<T*>(&m.source))
        return **known;
      throw std::logic_error("metric " + name + " is watched elsewhere");
    }
    f.members.push_back({l, &store.emplace_back(args...)});
    return store.back();
  }

  family& at(const std::string& name, const std::string& help, const labels& l, prometheus::MetricType type) {
    if (!prometheus::CheckMetricName(name) || !name.starts_with("covey_"))
      throw std::logic_error("bad metric name: " + name);
    for (auto& [key, value] : l)
      if (!prometheus::CheckLabelName(key))
        throw std::logic_error("bad label of metric " + name + ": " + key);
    auto [i, is_new] = families_.try_emplace(name);
    if (is_new) {
      i->second.help = help;
      i->second.type = type;
    } else if (i->second.type != type) {
      throw std::logic_error("metric " + name + " has two types");
    }
    return i->second;
  }

  mutable std::mutex mutex_;
  std::map<std::string, family> families_;
  std::deque<counter> counters_; // a deque: handles keep their address
  std::deque<gauge> gauges_;
  std::deque<histogram> histograms_;
};

// Never destroyed: threads count until the process is gone.
table& all_metrics() {
  static auto* t = new table;
  return *t;
}

} // namespace

counter& make_counter(const std::string& name, const std::string& help, const labels& l) {
  return all_metrics().make_counter(name, help, l);
}

gauge& make_gauge(const std::string& name, const std::string& help, const labels& l) {
  return all_metrics().make_gauge(name, help, l);
}

histogram& make_histogram(const std::string& name, const std::string& help, const std::vector<double>& bounds, const labels& l) {
  return all_metrics().make_histogram(name, help, bounds, l);
}

void forget(const std::string& name, const labels& l) { all_metrics().forget(name, l); }

void watch(const std::string& name, const std::string& help, const labels& l, std::function<double()> read) {
  all_metrics().watch(name, help, l, std::move(read));
}

std::string expose() {
  std::ostringstream out;
  prometheus::TextSerializer{}.Serialize(out, all_metrics().Collect());
  return std::move(out).str();
}

std::map<std::string, double> values() {
  std::map<std::string, double> out;
  for (auto& [name, f] : all_metrics().snapshot())
    for (auto& m : f.members) {
      std::string key = name;
      char before = '{';
      for (auto& [label, value] : m.labels) {
        key += before;
        key += label + "=\"" + value + '"';
        before = ',';
      }
      if (before == ',')
        key += '}';
      if (auto* h = std::get_if<histogram*>(&m.source)) { // the mean is what can be told in two numbers
        auto all = values_of(**h);
        out[name + "_count" + key.substr(name.size())] = static_cast<double>(all.sample_count);
        out[name + "_sum" + key.substr(name.size())] = all.sample_sum;
        continue;
      }
      out[key] = value_of(m);
    }
  return out;
}

} // namespace base::metrics
