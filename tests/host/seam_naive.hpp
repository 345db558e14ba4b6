// The host's side of the TDX module as plainly as possible: maps of pages, TDs and vCPUs. No locks,
// no tables, no storage; what a call holds while it runs is a parameter.
#pragma once

#include "accede/host/seam_module.hpp"

#include "tests/host/seam_host.hpp"
#include "tests/host/sept_actions.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

namespace accede::host::test {

/// SeamHost with the first GiB of its second TDMR initialized.
class NaiveModule {
 public:
  struct Page {
    PamtType type = PamtType::kFree;
    std::uint64_t owner = 0;
    int level = 0;
  };
  struct Td {
    TdLifecycle lifecycle = TdLifecycle::kKeyAssigned;
    TdOpState op = TdOpState::kUninitialized;
    unsigned key = 0;
    std::set<unsigned> packages;
    unsigned tdcs = 0;
    unsigned max_vcpus = 0;
    unsigned vcpus = 0;
    NaiveSept sept;
  };
  struct Vcpu {
    std::uint64_t tdr = 0;
    unsigned pages = 1;
    bool initialized = false;
    std::optional<unsigned> processor;
  };

  static constexpr std::uint64_t kBegin = SeamHost::kTdmr;
  static constexpr std::uint64_t kEnd = SeamHost::kTdmr + kGib;
  static constexpr std::uint64_t k2m = 2 * kMib;

  static constexpr std::uint64_t kInvalid = 0xC000010000000000;
  static constexpr std::uint64_t kRange = 0xC000010100000000;
  static constexpr std::uint64_t kBusy = 0x8000020000000000;
  static constexpr std::uint64_t kMetadata = 0xC000030000000000;
  static constexpr std::uint64_t kLifecycle = 0xC000060700000000;
  static constexpr std::uint64_t kKeys = 0x8000081000000000;
  static constexpr std::uint64_t kRcx = 1;
  static constexpr std::uint64_t kRdx = 2;
  static constexpr std::uint64_t kR8 = 8;

  static bool reserved(std::uint64_t hpa) {
    return hpa >= SeamHost::kReserved && hpa < SeamHost::kReserved + 16 * kMib;
  }

  /// The page that `hpa` lies in.
  [[nodiscard]] Page at(std::uint64_t hpa) const {
    if (reserved(hpa)) {
      return {.type = PamtType::kReserved};
    }
    for (const std::uint64_t size : {kPageBytes, k2m}) {
      const auto found = pages.find(hpa & ~(size - 1));
      if (found != pages.end() && (size == kPageBytes || found->second.level == 1)) {
        return found->second;
      }
    }
    return {};
  }

  /// Why `hpa` cannot be looked at.
  static std::uint64_t where(std::uint64_t hpa, std::uint64_t operand, std::uint64_t size) {
    if (hpa % size != 0 || hpa >= 1ULL << 46) {
      return kInvalid + operand;
    }
    return hpa >= kBegin && hpa < kEnd ? 0 : kRange + operand;
  }

  /// Why `hpa` is no page of this type and size, while the call holds `held`.
  [[nodiscard]] std::uint64_t check(std::uint64_t hpa, std::uint64_t operand, PamtType type,
                                    int level, const std::vector<std::uint64_t>& held) const {
    const std::uint64_t size = level == 0 ? kPageBytes : k2m;
    if (const std::uint64_t refused = where(hpa, operand, size); refused != 0) {
      return refused;
    }
    for (const std::uint64_t page : held) {
      if (page >= hpa && page < hpa + size) {
        return kBusy + operand;
      }
    }
    const Page page = at(hpa);
    if (page.type != type || (type != PamtType::kFree && page.level != level)) {
      return kMetadata + operand;
    }
    for (std::uint64_t part = hpa; part < hpa + size; part += kPageBytes) {
      if (level == 1 && at(part).type != type) {
        return kMetadata + operand;
      }
    }
    return 0;
  }
  [[nodiscard]] std::uint64_t check_td(std::uint64_t tdr, std::uint64_t operand) const {
    return check(tdr, operand, PamtType::kTdr, 0, {});
  }

  [[nodiscard]] static std::uint64_t built(const Td& td, TdOpState first, TdOpState last) {
    if (td.lifecycle != TdLifecycle::kKeysConfigured) {
      return kKeys;
    }
    if (td.tdcs < 6) {
      return 0xC000060600000000;
    }
    return td.op < first || td.op > last ? NaiveSept::kOpState : 0;
  }

  /// 4 KiB pages of a TD besides its TDR.
  [[nodiscard]] std::uint64_t children(std::uint64_t tdr) const {
    std::uint64_t count = 0;
    for (const auto& [hpa, page] : pages) {
      count += page.owner == tdr ? (page.level == 0 ? 1 : 512) : 0;
    }
    return count;
  }
  [[nodiscard]] unsigned associated(std::uint64_t tdr) const {
    return static_cast<unsigned>(std::ranges::count_if(vcpus, [tdr](const auto& item) {
      return item.second.tdr == tdr && item.second.processor.has_value();
    }));
  }

  std::map<std::uint64_t, Page> pages;  ///< by first byte, those in use
  std::map<std::uint64_t, Td> tds;      ///< by TDR
  std::map<std::uint64_t, Vcpu> vcpus;  ///< by TDVPR
  /// By key id: packages that must write back; a key that is not here is free.
  std::map<unsigned, std::optional<std::set<unsigned>>> keys{{32, std::nullopt}};
};

}  // namespace accede::host::test
