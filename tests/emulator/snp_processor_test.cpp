#include "accede/emulator/snp_processor.hpp"

#include "tests/emulator/snp_machine.hpp"

#include <gtest/gtest.h>

namespace accede::emulator {
namespace {

using namespace accede::test;
using abi::ghcb::ExitCode;
using abi::ghcb::MsrCode;
using abi::ghcb::PageOp;
using abi::rmp::RmpState;
using Result = SnpMachine::Result;
using svm::Exit;

constexpr std::uint64_t kPending = SnpMachine::kPending;
constexpr std::uint64_t kRip = SnpMachine::kRip;
constexpr std::uint64_t kGhcb = 0x40'1000;

// What the guest meets when it goes on, as EVENTINJ has it.
constexpr std::uint64_t kInvalidOpcode = 0x8000'0306;
constexpr std::uint64_t kGeneralProtection = 0x8000'0B0D;
constexpr std::uint64_t page_fault(std::uint64_t error) {
  return error << 32 | 0x8000'0B0E;
}
constexpr std::uint64_t kNotValidated = 0x404ULL << 32 | 0x8000'0B1D;

class SnpProcessorTest : public testing::Test {
 protected:
  /// The condition flags as the guest had them before an instruction that writes them.
  void set_flags(std::uint64_t flags) { snp_.vcpu().save().rflags = flags; }
  [[nodiscard]] std::uint64_t flags() { return snp_.vcpu().save().rflags; }

  /// RMPADJUST or RMPQUERY of linear address `linear`: RAX afterwards.
  std::uint64_t adjust(const Code& code, std::uint64_t linear, std::uint64_t rcx,
                       std::uint64_t rdx) {
    snp_.gpr(kRax) = linear;
    snp_.gpr(kRcx) = rcx;
    snp_.gpr(kRdx) = rdx;
    const std::optional<Fault> fault = snp_.execute(code);
    EXPECT_FALSE(fault.has_value()) << fault.value_or(Fault{}).message;
    EXPECT_EQ(snp_.event(), 0U);
    EXPECT_EQ(snp_.vcpu().save().rip, kRip + 4);
    return snp_.gpr(kRax);
  }

