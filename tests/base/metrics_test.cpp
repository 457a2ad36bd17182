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

TEST_CASE("histograms: each value in its range, counted up in the text") {
  auto& h = base::metrics::make_histogram("covey_test_seconds", "For this test.", {0.5, 1}, {{"a", "b"}});
  for (double v : {0.25, 0.5, 0.75, 2.0})
    h.observe(v);
  CHECK(&h == &base::metrics::make_histogram("covey_test_seconds", "For this test.", {7}, {{"a", "b"}}));
  auto text = base::metrics::expose();
  for (auto* line : {"covey_test_seconds_bucket{a=\"b\",le=\"0.5\"} 2", "covey_test_seconds_bucket{a=\"b\",le=\"1\"} 3",
                     "covey_test_seconds_bucket{a=\"b\",le=\"+Inf\"} 4", "covey_test_seconds_count{a=\"b\"} 4", "covey_test_seconds_sum{a=\"b\"} 3.5"}) {
    CAPTURE(text);
    CHECK(text.find(line) != std::string::npos);
  }
  auto values = base::metrics::values();
  CHECK(values.at("covey_test_seconds_count{a=\"b\"}") == 4);
  CHECK(values.at("covey_test_seconds_sum{a=\"b\"}") == 3.5);
}

TEST_CASE("what is forgotten is not shown") {
  auto& g = base::metrics::make_gauge("covey_test_forgotten", "For this test.", {{"host", "a"}});
  base::metrics::make_gauge("covey_test_forgotten", "For this test.", {{"host", "b"}}).set(1);
  base::metrics::forget("covey_test_forgotten", {{"host", "a"}});
  base::metrics::forget("covey_test_forgotten", {{"host", "never"}});
  base::metrics::forget("covey_test_nothing", {});
  g.set(5); // the handle is good
  auto values = base::metrics::values();
  CHECK_FALSE(values.contains("covey_test_forgotten{host=\"a\"}"));
  CHECK(values.at("covey_test_forgotten{host=\"b\"}") == 1);
}
