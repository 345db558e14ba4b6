// Leaving a firmware that is old, unhelpful or hostile.

#include "accede/efi/departure.hpp"
#include "tests/efi/fake_firmware.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace accede::efi {
namespace {

using abi::efi::MemoryType;
using guest::PlatformKind;
using test::FakeFirmware;

constexpr std::uint64_t kGiB = 1ULL << 30;
constexpr std::uint64_t kMiB = 1ULL << 20;

PhysRange range(std::uint64_t begin, std::uint64_t end) {
  return PhysRange::make(PhysAddr{begin}, PhysAddr{end}).value();
}

/// A machine with 2 GiB of usable memory and 4 GiB above 4 GiB that are unaccepted.
class DepartureTest : public testing::Test {
 protected:
  DepartureTest() {
    fake.add(MemoryType::kConventional, 0, 2 * kGiB);
    fake.add(MemoryType::kUnaccepted, 4 * kGiB, 8 * kGiB);
  }

  /// All steps; the test goes on with what they left.
  void leave(Departure& departure) {
    const auto prepared = departure.prepare(PlatformKind::kTdx);
    ASSERT_TRUE(prepared.has_value()) << prepared.error().what;
    const auto left = departure.exit();
    ASSERT_TRUE(left.has_value()) << left.error().what;
    const auto settled = settle(departure);
    ASSERT_TRUE(settled.has_value()) << settled.error();
  }
  std::expected<void, std::string_view> settle(Departure& departure) {
    return departure.settle([this](PhysRange part) {
      accepted.push_back(part);
      return guest::PlatformResult{};
    });
  }
  [[nodiscard]] std::uint64_t accepted_bytes() const {
    std::uint64_t sum = 0;
    for (const PhysRange part : accepted) {
      sum += part.size().value();
    }
    return sum;
  }

