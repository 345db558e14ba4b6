// Page attributes with many ranges: how long a lookup takes while ranges change.
#pragma once

#include "bench/verdict.hpp"

#include <cstdint>

namespace accede::bench {

struct AttributesFigures {
  std::uint64_t runs = 0;           ///< maximal runs of equal pages, when measured
  std::uint64_t wrong = 0;          ///< answers afterwards that differ from a bitmap
  double lookup_ns = 0;             ///< CPU time; each waits for the one before
  double change_ns = 0;             ///< CPU time; one range gone, another one there
  double bytes_per_range = 0;       ///< of storage in use
  std::uint64_t uniform_bytes = 0;  ///< of storage in use with one attribute over all
};

/// Attributes/random: `ranges` maximal ranges of one attribute, half of them shared, over 1 TiB;
/// lookups at random addresses; each hundredth operation changes a range.
[[nodiscard]] AttributesFigures attributes_random(std::uint64_t ranges, std::uint64_t operations);

void check_attributes(Verdicts& verdicts, bool quick);

}  // namespace accede::bench
