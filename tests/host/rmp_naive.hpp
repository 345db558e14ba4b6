// A naive RMP: one record for every 4 KiB page, no locks, no counts, no shared entries. What the
// model tests compare the real one with.
#pragma once

#include "tests/host/rmp_fixture.hpp"

#include <array>
#include <cstdint>
#include <vector>

namespace accede::host::test {

class NaiveRmp {
 public:
  struct Page {
    bool assigned = false, large = false, immutable = false, validated = false, vmsa = false;
    std::uint32_t asid = 0;
    std::uint64_t gfn = 0;
    std::array<unsigned, 4> perm{};
    unsigned users = 0;
  };

  explicit NaiveRmp(std::size_t count) : pages(count) {}

  RmpUpdateCode update(PhysAddr spa, const RmpUpdate& to, std::uint32_t caller = 0) {
    const std::size_t n = to.size == PageSize::k2M ? 512 : 1;
    if (!fits(spa, n) || (to.assigned ? !legal(to, n) : to.immutable || to.asid != 0)) {
      return RmpUpdateCode::kFailInput;
    }
    const std::size_t at = index(spa);
    bool fixed = false, used = false, other_size = false;
    for (std::size_t i = at; i < at + n; ++i) {
      fixed = fixed || (pages[i].immutable && !pages[i].assigned);
      used = used || pages[i].users != 0;
      other_size = other_size || (pages[i].assigned && pages[i].large != (n == 512));
    }
    const bool own_entry = !pages[at].large || at % 512 == 0;
    if (caller != 0 || fixed || (own_entry && pages[at].immutable)) {
      return RmpUpdateCode::kFailPermission;
    }
    if (used || other_size) {
      return used ? RmpUpdateCode::kFailInUse : RmpUpdateCode::kFailOverlap;
    }
    for (std::size_t i = 0; i < n; ++i) {
      Page page;
      if (to.assigned) {
        page = {.assigned = true,
                .large = n == 512,
                .immutable = to.immutable,
                .asid = to.asid,
                .gfn = (to.gpa.value() >> 12) + (to.asid != 0 ? i : 0),
                .perm = {0x1F, 0, 0, 0}};
      }
      pages[at + i] = page;
    }
    return RmpUpdateCode::kSuccess;
  }

  PsmashCode psmash(PhysAddr spa, std::uint32_t caller = 0) {
    const std::size_t at = index(spa);
    if (!fits(spa, 512)) {
      return PsmashCode::kFailInput;
    }
    if (caller != 0) {
      return PsmashCode::kFailPermission;
    }
    if (!pages[at].large) {
      return PsmashCode::kFailInput;
    }
    if (pages[at].immutable) {
      return PsmashCode::kFailPermission;
    }
    if (used(at, 512)) {
      return PsmashCode::kFailInUse;
    }
    for (std::size_t i = at; i < at + 512; ++i) {
      pages[i].large = false;
    }
    return PsmashCode::kSuccess;
  }

  FirmwareCode launch_update(PhysAddr spa, const LaunchPage& launch) {
    const auto type = static_cast<unsigned>(launch.type);
    for (const unsigned mask : launch.permissions) {
      if (mask > 0x1F) {
        return FirmwareCode::kInvalidParam;
      }
    }
    if (type < 1 || type > 6) {
      return FirmwareCode::kInvalidParam;
    }
    const std::size_t n = launch.size == PageSize::k2M ? 512 : 1;
    if (n == 512 && (type == 2 || type >= 5)) {
      return FirmwareCode::kInvalidPageSize;
    }
    return change(
        spa, n,
        [&](const Page& page) {
          if (page_state(page) != RmpState::kPreGuest) {
            return FirmwareCode::kInvalidPageState;
          }
          return page.asid == launch.asid ? FirmwareCode::kSuccess
                                          : FirmwareCode::kInvalidPageOwner;
        },
        [&](Page& page) {
          page.immutable = false;
          page.validated = true;
          page.vmsa = type == 2;
          for (std::size_t i = 0; i < 3; ++i) {
            page.perm[i + 1] = launch.permissions[i];
          }
        });
  }

