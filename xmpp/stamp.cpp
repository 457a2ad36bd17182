// XEP-0082 XMPP Date and Time Profiles 1.1.1 and XEP-0203 Delayed Delivery 2.0.
#include "xmpp/stamp.hpp"
#include <cstdio>

namespace xmpp {

std::string stamp(base::wall_time t) {
  auto day = std::chrono::floor<std::chrono::days>(t);
  std::chrono::year_month_day date{day};
  std::chrono::hh_mm_ss time{std::chrono::floor<std::chrono::milliseconds>(t - day)};
  char text[64];
  std::snprintf(text, sizeof text, "%04d-%02u-%02uT%02d:%02d:%02d.%03dZ", static_cast<int>(date.year()),
                static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()), static_cast<int>(time.hours().count()),
                static_cast<int>(time.minutes().count()), static_cast<int>(time.seconds().count()),
                static_cast<int>(time.subseconds().count()));
  return text;
}

std::string delay(base::wall_time t, std::string_view from) {
  writer w;
  w.open("delay", "urn:xmpp:delay").attr("from", from).attr("stamp", stamp(t)).close();
  return w.take();
}

} // namespace xmpp
