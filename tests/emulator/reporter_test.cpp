#include "accede/emulator/reporter.hpp"

#include "tests/emulator/guest_ram.hpp"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

namespace accede::emulator {
namespace {

using test::pages_at;

class ReporterTest : public testing::Test {
 protected:
  static constexpr std::size_t kEvents = 4;

  ReporterTest() : storage_((Reporter::area_bytes(kEvents) + 7) / 8, ~0ULL) {}

  [[nodiscard]] Reporter make(bool log_events = true) {
    return Reporter{std::as_writable_bytes(std::span{storage_}), log_events};
  }
  [[nodiscard]] const Event& event(std::size_t index) const {
    const auto* const header = reinterpret_cast<const ReportHeader*>(storage_.data());
    return reinterpret_cast<const Event*>(reinterpret_cast<const std::byte*>(header) +
                                          header->event_offset)[index];
  }

  std::vector<std::uint64_t> storage_;
};

Violation violation(EventKind kind, std::uint64_t rip, std::uint32_t detail = 0) {
  return {
      .gpa = 0x1000, .rip = rip, .count = 1, .kind = kind, .fatal = 0, .vcpu = 0, .detail = detail};
}

TEST_F(ReporterTest, StartsWithAHeaderThatDescribesTheArea) {
  Reporter reporter = make();
  const ReportHeader& header = reporter.header();
  EXPECT_EQ(header.magic, kReportMagic);
  EXPECT_EQ(header.version, kReportVersion);
  EXPECT_EQ(header.total_bytes, storage_.size() * 8);
  EXPECT_EQ(header.event_offset, sizeof(ReportHeader));
  EXPECT_EQ(header.event_capacity, kEvents);
  EXPECT_EQ(header.event_count, 0U);
  EXPECT_EQ(header.violation_total, 0U);
  EXPECT_EQ(header.counters.accept_calls[0], 0U);
}

TEST_F(ReporterTest, MergesAdjacentEventsOfOneKind) {
  Reporter reporter = make();
  reporter.event(EventKind::kAccept, 0, pages_at(0x10000, 1), 100, 0);
  reporter.event(EventKind::kAccept, 0, pages_at(0x11000, 2), 200, 0);
  ASSERT_EQ(reporter.header().event_count, 1U);
  EXPECT_EQ(event(0).tsc, 100U);
  EXPECT_EQ(event(0).gpa, 0x10000U);
  EXPECT_EQ(event(0).pages, 3U);
}

TEST_F(ReporterTest, MergesEventsOfTwoKindsThatTakeTurns) {
  Reporter reporter = make();
  for (std::uint64_t i = 0; i < 512; ++i) {
    reporter.event(EventKind::kHostAug, 0, pages_at(0x10000 + i * 0x1000, 1), 2 * i, 0);
    reporter.event(EventKind::kAccept, 0, pages_at(0x10000 + i * 0x1000, 1), 2 * i + 1, 0);
  }
  ASSERT_EQ(reporter.header().event_count, 2U);
  EXPECT_EQ(event(0).pages, 512U);
  EXPECT_EQ(event(1).pages, 512U);
  EXPECT_EQ(reporter.header().event_dropped, 0U);
}

TEST_F(ReporterTest, DoesNotMergeAcrossAPhase) {
  Reporter reporter = make();
  reporter.event(EventKind::kAccept, 0, pages_at(0x10000, 1), 1, 0);
  reporter.event(EventKind::kPhase, 1, PhysRange{}, 2, 0);
  reporter.event(EventKind::kAccept, 0, pages_at(0x11000, 1), 3, 0);
  EXPECT_EQ(reporter.header().event_count, 3U);
}

TEST_F(ReporterTest, KeepsEventsApartThatDifferInKindDetailPlaceOrCpu) {
  Reporter reporter = make();
  reporter.event(EventKind::kAccept, 0, pages_at(0x10000, 1), 1, 0);
  reporter.event(EventKind::kAccept, 1, pages_at(0x11000, 1), 2, 0);
  reporter.event(EventKind::kHostAug, 1, pages_at(0x12000, 1), 3, 0);
  reporter.event(EventKind::kHostAug, 1, pages_at(0x13000, 1), 4, 1);
  EXPECT_EQ(reporter.header().event_count, 4U);
  EXPECT_EQ(reporter.header().event_dropped, 0U);
}

TEST_F(ReporterTest, DoesNotMergeAnEventThatComesBeforeTheLast) {
  Reporter reporter = make();
  reporter.event(EventKind::kAccept, 0, pages_at(0x11000, 1), 1, 0);
  reporter.event(EventKind::kAccept, 0, pages_at(0x10000, 1), 2, 0);
  EXPECT_EQ(reporter.header().event_count, 2U);
}

TEST_F(ReporterTest, LogsEventsWithoutPagesOneByOne) {
  Reporter reporter = make();
  reporter.event(EventKind::kPhase, 1, PhysRange{}, 1, 0);
  reporter.event(EventKind::kPhase, 1, PhysRange{}, 2, 0);
  EXPECT_EQ(reporter.header().event_count, 2U);
  EXPECT_EQ(event(1).tsc, 2U);
}

TEST_F(ReporterTest, CountsWhatAFullLogDropsAndStillLengthensTheLastEvent) {
  Reporter reporter = make();
  for (std::uint64_t i = 0; i < kEvents + 3; ++i) {
    reporter.event(EventKind::kAccept, 0, pages_at(0x100000 * (i + 1), 1), i, 0);
  }
  EXPECT_EQ(reporter.header().event_count, kEvents);
  EXPECT_EQ(reporter.header().event_dropped, 3U);
  reporter.event(EventKind::kAccept, 0, pages_at(0x100000 * kEvents + 0x1000, 1), 99, 0);
  EXPECT_EQ(event(kEvents - 1).pages, 2U);
  EXPECT_EQ(reporter.header().event_dropped, 3U);
}

TEST_F(ReporterTest, KeepsNoLogWhenItIsSwitchedOff) {
  Reporter reporter = make(false);
  reporter.event(EventKind::kAccept, 0, pages_at(0x10000, 1), 1, 0);
  EXPECT_EQ(reporter.header().event_capacity, 0U);
  EXPECT_EQ(reporter.header().event_count, 0U);
  EXPECT_EQ(reporter.header().event_dropped, 0U);
}

TEST_F(ReporterTest, CountsEqualViolationsUnderOnePlace) {
  Reporter reporter = make();
  reporter.violation(violation(EventKind::kDoubleAccept, 0x4000));
  reporter.violation(violation(EventKind::kDoubleAccept, 0x4000));
  reporter.violation(violation(EventKind::kDoubleAccept, 0x5000));
  reporter.violation(violation(EventKind::kUnknownTdcall, 0x4000, 99));
  const ReportHeader& header = reporter.header();
  EXPECT_EQ(header.violation_total, 4U);
  ASSERT_EQ(header.violation_slots, 3U);
  EXPECT_EQ(header.violations[0].count, 2U);
  EXPECT_EQ(header.violations[1].rip, 0x5000U);
  EXPECT_EQ(header.violations[2].detail, 99U);
}

TEST_F(ReporterTest, GoesOnCountingViolationsWhenNoSlotIsLeft) {
  Reporter reporter = make();
  for (std::uint64_t i = 0; i < kMaxViolations + 10; ++i) {
    reporter.violation(violation(EventKind::kInvalidAccept, i));
  }
  EXPECT_EQ(reporter.header().violation_total, kMaxViolations + 10);
  EXPECT_EQ(reporter.header().violation_slots, kMaxViolations);
  reporter.violation(violation(EventKind::kInvalidAccept, 5));
  EXPECT_EQ(reporter.header().violations[5].count, 2U);
}

TEST_F(ReporterTest, RaisesAMaximumOnly) {
  std::uint64_t maximum = 0;
  Reporter::raise(maximum, 5);
  Reporter::raise(maximum, 3);
  EXPECT_EQ(maximum, 5U);
  Reporter::raise(maximum, 6);
  EXPECT_EQ(maximum, 6U);
}

TEST(EventNames, AreDifferentForEveryKind) {
  std::set<std::string> names;
  for (const EventKind kind : {EventKind::kPhase,
                               EventKind::kAccept,
                               EventKind::kConvertShared,
                               EventKind::kConvertPrivate,
                               EventKind::kHostAug,
                               EventKind::kVmcall,
                               EventKind::kUnacceptedAccess,
                               EventKind::kDoubleAccept,
                               EventKind::kPolarityMismatch,
                               EventKind::kUnknownTdcall,
                               EventKind::kUnknownVmcall,
                               EventKind::kInvalidAccept,
                               EventKind::kEmulatorMemory,
                               EventKind::kShutdown,
                               EventKind::kBeyondAddressWidth,
                               EventKind::kResourceExhausted,
                               EventKind::kEmulatorBug,
                               EventKind::kHaltedForEver,
                               EventKind::kInvalidState,
                               EventKind::kGuestPanic}) {
    const std::string text{name(kind)};
    EXPECT_NE(text, "unknown") << static_cast<int>(kind);
    EXPECT_TRUE(names.insert(text).second) << text;
  }
  EXPECT_EQ(name(static_cast<EventKind>(200)), "unknown");
}

TEST(EventNames, OfTheCommandsContractAreWhatItSays) {
  EXPECT_EQ(name(EventKind::kUnacceptedAccess), "unaccepted-access");
  EXPECT_EQ(name(EventKind::kDoubleAccept), "double-accept");
  EXPECT_EQ(name(EventKind::kPolarityMismatch), "shared-private-mismatch");
  EXPECT_EQ(name(EventKind::kUnknownTdcall), "unknown-tdcall");
}

}  // namespace
}  // namespace accede::emulator