  SnpMachine snp_;
};

// --- PVALIDATE ---

TEST_F(SnpProcessorTest, ValidatesASmallPage) {
  SnpMachine snp{{.backing = host::Backing::k4K}};
  EXPECT_EQ(snp.pvalidate(kPending, 0), (Result{0, false}));
  EXPECT_TRUE(snp.reachable(View::kPrivate, kPending));
  EXPECT_FALSE(snp.reachable(View::kPrivate, kPending + k4K));
  EXPECT_EQ(snp.counters().accept_calls[0], 1U);
  EXPECT_EQ(snp.counters().accepted_bytes[0], k4K);
  EXPECT_EQ(snp.counters().smashed_pages, 0U);
}

TEST_F(SnpProcessorTest, ValidatesALargePage) {
  EXPECT_EQ(snp_.pvalidate(kPending, 1), (Result{0, false}));
  EXPECT_EQ(snp_.tables().mapped(View::kPrivate, PhysAddr{kPending + k2M - 1}), PageSize::k2M);
  EXPECT_FALSE(snp_.reachable(View::kPrivate, kPending + k2M));
  EXPECT_FALSE(snp_.reachable(View::kShared, kPending));
  EXPECT_EQ(snp_.counters().accept_calls[1], 1U);
  EXPECT_EQ(snp_.counters().accepted_bytes[0], k2M);
}

TEST_F(SnpProcessorTest, TellsThatTheHostBacksALargePageInSmallOnes) {
  SnpMachine snp{{.backing = host::Backing::k4K}};
  EXPECT_EQ(snp.pvalidate(kPending, 1), (Result{6, false}));
  EXPECT_FALSE(snp.reachable(View::kPrivate, kPending));
  EXPECT_EQ(snp.counters().size_mismatch, 1U);
  EXPECT_EQ(snp.counters().accept_other_errors, 0U);
  EXPECT_EQ(snp.counters().accepted_bytes[0], 0U);
  EXPECT_EQ(snp.violation(EventKind::kInvalidAccept), nullptr) << "not a fault of the guest";
}

TEST_F(SnpProcessorTest, SetsTheCarryFlagWhenNothingChanged) {
  ASSERT_EQ(snp_.pvalidate(kPending, 1), (Result{0, false}));
  EXPECT_EQ(snp_.pvalidate(kPending, 1), (Result{0, true}));
  EXPECT_EQ(snp_.counters().already_accepted, 1U);
  EXPECT_EQ(snp_.counters().accept_calls[1], 1U) << "accepted once";
  EXPECT_NE(snp_.violation(EventKind::kDoubleAccept), nullptr);
}

TEST_F(SnpProcessorTest, SetsTheCarryFlagWhenThereWasNothingToRescind) {
  ASSERT_EQ(snp_.pvalidate(kPending, 1, false), (Result{0, true}));
  EXPECT_EQ(snp_.counters().already_accepted, 0U);
  EXPECT_EQ(snp_.counters().accept_other_errors, 1U);
  EXPECT_EQ(snp_.counters().rescind_calls, 0U);
  const Violation* const violation = snp_.violation(EventKind::kInvalidAccept);
  ASSERT_NE(violation, nullptr);
  EXPECT_EQ(violation->detail, 255U) << "Linux's code for it";
}

TEST_F(SnpProcessorTest, RefusesOperandsThatAreNone) {
  EXPECT_EQ(snp_.pvalidate(kPending, 2), (Result{1, false})) << "size";
  EXPECT_EQ(snp_.pvalidate(kPending + k4K, 1), (Result{1, false})) << "alignment";
  EXPECT_EQ(snp_.pvalidate(kPending + 8, 0), (Result{1, false}));
  EXPECT_EQ(snp_.state(kPending), RmpState::kHypervisor);
  EXPECT_EQ(snp_.counters().accept_other_errors, 3U);
  const Violation* const violation = snp_.violation(EventKind::kInvalidAccept);
  ASSERT_NE(violation, nullptr);
  EXPECT_EQ(violation->gpa, kPending);
  EXPECT_EQ(violation->detail, 1U);
  EXPECT_EQ(violation->fatal, 0);
}

TEST_F(SnpProcessorTest, LooksAtTheBitsOfItsOperandsThatExist) {
  EXPECT_FALSE(snp_.try_pvalidate(kPending, 0xFFFF'FFFF'0000'0001, ~0ULL).has_value());
  EXPECT_EQ(snp_.state(kPending + k2M - 1), RmpState::kGuestValid) << "ECX and EDX bit 0";
  EXPECT_FALSE(snp_.try_pvalidate(kPending, 1, ~1ULL).has_value());
  EXPECT_EQ(snp_.state(kPending), RmpState::kGuestInvalid);
}

TEST_F(SnpProcessorTest, WritesTheFlagsOfItsCodeAndNoOthers) {
  constexpr std::uint64_t kOthers = 0x4'0602;  // AC, DF, IF and the bit that is always set
  constexpr std::uint64_t kCarry = 1;
  constexpr std::uint64_t kParity = 4;
  constexpr std::uint64_t kZero = 0x40;
  constexpr std::uint64_t kAll = 0x8D5;
  set_flags(kOthers | kAll);
  ASSERT_EQ(snp_.pvalidate(kPending, 1).rax, 0U);
  EXPECT_EQ(flags(), kOthers | kParity | kZero);
  ASSERT_EQ(snp_.pvalidate(kPending, 1).rax, 0U);
  EXPECT_EQ(flags(), kOthers | kParity | kZero | kCarry);
  ASSERT_EQ(snp_.pvalidate(kPending, 2).rax, 1U);
  EXPECT_EQ(flags(), kOthers);
  SnpMachine snp{{.backing = host::Backing::k4K}};
  snp.vcpu().save().rflags = kOthers | kAll;
  ASSERT_EQ(snp.pvalidate(kPending, 1).rax, 6U);
  EXPECT_EQ(snp.vcpu().save().rflags, kOthers | kParity);
}

TEST_F(SnpProcessorTest, SteppingOverAnInstructionEndsTheInterruptShadow) {
  snp_.vcpu().vmcb->control.interrupt_shadow = 1;
  ASSERT_EQ(snp_.pvalidate(kPending, 1).rax, 0U);
  EXPECT_EQ(snp_.vcpu().vmcb->control.interrupt_shadow, 0U);
}

TEST_F(SnpProcessorTest, RaisesAPageFaultForAnOperandThatIsNotMapped) {
  for (const Code& code : {kPvalidate, kRmpAdjust, kRmpQuery}) {
    snp_.gpr(kRax) = SnpMachine::window(3) + 0x10;
    snp_.gpr(kRcx) = 0;
    snp_.gpr(kRdx) = 1;
    EXPECT_FALSE(snp_.execute(code).has_value());
    EXPECT_EQ(snp_.event(), page_fault(0));
    EXPECT_EQ(snp_.vcpu().save().cr2, SnpMachine::window(3) + 0x10);
    EXPECT_EQ(snp_.vcpu().save().rip, kRip) << "to be repeated";
    snp_.vcpu().save().cr2 = 0;
  }
}

TEST_F(SnpProcessorTest, RaisesAPageFaultForAMappingWithoutTheCBit) {
  snp_.leaf(3) = kPending | SnpMachine::kPresent;
  EXPECT_FALSE(snp_.try_pvalidate(SnpMachine::window(3), 0, 1).has_value());
  EXPECT_EQ(snp_.event(), page_fault(9));
  EXPECT_EQ(snp_.vcpu().save().cr2, SnpMachine::window(3));
  EXPECT_EQ(snp_.vcpu().save().rip, kRip);
  EXPECT_EQ(snp_.state(kPending), RmpState::kHypervisor);
  const Violation* const violation = snp_.violation(EventKind::kWrongCBit);
  ASSERT_NE(violation, nullptr);
  EXPECT_EQ(violation->gpa, kPending);
  EXPECT_EQ(violation->rip, kRip);
  EXPECT_EQ(violation->fatal, 0);
}

TEST_F(SnpProcessorTest, ValidatesThroughAnyMappingOfThePage) {
  snp_.leaf(3) = (kPending + 5 * k4K) | kCBit | SnpMachine::kPresent;
  EXPECT_FALSE(snp_.try_pvalidate(SnpMachine::window(3), 0, 1).has_value());
  EXPECT_EQ(snp_.event(), 0U);
  EXPECT_EQ(snp_.state(kPending + 5 * k4K), RmpState::kGuestValid);
}

TEST_F(SnpProcessorTest, TakesTheLowerHalfOfRaxInCompatibilityMode) {
  constexpr std::uint64_t kPage = 0x60'0000;
  ASSERT_EQ(snp_.pvalidate(kPage, 1, false).rax, 0U);
  snp_.vcpu().save().cs.attributes = 0xC9B;
  EXPECT_FALSE(snp_.try_pvalidate(0xABCD'0000'0000 | kPage, 0, 1).has_value());
  EXPECT_EQ(snp_.event(), 0U);
  EXPECT_EQ(snp_.state(kPage), RmpState::kGuestValid);
  for (const Code& code : {kRmpAdjust, kRmpQuery}) {
    EXPECT_FALSE(snp_.execute(code).has_value());
    EXPECT_EQ(snp_.event(), kInvalidOpcode) << "64-bit mode only";
  }
}

TEST_F(SnpProcessorTest, RaisesGeneralProtectionInUserMode) {
  snp_.vcpu().save().cpl = 3;
  for (const Code& code : {kPvalidate, kRmpAdjust, kRmpQuery}) {
    snp_.gpr(kRax) = kPending;
    snp_.gpr(kRcx) = 0;
    snp_.gpr(kRdx) = 1;
    EXPECT_FALSE(snp_.execute(code).has_value());
    EXPECT_EQ(snp_.event(), kGeneralProtection);
    EXPECT_EQ(snp_.vcpu().save().rip, kRip);
  }
  EXPECT_EQ(snp_.state(kPending), RmpState::kHypervisor);
}

TEST_F(SnpProcessorTest, LeavesOtherInvalidOpcodesToTheGuest) {
  for (const Code& code : {Code{0x0F, 0x0B, 0, 0}, Code{0x66, 0x0F, 0x01, 0xCC},
                           Code{0xF3, 0x0F, 0x01, 0xFF}, Code{0xF2, 0x0F, 0x01, 0xFE}}) {
    EXPECT_FALSE(snp_.execute(code).has_value());
    EXPECT_EQ(snp_.event(), kInvalidOpcode);
    EXPECT_EQ(snp_.vcpu().save().rip, kRip);
  }
  EXPECT_EQ(snp_.counters().exits_other, 4U);
}

TEST_F(SnpProcessorTest, EndsTheGuestThatValidatesWhatIsNoRam) {
  auto fault = snp_.try_pvalidate(SnpMachine::kHidden, 0, 1);
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->kind, EventKind::kEmulatorMemory);
  EXPECT_EQ(fault->gpa, SnpMachine::kHidden);
  fault = snp_.try_pvalidate(0xA0000, 0, 1);
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->kind, EventKind::kBeyondAddressWidth);
  EXPECT_EQ(fault->gpa, 0xA0000U);
  snp_.leaf(0) = 1ULL << 51 | kCBit | SnpMachine::kPresent;
  snp_.gpr(kRax) = SnpMachine::window(0);
  fault = snp_.execute(kRmpAdjust);
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->kind, EventKind::kBeyondAddressWidth);
}

// --- RMPADJUST and RMPQUERY ---

TEST_F(SnpProcessorTest, AnswersLinuxsQuestionForItsPrivilegeLevel) {
  // RMPADJUST of a validated page, VMPL 1, no permissions: only VMPL 0 may.
  constexpr std::uint64_t kOthers = 0x202;
  set_flags(kOthers | 1);
  EXPECT_EQ(adjust(kRmpAdjust, kGhcb, 0, 1), 0U);
  EXPECT_EQ(flags(), kOthers | 0x44);
  EXPECT_EQ(snp_.counters().rmpadjust_calls, 1U);
  EXPECT_TRUE(snp_.reachable(View::kPrivate, kGhcb));
  EXPECT_EQ(snp_.counters().accept_other_errors, 0U);
}

TEST_F(SnpProcessorTest, TellsWhyItDoesNotAdjust) {
  EXPECT_EQ(adjust(kRmpAdjust, kGhcb, 0, 0), 2U) << "own VMPL";
  EXPECT_EQ(adjust(kRmpAdjust, kGhcb, 2, 1), 1U) << "size";
  EXPECT_EQ(adjust(kRmpAdjust, kGhcb + 1, 0, 1), 1U) << "alignment";
  EXPECT_EQ(adjust(kRmpAdjust, kGhcb, 1ULL << 32, 1), 1U) << "all of RCX";
  EXPECT_EQ(adjust(kRmpAdjust, kGhcb, 0, 1), 0U) << "smashes the entry";
  EXPECT_EQ(adjust(kRmpAdjust, kGhcb & ~(k2M - 1), 1, 1), 6U) << "the entry is small by now";
}

TEST_F(SnpProcessorTest, TellsThePermissionsThatItAdjusted) {
  constexpr std::uint64_t kReadWriteOfVmpl2 = 0x0302;
  EXPECT_EQ(adjust(kRmpAdjust, kGhcb, 0, kReadWriteOfVmpl2), 0U);
  EXPECT_EQ(adjust(kRmpQuery, kGhcb, 77, 2), 0U);
  EXPECT_EQ(snp_.gpr(kRcx), 0U) << "4 KiB";
  EXPECT_EQ(snp_.gpr(kRdx), kReadWriteOfVmpl2);
  EXPECT_EQ(adjust(kRmpQuery, kGhcb + k2M, 77, 1), 0U);
  EXPECT_EQ(snp_.gpr(kRcx), 1U) << "2 MiB";
  EXPECT_EQ(snp_.gpr(kRdx), 1U) << "no permissions";
  EXPECT_EQ(snp_.counters().rmpadjust_calls, 1U) << "a query is none";
}

TEST_F(SnpProcessorTest, LeavesTheRegistersOfAQueryThatFails) {
  EXPECT_EQ(adjust(kRmpQuery, kGhcb, 77, 4), 1U);
  EXPECT_EQ(snp_.gpr(kRcx), 77U);
  EXPECT_EQ(snp_.gpr(kRdx), 4U);
}

TEST_F(SnpProcessorTest, EndsTheGuestThatAdjustsAPageBeforeItValidatedIt) {
  for (const Code& code : {kRmpAdjust, kRmpQuery}) {
    snp_.gpr(kRax) = kPending;
    snp_.gpr(kRcx) = 0;
    snp_.gpr(kRdx) = 1;
    const auto fault = snp_.execute(code);
    ASSERT_TRUE(fault.has_value());
    EXPECT_EQ(fault->kind, EventKind::kUnacceptedAccess);
    EXPECT_EQ(fault->gpa, kPending);
  }
}

TEST_F(SnpProcessorTest, RaisesVcForAnAdjustedPageThatIsNotValidatedWhereTheGuestTakesIt) {
  SnpMachine snp{{.stop_on_unaccepted = false}};
  for (const Code& code : {kRmpAdjust, kRmpQuery}) {
    snp.gpr(kRax) = kPending;
    snp.gpr(kRcx) = 0;
    snp.gpr(kRdx) = 1;
    EXPECT_FALSE(snp.execute(code).has_value());
    EXPECT_EQ(snp.event(), kNotValidated);
    EXPECT_EQ(snp.vcpu().save().rip, kRip);
    EXPECT_EQ(snp.gpr(kRax), kPending);
    EXPECT_EQ(snp.vcpu().save().cr2, kPending);
  }
}

TEST_F(SnpProcessorTest, CountsTheConversionOfASharedPageThatIsAdjusted) {
  SnpMachine snp{{.stop_on_unaccepted = false}};
  snp.change_state(kPending, PageOp::kShared);
  snp.gpr(kRax) = kPending;
  snp.gpr(kRcx) = 0;
  snp.gpr(kRdx) = 1;
  EXPECT_FALSE(snp.execute(kRmpAdjust).has_value());
  EXPECT_EQ(snp.event(), kNotValidated);
  EXPECT_FALSE(snp.is_shared(kPending));
  EXPECT_EQ(snp.counters().implicit_conversions, 1U);
  EXPECT_EQ(snp.counters().to_private_bytes, k4K);
  EXPECT_NE(snp.violation(EventKind::kImplicitConversion), nullptr);
}

// --- MSRs ---

TEST_F(SnpProcessorTest, ShowsAnSnpGuest) {
  EXPECT_EQ(snp_.read_msr(0xC001'0131), 7U);
  EXPECT_EQ(snp_.vcpu().save().rip, kRip + 2);
}

TEST_F(SnpProcessorTest, HasTheSevInformationInTheGhcbMsrAtFirst) {
  EXPECT_EQ(snp_.read_msr(0xC001'0130), 0x0002'0001'2F00'0001U);
}

TEST_F(SnpProcessorTest, KeepsTheGhcbMsr) {
  snp_.gpr(kRax) = 0xFFFF'FFFF'8765'4321;
  snp_.gpr(kRdx) = 0xFFFF'FFFF'1234'5678;
  EXPECT_TRUE(snp_.processor().msr(snp_.vcpu(), 0xC001'0130, true));
  EXPECT_EQ(snp_.vcpu().save().rip, kRip + 2);
  EXPECT_EQ(snp_.read_msr(0xC001'0130), 0x1234'5678'8765'4321U);
}

TEST_F(SnpProcessorTest, HasNoOtherMsrs) {
  EXPECT_FALSE(snp_.processor().msr(snp_.vcpu(), 0xC001'0131, true)) << "read-only";
  EXPECT_FALSE(snp_.processor().msr(snp_.vcpu(), 0xC001'0132, false));
  EXPECT_FALSE(snp_.processor().msr(snp_.vcpu(), kMsrEfer, false));
  EXPECT_EQ(snp_.vcpu().save().rip, kRip);
  EXPECT_EQ(snp_.read_msr(0xC001'0131), 7U);
}

TEST_F(SnpProcessorTest, AnswersCpuid) {
  snp_.gpr(kRax) = 0x8000'001F;
  snp_.gpr(kRcx) = 0;
  snp_.processor().cpuid(snp_.vcpu());
  EXPECT_EQ(snp_.gpr(kRax), 0x1AU);
  EXPECT_EQ(snp_.gpr(kRbx), 0x8000'006FU);
  EXPECT_EQ(snp_.gpr(kRcx), 0U);
  EXPECT_EQ(snp_.gpr(kRdx), 0U);
  EXPECT_EQ(snp_.vcpu().save().rip, kRip + 2);
}

TEST_F(SnpProcessorTest, KnowsTheExitsThatAcceptanceConsistsOf) {
  for (const Exit exit : {Exit::kExceptionUd, Exit::kVmmcall, Exit::kMsr}) {
    EXPECT_TRUE(SnpProcessor::is_accept(snp_.vcpu(), exit));
  }
  for (const Exit exit : {Exit::kCpuid, Exit::kNestedPageFault, Exit::kIo, Exit::kVmrun}) {
    EXPECT_FALSE(SnpProcessor::is_accept(snp_.vcpu(), exit));
  }
}

// --- VMGEXIT ---

TEST_F(SnpProcessorTest, AnswersInTheMsrAndStepsOver) {
  EXPECT_EQ(snp_.vmgexit(2), 0x0002'0001'2F00'0001U);
  EXPECT_EQ(snp_.vcpu().save().rip, kRip + 4 + 2) << "VMGEXIT, then RDMSR";
  EXPECT_EQ(snp_.counters().ghcb[static_cast<std::size_t>(GhcbSlot::kMsrSevInfo)], 1U);
}

TEST_F(SnpProcessorTest, TakesNoPlainVmmcallForVmgexit) {
  for (const std::uint32_t bytes : {0x90D9'010FU, 0xD901'0FF2U, 0xFF01'0FF3U}) {
    snp_.word(kRip) = bytes;
    const auto answered = snp_.processor().vmmcall(snp_.vcpu());
    ASSERT_TRUE(answered.has_value());
    EXPECT_FALSE(*answered) << std::hex << bytes;
    EXPECT_EQ(snp_.vcpu().save().rip, kRip);
  }
}

TEST_F(SnpProcessorTest, AnswersThroughAPageThatIsRegistered) {
  snp_.make_ghcb(kGhcb);
  snp_.ghcb(kGhcb).sw_exit_code = static_cast<std::uint64_t>(ExitCode::kHvFeatures);
  snp_.ghcb(kGhcb).valid_bitmap = {~0ULL, ~0ULL};
  EXPECT_EQ(snp_.vmgexit(kGhcb), kGhcb);
  EXPECT_EQ(snp_.ghcb(kGhcb).sw_exit_info_1, 0U);
  EXPECT_EQ(snp_.ghcb(kGhcb).sw_exit_info_2, 1U);
}

TEST_F(SnpProcessorTest, EndsTheGuestThatUsesAPageWithoutRegisteringIt) {
  snp_.make_ghcb(kGhcb);
  snp_.change_state(kGhcb + k4K, PageOp::kShared);
  const auto fault = snp_.try_vmgexit(kGhcb + k4K);
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->kind, EventKind::kBadGhcb);
  EXPECT_EQ(fault->gpa, kGhcb + k4K);
  EXPECT_EQ(fault->state, "GHCB not registered");
  EXPECT_FALSE(fault->message.empty());
  EXPECT_EQ(snp_.vcpu().save().rip, kRip);
}

TEST_F(SnpProcessorTest, GoesOnAfterAnExitWhosePageIsPrivate) {
  EXPECT_EQ(snp_.vmgexit(kGhcb), kGhcb) << "as KVM answers";
  EXPECT_FALSE(snp_.reachable(View::kShared, kGhcb));
}

TEST_F(SnpProcessorTest, EndsTheGuestThatTerminates) {
  const auto fault = snp_.try_vmgexit(0x0003'1100);
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->kind, EventKind::kGuestTermination);
  EXPECT_EQ(fault->detail, 0x103U) << "set and code";
  EXPECT_EQ(fault->state, "not at VMPL 0");
  EXPECT_EQ(fault->message, "the guest terminated 1:3 (not at VMPL 0)");
}

TEST_F(SnpProcessorTest, EndsTheGuestThatTerminatesThroughItsPage) {
  snp_.make_ghcb(kGhcb);
  snp_.ghcb(kGhcb).sw_exit_code = static_cast<std::uint64_t>(ExitCode::kTerminate);
  snp_.ghcb(kGhcb).sw_exit_info_1 = 0x20;
  snp_.ghcb(kGhcb).sw_exit_info_2 = 0x18;
  snp_.ghcb(kGhcb).valid_bitmap = {~0ULL, ~0ULL};
  const auto fault = snp_.try_vmgexit(kGhcb);
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->kind, EventKind::kGuestTermination);
  EXPECT_EQ(fault->detail, 0x002U);
  EXPECT_EQ(fault->message,
            "the guest terminated 0:2 (SNP features unsupported); sw_exit_info_2 0x18");
}

TEST_F(SnpProcessorTest, EndsTheGuestWhoseOnlyProcessorWaitsForItsStart) {
  const auto fault = snp_.try_vmgexit(static_cast<std::uint64_t>(MsrCode::kApResetHoldRequest));
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->kind, EventKind::kHaltedForEver);
}

}  // namespace
}  // namespace accede::emulator
