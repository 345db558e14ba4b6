// Which memory the firmware side of the emulator accepts, and which it leaves to others.
#pragma once

#include "accede/efi/firmware.hpp"
#include "accede/emulator/machine.hpp"
#include "accede/firmware/acceptance_plan.hpp"

#include <array>
#include <cstddef>
#include <span>

namespace accede::efi {

/// Sorted ranges that do not overlap and do not touch; as many as the emulator takes.
class RangeList {
 public:
  /// Adds `range`, in any order, merged with neighbours that it touches. False: no room.
  /// Precondition: it overlaps none, and is not empty.
  [[nodiscard]] bool add(PhysRange range);

  [[nodiscard]] std::span<const PhysRange> view() const { return {ranges_.data(), count_}; }
  [[nodiscard]] bool empty() const { return count_ == 0; }
  [[nodiscard]] Bytes size() const;

 private:
  std::array<PhysRange, emulator::LaunchInfo::kMaxRanges> ranges_;
  std::size_t count_ = 0;
};

/// How much the firmware accepts before a loader starts.
struct FirmwareGoal {
  firmware::AcceptanceScope scope = firmware::AcceptanceScope::kBelow4G;
  Bytes at_least;     ///< for kAtLeast: usable in the memory map
  Bytes loader_room;  ///< for kAtLeast: besides, in one piece below 4 GiB if there is one
};

struct MemoryPlan {
  RangeList ram;
  RangeList pending;   ///< parts of `ram` that nobody has accepted when the guest starts
  RangeList accepted;  ///< the parts of `pending` that the firmware accepts before a loader starts
  RangeList left;      ///< the other parts
};

/// The machine's RAM. Below 4 GiB it is taken to reach from 0 to the end of the highest memory that
/// the firmware lists there, but for the legacy hole.
[[nodiscard]] Result<RangeList> survey_ram(const Firmware& firmware);

/// Divides what is free in the firmware's memory map. Above 4 GiB all of it is pending; below,
/// where shipped firmware accepts what it finds before anything else runs, only when `goal` may
/// leave some of it: then in whole 2 MiB pages, and the rest of the free memory there is usable.
/// What is not free is in use, and so accepted. What the firmware accepts is an AcceptancePlan.
[[nodiscard]] Result<MemoryPlan> plan_memory(const Firmware& firmware, const RangeList& ram,
                                             const FirmwareGoal& goal);

/// Takes what the plan leaves away from the firmware, as claimed memory (unaccepted_map.hpp), so
/// that nobody touches it. The result is the plan without what the firmware took meanwhile for its
/// own lists: that is in use now, and so accepted. Until the rest is accepted nobody may allocate.
[[nodiscard]] Result<MemoryPlan> claim_left(const Firmware& firmware, const MemoryPlan& plan);

}  // namespace accede::efi
