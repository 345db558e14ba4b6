#include "accede/emulator/vmcall.hpp"

#include "accede/abi/tdx.hpp"
#include "tests/emulator/td_machine.hpp"

#include <gtest/gtest.h>

#include <sys/mman.h>
#include <cstring>
#include <string>

namespace accede::emulator {
namespace {

using namespace accede::test;

constexpr std::uint64_t kUsual = 0xFFCC;
constexpr std::uint64_t kInvalidOperand = 0x8000'0000'0000'0000;
constexpr std::uint64_t kAlignError = 0x8000'0000'0000'0002;
constexpr std::uint64_t kUnsupported = 0x8000'0000'0000'0003;
constexpr std::uint64_t kPending = TdMachine::kPending;

class VmcallTest : public testing::Test {
 protected:
  /// TDG.VP.VMCALL with the registers as they are: R10.
  std::uint64_t call(std::uint64_t function, std::uint64_t mask = kUsual) {
    td_.gpr(kRcx) = mask;
    td_.gpr(kR10) = 0;
    td_.gpr(kR11) = function;
    const auto fault = td_.tdcall(0);
    EXPECT_FALSE(fault.has_value()) << fault.value_or(Fault{}).message;
    EXPECT_EQ(td_.gpr(kRax), 0U);
    EXPECT_EQ(td_.gpr(kRcx), mask) << "RCX stays";
    return td_.gpr(kR10);
  }
  std::uint64_t call_with(std::uint64_t function, std::initializer_list<std::uint64_t> from_r12) {
    unsigned r = kR12;
    for (const std::uint64_t value : from_r12) {
      td_.vcpu().gpr[r++] = value;
    }
    return call(function);
  }
  [[nodiscard]] std::uint64_t count(VmcallSlot slot) {
    return td_.counters().vmcall[static_cast<std::size_t>(slot)];
  }

