// What boots of an image show, from made-up boots.
#include "accede/cli/inspect_boot.hpp"

#include "accede/inspect/claims.hpp"
#include "accede/inspect/inspect.hpp"
#include "tests/cli/made_up_report.hpp"
#include "tests/inspect/made_up.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace accede::cli {
namespace {

using image::Knows;
using inspect::Feature;
using inspect::Report;
using testing::Contains;
using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr std::uint64_t kLazy = 2ULL << 30;
constexpr auto kFirmware = static_cast<std::size_t>(emulator::Phase::kFirmware);
constexpr auto kKernel = static_cast<std::size_t>(emulator::Phase::kKernel);

emulator::Counters& counters(RunResult& run) {
  return run.at_up->report->header.counters;
}

/// A kernel that accepts, on firmware with the handshake.
RunResult accepting(Platform platform = Platform::kTdx) {
  RunResult run = platform == Platform::kTdx ? test::made_up_result() : test::made_up_snp_result();
  run.label.firmware = FirmwareKind::kHandshake;
  return run;
}

/// A kernel that knows neither acceptance nor TDX.
RunResult old_kernel(Platform platform, FirmwareKind firmware) {
  RunResult run = accepting(platform);
  run.label.firmware = firmware;
  run.up->release = "6.1.1-made-up";
  run.up->unaccepted = std::nullopt;
  counters(run).accepted_bytes = {};
  if (platform == Platform::kTdx) {
    run.encryption.clear();
    counters(run).vmcall = {};
    counters(run).vmcall[static_cast<std::size_t>(emulator::VmcallSlot::kReadMsr)] = 900;
  } else {
    // Pages that were shared for a while.
    counters(run).accepted_bytes[kKernel] = counters(run).rescinded_bytes;
  }
  if (firmware == FirmwareKind::kHandshake) {
    counters(run).accepted_bytes[kFirmware] = kLazy;
  } else {
    run.up->ram = Bytes{kLazy};
  }
  return run;
}

std::vector<RunResult> old_kernel_everywhere() {
  std::vector<RunResult> runs;
  for (const Platform platform : {Platform::kTdx, Platform::kSnp}) {
    runs.push_back(old_kernel(platform, FirmwareKind::kHandshake));
    runs.push_back(old_kernel(platform, FirmwareKind::kNever));
  }
  return runs;
}

Report image_of(const inspect::test::Features& features) {
  return inspect::inspect(inspect::test::bzimage(features)).value();
}

TEST(SeeRuns, AKernelThatAcceptsOnBothPlatforms) {
  const std::vector runs{accepting(Platform::kTdx), accepting(Platform::kSnp)};
  EXPECT_THAT(inspect::tags_of(see_runs(runs)),
              ElementsAre("KERNEL_6_12", "SEV_CAPABLE", "SEV_SNP_CAPABLE", "TDX_CAPABLE",
                          "UEFI_COMPATIBLE", "UNACCEPTED_MEMORY", "X86_64"));
  EXPECT_TRUE(see_runs(runs).has(Feature::kHandshake));
  EXPECT_THAT(compare(image_of({}), runs), IsEmpty());
}

TEST(SeeRuns, AKernelThatAcceptsNothing) {
  const auto runs = old_kernel_everywhere();
  const Report seen = see_runs(runs);
  EXPECT_THAT(inspect::tags_of(seen), ElementsAre("KERNEL_6_1", "SEV_CAPABLE", "SEV_SNP_CAPABLE",
                                                  "UEFI_COMPATIBLE", "X86_64"));
  for (const Feature feature :
       {Feature::kTdxGuest, Feature::kUnacceptedMemory, Feature::kUnacceptedMemoryTdx,
        Feature::kUnacceptedMemorySnp, Feature::kHandshake}) {
    EXPECT_EQ(seen[feature].value, Knows::kNo) << to_string(feature);
  }
  EXPECT_THAT(compare(image_of(inspect::test::old_features()), runs), IsEmpty());
}

TEST(SeeRuns, PagesThatAnSnpGuestValidatesAgainAreNotAccepted) {
  std::vector runs{old_kernel(Platform::kSnp, FirmwareKind::kNever)};
  EXPECT_EQ(see_runs(runs)[Feature::kUnacceptedMemorySnp].value, Knows::kNo);
  counters(runs[0]).accepted_bytes[kKernel] += 2ULL << 20;
  EXPECT_EQ(see_runs(runs)[Feature::kUnacceptedMemorySnp].value, Knows::kYes);
}

TEST(SeeRuns, OnePlatformSaysNothingOfTheOther) {
  const std::vector runs{old_kernel(Platform::kTdx, FirmwareKind::kNever)};
  const Report seen = see_runs(runs);
  EXPECT_EQ(seen[Feature::kUnacceptedMemoryTdx].value, Knows::kNo);
  EXPECT_EQ(seen[Feature::kUnacceptedMemory].value, Knows::kUnknown);
  EXPECT_EQ(seen[Feature::kSnpGuest].value, Knows::kUnknown);
}

TEST(SeeRuns, WhatDidNotComeUpRefutesNothing) {
  auto run = old_kernel(Platform::kTdx, FirmwareKind::kNever);
  run.outcome = Outcome::kPanic;
  const Report seen = see_runs(std::vector{run});
  EXPECT_EQ(seen[Feature::kTdxGuest].value, Knows::kUnknown);
  EXPECT_EQ(seen[Feature::kUnacceptedMemoryTdx].value, Knows::kUnknown);
}

TEST(SeeRuns, ASilentConsoleLeavesWhatTheEmulatorCounts) {
  for (const Platform platform : {Platform::kTdx, Platform::kSnp}) {
    auto run = accepting(platform);
    run.outcome = Outcome::kTimeout;
    run.up.reset();
    run.encryption.clear();
    const Report seen = see_runs(std::vector{run});
    const bool tdx = platform == Platform::kTdx;
    EXPECT_TRUE(seen.has(tdx ? Feature::kTdxGuest : Feature::kSnpGuest));
    EXPECT_TRUE(seen.has(Feature::kUnacceptedMemory));
    EXPECT_TRUE(seen.has(Feature::kHandshake));
    EXPECT_EQ(seen.version, "");
  }
}

TEST(SeeRuns, AnImageThatNeverLeftBootServicesShowsNothing) {
  auto run = old_kernel(Platform::kTdx, FirmwareKind::kHandshake);
  run.boot_services_exited.reset();
  run.outcome = Outcome::kPanic;
  EXPECT_THAT(inspect::tags_of(see_runs(std::vector{run})), ElementsAre("KERNEL_6_1"));
  EXPECT_EQ(see_runs(std::vector{run})[Feature::kHandshake].value, Knows::kUnknown);
}

TEST(SeeRuns, FirmwareThatNeverAcceptsIsNeededWhereTheOtherAcceptedEverything) {
  EXPECT_FALSE(needs_unhelpful_firmware(accepting()));
  EXPECT_TRUE(needs_unhelpful_firmware(old_kernel(Platform::kTdx, FirmwareKind::kHandshake)));
  EXPECT_FALSE(needs_unhelpful_firmware(old_kernel(Platform::kTdx, FirmwareKind::kNever)));
}

TEST(Compare, AnImageThatClaimsWhatItsBootDoesNotShow) {
  const auto found = compare(image_of({}), old_kernel_everywhere());
  for (const char* const subject : {"tdx_guest", "unaccepted_memory", "unaccepted_memory_tdx",
                                    "unaccepted_memory_snp", "handshake"}) {
    EXPECT_THAT(found, Contains(testing::AllOf(Field(&Disagreement::subject, subject),
                                               Field(&Disagreement::image, "yes"),
                                               Field(&Disagreement::boot, HasSubstr("no: ")))))
        << subject;
  }
  EXPECT_THAT(found, Contains(Field(&Disagreement::subject, "version")));
}

TEST(Compare, AnImageThatHidesWhatItsBootShows) {
  const auto found =
      compare(image_of(inspect::test::old_features()), std::vector{accepting(Platform::kTdx)});
  EXPECT_THAT(found,
              Contains(testing::AllOf(
                  Field(&Disagreement::subject, "tdx_guest"), Field(&Disagreement::image, "no"),
                  Field(&Disagreement::boot, "yes: says: Intel TDX (tdx, handshake)"))));
}

TEST(Compare, AGuestThatDoesNotComeUpBreaksAPromise) {
  auto run = accepting();
  run.outcome = Outcome::kPanic;
  run.message = "no memory";
  ASSERT_THAT(compare(image_of({}), std::vector{run}), SizeIs(1));
  EXPECT_EQ(compare(image_of({}), std::vector{run})[0].boot, "panic: no memory");
  // Nobody promised that an old kernel runs as a TD.
  EXPECT_THAT(compare(image_of({.tdx = false, .release = "6.12.1-made-up"}), std::vector{run}),
              testing::Not(Contains(Field(&Disagreement::subject, HasSubstr("boot")))));
}

TEST(Compare, TimeThatRanOutIsNoDisagreement) {
  auto run = accepting();
  run.outcome = Outcome::kTimeout;
  EXPECT_THAT(compare(image_of({}), std::vector{run}), IsEmpty());
}

TEST(Compare, MemoryThatAGuestDoesNotSeeBreaksAPromise) {
  auto run = accepting();
  run.up->ram = Bytes{kLazy};
  const auto found = compare(image_of({}), std::vector{run});
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_EQ(found[0].subject, "boot (tdx, handshake)");
  EXPECT_EQ(found[0].boot, "does not see 1.98 GiB of 4 GiB");
  // A kernel that does not say that it accepts loses what firmware that never accepts left.
  EXPECT_THAT(compare(image_of(inspect::test::old_features()),
                      std::vector{old_kernel(Platform::kSnp, FirmwareKind::kNever)}),
              IsEmpty());
}

TEST(Compare, WhatTheImageDoesNotSayIsNoDisagreement) {
  EXPECT_THAT(compare(inspect::report_of_disk({}), old_kernel_everywhere()), IsEmpty());
}

TEST(WithBoots, TheBootCounts) {
  BootedImage booted{.runs = old_kernel_everywhere()};
  booted.seen = see_runs(booted.runs);
  const Report known = with_boots(image_of({}), booted);
  EXPECT_THAT(inspect::tags_of(known), ElementsAre("KERNEL_6_1", "SEV_CAPABLE", "SEV_SNP_CAPABLE",
                                                   "UEFI_COMPATIBLE", "X86_64"));
  EXPECT_THAT(inspect::check_claims(known, std::vector<std::string>{"TDX_CAPABLE"}).wrong,
              ElementsAre("TDX_CAPABLE"));
}

TEST(BootOutput, IsThatOfTheContract) {
  BootedImage booted{.runs = old_kernel_everywhere()};
  booted.seen = see_runs(booted.runs);
  booted.disagreements = compare(image_of({}), booted.runs);
  const auto json = boot_json(booted);
  EXPECT_EQ(json["problem"], nullptr);
  EXPECT_THAT(json["tags"].get<std::vector<std::string>>(), Contains("KERNEL_6_1"));
  EXPECT_THAT(json["refuted"].get<std::vector<std::string>>(),
              ElementsAre("TDX_CAPABLE", "UNACCEPTED_MEMORY"));
  EXPECT_EQ(json["runs"].size(), 4U);
  EXPECT_EQ(json["runs"][0]["by_firmware_bytes"], kLazy);
  EXPECT_EQ(json["disagreements"].size(), booted.disagreements.size());
  EXPECT_EQ(json["evidence"][0]["capability"], "sev_guest");
  std::string text;
  for (const auto& [name, value] : boot_rows(booted)) {
    text += name + ": " + value + "\n";
  }
  EXPECT_THAT(text, HasSubstr("boot: tdx, handshake: userspace, of 2 GiB the firmware accepted 2 "
                              "GiB, the image 0"));
  EXPECT_THAT(text, HasSubstr("disagreement: tdx_guest: the image says yes, the boot no: "));
}

TEST(BootOutput, SaysWhyNothingWasBooted) {
  const BootedImage booted{.problem = "firmware is not started"};
  EXPECT_EQ(boot_json(booted)["problem"], "firmware is not started");
  EXPECT_EQ(boot_json(booted)["runs"].size(), 0U);
  EXPECT_THAT(boot_rows(booted), ElementsAre(std::pair<std::string, std::string>{
                                     "not booted", "firmware is not started"}));
}

}  // namespace
}  // namespace accede::cli
