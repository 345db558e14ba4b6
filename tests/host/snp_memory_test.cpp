#include "accede/host/snp_memory.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace accede::host {
namespace {

using abi::ghcb::kPscWords;
using abi::ghcb::PageOp;
using abi::ghcb::PscEntry;
using abi::ghcb::PscHeader;
using abi::ghcb::PscResult;

constexpr std::uint64_t k4K = 4096;
constexpr std::uint64_t k2M = 2ULL << 20;
constexpr std::uint64_t kBase = 16 * k2M;
constexpr std::uint64_t kOffset = 1ULL << 32;

PhysRange range(std::uint64_t begin, std::uint64_t end) {
  return *PhysRange::make(PhysAddr{begin}, PhysAddr{end});
}

/// 16 MiB of RAM with a host around it; the embedder's page tables are sets of pages.
class Host {
 public:
  explicit Host(Backing backing, std::uint64_t size = 8 * k2M)
      : ram{{range(kBase, kBase + size)}},
        bits_(PageAttributes::storage_bound(covered_).value() / 8),
        attributes{covered_, std::as_writable_bytes(std::span{bits_})},
        entries_(Rmp::storage_bound(host_).value() / sizeof(RmpEntry)),
        rmp{host_, std::as_writable_bytes(std::span{entries_})},
        memory{rmp, attributes, ram, {.backing = backing, .hpa_offset = Bytes{kOffset}}} {}

  SnpPvalidate pvalidate(std::uint64_t gpa, std::uint32_t ecx, bool validate = true) {
    return with_hooks(
        [&](const auto& hooks) { return memory.pvalidate(PhysAddr{gpa}, ecx, validate, hooks); });
  }
  SnpTouch touch_private(std::uint64_t gpa) {
    return with_hooks(
        [&](const auto& hooks) { return memory.touch_private(PhysAddr{gpa}, hooks); });
  }
  SnpTouch touch_shared(std::uint64_t gpa) {
    return with_hooks([&](const auto& hooks) {
      return memory.touch_shared(
          PhysAddr{gpa}, [&](PhysAddr page, PhysAddr) { shared.insert(page.value()); }, hooks);
    });
  }
  SnpRmpAdjust rmpadjust(std::uint64_t gpa, std::uint64_t rcx, std::uint64_t rdx) {
    return with_hooks(
        [&](const auto& hooks) { return memory.rmpadjust(PhysAddr{gpa}, rcx, rdx, hooks); });
  }
  SnpRmpAdjust rmpquery(std::uint64_t gpa, std::uint64_t rdx) {
    return with_hooks(
        [&](const auto& hooks) { return memory.rmpquery(PhysAddr{gpa}, rdx, hooks); });
  }
  GhcbPageStateAnswer change(std::uint64_t begin, std::uint64_t end, PageOp op) {
    return with_hooks([&](const auto& hooks) {
      return memory.change_page_state({.range = range(begin, end), .op = op}, hooks);
    });
  }
  std::uint64_t msr(std::uint64_t gpa, PageOp op) {
    return with_hooks([&](const auto& hooks) {
      return memory.msr_page_state(abi::ghcb::page_state_request(PhysAddr{gpa}, op), hooks);
    });
  }
  PscResult list() {
    return with_hooks([&](const auto& hooks) {
      return memory.page_state_list(std::span<std::uint64_t, kPscWords>{words}, hooks);
    });
  }
  /// Fills the list.
  void ask(const std::vector<std::uint64_t>& entries) {
    words = {};
    words[0] = PscHeader::make(0, static_cast<std::uint16_t>(entries.size() - 1));
    std::copy(entries.begin(), entries.end(), words.begin() + 1);
  }
  std::uint64_t current() const { return PscHeader::CurEntry::get(words[0]); }
  RmpState state(std::uint64_t gpa) const {
    return abi::rmp::state_of(memory.entry(PhysAddr{gpa}));
  }
  bool large(std::uint64_t gpa) const {
    return RmpEntry::Large::get(memory.entry(PhysAddr{gpa}).low) != 0;
  }

