#include "accede/cli/report_area.hpp"

#include "accede/cli/event_file.hpp"
#include "tests/cli/made_up_report.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <set>
#include <string>

namespace accede::cli {
namespace {

using emulator::Event;
using emulator::EventKind;
using emulator::ReportHeader;
using ::testing::HasSubstr;

constexpr std::array<Event, 2> kEvents{{
    {.tsc = 5,
     .gpa = 0x1'0000'0000,
     .pages = 512,
     .kind = EventKind::kAccept,
     .detail = 1,
     .vcpu = 0},
    {.tsc = 9, .gpa = 0, .pages = 0, .kind = EventKind::kPhase, .detail = 2, .vcpu = 0},
}};

TEST(ReportArea, ReadsHeaderAndEvents) {
  const auto report = parse_report_area(test::made_up_area(test::made_up_header(), kEvents));
  ASSERT_TRUE(report) << report.error();
  EXPECT_EQ(report->header.lazy_bytes, 2ULL << 30);
  EXPECT_EQ(total_accepted(report->header.counters), 576ULL << 20);
  ASSERT_EQ(report->events.size(), 2U);
  EXPECT_EQ(report->events[0].gpa, 0x1'0000'0000U);
  EXPECT_EQ(report->events[1].kind, EventKind::kPhase);
}

TEST(ReportArea, RefusesAnAreaThatIsCutOff) {
  const auto area = test::made_up_area(test::made_up_header(), kEvents);
  for (const std::size_t size : {std::size_t{0}, std::size_t{8}, sizeof(ReportHeader) - 1,
                                 sizeof(ReportHeader), sizeof(ReportHeader) + 47}) {
    EXPECT_FALSE(parse_report_area(std::span{area}.first(size))) << size;
  }
  EXPECT_TRUE(parse_report_area(std::span{area}.first(sizeof(ReportHeader) + 48)));
}

std::string error_after(void (*change)(ReportHeader&)) {
  ReportHeader header = test::made_up_header();
  change(header);
  auto area = test::made_up_area(header, {});
  // made_up_area sets the count of events; a changed count has to stay.
  std::ranges::copy(std::as_bytes(std::span{&header, 1}), area.begin());
  const auto report = parse_report_area(area);
  return report ? "accepted" : std::string{report.error()};
}

TEST(ReportArea, RefusesWhatDoesNotFitTogether) {
  EXPECT_THAT(error_after([](ReportHeader& h) { h.magic = 0; }), HasSubstr("no report area"));
  EXPECT_THAT(error_after([](ReportHeader& h) { h.version = 99; }), HasSubstr("version"));
  EXPECT_THAT(error_after([](ReportHeader& h) { h.violation_slots = 65; }),
              HasSubstr("violations"));
  EXPECT_THAT(error_after([](ReportHeader& h) { h.event_count = 9; }), HasSubstr("more events"));
  EXPECT_THAT(error_after([](ReportHeader& h) {
                h.event_capacity = h.event_count = std::numeric_limits<std::uint64_t>::max();
              }),
              HasSubstr("outside"));
  EXPECT_THAT(error_after([](ReportHeader& h) {
                h.event_offset = std::numeric_limits<std::uint64_t>::max();
              }),
              HasSubstr("outside"));
}

TEST(ReportArea, TicksAreSecondsWhenTheFrequencyIsKnown) {
  ReportHeader header = test::made_up_header();
  EXPECT_DOUBLE_EQ(seconds_of(500'000'000, header), 0.5);
  header.tsc_hz = 0;
  EXPECT_DOUBLE_EQ(seconds_of(500'000'000, header), 0.0);
}

TEST(ReportArea, EveryKindHasANameOfItsOwn) {
  std::set<std::string_view> names;
  for (int kind = 1; kind <= 7; ++kind) {
    names.insert(kind_name(static_cast<EventKind>(kind)));
  }
  for (int kind = 64; kind <= 82; ++kind) {
    names.insert(kind_name(static_cast<EventKind>(kind)));
    EXPECT_FALSE(kind_meaning(static_cast<EventKind>(kind)).empty());
  }
  EXPECT_EQ(names.size(), 26U);
  EXPECT_FALSE(names.contains("unknown"));
  EXPECT_EQ(kind_name(EventKind::kUnacceptedAccess), "unaccepted-access");
  EXPECT_EQ(kind_name(static_cast<EventKind>(200)), "unknown");
}

TEST(ReportArea, EveryVmcallHasAName) {
  std::set<std::string_view> names;
  for (std::size_t slot = 0; slot < emulator::kVmcallSlots; ++slot) {
    names.insert(vmcall_name(slot));
  }
  EXPECT_EQ(names.size(), emulator::kVmcallSlots);
  EXPECT_EQ(vmcall_name(7), "map-gpa");
  EXPECT_EQ(vmcall_name(1000), "other");
}

TEST(ReportArea, EveryGhcbRequestHasAName) {
  using emulator::GhcbSlot;
  std::set<std::string_view> names;
  for (std::size_t slot = 0; slot < emulator::kGhcbSlots; ++slot) {
    names.insert(ghcb_name(slot));
  }
  EXPECT_EQ(names.size(), emulator::kGhcbSlots);
  const auto named = [](GhcbSlot slot) { return ghcb_name(static_cast<std::size_t>(slot)); };
  EXPECT_EQ(named(GhcbSlot::kMsrPageState), "msr-page-state");
  EXPECT_EQ(named(GhcbSlot::kCpuid), "cpuid");
  EXPECT_EQ(named(GhcbSlot::kPageState), "page-state-change");
  EXPECT_EQ(named(GhcbSlot::kTerminate), "terminate");
  EXPECT_EQ(named(GhcbSlot::kOther), "other");
  EXPECT_EQ(ghcb_name(1000), "other");
}

TEST(ReportArea, KindsOfSnpHaveTheNamesOfTheFaults) {
  EXPECT_EQ(kind_name(EventKind::kGuestTermination), "guest-termination");
  EXPECT_EQ(kind_name(EventKind::kBadGhcb), "bad-ghcb");
  EXPECT_EQ(kind_name(EventKind::kRmpViolation), "rmp-violation");
  EXPECT_EQ(kind_name(EventKind::kImplicitConversion), "implicit-conversion");
  EXPECT_EQ(kind_name(EventKind::kWrongCBit), "wrong-c-bit");
}

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span{text.data(), text.size()});
}

