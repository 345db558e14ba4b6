#include "accede/host/tdmr_linux.hpp"

#include "accede/base/assert.hpp"

#include <algorithm>
#include <array>
#include <optional>

namespace accede::host {

namespace {

using abi::tdx::CmrInfo;
using abi::tdx::kMostTdmrs;
using abi::tdx::kTdmrGranule;

constexpr PhysAddr kLowMemoryEnd{1ULL << 20};

struct Region {
  PhysRange range;
  NodeId node{};
};

/// The regions of RAM as Linux records them, one after the other.
class RegionWalk {
 public:
  RegionWalk(std::span<const MemoryRange> memory, const TdmrPolicy& policy)
      : memory_{memory}, policy_{policy} {}

  [[nodiscard]] std::optional<Region> next() {
    std::optional<Region> region;
    for (; !memory_.empty(); memory_ = memory_.subspan(1)) {
      const std::optional<PhysRange> part = usable(memory_.front());
      if (!part) {
        continue;
      }
      if (!region) {
        region = Region{.range = *part, .node = memory_.front().node};
      } else if (region->range.end() == part->begin() && region->node == memory_.front().node) {
        region->range = *PhysRange::make(region->range.begin(), part->end());
      } else {
        break;
      }
    }
    return region;
  }

 private:
  [[nodiscard]] std::optional<PhysRange> usable(const MemoryRange& memory) const {
    const bool included =
        memory.kind == MemoryKind::kRam ||
        (memory.kind == MemoryKind::kPmem && policy_.pmem == MemoryUse::kInclude) ||
        (memory.kind == MemoryKind::kCxl && policy_.cxl == MemoryUse::kInclude);
    const PhysAddr begin = std::max(memory.range.begin(), kLowMemoryEnd).align_up(4_KiB);
    const PhysAddr end = memory.range.end().align_down(4_KiB);
    if (!included || !memory.present || end <= begin) {
      return std::nullopt;
    }
    return PhysRange::make(begin, end);
  }

  std::span<const MemoryRange> memory_;
  const TdmrPolicy& policy_;
};

/// Counts the gaps that ascending ranges leave in a window, as Linux does: areas that touch stay
/// two.
class GapCount {
 public:
  explicit GapCount(PhysRange window) : window_{window}, at_{window.begin()} {}

  void add(PhysRange range) {
    const PhysRange cut = range.intersect(window_);
    if (cut.empty()) {
      return;
    }
    gaps_ += at_ < cut.begin() ? 1 : 0;
    at_ = std::max(at_, cut.end());
  }
  [[nodiscard]] std::size_t total() const { return gaps_ + (at_ < window_.end() ? 1 : 0); }

 private:
  PhysRange window_;
  PhysAddr at_;
  std::size_t gaps_ = 0;
};

/// What one TDMR of Linux is.
struct LinuxTdmr {
  PhysRange range;
  Region home;  ///< where its metadata goes: the largest region of its node, if it has room
  PhysRange pamt;
  std::size_t areas = 0;
};

class LinuxBuild {
 public:
  LinuxBuild(const TdmrMachine& machine, std::span<const MemoryRange> memory,
             const TdmrPolicy& policy)
      : machine_{machine}, memory_{memory}, policy_{policy} {}

  [[nodiscard]] LinuxTdmrs run() {
    make_tdmrs();
    if (result_.tdmrs == 0) {
      result_.outcome = LinuxTdmrOutcome::kNoRam;
      return result_;
    }
    if (result_.tdmrs > kMostTdmrs) {
      result_.outcome = LinuxTdmrOutcome::kTooManyTdmrs;
      return result_;
    }
    const bool placed = place_metadata();
    count_areas();
    const PhysRange outside = first_outside();
    if (!placed) {
      result_.outcome = LinuxTdmrOutcome::kNoRoomForPamt;
      result_.worst = unplaced_;
    } else if (result_.worst_areas > abi::tdx::kMostReservedAreas) {
      result_.outcome = LinuxTdmrOutcome::kTooManyAreas;
    } else if (policy_.holes == TdmrHoles::kOfMemoryMap && !outside.empty()) {
      result_.outcome = LinuxTdmrOutcome::kOutsideCmrs;
      result_.worst = outside;
    }
    return result_;
  }

 private:
  void make_tdmrs() {
    PhysAddr covered{};
    RegionWalk walk{memory_, policy_};
    while (const std::optional<Region> region = walk.next()) {
      const PhysAddr end = region->range.end().align_up(kTdmrGranule);
      const PhysAddr begin = std::max(region->range.begin().align_down(kTdmrGranule), covered);
      if (end <= covered) {
        continue;
      }
      if (result_.tdmrs < kMostTdmrs) {
        LinuxTdmr& tdmr = tdmrs_[result_.tdmrs];
        tdmr.range = *PhysRange::make(begin, end);
        tdmr.home = largest_region(region->node);
      }
      ++result_.tdmrs;
      covered = end;
    }
  }

