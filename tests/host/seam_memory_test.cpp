#include "accede/host/seam_module.hpp"

#include "tests/host/seam_fixture.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <vector>

namespace accede::host {
namespace {

using test::kGib;
using test::kMib;
using test::kPageBytes;
using test::SeamHost;
using test::word;

constexpr std::uint64_t kInvalidRcx = 0xC000010000000001;
constexpr std::uint64_t kMetadataRdx = 0xC000030000000002;
constexpr std::uint64_t kOpState = 0xC000060800000000;
constexpr std::uint64_t kWalkFailed = 0xC0000B0000000001;
constexpr std::uint64_t kStateIncorrect = 0xC0000B0D00000001;
constexpr std::uint64_t kInvalidR8 = 0xC000010000000008;
constexpr std::uint64_t kMetadataR8 = 0xC000030000000008;
constexpr std::uint64_t kRangeR8 = 0xC000010100000008;

constexpr std::uint64_t kControl = SeamHost::kTdmr;              // TDR and what belongs to it
constexpr std::uint64_t kTables = SeamHost::kTdmr + 2 * kMib;    // secure-EPT pages
constexpr std::uint64_t kMemory = SeamHost::kTdmr + 256 * kMib;  // private memory
constexpr std::uint64_t kHotAdded = 16 * kGib;                   // RAM, but in no CMR and no TDMR
constexpr std::uint64_t kGpa = 8 * kGib;
constexpr std::uint64_t k2M = 1;

/// A TD with tables for the GiB at kGpa: 4K entries in its first 2 MiB.
class SeamMemory : public testing::Test {
 protected:
  SeamMemory() {
    host_.bring_up();
    tdr_ = host_.build_td(kControl, SeamHost::kFirstKey);
    host_.add_tables(tdr_, kGpa, kTables);
  }

  void finalize() { ASSERT_EQ(word(module_.mr_finalize(tdr_)), 0U); }
  std::uint64_t add(std::uint64_t rcx, std::uint64_t page) {
    return word(module_.mem_page_add(rcx, tdr_, PhysAddr{page}));
  }
  std::uint64_t aug(std::uint64_t rcx, std::uint64_t page) {
    return word(module_.mem_page_aug(rcx, tdr_, PhysAddr{page}));
  }
  std::uint64_t table(std::uint64_t rcx, std::uint64_t page) {
    return word(module_.mem_sept_add(rcx, tdr_, PhysAddr{page}));
  }
  std::uint64_t block(std::uint64_t rcx) { return word(module_.mem_range_block(rcx, tdr_)); }
  std::uint64_t remove(std::uint64_t rcx) { return word(module_.mem_page_remove(rcx, tdr_)); }
  SeptState state(std::uint64_t gpa) {
    return module_.secure_ept(tdr_)->lookup(PhysAddr{gpa})->state;
  }

