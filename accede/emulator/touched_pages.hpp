// Which pages of RAM may hold something else than zero.
#pragma once

#include "accede/base/phys_range.hpp"

#include <atomic>
#include <span>

namespace accede::emulator {

/// One bit for every 4 KiB page from address 0. A page that nobody could ever write since the
/// machine was switched on is zero, and accepting it needs no write: the host of the machine then
/// backs nothing. Thread-safe, lock-free.
class TouchedPages {
 public:
  [[nodiscard]] static constexpr Bytes storage_bound(PhysAddr end) {
    return Bytes{(end.value() / 4096 + 63) / 64 * 8};
  }

  /// `words` covers all RAM and is zero.
  explicit TouchedPages(std::span<std::uint64_t> words) : words_{words} {}

  [[nodiscard]] bool test(PhysAddr page) const {
    const std::uint64_t index = page.value() / 4096;
    return (std::atomic_ref{words_[index / 64]}.load(std::memory_order_relaxed) >> index % 64 &
            1) != 0;
  }

  /// `range` is page aligned and inside what the words cover.
  void mark(PhysRange range) {
    std::uint64_t first = range.begin().value() / 4096;
    const std::uint64_t end = range.end().value() / 4096;
    while (first < end) {
      const std::uint64_t count = std::min(end - first, 64 - first % 64);
      const std::uint64_t mask = (~0ULL >> (64 - count)) << first % 64;
      std::atomic_ref{words_[first / 64]}.fetch_or(mask, std::memory_order_relaxed);
      first += count;
    }
  }

 private:
  std::span<std::uint64_t> words_;
};

}  // namespace accede::emulator
