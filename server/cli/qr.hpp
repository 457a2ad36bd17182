// A QR code as text: two modules of it in one character.
#pragma once
#include <string>

namespace cli {

/// Lines of half blocks with a quiet zone, dark on light whatever the terminal's colours. Empty: `text` is too long.
[[nodiscard]] std::string qr_code(const std::string& text);

} // namespace cli
