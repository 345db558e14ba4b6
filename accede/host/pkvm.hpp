// The hypercalls by which a protected guest of pKVM (arm64) shares its memory with the host.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"
#include "accede/host/private_memory.hpp"

#include <algorithm>
#include <array>
#include <cstdint>

namespace accede::host {

/// Function numbers of the vendor hypervisor range, as the guest puts them into R0 (reference:
/// SEV-SNP 7.1).
enum class PkvmFunction : std::uint32_t {
  kFeatures = 0x86000000,  ///< R0 to R3: a bit for each function 0 to 127
  kMemInfo = 0xC6000002,
  kMemShare = 0xC6000003,
  kMemUnshare = 0xC6000004,
  kMemRelinquish = 0xC6000009,  ///< Android
};

inline constexpr std::int64_t kPkvmSuccess = 0;
inline constexpr std::int64_t kPkvmNotSupported = -1;
inline constexpr std::int64_t kPkvmInvalidParameter = -3;

/// What to do about a hypercall.
struct PkvmAnswer {
  /// Another change of the page is under way: run the same hypercall again; registers mean nothing.
  bool again = false;
  /// R0 to R3. R0 is 0, -1 or -3 but for kFeatures and kMemInfo.
  std::array<std::uint64_t, 4> registers{};
};

struct PkvmConfig {
  /// Android: relinquish, and R2 granules in one call; R1 says how many are done, the guest goes on
  /// behind them. Upstream: one granule a call, R2 is 0.
  bool android = false;
  /// Most granules that one call converts.
  std::uint64_t most_granules = 512;
};

/// Answers the hypercalls of one VM. Sharing changes who may touch a page: it stays where it is,
/// with its content. A page that is shared already cannot be shared, nor a private one unshared
/// (-3; upstream EL2 checks its owner).
///
/// Thread-safe: holds no state of its own.
template <PrivateMemoryBacking Memory>
class Pkvm {
 public:
  /// `memory` outlives the object. Precondition: its VM type is kPkvm.
  Pkvm(PrivateMemory<Memory>& memory, const PkvmConfig& config) : memory_{memory}, config_{config} {
    ACCEDE_ASSERT(&memory.properties() == &properties_of(VmType::kPkvm));
    ACCEDE_ASSERT(config.most_granules != 0);
  }

  /// `function` is R0, `address` and `count` are R1 and R2 of the guest's HVC.
  [[nodiscard]] PkvmAnswer call(std::uint32_t function, std::uint64_t address,
                                std::uint64_t count) {
    switch (static_cast<PkvmFunction>(function)) {
      case PkvmFunction::kFeatures:
        return {.registers = {features()}};
      case PkvmFunction::kMemInfo:
        return mem_info(address, count);
      case PkvmFunction::kMemShare:
        return change(address, count, PageAttribute::kShared);
      case PkvmFunction::kMemUnshare:
        return change(address, count, PageAttribute::kPrivate);
      case PkvmFunction::kMemRelinquish:
        return relinquish(address);
    }
    return result(kPkvmNotSupported);
  }

 private:
  [[nodiscard]] static PkvmAnswer result(std::int64_t status, std::uint64_t done = 0) {
    return {.registers = {static_cast<std::uint64_t>(status), done}};
  }
  [[nodiscard]] static PkvmAnswer result(const PrivateMemoryFailure& failure) {
    if (failure.error == PrivateMemoryError::kBusy) {
      return {.again = true};
    }
    return result(kPkvmInvalidParameter);
  }

  [[nodiscard]] std::uint64_t features() const {
    constexpr std::uint64_t kUpstream = 1U << 0 | 1U << 2 | 1U << 3 | 1U << 4;
    return config_.android ? kUpstream | 1U << 9 : kUpstream;
  }

  [[nodiscard]] PkvmAnswer mem_info(std::uint64_t address, std::uint64_t count) const {
    if (address != 0 || count != 0) {
      return result(kPkvmInvalidParameter);
    }
    constexpr std::uint64_t kHasRange = 1;
    return {.registers = {memory_.granule().value(), config_.android ? kHasRange : 0}};
  }

  /// The granules of a request, cut at the most that one call converts; none: a wrong parameter.
  [[nodiscard]] std::optional<PhysRange> granules(std::uint64_t address,
                                                  std::uint64_t count) const {
    if (!config_.android && count != 0) {
      return std::nullopt;
    }
    const std::uint64_t granules = std::clamp<std::uint64_t>(count, 1, config_.most_granules);
    return PhysRange::make(PhysAddr{address}, memory_.granule() * granules);
  }

  /// The granules from the first on that are not `to` yet, as one conversion.
  [[nodiscard]] PkvmAnswer change(std::uint64_t address, std::uint64_t count, PageAttribute to) {
    const auto wanted = granules(address, count);
    const MemorySlot* slot =
        wanted ? memory_.slot_of(
                     PhysRange::make(wanted->begin(), memory_.granule()).value_or(PhysRange{}))
               : nullptr;
    if (slot == nullptr || !wanted->begin().is_aligned(memory_.granule())) {
      return result(kPkvmInvalidParameter);
    }
    const PhysRange inside = wanted->intersect(slot->gpas);
    if (memory_.attribute(inside.begin()) == to) {
      return result(kPkvmInvalidParameter);
    }
    const PhysRange run = memory_.attributes().run(inside);
    if (const auto changed = memory_.convert(run, to); !changed) {
      return result(changed.error());
    }
    return result(kPkvmSuccess, config_.android ? run.size() / memory_.granule() : 0);
  }

  [[nodiscard]] PkvmAnswer relinquish(std::uint64_t address) {
    if (!config_.android) {
      return result(kPkvmNotSupported);
    }
    const auto granule = PhysRange::make(PhysAddr{address}, memory_.granule());
    if (!granule) {
      return result(kPkvmInvalidParameter);
    }
    const auto gone = memory_.relinquish(*granule);
    return gone ? result(kPkvmSuccess) : result(gone.error());
  }

  PrivateMemory<Memory>& memory_;
  PkvmConfig config_;
};

}  // namespace accede::host
