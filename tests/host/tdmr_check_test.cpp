#include "accede/host/tdmr_check.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <vector>

namespace accede::host {
namespace {

using abi::tdx::CmrInfo;
using abi::tdx::PamtArea;
using abi::tdx::ReservedArea;
using abi::tdx::TdmrInfo;

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kMiB = 1ULL << 20;
constexpr std::uint64_t kGiB = 1ULL << 30;

constexpr std::uint64_t kInvalidTdmr = 0xC0000A0000000000;
constexpr std::uint64_t kNonOrderedTdmr = 0xC0000A0100000000;
constexpr std::uint64_t kTdmrOutsideCmrs = 0xC0000A0200000000;
constexpr std::uint64_t kInvalidPamt = 0xC0000A1000000000;
constexpr std::uint64_t kPamtOutsideCmrs = 0xC0000A1100000000;
constexpr std::uint64_t kPamtOverlap = 0xC0000A1200000000;
constexpr std::uint64_t kInvalidReserved = 0xC0000A2000000000;
constexpr std::uint64_t kNonOrderedReserved = 0xC0000A2100000000;
constexpr std::uint64_t kCmrListInvalid = 0xC0000A2200000000;

// Bytes 1 and 2 of the word.
constexpr std::uint64_t kOf4K = 0x000;
constexpr std::uint64_t kOf2M = 0x100;
constexpr std::uint64_t kOf1G = 0x200;
constexpr std::uint64_t kWithOne = 0x1'0000;

/// A host whose memory ends at 64 GiB, with the holes below 1 MiB and below 4 GiB, and a list that
/// the module takes: three TDMRs whose PAMTs lie in the first, in a reserved area of each kind of
/// neighbourhood, and in convertible memory that no TDMR covers.
class TdmrCheck : public testing::Test {
 protected:
  TdmrCheck() {
    // [0, 2 GiB) without the first MiB. Its own PAMTs are in its second reserved area.
    tdmrs_[0].base = 0;
    tdmrs_[0].size = 2 * kGiB;
    place_pamts(0, kGiB);
    tdmrs_[0].reserved[0] = {.offset = 0, .size = kMiB};
    tdmrs_[0].reserved[1] = {.offset = kGiB, .size = 16 * kMiB};
    // [4, 8 GiB): PAMTs beyond every TDMR.
    tdmrs_[1].base = 4 * kGiB;
    tdmrs_[1].size = 4 * kGiB;
    place_pamts(1, 40 * kGiB);
    // [8, 9 GiB): PAMTs in the reserved area of the first.
    tdmrs_[2].base = 8 * kGiB;
    tdmrs_[2].size = kGiB;
    place_pamts(2, kGiB + 10 * kMiB);
  }

  void place_pamts(std::size_t i, std::uint64_t at) {
    TdmrInfo& tdmr = tdmrs_[i];
    const auto place = [&](PamtArea& area, PageSize page) {
      area = {.base = at, .size = least_pamt_size(Bytes{tdmr.size}, page, false).value()};
      at += area.size;
    };
    place(tdmr.pamt_1g, PageSize::k1G);
    place(tdmr.pamt_2m, PageSize::k2M);
    place(tdmr.pamt_4k, PageSize::k4K);
  }

  [[nodiscard]] TdmrMachine machine() const {
    return {.cmrs = cmrs_,
            .physical_bits = physical_bits_,
            .key_bits = key_bits_,
            .dynamic_pamt = dynamic_pamt_};
  }
  [[nodiscard]] std::uint64_t check() const { return check_tdmrs(machine(), tdmrs_); }
  [[nodiscard]] std::uint64_t check_cmr_list() const { return check_cmrs(machine()); }

  static PamtArea& pamt(TdmrInfo& tdmr, PageSize page) {
    return page == PageSize::k1G   ? tdmr.pamt_1g
           : page == PageSize::k2M ? tdmr.pamt_2m
                                   : tdmr.pamt_4k;
  }

