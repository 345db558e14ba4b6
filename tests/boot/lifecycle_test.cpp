// The command's conduct: idle guests, guests that hang or panic, interruptions, bad input.

#include "tests/boot/accede_run.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <fstream>
#include <iostream>
#include <string>
#include <thread>

namespace accede::test {
namespace {

const std::string kInitUp = R"("step":"up")";

/// Share of one host CPU that a process uses over `time`.
double cpu_share(pid_t pid, Seconds time) {
  const auto begin = std::chrono::steady_clock::now();
  const Seconds used = cpu_time(pid).value_or(Seconds{0});
  std::this_thread::sleep_for(time);
  const Seconds now_used = cpu_time(pid).value_or(used);
  const Seconds passed = std::chrono::steady_clock::now() - begin;
  return (now_used - used) / passed;
}

TEST(IdleGuest, LeavesTheHostCpuIdle) {
  // The init reports and then sleeps for ever.
  const auto begin = std::chrono::steady_clock::now();
  AccedeBoot process{
      {"--kernel", "debian-6.12", "--append", "accede.exit=hang", "--timeout", "120"}};
  if (!process.wait_for_console(kInitUp, Seconds{90})) {
    process.wait(Seconds{0});
    if (process.errors().find("offers no package") != std::string::npos) {
      GTEST_SKIP() << process.errors();
    }
    FAIL() << process.errors() << process.console();
  }
  const auto vm = process.qemu();
  ASSERT_TRUE(vm.has_value());
  const Seconds booting = std::chrono::steady_clock::now() - begin;
  const double busy = cpu_time(*vm).value_or(Seconds{0}) / booting;
  std::this_thread::sleep_for(std::chrono::seconds{3});
  const double idle = cpu_share(*vm, Seconds{3});
  std::cout << "share of a host CPU: booting " << busy << ", idle " << idle << std::endl;
  EXPECT_LT(idle, 0.25);
  EXPECT_LT(idle * 3, busy) << "booting is work, waiting is none";
  process.signal_group(SIGINT);
  EXPECT_TRUE(process.wait(Seconds{20}));
}

TEST(HangingGuest, EndsWithATimeOutAndTheLastConsoleLines) {
  const Boot result =
      boot({"--kernel", probe_path(), "--append", "probe=hang", "--timeout", "15"}, Seconds{40});
  EXPECT_EQ(result.exit_code, 4) << result;
  EXPECT_EQ(result.text("/outcome"), "timeout") << result;
  EXPECT_NEAR(result.number("/seconds/total"), 15, 3);
  EXPECT_NE(result.at("/console_tail").dump().find("hanging as asked"), std::string::npos)
      << result.at("/console_tail");
}

TEST(PanickingGuest, IsAFailureThatShowsThePanic) {
  const Boot result = boot({"--kernel", "debian-6.12", "--append", "accede.exit=panic"});
  if (const auto reason = missing_kernel(result)) {
    GTEST_SKIP() << *reason;
  }
  EXPECT_EQ(result.exit_code, 1) << result;
  EXPECT_EQ(result.text("/outcome"), "panic") << result;
  EXPECT_NE(result.text("/message").find("Attempted to kill init"), std::string::npos) << result;
  EXPECT_TRUE(result.console_has("Kernel Offset: 0x")) << "addresses are randomised by default\n"
                                                       << result;
}

/// Interrupts a boot once the firmware runs.
void expect_clean_end(int signal) {
  AccedeBoot process{{"--kernel", probe_path(), "--append", "probe=hang", "--timeout", "60"}};
  ASSERT_TRUE(process.wait_for_console("probe: hanging", Seconds{50})) << process.console();
  const auto vm = process.qemu();
  ASSERT_TRUE(vm.has_value());
  EXPECT_FALSE(process.left_behind().empty()) << "the boot uses a temporary directory";
  process.signal_group(signal);
  EXPECT_TRUE(process.wait(Seconds{10}));
  EXPECT_EQ(process.exit_code(), 128 + signal);
  EXPECT_FALSE(is_running(*vm)) << "a stray QEMU";
  EXPECT_TRUE(process.left_behind().empty()) << process.left_behind().front();
}

TEST(Interruption, OfTheTerminalLeavesNothingBehind) {
  expect_clean_end(SIGINT);
}

TEST(Interruption, OfASupervisorLeavesNothingBehind) {
  expect_clean_end(SIGTERM);
}

TEST(Interruption, RightAfterTheStartLeavesNothingBehind) {
  AccedeBoot process{{"--kernel", probe_path(), "--append", "probe=hang", "--timeout", "60"}};
  std::this_thread::sleep_for(std::chrono::milliseconds{150});
  process.signal_group(SIGINT);
  EXPECT_TRUE(process.wait(Seconds{10}));
  EXPECT_FALSE(process.qemu().has_value());
  EXPECT_TRUE(process.left_behind().empty());
}

TEST(Interruption, ByDeathTakesTheVmAlong) {
  AccedeBoot process{{"--kernel", probe_path(), "--append", "probe=hang", "--timeout", "60"}};
  ASSERT_TRUE(process.wait_for_console("probe: hanging", Seconds{50})) << process.console();
  const auto vm = process.qemu();
  ASSERT_TRUE(vm.has_value());
  process.signal_group(SIGKILL);
  EXPECT_TRUE(process.wait(Seconds{10}));
  for (int i = 0; i < 100 && is_running(*vm); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds{50});
  }
  EXPECT_FALSE(is_running(*vm)) << "a stray QEMU";
}

// --- Bad input
// --------------------------------------------------------------------------------------

/// One line on standard error, exit code 2, and no VM.
void expect_usage_error(const std::vector<std::string>& options, const std::string& names) {
  SCOPED_TRACE(names);
  const Boot result = boot(options, Seconds{20});
  EXPECT_EQ(result.exit_code, 2) << result;
  EXPECT_NE(result.errors.find(names), std::string::npos) << result.errors;
  EXPECT_EQ(std::count(result.errors.begin(), result.errors.end(), '\n'), 1) << result.errors;
  EXPECT_TRUE(result.json.is_null()) << result.json;
}

TEST(BadInput, OfAnOptionIsOneClearLine) {
  expect_usage_error({"--memory", "512M"}, "--memory");
  expect_usage_error({"--memory", "600G"}, "--memory");
  expect_usage_error({"--memory", "lots"}, "--memory");
  expect_usage_error({"--accept", "sometimes"}, "--accept");
  expect_usage_error({"--platform", "sgx"}, "--platform");
  expect_usage_error({"--backing", "1g"}, "--backing");
  expect_usage_error({"--accept-cost", "cheap"}, "--accept-cost");
  expect_usage_error({"--timeout", "never"}, "--timeout");
  expect_usage_error({"--strict"}, "not yet");
  expect_usage_error({"--vcpus", "2"}, "not yet");
}

TEST(BadInput, OfAKernelOrInitrdIsOneClearLine) {
  const Scratch scratch;
  const std::string text = scratch / "text";
  std::ofstream{text} << "this is no kernel, and it is long enough to be read as one: "
                      << std::string(8192, 'x');
  expect_usage_error({"--kernel", text}, text);
  const std::string empty = scratch / "empty";
  std::ofstream{empty};
  expect_usage_error({"--kernel", empty}, empty);
  const std::string truncated = scratch / "truncated";
  std::ifstream probe{probe_path(), std::ios::binary};
  std::string head(20'000, '\0');
  probe.read(head.data(), static_cast<std::streamsize>(head.size()));
  std::ofstream{truncated, std::ios::binary} << head;
  expect_usage_error({"--kernel", truncated}, truncated);
  expect_usage_error({"--kernel", probe_path(), "--initrd", scratch / "nothing"}, "nothing");
}

TEST(BadInput, OfAnUnknownKernelNameSaysWhatIsMissing) {
  const Boot result = boot({"--kernel", "debian-4.2"}, Seconds{30});
  EXPECT_EQ(result.exit_code, 3) << result;
  EXPECT_NE(result.errors.find("debian-4.2"), std::string::npos) << result.errors;
}

}  // namespace
}  // namespace accede::test
