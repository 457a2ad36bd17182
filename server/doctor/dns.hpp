// A few questions to DNS, each with a short deadline.
#pragma once
#include "base/result.hpp"
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace server::doctor {

struct srv_record {
  std::uint16_t priority = 0, weight = 0, port = 0;
  std::string target; // "." : the service is not offered
};

class resolver {
public:
  /// Null: `nameserver` is neither empty nor an IPv4 address with or without a port.
  static std::unique_ptr<resolver> open(const std::string& nameserver);
  ~resolver();
  /// Empty: there are none. Errors: nobody answers.
  [[nodiscard]] base::result<std::vector<srv_record>, std::string> srv(const std::string& name);
  /// A and AAAA, as texts.
  [[nodiscard]] base::result<std::vector<std::string>, std::string> addresses(const std::string& name);

private:
  resolver();
  struct impl;
  std::unique_ptr<impl> impl_;
};

} // namespace server::doctor
