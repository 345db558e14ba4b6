// The hostile host's script by itself: which rule acts when, and how its answers are worded.
#include "accede/host/hostile_script.hpp"

#include "accede/abi/ghcb.hpp"
#include "accede/abi/tdx.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <string_view>

namespace accede::host {
namespace {

PhysRange pages(std::uint64_t begin, std::uint64_t end) {
  return *PhysRange::make(PhysAddr{begin << 12}, PhysAddr{end << 12});
}
HostileAct next(HostileScript& script, HostileEvent event = HostileEvent::kAccept,
                PhysRange where = pages(0, 1)) {
  return script.consult(event, where).act;
}

TEST(HostileScript, WithoutRulesTheHostIsHonest) {
  HostileScript script;
  EXPECT_EQ(next(script), HostileAct::kNothing);
}

TEST(HostileScript, ARuleActsFromItsFirstEventForItsTimes) {
  const std::array rules{HostileRule{.act = HostileAct::kBusy, .first = 2, .times = 2}};
  HostileScript script{rules};
  EXPECT_EQ(next(script), HostileAct::kNothing);
  EXPECT_EQ(next(script), HostileAct::kBusy);
  EXPECT_EQ(next(script), HostileAct::kBusy);
  EXPECT_EQ(next(script), HostileAct::kNothing);
  EXPECT_EQ(script.acted(0), 2U);
}

TEST(HostileScript, ForEverDoesNotEnd) {
  const std::array rules{
      HostileRule{.act = HostileAct::kBusy, .first = 5, .times = HostileRule::kForever}};
  HostileScript script{rules};
  for (unsigned i = 1; i < 1000; ++i) {
    ASSERT_EQ(next(script), i < 5 ? HostileAct::kNothing : HostileAct::kBusy);
  }
}

TEST(HostileScript, OnlyEventsOfItsKindAndPlaceCount) {
  const std::array rules{HostileRule{.act = HostileAct::kBusy, .where = pages(4, 8)}};
  HostileScript script{rules};
  EXPECT_EQ(next(script, HostileEvent::kConvert, pages(4, 8)), HostileAct::kNothing);
  EXPECT_EQ(next(script, HostileEvent::kAccept, pages(8, 9)), HostileAct::kNothing);
  EXPECT_EQ(next(script, HostileEvent::kAccept, pages(3, 4)), HostileAct::kNothing);
  EXPECT_EQ(next(script, HostileEvent::kAccept, pages(0, 512)), HostileAct::kBusy);
}

TEST(HostileScript, TheFirstRuleThatIsDueActsAndTheOthersCountOn) {
  const std::array rules{HostileRule{.act = HostileAct::kBusy},
                         HostileRule{.act = HostileAct::kPretend, .first = 1, .times = 2}};
  HostileScript script{rules};
  EXPECT_EQ(next(script), HostileAct::kBusy);
  EXPECT_EQ(next(script), HostileAct::kPretend);
  EXPECT_EQ(next(script), HostileAct::kNothing);
  EXPECT_EQ(script.acted(1), 1U);
}

TEST(HostileScript, StartingAgainForgetsTheCounts) {
  const std::array rules{HostileRule{.act = HostileAct::kBusy}};
  HostileScript script{rules};
  EXPECT_EQ(next(script), HostileAct::kBusy);
  script.start(rules);
  EXPECT_EQ(script.acted(0), 0U);
  EXPECT_EQ(next(script), HostileAct::kBusy);
  script.start({});
  EXPECT_EQ(next(script), HostileAct::kNothing);
}

TEST(HostileScript, ReplacesThePagesOfTheEventUnlessTold) {
  const std::array rules{
      HostileRule{.act = HostileAct::kReplace},
      HostileRule{.act = HostileAct::kReplace, .first = 2, .target = pages(7, 9)}};
  HostileScript script{rules};
  EXPECT_EQ(script.consult(HostileEvent::kAccept, pages(2, 3)).target, pages(2, 3));
  EXPECT_EQ(script.consult(HostileEvent::kAccept, pages(2, 3)).target, pages(7, 9));
}

TEST(HostileScript, WordsItsAnswersAsTheModuleWould) {
  using abi::tdx::Operand;
  using abi::tdx::Status;
  EXPECT_EQ(accept_lie({}, 0), std::nullopt);
  EXPECT_EQ(accept_lie({.act = HostileAct::kReplace, .value = 0, .target = {}}, 0), std::nullopt);
  EXPECT_EQ(accept_lie({.act = HostileAct::kBusy, .value = 0, .target = {}}, 1),
            abi::tdx::status(Status::kOperandBusy, Operand::kRcx));
  EXPECT_EQ(accept_lie({.act = HostileAct::kAlreadyAccepted, .value = 0, .target = {}}, 1),
            abi::tdx::status(Status::kPageAlreadyAccepted, PageSize::k2M));
  EXPECT_EQ(map_gpa_lie({}, 0x1000, 0x1000).has_value(), false);
  EXPECT_EQ(
      map_gpa_lie({.act = HostileAct::kRetryOutOfRange, .value = 0, .target = {}}, 0x1000, 0x2000)
          ->r11,
      0x4000U);
}

TEST(HostileScript, SpoilsOnlyTheFieldOfTheListThatItNames) {
  using abi::ghcb::PscHeader;
  const std::uint64_t honest = PscHeader::make(3, 9);
  const auto lie = [&](HostileAct act) {
    return psc_header_lie({.act = act, .value = 0, .target = {}}, PscHeader::make(1, 9), honest);
  };
  EXPECT_EQ(lie(HostileAct::kNothing), honest);
  EXPECT_EQ(lie(HostileAct::kListGrown), PscHeader::make(3, 10));
  EXPECT_EQ(lie(HostileAct::kListMovedBack), PscHeader::make(0, 9));
  EXPECT_EQ(lie(HostileAct::kReservedSet), PscHeader::Reserved::set(honest, 1));
}

TEST(HostileScript, EveryEventAndActHasANameOfItsOwn) {
  for (unsigned i = 0; i <= static_cast<unsigned>(HostileEvent::kValidate); ++i) {
    EXPECT_NE(name(static_cast<HostileEvent>(i)), "unknown");
  }
  for (unsigned i = 0; i <= static_cast<unsigned>(HostileAct::kUnchanged); ++i) {
    for (unsigned other = 0; other < i; ++other) {
      EXPECT_NE(name(static_cast<HostileAct>(i)), name(static_cast<HostileAct>(other)));
    }
    EXPECT_NE(name(static_cast<HostileAct>(i)), "unknown");
  }
  EXPECT_EQ(name(static_cast<HostileAct>(200)), "unknown");
}

}  // namespace
}  // namespace accede::host
