// The load generator's count of stanzas: what a server would call a lost message must not be the generator's mistake.
#include "bench/load/stanza_counter.hpp"
#include <doctest/doctest.h>
#include <string>
#include <vector>

namespace {

struct seen {
  load::stanza_counter counter;
  std::vector<std::uint32_t> asked; // the count at each <r/>
  std::string acks;
  void feed(std::string_view s) {
    counter.feed(s, [this] { asked.push_back(counter.handled); }, [this](std::string_view tag) { acks.append(tag).push_back(';'); });
  }
};

} // namespace

TEST_CASE("what counts is a whole message, presence or iq of the stream") {
  for (auto [xml, count] : {std::pair<std::string_view, unsigned>{"<message><body>1 &lt; 2</body><x/></message>", 1},
                            {"<presence/><presence from='a'/><iq type='result' id='1'/>", 3},
                            {"<message><forwarded><message><body/></message></forwarded></message>", 1},
                            {"<message><body>half", 0},
                            {"<messages/><m/><r xmlns='urn:xmpp:sm:3'/><stream:features><iq/></stream:features>", 0},
                            {" <iq></iq> </stream:stream>", 1},
                            {"<iq\ntype='get'/>", 1}}) {
    CAPTURE(xml);
    seen all;
    all.feed(xml);
    CHECK(all.counter.handled == count);
  }
}

TEST_CASE("where a read ends makes no difference") {
  std::string_view text = "<message to='a'><body>~1~</body></message><r xmlns='urn:xmpp:sm:3'/><presence/><a xmlns='urn:xmpp:sm:3' h='17'/>"
                          "<iq type='set'><query><item jid='b'/></query></iq><r xmlns='urn:xmpp:sm:3'></r>";
  for (std::size_t first = 0; first <= text.size(); ++first)
    for (std::size_t step : {std::size_t{1}, std::size_t{7}, text.size()}) {
      seen parts;
      parts.feed(text.substr(0, first));
      for (auto at = first; at < text.size(); at += step)
        parts.feed(text.substr(at, step));
      CAPTURE(first);
      CHECK(parts.counter.handled == 3);
      CHECK(parts.asked == std::vector<std::uint32_t>{1, 3});
      CHECK(parts.acks == "a xmlns='urn:xmpp:sm:3' h='17'/;");
    }
}

TEST_CASE("a new connection begins between stanzas, and the count goes on") {
  seen all;
  all.feed("<presence/><message><body>cut of");
  all.counter.restart();
  all.feed("<message><body>cut off</body></message>");
  CHECK(all.counter.handled == 2);
}
