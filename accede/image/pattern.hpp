// Several texts and GUIDs looked for in one pass over an image.
#pragma once

#include "accede/abi/efi.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace accede::image {

/// Bytes to look for, each stored complemented: a program with this search in it (a loader, the
/// command) is not to be taken for a kernel.
struct Pattern {
  static constexpr std::size_t kMost = 52;
  std::array<std::uint8_t, kMost> complement{};
  std::uint8_t size = 0;

  [[nodiscard]] constexpr std::uint8_t at(std::size_t i) const {
    return static_cast<std::uint8_t>(~complement[i]);
  }

  /// Whether `bytes` begin with this pattern.
  [[nodiscard]] constexpr bool begins(std::span<const std::byte> bytes) const {
    if (bytes.size() < size) {
      return false;
    }
    for (std::size_t i = 0; i < size; ++i) {
      if (std::to_integer<std::uint8_t>(bytes[i]) != at(i)) {
        return false;
      }
    }
    return true;
  }
};

/// The characters of a text, two at least.
consteval Pattern text_pattern(std::string_view characters) {
  Pattern pattern;
  for (const char c : characters) {
    pattern.complement.at(pattern.size++) = static_cast<std::uint8_t>(~c);
  }
  return pattern;
}

/// `size` bytes of a GUID as it lies in memory, from `begin` on.
consteval Pattern guid_pattern(const abi::efi::Guid& guid, std::size_t begin, std::size_t size) {
  const auto bytes = std::bit_cast<std::array<std::uint8_t, 16>>(guid);
  Pattern pattern;
  for (std::size_t i = 0; i < size; ++i) {
    pattern.complement.at(pattern.size++) = static_cast<std::uint8_t>(~bytes.at(begin + i));
  }
  return pattern;
}

/// What is looked for together. Immutable.
template <std::size_t kCount>
class PatternSet {
  static_assert(kCount <= 32, "a bit for each");

 public:
  consteval explicit PatternSet(const std::array<Pattern, kCount>& patterns)
      : patterns_{patterns},
        with_first_{patterns_with(patterns, 0)},
        with_second_{patterns_with(patterns, 1)} {}

  /// Calls note(index of the pattern, offset in `image`) for every pattern that begins in
  /// [begin, end) and ends before `end`, in the order of offsets. `begin` <= `end` <= size.
  template <class Note>
  void search(std::span<const std::byte> image, std::size_t begin, std::size_t end,
              Note&& note) const {
    const auto part = image.first(end);
    for (std::size_t i = begin; i + 1 < end; ++i) {
      std::uint32_t candidates = with_first_[std::to_integer<std::uint8_t>(part[i])] &
                                 with_second_[std::to_integer<std::uint8_t>(part[i + 1])];
      for (; candidates != 0; candidates &= candidates - 1) {
        const auto index = static_cast<std::size_t>(std::countr_zero(candidates));
        if (patterns_[index].begins(part.subspan(i))) {
          note(index, i);
        }
      }
    }
  }

 private:
  using Sets = std::array<std::uint32_t, 256>;

  /// For each value of a byte the set of patterns, a bit each, that have it at `position`.
  static consteval Sets patterns_with(const std::array<Pattern, kCount>& patterns,
                                      std::size_t position) {
    Sets sets{};
    for (std::size_t i = 0; i < kCount; ++i) {
      sets.at(patterns.at(i).at(position)) |= std::uint32_t{1} << i;
    }
    return sets;
  }

  std::array<Pattern, kCount> patterns_;
  Sets with_first_;
  Sets with_second_;
};

}  // namespace accede::image
