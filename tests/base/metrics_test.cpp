// base/metrics: handles count, expose() speaks the Prometheus text format.
#include "base/metrics.hpp"
#include <doctest/doctest.h>
#include <stdexcept>
#include <thread>
#include <vector>

namespace metrics = base::metrics;

TEST_CASE("metrics: the same name and labels are the same handle") {
  auto& a = metrics::make_counter("covey_test_total", "help", {{"kind", "a"}});
  auto& b = metrics::make_counter("covey_test_total", "help", {{"kind", "b"}});
  CHECK(&a == &metrics::make_counter("covey_test_total", "help", {{"kind", "a"}}));
  CHECK(&a != &b);
  a.add(3);
  b.add();
  auto v = metrics::values();
  CHECK(v.at("covey_test_total{kind=\"a\"}") == 3);
  CHECK(v.at("covey_test_total{kind=\"b\"}") == 1);
}

TEST_CASE("metrics: the text format") {
  metrics::make_counter("covey_text_total", "What it counts").add(7);
  metrics::make_gauge("covey_text_level", "A level", {{"name", "quote\" and \\ and\nline"}}).set(-2);
  double now = 1.5;
  metrics::watch("covey_text_watched", "Read late", {}, [&] { return now; });
  now = 2.5;
  auto text = metrics::expose();
  CHECK(text.find("# HELP covey_text_total What it counts\n# TYPE covey_text_total counter\ncovey_text_total 7\n")
        != std::string::npos);
  CHECK(text.find("covey_text_level{name=\"quote\\\" and \\\\ and\\nline\"} -2\n") != std::string::npos);
  CHECK(text.find("covey_text_watched 2.5\n") != std::string::npos);
  metrics::watch("covey_text_watched", "Read late", {}, [] { return 0.0; }); // replaced: `now` goes out of scope
}

TEST_CASE("metrics: a name that means two things is a broken invariant") {
  (void)metrics::make_counter("covey_twice", "h");
  CHECK_THROWS_AS((void)metrics::make_gauge("covey_twice", "h"), std::logic_error);
  CHECK_THROWS_AS((void)metrics::make_counter("other_name", "h"), std::logic_error);
  CHECK_THROWS_AS((void)metrics::make_counter("covey bad", "h"), std::logic_error);
  CHECK_THROWS_AS((void)metrics::make_counter("covey_ok", "h", {{"bad-label", "x"}}), std::logic_error);
}

TEST_CASE("metrics: a watcher may make a metric, and threads may count meanwhile") {
  metrics::watch("covey_nested", "h", {}, [] { return double(metrics::make_counter("covey_nested_total", "h").value()); });
  auto& c = metrics::make_counter("covey_threads_total", "h");
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int k = 0; k < 10'000; ++k)
        c.add();
    });
  for (int i = 0; i < 20; ++i)
    CHECK_FALSE(metrics::expose().empty());
  for (auto& t : threads)
    t.join();
  CHECK(c.value() == 40'000);
}
