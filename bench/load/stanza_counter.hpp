// What a client with stream management counts of its input (XEP-0198 section 4), and the two elements of it that
// want an answer. It looks at tags only and keeps its place when a read ends within one; what '>' in an attribute
// would do is of no concern, as nobody here writes one.
#pragma once
#include <cstdint>
#include <cstring>
#include <string_view>

namespace load {

class stanza_counter {
public:
  /// Messages, presence and IQs that are complete.
  std::uint32_t handled = 0;

  /// `request()` is called at each <r/>, when `handled` is what to answer; `ack(tag)` at each <a/> with the
  /// beginning of its tag.
  template <class Request, class Ack>
  void feed(std::string_view s, Request request, Ack ack) {
    while (!s.empty()) {
      if (!in_tag_) {
        auto at = s.find('<');
        if (at == s.npos)
          return;
        s.remove_prefix(at + 1);
        in_tag_ = true;
        size_ = 0;
        last_ = 0;
        continue;
      }
      auto at = s.find('>');
      auto part = s.substr(0, at);
      keep(part);
      if (at == s.npos)
        return;
      s.remove_prefix(at + 1);
      in_tag_ = false;
      end_of_tag(request, ack);
    }
  }
  /// A new connection begins between two stanzas; the count goes on (XEP-0198 section 5).
  void restart() { depth_ = 0, in_tag_ = false; }

private:
  void keep(std::string_view part) {
    if (part.empty())
      return;
    last_ = part.back();
    auto n = part.size() < sizeof head_ - size_ ? part.size() : sizeof head_ - size_;
    std::memcpy(head_ + size_, part.data(), n);
    size_ += n;
  }

  template <class Request, class Ack>
  void end_of_tag(Request request, Ack ack) {
    if (size_ == 0)
      return;
    bool closes = head_[0] == '/';
    if (depth_ == 0 && closes)
      return; // </stream:stream>
    if (depth_ > 0 || closes) {
      depth_ += closes ? -1 : last_ == '/' ? 0 : 1;
      if (depth_ == 0 && is_stanza_)
        ++handled;
      return;
    }
    std::string_view tag{head_, size_};
    auto name = tag.substr(0, tag.find_first_of(" /\n\t"));
    is_stanza_ = name == "message" || name == "presence" || name == "iq";
    if (last_ != '/')
      depth_ = 1;
    else if (is_stanza_)
      ++handled;
    if (name == "r")
      request();
    else if (name == "a")
      ack(tag);
  }

  char head_[64], last_ = 0; // of the present tag: how it begins, and its last character
  std::size_t size_ = 0;
  int depth_ = 0;
  bool in_tag_ = false, is_stanza_ = false;
};

} // namespace load