  SeamHost host_;
  SeamModule& module_ = host_.module;
  PhysAddr tdr_;
};

// --- SEPT.ADD ---

TEST_F(SeamMemory, ASeptTableIsAPageOfATdmrThatBelongsToTheTd) {
  EXPECT_EQ(host_.metadata(kTables), (SeamResult{.rcx = 8, .rdx = tdr_.value()}));
}

TEST_F(SeamMemory, ASeptTableFromNoTdmrReservedOwnedOrMisalignedIsRefused) {
  const std::uint64_t entry = (kGpa + 2 * kMib) | k2M;
  EXPECT_EQ(table(entry, kHotAdded), kRangeR8);
  EXPECT_EQ(table(entry, SeamHost::kReserved), kMetadataR8);
  EXPECT_EQ(table(entry, kTables), kMetadataR8);
  EXPECT_EQ(table(entry, kTables + 8), kInvalidR8);
  EXPECT_EQ(table(entry, kTables + 64 * kPageBytes), 0U);
}

TEST_F(SeamMemory, WhatTheSeptEntryAnswersComesBeforeThePage) {
  // In use already; then no table on the way; each with a page that is bad, too.
  const SeamCall used = module_.mem_sept_add(kGpa | k2M, tdr_, PhysAddr{kHotAdded});
  EXPECT_EQ(word(used), kStateIncorrect);
  EXPECT_EQ(used->rdx, 132U << 8 | 1);  // NL_MAPPED at level 1
  const SeamCall missing = module_.mem_sept_add((kGpa + kGib) | k2M, tdr_, PhysAddr{kHotAdded});
  EXPECT_EQ(word(missing), kWalkFailed);
  EXPECT_EQ(missing->rdx, 0U << 8 | 2);  // FREE at level 2
  EXPECT_EQ(missing->rcx, abi::tdx::SeptEntry::kFresh);
  EXPECT_EQ(table(kGpa | k2M, kTables + 64 * kPageBytes), kStateIncorrect);
  EXPECT_EQ(host_.type(kTables + 64 * kPageBytes), PamtType::kFree);
}

TEST_F(SeamMemory, ATableOf4KEntriesIsTheSmallestAndTheRootTheLargest) {
  EXPECT_EQ(table(kGpa, kMemory), kInvalidRcx);
  EXPECT_EQ(table(4, kMemory), kInvalidRcx);
  EXPECT_EQ(table((1ULL << 39) | 3, kMemory), 0U);
}

// --- PAGE.ADD, AUG ---

TEST_F(SeamMemory, AnAddedPageIsMappedAndBelongsToTheTd) {
  EXPECT_EQ(add(kGpa, kMemory), 0U);
  EXPECT_EQ(state(kGpa), SeptState::kMapped);
  EXPECT_EQ(host_.metadata(kMemory), (SeamResult{.rcx = 3, .rdx = tdr_.value()}));
}

TEST_F(SeamMemory, PagesAreAddedBeforeFinalizeAndAugmentedAfterIt) {
  EXPECT_EQ(aug(kGpa, kMemory), kOpState);
  EXPECT_EQ(add(kGpa, kMemory), 0U);
  finalize();
  EXPECT_EQ(add(kGpa + kPageBytes, kMemory + kPageBytes), kOpState);
  EXPECT_EQ(aug(kGpa + kPageBytes, kMemory + kPageBytes), 0U);
  EXPECT_EQ(state(kGpa + kPageBytes), SeptState::kPending);
}

TEST_F(SeamMemory, AnAugmentedPageMustBeFreeMemoryOfATdmr) {
  finalize();
  EXPECT_EQ(aug(kGpa, kHotAdded), kRangeR8);
  EXPECT_EQ(aug(kGpa, SeamHost::kTdmrEnd), kRangeR8);
  EXPECT_EQ(aug(kGpa, 0), kMetadataR8);  // the reserved first MiB
  EXPECT_EQ(aug(kGpa, SeamHost::kReserved), kMetadataR8);
  EXPECT_EQ(aug(kGpa, kControl), 0x8000020000000008U);  // the TDR, which the call itself holds
  EXPECT_EQ(aug(kGpa, kControl + kPageBytes), kMetadataR8);
  EXPECT_EQ(aug(kGpa, kTables), kMetadataR8);
  EXPECT_EQ(aug(kGpa, kMemory + 1), kInvalidR8);
  EXPECT_EQ(aug(kGpa, kMemory | 1ULL << 46), kInvalidR8);
  EXPECT_EQ(state(kGpa), SeptState::kFree);
  EXPECT_EQ(aug(kGpa, SeamHost::kTdmrEnd - kPageBytes), 0U);
}

TEST_F(SeamMemory, TheSameHostPageCannotBeAtTwoAddresses) {
  finalize();
  EXPECT_EQ(aug(kGpa, kMemory), 0U);
  EXPECT_EQ(aug(kGpa + kPageBytes, kMemory), kMetadataR8);
}

TEST_F(SeamMemory, ALargePageTakesAllItsMemory) {
  finalize();
  const std::uint64_t gpa = kGpa + 2 * kMib;
  EXPECT_EQ(aug(gpa | k2M, kMemory), 0U);
  EXPECT_EQ(host_.metadata(kMemory + 5 * kPageBytes),
            (SeamResult{.rcx = 3, .rdx = tdr_.value(), .r8 = 1}));
  EXPECT_EQ(aug(kGpa, kMemory + 5 * kPageBytes), kMetadataR8);
}

TEST_F(SeamMemory, ALargePageMustBeFreeInAllItsParts) {
  finalize();
  const std::uint64_t entry = (kGpa + 2 * kMib) | k2M;
  EXPECT_EQ(aug(kGpa, kMemory + 511 * kPageBytes), 0U);
  EXPECT_EQ(aug(entry, kMemory), kMetadataR8);
  EXPECT_EQ(aug(entry, SeamHost::kReserved), kMetadataR8);
  EXPECT_EQ(aug(entry, kMemory + kPageBytes), kInvalidR8);
  EXPECT_EQ(aug(entry, kHotAdded), kRangeR8);
  EXPECT_EQ(aug(entry, kMemory + 2 * kMib), 0U);
}

TEST_F(SeamMemory, ABadAddressIsRefusedBeforeAnythingElse) {
  finalize();
  for (const std::uint64_t rcx :
       std::vector<std::uint64_t>{kGpa | 2, kGpa | 8, (kGpa + kPageBytes) | k2M, kGpa | 1ULL << 52,
                                  kGpa | 1ULL << 47, kGpa | 7}) {
    EXPECT_EQ(aug(rcx, kHotAdded), kInvalidRcx) << rcx;
  }
  EXPECT_EQ(aug(kGpa + kGib, kHotAdded), kWalkFailed);
}

TEST_F(SeamMemory, TheSecondAugOfAnAddressBlamesTheEntryAndShowsIt) {
  finalize();
  (void)aug(kGpa, kMemory);
  const SeamCall call = module_.mem_page_aug(kGpa, tdr_, PhysAddr{kHotAdded});
  EXPECT_EQ(word(call), kStateIncorrect);
  EXPECT_EQ(call->rcx & abi::tdx::SeptEntry::Hpa::kMask, kMemory);
  EXPECT_EQ(call->rdx, 2U << 8);  // PENDING at level 0
}

TEST_F(SeamMemory, APageThatIsNoTdrIsNoTd) {
  EXPECT_EQ(word(module_.mem_page_aug(kGpa, tdr_ + 4_KiB, PhysAddr{kMemory})), kMetadataRdx);
  EXPECT_EQ(word(module_.mem_track(PhysAddr{kHotAdded})), 0xC000010100000001U);
}

TEST_F(SeamMemory, AModelWithoutSeptStorageSaysSoAndLeavesThePageFree) {
  finalize();
  // 256 KiB describe 64 tables.
  std::optional<SeamError> error;
  std::uint64_t gpa = kGpa + kGib;
  std::uint64_t page = kMemory;
  for (; !error.has_value() && gpa < kGpa + 100 * kGib; gpa += kGib, page += kPageBytes) {
    const SeamCall call = module_.mem_sept_add(gpa | 2, tdr_, PhysAddr{page});
    error = call.has_value() ? std::nullopt : std::optional{call.error()};
  }
  EXPECT_EQ(error, SeamError::kNoSeptStorage);
  EXPECT_EQ(host_.type(page - kPageBytes), PamtType::kFree);
  EXPECT_EQ(host_.type(page - 2 * kPageBytes), PamtType::kSept);
}

// --- BLOCK, TRACK, REMOVE ---

TEST_F(SeamMemory, APageIsRemovedAfterBlockAndTrackAndIsFreeAgain) {
  finalize();
  (void)aug(kGpa, kMemory);
  EXPECT_EQ(remove(kGpa), 0xC0000B0600000001U);
  EXPECT_EQ(block(kGpa), 0U);
  EXPECT_EQ(block(kGpa), 0x00000B0700000001U);
  EXPECT_EQ(remove(kGpa), 0xC0000B0800000001U);
  EXPECT_EQ(word(module_.mem_track(tdr_)), 0U);
  const SeamCall removed = module_.mem_page_remove(kGpa, tdr_);
  EXPECT_EQ(*removed, (SeamResult{.rcx = kMemory}));
  EXPECT_EQ(host_.type(kMemory), PamtType::kFree);
  EXPECT_EQ(word(module_.phymem_page_wbinvd(PhysAddr{kMemory})), 0U);
  EXPECT_EQ(aug(kGpa + kPageBytes, kMemory), 0U);
}

TEST_F(SeamMemory, ALargePageComesBackAsAWhole) {
  finalize();
  const std::uint64_t entry = (kGpa + 2 * kMib) | k2M;
  (void)aug(entry, kMemory);
  (void)block(entry);
  (void)module_.mem_track(tdr_);
  EXPECT_EQ(remove(entry), 0U);
  EXPECT_EQ(host_.metadata(kMemory), SeamResult{});
  EXPECT_EQ(aug(kGpa, kMemory + 7 * kPageBytes), 0U);
}

TEST_F(SeamMemory, WhatIsNotThereOrOfAnotherSizeCannotBeRemoved) {
  finalize();
  EXPECT_EQ(remove(kGpa), kStateIncorrect);
  EXPECT_EQ(remove((kGpa + kGib) | k2M), kWalkFailed);
  EXPECT_EQ(remove(kGpa | k2M), kStateIncorrect);
  EXPECT_EQ(remove(kGpa | 3), kInvalidRcx);
  (void)aug((kGpa + 2 * kMib) | k2M, kMemory);
  EXPECT_EQ(remove(kGpa + 2 * kMib), kWalkFailed);
}

TEST_F(SeamMemory, BeforeFinalizeAPageIsRemovedAtOnce) {
  (void)add(kGpa, kMemory);
  EXPECT_EQ(remove(kGpa), 0U);
  EXPECT_EQ(add(kGpa, kMemory), 0U);
}

TEST_F(SeamMemory, ABlockedPageCanBeUnblockedAfterTrack) {
  finalize();
  (void)aug(kGpa, kMemory);
  (void)block(kGpa);
  EXPECT_EQ(word(module_.mem_range_unblock(kGpa, tdr_)), 0xC0000B0800000001U);
  (void)module_.mem_track(tdr_);
  EXPECT_EQ(word(module_.mem_range_unblock(kGpa, tdr_)), 0U);
  EXPECT_EQ(state(kGpa), SeptState::kPending);
}

TEST_F(SeamMemory, TrackWaitsForVcpusOfThePreviousEpoch) {
  finalize();
  SecureEpt& sept = *module_.secure_ept(tdr_);
  const VcpuEpoch inside = sept.vcpu_entered();
  EXPECT_EQ(word(module_.mem_track(tdr_)), 0U);
  EXPECT_EQ(word(module_.mem_track(tdr_)), 0x80000201000000A9U);
  sept.vcpu_left(inside);
  EXPECT_EQ(word(module_.mem_track(tdr_)), 0U);
}

TEST_F(SeamMemory, ATdThatEndsGivesItsPrivatePagesBackInTheirSize) {
  finalize();
  (void)aug(kGpa, kMemory);
  (void)aug((kGpa + 2 * kMib) | k2M, kMemory + 2 * kMib);
  ASSERT_EQ(word(module_.vp_flush(ProcessorId{0}, SeamHost::vcpu_of(tdr_))), 0U);
  ASSERT_EQ(word(module_.mng_vpflushdone(tdr_)), 0U);
  for (const ProcessorId processor : SeamHost::packages()) {
    (void)module_.phymem_cache_wb(processor);
  }
  ASSERT_EQ(word(module_.mng_key_freeid(tdr_)), 0U);
  const auto reclaim = [&](std::uint64_t page) {
    return word(module_.phymem_page_reclaim(PhysAddr{page}));
  };
  EXPECT_EQ(reclaim(kMemory), 0U);
  EXPECT_EQ(reclaim(kMemory + 2 * kMib + kPageBytes), kInvalidRcx);
  EXPECT_EQ(reclaim(kMemory + 2 * kMib), 0U);
  for (std::uint64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(reclaim(kTables + i * kPageBytes), 0U);
  }
  for (PhysAddr page = tdr_ + 4_KiB; page < SeamHost::after(tdr_); page += 4_KiB) {
    EXPECT_EQ(reclaim(page.value()), 0U);
  }
  EXPECT_EQ(reclaim(tdr_.value()), 0U);
}

// --- The host's memory grows ---

/// A VMM on a host whose page allocator got RAM that is no TDX memory: it takes what it is given,
/// as KVM does.
class Vmm {
 public:
  Vmm(SeamHost& host, KeyId key) : host_{host}, key_{key} {}

