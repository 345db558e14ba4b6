#include "accede/guest/tdx_platform.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <utility>
#include <vector>

namespace accede::guest {
namespace {

using abi::tdx::Operand;
using abi::tdx::Status;
using abi::tdx::status;
using abi::tdx::TdcallLeaf;
using abi::tdx::VmcallStatus;

constexpr std::uint64_t k4K = 4096;
constexpr std::uint64_t k2M = 2ULL << 20;
constexpr std::uint64_t kBase = 64 * k2M;
constexpr std::uint64_t kShared = 1ULL << 47;

PhysRange range(std::uint64_t begin, std::uint64_t end) {
  return *PhysRange::make(PhysAddr{begin}, PhysAddr{end});
}

/// A page that was asked for: address and size.
using Asked = std::pair<std::uint64_t, PageSize>;

/// A TDX module and a host that say what the test wants.
struct FakeTd {
  std::function<std::uint64_t(Asked)> accept = [](Asked) { return std::uint64_t{0}; };
  std::function<std::uint64_t(TdcallRegisters&)> vmcall = [](TdcallRegisters& r) {
    r.r10 = 0;
    return std::uint64_t{0};
  };
  std::uint64_t info_rax = 0;
  std::uint64_t info_rcx = 48;
  std::vector<Asked> asked;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> map_gpa;  ///< R12, R13

