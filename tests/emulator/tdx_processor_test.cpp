#include "accede/emulator/tdx_processor.hpp"

#include "tests/emulator/td_machine.hpp"

#include <gtest/gtest.h>

#include <array>

namespace accede::emulator {
namespace {

using namespace accede::test;
using svm::Exit;
using Code = std::array<std::uint8_t, 4>;

constexpr Code kTdcall{0x66, 0x0F, 0x01, 0xCC};
constexpr std::uint64_t kRip = TdMachine::kRip;
constexpr std::uint64_t kPending = TdMachine::kPending;

class TdxProcessorTest : public testing::Test {
 protected:
  /// Executes an instruction that raised #UD at kRip.
  std::optional<Fault> execute(const Code& code) {
    td_.vcpu().save().rip = kRip;
    std::copy(code.begin(), code.end(), &td_.ram().at<std::uint8_t>(PhysAddr{kRip}));
    const Verdict verdict = processor_.invalid_opcode(td_.vcpu());
    return verdict ? std::nullopt : std::optional{verdict.error()};
  }
  [[nodiscard]] std::uint64_t event() { return td_.vcpu().vmcb->control.event_injection; }
  void cpuid(std::uint32_t leaf) {
    td_.vcpu().save().rip = kRip;
    td_.gpr(kRax) = leaf;
    td_.gpr(kRcx) = 0;
    processor_.cpuid(td_.vcpu());
  }

  TdMachine td_;
  std::array<PhysRange, 1> code_{range_of(1 << 20, TdMachine::kHidden)};
  MachineMap machine_{code_, range_of(TdMachine::kHidden, TdMachine::kHiddenEnd)};
  GuestMemory memory_{td_.ram().window(), machine_, td_.tables()};
  TdxProcessor processor_{td_.module(), td_.pages(), memory_};
};

TEST_F(TdxProcessorTest, ExecutesTdcall) {
  td_.gpr(kRax) = 6;
  td_.gpr(kRcx) = kPending | 1;
  EXPECT_FALSE(execute(kTdcall).has_value());
  EXPECT_EQ(td_.gpr(kRax), 0U);
  EXPECT_TRUE(td_.reachable(View::kPrivate, kPending));
  EXPECT_EQ(td_.vcpu().save().rip, kRip + 4);
  EXPECT_EQ(event(), 0U);
}

TEST_F(TdxProcessorTest, EndsTheTdThatTdcallEnds) {
  td_.gpr(kRax) = 6;
  td_.gpr(kRcx) = TdMachine::kHidden;
  const auto fault = execute(kTdcall);
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->kind, EventKind::kEmulatorMemory);
}

TEST_F(TdxProcessorTest, RaisesGeneralProtectionWhereTdcallIsNotAllowed) {
  td_.vcpu().save().cpl = 3;
  EXPECT_FALSE(execute(kTdcall).has_value());
  EXPECT_EQ(event(), 0x8000'0B0DU);
  td_.vcpu().vmcb->control.event_injection = 0;
  td_.vcpu().save().cpl = 0;
  td_.vcpu().save().cs.attributes = 0xC9B;
  EXPECT_FALSE(execute(kTdcall).has_value());
  EXPECT_EQ(event(), 0x8000'0B0DU) << "compatibility mode";
  EXPECT_EQ(td_.vcpu().save().rip, kRip);
  EXPECT_EQ(td_.counters().tdcall[0], 0U);
}

TEST_F(TdxProcessorTest, LeavesOtherInvalidOpcodesToTheGuest) {
  for (const Code& code :
       {Code{0x0F, 0x0B, 0, 0}, Code{0x67, 0x0F, 0x01, 0xCC}, Code{0xF2, 0x0F, 0x01, 0xFF}}) {
    EXPECT_FALSE(execute(code).has_value());
    EXPECT_EQ(event(), 0x8000'0306U);
    EXPECT_EQ(td_.vcpu().save().rip, kRip);
  }
  EXPECT_EQ(td_.counters().exits_other, 3U);
}

TEST_F(TdxProcessorTest, ExecutesNothingThatItCannotRead) {
  td_.vcpu().save().rip = TdMachine::kHidden - 2;
  td_.ram().at<std::uint16_t>(PhysAddr{TdMachine::kHidden - 2}) = 0x0F66;
  td_.ram().at<std::uint16_t>(PhysAddr{TdMachine::kHidden}) = 0xCC01;
  EXPECT_TRUE(processor_.invalid_opcode(td_.vcpu()).has_value());
  EXPECT_EQ(event(), 0x8000'0306U);
}

TEST_F(TdxProcessorTest, KnowsTheExitThatAcceptanceConsistsOf) {
  td_.gpr(kRax) = 0x1'0006;
  EXPECT_TRUE(TdxProcessor::is_accept(td_.vcpu(), Exit::kExceptionUd)) << "any version";
  EXPECT_FALSE(TdxProcessor::is_accept(td_.vcpu(), Exit::kVmmcall));
  EXPECT_FALSE(TdxProcessor::is_accept(td_.vcpu(), Exit::kNestedPageFault));
  td_.gpr(kRax) = 0;
  EXPECT_FALSE(TdxProcessor::is_accept(td_.vcpu(), Exit::kExceptionUd)) << "another leaf";
}

TEST_F(TdxProcessorTest, AnswersCpuid) {
  cpuid(0x21);
  EXPECT_EQ(td_.gpr(kRbx), 0x65746E49U) << "Inte";
  EXPECT_EQ(td_.gpr(kRdx), 0x5844546CU) << "lTDX";
  EXPECT_EQ(td_.vcpu().save().rip, kRip + 2);
  EXPECT_EQ(td_.counters().ve_injected, 0U);
}

TEST_F(TdxProcessorTest, ReflectsCpuidWhereTheGuestWantsIt) {
  constexpr std::uint8_t kSupervisor = 1;
  constexpr std::uint8_t kUser = 2;
  td_.vcpu().cpuid_ve = kUser;
  cpuid(0x21);
  EXPECT_FALSE(td_.vcpu().ve_pending) << "not in supervisor mode";
  td_.vcpu().cpuid_ve = kSupervisor;
  td_.vcpu().save().cpl = 3;
  cpuid(0x21);
  EXPECT_FALSE(td_.vcpu().ve_pending) << "not in user mode";
  td_.vcpu().cpuid_ve = kUser;
  cpuid(0x21);
  EXPECT_TRUE(td_.vcpu().ve_pending);
  EXPECT_EQ(td_.vcpu().ve.exit_reason, 10U);
  EXPECT_EQ(td_.vcpu().ve.instruction_length, 2U);
  EXPECT_EQ(td_.vcpu().save().rip, kRip) << "the handler steps over it";
  EXPECT_EQ(td_.gpr(kRax), 0x21U);
  EXPECT_EQ(td_.counters().ve_injected, 1U);
}

TEST_F(TdxProcessorTest, HasNoMsrsAndNoHypercallsOfItsOwn) {
  EXPECT_FALSE(TdxProcessor::msr(td_.vcpu(), 0xC001'0131, false));
  const auto answered = TdxProcessor::vmmcall(td_.vcpu());
  ASSERT_TRUE(answered.has_value());
  EXPECT_FALSE(*answered);
}

}  // namespace
}  // namespace accede::emulator