std::string section(std::string_view description) {
  ReportSnapshot snapshot{.header = test::made_up_header(),
                          .events = {kEvents.begin(), kEvents.end()}};
  snapshot.header.event_dropped = 3;
  return event_file_section(snapshot, description);
}

TEST(EventFile, GivesBackWhatWasWritten) {
  const std::string file = section("{\"a\":1}") + section("");
  const auto sections = parse_event_file(bytes_of(file));
  ASSERT_TRUE(sections) << sections.error();
  ASSERT_EQ(sections->size(), 2U);
  EXPECT_EQ(sections->front().description, "{\"a\":1}");
  EXPECT_EQ(sections->front().header.event_dropped, 3U);
  EXPECT_EQ(sections->front().header.tsc_hz, 1'000'000'000U);
  ASSERT_EQ(sections->back().events.size(), 2U);
  EXPECT_EQ(sections->back().events[1].tsc, 9U);
}

TEST(EventFile, AnEmptyFileHasNoSections) {
  const auto sections = parse_event_file({});
  ASSERT_TRUE(sections);
  EXPECT_TRUE(sections->empty());
}

TEST(EventFile, RefusesEveryCut) {
  const std::string file = section("{}");
  for (std::size_t size = 1; size < file.size(); ++size) {
    EXPECT_FALSE(parse_event_file(bytes_of(file.substr(0, size)))) << size;
  }
}

TEST(EventFile, NamesTheOffsetOfABadSection) {
  std::string file = section("{}");
  const std::string offset = std::to_string(file.size());
  const auto sections = parse_event_file(bytes_of(file + std::string(100, 'x')));
  ASSERT_FALSE(sections);
  EXPECT_EQ(sections.error(), "section at offset " + offset + ": not an event log");
  file[8] = 2;
  EXPECT_THAT(parse_event_file(bytes_of(file)).error(), HasSubstr("version"));
}

}  // namespace
}  // namespace accede::cli
