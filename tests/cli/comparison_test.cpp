// Reports of our own kernel, of several kernels side by side, and of kexec.
#include "accede/cli/result_json.hpp"
#include "accede/cli/result_rows.hpp"
#include "accede/cli/result_sentences.hpp"
#include "accede/cli/result_table.hpp"
#include "accede/cli/steps_text.hpp"
#include "tests/cli/made_up_report.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace accede::cli {
namespace {

using Json = nlohmann::ordered_json;
using test::made_up_result;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

GuestWork made_up_work(std::uint64_t median) {
  GuestWork work{};
  work.touched = Bytes{1ULL << 30};
  work.state.unaccepted = Bytes{1ULL << 20};
  work.stopped = "done";
  work.first_touch = {.count = 5,
                      .p50 = median,
                      .p99 = 2 * median,
                      .p999 = 3 * median,
                      .p9999 = 4 * median,
                      .max = 5 * median,
                      .histogram = {}};
  return work;
}

/// 40 MiB accepted and 30 MiB used, a quarter of a second after its start.
RunResult guest_run(AcceptMode mode = AcceptMode::kLazy) {
  RunResult run = made_up_result();
  run.label.mode = mode;
  run.label.policy = name(mode);
  run.label.kernel = "accede-guest";
  run.label.kernel_kind = KernelKind::kGuest;
  run.outcome = Outcome::kReady;
  run.up_at = 3.25;
  run.total = 4;
  run.up->used = Bytes{30U << 20};
  run.up->page_info = Bytes{12U << 20};
  run.up->accepted = Bytes{38U << 20};
  run.up->table = "efi";
  run.encryption.clear();
  emulator::Counters& counters = run.at_up->report->header.counters;
  counters.accepted_bytes = {0, 2U << 20, 38U << 20};
  counters.accept_calls = {0, 20, 0};
  counters.longest_step_bytes = 2U << 20;
  return run;
}

RunResult linux_run(AcceptMode mode = AcceptMode::kLazy) {
  RunResult run = made_up_result(mode);
  run.label.kernel = "6.12.117+deb12-cloud-amd64";
  return run;
}

RunResult with_kexec(RunResult run) {
  run.label.kexec = true;
  run.kexec_state = run.up;
  run.kexec_state->unaccepted = Bytes{800U << 20};
  run.kexec_at = 10.0;
  run.at_kexec = run.at_up;
  run.second = run.up;
  run.second->unaccepted = Bytes{700U << 20};
  run.second_at = 12.5;
  run.at_second = run.at_up;
  run.at_second->report->header.counters.accepted_bytes[2] += 100U << 20;
  run.marked_page = "kept";
  run.at_end = run.at_second;
  return run;
}

TEST(Comparison, OfGuestAndLinuxIsThisTable) {
  std::vector<RunResult> runs{guest_run(), linux_run()};
  runs[0].work = made_up_work(1000);
  runs[1].work = made_up_work(4000);
  EXPECT_THAT(
      results_text(runs),
      testing::StartsWith(
          R"(accede-guest, 6.12.117+deb12-cloud-amd64 as a TDX guest, 4 GiB, 1 vCPU, QEMU TCG

                            accede-guest lazy  6.12.117 lazy  second / first
outcome                                 ready      userspace
kernel start to ready/init             0.25 s         2.00 s          8.00 x
firmware and loader                    3.00 s         3.00 s          1.00 x
whole run                              4.00 s         5.50 s          1.38 x
RAM the kernel manages               3.82 GiB       3.82 GiB          1.00 x
host memory backed                    900 MiB        900 MiB          1.00 x
memory encryption                           -      Intel TDX
still unaccepted                     1.41 GiB       1.41 GiB          1.00 x
accepted                               40 MiB        576 MiB         14.40 x
  by firmware                               0              0
  by loader                             2 MiB         64 MiB         32.00 x
  by kernel                            38 MiB        512 MiB         13.47 x
used by the kernel                     30 MiB              -
  accepted above that                  10 MiB              -
accept calls 2M / 4K                   20 / 0       288 / 12
longest accept step                     2 MiB          4 MiB          2.00 x
touched by the workload                 1 GiB          1 GiB          1.00 x
  unaccepted after it                   1 MiB          1 MiB          1.00 x
  first touch, median                  1.0 us         4.0 us          4.00 x
  first touch, 99 %                    2.0 us         8.0 us          4.00 x
  first touch, 99.9 %                  3.0 us        12.0 us          4.00 x
  first touch, 99.99 %                 4.0 us        16.0 us          4.00 x
  first touch, longest                 5.0 us        20.0 us          4.00 x

accede-guest is ready 8.0 times as soon as Linux (0.25 s, 2.00 s after their start)
and accepted 1/14 of what Linux did (40 MiB, 576 MiB).
)"));
}

TEST(Comparison, OfFourRunsHasNoRatioAndASentenceForEachPair) {
  const std::vector<RunResult> runs{guest_run(), guest_run(AcceptMode::kEager), linux_run(),
                                    linux_run(AcceptMode::kEager)};
  const std::string text = results_text(runs);
  EXPECT_THAT(text, HasSubstr("accede-guest lazy  accede-guest eager  6.12.117 lazy  "
                              "6.12.117 eager\n"));
  EXPECT_THAT(text, Not(HasSubstr(" x\n")));
  EXPECT_THAT(text, HasSubstr("\naccede-guest: lazy acceptance is ready 1.00 times as fast"));
  EXPECT_THAT(text, HasSubstr("\n6.12.117+deb12-cloud-amd64: lazy acceptance reaches user space "
                              "3.00 times as fast as eager.\n"));
  EXPECT_THAT(text, HasSubstr("(0.25 s, 2.00 s after"));
  EXPECT_THAT(text, HasSubstr("(0.25 s, 6.00 s after"));
}

TEST(Comparison, OfThePoliciesOfOurKernelNamesOnlyThem) {
  const std::vector<RunResult> runs{guest_run(), guest_run(AcceptMode::kEager),
                                    guest_run(AcceptMode::kBackground)};
  const std::string text = results_text(runs);
  EXPECT_THAT(text, HasSubstr("  lazy     eager  background\n"));
  EXPECT_THAT(text, HasSubstr("kernel start to ready "));
  EXPECT_THAT(text, HasSubstr("Lazy acceptance is ready 1.00 times as fast as eager.\n"));
}

TEST(Comparison, SaysWhenOurKernelAcceptedNothingOrMore) {
  std::array runs{guest_run(), linux_run()};
  runs[0].at_up->report->header.counters.accepted_bytes = {0, 0, 0};
  EXPECT_THAT(result_sentences(runs),
              HasSubstr("and accepted nothing, where Linux accepted 576 MiB.\n"));
  runs[0].at_up->report->header.counters.accepted_bytes = {0, 0, 1152U << 20};
  EXPECT_THAT(result_sentences(runs),
              HasSubstr("accepted 2.0 times what Linux did (1.12 GiB, 576 MiB).\n"));
}

TEST(Comparison, SaysNothingOfRunsThatDidNotGetThere) {
  std::array runs{guest_run(), linux_run()};
  runs[0].up_at.reset();
  EXPECT_THAT(result_sentences(runs), IsEmpty());
  runs[0] = guest_run(AcceptMode::kBackground);
  EXPECT_THAT(result_sentences(runs), IsEmpty());
}

TEST(Comparison, WithoutEmulatorComparesTimesOnly) {
  std::array runs{guest_run(), linux_run()};
  for (RunResult& run : runs) {
    run.label.platform = Platform::kNone;
    run.at_up->report.reset();
  }
  const std::string text = results_text(runs);
  EXPECT_THAT(text, HasSubstr("accede-guest no emulator"));
  EXPECT_THAT(text, HasSubstr("is ready 8.0 times as soon as Linux (0.25 s, 2.00 s after their "
                              "start).\n"));
}

TEST(Comparison, SaysWhichLoaderAndThatThereWasAKexec) {
  RunResult run = with_kexec(linux_run());
  run.label.loader = LoaderKind::kAccede;
  EXPECT_THAT(results_text(std::span{&run, 1}),
              HasSubstr("QEMU TCG, started by accede's loader, with kexec\n"));
}

TEST(KexecReport, HasRowsOfItsOwn) {
  const RunResult run = with_kexec(guest_run());
  const std::string text = results_text(std::span{&run, 1});
  EXPECT_THAT(text, HasSubstr("\nkexec to second kernel up    2.50 s\n"
                              "  unaccepted before         800 MiB\n"
                              "  unaccepted after          700 MiB\n"
                              "  accepted meanwhile        100 MiB\n"
                              "  accepted twice                  0\n"
                              "  marked page                  kept\n"));
  EXPECT_EQ(exit_code(run), kExitDone);
}

TEST(KexecReport, SaysInWordsWhatWentWrong) {
  RunResult run = with_kexec(guest_run());
  run.marked_page = "lost";
  run.at_end->report->header.counters.already_accepted = 3;
  run.second_work = made_up_work(1);
  run.second_work->wrong_pages = 4;
  const std::string text = results_text(std::span{&run, 1});
  EXPECT_THAT(text, HasSubstr("did not keep its content through kexec"));
  EXPECT_THAT(text, HasSubstr("was accepted already, 3 times\n"));
  EXPECT_THAT(text, HasSubstr("4 pages did not hold what the second kernel's workload"));
  EXPECT_EQ(exit_code(run), kExitTestedFailed);
}

TEST(KexecReport, EachFailureAloneFails) {
  RunResult run = with_kexec(guest_run());
  run.marked_page = "lost";
  EXPECT_EQ(exit_code(run), kExitTestedFailed);
  run = with_kexec(guest_run());
  run.at_end->report->header.counters.already_accepted = 1;
  EXPECT_EQ(exit_code(run), kExitTestedFailed);
  run = with_kexec(guest_run());
  run.second_work = made_up_work(1);
  run.second_work->wrong_pages = 1;
  EXPECT_EQ(exit_code(run), kExitTestedFailed);
}

TEST(KexecReport, DoubleAcceptsBeforeTheJumpAreTheFirstKernels) {
  RunResult run = with_kexec(guest_run());
  for (auto* const measured : {&run.at_kexec, &run.at_second, &run.at_end}) {
    (*measured)->report->header.counters.already_accepted = 2;
  }
  EXPECT_EQ(double_accepts(run), 0U);
  EXPECT_EQ(exit_code(run), kExitDone);
}

TEST(KexecReport, SaysWhereAFaultHappened) {
  RunResult run = with_kexec(guest_run());
  run.outcome = Outcome::kGuestFault;
  run.fault = Fault{.kind = "unaccepted-access", .gpa = "", .rip = "", .state = "", .message = ""};
  EXPECT_THAT(results_text(std::span{&run, 1}), HasSubstr("It happened in the second kernel.\n"));
  run.second_at.reset();
  EXPECT_THAT(results_text(std::span{&run, 1}), HasSubstr("It happened after the jump"));
}

TEST(KexecReport, IsAnObjectOfTheJson) {
  RunResult run = with_kexec(guest_run());
  run.second_work = made_up_work(1);
  const Json json = Json::parse(run_json(run));
  EXPECT_EQ(json["kexec"]["unaccepted_before_bytes"], 800U << 20);
  EXPECT_EQ(json["kexec"]["unaccepted_after_bytes"], 700U << 20);
  EXPECT_EQ(json["kexec"]["accepted_bytes"], 100U << 20);
  EXPECT_EQ(json["kexec"]["double_accepts"], 0);
  EXPECT_DOUBLE_EQ(json["kexec"]["seconds"], 2.5);
  EXPECT_EQ(json["kexec"]["marked_page"], "kept");
  EXPECT_EQ(json["kexec"]["work"]["touched_bytes"], 1U << 30);
}

TEST(KexecReport, IsNullWhenNothingOfTheKindWasAskedFor) {
  EXPECT_TRUE(Json::parse(run_json(guest_run()))["kexec"].is_null());
}

TEST(KexecReport, HasItsFieldsWhenTheJumpNeverCame) {
  RunResult run = linux_run();
  run.label.kexec = true;
  const Json kexec = Json::parse(run_json(run))["kexec"];
  for (const char* const field : {"unaccepted_before_bytes", "unaccepted_after_bytes",
                                  "accepted_bytes", "double_accepts", "seconds", "marked_page"}) {
    ASSERT_TRUE(kexec.contains(field)) << field;
    EXPECT_TRUE(kexec[field].is_null()) << field;
  }
}

TEST(GuestReport, AddsWhatOnlyOurKernelKnows) {
  const Json json = Json::parse(run_json(guest_run(AcceptMode::kBackground)));
  EXPECT_EQ(json["accept_mode"], "background");
  EXPECT_EQ(json["kernel"], "accede-guest");
  EXPECT_EQ(json["loader"], "stub");
  EXPECT_EQ(json["outcome"], "ready");
  EXPECT_EQ(json["guest"]["used_bytes"], 30U << 20);
  EXPECT_EQ(json["guest"]["page_info_bytes"], 12U << 20);
  EXPECT_EQ(json["guest"]["accepted_bytes"], 38U << 20);
  EXPECT_EQ(json["guest"]["table"], "efi");
  EXPECT_DOUBLE_EQ(json["seconds"]["kernel_to_init"], 0.25);
}

TEST(GuestReport, LinuxSaysNothingOfTheKind) {
  RunResult run = linux_run();
  run.label.loader = LoaderKind::kAccede;
  const Json json = Json::parse(run_json(run));
  EXPECT_EQ(json["loader"], "accede");
  for (const char* const field : {"used_bytes", "page_info_bytes", "accepted_bytes", "table"}) {
    EXPECT_FALSE(json["guest"].contains(field)) << field;
  }
}

TEST(StepsReport, IsThereOnlyWhenAskedFor) {
  const std::array runs{guest_run()};
  EXPECT_FALSE(Json::parse(results_json(runs)).contains("steps"));
  const Json steps = Json::parse(results_json(runs, true))["steps"];
  const auto expected = steps_of(runs[0]);
  ASSERT_EQ(steps.size(), expected.size());
  ASSERT_FALSE(steps.empty());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(steps[i]["who"], expected[i].who);
    EXPECT_EQ(steps[i]["what"], expected[i].what);
    EXPECT_EQ(steps[i]["bytes"].is_null(), !expected[i].bytes);
    EXPECT_EQ(steps[i]["seconds"].is_null(), !expected[i].seconds);
  }
}

TEST(StepsReport, StandsBelowTheTableWithItsColumn) {
  const std::vector<RunResult> runs{guest_run(), linux_run()};
  const std::string text = results_text(runs, true);
  EXPECT_THAT(text, HasSubstr("\naccede-guest lazy\n" + steps_text(runs[0])));
  EXPECT_THAT(text, HasSubstr("\n6.12.117 lazy\n" + steps_text(runs[1])));
  EXPECT_THAT(results_text(runs), Not(HasSubstr(steps_text(runs[0]))));
}

}  // namespace
}  // namespace accede::cli