  /// Builds a TD from pages of the allocator; the first status that is not 0.
  std::uint64_t start(std::vector<std::uint64_t>& free_pages) {
    tdr_ = take(free_pages);
    std::uint64_t refused = word(host_.module.mng_create(tdr_, key_));
    for (const ProcessorId processor : SeamHost::packages()) {
      refused = refused != 0 ? refused : word(host_.module.mng_key_config(processor, tdr_));
    }
    for (unsigned i = 0; i < kLeastTdcsPages && refused == 0; ++i) {
      refused = word(host_.module.mng_addcx(take(free_pages), tdr_));
    }
    if (refused == 0) {
      refused = word(host_.module.mng_init(tdr_, {}, storage_.span()));
    }
    vcpu_ = take(free_pages);
    refused = refused != 0 ? refused : word(host_.module.vp_create(vcpu_, tdr_));
    for (unsigned i = 1; i < kLeastTdvpsPages && refused == 0; ++i) {
      refused = word(host_.module.vp_addcx(take(free_pages), vcpu_));
    }
    refused = refused != 0 ? refused : word(host_.module.vp_init(ProcessorId{0}, vcpu_));
    for (std::uint64_t level = 3; level > 0 && refused == 0; --level) {
      const std::uint64_t base = kGpa & ~((1ULL << (12 + 9 * level)) - 1);
      refused = word(host_.module.mem_sept_add(base | level, tdr_, take(free_pages)));
    }
    return refused != 0 ? refused : word(host_.module.mr_finalize(tdr_));
  }

