// A module's settings as the module API wants them.
#pragma once
#include "modules/api/services.hpp"
#include "server/config/config.hpp"

namespace server {

class settings_view final : public modules::settings {
public:
  explicit settings_view(const module_settings& values) : values_(values) {}
  std::int64_t number(std::string_view key) const override { return at(key).number; }
  bool flag(std::string_view key) const override { return at(key).flag; }
  std::string text(std::string_view key) const override { return at(key).text; }
  std::vector<std::string> list(std::string_view key) const override { return at(key).list; }

private:
  const setting_value& at(std::string_view key) const { return values_.at(std::string{key}); } // declared, or a bug
  const module_settings& values_;
};

} // namespace server
