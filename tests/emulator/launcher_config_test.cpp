#include "accede/efi/launcher_config.hpp"

#include <gtest/gtest.h>

#include <string>

namespace accede::efi {
namespace {

using Kind = ConfigError::Kind;

LauncherConfig good(std::string_view text) {
  const auto config = parse_launcher_config(text);
  EXPECT_TRUE(config.has_value()) << text;
  return config.value_or(LauncherConfig{});
}

void expect_error(std::string_view text, Kind kind, std::uint32_t line) {
  const auto config = parse_launcher_config(text);
  ASSERT_FALSE(config.has_value()) << text;
  EXPECT_EQ(config.error().kind, kind) << text;
  EXPECT_EQ(config.error().line, line) << text;
}

TEST(LauncherConfig, HasTheDefaultsOfTheContract) {
  for (const std::string_view text : {"", "\n", "\r\n", "# nothing\n", "\n\n#\n"}) {
    const LauncherConfig config = good(text);
    EXPECT_EQ(config.platform, LauncherConfig::Platform::kTdx);
    EXPECT_EQ(config.firmware, LauncherConfig::Firmware::kNever);
    EXPECT_EQ(config.accept_scope, firmware::AcceptanceScope::kBelow4G);
    EXPECT_FALSE(config.hide_handshake);
    EXPECT_FALSE(config.back_with_4k);
    EXPECT_TRUE(config.log_events);
    EXPECT_TRUE(config.stop_on_unaccepted);
    EXPECT_EQ(config.accept_cost_ns, 0U);
    EXPECT_EQ(config.kernel, "\\accede\\kernel.efi");
    EXPECT_FALSE(config.from_disk);
    EXPECT_EQ(config.initrd, "");
    EXPECT_EQ(config.append, "");
  }
}

TEST(LauncherConfig, TakesEveryKey) {
  const LauncherConfig config = good(
      "platform=none\nfirmware=accept-all\nbacking=4k\naccept-cost-ns=1400000\nevents=off\n"
      "unaccepted-touch=exception\nvolume=disk\nkernel=\\k.efi\ninitrd=\\i.img\nappend=console="
      "ttyS0 a=b\n");
  EXPECT_EQ(config.platform, LauncherConfig::Platform::kNone);
  EXPECT_EQ(config.firmware, LauncherConfig::Firmware::kAcceptAll);
  EXPECT_TRUE(config.back_with_4k);
  EXPECT_EQ(config.accept_cost_ns, 1'400'000U);
  EXPECT_FALSE(config.log_events);
  EXPECT_FALSE(config.stop_on_unaccepted);
  EXPECT_TRUE(config.from_disk);
  EXPECT_EQ(config.kernel, "\\k.efi");
  EXPECT_EQ(config.initrd, "\\i.img");
  EXPECT_EQ(config.append, "console=ttyS0 a=b") << "only the first equals sign separates";
}

TEST(LauncherConfig, TakesTheOtherWordOfEveryChoice) {
  const LauncherConfig config =
      good("platform=tdx\nfirmware=never\nbacking=2m\nevents=on\nunaccepted-touch=stop");
  EXPECT_EQ(config.platform, LauncherConfig::Platform::kTdx);
  EXPECT_EQ(config.firmware, LauncherConfig::Firmware::kNever);
  EXPECT_FALSE(config.back_with_4k);
  EXPECT_TRUE(config.log_events);
  EXPECT_TRUE(config.stop_on_unaccepted);
}

TEST(LauncherConfig, TakesTheFirmwareWithTheHandshake) {
  const LauncherConfig config = good("firmware=handshake\nhide-handshake=on");
  EXPECT_EQ(config.firmware, LauncherConfig::Firmware::kHandshake);
  EXPECT_TRUE(config.hide_handshake);
  EXPECT_FALSE(good("hide-handshake=on\nhide-handshake=off").hide_handshake);
}

TEST(LauncherConfig, TakesHowMuchTheFirmwareAccepts) {
  using enum firmware::AcceptanceScope;
  EXPECT_EQ(good("firmware-accept=all").accept_scope, kEverything);
  EXPECT_EQ(good("firmware-accept=min:5\nfirmware-accept=below-4g").accept_scope, kBelow4G);
  const LauncherConfig least = good("firmware-accept=min:536870912");
  EXPECT_EQ(least.accept_scope, kAtLeast);
  EXPECT_EQ(least.accept_at_least, 536'870'912U);
}

TEST(LauncherConfig, TakesTheOtherConfidentialPlatform) {
  EXPECT_EQ(good("platform=snp").platform, LauncherConfig::Platform::kSnp);
}

TEST(LauncherConfig, TakesLinesOfAnyEnd) {
  const LauncherConfig config = good("backing=4k\r\nappend=quiet\r\nevents=off");
  EXPECT_TRUE(config.back_with_4k);
  EXPECT_EQ(config.append, "quiet");
  EXPECT_FALSE(config.log_events);
}

TEST(LauncherConfig, LetsTheLastOfEqualKeysCount) {
  EXPECT_EQ(good("append=one\nappend=two\n").append, "two");
}

TEST(LauncherConfig, KeepsAnEmptyCommandLineAndInitrd) {
  EXPECT_EQ(good("append=\ninitrd=\n").append, "");
}

TEST(LauncherConfig, RefusesALineWithoutEqualsSign) {
  expect_error("backing=4k\nnonsense\n", Kind::kNoEquals, 2);
  expect_error(" \n", Kind::kNoEquals, 1);
}

TEST(LauncherConfig, RefusesAnUnknownKey) {
  expect_error("\n# x\ncolour=red\n", Kind::kUnknownKey, 3);
  expect_error("=x", Kind::kUnknownKey, 1);
  expect_error("force-accept=on", Kind::kUnknownKey, 1);  // the host says that by fw_cfg
  expect_error(" append=x", Kind::kUnknownKey, 1);
  expect_error("APPEND=x", Kind::kUnknownKey, 1);
}

TEST(LauncherConfig, RefusesAValueThatAKeyDoesNotTake) {
  for (const std::string_view line : {"platform=sev",
                                      "platform=",
                                      "firmware=sometimes",
                                      "firmware-accept=",
                                      "firmware-accept=min:",
                                      "firmware-accept=min:512M",
                                      "firmware-accept=min:-1",
                                      "firmware-accept=ALL",
                                      "hide-handshake=",
                                      "backing=1g",
                                      "events=yes",
                                      "unaccepted-touch=1",
                                      "unaccepted-touch=on",
                                      "kernel=",
                                      "accept-cost-ns=",
                                      "accept-cost-ns=-1",
                                      "accept-cost-ns=1.5",
                                      "accept-cost-ns=1ms",
                                      "accept-cost-ns=0x10",
                                      "accept-cost-ns=1000000001",
                                      "accept-cost-ns=99999999999999999999999"}) {
    expect_error(line, Kind::kBadValue, 1);
  }
}

TEST(LauncherConfig, TakesTheLargestCost) {
  EXPECT_EQ(good("accept-cost-ns=1000000000").accept_cost_ns, 1'000'000'000U);
}

TEST(LauncherConfig, ReadsTextThatDoesNotEndInZero) {
  const std::string text = "append=abcdef";
  EXPECT_EQ(good(std::string_view{text}.substr(0, 10)).append, "abc");
}

TEST(LauncherConfig, DescribesEveryError) {
  for (const Kind kind : {Kind::kNoEquals, Kind::kUnknownKey, Kind::kBadValue}) {
    EXPECT_TRUE(describe(kind).starts_with("accede.cfg: "));
    EXPECT_NE(describe(kind), "accede.cfg: unknown error");
  }
}

}  // namespace
}  // namespace accede::efi