  FakeFirmware fake;
  Firmware firmware = fake.firmware();
  std::vector<PhysRange> accepted;
};

TEST_F(DepartureTest, PublishesATableOfAllUnacceptedMemory) {
  Departure departure{firmware, AcceptanceWish::kTable};
  leave(departure);
  ASSERT_TRUE(departure.table().present());
  EXPECT_EQ(departure.table().unaccepted(), 4_GiB);
  EXPECT_EQ(fake.published(), departure.table().bytes().data());
  EXPECT_EQ(departure.accepted(), 0_B);
  EXPECT_EQ(departure.memory_map().bytes_of(guest::MemoryKind::kUnaccepted), 4_GiB);
  EXPECT_EQ(departure.efi_map().size(), 2 * FakeFirmware::kStride);
}

TEST_F(DepartureTest, ThePublishedTableIsSoundAndEmptyUntilThereIsTheRealOne) {
  Departure departure{firmware, AcceptanceWish::kTable};
  ASSERT_TRUE(departure.prepare(PlatformKind::kTdx).has_value());
  const auto* const bytes = static_cast<const std::byte*>(fake.published());
  ASSERT_NE(bytes, nullptr);
  const auto header = abi::linux_unaccepted::parse_header({bytes, 24});
  ASSERT_TRUE(header.has_value());
  EXPECT_EQ(header->bitmap_size, 0_B);
}

TEST_F(DepartureTest, AcceptsHeadsAndTailsThatNoBitCanStandFor) {
  fake.map[1] = {};
  fake.map.pop_back();
  fake.add(MemoryType::kUnaccepted, 4 * kGiB + 0x3000, 8 * kGiB - 0x5000);
  fake.add(MemoryType::kUnaccepted, 9 * kGiB, 9 * kGiB + 3 * kMiB);  // less than two units
  Departure departure{firmware, AcceptanceWish::kTable};
  leave(departure);
  EXPECT_EQ(accepted_bytes(), 2 * kMiB - 0x3000 + 2 * kMiB - 0x5000 + 3 * kMiB);
  EXPECT_EQ(departure.accepted().value(), accepted_bytes());
  EXPECT_EQ(departure.table().unaccepted(), 4_GiB - 4_MiB);
}

TEST_F(DepartureTest, AcceptsEverythingForAKernelThatCannot) {
  Departure departure{firmware, AcceptanceWish::kEverything};
  leave(departure);
  EXPECT_FALSE(departure.table().present());
  EXPECT_EQ(fake.published(), nullptr);
  EXPECT_EQ(accepted_bytes(), 4 * kGiB);
  EXPECT_EQ(departure.accepted(), 4_GiB);
}

TEST_F(DepartureTest, WithoutMemoryForATableEverythingIsAccepted) {
  fake.no_reclaim_memory = true;
  Departure departure{firmware, AcceptanceWish::kTable};
  leave(departure);
  EXPECT_FALSE(departure.table().present());
  EXPECT_EQ(fake.published(), nullptr);
  EXPECT_EQ(accepted_bytes(), 4 * kGiB);
}

TEST_F(DepartureTest, WithoutAPlaceInTheConfigurationTableEverythingIsAccepted) {
  fake.no_tables = true;
  Departure departure{firmware, AcceptanceWish::kTable};
  leave(departure);
  EXPECT_EQ(accepted_bytes(), 4 * kGiB);
}

TEST_F(DepartureTest, ATableThatBecomesTooSmallIsEmptyAndEverythingIsAccepted) {
  Departure departure{firmware, AcceptanceWish::kTable};
  ASSERT_TRUE(departure.prepare(PlatformKind::kTdx).has_value());
  fake.add(MemoryType::kUnaccepted, 1024 * kGiB, 1025 * kGiB);  // 64 KiB of bitmap
  ASSERT_TRUE(departure.exit().has_value());
  ASSERT_TRUE(settle(departure).has_value());
  EXPECT_FALSE(departure.table().present());
  EXPECT_EQ(accepted_bytes(), 5 * kGiB);
  const auto* const bytes = static_cast<const std::byte*>(fake.published());
  EXPECT_EQ(abi::linux_unaccepted::parse_header({bytes, 24}).value().bitmap_size, 0_B)
      << "the kernel finds no bit";
}

TEST_F(DepartureTest, MemoryThatTheCallerAcceptedGetsNoBit) {
  Departure departure{firmware, AcceptanceWish::kTable};
  ASSERT_TRUE(departure.prepare(PlatformKind::kTdx).has_value());
  departure.note_accepted(range(5 * kGiB, 5 * kGiB + 64 * kMiB));
  departure.note_accepted(range(4 * kGiB, 4 * kGiB + 2 * kMiB));
  ASSERT_TRUE(departure.exit().has_value());
  ASSERT_TRUE(settle(departure).has_value());
  EXPECT_EQ(departure.table().unaccepted(), 4_GiB - 66_MiB);
  EXPECT_FALSE(departure.table().any_unaccepted(range(5 * kGiB, 5 * kGiB + 64 * kMiB)));
  EXPECT_TRUE(accepted.empty()) << "nothing is accepted twice";
}

TEST_F(DepartureTest, MemoryThatWasAcceptedMustBeUnacceptedInTheFinalMap) {
  Departure departure{firmware, AcceptanceWish::kTable};
  ASSERT_TRUE(departure.prepare(PlatformKind::kTdx).has_value());
  departure.note_accepted(range(kGiB, kGiB + kMiB));
  ASSERT_TRUE(departure.exit().has_value());
  EXPECT_FALSE(settle(departure).has_value());
}

// --- The way out ---------------------------------------------------------------------------------

TEST_F(DepartureTest, Regression_E05_TheFirstExitFailsAndTheSecondHasAFreshMap) {
  // As OVMF for SEV-SNP: memory is accepted in the event before the first call.
  fake.before_exit = [this](int call) {
    if (call == 1) {
      fake.map[1].type = static_cast<std::uint32_t>(MemoryType::kConventional);
      ++fake.key;
    }
  };
  Departure departure{firmware, AcceptanceWish::kTable};
  leave(departure);
  EXPECT_EQ(fake.exit_calls, 2);
  EXPECT_EQ(fake.other_calls_after_exit, 0) << "only two services may be called";
  EXPECT_FALSE(departure.table().present()) << "nothing is unaccepted any more";
  EXPECT_TRUE(accepted.empty());
}

TEST_F(DepartureTest, Regression_E03_AMapThatIsLargerThanTheFirmwareSaysFits) {
  for (std::uint64_t i = 0; i < 20; ++i) {
    fake.add(MemoryType::kUnaccepted, (16 + i) * kGiB, (16 + i) * kGiB + 512 * kMiB);
  }
  fake.forgotten = 21;
  Departure departure{firmware, AcceptanceWish::kTable};
  leave(departure);
  EXPECT_EQ(departure.table().unaccepted(), 14_GiB);
}

TEST_F(DepartureTest, GivesUpOnAKeyThatIsNeverRightAfterTheOneRetry) {
  fake.before_exit = [this](int) { ++fake.key; };
  Departure departure{firmware, AcceptanceWish::kTable};
  ASSERT_TRUE(departure.prepare(PlatformKind::kTdx).has_value());
  const auto left = departure.exit();
  ASSERT_FALSE(left.has_value());
  EXPECT_FALSE(departure.firmware_is_intact());
  EXPECT_EQ(fake.exit_calls, 2);
  EXPECT_EQ(fake.other_calls_after_exit, 0);
}

TEST_F(DepartureTest, AMapThatDoesNotFitBeforeTheFirstExitLeavesTheFirmwareWhole) {
  Departure departure{firmware, AcceptanceWish::kTable};
  ASSERT_TRUE(departure.prepare(PlatformKind::kTdx).has_value());
  for (std::uint64_t i = 0; i < 500; ++i) {
    fake.add(MemoryType::kConventional, (16 + i) * kGiB, (16 + i) * kGiB + 4096);
  }
  ASSERT_FALSE(departure.exit().has_value());
  EXPECT_TRUE(departure.firmware_is_intact());
  EXPECT_EQ(fake.exit_calls, 0);
  departure.cancel();
  EXPECT_EQ(fake.allocations(), 0U);
}

TEST_F(DepartureTest, CancellingGivesEverythingBack) {
  Departure departure{firmware, AcceptanceWish::kTable};
  ASSERT_TRUE(departure.prepare(PlatformKind::kTdx).has_value());
  EXPECT_NE(fake.published(), nullptr);
  EXPECT_GT(fake.allocations(), 0U);
  departure.cancel();
  EXPECT_EQ(fake.published(), nullptr);
  EXPECT_EQ(fake.allocations(), 0U);
}

// --- What prepare() refuses ----------------------------------------------------------------------

/// Refused, and everything can be given back.
void expect_refusal(FakeFirmware& fake, const Firmware& firmware, PlatformKind platform,
                    const std::string& part) {
  Departure departure{firmware, AcceptanceWish::kTable};
  const auto prepared = departure.prepare(platform);
  ASSERT_FALSE(prepared.has_value());
  EXPECT_NE(std::string{prepared.error().what}.find(part), std::string::npos)
      << prepared.error().what;
  departure.cancel();
  EXPECT_EQ(fake.allocations(), 0U);
  EXPECT_EQ(fake.exit_calls, 0);
}

TEST_F(DepartureTest, RefusesUnacceptedMemoryOnAMachineThatCannotAccept) {
  expect_refusal(fake, firmware, PlatformKind::kNone, "no platform that can accept");
}

TEST_F(DepartureTest, RefusesMapsThatContradictThemselves) {
  fake.add(MemoryType::kUnaccepted, kGiB, 3 * kGiB);
  expect_refusal(fake, firmware, PlatformKind::kTdx, "claim the same memory");
}

TEST_F(DepartureTest, RefusesMemoryThatEndsBeyondTheAddressSpace) {
  fake.map[1].number_of_pages = ~0ULL >> 12;
  expect_refusal(fake, firmware, PlatformKind::kTdx, "address space");
}

TEST_F(DepartureTest, RefusesMemoryThatBeginsInsideAPage) {
  fake.map[1].physical_start += 0x800;
  expect_refusal(fake, firmware, PlatformKind::kTdx, "aligned");
}

TEST_F(DepartureTest, RefusesAFirmwareThatHasATableAlready) {
  int somebody = 0;
  fake.publish(&somebody);
  for (const AcceptanceWish wish : {AcceptanceWish::kTable, AcceptanceWish::kEverything}) {
    Departure departure{firmware, wish};
    ASSERT_FALSE(departure.prepare(PlatformKind::kTdx).has_value());
    departure.cancel();
  }
  EXPECT_EQ(fake.published(), &somebody) << "it is not ours to take away";
}

TEST_F(DepartureTest, AnAnswerOfThePlatformEndsIt) {
  fake.add(MemoryType::kUnaccepted, 9 * kGiB, 9 * kGiB + kMiB);
  Departure departure{firmware, AcceptanceWish::kTable};
  ASSERT_TRUE(departure.prepare(PlatformKind::kTdx).has_value());
  ASSERT_TRUE(departure.exit().has_value());
  const auto settled = departure.settle([](PhysRange part) {
    return guest::PlatformResult{std::unexpected{guest::PlatformFailure{
        .kind = guest::FailureKind::kAlreadyAccepted, .at = part.begin(), .done_end = {}}}};
  });
  ASSERT_FALSE(settled.has_value());
  EXPECT_EQ(settled.error(), to_string(guest::FailureKind::kAlreadyAccepted));
}

}  // namespace
}  // namespace accede::efi