  /// The guest touches a page. The VMM resolves the fault, or ends the TD with the module's word.
  std::uint64_t touch(std::uint64_t gpa, std::vector<std::uint64_t>& free_pages) {
    SecureEpt& sept = *host_.module.secure_ept(tdr_);
    const auto accept = [&] { return sept.accept(gpa, [](PhysAddr) {}, [] { return false; }); };
    if (accept().kind != GuestCallKind::kExit) {
      return 0;
    }
    const std::uint64_t refused = word(host_.module.mem_page_aug(gpa, tdr_, take(free_pages)));
    if (refused != 0) {
      end();
      return refused;
    }
    EXPECT_EQ(accept().kind, GuestCallKind::kCompleted);
    return 0;
  }

  void end() {
    EXPECT_EQ(word(host_.module.vp_flush(ProcessorId{0}, vcpu_)), 0U);
    EXPECT_EQ(word(host_.module.mng_vpflushdone(tdr_)), 0U);
    alive_ = false;
  }
  [[nodiscard]] bool alive() const { return alive_; }
  [[nodiscard]] Access access(std::uint64_t gpa) {
    return host_.module.secure_ept(tdr_)->access(PhysAddr{gpa});
  }

 private:
  static PhysAddr take(std::vector<std::uint64_t>& free_pages) {
    const PhysAddr page{free_pages.front()};
    free_pages.erase(free_pages.begin());
    return page;
  }

