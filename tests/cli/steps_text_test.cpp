#include "accede/cli/steps_text.hpp"
#include "tests/cli/made_up_report.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace accede::cli {
namespace {

using emulator::EventKind;
using emulator::Phase;
using test::made_up_header;
using test::made_up_result;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::uint64_t kMiB = 1ULL << 20;

/// The only step of `who` whose text has `what` in it.
std::optional<Step> step(const RunResult& run, std::string_view who, std::string_view what) {
  std::vector<Step> found = steps_of(run);
  std::erase_if(found, [&](const Step& candidate) {
    return candidate.who != who || candidate.what.find(what) == std::string::npos;
  });
  EXPECT_LE(found.size(), 1U) << who << " " << what;
  return found.empty() ? std::nullopt : std::optional{found.front()};
}

std::vector<std::string> parties(const RunResult& run) {
  std::vector<std::string> names;
  for (const Step& each : steps_of(run)) {
    names.push_back(each.who);
  }
  return names;
}

emulator::Event event(EventKind kind, std::uint64_t tsc, std::uint32_t pages, Phase phase = {}) {
  return {.tsc = tsc,
          .gpa = 4ULL << 30,
          .pages = pages,
          .kind = kind,
          .detail = static_cast<std::uint8_t>(phase),
          .vcpu = 0};
}

/// A run whose loader took 0.5 s by the guest's clock, and whose firmware took 2.2 s.
RunResult boot(AcceptMode mode = AcceptMode::kLazy) {
  RunResult run = made_up_result(mode);
  run.kernel_started = 2.2;
  ReportSnapshot& report = *run.at_up->report;
  report.header.tsc_takeover = 7'000'000'000;
  report.events = {event(EventKind::kPhase, 7'100'000'000, 0, Phase::kLoader),
                   event(EventKind::kHostAug, 7'200'000'000, 16384),
                   event(EventKind::kPhase, 7'600'000'000, 0, Phase::kKernel),
                   event(EventKind::kHostAug, 7'700'000'000, 131072)};
  return run;
}

/// `earlier`, and since then `bytes` more accepted by the kernel in `seconds`.
Measurement later(const Measurement& earlier, std::uint64_t bytes, double seconds) {
  Measurement result = earlier;
  emulator::Counters& counters = result.report->header.counters;
  counters.accepted_bytes[2] += bytes;
  counters.accept_ticks[2] += static_cast<std::uint64_t>(seconds * 1e9);
  return result;
}

GuestWork work(std::uint64_t touched, std::uint64_t unaccepted) {
  GuestWork done;
  done.touched = Bytes{touched};
  done.seconds = 6.25;
  done.stopped = "done";
  done.state.unaccepted = Bytes{unaccepted};
  return done;
}

/// `boot`, 1 GiB touched, then a second kernel.
RunResult kexec_run() {
  RunResult run = boot();
  run.label.kexec = true;
  run.work = work(1024 * kMiB, 500 * kMiB);
  run.at_work = later(*run.at_up, 900 * kMiB, 0.75);
  run.kexec_state = run.work->state;
  run.kexec_state->unaccepted = Bytes{490 * kMiB};
  run.kexec_at = 20.0;
  run.at_kexec = later(*run.at_work, 10 * kMiB, 0.01);
  run.second = run.up;
  run.second->unaccepted = Bytes{200 * kMiB};
  run.second_at = 23.5;
  run.at_second = later(*run.at_kexec, (290 + 34) * kMiB, 0.25);
  run.at_second->report->header.counters.to_private_bytes += 34 * kMiB;
  run.at_end = run.at_second;
  run.total = 24;
  return run;
}

/// `boot` that ended early, for `outcome`.
RunResult ended(Outcome outcome) {
  RunResult run = boot();
  run.outcome = outcome;
  run.up.reset();
  run.up_at.reset();
  run.at_end = std::exchange(run.at_up, std::nullopt);
  run.total = 4.5;
  return run;
}

TEST(Steps, FollowTheMemoryFromTheHostToTheKernel) {
  EXPECT_THAT(parties(boot()),
              ElementsAre("host", "host", "host", "firmware", "loader", "kernel", "kernel"));
}

TEST(Steps, TheHostAddsAndLeavesPending) {
  const RunResult run = boot();
  EXPECT_EQ(step(run, "host", "accepted at launch")->bytes, Bytes{2048 * kMiB});
  EXPECT_EQ(step(run, "host", "pending")->bytes, Bytes{2048 * kMiB});
  EXPECT_EQ(step(run, "host", "during the run")->bytes, Bytes{576 * kMiB});
}

TEST(Steps, AFullLogOnlySaysAtLeast) {
  RunResult run = boot();
  EXPECT_THAT(step(run, "host", "during the run")->what, Not(HasSubstr("at least")));
  run.at_up->report->header.event_dropped = 1;
  EXPECT_THAT(step(run, "host", "during the run")->what, HasSubstr("at least"));
}

TEST(Steps, FirmwareThatAcceptsNothingSaysSo) {
  const auto firmware = step(boot(), "firmware", "accepts nothing");
  ASSERT_TRUE(firmware);
  EXPECT_EQ(firmware->bytes, Bytes{0});
  EXPECT_EQ(firmware->seconds, 2.2);
}

TEST(Steps, FirmwareThatAcceptsEverythingHasItsBytes) {
  RunResult run = boot();
  run.label.firmware = FirmwareKind::kAcceptAll;
  run.at_up->report->header.counters.accepted_bytes = {2048 * kMiB, 0, 0};
  EXPECT_EQ(step(run, "firmware", "accepts what is pending")->bytes, Bytes{2048 * kMiB});
}

TEST(Steps, FirmwareThatTheHostForcedHasItsBytesWhateverItsKind) {
  RunResult run = boot();
  run.label.firmware = FirmwareKind::kHandshake;
  run.label.force_accept = true;
  run.at_up->report->header.counters.accepted_bytes = {2048 * kMiB, 0, 0};
  EXPECT_EQ(step(run, "firmware", "accepts what is pending")->bytes, Bytes{2048 * kMiB});
  EXPECT_TRUE(step(run, "loader", "EFI stub: finds nothing unaccepted"));
  EXPECT_FALSE(step(run, "firmware", "at ExitBootServices"));
}

/// `boot`, and the firmware accepts for 0.3 s of the loader's 0.5 s, for nobody promised to.
RunResult accepted_on_the_way_out() {
  RunResult run = boot();
  run.label.firmware = FirmwareKind::kHandshake;
  run.up->unaccepted = Bytes{};
  ReportSnapshot& report = *run.at_up->report;
  report.header.counters.accepted_bytes = {2048 * kMiB, 0, 0};
  report.events = {event(EventKind::kPhase, 7'100'000'000, 0, Phase::kLoader),
                   event(EventKind::kPhase, 7'250'000'000, 0, Phase::kFirmware),
                   event(EventKind::kHostAug, 7'260'000'000, 524288),
                   event(EventKind::kPhase, 7'550'000'000, 0, Phase::kLoader),
                   event(EventKind::kPhase, 7'600'000'000, 0, Phase::kKernel)};
  return run;
}

TEST(Steps, FirmwareAcceptsOnTheWayOutWhatNobodyPromisedTo) {
  const RunResult run = accepted_on_the_way_out();
  EXPECT_THAT(parties(run), ElementsAre("host", "host", "host", "firmware", "loader", "firmware",
                                        "kernel", "kernel"));
  EXPECT_EQ(step(run, "firmware", "accepts nothing that is pending, waits for a promise")->bytes,
            Bytes{0});
  const auto firmware = step(run, "firmware", "at ExitBootServices");
  ASSERT_TRUE(firmware);
  EXPECT_EQ(firmware->bytes, Bytes{2048 * kMiB});
  EXPECT_DOUBLE_EQ(firmware->seconds.value(), 0.3);
  const auto loader = step(run, "loader", "EFI stub: promises nothing");
  ASSERT_TRUE(loader);
  EXPECT_DOUBLE_EQ(loader->seconds.value(), 0.2) << "without the firmware's part";
}

TEST(Steps, APromiseLeavesTheFirmwareNothingToAccept) {
  RunResult run = boot();
  run.label.firmware = FirmwareKind::kHandshake;
  EXPECT_FALSE(step(run, "firmware", "at ExitBootServices"));
  EXPECT_TRUE(step(run, "loader", "EFI stub: builds the unaccepted table"));
}

TEST(Steps, TheLoadersTimeIsTheGuests) {
  const auto loader = step(boot(), "loader", "EFI stub: builds the unaccepted table");
  ASSERT_TRUE(loader);
  EXPECT_EQ(loader->bytes, Bytes{64 * kMiB});
  EXPECT_DOUBLE_EQ(loader->seconds.value(), 0.5);
}

TEST(Steps, WithoutEventLogTheLoadersTimeIsTheHosts) {
  RunResult run = boot();
  run.at_up->report->events.clear();
  EXPECT_DOUBLE_EQ(step(run, "loader", "EFI stub")->seconds.value(), 0.8);
  EXPECT_FALSE(step(run, "host", "during the run"));
  run.kernel_started.reset();
  EXPECT_FALSE(step(run, "loader", "EFI stub")->seconds);
}

TEST(Steps, OurLoaderIsNamed) {
  RunResult run = boot();
  run.label.loader = LoaderKind::kAccede;
  EXPECT_TRUE(step(run, "loader", "accede-loader: builds the unaccepted table"));
}

TEST(Steps, AKernelThatDoesNotKnowUnacceptedMemoryGetsNoTable) {
  RunResult run = boot();
  run.up->unaccepted.reset();
  EXPECT_TRUE(step(run, "loader", "EFI stub: does not know"));
  EXPECT_TRUE(step(run, "kernel", "does not know acceptance"));
  EXPECT_FALSE(step(run, "kernel", "leaves unaccepted"));
  run.label.loader = LoaderKind::kAccede;
  EXPECT_TRUE(step(run, "loader", "accepts all"));
}

TEST(Steps, OurOwnKernelIsItsOwnLoader) {
  RunResult run = boot();
  run.outcome = Outcome::kReady;
  run.label.kernel_kind = KernelKind::kGuest;
  run.label.policy = "background";
  EXPECT_TRUE(step(run, "loader", "the kernel's entry"));
  EXPECT_TRUE(step(run, "kernel", "accepts in the background, until it is ready"));
}

TEST(Steps, TheKernelAcceptsAsItWasTold) {
  const auto lazy = step(boot(), "kernel", "accepts lazily, until user space is up");
  ASSERT_TRUE(lazy);
  EXPECT_EQ(lazy->bytes, Bytes{512 * kMiB});
  EXPECT_DOUBLE_EQ(lazy->seconds.value(), 2.0);
  EXPECT_TRUE(step(boot(AcceptMode::kEager), "kernel", "accepts eagerly"));
}

TEST(Steps, TimeOfAcceptingIsOfTheOneWhoAccepted) {
  RunResult run = boot();
  run.at_up->report->header.counters.accept_ticks = {700'000'000, 0, 400'000'000};
  EXPECT_THAT(step(run, "firmware", "accepts")->what, HasSubstr("(accepting: 0.70 s)"));
  EXPECT_THAT(step(run, "kernel", "lazily")->what, HasSubstr("(accepting: 0.40 s)"));
  run.at_up->report->header.counters.accept_ticks = {0, 500'000'000, 0};
  EXPECT_THAT(step(run, "firmware", "accepts")->what, Not(HasSubstr("accepting:")));
  EXPECT_THAT(step(run, "kernel", "lazily")->what, Not(HasSubstr("accepting:")));
}

/// Firmware that accepts until 512 MiB are usable.
RunResult frugal_boot() {
  RunResult run = boot();
  run.label.firmware_accept = {.scope = firmware::AcceptanceScope::kAtLeast,
                               .at_least = Bytes{512 * kMiB}};
  run.firmware_plan = Bytes{600 * kMiB};
  run.at_up->report->header.counters.accepted_bytes = {600 * kMiB, 0, 100 * kMiB};
  return run;
}

TEST(Steps, FirmwareSaysWhichPlanItFollows) {
  const RunResult run = frugal_boot();
  EXPECT_TRUE(step(run, "host", "adds the memory that the firmware uses"));
  EXPECT_TRUE(step(run, "host", "what the firmware has free"));
  const auto plan =
      step(run, "firmware", "accepts until 512 MiB are usable, and what the loader needs");
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->bytes, Bytes{600 * kMiB});
  EXPECT_FALSE(step(run, "firmware", "at ExitBootServices"));
}

TEST(Steps, FirmwareThatAcceptsTwiceHasItsPlanAndTheRest) {
  RunResult run = frugal_boot();
  run.label.firmware = FirmwareKind::kHandshake;
  run.at_up->report->header.counters.accepted_bytes = {2000 * kMiB, 0, 0};
  EXPECT_EQ(step(run, "firmware", "512 MiB are usable, and what the loader needs, waits")->bytes,
            Bytes{600 * kMiB});
  EXPECT_EQ(step(run, "firmware", "at ExitBootServices")->bytes, Bytes{1400 * kMiB});
  EXPECT_EQ(accepted_at_exit(run), Bytes{1400 * kMiB});
}

TEST(Steps, AFrugalPlanThatTheHostOverrulesIsNotFollowed) {
  RunResult run = frugal_boot();
  run.label.force_accept = true;
  EXPECT_TRUE(step(run, "firmware", "accepts what is pending, for the host wants it"));
  EXPECT_FALSE(step(run, "firmware", "512 MiB"));
  EXPECT_FALSE(leaves_low_memory(run.label));
}

TEST(Steps, WhatTheKernelLeavesIsTheStateAfterTheWorkload) {
  RunResult run = boot();
  EXPECT_EQ(step(run, "kernel", "leaves unaccepted")->bytes, Bytes{1478656ULL << 10});
  run.work = work(1024 * kMiB, 500 * kMiB);
  run.at_work = later(*run.at_up, 900 * kMiB, 0.75);
  EXPECT_EQ(step(run, "kernel", "leaves unaccepted")->bytes, Bytes{500 * kMiB});
}

TEST(Steps, TheWorkloadHasWhatWasAcceptedForIt) {
  const auto touched = step(kexec_run(), "workload", "touches 1 GiB");
  ASSERT_TRUE(touched);
  EXPECT_EQ(touched->bytes, Bytes{900 * kMiB});
  EXPECT_EQ(touched->seconds, 6.25);
  EXPECT_THAT(touched->what, HasSubstr("(accepting: 0.75 s)"));
}

TEST(Steps, TheSecondKernelInheritsTheTable) {
  const RunResult run = kexec_run();
  EXPECT_EQ(step(run, "kexec", "loads the next kernel")->bytes, Bytes{10 * kMiB});
  EXPECT_EQ(step(run, "kexec", "inherits the table")->bytes, Bytes{490 * kMiB});
  EXPECT_EQ(step(run, "kexec", "leaves unaccepted")->bytes, Bytes{200 * kMiB});
  EXPECT_FALSE(step(run, "kernel", "leaves unaccepted"));
}

TEST(Steps, MemoryThatWasSharedIsNotCountedAsTheSecondKernels) {
  const RunResult run = kexec_run();
  EXPECT_EQ(step(run, "kexec", "turns private")->bytes, Bytes{34 * kMiB});
  const auto second = step(run, "kexec", "second kernel accepts, until it is up");
  ASSERT_TRUE(second);
  EXPECT_EQ(second->bytes, Bytes{290 * kMiB});
  EXPECT_DOUBLE_EQ(second->seconds.value(), 3.5);
}

TEST(Steps, TheSecondKernelWorksToo) {
  RunResult run = kexec_run();
  run.second_work = work(1024 * kMiB, 0);
  run.at_end = later(*run.at_second, 200 * kMiB, 0.1);
  EXPECT_EQ(step(run, "workload", "in the second kernel, touches 1 GiB")->bytes, Bytes{200 * kMiB});
  EXPECT_EQ(step(run, "kexec", "leaves unaccepted")->bytes, Bytes{0});
}

TEST(Steps, TheMarkedPageIsTold) {
  RunResult run = kexec_run();
  run.marked_page = "lost";
  EXPECT_TRUE(step(run, "kexec", "marked page that nothing was copied to: lost"));
}

TEST(Steps, AKexecThatDidNotHappenIsSaid) {
  RunResult run = boot();
  run.label.kexec = true;
  EXPECT_TRUE(step(run, "kexec", "did not happen"));
}

TEST(Steps, AFaultInTheJumpEndsTheSteps) {
  RunResult run = kexec_run();
  run.outcome = Outcome::kGuestFault;
  run.second.reset();
  run.second_at.reset();
  run.at_second.reset();
  run.at_end = later(*run.at_kexec, 30 * kMiB, 0.1);
  EXPECT_EQ(steps_of(run).back().what, "jumps, until it broke a rule and was stopped");
  EXPECT_EQ(steps_of(run).back().bytes, Bytes{30 * kMiB});
}

TEST(Steps, AFaultInTheKernelEndsTheSteps) {
  const RunResult run = ended(Outcome::kGuestFault);
  EXPECT_THAT(parties(run), ElementsAre("host", "host", "host", "firmware", "loader", "kernel"));
  EXPECT_THAT(steps_of(run).back().what, HasSubstr("until it broke a rule and was stopped"));
  EXPECT_DOUBLE_EQ(steps_of(run).back().seconds.value(), 1.5);
}

TEST(Steps, AFaultInTheLoaderEndsTheSteps) {
  RunResult run = ended(Outcome::kPanic);
  run.boot_services_exited.reset();
  run.at_end->report->events.resize(2);
  EXPECT_EQ(steps_of(run).back().what, "EFI stub: prepares the kernel, until it gave up");
  EXPECT_DOUBLE_EQ(steps_of(run).back().seconds.value(), 2.3);
}

TEST(Steps, ATimeoutInTheFirmwareEndsTheSteps) {
  RunResult run = ended(Outcome::kTimeout);
  run.kernel_started.reset();
  run.boot_services_exited.reset();
  run.at_end.reset();
  ASSERT_THAT(parties(run), ElementsAre("firmware"));
  EXPECT_THAT(steps_of(run).back().what, HasSubstr("until the time was over"));
  EXPECT_EQ(steps_of(run).back().seconds, 4.5);
  EXPECT_FALSE(steps_of(run).back().bytes);
}

TEST(Steps, AnEndInTheWorkloadIsSaid) {
  RunResult run = boot();
  run.outcome = Outcome::kReset;
  run.at_end = later(*run.at_up, 20 * kMiB, 0.1);
  EXPECT_EQ(steps_of(run).back().what, "goes on, until the VM reset or went off");
  EXPECT_EQ(steps_of(run).back().bytes, Bytes{20 * kMiB});
}

TEST(Steps, AnEfiProgramThatReturnsIsDone) {
  RunResult run = ended(Outcome::kReady);
  run.label.kernel_kind = KernelKind::kEfiProgram;
  run.boot_services_exited.reset();
  EXPECT_EQ(steps_of(run).back().what, "an EFI program runs, accepts, until it is done");
}

TEST(Steps, WithoutEmulatorNobodyAccepts) {
  RunResult run = boot();
  run.label.platform = Platform::kNone;
  run.up->unaccepted = Bytes{0};
  run.at_up->report.reset();
  EXPECT_THAT(parties(run), ElementsAre("host", "firmware", "loader", "kernel"));
  for (const Step& each : steps_of(run)) {
    EXPECT_EQ(each.bytes.has_value(), each.who == "host") << each.what;
    EXPECT_THAT(each.what, Not(HasSubstr("accepts"))) << each.what;
  }
  EXPECT_EQ(steps_of(run).front().bytes, Bytes{4096 * kMiB});
}

TEST(StepsText, IsAligned) {
  RunResult run = kexec_run();
  const std::string text = steps_text(run);
  std::size_t width = 0;
  std::size_t lines = 0;
  for (std::size_t begin = 0; begin < text.size(); ++lines) {
    const std::size_t end = text.find('\n', begin);
    ASSERT_NE(end, std::string::npos);
    width = width == 0 ? end - begin : width;
    EXPECT_EQ(end - begin, width) << text;
    EXPECT_LE(end - begin, 100U) << text;
    begin = end + 1;
  }
  EXPECT_EQ(lines, steps_of(run).size());
}

TEST(StepsText, ReadsWell) {
  RunResult run = made_up_result();
  run.label.platform = Platform::kNone;
  run.kernel_started = 2.5;
  run.at_up.reset();
  EXPECT_EQ(steps_text(run),
            "host      gives the VM its memory; nobody has to accept it  4 GiB       -\n"
            "firmware  starts the machine                                    -  2.50 s\n"
            "loader    EFI stub: starts the kernel                           -  0.50 s\n"
            "kernel    runs, until user space is up                          -  2.00 s\n");
}

}  // namespace
}  // namespace accede::cli