  TdMachine td_;
};

TEST_F(VmcallTest, RefusesMasksThatExposeWhatTheyMustNot) {
  for (const std::uint64_t mask : {1ULL, 2ULL, 0x10ULL, 0xFFCDULL, 1ULL << 32, 1ULL << 63}) {
    td_.gpr(kRcx) = mask;
    td_.gpr(kR10) = 0x77;
    td_.gpr(kR11) = 0x10000;
    td_.vcpu().save().rip = 0x1000;
    EXPECT_FALSE(td_.tdcall(0).has_value());
    EXPECT_EQ(td_.gpr(kRax), 0xC000'0100'0000'0001U) << std::hex << mask;
    EXPECT_EQ(td_.gpr(kR10), 0x77U);
    EXPECT_EQ(td_.vcpu().save().rip, 0x1004U);
  }
  EXPECT_EQ(count(VmcallSlot::kGetTdVmCallInfo), 0U) << "the VMM saw none of them";
}

TEST_F(VmcallTest, TakesMasksThatExposeVectorRegisters) {
  EXPECT_EQ(call(0x10000, kUsual | 0xFFFF'0000), 0U);
}

TEST_F(VmcallTest, ChangesOnlyExposedRegisters) {
  for (unsigned i = 0; i < 16; ++i) {
    td_.vcpu().gpr[i] = 0x9000 + i;
  }
  td_.gpr(kR12) = 0;
  // R10, R11 and R12 only: the zeros that GetTdVmCallInfo puts into R13 and R14 do not arrive.
  EXPECT_EQ(call(0x10000, 0x1C00), 0U);
  EXPECT_EQ(td_.gpr(kR11), 0U);
  EXPECT_EQ(td_.gpr(kR12), 0U);
  EXPECT_EQ(td_.gpr(kR13), 0x900DU);
  EXPECT_EQ(td_.gpr(kR14), 0x900EU);
  EXPECT_EQ(td_.gpr(kRbx), 0x9003U);
  EXPECT_EQ(td_.gpr(kRsp), 0x9004U);
}

TEST_F(VmcallTest, ShowsTheVmmZeroInRegistersThatAreNotExposed) {
  td_.gpr(kR12) = 7;  // a bad leaf, if the VMM saw it
  EXPECT_EQ(call(0x10000, 0x0C00), 0U);
  EXPECT_EQ(td_.gpr(kR12), 7U);
  // Nothing exposed: the VMM sees sub-function 0, and its answer does not arrive.
  td_.gpr(kR10) = 5;
  td_.gpr(kR11) = 0x10000;
  td_.gpr(kRcx) = 0;
  EXPECT_FALSE(td_.tdcall(0).has_value());
  EXPECT_EQ(td_.gpr(kRax), 0U);
  EXPECT_EQ(td_.gpr(kR10), 5U);
  EXPECT_EQ(td_.gpr(kR11), 0x10000U);
  EXPECT_EQ(count(VmcallSlot::kOther), 1U);
}

TEST_F(VmcallTest, TellsItsCapabilities) {
  EXPECT_EQ(call_with(0x10000, {0, 1, 2}), 0U);
  for (const Register r : {kR11, kR12, kR13, kR14}) {
    EXPECT_EQ(td_.gpr(r), 0U);
  }
  EXPECT_EQ(call_with(0x10000, {1, 1, 2}), 0U);
  EXPECT_EQ(call_with(0x10000, {2}), kInvalidOperand);
  EXPECT_EQ(call_with(0x10000, {~0ULL}), kInvalidOperand);
}

TEST_F(VmcallTest, ListsSubFunctionsThatItDoesNotHave) {
  for (const std::uint64_t function : {0ULL, 11ULL, 54ULL, 65ULL, 0x10005ULL, 0x10006ULL, ~0ULL}) {
    EXPECT_EQ(call(function), kUnsupported) << function;
  }
  EXPECT_EQ(count(VmcallSlot::kOther), 7U);
  EXPECT_EQ(td_.reporter().header().violation_total, 7U);
  EXPECT_EQ(td_.reporter().header().violations[1].kind, EventKind::kUnknownVmcall);
  EXPECT_EQ(td_.reporter().header().violations[1].gpa, 11U);
}

TEST_F(VmcallTest, HasNoVendorCalls) {
  td_.gpr(kRcx) = kUsual;
  td_.gpr(kR10) = 1;  // KVM: hypercall number
  td_.gpr(kR11) = 12;
  td_.gpr(kR12) = 1;
  EXPECT_FALSE(td_.tdcall(0).has_value());
  EXPECT_EQ(td_.gpr(kRax), 0U);
  EXPECT_EQ(td_.gpr(kR10), kUnsupported);
  EXPECT_FALSE(td_.vcpu().wants_idle) << "R11 is an argument here, not HLT";
  EXPECT_EQ(count(VmcallSlot::kHlt), 0U) << "nor is it counted as one";
}

TEST_F(VmcallTest, AnswersCpuidInR12ToR15) {
  EXPECT_EQ(call_with(10, {0x21, 0, 7, 7}), 0U);
  EXPECT_EQ(td_.gpr(kR12), 0U);
  EXPECT_EQ(td_.gpr(kR13), 0x65746E49U);
  EXPECT_EQ(td_.gpr(kR14), 0x20202020U);
  EXPECT_EQ(td_.gpr(kR15), 0x5844546CU);
}

TEST_F(VmcallTest, LetsAHaltedGuestIdle) {
  EXPECT_EQ(call_with(12, {0}), 0U);
  EXPECT_TRUE(td_.vcpu().wants_idle);
  EXPECT_FALSE(td_.vcpu().halted_masked);
  EXPECT_EQ(call_with(12, {1}), 0U);
  EXPECT_TRUE(td_.vcpu().halted_masked);
}

TEST_F(VmcallTest, RefusesPortAccessesThatAreNone) {
  EXPECT_EQ(call_with(30, {3, 0, 0x70, 0}), kInvalidOperand);
  EXPECT_EQ(call_with(30, {0, 0, 0x70, 0}), kInvalidOperand);
  EXPECT_EQ(call_with(30, {8, 0, 0x70, 0}), kInvalidOperand);
  EXPECT_EQ(call_with(30, {1, 2, 0x70, 0}), kInvalidOperand);
  EXPECT_EQ(call_with(30, {1, 0, 0x10000, 0}), kInvalidOperand);
}

TEST_F(VmcallTest, HidesTheReportPort) {
  EXPECT_EQ(call_with(30, {1, 0, kReportPort, 0}), 0U);
  EXPECT_EQ(td_.gpr(kR11), 0xFFU);
  EXPECT_EQ(call_with(30, {2, 0, kReportPort - 1, 0}), 0U);
  EXPECT_EQ(td_.gpr(kR11), 0xFFFFU);
  EXPECT_EQ(call_with(30, {4, 0, kReportPort - 3, 0}), 0U);
  EXPECT_EQ(td_.gpr(kR11), 0xFFFF'FFFFU);
  EXPECT_EQ(call_with(30, {1, 1, kReportPort, 'x'}), 0U) << "swallowed";
}

TEST_F(VmcallTest, RefusesModelSpecificRegistersThatAVmmDoesNotHave) {
  for (const std::uint64_t msr :
       {0xC000'0080ULL, 0xC001'0117ULL, 0x830ULL, 0x4b56'4d00ULL, 1ULL << 32 | 0x1B, ~0ULL}) {
    EXPECT_EQ(call_with(31, {msr}), kInvalidOperand) << std::hex << msr;
    EXPECT_EQ(call_with(32, {msr, 0}), kInvalidOperand) << std::hex << msr;
  }
}

TEST_F(VmcallTest, RefusesMemoryMappedAccessesThatAreNone) {
  constexpr std::uint64_t kApic = 0xFEE0'0020;
  EXPECT_EQ(call_with(48, {3, 0, kApic, 0}), kInvalidOperand);
  EXPECT_EQ(call_with(48, {16, 0, kApic, 0}), kInvalidOperand);
  EXPECT_EQ(call_with(48, {0, 0, kApic, 0}), kInvalidOperand);
  EXPECT_EQ(call_with(48, {4, 2, kApic, 0}), kInvalidOperand);
  EXPECT_EQ(call_with(48, {4, 0, kApic + 1, 0}), kInvalidOperand) << "not aligned";
  EXPECT_EQ(call_with(48, {4, 0, 0x1000, 0}), kInvalidOperand) << "RAM";
  EXPECT_EQ(call_with(48, {4, 1, kShared | 0x1000, 1}), kInvalidOperand) << "RAM, shared alias";
  EXPECT_EQ(call_with(48, {8, 0, TdMachine::kHidden, 0}), kInvalidOperand) << "the emulator";
  EXPECT_EQ(call_with(48, {8, 0, ~7ULL, 0}), kInvalidOperand) << "wraps";
  EXPECT_EQ(call_with(48, {8, 0, 1ULL << 45, 0}), kInvalidOperand) << "beyond the host's map";
}

TEST_F(VmcallTest, ReadsAndWritesDevices) {
  // Where the pretended machine has no RAM, a page of this process stands for a device.
  void* const page =
      mmap(nullptr, k4K, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  ASSERT_NE(page, MAP_FAILED);
  auto& word = *static_cast<volatile std::uint64_t*>(page);
  const auto gpa = reinterpret_cast<std::uint64_t>(page);
  ASSERT_GE(gpa, TdMachine::kLowEnd);
  for (const std::uint64_t size : {1ULL, 2ULL, 4ULL, 8ULL}) {
    SCOPED_TRACE(size);
    const std::uint64_t mask = ~0ULL >> (64 - 8 * size);
    word = 0x1122'3344'5566'7788;
    EXPECT_EQ(call_with(48, {size, 0, gpa | kShared, 0}), 0U);
    EXPECT_EQ(td_.gpr(kR11), 0x1122'3344'5566'7788 & mask);
    EXPECT_EQ(call_with(48, {size, 1, gpa | kShared, 0xA9B8'C7D6'E5F4'0312}), 0U);
    EXPECT_EQ(word, (0x1122'3344'5566'7788 & ~mask) | (0xA9B8'C7D6'E5F4'0312 & mask));
  }
  munmap(page, k4K);
}

TEST_F(VmcallTest, TakesEventNotificationVectorsOfDevices) {
  EXPECT_EQ(call_with(0x10004, {32}), 0U);
  EXPECT_EQ(call_with(0x10004, {255}), 0U);
  EXPECT_EQ(call_with(0x10004, {31}), kInvalidOperand);
  EXPECT_EQ(call_with(0x10004, {256}), kInvalidOperand);
}

// --- ReportFatalError
// ------------------------------------------------------------------------------

class FatalErrorTest : public VmcallTest {
 protected:
  /// Puts `text` into the registers in their order and calls.
  std::optional<Fault> die(const std::string& text, std::uint64_t mask = kUsual) {
    std::array<std::uint64_t, 8> words{};
    std::memcpy(words.data(), text.data(), std::min<std::size_t>(text.size(), 64));
    constexpr std::array<Register, 8> kOrder{kR14, kR15, kRbx, kRdi, kRsi, kR8, kR9, kRdx};
    for (std::size_t i = 0; i < words.size(); ++i) {
      td_.gpr(kOrder[i]) = words[i];
    }
    td_.gpr(kRcx) = mask;
    td_.gpr(kR10) = 0;
    td_.gpr(kR11) = 0x10003;
    td_.gpr(kR12) = 0x1234;
    return td_.tdcall(0);
  }
};

TEST_F(FatalErrorTest, EndsTheGuestWithItsLastWords) {
  const auto fault = die("TD misconfiguration: SEPT #VE has to be disabled");
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->kind, EventKind::kGuestPanic);
  EXPECT_EQ(fault->message, "TD misconfiguration: SEPT #VE has to be disabled");
  EXPECT_EQ(fault->gpa, 0x1234U);
  EXPECT_EQ(count(VmcallSlot::kReportFatalError), 1U);
}

TEST_F(FatalErrorTest, TakesAllSixtyFourBytes) {
  const std::string text = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ!?";
  ASSERT_EQ(text.size(), 64U);
  const auto fault = die(text);
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->message, text);
}

TEST_F(FatalErrorTest, TakesNoTextFromRegistersThatAreNotExposed) {
  const auto fault = die("secret", 0x1C00);
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->message, "");
}

// --- MapGPA
// ----------------------------------------------------------------------------------------

class MapGpaTest : public VmcallTest {
 protected:
  std::uint64_t map(std::uint64_t gpa, std::uint64_t bytes) {
    return call_with(0x10001, {gpa, bytes});
  }
};

TEST_F(MapGpaTest, RefusesRangesInTheOrderOfItsChecks) {
  struct Row {
    std::uint64_t gpa;
    std::uint64_t bytes;
    std::uint64_t r10;
  };
  constexpr std::array<Row, 10> kRows{{
      {kPending, 0, kInvalidOperand},                    // no bytes
      {kPending + 1, 0, kInvalidOperand},                // ... before the alignment
      {~0ULL - 0xFFF, 0x2000, kInvalidOperand},          // wraps
      {1ULL << 48, k4K, kInvalidOperand},                // beyond the width
      {(1ULL << 48) - k4K, 2 * k4K, kInvalidOperand},    // runs beyond it
      {kShared - k4K, 2 * k4K, kInvalidOperand},         // shared bit differs
      {kPending, kShared, kInvalidOperand},              //
      {kPending + 1, k4K, kAlignError},                  //
      {kPending, k4K + 1, kAlignError},                  //
      {kPending | kShared | 0x800, 0x800, kAlignError},  //
  }};
  for (const Row& row : kRows) {
    EXPECT_EQ(map(row.gpa, row.bytes), row.r10) << std::hex << row.gpa << " " << row.bytes;
    EXPECT_EQ(td_.gpr(kR11), row.gpa) << "R11 names the start";
  }
  EXPECT_EQ(td_.counters().to_shared_bytes, 0U);
  EXPECT_EQ(td_.counters().to_private_bytes, 0U);
}

TEST_F(MapGpaTest, MakesMemorySharedAndPrivateAgain) {
  td_.word(k2M + 8) = 42;
  EXPECT_EQ(map(k2M | kShared, k4K), 0U);
  EXPECT_FALSE(td_.reachable(View::kPrivate, k2M));
  EXPECT_TRUE(td_.reachable(View::kPrivate, k2M + k4K));
  EXPECT_EQ(td_.word(k2M + 8), 0U) << "the private content is gone";
  EXPECT_EQ(td_.counters().to_shared_bytes, k4K);
  EXPECT_TRUE(td_.pages().touch(td_.vcpu(), k2M | kShared, 0).has_value());
  EXPECT_TRUE(td_.reachable(View::kShared, k2M));
  td_.word(k2M + 8) = 43;

  EXPECT_EQ(map(k2M, k4K), 0U);
  EXPECT_FALSE(td_.reachable(View::kShared, k2M));
  EXPECT_FALSE(td_.reachable(View::kPrivate, k2M)) << "not accepted yet";
  EXPECT_EQ(td_.counters().to_private_bytes, k4K);
  EXPECT_EQ(td_.accept(k2M, 0), 0U);
  EXPECT_EQ(td_.word(k2M + 8), 0U) << "zero after accept";
}

TEST_F(MapGpaTest, AcceptsARequestForWhatIsSoAlready) {
  EXPECT_EQ(map(k2M, k2M), 0U) << "private already";
  EXPECT_TRUE(td_.reachable(View::kPrivate, k2M));
  EXPECT_EQ(map(kPending | kShared, 4 * k4K), 0U);
  EXPECT_EQ(map(kPending | kShared, 8 * k4K), 0U) << "half of it is shared already";
  EXPECT_EQ(td_.counters().to_shared_bytes, 8 * k4K);
}

TEST_F(MapGpaTest, LeavesTheRestOfALargePageAlone) {
  EXPECT_EQ(td_.accept(kPending, 1), 0U);
  td_.word(kPending) = 1;
  td_.word(kPending + 5 * k4K) = 2;
  EXPECT_EQ(map((kPending + 4 * k4K) | kShared, k4K), 0U);
  EXPECT_EQ(td_.word(kPending), 1U);
  EXPECT_EQ(td_.word(kPending + 5 * k4K), 2U);
  EXPECT_TRUE(td_.reachable(View::kPrivate, kPending + 5 * k4K));
  EXPECT_FALSE(td_.reachable(View::kPrivate, kPending + 4 * k4K));
  EXPECT_TRUE(td_.memory().invariants());
}

TEST_F(MapGpaTest, TakesDevicesAsSharedAndChangesNothing) {
  EXPECT_EQ(map(0xFEE0'0000 | kShared, k4K), 0U);
  EXPECT_EQ(td_.counters().to_shared_bytes, 0U);
  EXPECT_EQ(td_.counters().convert_calls, 1U);
}

TEST_F(MapGpaTest, DoesNotTouchTheEmulatorsOwnMemory) {
  td_.word(TdMachine::kHidden + (8 << 20)) = 42;
  map((TdMachine::kHidden + (8 << 20)) | kShared, k4K);
  EXPECT_EQ(td_.word(TdMachine::kHidden + (8 << 20)), 42U);
  EXPECT_FALSE(td_.reachable(View::kShared, TdMachine::kHidden + (8 << 20)));
  const Verdict verdict =
      td_.pages().touch(td_.vcpu(), (TdMachine::kHidden + (8 << 20)) | kShared, 0);
  ASSERT_FALSE(verdict.has_value());
  EXPECT_EQ(verdict.error().kind, EventKind::kEmulatorMemory);
}

// --- GetQuote
// --------------------------------------------------------------------------------------

class GetQuoteTest : public MapGpaTest {
 protected:
  static constexpr std::uint64_t kBuffer = 8 << 20;

  std::uint64_t quote(std::uint64_t gpa, std::uint64_t bytes) {
    return call_with(0x10002, {gpa, bytes});
  }
};

TEST_F(GetQuoteTest, SaysInTheBufferThatTheServiceIsUnavailable) {
  EXPECT_EQ(map(kBuffer | kShared, 2 * k4K), 0U);
  td_.word(kBuffer) = 1;
  EXPECT_EQ(quote(kBuffer | kShared, 2 * k4K), 0U);
  EXPECT_EQ(td_.word(kBuffer), 1U);
  EXPECT_EQ(td_.word(kBuffer + 8), 0x8000'0000'0000'0001U);
}

TEST_F(GetQuoteTest, RefusesBuffersThatAreNone) {
  EXPECT_EQ(map(kBuffer | kShared, 2 * k4K), 0U);
  EXPECT_EQ(quote(kBuffer, 2 * k4K), kInvalidOperand) << "shared bit clear";
  EXPECT_EQ(quote(kBuffer | kShared, 0), kInvalidOperand);
  EXPECT_EQ(quote(kBuffer | kShared, 100), kInvalidOperand);
  EXPECT_EQ(quote((kBuffer + 8) | kShared, k4K), kInvalidOperand);
  EXPECT_EQ(quote((kBuffer + 16 * k4K) | kShared, k4K), kInvalidOperand) << "a private page";
  EXPECT_EQ(quote(0xFEE0'0000 | kShared, k4K), kInvalidOperand) << "a device";
  EXPECT_EQ(quote(kBuffer | kShared | (1ULL << 48), k4K), kInvalidOperand);
  EXPECT_EQ(quote(kBuffer | kShared, ~0ULL - 0xFFF), kInvalidOperand);
  EXPECT_EQ(td_.word(kBuffer + 8), 0U);
}

TEST_F(GetQuoteTest, DoesNotWriteIntoTheEmulatorsOwnMemory) {
  constexpr std::uint64_t kTarget = TdMachine::kHidden + (8 << 20);
  map(kTarget | kShared, k4K);
  EXPECT_EQ(quote(kTarget | kShared, k4K), kInvalidOperand);
  EXPECT_EQ(td_.word(kTarget + 8), 0U);
  EXPECT_FALSE(td_.reachable(View::kShared, kTarget));
}

}  // namespace
}  // namespace accede::emulator