  /// What the embedder maps is what the RMP permits.
  std::string check() const {
    if (!memory.invariants()) {
      return "invariants() is false";
    }
    for (const std::uint64_t page : mapped) {
      if (state(page) != RmpState::kGuestValid) {
        return "a page is mapped that is not valid";
      }
    }
    for (const std::uint64_t page : shared) {
      if (memory.attribute(PhysAddr{page}) != PageAttribute::kShared) {
        return "a shared mapping of a private page";
      }
    }
    return "";
  }

  std::vector<PhysRange> ram;
  std::set<std::uint64_t> mapped;
  std::set<std::uint64_t> shared;
  std::vector<PhysRange> private_gone;
  std::vector<PhysRange> shared_gone;
  std::vector<PhysRange> smashed;
  std::array<std::uint64_t, kPscWords> words{};

 private:
  template <class Call>
  std::invoke_result_t<Call, const SnpMemoryHooks&> with_hooks(Call call) {
    const auto drop = [](std::set<std::uint64_t>& pages, PhysRange gone) {
      pages.erase(pages.lower_bound(gone.begin().value()), pages.lower_bound(gone.end().value()));
    };
    const auto validated = [&](PhysAddr gpa, PhysAddr hpa, PageSize size) {
      EXPECT_EQ(hpa - gpa, Bytes{kOffset});
      for (std::uint64_t page = 0; page < bytes(size).value(); page += k4K) {
        mapped.insert(gpa.value() + page);
      }
    };
    const auto no_private = [&](PhysRange gone) {
      private_gone.push_back(gone);
      drop(mapped, gone);
    };
    const auto no_shared = [&](PhysRange gone) {
      shared_gone.push_back(gone);
      drop(shared, gone);
    };
    const auto add_smashed = [&](PhysRange whole) { smashed.push_back(whole); };
    const FunctionRef<void(PhysRange)> now_smashed = add_smashed;
    return call(SnpMemoryHooks{.validated = validated,
                               .private_gone = no_private,
                               .shared_gone = no_shared,
                               .smashed = &now_smashed});
  }

  PhysRange covered_ = range(0, kBase + 16 * k2M);
  PhysRange host_ = range(kOffset, kOffset + kBase + 16 * k2M);
  std::vector<std::uint64_t> bits_;

 public:
  PageAttributes attributes;

 private:
  std::vector<RmpEntry> entries_;

