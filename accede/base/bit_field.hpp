// Named bit fields of hardware and protocol words, written [high:low] like the manuals.
#pragma once

#include "accede/base/assert.hpp"

#include <concepts>

namespace accede {

/// The bits [High:Low] of a `Word`, both inclusive.
template <std::unsigned_integral Word, unsigned High, unsigned Low = High>
struct BitField {
  static_assert(High >= Low && High < sizeof(Word) * 8);

  static constexpr unsigned kWidth = High - Low + 1;
  /// The field's mask before shifting, e.g. 0x7 for a three bit field.
  static constexpr Word kMax = kWidth == sizeof(Word) * 8
                                   ? static_cast<Word>(~Word{0})
                                   : static_cast<Word>((Word{1} << kWidth) - 1);
  static constexpr Word kMask = static_cast<Word>(kMax << Low);

  [[nodiscard]] static constexpr Word get(Word word) {
    return static_cast<Word>((word & kMask) >> Low);
  }
  /// `word` with the field replaced. Precondition: `value` fits.
  [[nodiscard]] static constexpr Word set(Word word, Word value) {
    ACCEDE_ASSERT(value <= kMax);
    return static_cast<Word>((word & static_cast<Word>(~kMask)) | static_cast<Word>(value << Low));
  }
};

}  // namespace accede
