// The machine as the launcher found it: which guest physical addresses are what.
#pragma once

#include "accede/base/phys_range.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace accede::emulator {

/// What a guest physical address (without the shared bit) names.
enum class Region : std::uint8_t {
  kRam,
  kEmulator,  ///< hidden: belongs to the emulator
  kDevice,    ///< everything else: MMIO, flash, nothing at all
};

/// What the guest is on.
enum class Personality : std::uint32_t { kTdx = 0, kSnp = 1 };

/// The launcher's description of the machine and of what is wanted, written once before the
/// take-over; the emulator copies it. Plain data: it crosses two separately linked images.
struct LaunchInfo {
  static constexpr std::uint32_t kVersion = 2;
  static constexpr std::size_t kMaxRanges = 64;

  struct Range {
    std::uint64_t begin;
    std::uint64_t end;  ///< exclusive
  };

  std::uint32_t version;
  std::uint32_t ram_count;
  std::uint32_t pending_count;
  std::uint32_t back_with_4k;  ///< 1: the host backs private memory in 4 KiB pages
  std::uint32_t log_events;    ///< 1: keep the binary event log
  Personality personality;
  /// 1: a touch of memory that is not accepted stops the guest with a report (TDX: the TD attribute
  /// SEPT_VE_DISABLE); 0: it raises #VE or #VC 0x404 in the guest.
  std::uint32_t stop_on_unaccepted;
  std::uint32_t reserved;        ///< 0
  std::uint64_t accept_cost_ns;  ///< time per 2 MiB; 0: zero memory instead
  std::uint64_t tsc_hz;
  Range image;                            ///< the emulator image, inside `hidden`
  Range hidden;                           ///< all memory of the emulator, 2 MiB aligned
  std::array<Range, kMaxRanges> ram;      ///< sorted, disjoint; may hold `hidden`
  std::array<Range, kMaxRanges> pending;  ///< sorted, disjoint parts of `ram`: not accepted yet
};

/// How much memory the emulator needs beside its image. `ram_end` is the end of the highest RAM.
/// Page-state tables 1/2048, nested tables 1/2048, two bits per page, and 48 MiB for the rest: a
/// guest that mixes states in more 2 MiB units than that is stopped with a clear report. The RMP of
/// an SNP machine has 16 bytes a page.
[[nodiscard]] constexpr Bytes emulator_storage(Bytes ram, PhysAddr ram_end,
                                               Personality personality) {
  const std::uint64_t pages = ram_end.value() / 4096;
  const std::uint64_t rmp = personality == Personality::kSnp ? pages * 16 : 0;
  return Bytes{ram.value() / 1024 + pages / 4 + rmp} + 48_MiB;
}

/// Classifies addresses. Thread-safe: immutable.
class MachineMap {
 public:
  /// `ram` is sorted, disjoint, without `hidden`, and outlives the map.
  MachineMap(std::span<const PhysRange> ram, PhysRange hidden) : ram_{ram}, hidden_{hidden} {}

  [[nodiscard]] Region region(PhysAddr gpa) const {
    if (hidden_.contains(gpa)) {
      return Region::kEmulator;
    }
    for (const PhysRange& range : ram_) {
      if (range.contains(gpa)) {
        return Region::kRam;
      }
    }
    return Region::kDevice;
  }

  /// True when no byte of `range` is RAM or belongs to the emulator.
  [[nodiscard]] bool is_device(PhysRange range) const {
    if (hidden_.overlaps(range)) {
      return false;
    }
    for (const PhysRange& ram : ram_) {
      if (ram.overlaps(range)) {
        return false;
      }
    }
    return true;
  }

  [[nodiscard]] std::span<const PhysRange> ram() const { return ram_; }
  [[nodiscard]] PhysRange hidden() const { return hidden_; }

 private:
  std::span<const PhysRange> ram_;
  PhysRange hidden_;
};

}  // namespace accede::emulator