 public:
  Rmp rmp;
  SnpMemory memory;
};

std::uint64_t entry(std::uint64_t gpa, PageSize size, PageOp op, std::uint64_t done = 0) {
  return PscEntry::CurPage::set(PscEntry::make(PhysAddr{gpa}, size, op), done);
}

// --- PVALIDATE and first use ---

TEST(SnpMemoryPvalidate, TheFirstPrivateUseAssignsThePageInTheSizeOfTheBacking) {
  Host host{Backing::k2M};
  const SnpPvalidate result = host.pvalidate(kBase, 1);
  EXPECT_EQ(result.kind, SnpPvalidateKind::kCompleted);
  EXPECT_EQ(result.code, PvalidateCode::kSuccess);
  EXPECT_FALSE(result.carry);
  EXPECT_FALSE(result.converted);
  EXPECT_EQ(result.bytes, 2_MiB);
  EXPECT_EQ(host.mapped.size(), 512U);
  EXPECT_TRUE(host.large(kBase));
  EXPECT_EQ(host.check(), "");
}

TEST(SnpMemoryPvalidate, With4KBackingA2MPvalidateIsASizeMismatchAsInMainlineKvm) {
  Host host{Backing::k4K};
  EXPECT_EQ(host.pvalidate(kBase, 1).code, PvalidateCode::kFailSizeMismatch);
  for (std::uint64_t page = kBase; page < kBase + k2M; page += k4K) {
    ASSERT_EQ(host.pvalidate(page, 0).bytes, 4_KiB);
  }
  EXPECT_EQ(host.mapped.size(), 512U);
  EXPECT_EQ(host.check(), "");
}

TEST(SnpMemoryPvalidate, A4KPvalidateInsideA2MEntrySmashesIt) {
  Host host{Backing::k2M};
  EXPECT_EQ(host.pvalidate(kBase + k4K, 0).bytes, 4_KiB);
  EXPECT_FALSE(host.large(kBase));
  EXPECT_EQ(host.state(kBase), RmpState::kGuestInvalid);
  EXPECT_EQ(host.state(kBase + k4K), RmpState::kGuestValid);
  EXPECT_EQ(host.mapped, (std::set<std::uint64_t>{kBase + k4K}));
  EXPECT_EQ(host.check(), "");
}

TEST(SnpMemoryPvalidate, TwiceIsSuccessWithCarryAndChangesNothing) {
  Host host{Backing::k2M};
  (void)host.pvalidate(kBase, 1);
  const SnpPvalidate again = host.pvalidate(kBase, 1);
  EXPECT_EQ(again.code, PvalidateCode::kSuccess);
  EXPECT_TRUE(again.carry);
  EXPECT_EQ(again.bytes, 0_B);
}

TEST(SnpMemoryPvalidate, RescindingTakesThePageFromTheEmbedder) {
  Host host{Backing::k2M};
  (void)host.pvalidate(kBase, 1);
  EXPECT_EQ(host.pvalidate(kBase + k4K, 0, false).bytes, 4_KiB);
  EXPECT_EQ(host.mapped.size(), 511U);
  EXPECT_EQ(host.touch_private(kBase + k4K).kind, SnpTouchKind::kNotValidated);
  EXPECT_EQ(host.touch_private(kBase).kind, SnpTouchKind::kMapped);
  EXPECT_EQ(host.check(), "");
}

TEST(SnpMemoryPvalidate, BadOperandsAndMissingMemoryAreToldApart) {
  Host host{Backing::k2M};
  EXPECT_EQ(host.pvalidate(kBase, 2).code, PvalidateCode::kFailInput);
  EXPECT_EQ(host.pvalidate(kBase + k4K, 1).code, PvalidateCode::kFailInput);
  EXPECT_EQ(host.state(kBase), RmpState::kHypervisor) << "a refused operand assigns nothing";
  EXPECT_EQ(host.pvalidate(kBase - k4K, 0).kind, SnpPvalidateKind::kNotRam);
  EXPECT_EQ(host.touch_private(kBase - k4K).kind, SnpTouchKind::kNotRam);
  EXPECT_EQ(host.touch_shared(kBase - k4K).kind, SnpTouchKind::kNotRam);
  EXPECT_EQ(name(SnpTouchKind::kNotValidated), "not validated");
  EXPECT_EQ(name(SnpPvalidateKind::kNotRam), "not RAM");
}

// --- RMPADJUST and RMPQUERY ---

TEST(SnpMemoryAdjust, LinuxsProbeForVmpl0SucceedsOnAValidatedPage) {
  Host host{Backing::k4K};
  (void)host.pvalidate(kBase, 0);
  EXPECT_EQ(host.rmpadjust(kBase, 0, 1).kind, SnpPvalidateKind::kCompleted);
  EXPECT_EQ(host.rmpadjust(kBase, 0, 1).outcome, RmpAdjustOutcome{});
  EXPECT_EQ(host.mapped, (std::set<std::uint64_t>{kBase})) << "stays usable";
  EXPECT_EQ(host.check(), "");
}

TEST(SnpMemoryAdjust, PermissionsAreThoseThatTheQueryTells) {
  Host host{Backing::k4K};
  (void)host.pvalidate(kBase, 0);
  EXPECT_EQ(host.rmpadjust(kBase, 0, 0x0702).outcome.code, abi::rmp::RmpAdjustCode::kSuccess);
  const SnpRmpAdjust answer = host.rmpquery(kBase, 2);
  EXPECT_EQ(answer.kind, SnpPvalidateKind::kCompleted);
  EXPECT_EQ(answer.outcome.rdx, 0x0702U);
  EXPECT_EQ(answer.outcome.rcx, 0U);
  EXPECT_EQ(host.rmpquery(kBase, 1).outcome.rdx, 0x0001U) << "of another VMPL";
}

TEST(SnpMemoryAdjust, A4KRequestInsideA2MEntrySmashesItAndKeepsItsPages) {
  Host host{Backing::k2M};
  (void)host.pvalidate(kBase, 1);
  EXPECT_EQ(host.rmpadjust(kBase + k4K, 0, 1).outcome, RmpAdjustOutcome{});
  EXPECT_FALSE(host.large(kBase));
  EXPECT_EQ(host.smashed, (std::vector<PhysRange>{range(kBase, kBase + k2M)}));
  EXPECT_EQ(host.mapped.size(), 512U);
  EXPECT_EQ(host.rmpadjust(kBase, 1, 1).outcome.code, abi::rmp::RmpAdjustCode::kFailSizeMismatch);
  EXPECT_EQ(host.check(), "");
}

TEST(SnpMemoryAdjust, A2MRequestAdjustsThe2MEntry) {
  Host host{Backing::k2M};
  (void)host.pvalidate(kBase, 1);
  EXPECT_EQ(host.rmpadjust(kBase, 1, 1).outcome, RmpAdjustOutcome{});
  EXPECT_TRUE(host.large(kBase));
  EXPECT_EQ(host.rmpquery(kBase, 1).outcome.rcx, 1U);
  EXPECT_TRUE(host.smashed.empty());
}

TEST(SnpMemoryAdjust, TheFirstPrivateUseAssignsThePageAndFindsItNotValidated) {
  for (const bool query : {false, true}) {
    Host host{Backing::k4K};
    const SnpRmpAdjust result = query ? host.rmpquery(kBase, 1) : host.rmpadjust(kBase, 0, 1);
    EXPECT_EQ(result.kind, SnpPvalidateKind::kCompleted);
    EXPECT_EQ(result.outcome.fault, RmpVerdict::kNotValidated);
    EXPECT_FALSE(result.converted);
    EXPECT_EQ(host.state(kBase), RmpState::kGuestInvalid);
    EXPECT_TRUE(host.mapped.empty());
  }
}

TEST(SnpMemoryAdjust, ASharedPageIsConvertedAndThatIsTold) {
  for (const bool query : {false, true}) {
    Host host{Backing::k4K};
    (void)host.touch_shared(kBase);
    const SnpRmpAdjust result = query ? host.rmpquery(kBase, 1) : host.rmpadjust(kBase, 0, 1);
    EXPECT_EQ(result.outcome.fault, RmpVerdict::kNotValidated);
    EXPECT_TRUE(result.converted);
    EXPECT_TRUE(host.shared.empty());
    EXPECT_EQ(host.check(), "");
  }
}

TEST(SnpMemoryAdjust, BadOperandsTouchNothing) {
  Host host{Backing::k4K};
  (void)host.touch_shared(kBase);
  EXPECT_EQ(host.rmpadjust(kBase, 2, 1).outcome.code, abi::rmp::RmpAdjustCode::kFailInput);
  EXPECT_EQ(host.rmpadjust(kBase + 1, 0, 1).outcome.code, abi::rmp::RmpAdjustCode::kFailInput);
  EXPECT_EQ(host.rmpadjust(kBase, 0, 0).outcome.code, abi::rmp::RmpAdjustCode::kFailPermission);
  EXPECT_EQ(host.rmpquery(kBase, 4).outcome.code, abi::rmp::RmpAdjustCode::kFailInput);
  EXPECT_EQ(host.shared.size(), 1U);
  EXPECT_EQ(host.state(kBase), RmpState::kHypervisor);
}

TEST(SnpMemoryAdjust, MissingMemoryAndPagesOfTheFirmwareAreToldApart) {
  Host host{Backing::k4K};
  EXPECT_EQ(host.rmpadjust(kBase - k4K, 0, 1).kind, SnpPvalidateKind::kNotRam);
  EXPECT_EQ(host.rmpquery(kBase - k4K, 1).kind, SnpPvalidateKind::kNotRam);
  ASSERT_EQ(host.rmp.update(PhysAddr{kBase + kOffset},
                            RmpUpdate::pre_guest(PhysAddr{kBase}, PageSize::k4K, 1)),
            RmpUpdateCode::kSuccess);
  for (const SnpRmpAdjust& result : {host.rmpadjust(kBase, 0, 1), host.rmpquery(kBase, 1)}) {
    EXPECT_EQ(result.kind, SnpPvalidateKind::kRefused);
    EXPECT_EQ(result.outcome.fault, RmpVerdict::kImmutable);
  }
}

// --- smashing ---

TEST(SnpMemorySmash, TheEmbedderLearnsOfEachEntryOnce) {
  const std::vector<PhysRange> first{range(kBase, kBase + k2M)};
  Host host{Backing::k2M};
  (void)host.pvalidate(kBase + k4K, 0);
  EXPECT_EQ(host.smashed, first) << "assigned in 2 MiB, then smashed";
  (void)host.pvalidate(kBase + 2 * k4K, 0);
  EXPECT_EQ(host.smashed, first);
  Host other{Backing::k2M};
  (void)other.pvalidate(kBase, 1);
  (void)other.pvalidate(kBase + k2M, 1);
  EXPECT_EQ(other.msr(kBase, PageOp::kShared), 0x15U);
  EXPECT_EQ(other.msr(kBase + k4K, PageOp::kShared), 0x15U);
  EXPECT_FALSE(other.change(kBase + k2M, kBase + 2 * k2M, PageOp::kShared).refused);
  EXPECT_EQ(other.smashed, first) << "a whole entry goes as it is";
}

TEST(SnpMemorySmash, AHostThatDoesNotAskIsNotTold) {
  Host host{Backing::k2M};
  (void)host.pvalidate(kBase, 1);
  const auto nothing = [](PhysRange) {};
  const auto mapped = [](PhysAddr, PhysAddr, PageSize) {};
  const SnpMemoryHooks hooks{.validated = mapped, .private_gone = nothing, .shared_gone = nothing};
  EXPECT_EQ(host.memory.pvalidate(PhysAddr{kBase}, 0, false, hooks).bytes, 4_KiB);
  EXPECT_FALSE(host.large(kBase));
}

// --- touching ---

TEST(SnpMemoryTouch, MemoryThatWasNotValidatedIsAVcException) {
  Host host{Backing::k4K};
  const SnpTouch touch = host.touch_private(kBase);
  EXPECT_EQ(touch.kind, SnpTouchKind::kNotValidated);
  EXPECT_TRUE(host.mapped.empty());
  (void)host.pvalidate(kBase, 0);
  host.mapped.clear();  // the embedder dropped its tables
  EXPECT_EQ(host.touch_private(kBase + 17).kind, SnpTouchKind::kMapped);
  EXPECT_EQ(host.mapped, (std::set<std::uint64_t>{kBase}));
}

TEST(SnpMemoryTouch, AGuestThatSkippedThePageStateChangeStillWorksAndIsTold) {
  Host host{Backing::k2M};
  (void)host.pvalidate(kBase, 1);
  const SnpTouch shared = host.touch_shared(kBase + k4K);  // as OVMF's first GHCB
  EXPECT_EQ(shared.kind, SnpTouchKind::kMapped);
  EXPECT_TRUE(shared.converted);
  EXPECT_EQ(host.state(kBase + k4K), RmpState::kHypervisor);
  EXPECT_EQ(host.mapped.size(), 511U);
  EXPECT_FALSE(host.touch_shared(kBase + k4K).converted);
  EXPECT_EQ(host.check(), "");
  const SnpPvalidate back = host.pvalidate(kBase + k4K, 0);
  EXPECT_TRUE(back.converted);
  EXPECT_EQ(back.bytes, 4_KiB);
  EXPECT_TRUE(host.shared.empty());
  EXPECT_EQ(host.check(), "");
}

TEST(SnpMemoryTouch, APageOfTheFirmwareIsRefused) {
  Host host{Backing::k4K};
  ASSERT_EQ(host.rmp.update(PhysAddr{kBase + kOffset},
                            RmpUpdate::pre_guest(PhysAddr{kBase}, PageSize::k4K, 1)),
            RmpUpdateCode::kSuccess);
  EXPECT_EQ(host.touch_private(kBase).verdict, RmpVerdict::kImmutable);
  EXPECT_EQ(host.pvalidate(kBase, 0).kind, SnpPvalidateKind::kRefused);
  EXPECT_EQ(host.touch_shared(kBase).kind, SnpTouchKind::kRefused);
  EXPECT_EQ(host.msr(kBase, PageOp::kShared), 0x8000000000000015U);
}

TEST(SnpMemoryAdopt, Regression_S01_LaunchMemoryIsValidFromTheStart) {
  Host host{Backing::k2M};
  ASSERT_EQ(host.memory.adopt(range(kBase + k4K, kBase + 3 * k2M)), Bytes{3 * k2M - k4K});
  EXPECT_EQ(host.state(kBase), RmpState::kHypervisor);
  EXPECT_EQ(host.state(kBase + k4K), RmpState::kGuestValid);
  EXPECT_FALSE(host.large(kBase + k4K));
  EXPECT_TRUE(host.large(kBase + k2M));
  EXPECT_EQ(host.touch_private(kBase + k2M).kind, SnpTouchKind::kMapped);
  EXPECT_EQ(host.memory.adopt(range(kBase, kBase + 2 * k4K)).error(), AdoptError::kNotFree);
  EXPECT_EQ(host.memory.adopt(range(kBase + 1, kBase + k4K)).error(), AdoptError::kUnaligned);
  EXPECT_EQ(host.memory.adopt(range(0, k4K)).error(), AdoptError::kNotRam);
  EXPECT_EQ(host.check(), "");
}

// --- page state changes ---

TEST(SnpMemoryMsr, AnswersAsKvmDoes) {
  Host host{Backing::k2M};
  (void)host.pvalidate(kBase, 1);
  EXPECT_EQ(host.msr(kBase + k4K, PageOp::kShared), 0x15U);
  EXPECT_EQ(host.memory.attribute(PhysAddr{kBase + k4K}), PageAttribute::kShared);
  EXPECT_EQ(host.mapped.size(), 511U);
  EXPECT_EQ(host.msr(kBase + k4K, PageOp::kPrivate), 0x15U);
  EXPECT_EQ(host.state(kBase + k4K), RmpState::kHypervisor) << "assigned at first use";
  EXPECT_EQ(host.msr(kBase, PageOp::kPsmash), 0x8000000000000015U);
  EXPECT_EQ(host.msr(0, PageOp::kShared), 0x15U) << "KVM does not check that it is RAM";
  EXPECT_EQ(host.check(), "");
}

TEST(SnpMemoryChange, ConvertsARangeThatBeginsAndEndsAnywhere) {
  Host host{Backing::k2M};
  for (std::uint64_t i = 0; i < 3; ++i) {
    (void)host.pvalidate(kBase + i * k2M, 1);
  }
  const GhcbPageStateAnswer answer =
      host.change(kBase + k2M - k4K, kBase + 2 * k2M + k4K, PageOp::kShared);
  EXPECT_FALSE(answer.refused);
  EXPECT_GE(answer.done, PageCount{514});
  EXPECT_EQ(host.mapped.size(), 3 * 512U - 514U);
  EXPECT_EQ(host.memory.attribute(PhysAddr{kBase + k2M - 2 * k4K}), PageAttribute::kPrivate);
  EXPECT_EQ(host.memory.attribute(PhysAddr{kBase + k2M - k4K}), PageAttribute::kShared);
  EXPECT_EQ(host.memory.attribute(PhysAddr{kBase + 2 * k2M}), PageAttribute::kShared);
  EXPECT_EQ(host.memory.attribute(PhysAddr{kBase + 2 * k2M + k4K}), PageAttribute::kPrivate);
  EXPECT_EQ(host.check(), "");
}

TEST(SnpMemoryChange, ToPrivateLeavesTheRmpToTheFirstUse) {
  Host host{Backing::k2M};
  EXPECT_FALSE(host.change(kBase, kBase + k2M, PageOp::kShared).refused);
  (void)host.touch_shared(kBase);
  EXPECT_FALSE(host.change(kBase, kBase + k2M, PageOp::kPrivate).refused);
  EXPECT_TRUE(host.shared.empty());
  EXPECT_EQ(host.state(kBase), RmpState::kHypervisor);
  EXPECT_EQ(host.pvalidate(kBase, 1).bytes, 2_MiB);
  EXPECT_EQ(host.check(), "");
}

TEST(SnpMemoryChange, SucceedsWithoutEffectWhereThereIsNoRam) {
  Host host{Backing::k2M};
  EXPECT_FALSE(host.change(0, k4K, PageOp::kShared).refused);
  EXPECT_TRUE(host.private_gone.empty());
}

TEST(SnpMemoryChange, IsRefusedWhereThePageIsTheFirmwares) {
  Host host{Backing::k4K};
  ASSERT_EQ(host.rmp.update(PhysAddr{kBase + kOffset},
                            RmpUpdate::pre_guest(PhysAddr{kBase}, PageSize::k4K, 1)),
            RmpUpdateCode::kSuccess);
  EXPECT_TRUE(host.change(kBase, kBase + k4K, PageOp::kShared).refused);
  EXPECT_EQ(host.memory.attribute(PhysAddr{kBase}), PageAttribute::kPrivate);
}

TEST(SnpMemoryList, Regression_K02_NeighboursAreConvertedAsOneRange) {
  Host host{Backing::k2M};
  for (std::uint64_t i = 0; i < 2; ++i) {
    (void)host.pvalidate(kBase + i * k2M, 1);
  }
  host.ask({entry(kBase, PageSize::k2M, PageOp::kShared),
            entry(kBase + k2M, PageSize::k4K, PageOp::kShared),
            entry(kBase + k2M + k4K, PageSize::k4K, PageOp::kShared),
            entry(kBase + k2M + 3 * k4K, PageSize::k4K, PageOp::kShared)});
  EXPECT_EQ(host.list(), PscResult::kOk);
  EXPECT_EQ(host.current(), 4U);
  EXPECT_EQ(PscEntry::CurPage::get(host.words[1]), 512U);
  EXPECT_EQ(PscEntry::CurPage::get(host.words[3]), 1U);
  const std::vector<PhysRange> gone{range(kBase, kBase + k2M),
                                    range(kBase + k2M, kBase + k2M + 2 * k4K),
                                    range(kBase + k2M + 3 * k4K, kBase + k2M + 4 * k4K)};
  EXPECT_EQ(host.private_gone, gone);
  EXPECT_EQ(host.state(kBase + k2M + 2 * k4K), RmpState::kGuestValid);
  EXPECT_EQ(host.check(), "");
}

TEST(SnpMemoryList, TheWordsAfterwardsAreThoseOfKvm) {
  Host host{Backing::k4K, 8 * k2M};
  host.ask({0x0110000012200000, 0x0020000012345000});
  EXPECT_EQ(host.list(), PscResult::kOk);
  EXPECT_EQ(host.words[0], 0x0000000000010002U);
  EXPECT_EQ(host.words[1], 0x0110000012200200U);
  EXPECT_EQ(host.words[2], 0x0020000012345001U);
}

TEST(SnpMemoryList, ABadHeaderTouchesNothing) {
  Host host{Backing::k4K};
  host.words[0] = PscHeader::make(0, 253);
  EXPECT_EQ(host.list(), PscResult::kBadHeader);
  host.words[0] = PscHeader::make(0xFFFF, 0xFFFF);
  EXPECT_EQ(host.list(), PscResult::kBadHeader);
  host.words[0] = PscHeader::make(5, 4);
  EXPECT_EQ(host.list(), PscResult::kOk) << "nothing is left to do";
}

TEST(SnpMemoryList, ABadEntryStopsThereAndSaysHowFarItCame) {
  for (const std::uint64_t bad :
       {entry(kBase + k2M, PageSize::k4K, PageOp::kShared, 2),
        entry(kBase + k2M, PageSize::k2M, PageOp::kShared, 513),
        entry(kBase + k2M + k4K, PageSize::k4K, PageOp::kShared) | std::uint64_t{1} << 56}) {
    Host host{Backing::k4K};
    host.ask({entry(kBase, PageSize::k4K, PageOp::kShared), bad});
    EXPECT_EQ(host.list(), PscResult::kBadEntry);
    EXPECT_EQ(host.current(), 1U);
    EXPECT_EQ(host.memory.attribute(PhysAddr{kBase}), PageAttribute::kShared);
    EXPECT_EQ(host.memory.attribute(PhysAddr{kBase + k2M}), PageAttribute::kPrivate);
  }
}

TEST(SnpMemoryList, DoneEntriesAreSkippedAndPartlyDoneOnesFinished) {
  Host host{Backing::k4K};
  host.ask({entry(kBase, PageSize::k4K, PageOp::kShared, 1),
            entry(kBase + k2M, PageSize::k2M, PageOp::kShared, 100),
            entry(kBase + 2 * k2M, PageSize::k4K, PageOp::kShared)});
  EXPECT_EQ(host.list(), PscResult::kOk);
  EXPECT_EQ(host.memory.attribute(PhysAddr{kBase}), PageAttribute::kPrivate);
  EXPECT_EQ(host.private_gone.front().begin(), PhysAddr{kBase + k2M + 100 * k4K});
  EXPECT_EQ(PscEntry::CurPage::get(host.words[2]), 512U);
  EXPECT_EQ(host.memory.attribute(PhysAddr{kBase + 2 * k2M}), PageAttribute::kShared);
}

TEST(SnpMemoryList, UnknownOperationsCountAsDone) {
  Host host{Backing::k4K};
  host.ask({entry(kBase, PageSize::k2M, PageOp::kPsmash),
            entry(kBase, PageSize::k4K, static_cast<PageOp>(15))});
  EXPECT_EQ(host.list(), PscResult::kOk);
  EXPECT_EQ(host.current(), 2U);
  EXPECT_TRUE(host.private_gone.empty());
}

TEST(SnpMemoryList, Regression_K03_ARefusedConversionLeavesThePageAndTellsWhere) {
  Host host{Backing::k4K};
  ASSERT_EQ(host.rmp.update(PhysAddr{kBase + k2M + kOffset},
                            RmpUpdate::pre_guest(PhysAddr{kBase + k2M}, PageSize::k4K, 1)),
            RmpUpdateCode::kSuccess);
  host.ask({entry(kBase, PageSize::k4K, PageOp::kShared),
            entry(kBase + k2M, PageSize::k4K, PageOp::kShared)});
  EXPECT_EQ(host.list(), PscResult::kGeneric);
  EXPECT_EQ(host.current(), 1U);
  EXPECT_EQ(PscEntry::CurPage::get(host.words[2]), 0U);
  EXPECT_EQ(host.memory.attribute(PhysAddr{kBase + k2M}), PageAttribute::kPrivate);
}

TEST(SnpMemoryList, AListOfAnythingIsAnswered) {
  std::mt19937_64 random{7};
  Host host{Backing::k2M};
  for (unsigned round = 0; round < 200; ++round) {
    for (std::uint64_t& word : host.words) {
      const std::uint64_t gpa = kBase - k2M + (random() % (10 * k2M / k4K)) * k4K;
      word = (random() % 8 == 0 ? random() : gpa | (random() % 32) << 52);
    }
    host.words[0] = random() % 4 == 0 ? random() : PscHeader::make(0, 252);
    (void)host.list();
    for (unsigned i = 0; i < 8; ++i) {
      (void)host.pvalidate(kBase + (random() % 8) * k2M, 1, random() % 2 == 0);
      (void)host.touch_shared(kBase + (random() % 4096) * k4K);
    }
    ASSERT_EQ(host.check(), "") << round;
  }
}

// --- concurrency ---

TEST(SnpMemoryConcurrency, ConversionsAndValidationsOfOneRegionKeepTheInvariant) {
  Host host{Backing::k2M};
  std::vector<std::jthread> threads;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const auto nothing = [](PhysRange) {};
      const auto mapped = [](PhysAddr, PhysAddr, PageSize) {};
      const SnpMemoryHooks hooks{
          .validated = mapped, .private_gone = nothing, .shared_gone = nothing};
      std::mt19937 random{t};
      for (unsigned i = 0; i < 2000; ++i) {
        const PhysAddr page{kBase + (random() % 1024) * k4K};
        if (random() % 2 == 0) {
          (void)host.memory.pvalidate(page, 0, random() % 2 == 0, hooks);
        } else {
          const auto op = random() % 2 == 0 ? PageOp::kShared : PageOp::kPrivate;
          (void)host.memory.msr_page_state(abi::ghcb::page_state_request(page, op), hooks);
        }
      }
    });
  }
  threads.clear();
  EXPECT_TRUE(host.memory.invariants());
}

}  // namespace
}  // namespace accede::host
