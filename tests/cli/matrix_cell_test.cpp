// What a boot of the matrix came to, and whether that was predicted.
#include "accede/cli/matrix_cell.hpp"

#include "tests/cli/made_up_matrix.hpp"
#include "tests/cli/made_up_report.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace accede::cli {
namespace {

using test::fast;
using test::figures;
using test::kPending;
using test::limited;
using test::panicked;
using test::slow;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Optional;

constexpr Bytes kLittle{kNoticeable.value() - 1};

TEST(MatrixFigures, AreThoseOfTheBoot) {
  RunResult result = test::made_up_result();
  result.at_up->report->header.violation_slots = 3;
  const CellFigures made = figures_of(result);
  EXPECT_EQ(made.outcome, Outcome::kUserspace);
  EXPECT_EQ(made.broken_rules, 3U);
  EXPECT_EQ(made.kernel, "6.12.1-made-up");
  EXPECT_EQ(made.encryption, "Intel TDX");
  EXPECT_EQ(made.seconds, 5.0);
  EXPECT_EQ(made.kernel_to_init, 2.0);
  EXPECT_EQ(made.mem_total, Bytes{4106096640});
  EXPECT_EQ(made.lost, Bytes{4U << 20});
  ASSERT_TRUE(made.accepted);
  EXPECT_EQ(made.accepted->pending, Bytes{2ULL << 30});
  EXPECT_EQ(made.accepted->by_firmware, Bytes{});
  EXPECT_EQ(made.accepted->by_kernel, Bytes{512U << 20});
  EXPECT_EQ(made.accepted->total, Bytes{576U << 20});
}

TEST(MatrixFigures, OfAFailedBootSayWhyAndHowLongItTook) {
  RunResult result = test::made_up_result();
  result.outcome = Outcome::kPanic;
  result.message = "out of memory";
  result.up.reset();
  result.up_at.reset();
  result.total = 3.5;
  const CellFigures made = figures_of(result);
  EXPECT_EQ(made.message, "out of memory");
  EXPECT_EQ(made.seconds, 3.5);
  EXPECT_FALSE(made.mem_total);
  EXPECT_FALSE(made.lost);
}

TEST(MatrixFigures, OfAFaultHaveTheFaultsMessage) {
  RunResult result = test::made_up_result();
  result.outcome = Outcome::kGuestFault;
  result.fault = Fault{.kind = "unaccepted-access",
                       .gpa = "0x1",
                       .rip = "0x2",
                       .state = "pending",
                       .message = "touched it"};
  EXPECT_EQ(figures_of(result).message, "touched it");
}

TEST(MatrixFigures, OfALauncherThatCannotGoOnHaveNoOutcome) {
  RunResult result = test::made_up_result();
  result.launcher_error = "no SVM";
  const CellFigures made = figures_of(result);
  EXPECT_FALSE(made.outcome);
  EXPECT_EQ(made.message, "no SVM");
  EXPECT_EQ(class_name(made), "launcher-error");
}

TEST(MatrixScarceBoot, IsOutOfMemoryWhenTheWorkStoppedForWantOfIt) {
  RunResult result = test::made_up_result();
  result.work = GuestWork{};
  result.work->touched = Bytes{150U << 20};
  result.work->stopped = "memory";
  const ScarceBoot boot = scarce_boot_of(result, Bytes{256U << 20}, Bytes{1ULL << 30});
  EXPECT_EQ(boot.platform, Platform::kTdx);
  EXPECT_EQ(boot.touched, Bytes{150U << 20});
  EXPECT_TRUE(boot.out_of_memory);
  result.work->stopped = "done";
  EXPECT_FALSE(scarce_boot_of(result, Bytes{}, Bytes{}).out_of_memory);
}

TEST(MatrixScarceBoot, IsOutOfMemoryWhenTheKernelSaysSoInItsPanic) {
  RunResult result = test::made_up_result();
  result.outcome = Outcome::kPanic;
  result.message = "System is deadlocked on memory";
  EXPECT_TRUE(scarce_boot_of(result, Bytes{}, Bytes{}).out_of_memory);
  result.message = "Out of memory: compulsory panic_on_oom is enabled";
  EXPECT_TRUE(scarce_boot_of(result, Bytes{}, Bytes{}).out_of_memory);
  result.message = "VFS: Unable to mount root fs";
  EXPECT_FALSE(scarce_boot_of(result, Bytes{}, Bytes{}).out_of_memory);
}

TEST(MatrixClass, IsFastWhileMemoryIsUnaccepted) {
  EXPECT_EQ(classify(fast()), BootClass::kFast);
  EXPECT_EQ(classify(figures(Bytes{}, kPending - kNoticeable)), BootClass::kFast);
}

TEST(MatrixClass, IsSlowWhenNothingNoticeableIsLeftWhoeverAcceptedIt) {
  EXPECT_EQ(classify(slow()), BootClass::kSlow);
  EXPECT_EQ(classify(figures(Bytes{}, kPending)), BootClass::kSlow);
  EXPECT_EQ(classify(figures(Bytes{}, kPending - kLittle)), BootClass::kSlow);
}

TEST(MatrixClass, IsNotDisturbedByMoreAcceptsThanMemory) {
  EXPECT_EQ(classify(figures(kPending, Bytes{2U << 20})), BootClass::kSlow);
}

TEST(MatrixClass, IsLimitedWhenRamIsLostHoweverFastItWas) {
  EXPECT_EQ(classify(limited()), BootClass::kLimited);
  EXPECT_EQ(classify(figures(Bytes{}, Bytes{}, kNoticeable)), BootClass::kLimited);
  EXPECT_EQ(classify(figures(Bytes{}, Bytes{}, kLittle)), BootClass::kFast);
}

TEST(MatrixClass, DoesNotDependOnTime) {
  CellFigures made = fast();
  made.seconds = 1'000;
  made.kernel_to_init = 900;
  EXPECT_EQ(classify(made), BootClass::kFast);
}

TEST(MatrixClass, OfABootThatEndedEarlyIsHowItEnded) {
  for (const auto& [outcome, word] : {std::pair{Outcome::kPanic, "panic"},
                                      {Outcome::kGuestFault, "guest-fault"},
                                      {Outcome::kTimeout, "timeout"},
                                      {Outcome::kReset, "reset"}}) {
    CellFigures made = fast();
    made.outcome = outcome;
    EXPECT_EQ(classify(made), BootClass::kDidNotBoot);
    EXPECT_EQ(class_name(made), word);
  }
}

TEST(MatrixClass, NeedsTheGuestsAndTheEmulatorsFigures) {
  CellFigures without_guest = fast();
  without_guest.lost.reset();
  CellFigures without_emulator = fast();
  without_emulator.accepted.reset();
  for (const CellFigures& made : {without_guest, without_emulator}) {
    EXPECT_EQ(classify(made), BootClass::kUnmeasured);
    EXPECT_EQ(class_name(made), "not measured");
    EXPECT_THAT(difference(BootClass::kFast, made), Optional(HasSubstr("did not say")));
  }
}

TEST(MatrixPrediction, IsTheTableOfTheDiscussion) {
  using enum BootClass;
  constexpr BootClass kTable[3][3] = {
      {kSlow, kSlow, kSlow}, {kSlow, kFast, kSlow}, {kLimited, kFast, kFast}};
  for (std::size_t row = 0; row < 3; ++row) {
    for (std::size_t column = 0; column < 3; ++column) {
      EXPECT_EQ(predicted(kMatrixFirmware[row], kMatrixKernels[column]), kTable[row][column])
          << age(kMatrixFirmware[row]) << ", " << name(kMatrixKernels[column]);
    }
  }
}

TEST(MatrixPrediction, HoldsForItsClassAndCause) {
  EXPECT_FALSE(difference(BootClass::kFast, fast()));
  EXPECT_FALSE(difference(BootClass::kSlow, slow()));
  EXPECT_FALSE(difference(BootClass::kLimited, limited()));
}

TEST(MatrixPrediction, OfASlowBootFailsWhenMemoryIsLeft) {
  EXPECT_THAT(difference(BootClass::kSlow, fast()),
              Optional(AllOf(HasSubstr("1.41 GiB of 2 GiB"), HasSubstr("still unaccepted"))));
}

TEST(MatrixPrediction, OfASlowBootFailsWhenTheKernelDidIt) {
  EXPECT_THAT(difference(BootClass::kSlow, figures(Bytes{1U << 20}, kPending)),
              Optional(AllOf(HasSubstr("not by the firmware"), HasSubstr("1 MiB of 2 GiB"),
                             HasSubstr("the kernel 2 GiB"))));
}

TEST(MatrixPrediction, OfASlowBootFailsWhenRamIsLostEvenIfTheFirmwareAcceptedIt) {
  EXPECT_THAT(difference(BootClass::kSlow, figures(kPending, Bytes{}, Bytes{1ULL << 30})),
              Optional(AllOf(HasSubstr("1 GiB of RAM are lost"), HasSubstr("2 GiB of 2 GiB"))));
}

TEST(MatrixPrediction, OfAFastBootFailsWhenNothingIsLeft) {
  EXPECT_THAT(difference(BootClass::kFast, slow()),
              Optional(AllOf(HasSubstr("nothing is left"), HasSubstr("2 GiB of 2 GiB"))));
  EXPECT_THAT(difference(BootClass::kFast, figures(Bytes{}, kPending)),
              Optional(HasSubstr("the kernel 2 GiB")));
}

TEST(MatrixPrediction, OfAFastBootFailsWhenRamIsLost) {
  EXPECT_THAT(difference(BootClass::kFast, limited()), Optional(HasSubstr("of RAM are lost")));
}

TEST(MatrixPrediction, OfLimitedRamFailsWhenAllOfItIsThere) {
  EXPECT_THAT(difference(BootClass::kLimited, fast()), Optional(HasSubstr("no RAM is lost")));
  EXPECT_THAT(difference(BootClass::kLimited, slow()), Optional(HasSubstr("no RAM is lost")));
}

TEST(MatrixPrediction, OfLimitedRamFailsWhenSomethingElseIsLost) {
  EXPECT_THAT(difference(BootClass::kLimited, figures(Bytes{}, Bytes{}, Bytes{1ULL << 30})),
              Optional(AllOf(HasSubstr("1 GiB of RAM are lost"), HasSubstr("left 2 GiB"))));
  EXPECT_THAT(difference(BootClass::kLimited, figures(kPending, Bytes{}, kPending)),
              Optional(HasSubstr("left 0 unaccepted")));
}

TEST(MatrixPrediction, FailsForABootThatDidNotReachUserSpace) {
  for (const BootClass prediction : {BootClass::kFast, BootClass::kSlow, BootClass::kLimited}) {
    EXPECT_THAT(difference(prediction, panicked()),
                Optional(std::string{"it did not boot: panic, System is deadlocked on memory"}));
  }
}

}  // namespace
}  // namespace accede::cli
