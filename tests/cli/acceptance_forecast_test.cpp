// What the command says before a boot about the firmware's acceptance.
#include "accede/cli/acceptance_forecast.hpp"

#include "accede/firmware/loader_room.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace accede::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr LoaderFiles kFiles{.kernel = 12_MiB, .initrd = 1_MiB};

BootOptions options(const std::string& accept, const std::string& memory = "12G") {
  RawBootOptions raw;
  raw.memory = memory;
  raw.firmware_accept = accept;
  raw.accept_cost = "1ms";
  return check_boot_options(raw).value();
}

std::optional<AcceptanceForecast> forecast(const BootOptions& options, bool at_exit = false) {
  return forecast_acceptance(options, kFiles, at_exit);
}

TEST(AcceptanceForecast, EverythingIsWhatLiesAbove4GOfQemusMachine) {
  const auto all = forecast(options("all"));
  ASSERT_TRUE(all);
  EXPECT_EQ(all->accepted, 10_GiB) << "2 GiB lie below";
  EXPECT_DOUBLE_EQ(all->seconds, 5.12) << "1 ms for each 2 MiB";
}

TEST(AcceptanceForecast, ASmallMachineHasNothingAbove4G) {
  EXPECT_FALSE(forecast(options("all", "2G")));
  const auto low = forecast(options("min:2G", "2G"));
  ASSERT_TRUE(low);
  EXPECT_LT(low->accepted, 2_GiB) << "what the firmware uses is accepted";
  EXPECT_GT(low->accepted, 1900_MiB);
}

TEST(AcceptanceForecast, ThePlanOfShippedFirmwareAcceptsNothingMore) {
  EXPECT_FALSE(forecast(options("below-4g")));
}

TEST(AcceptanceForecast, AtLeastCountsTheLoadersRoomAndNotWhatIsInUse) {
  const auto least = forecast(options("min:512M"));
  ASSERT_TRUE(least);
  const Bytes room = firmware::loader_room(kFiles.kernel, kFiles.initrd);
  EXPECT_GT(least->accepted, 450_MiB + room);
  EXPECT_LT(least->accepted, 514_MiB + room);
}

TEST(AcceptanceForecast, WhoeverAcceptsAllOfItLeavesNoPlanToFollow) {
  BootOptions plan = options("min:512M");
  plan.force_accept = true;
  EXPECT_EQ(forecast(plan)->accepted, 10_GiB) << "as the launcher does: below 4 GiB at launch";
  EXPECT_GT(forecast(options("min:512M"), /*at_exit=*/true)->accepted, 11_GiB)
      << "first the plan, then the rest";
  EXPECT_EQ(forecast(options("below-4g"), /*at_exit=*/true)->accepted, 10_GiB);
}

TEST(AcceptanceForecast, NobodyKnowsWithoutAModelledCostOrWithoutAPlatform) {
  BootOptions real = options("all");
  real.accept_cost.reset();
  EXPECT_FALSE(forecast(real));
  BootOptions plain = options("all");
  plain.platform = Platform::kNone;
  EXPECT_FALSE(forecast(plain));
}

TEST(AcceptanceForecast, Regression_K01_ATimeOutThatCannotBeMetIsSaidBeforeTheBoot) {
  BootOptions large = options("all", "64G");
  large.timeout = std::chrono::seconds{31};
  const auto all = forecast(large);
  ASSERT_TRUE(all);
  EXPECT_DOUBLE_EQ(all->seconds, 31.744);
  EXPECT_THAT(
      describe(*all, large),
      HasSubstr("62 GiB, which takes 31.74 s: longer than the run may take (--timeout 31)"));
  large.timeout = std::chrono::seconds{32};
  EXPECT_THAT(describe(*all, large), Not(HasSubstr("longer")));
  large.firmware_accept = {.scope = firmware::AcceptanceScope::kAtLeast, .at_least = 1_GiB};
  EXPECT_LT(forecast(large)->seconds, 0.6) << "the policy that meets it";
}

TEST(AcceptedByWriting, IsWhatThePlanSaysUnlessSomebodyAcceptsAll) {
  const RunPlan plan{.mode = AcceptMode::kLazy,
                     .kernel = "/boot/vmlinuz",
                     .image = {.kind = KernelKind::kGuest, .version = "guest"},
                     .initrd = ""};
  BootOptions some = options("min:512M");
  EXPECT_EQ(accepted_by_writing(some, plan), Bytes{0}) << "time passes instead";
  some.accept_cost.reset();
  EXPECT_EQ(accepted_by_writing(some, plan), 512_MiB);
  BootOptions all = options("all");
  all.accept_cost.reset();
  EXPECT_EQ(accepted_by_writing(all, plan), 12_GiB);
  RunPlan eager = plan;
  eager.mode = AcceptMode::kEager;
  EXPECT_EQ(accepted_by_writing(some, eager), 12_GiB);
}

}  // namespace
}  // namespace accede::cli