  std::uint64_t call(TdcallLeaf leaf, TdcallRegisters& registers) {
    switch (leaf) {
      case TdcallLeaf::kMemPageAccept:
        asked.emplace_back(abi::tdx::PageOperand::gpa(registers.rcx).value(),
                           static_cast<PageSize>(registers.rcx & 7));
        return accept(asked.back());
      case TdcallLeaf::kVpVmcall:
        EXPECT_EQ(registers.rcx, 0x3C00U);  // R10 to R13
        EXPECT_EQ(registers.r10, 0U);
        EXPECT_EQ(registers.r11, 0x10001U);
        map_gpa.emplace_back(registers.r12, registers.r13);
        return vmcall(registers);
      case TdcallLeaf::kVpInfo:
        registers.rcx = info_rcx;
        return info_rax;
      default:
        ADD_FAILURE() << "unexpected leaf " << static_cast<int>(leaf);
        return status(Status::kOperandInvalid, Operand::kRax);
    }
  }
};

struct FakeTdcall {
  FakeTd* td = nullptr;
  std::uint64_t operator()(TdcallLeaf leaf, TdcallRegisters& registers) const {
    return td->call(leaf, registers);
  }
};
using Platform = BasicTdxPlatform<FakeTdcall>;
static_assert(AcceptPlatform<Platform>);

// --- answer_of ---

TEST(TdxAnswer, EveryNamedStatusIsAnOutcome) {
  const std::map<Status, Answer> known{
      {Status::kSuccess, Answer::kAccepted},
      {Status::kPageAlreadyAccepted, Answer::kAlreadyAccepted},
      {Status::kPageSizeMismatch, Answer::kSizeMismatch},
      {Status::kOperandBusy, Answer::kBusy},
  };
  for (const abi::tdx::StatusName& entry : abi::tdx::kStatusNames) {
    const auto it = known.find(entry.code);
    const Answer expected = it == known.end() ? Answer::kInvalid : it->second;
    for (const std::uint32_t details : {0U, 1U, 2U, 0xFFFF'FFFFU}) {
      EXPECT_EQ(answer_of(status(entry.code, details)), expected) << entry.name << " " << details;
    }
  }
}

TEST(TdxAnswer, AnUnknownWordIsInvalidWithAndWithoutTheErrorBit) {
  EXPECT_EQ(answer_of(0x0000'0001'0000'0000), Answer::kInvalid);
  EXPECT_EQ(answer_of(0xDEAD'BEEF'0000'0000), Answer::kInvalid);
  EXPECT_EQ(answer_of(~std::uint64_t{0}), Answer::kInvalid);
}

// --- accept ---

TEST(TdxAccept, TakesTheLargestPagesThatFitAndNever1G) {
  FakeTd td;
  Platform platform{48, {&td}};
  ASSERT_TRUE(platform.accept(range(kBase - k4K, kBase + k2M + k4K)).has_value());
  const std::vector<Asked> expected{
      {kBase - k4K, PageSize::k4K}, {kBase, PageSize::k2M}, {kBase + k2M, PageSize::k4K}};
  EXPECT_EQ(td.asked, expected);
  td.asked.clear();
  ASSERT_TRUE(platform.accept(range(1ULL << 30, 2ULL << 30)).has_value());
  EXPECT_EQ(td.asked.size(), 512U);
}

TEST(TdxAccept, Regression_E02_ExactlyTwoMebibytesIsOneCall) {
  FakeTd td;
  Platform platform{48, {&td}};
  ASSERT_TRUE(platform.accept(range(kBase, kBase + k2M)).has_value());
  EXPECT_EQ(td.asked, (std::vector<Asked>{{kBase, PageSize::k2M}}));
}

TEST(TdxAccept, AnEmptyRangeAsksNothing) {
  FakeTd td;
  Platform platform{48, {&td}};
  EXPECT_TRUE(platform.accept(range(kBase, kBase)).has_value());
  EXPECT_TRUE(platform.convert(range(kBase, kBase), Visibility::kShared).has_value());
  EXPECT_TRUE(td.asked.empty());
  EXPECT_TRUE(td.map_gpa.empty());
}

TEST(TdxAccept, ASizeMismatchMakes512SmallPagesAndThenLargeOnesAgain) {
  FakeTd td;
  td.accept = [](Asked page) {
    return page == Asked{kBase, PageSize::k2M} ? 0xC0000B0B00000001 : std::uint64_t{0};
  };
  Platform platform{48, {&td}};
  ASSERT_TRUE(platform.accept(range(kBase, kBase + 2 * k2M)).has_value());
  ASSERT_EQ(td.asked.size(), 514U);
  EXPECT_EQ(td.asked[1], (Asked{kBase, PageSize::k4K}));
  EXPECT_EQ(td.asked[512], (Asked{kBase + k2M - k4K, PageSize::k4K}));
  EXPECT_EQ(td.asked[513], (Asked{kBase + k2M, PageSize::k2M}));
}

TEST(TdxAccept, ASizeMismatchOfASmallPageIsARefusal) {
  FakeTd td;
  td.accept = [](Asked) { return 0xC0000B0B00000001; };
  Platform platform{48, {&td}};
  const auto result = platform.accept(range(kBase, kBase + k2M));
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, FailureKind::kRefused);
  EXPECT_EQ(result.error().size, PageSize::k4K);
  EXPECT_EQ(td.asked.size(), 2U);
}

TEST(TdxAccept, Regression_T01_AlreadyAcceptedOfALargePageIsAFailureNotAPanic) {
  FakeTd td;
  td.accept = [](Asked page) {
    return page.first == kBase + k2M ? 0x00000B0A00000001 : std::uint64_t{0};
  };
  Platform platform{48, {&td}};
  const auto result = platform.accept(range(kBase, kBase + 3 * k2M));
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error(), (PlatformFailure{.kind = FailureKind::kAlreadyAccepted,
                                             .status = 0x00000B0A00000001,
                                             .at = PhysAddr{kBase + k2M},
                                             .size = PageSize::k2M,
                                             .done_end = PhysAddr{kBase + k2M}}));
  EXPECT_EQ(td.asked.size(), 2U);
}

TEST(TdxAccept, APageAcceptedBeforeInsideASplitLargePageStopsThereWithAnExactEnd) {
  FakeTd td;
  td.accept = [](Asked page) {
    if (page.second == PageSize::k2M) {
      return 0xC0000B0B00000001;
    }
    return page.first == kBase + 7 * k4K ? 0x00000B0A00000000 : std::uint64_t{0};
  };
  Platform platform{48, {&td}};
  const auto result = platform.accept(range(kBase, kBase + k2M));
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, FailureKind::kAlreadyAccepted);
  EXPECT_EQ(result.error().done_end, PhysAddr{kBase + 7 * k4K});
}

TEST(TdxAccept, Regression_T01_BusyIsTriedAgain) {
  FakeTd td;
  int busy = 5;
  td.accept = [&](Asked) { return busy-- > 0 ? 0x8000020000000001 : std::uint64_t{0}; };
  Platform platform{48, {&td}};
  EXPECT_TRUE(platform.accept(range(kBase, kBase + k2M)).has_value());
  EXPECT_EQ(td.asked.size(), 6U);
}

TEST(TdxAccept, Regression_T01_BusyForEverEndsAtTheBound) {
  FakeTd td;
  td.accept = [](Asked page) {
    return page.first == kBase ? std::uint64_t{0} : 0x8000020000000001;
  };
  Platform platform{48, {&td}};
  const auto result = platform.accept(range(kBase, kBase + 2 * k2M));
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, FailureKind::kBusyForever);
  EXPECT_EQ(result.error().done_end, PhysAddr{kBase + k2M});
  EXPECT_EQ(td.asked.size(), 1U + Platform::kBusyTries);
}

TEST(TdxAccept, EveryOtherStatusIsARefusalWithItsRawWord) {
  for (const std::uint64_t word : {0xC000010000000001ULL, 0x0000030100000000ULL, 1ULL << 63}) {
    FakeTd td;
    td.accept = [&](Asked) { return word; };
    Platform platform{48, {&td}};
    const auto result = platform.accept(range(kBase, kBase + k2M));
    ASSERT_FALSE(result.has_value());
    EXPECT_EQ(result.error().kind, FailureKind::kRefused);
    EXPECT_EQ(result.error().status, word);
    EXPECT_EQ(result.error().done_end, PhysAddr{kBase});
  }
}

TEST(TdxAccept, Regression_T01_MemoryAbove4TiBIsAcceptedAndBeyondTheWidthRefused) {
  FakeTd td;
  Platform platform{48, {&td}};
  EXPECT_TRUE(platform.accept(range(8ULL << 40, (8ULL << 40) + k2M)).has_value());
  EXPECT_TRUE(platform.accept(range(kShared - k2M, kShared)).has_value());
  td.asked.clear();
  for (const PhysRange beyond :
       {range(kShared - k2M, kShared + k4K), range(1ULL << 60, (1ULL << 60) + k4K)}) {
    const auto result = platform.accept(beyond);
    ASSERT_FALSE(result.has_value());
    EXPECT_EQ(result.error().kind, FailureKind::kRefused);
    EXPECT_EQ(result.error().status, 0xC000010000000001U);
    EXPECT_EQ(result.error().done_end, beyond.begin());
    EXPECT_FALSE(platform.convert(beyond, Visibility::kShared).has_value());
  }
  EXPECT_TRUE(td.asked.empty());
  EXPECT_TRUE(td.map_gpa.empty());
}

// --- make ---

TEST(TdxMake, TakesTheSharedBitFromTheModule) {
  FakeTd td;
  EXPECT_EQ(Platform::make({&td})->shared_bit(), 1ULL << 47);
  td.info_rcx = 52;
  EXPECT_EQ(Platform::make({&td})->shared_bit(), 1ULL << 51);
  EXPECT_EQ(Platform::make({&td})->kind(), PlatformKind::kTdx);
  EXPECT_EQ(Platform::make({&td})->preferred_step(), 2_MiB);
}

TEST(TdxMake, RefusesAModuleThatRefusesOrGivesAnOddWidth) {
  FakeTd td;
  td.info_rcx = 50;
  EXPECT_EQ(Platform::make({&td}).error(), TdxError::kBadGpaWidth);
  td.info_rax = status(Status::kOperandInvalid, Operand::kRax);
  EXPECT_EQ(Platform::make({&td}).error(), TdxError::kInfoRefused);
  EXPECT_EQ(to_string(TdxError::kInfoRefused), "the TDX module refused TDG.VP.INFO");
  EXPECT_EQ(to_string(TdxError::kBadGpaWidth),
            "the TDX module gave a guest address width other than 48 and 52");
}

// --- convert ---

/// Answers RETRY with R11 = the next of `nexts`, then SUCCESS.
std::function<std::uint64_t(TdcallRegisters&)> retry_at(std::vector<std::uint64_t> nexts) {
  return [nexts, i = std::size_t{0}](TdcallRegisters& registers) mutable {
    registers.r10 = 0;
    if (i < nexts.size()) {
      registers.r10 = static_cast<std::uint64_t>(VmcallStatus::kRetry);
      registers.r11 = nexts[i++];
    }
    return std::uint64_t{0};
  };
}

TEST(TdxConvert, ToSharedSetsTheBitAndAcceptsNothing) {
  FakeTd td;
  Platform platform{48, {&td}};
  ASSERT_TRUE(platform.convert(range(kBase, kBase + k2M), Visibility::kShared).has_value());
  ASSERT_EQ(td.map_gpa.size(), 1U);
  EXPECT_EQ(td.map_gpa[0], (std::pair{kBase | kShared, k2M}));
  EXPECT_TRUE(td.asked.empty());
}

TEST(TdxConvert, ToPrivateAcceptsAfterwards) {
  FakeTd td;
  Platform platform{48, {&td}};
  ASSERT_TRUE(platform.convert(range(kBase, kBase + k2M), Visibility::kPrivate).has_value());
  EXPECT_EQ(td.map_gpa[0], (std::pair{kBase, k2M}));
  EXPECT_EQ(td.asked, (std::vector<Asked>{{kBase, PageSize::k2M}}));
}

TEST(TdxConvert, RetryGoesOnWhereTheHostStopped) {
  FakeTd td;
  td.vmcall = retry_at({(kBase + k2M) | kShared, (kBase + k2M + k4K) | kShared});
  Platform platform{48, {&td}};
  ASSERT_TRUE(platform.convert(range(kBase, kBase + 2 * k2M), Visibility::kShared).has_value());
  ASSERT_EQ(td.map_gpa.size(), 3U);
  EXPECT_EQ(td.map_gpa[1], (std::pair{(kBase + k2M) | kShared, k2M}));
  EXPECT_EQ(td.map_gpa[2], (std::pair{(kBase + k2M + k4K) | kShared, k2M - k4K}));
}

TEST(TdxConvert, RetryWithoutProgressEndsAtTheBoundAndProgressStartsItAnew) {
  const std::uint64_t begin = kBase | kShared;
  const std::uint64_t next = (kBase + k4K) | kShared;
  FakeTd td;
  td.vmcall = retry_at({begin, begin, begin, next, next, next, next});
  Platform platform{48, {&td}};
  EXPECT_TRUE(platform.convert(range(kBase, kBase + k2M), Visibility::kShared).has_value());
  td.vmcall = retry_at({next, next, next, next, next});
  const auto result = platform.convert(range(kBase, kBase + k2M), Visibility::kShared);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, FailureKind::kBusyForever);
  EXPECT_EQ(result.error().done_end, PhysAddr{kBase + k4K});
}

TEST(TdxConvert, AHostWhoseRetryGoesBackwardsOrOutOfRangeIsCaught) {
  const std::uint64_t end = kBase + k2M;
  for (const std::uint64_t r11 :
       {(kBase - k4K) | kShared, end | kShared, (end + k4K) | kShared, (kBase + k4K + 1) | kShared,
        kBase + k4K /* without the shared bit */, std::uint64_t{0}, ~std::uint64_t{0}}) {
    FakeTd td;
    td.vmcall = retry_at({r11});
    Platform platform{48, {&td}};
    const auto result = platform.convert(range(kBase, end), Visibility::kShared);
    ASSERT_FALSE(result.has_value()) << r11;
    EXPECT_EQ(result.error().kind, FailureKind::kHostLied);
    EXPECT_EQ(result.error().status, r11);
    EXPECT_EQ(result.error().done_end, PhysAddr{kBase});
  }
  FakeTd td;
  td.vmcall = retry_at({kBase + 4 * k4K, kBase + 3 * k4K});
  Platform platform{48, {&td}};
  const auto result = platform.convert(range(kBase, end), Visibility::kPrivate);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, FailureKind::kHostLied);
  EXPECT_EQ(result.error().at, PhysAddr{kBase + 4 * k4K});
  EXPECT_EQ(result.error().done_end, PhysAddr{kBase}) << "no page was accepted";
  EXPECT_TRUE(td.asked.empty());
}

TEST(TdxConvert, ARefusalCarriesTheHostsOrTheModulesWord) {
  FakeTd td;
  td.vmcall = [](TdcallRegisters& registers) {
    registers.r10 = static_cast<std::uint64_t>(VmcallStatus::kAlignError);
    return std::uint64_t{0};
  };
  Platform platform{48, {&td}};
  auto result = platform.convert(range(kBase, kBase + k2M), Visibility::kShared);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, FailureKind::kRefused);
  EXPECT_EQ(result.error().status, 0x8000000000000002U);
  td.vmcall = [](TdcallRegisters&) { return 0xC000010000000001; };
  result = platform.convert(range(kBase, kBase + k2M), Visibility::kShared);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().status, 0xC000010000000001U);
}

TEST(TdxConvert, AFailedAcceptAfterMapGpaSaysHowFarItCame) {
  FakeTd td;
  td.accept = [](Asked page) {
    return page.first == kBase + k2M ? 0x00000B0A00000001 : std::uint64_t{0};
  };
  Platform platform{48, {&td}};
  const auto result = platform.convert(range(kBase, kBase + 2 * k2M), Visibility::kPrivate);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, FailureKind::kAlreadyAccepted);
  EXPECT_EQ(result.error().done_end, PhysAddr{kBase + k2M});
}

}  // namespace
}  // namespace accede::guest