  SeamHost& host_;
  KeyId key_;
  test::AlignedBytes storage_{256_KiB};
  PhysAddr tdr_;
  PhysAddr vcpu_;
  bool alive_ = true;
};

TEST(SeamHotAdd, RamOutsideTheTdmrsKillsALiveTdAndKeepsTheNextFromStarting) {
  SeamHost host;
  host.bring_up();
  // The allocator has 24 pages of TDX memory left; then RAM is hot-added and goes behind them.
  std::vector<std::uint64_t> free_pages;
  for (std::uint64_t i = 0; i < 24; ++i) {
    free_pages.push_back(kMemory + i * kPageBytes);
  }
  for (std::uint64_t i = 0; i < 64; ++i) {
    free_pages.push_back(kHotAdded + i * kPageBytes);
  }

  // The first TD works: 16 pages to build it, the rest for its guest.
  Vmm first{host, SeamHost::kFirstKey};
  ASSERT_EQ(first.start(free_pages), 0U);
  std::uint64_t gpa = kGpa;
  while (free_pages.front() < kHotAdded) {
    ASSERT_EQ(first.touch(gpa, free_pages), 0U);
    EXPECT_EQ(first.access(gpa).kind, AccessKind::kMapped);
    gpa += kPageBytes;
  }
  EXPECT_EQ(gpa, kGpa + 8 * kPageBytes);

  // The second cannot even have a TDR.
  Vmm second{host, KeyId{34}};
  EXPECT_EQ(second.start(free_pages), 0xC000010100000001U);

  // The first touches one page more: its VMM cannot resolve the fault.
  EXPECT_TRUE(first.alive());
  EXPECT_EQ(first.touch(gpa, free_pages), kRangeR8);
  EXPECT_FALSE(first.alive());
  EXPECT_EQ(first.access(gpa).kind, AccessKind::kViolationExit);
  EXPECT_TRUE(host.module.invariants());
}

TEST(SeamHotAdd, AModuleThatIsConfiguredCannotLearnOfNewMemory) {
  SeamHost host;
  host.bring_up();
  EXPECT_EQ(word(host.module.sys_config(host.tdmrs(), SeamHost::kGlobalKey)), 0xC000050C00000000U);
  EXPECT_EQ(word(host.module.sys_tdmr_init(PhysAddr{kHotAdded})), kInvalidRcx);
}

}  // namespace
}  // namespace accede::host