  [[nodiscard]] Region largest_region(NodeId node) const {
    Region largest{};
    RegionWalk walk{memory_, policy_};
    while (const std::optional<Region> region = walk.next()) {
      if (region->node == node && region->range.size() >= largest.range.size()) {
        largest = *region;
      }
    }
    return largest;
  }

  [[nodiscard]] std::span<LinuxTdmr> tdmrs() { return std::span{tdmrs_}.first(result_.tdmrs); }

  /// Puts `size` bytes of metadata of TDMR `index` at the top of what is free in `home`.
  [[nodiscard]] bool place_at(std::size_t index, const Region& home, Bytes size) {
    PhysAddr top = home.range.end();
    for (const LinuxTdmr& before : tdmrs().first(index)) {
      top = before.home.range == home.range ? before.pamt.begin() : top;
    }
    if (top - home.range.begin() < size) {
      return false;
    }
    tdmrs_[index].home = home;
    tdmrs_[index].pamt = *PhysRange::make(top - size, top);
    return true;
  }

  /// Linux asks for memory of the node, and takes that of any other.
  [[nodiscard]] bool place_anywhere(std::size_t index, Bytes size) {
    RegionWalk walk{memory_, policy_};
    while (const std::optional<Region> region = walk.next()) {
      if (place_at(index, *region, size)) {
        return true;
      }
    }
    return false;
  }

  [[nodiscard]] bool place_metadata() {
    for (std::size_t i = 0; i < result_.tdmrs; ++i) {
      Bytes size;
      for (const PageSize page : {PageSize::k4K, PageSize::k2M, PageSize::k1G}) {
        size += least_pamt_size(tdmrs_[i].range.size(), page, machine_.dynamic_pamt);
      }
      result_.pamt += size;
      const Region home = tdmrs_[i].home;
      if (!place_at(i, home, size) && !place_anywhere(i, size)) {
        unplaced_ = tdmrs_[i].range;
        return false;
      }
    }
    return true;
  }

  void count_areas() {
    for (LinuxTdmr& tdmr : tdmrs()) {
      tdmr.areas = holes(tdmr.range);
      for (const LinuxTdmr& other : tdmrs()) {
        tdmr.areas += other.pamt.overlaps(tdmr.range) ? 1 : 0;
      }
      result_.areas += tdmr.areas;
      if (tdmr.areas > result_.worst_areas) {
        result_.worst_areas = tdmr.areas;
        result_.worst = tdmr.range;
      }
    }
  }

  [[nodiscard]] std::size_t holes(PhysRange window) const {
    GapCount gaps{window};
    if (policy_.holes == TdmrHoles::kOfCmrs) {
      for (const CmrInfo& cmr : machine_.cmrs) {
        gaps.add(*PhysRange::make(PhysAddr{cmr.base}, Bytes{cmr.size}));
      }
      return gaps.total();
    }
    RegionWalk walk{memory_, policy_};
    while (const std::optional<Region> region = walk.next()) {
      gaps.add(region->range);
    }
    return gaps.total();
  }

  /// The first RAM that no CMR has.
  [[nodiscard]] PhysRange first_outside() const {
    RegionWalk walk{memory_, policy_};
    while (const std::optional<Region> region = walk.next()) {
      PhysAddr at = region->range.begin();
      for (const CmrInfo& cmr : machine_.cmrs) {
        const PhysAddr begin{cmr.base};
        if (at < begin) {
          return *PhysRange::make(at, std::min(begin, region->range.end()));
        }
        at = std::max(at, begin + Bytes{cmr.size});
        if (at >= region->range.end()) {
          break;
        }
      }
      if (at < region->range.end()) {
        return *PhysRange::make(at, region->range.end());
      }
    }
    return {};
  }

  const TdmrMachine& machine_;
  std::span<const MemoryRange> memory_;
  const TdmrPolicy& policy_;
  std::array<LinuxTdmr, kMostTdmrs> tdmrs_{};
  PhysRange unplaced_;  ///< the TDMR that found no room for its metadata
  LinuxTdmrs result_{};
};

}  // namespace

LinuxTdmrs plan_as_linux(const TdmrMachine& machine, std::span<const MemoryRange> memory,
                         const TdmrPolicy& policy) {
  return LinuxBuild{machine, memory, policy}.run();
}

}  // namespace accede::host
