// The QR code (qr.hpp), made by libqrencode.
#include "server/cli/qr.hpp"
#include <memory>
#include <qrencode.h>

namespace cli {

std::string qr_code(const std::string& text) {
  constexpr int quiet = 2; // modules around it: half of what the standard asks, and enough on a screen
  std::unique_ptr<QRcode, void (*)(QRcode*)> code{QRcode_encodeString8bit(text.c_str(), 0, QR_ECLEVEL_L), QRcode_free};
  if (!code)
    return {};
  auto is_dark = [&](int x, int y) {
    return x >= 0 && y >= 0 && x < code->width && y < code->width && (code->data[y * code->width + x] & 1);
  };
  std::string out;
  for (int y = -quiet; y < code->width + quiet; y += 2) {
    out += "\x1b[30;107m"; // black on white
    for (int x = -quiet; x < code->width + quiet; ++x) {
      bool upper = is_dark(x, y), lower = is_dark(x, y + 1);
      out += upper ? (lower ? "█" : "▀") : (lower ? "▄" : " ");
    }
    out += "\x1b[0m\n";
  }
  return out;
}

} // namespace cli