  FirmwareCode move(PhysAddr spa, PageSize size, RmpState to, PhysAddr metadata) {
    const std::size_t n = size == PageSize::k2M ? 512 : 1;
    using S = RmpState;
    if (!fits(spa, n)) {
      return FirmwareCode::kInvalidAddress;
    }
    if (to == S::kMetadata && (metadata.value() == 0 || metadata.value() % 4096 != 0)) {
      return FirmwareCode::kInvalidParam;
    }
    return change(
        spa, n,
        [&](const Page& page) {
          const S from = page_state(page);
          const bool edge = (from == S::kHypervisor && to == S::kHvFixed) ||
                            (from == S::kFirmware &&
                             (to == S::kReclaim || to == S::kContext || to == S::kMetadata)) ||
                            (from == S::kPreGuest && to == S::kReclaim) ||
                            (to == S::kFirmware && (from == S::kContext || from == S::kMetadata)) ||
                            (from == S::kGuestValid && to == S::kPreSwap) ||
                            (from == S::kPreSwap && to == S::kGuestValid);
          return edge ? FirmwareCode::kSuccess : FirmwareCode::kInvalidPageState;
        },
        [&](Page& page) {
          page.immutable = to != S::kReclaim && to != S::kGuestValid;
          if (to == S::kReclaim) {
            page = {.assigned = true, .large = n == 512};
          }
          page.vmsa = to == S::kContext || (to != S::kFirmware && page.vmsa);
          if (to == S::kFirmware || to == S::kMetadata) {
            page.gfn = to == S::kMetadata ? metadata.value() >> 12 : 0;
          }
        });
  }

  FirmwareCode unsmash(PhysAddr spa) {
    const std::size_t at = index(spa);
    if (!fits(spa, 512)) {
      return FirmwareCode::kInvalidAddress;
    }
    if (pages[at].large) {
      return FirmwareCode::kInvalidPageSize;
    }
    const Page& a = pages[at];
    bool alike = a.assigned && a.asid != 0 && !a.vmsa && a.gfn % 512 == 0 && !used(at, 512);
    for (std::size_t i = 0; i < 512; ++i) {
      const Page& b = pages[at + i];
      alike = alike && b.assigned && b.asid == a.asid && b.immutable == a.immutable && !b.vmsa &&
              b.validated == a.validated && b.perm == a.perm && b.gfn == a.gfn + i;
    }
    for (std::size_t i = 0; alike && i < 512; ++i) {
      pages[at + i].large = true;
    }
    return alike ? FirmwareCode::kSuccess : FirmwareCode::kInvalidPageState;
  }

  PvalidateOutcome pvalidate(PhysAddr spa, PhysAddr gpa, std::uint32_t asid, std::uint32_t ecx,
                             bool validate) {
    if (ecx > 1 || gpa.value() % (ecx == 1 ? kRmp2M : kRmp4K) != 0) {
      return {.code = PvalidateCode::kFailInput};
    }
    if (const RmpVerdict owner = owned(spa, gpa, asid); owner != RmpVerdict::kAllowed) {
      return {.fault = owner};
    }
    const std::size_t at = index(spa);
    if (pages[at].large != (ecx == 1)) {
      return pages[at].large ? PvalidateOutcome{.fault = RmpVerdict::kSizeMismatch}
                             : PvalidateOutcome{.code = PvalidateCode::kFailSizeMismatch};
    }
    const bool carry = pages[at].validated == validate;
    for (std::size_t i = 0; i < (ecx == 1 ? 512 : 1); ++i) {
      pages[at + i].validated = validate;
    }
    return {.carry = carry};
  }

  RmpAdjustOutcome rmpadjust(const GuestPage& page, std::uint64_t rcx, std::uint64_t rdx) {
    const std::uint64_t target = rdx & 0xFF, mask = rdx >> 8 & 0xFF;
    if (rcx > 1 || page.gpa.value() % (rcx == 1 ? kRmp2M : kRmp4K) != 0 || target > 3 ||
        mask > 0x1F || rdx >> 17 != 0) {
      return {.code = RmpAdjustCode::kFailInput};
    }
    if (target <= page.vmpl) {
      return {.code = RmpAdjustCode::kFailPermission};
    }
    if (const RmpVerdict owner = owned(page.spa, page.gpa, page.asid);
        owner != RmpVerdict::kAllowed) {
      return {.fault = owner};
    }
    const std::size_t at = index(page.spa), n = rcx == 1 ? 512 : 1;
    const Page& own = pages[at];
    if (own.large != (n == 512)) {
      return own.large ? RmpAdjustOutcome{.fault = RmpVerdict::kSizeMismatch}
                       : RmpAdjustOutcome{.code = RmpAdjustCode::kFailSizeMismatch};
    }
    if (!own.validated) {
      return {.fault = RmpVerdict::kNotValidated};
    }
    if ((mask & ~std::uint64_t{own.perm[page.vmpl]}) != 0) {
      return {.code = RmpAdjustCode::kFailPermission};
    }
    const bool vmsa = page.vmpl == 0 ? (rdx >> 16 & 1) != 0 : own.vmsa;
    if (vmsa != own.vmsa && used(at, n)) {
      return {.code = RmpAdjustCode::kFailInUse};
    }
    for (std::size_t i = at; i < at + n; ++i) {
      pages[i].perm[target] = static_cast<unsigned>(mask);
      pages[i].vmsa = vmsa;
    }
    return {};
  }