  /// The word after `change`, with everything as it was afterwards.
  std::uint64_t with(const std::function<void()>& change) {
    const auto cmrs = cmrs_;
    const auto tdmrs = tdmrs_;
    change();
    const std::uint64_t word = check();
    cmrs_ = cmrs;
    tdmrs_ = tdmrs;
    return word;
  }

  std::vector<CmrInfo> cmrs_{{kMiB, 2 * kGiB - kMiB}, {4 * kGiB, 60 * kGiB}};
  unsigned physical_bits_ = 52;
  unsigned key_bits_ = 6;
  bool dynamic_pamt_ = false;
  std::vector<TdmrInfo> tdmrs_{3};
};

TEST_F(TdmrCheck, AListWithPamtsInReservedAreasAndOutsideEveryTdmrIsTaken) {
  EXPECT_EQ(check(), 0U);
}

// --- CMRs ---

TEST_F(TdmrCheck, SoundCmrsAreTakenAndSoAreNone) {
  EXPECT_EQ(check_cmr_list(), 0U);
  cmrs_.clear();
  EXPECT_EQ(check_cmr_list(), 0U);
}

TEST_F(TdmrCheck, CmrsThatTouchAreSoundAndOnesThatOverlapByAPageAreNot) {
  cmrs_ = {{kMiB, kMiB}, {2 * kMiB, kMiB}};
  EXPECT_EQ(check_cmr_list(), 0U);
  cmrs_ = {{kMiB, kMiB + kPage}, {2 * kMiB, kMiB}};
  EXPECT_EQ(check_cmr_list(), kCmrListInvalid);
}

TEST_F(TdmrCheck, CmrsThatDescendAreInvalid) {
  std::swap(cmrs_[0], cmrs_[1]);
  EXPECT_EQ(check_cmr_list(), kCmrListInvalid);
}

TEST_F(TdmrCheck, CmrsThatAreEmptyMisalignedOrWrapAreInvalid) {
  for (const CmrInfo bad : std::vector<CmrInfo>{{kMiB, 0},
                                                {kMiB + 1, kPage},
                                                {kMiB, kPage + 2048},
                                                {~std::uint64_t{kPage - 1}, 2 * kPage},
                                                {~std::uint64_t{kPage - 1}, kPage}}) {
    cmrs_ = {bad};
    EXPECT_EQ(check_cmr_list(), kCmrListInvalid) << bad.base << " " << bad.size;
  }
}

TEST_F(TdmrCheck, CmrsEndAtTheFirstBitOfTheKeyId) {
  cmrs_ = {{(1ULL << 46) - kPage, kPage}};
  EXPECT_EQ(check_cmr_list(), 0U);
  cmrs_ = {{(1ULL << 46) - kPage, 2 * kPage}};
  EXPECT_EQ(check_cmr_list(), kCmrListInvalid);
}

TEST_F(TdmrCheck, ThirtyTwoCmrsAreSoundAndOneMoreIsNot) {
  cmrs_.clear();
  for (std::uint64_t i = 0; i < 32; ++i) {
    cmrs_.push_back({i * kGiB, kMiB});
  }
  EXPECT_EQ(check_cmr_list(), 0U);
  cmrs_.push_back({32 * kGiB, kMiB});
  EXPECT_EQ(check_cmr_list(), kCmrListInvalid);
}

// --- The list as a whole ---

TEST_F(TdmrCheck, AListOfNoneOrOfSixtyFiveIsRefusedByItsCount) {
  tdmrs_.resize(65);
  EXPECT_EQ(check(), 0xC000010000000002U);
  tdmrs_.clear();
  EXPECT_EQ(check(), 0xC000010000000002U);
}

TEST_F(TdmrCheck, SixtyFourTdmrsAreTakenAndALateOneIsNamedByItsIndex) {
  cmrs_ = {{4 * kGiB, 200 * kGiB}};
  tdmrs_.assign(64, {});
  for (std::uint64_t i = 0; i < 64; ++i) {
    tdmrs_[i].base = (4 + 2 * i) * kGiB;
    tdmrs_[i].size = kGiB;
    place_pamts(i, 150 * kGiB + i * 8 * kMiB);
  }
  EXPECT_EQ(check(), 0U);
  EXPECT_EQ(with([&] { tdmrs_[63].size = kGiB + kPage; }), kInvalidTdmr | 63);
  EXPECT_EQ(with([&] { tdmrs_[63].pamt_2m = tdmrs_[62].pamt_2m; }),
            kPamtOverlap | 62 << 16 | kOf2M | 63);
}

TEST_F(TdmrCheck, DynamicPamtNeedsAKeyIdThatBeginsAtBit48OrBelow) {
  dynamic_pamt_ = true;
  physical_bits_ = 52;
  key_bits_ = 4;
  EXPECT_EQ(check(), 0U);
  key_bits_ = 3;
  EXPECT_EQ(check(), 0xC000010000000008U);
  dynamic_pamt_ = false;
  EXPECT_EQ(check(), 0U);
}

// --- Place and order ---

TEST_F(TdmrCheck, TdmrsThatDescendOrOverlapAreNotOrdered) {
  EXPECT_EQ(with([&] { tdmrs_[2].base = 3 * kGiB; }), kNonOrderedTdmr | 2);
  EXPECT_EQ(with([&] { tdmrs_[2].base = 7 * kGiB; }), kNonOrderedTdmr | 2);
  EXPECT_EQ(with([&] { tdmrs_[2].base = tdmrs_[1].base; }), kNonOrderedTdmr | 2);
  // A misaligned overlap is an overlap first.
  EXPECT_EQ(with([&] { tdmrs_[2].base = 8 * kGiB - kPage; }), kNonOrderedTdmr | 2);
}

TEST_F(TdmrCheck, BaseAndSizeMustBeMultiplesOf1G) {
  EXPECT_EQ(with([&] { tdmrs_[2].base = 8 * kGiB + 2 * kMiB; }), kInvalidTdmr | 2);
  EXPECT_EQ(with([&] { tdmrs_[1].size = 4 * kGiB - 2 * kMiB; }), kInvalidTdmr | 1);
  EXPECT_EQ(with([&] { tdmrs_[0].size = 0; }), kInvalidTdmr | 0);
}

TEST_F(TdmrCheck, ATdmrEndsAtTheFirstBitOfTheKeyId) {
  physical_bits_ = 40;
  key_bits_ = 4;
  cmrs_[1].size = 60 * kGiB;  // ends at 2^36
  const auto end_at_top = [&](std::uint64_t size) {
    tdmrs_[2].base = 63 * kGiB;
    tdmrs_[2].size = size;
    place_pamts(2, 44 * kGiB);
  };
  EXPECT_EQ(with([&] { end_at_top(kGiB); }), 0U);
  EXPECT_EQ(with([&] { end_at_top(2 * kGiB); }), kInvalidTdmr | 2);
  EXPECT_EQ(with([&] { tdmrs_[2].base = 64 * kGiB; }), kInvalidTdmr | 2);
  EXPECT_EQ(with([&] { tdmrs_[2].base = 1ULL << 40; }), kInvalidTdmr | 2);
}

TEST_F(TdmrCheck, ATdmrThatWrapsIsInvalidEvenWhereItAlsoDescends) {
  EXPECT_EQ(with([&] { tdmrs_[2].size = ~std::uint64_t{0}; }), kInvalidTdmr | 2);
  EXPECT_EQ(with([&] {
              tdmrs_[2].base = kGiB;
              tdmrs_[2].size = ~std::uint64_t{kGiB - 1};
            }),
            kInvalidTdmr | 2);
}

// --- Reserved areas ---

TEST_F(TdmrCheck, AReservedAreaAfterTheEndOfTheListBlamesTheEmptyEntry) {
  EXPECT_EQ(with([&] { tdmrs_[1].reserved[1] = {0, kPage}; }), kNonOrderedReserved | 0x001);
  EXPECT_EQ(with([&] { tdmrs_[1].reserved[15] = {0, kPage}; }), kNonOrderedReserved | 0xE01);
}

TEST_F(TdmrCheck, TheOffsetOfAnEmptyAreaDoesNotMatter) {
  EXPECT_EQ(with([&] { tdmrs_[1].reserved[0] = {~std::uint64_t{0}, 0}; }), 0U);
}

TEST_F(TdmrCheck, SixteenReservedAreasThatTouchAreTaken) {
  for (std::uint64_t j = 0; j < 16; ++j) {
    tdmrs_[1].reserved[j] = {j * kPage, kPage};
  }
  EXPECT_EQ(check(), 0U);
}

TEST_F(TdmrCheck, ReservedAreasThatDescendOrOverlapAreNotOrdered) {
  const auto areas = [&](ReservedArea first, ReservedArea second) {
    return with([&, first, second] {
      tdmrs_[1].reserved[0] = first;
      tdmrs_[1].reserved[1] = second;
    });
  };
  EXPECT_EQ(areas({kPage, kPage}, {2 * kPage, kPage}), 0U);
  EXPECT_EQ(areas({kPage, kPage}, {0, kPage}), kNonOrderedReserved | 0x101);
  EXPECT_EQ(areas({0, 2 * kPage}, {kPage, kPage}), kNonOrderedReserved | 0x101);
  // Order comes before alignment.
  EXPECT_EQ(areas({0, 2 * kPage}, {kPage + 1, kPage}), kNonOrderedReserved | 0x101);
}

TEST_F(TdmrCheck, ReservedAreasMustBeWholePagesInsideTheirTdmr) {
  const auto area = [&](std::uint64_t offset, std::uint64_t size) {
    return with([&, offset, size] { tdmrs_[1].reserved[0] = {offset, size}; });
  };
  EXPECT_EQ(area(4 * kGiB - kPage, kPage), 0U);
  EXPECT_EQ(area(4 * kGiB, kPage), kInvalidReserved | 0x001);
  EXPECT_EQ(area(4 * kGiB - kPage, 2 * kPage), kInvalidReserved | 0x001);
  EXPECT_EQ(area(2048, kPage), kInvalidReserved | 0x001);
  EXPECT_EQ(area(kPage, 2048), kInvalidReserved | 0x001);
  EXPECT_EQ(area(kPage, ~std::uint64_t{0}), kInvalidReserved | 0x001);
  EXPECT_EQ(area(~std::uint64_t{kPage - 1}, kPage), kInvalidReserved | 0x001);
  // base + offset + size wraps although offset + size does not.
  EXPECT_EQ(area(~std::uint64_t{2 * kPage - 1}, kPage), kInvalidReserved | 0x001);
}

// --- PAMT ---

TEST_F(TdmrCheck, EachPamtMustBeAlignedBelowTheKeyIdAndLargeEnough) {
  const std::vector<std::pair<PageSize, std::uint64_t>> pages{
      {PageSize::k1G, kOf1G}, {PageSize::k2M, kOf2M}, {PageSize::k4K, kOf4K}};
  for (const auto& item : pages) {
    const PageSize page = item.first;
    const auto changed = [&, page](std::uint64_t base, std::uint64_t size) {
      return with([&, page, base, size] { pamt(tdmrs_[1], page) = {base, size}; });
    };
    const PamtArea good = pamt(tdmrs_[1], page);
    const std::uint64_t refused = kInvalidPamt | item.second | 1;
    EXPECT_EQ(changed(good.base + 2048, good.size), refused);
    EXPECT_EQ(changed(good.base, good.size + 2048), refused);
    EXPECT_EQ(changed(good.base, good.size - kPage), refused);
    EXPECT_EQ(changed(good.base, 0), refused);
    EXPECT_EQ(changed(1ULL << 46, good.size), refused);
    EXPECT_EQ(changed((1ULL << 46) - kPage, good.size + kPage), refused);
    EXPECT_EQ(changed(good.base, ~std::uint64_t{kPage - 1}), refused);
  }
}

TEST_F(TdmrCheck, TheFirstInvalidPamtIsLookedForFromTheLargestPages) {
  EXPECT_EQ(with([&] { tdmrs_[1].pamt_1g.size = tdmrs_[1].pamt_2m.size = 0; }),
            kInvalidPamt | kOf1G | 1);
  EXPECT_EQ(with([&] { tdmrs_[1].pamt_4k.size = tdmrs_[1].pamt_2m.size = 0; }),
            kInvalidPamt | kOf2M | 1);
}

TEST_F(TdmrCheck, DynamicPamtNeedsOneBitInsteadOf16BytesFor4KPages) {
  EXPECT_EQ(least_pamt_size(Bytes{kGiB}, PageSize::k4K, false), 4_MiB);
  EXPECT_EQ(least_pamt_size(Bytes{kGiB}, PageSize::k4K, true), 32_KiB);
  for (const bool dynamic : {false, true}) {
    EXPECT_EQ(least_pamt_size(Bytes{kGiB}, PageSize::k2M, dynamic), 8_KiB);
    EXPECT_EQ(least_pamt_size(Bytes{kGiB}, PageSize::k1G, dynamic), 4_KiB);
    EXPECT_EQ(least_pamt_size(Bytes{256 * kGiB}, PageSize::k1G, dynamic), 4_KiB);
    EXPECT_EQ(least_pamt_size(Bytes{257 * kGiB}, PageSize::k1G, dynamic), 8_KiB);
  }
  tdmrs_[1].pamt_4k.size = 128 * 1024;
  EXPECT_EQ(check(), kInvalidPamt | kOf4K | 1);
  dynamic_pamt_ = true;
  EXPECT_EQ(check(), 0U);
  tdmrs_[1].pamt_4k.size -= kPage;
  EXPECT_EQ(check(), kInvalidPamt | kOf4K | 1);
}

TEST_F(TdmrCheck, PamtsOfOneTdmrMustNotOverlap) {
  const auto overlap = [&](PageSize moved, PageSize onto) {
    return with([&, moved, onto] {
      pamt(tdmrs_[1], moved).base = pamt(tdmrs_[1], onto).base + pamt(tdmrs_[1], onto).size - kPage;
    });
  };
  // The smaller page is blamed, and both TDMRs are the same.
  EXPECT_EQ(overlap(PageSize::k4K, PageSize::k2M), kPamtOverlap | kWithOne | kOf4K | 1);
  EXPECT_EQ(overlap(PageSize::k4K, PageSize::k1G), kPamtOverlap | kWithOne | kOf4K | 1);
  EXPECT_EQ(with([&] { tdmrs_[1].pamt_2m.base = tdmrs_[1].pamt_1g.base; }),
            kPamtOverlap | kWithOne | kOf2M | 1);
}

TEST_F(TdmrCheck, PamtsOfTwoTdmrsMustNotOverlapInAnyPairOfSizes) {
  const std::vector<std::pair<PageSize, std::uint64_t>> pages{
      {PageSize::k4K, kOf4K}, {PageSize::k2M, kOf2M}, {PageSize::k1G, kOf1G}};
  for (const auto& item : pages) {
    const PageSize own = item.first;
    for (const PageSize other : {PageSize::k4K, PageSize::k2M, PageSize::k1G}) {
      EXPECT_EQ(with([&, own, other] {
                  place_pamts(2, 50 * kGiB);
                  const PamtArea& target = pamt(tdmrs_[1], other);
                  pamt(tdmrs_[2], own).base = target.base + target.size - kPage;
                  // What lies behind is moved away, so that only one pair overlaps.
                  tdmrs_[1].pamt_4k.base += other == PageSize::k4K ? 0 : kGiB;
                  tdmrs_[1].pamt_2m.base += other == PageSize::k1G ? kGiB / 2 : 0;
                }),
                kPamtOverlap | kWithOne | item.second | 2);
    }
  }
}

TEST_F(TdmrCheck, APamtThatTouchesAnotherIsTaken) {
  EXPECT_EQ(with([&] { place_pamts(2, tdmrs_[1].pamt_4k.base + tdmrs_[1].pamt_4k.size); }), 0U);
}

TEST_F(TdmrCheck, APamtMustNotLieInUsableMemoryOfAnEarlierTdmr) {
  EXPECT_EQ(with([&] { tdmrs_[2].pamt_4k.base = 5 * kGiB; }), kPamtOverlap | kWithOne | kOf4K | 2);
  EXPECT_EQ(with([&] { tdmrs_[2].pamt_2m.base = 8 * kGiB - kPage; }),
            kPamtOverlap | kWithOne | kOf2M | 2);
}

TEST_F(TdmrCheck, APamtMustNotLieInUsableMemoryOfALaterTdmr) {
  // Found when the later one is checked, and blamed on the one whose PAMT it is.
  EXPECT_EQ(with([&] { tdmrs_[1].pamt_1g.base = 8 * kGiB; }), kPamtOverlap | 2 << 16 | kOf1G | 1);
}

TEST_F(TdmrCheck, APamtMustNotLieInUsableMemoryOfItsOwnTdmr) {
  EXPECT_EQ(with([&] { tdmrs_[1].pamt_4k.base = 4 * kGiB; }), kPamtOverlap | kWithOne | kOf4K | 1);
}

TEST_F(TdmrCheck, APamtMayReachTheLastPageOfItsReservedAreaAndNoFurther) {
  const auto reserved = [&](std::uint64_t size) {
    return with([&, size] {
      tdmrs_[1].pamt_4k.base = 5 * kGiB;
      tdmrs_[1].reserved[0] = {kGiB, size};
    });
  };
  EXPECT_EQ(reserved(16 * kMiB), 0U);
  EXPECT_EQ(reserved(16 * kMiB - kPage), kPamtOverlap | kWithOne | kOf4K | 1);
}

TEST_F(TdmrCheck, APamtMaySpanTwoReservedAreasThatTouch) {
  tdmrs_[1].pamt_4k.base = 5 * kGiB;
  tdmrs_[1].reserved[0] = {kGiB, kPage};
  tdmrs_[1].reserved[1] = {kGiB + kPage, 16 * kMiB - kPage};
  EXPECT_EQ(check(), 0U);
}

TEST_F(TdmrCheck, APamtMustLieInConvertibleMemory) {
  EXPECT_EQ(with([&] { tdmrs_[1].pamt_4k.base = 64 * kGiB - 8 * kMiB; }),
            kPamtOutsideCmrs | kOf4K | 1);
  EXPECT_EQ(with([&] { tdmrs_[1].pamt_4k.base = 64 * kGiB - 16 * kMiB; }), 0U);
  EXPECT_EQ(with([&] { tdmrs_[1].pamt_2m.base = 3 * kGiB; }), kPamtOutsideCmrs | kOf2M | 1);
  EXPECT_EQ(with([&] {
              tdmrs_[1].pamt_2m.base = 3 * kGiB;
              tdmrs_[1].pamt_1g.base = 3 * kGiB + kMiB;
            }),
            kPamtOutsideCmrs | kOf1G | 1);
}

TEST_F(TdmrCheck, AdjacentCmrsCountAsOneForPamtsAndMemory) {
  // Three in a row; a PAMT and a TDMR cross both borders.
  cmrs_ = {cmrs_[0],
           {4 * kGiB, 2 * kGiB},
           {6 * kGiB, kGiB},
           {7 * kGiB, 33 * kGiB + 8 * kMiB},
           {40 * kGiB + 8 * kMiB, 24 * kGiB - 8 * kMiB}};
  EXPECT_EQ(check_cmr_list(), 0U);
  EXPECT_EQ(check(), 0U);
  cmrs_[2] = {6 * kGiB + kPage, kGiB - kPage};
  EXPECT_EQ(check(), kTdmrOutsideCmrs | 1);
}

TEST_F(TdmrCheck, UsableMemoryMustBeConvertible) {
  EXPECT_EQ(with([&] { tdmrs_[0].reserved[0].size = kMiB - kPage; }), kTdmrOutsideCmrs | 0);
  EXPECT_EQ(with([&] { cmrs_[1].size = 37 * kGiB; }), 0U);
  EXPECT_EQ(with([&] { cmrs_[0].size -= kPage; }), kTdmrOutsideCmrs | 0);
  EXPECT_EQ(with([&] {
              cmrs_[0].size -= kPage;
              tdmrs_[0].reserved[2] = {2 * kGiB - kPage, kPage};
            }),
            0U);
}

TEST_F(TdmrCheck, ATdmrThatIsWhollyReservedNeedsNoConvertibleMemory) {
  EXPECT_EQ(with([&] {
              tdmrs_[1].base = 3 * kGiB;
              tdmrs_[1].size = kGiB;
            }),
            kTdmrOutsideCmrs | 1);
  EXPECT_EQ(with([&] {
              tdmrs_[1].base = 3 * kGiB;
              tdmrs_[1].size = kGiB;
              tdmrs_[1].reserved[0] = {0, kGiB};
            }),
            0U);
}

// --- The order of the checks ---

/// Breaks one thing after the other, the latest check first: each new one hides those before.
TEST_F(TdmrCheck, EachCheckComesBeforeTheNextOnes) {
  cmrs_[0].size -= kPage;
  EXPECT_EQ(check(), kTdmrOutsideCmrs | 0);
  tdmrs_[0].pamt_4k.base = 3 * kGiB;
  EXPECT_EQ(check(), kPamtOutsideCmrs | kOf4K | 0);
  tdmrs_[0].pamt_1g.base = kGiB / 2;
  EXPECT_EQ(check(), kPamtOverlap | kOf1G | 0);
  tdmrs_[0].pamt_2m.base = 3 * kGiB;
  EXPECT_EQ(check(), kPamtOverlap | kOf4K | 0);
  tdmrs_[0].pamt_2m.size = kPage;
  EXPECT_EQ(check(), kInvalidPamt | kOf2M | 0);
  tdmrs_[0].reserved[1].size += 1;
  EXPECT_EQ(check(), kInvalidReserved | 0x100);
  tdmrs_[0].reserved[1].offset = 0;
  EXPECT_EQ(check(), kNonOrderedReserved | 0x100);
  tdmrs_[0].base = kPage;
  EXPECT_EQ(check(), kInvalidTdmr | 0);
}

TEST_F(TdmrCheck, AnEarlierTdmrIsCheckedWhollyBeforeALaterOne) {
  cmrs_[0].size -= kPage;  // the last check of the first
  tdmrs_[1].base = kPage;  // the first check of the second
  EXPECT_EQ(check(), kTdmrOutsideCmrs | 0);
}

TEST_F(TdmrCheck, BlameTakesTheWordApart) {
  EXPECT_EQ(TdmrBlame::of(kPamtOverlap | 2 << 16 | kOf1G | 1),
            (TdmrBlame{.tdmr = 1, .part = 2, .other = 2}));
}

}  // namespace
}  // namespace accede::host
