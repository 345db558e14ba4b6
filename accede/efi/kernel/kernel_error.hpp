// Why the kernel cannot go on, or cannot do one thing.
#pragma once

#include "accede/base/text_buffer.hpp"

#include <cstdint>
#include <string_view>

namespace accede::efi::kernel {

using namespace std::string_view_literals;

using ErrorText = TextBuffer<320>;

/// Texts are constants. A value type.
struct KernelError {
  std::string_view what;     ///< what the kernel was about to do, or what is wrong
  std::string_view why{};    ///< what the library or the platform said; may be empty
  std::uint64_t detail = 0;  ///< an address or an offset, said by `why`; 0: nothing to say

  /// One line: "what: why (0xdetail)".
  [[nodiscard]] ErrorText text() const {
    ErrorText line;
    line.text(what);
    if (!why.empty()) {
      line.text(": "sv).text(why);
    }
    if (detail != 0) {
      line.text(" ("sv).hex(detail).text(")"sv);
    }
    return line;
  }
};

}  // namespace accede::efi::kernel