  RmpVerdict check_private(PhysAddr spa, const RmpAccess& access) const {
    if (const RmpVerdict owner = owned(spa, access.gpa, access.asid);
        owner != RmpVerdict::kAllowed) {
      return owner;
    }
    const Page& page = pages[index(spa)];
    if (page.large != (access.nested_size != PageSize::k4K)) {
      return RmpVerdict::kSizeMismatch;
    }
    if (!page.validated) {
      return RmpVerdict::kNotValidated;
    }
    const unsigned bit = access.shadow_stack ? 4
                         : access.fetch      ? (access.user ? 2 : 3)
                                             : (access.write ? 1 : 0);
    return (page.perm[access.vmpl] >> bit & 1) != 0 ? RmpVerdict::kAllowed
                                                    : RmpVerdict::kNoPermission;
  }

  RmpVerdict check_shared(PhysAddr spa, bool write, PageSize mapping) const {
    const std::size_t at = index(spa);
    if (spa < PhysAddr{kRmpBase} || at >= pages.size() || !write) {
      return RmpVerdict::kAllowed;
    }
    const std::size_t begin = mapping == PageSize::k4K ? at : at / 512 * 512;
    const std::size_t end = mapping == PageSize::k4K ? at + 1 : std::min(begin + 512, pages.size());
    for (std::size_t i = begin; i < end; ++i) {
      if (pages[i].assigned) {
        return RmpVerdict::kNotHypervisor;
      }
    }
    return RmpVerdict::kAllowed;
  }

  bool begin_use(PhysAddr spa) { return ++pages[index(spa)].users != 0; }
  void end_use(PhysAddr spa) { --pages[index(spa)].users; }

  /// The entry as lookup() shows it.
  [[nodiscard]] RmpEntry entry(std::size_t i) const {
    const Page& page = pages[i];
    return {.low = std::uint64_t{page.assigned} | std::uint64_t{page.large} << 1 |
                   std::uint64_t{page.immutable} << 2 | page.gfn << 12 |
                   std::uint64_t{page.asid} << 51 | std::uint64_t{page.vmsa} << 61 |
                   std::uint64_t{page.validated} << 62,
            .high = page.perm[0] | page.perm[1] << 8 | page.perm[2] << 16 |
                    std::uint64_t{page.perm[3]} << 24};
  }
  static std::size_t index(PhysAddr spa) { return (spa.value() - kRmpBase) / kRmp4K; }

  std::vector<Page> pages;

 private:
  static RmpState page_state(const Page& page) {
    using S = RmpState;
    if (!page.assigned) {
      return page.immutable ? S::kHvFixed : S::kHypervisor;
    }
    if (page.asid == 0) {
      return !page.immutable ? S::kReclaim
             : page.gfn != 0 ? S::kMetadata
             : page.vmsa     ? S::kContext
                             : S::kFirmware;
    }
    return page.immutable ? (page.validated ? S::kPreSwap : S::kPreGuest)
                          : (page.validated ? S::kGuestValid : S::kGuestInvalid);
  }
  [[nodiscard]] bool fits(PhysAddr spa, std::size_t n) const {
    return spa.value() % (n * kRmp4K) == 0 && spa >= PhysAddr{kRmpBase} &&
           index(spa) + n <= pages.size();
  }
  static bool legal(const RmpUpdate& to, std::size_t n) {
    return to.asid <= 1023 && to.gpa.value() % (n * kRmp4K) == 0 && to.gpa.value() < 1ULL << 51 &&
           (to.asid != 0 || (to.immutable && to.gpa.value() == 0));
  }
  [[nodiscard]] bool used(std::size_t at, std::size_t n) const {
    for (std::size_t i = at; i < at + n; ++i) {
      if (pages[i].users != 0) {
        return true;
      }
    }
    return false;
  }
  [[nodiscard]] RmpVerdict owned(PhysAddr spa, PhysAddr gpa, std::uint32_t asid) const {
    if (!fits(spa.align_down(4_KiB), 1)) {
      return RmpVerdict::kNotCovered;
    }
    const Page& page = pages[index(spa)];
    if (!page.assigned || page.asid != asid || asid == 0) {
      return RmpVerdict::kNotAssigned;
    }
    if (page.gfn != gpa.value() >> 12) {
      return RmpVerdict::kWrongGpa;
    }
    return page.immutable ? RmpVerdict::kImmutable : RmpVerdict::kAllowed;
  }
  template <class Check, class Apply>
  FirmwareCode change(PhysAddr spa, std::size_t n, Check check, Apply apply) {
    if (!fits(spa, n)) {
      return FirmwareCode::kInvalidAddress;
    }
    const std::size_t at = index(spa);
    if (pages[at].large != (n == 512)) {
      return FirmwareCode::kInvalidPageSize;
    }
    if (used(at, n)) {
      return FirmwareCode::kInvalidPageState;
    }
    const FirmwareCode code = check(pages[at]);
    for (std::size_t i = at; code == FirmwareCode::kSuccess && i < at + n; ++i) {
      apply(pages[i]);
    }
    return code;
  }
};

}  // namespace accede::host::test
