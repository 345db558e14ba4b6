#include "accede/emulator/tdx_module.hpp"

#include "accede/abi/tdx.hpp"
#include "accede/emulator/touched_pages.hpp"
#include "tests/emulator/td_machine.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace accede::emulator {
namespace {

using namespace accede::test;
namespace tdx = abi::tdx;

constexpr std::uint64_t kOperandInvalid = 0xC000'0100'0000'0000;
constexpr std::uint64_t kPending = TdMachine::kPending;

class TdxModuleTest : public testing::Test {
 protected:
  /// Fills the registers with values that a leaf must not change unless it says so.
  void fill() {
    for (unsigned i = 0; i < 16; ++i) {
      td_.vcpu().gpr[i] = 0x1111'0000 + i;
    }
  }
  /// VM.RD of `id`: RAX.
  std::uint64_t read_field(std::uint64_t id) {
    td_.gpr(kRcx) = 0;
    td_.gpr(kRdx) = id;
    td_.gpr(kR8) = 0x5555;
    EXPECT_FALSE(td_.tdcall(7).has_value());
    return td_.gpr(kRax);
  }
  /// VM.WR: RAX; R8 holds the previous value.
  std::uint64_t write_field(std::uint64_t id, std::uint64_t value, std::uint64_t mask) {
    td_.gpr(kRcx) = 0;
    td_.gpr(kRdx) = id;
    td_.gpr(kR8) = value;
    td_.gpr(kR9) = mask;
    EXPECT_FALSE(td_.tdcall(8).has_value());
    return td_.gpr(kRax);
  }

  TdMachine td_;
};

TEST_F(TdxModuleTest, StepsOverTheInstructionAndCountsTheLeaf) {
  EXPECT_FALSE(td_.tdcall(1).has_value());
  EXPECT_EQ(td_.vcpu().save().rip, TdMachine::kRip + 4);
  EXPECT_EQ(td_.counters().tdcall[1], 1U);
}

TEST_F(TdxModuleTest, RefusesEveryLeafThatItDoesNotHave) {
  for (const std::uint64_t leaf : {9U,  10U, 11U, 12U, 18U, 20U, 22U, 23U, 24U,     25U,    26U,
                                   27U, 28U, 29U, 30U, 31U, 32U, 64U, 70U, 0x7FFFU, 0xFFFFU}) {
    fill();
    EXPECT_FALSE(td_.tdcall(leaf).has_value());
    EXPECT_EQ(td_.gpr(kRax), kOperandInvalid) << leaf;
    EXPECT_EQ(td_.gpr(kRcx), 0x1111'0001U) << "other registers stay";
  }
  EXPECT_EQ(td_.counters().tdcall_other, 5U);
  const ReportHeader& header = td_.reporter().header();
  EXPECT_EQ(header.violation_total, 21U);
  EXPECT_EQ(header.violations[0].kind, EventKind::kUnknownTdcall);
  EXPECT_EQ(header.violations[0].gpa, 9U);
  EXPECT_EQ(header.violations[0].rip, TdMachine::kRip);
  EXPECT_EQ(header.violations[0].fatal, 0);
}

TEST_F(TdxModuleTest, RefusesReservedBitsAndVersionsInRax) {
  for (const std::uint64_t rax : {0x0100'0001ULL, 0x8000'0001ULL, 0x1'0000'0001ULL, 1ULL << 63 | 1,
                                  0x1'0001ULL, 0x1'0006ULL, 0x2'0007ULL, 0xFF'0007ULL}) {
    EXPECT_FALSE(td_.tdcall(rax).has_value());
    EXPECT_EQ(td_.gpr(kRax), kOperandInvalid) << std::hex << rax;
  }
}

TEST_F(TdxModuleTest, TakesVersionOneOfVmRd) {
  td_.gpr(kRcx) = 0;
  td_.gpr(kRdx) = tdx::kFieldGpaw;
  EXPECT_FALSE(td_.tdcall(0x1'0007).has_value());
  EXPECT_EQ(td_.gpr(kRax), 0U);
}

TEST_F(TdxModuleTest, DescribesTheTd) {
  fill();
  EXPECT_FALSE(td_.tdcall(1).has_value());
  EXPECT_EQ(td_.gpr(kRax), 0U);
  EXPECT_EQ(td_.gpr(kRcx), 48U);
  EXPECT_EQ(td_.gpr(kRdx), tdx::kAttributeSeptVeDisable);
  EXPECT_EQ(td_.gpr(kR8), 0x1'0000'0001U);
  EXPECT_EQ(td_.gpr(kR9), 0U);
  EXPECT_EQ(td_.gpr(kR10), 0U) << "no SYS.RD";
  EXPECT_EQ(td_.gpr(kR11), 0U);
  EXPECT_EQ(td_.gpr(kR12), 0x1111'000CU);
}

TEST(TdxModuleWithVe, SaysSoInItsAttributes) {
  TdMachine td{{.sept_ve_disable = false}};
  EXPECT_FALSE(td.tdcall(1).has_value());
  EXPECT_EQ(td.gpr(kRdx), 0U);
}

TEST_F(TdxModuleTest, HasNoVeInformationUntilThereWasAVirtualizationException) {
  fill();
  EXPECT_FALSE(td_.tdcall(3).has_value());
  EXPECT_EQ(td_.gpr(kRax), 0xC000'0704'0000'0000U);
  for (const Register r : {kRcx, kRdx, kR8, kR9, kR10}) {
    EXPECT_EQ(td_.gpr(r), 0U) << static_cast<int>(r);
  }
}

TEST_F(TdxModuleTest, GivesTheVeInformationOnce) {
  td_.vcpu().inject_ve({.exit_reason = 48,
                        .instruction_length = 3,
                        .qualification = 2,
                        .linear_address = 0x7000,
                        .gpa = 0x1'0000'0000});
  EXPECT_FALSE(td_.tdcall(3).has_value());
  EXPECT_EQ(td_.gpr(kRax), 0U);
  EXPECT_EQ(td_.gpr(kRcx), 48U);
  EXPECT_EQ(td_.gpr(kRdx), 2U);
  EXPECT_EQ(td_.gpr(kR8), 0x7000U);
  EXPECT_EQ(td_.gpr(kR9), 0x1'0000'0000U);
  EXPECT_EQ(td_.gpr(kR10), 3U);
  EXPECT_FALSE(td_.tdcall(3).has_value());
  EXPECT_EQ(td_.gpr(kRax), 0xC000'0704'0000'0000U);
}

TEST_F(TdxModuleTest, SetsCpuidExceptionsPerMode) {
  for (const std::uint64_t mode : {1U, 2U, 3U, 0U}) {
    td_.gpr(kRcx) = mode;
    EXPECT_FALSE(td_.tdcall(5).has_value());
    EXPECT_EQ(td_.gpr(kRax), 0U);
    EXPECT_EQ(td_.vcpu().cpuid_ve, mode);
  }
}

// --- MEM.PAGE.ACCEPT: the exact words of the decision table
// ---------------------------------------

TEST_F(TdxModuleTest, AcceptsAPendingPageAndZeroesIt) {
  td_.word(kPending) = 42;
  EXPECT_FALSE(td_.reachable(View::kPrivate, kPending));
  EXPECT_EQ(td_.accept(kPending, 0), 0U);
  EXPECT_TRUE(td_.reachable(View::kPrivate, kPending));
  EXPECT_FALSE(td_.reachable(View::kPrivate, kPending + k4K));
  EXPECT_EQ(td_.word(kPending), 0U);
  EXPECT_EQ(td_.gpr(kRcx), kPending) << "RCX stays";
}

TEST_F(TdxModuleTest, AcceptsTwoMebibytesAtOnce) {
  td_.word(kPending + k2M - 8) = 42;
  EXPECT_EQ(td_.accept(kPending, 1), 0U);
  EXPECT_EQ(td_.tables().mapped(View::kPrivate, PhysAddr{kPending}), PageSize::k2M);
  EXPECT_EQ(td_.word(kPending + k2M - 8), 0U);
  EXPECT_EQ(td_.counters().accept_calls[1], 1U);
  EXPECT_EQ(td_.counters().accepted_bytes[0], k2M);
}

TEST_F(TdxModuleTest, SaysAtWhichLevelAPageIsAcceptedAlready) {
  EXPECT_EQ(td_.accept(kPending, 1), 0U);
  EXPECT_EQ(td_.accept(kPending, 1), 0x0000'0B0A'0000'0001U);
  EXPECT_EQ(td_.accept(kPending + 5 * k4K, 0), 0x0000'0B0A'0000'0001U) << "inside a 2 MiB page";
  EXPECT_EQ(td_.accept(kPending + k2M, 0), 0U);
  EXPECT_EQ(td_.accept(kPending + k2M, 0), 0x0000'0B0A'0000'0000U);
  EXPECT_EQ(td_.counters().already_accepted, 3U);
  const ReportHeader& header = td_.reporter().header();
  EXPECT_EQ(header.violations[0].kind, EventKind::kDoubleAccept);
  EXPECT_EQ(header.violations[0].fatal, 0);
}

TEST_F(TdxModuleTest, KeepsTheContentOfAPageThatIsAcceptedAgain) {
  EXPECT_EQ(td_.accept(kPending, 1), 0U);
  td_.word(kPending + 16) = 42;
  EXPECT_EQ(td_.accept(kPending, 1), 0x0000'0B0A'0000'0001U);
  EXPECT_EQ(td_.accept(kPending, 0), 0x0000'0B0A'0000'0001U);
  EXPECT_EQ(td_.word(kPending + 16), 42U);
}

TEST_F(TdxModuleTest, SaysThatMemoryInUseAtLaunchIsAccepted) {
  td_.word(k2M) = 42;
  EXPECT_EQ(td_.accept(k2M, 1), 0x0000'0B0A'0000'0001U);
  EXPECT_EQ(td_.accept(0x5000, 0), 0x0000'0B0A'0000'0000U);
  EXPECT_EQ(td_.word(k2M), 42U);
}

TEST_F(TdxModuleTest, RefusesTwoMebibytesOverSmallPages) {
  EXPECT_EQ(td_.accept(kPending + 3 * k4K, 0), 0U);
  EXPECT_EQ(td_.accept(kPending, 1), 0xC000'0B0B'0000'0001U);
  EXPECT_EQ(td_.counters().size_mismatch, 1U);
  EXPECT_EQ(td_.reporter().header().violation_total, 0U) << "not the guest's fault";
}

TEST_F(TdxModuleTest, RefusesOneGibibyteAlways) {
  EXPECT_EQ(td_.accept(kPending, 2), 0xC000'0100'0000'0001U);
  EXPECT_EQ(td_.counters().refused_1g, 1U);
  EXPECT_EQ(td_.reporter().header().violation_total, 0U) << "Linux asks on purpose";
}

TEST_F(TdxModuleTest, RefusesAcceptOperandsThatAreNotOne) {
  constexpr std::uint64_t kExpected = 0xC000'0100'0000'0001;
  constexpr std::array<std::uint64_t, 12> kOperands{kPending | k4K | 1,  // not aligned to 2 MiB
                                                    kPending | (k2M / 2) | 1,  //
                                                    kPending | 3,              // no such level
                                                    kPending | 7,              //
                                                    kPending | 8,              // reserved bits
                                                    kPending | 0x800,          //
                                                    kPending | (1ULL << 52),   //
                                                    kPending | (1ULL << 63),   //
                                                    kPending | kShared,        // shared bit
                                                    kPending | kShared | 1,    //
                                                    (1ULL << 48),  // beyond the address width
                                                    (1ULL << 51) | kPending};
  for (const std::uint64_t rcx : kOperands) {
    td_.gpr(kRcx) = rcx;
    EXPECT_FALSE(td_.tdcall(6).has_value());
    EXPECT_EQ(td_.gpr(kRax), kExpected) << std::hex << rcx;
  }
  EXPECT_EQ(td_.counters().accept_other_errors, kOperands.size());
  EXPECT_EQ(td_.reporter().header().violations[0].kind, EventKind::kInvalidAccept);
  EXPECT_FALSE(td_.reachable(View::kPrivate, kPending));
}

TEST_F(TdxModuleTest, EndsTheTdThatAcceptsASharedPage) {
  EXPECT_EQ(td_.map_gpa(kPending | kShared, k4K).r10, 0U);
  const auto fault = td_.accept_fault(kPending, 0);
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->kind, EventKind::kPolarityMismatch);
  EXPECT_EQ(fault->gpa, kPending);
  EXPECT_EQ(td_.vcpu().save().rip, TdMachine::kRip) << "the report names the instruction";
}

TEST_F(TdxModuleTest, EndsTheTdThatAcceptsWhereThereIsNoRam) {
  for (const std::uint64_t gpa : {std::uint64_t{0xFEE0'0000}, std::uint64_t{0xA0000},
                                  TdMachine::kPendingEnd, kShared - k4K}) {
    const auto fault = td_.accept_fault(gpa, 0);
    ASSERT_TRUE(fault.has_value()) << std::hex << gpa;
    EXPECT_EQ(fault->kind, EventKind::kBeyondAddressWidth);
    EXPECT_EQ(fault->gpa, gpa);
  }
}

TEST_F(TdxModuleTest, DoesNotGiveTheEmulatorsOwnMemoryToAGuestThatAcceptsIt) {
  td_.word(TdMachine::kHidden + (8 << 20)) = 42;
  for (const unsigned level : {0U, 1U}) {
    const auto fault = td_.accept_fault(TdMachine::kHidden + (8 << 20), level);
    EXPECT_TRUE(fault.has_value());
    EXPECT_EQ(fault.value_or(Fault{}).kind, EventKind::kEmulatorMemory);
  }
  EXPECT_EQ(td_.word(TdMachine::kHidden + (8 << 20)), 42U);
  EXPECT_FALSE(td_.reachable(View::kPrivate, TdMachine::kHidden + (8 << 20)));
}

// --- RTMR and report -----------------------------------------------------------------------------

class TdReportTest : public TdxModuleTest {
 protected:
  static constexpr std::uint64_t kOut = 4 << 20;
  static constexpr std::uint64_t kData = 5 << 20;

  /// MR.REPORT: RAX.
  std::uint64_t report(std::uint64_t out, std::uint64_t data, std::uint64_t subtype = 0) {
    td_.gpr(kRcx) = out;
    td_.gpr(kRdx) = data;
    td_.gpr(kR8) = subtype;
    EXPECT_FALSE(td_.tdcall(4).has_value());
    return td_.gpr(kRax);
  }
  std::uint64_t extend(std::uint64_t gpa, std::uint64_t index) {
    td_.gpr(kRcx) = gpa;
    td_.gpr(kRdx) = index;
    EXPECT_FALSE(td_.tdcall(2).has_value());
    return td_.gpr(kRax);
  }
  const tdx::TdReport& result() { return td_.ram().at<tdx::TdReport>(PhysAddr{kOut}); }

  template <class T>
  static tdx::Sha384Digest hash(const T& object) {
    host::Sha384 sha;
    sha.update(std::as_bytes(std::span{&object, 1}));
    return sha.digest();
  }
};

TEST_F(TdReportTest, WritesAReportWhoseHashesAgree) {
  for (std::uint64_t i = 0; i < 8; ++i) {
    td_.word(kData + i * 8) = 0x0101010101010101 * (i + 1);
  }
  EXPECT_EQ(report(kOut, kData), 0U);
  EXPECT_EQ(result().mac.report_type.type, 0x81);
  EXPECT_EQ(result().mac.report_type.subtype, 0);
  EXPECT_EQ(result().mac.report_data[0], 1);
  EXPECT_EQ(result().mac.report_data[63], 8);
  EXPECT_EQ(result().mac.tee_tcb_info_hash, hash(result().tee_tcb_info));
  EXPECT_EQ(result().mac.tee_info_hash, hash(result().td_info));
  EXPECT_EQ(result().td_info.attributes, tdx::kAttributeSeptVeDisable);
  EXPECT_EQ(result().td_info.xfam, 7U);
  EXPECT_EQ(result().td_info.rtmr[0], tdx::Sha384Digest{});
}

TEST_F(TdReportTest, ExtendsOneRegisterWithAHashOverItsOldValueAndTheData) {
  for (std::uint64_t i = 0; i < 6; ++i) {
    td_.word(kData + i * 8) = i + 1;
  }
  EXPECT_EQ(extend(kData, 2), 0U);
  EXPECT_EQ(report(kOut, kData), 0U);
  std::array<std::byte, 96> input{};
  std::ranges::copy(std::span{&td_.ram().at<std::byte>(PhysAddr{kData}), 48}, input.begin() + 48);
  tdx::Sha384Digest expected = hash(input);
  EXPECT_EQ(result().td_info.rtmr[2], expected);
  EXPECT_EQ(result().td_info.rtmr[1], tdx::Sha384Digest{});

  std::ranges::copy(std::as_bytes(std::span{expected}), input.begin());
  EXPECT_EQ(extend(kData, 2), 0U);
  EXPECT_EQ(report(kOut, kData), 0U);
  expected = hash(input);
  EXPECT_EQ(result().td_info.rtmr[2], expected);
}

TEST_F(TdReportTest, RefusesBadOperandsOfTheReport) {
  EXPECT_EQ(report(kOut + 512, kData), kOperandInvalid | 1);
  EXPECT_EQ(report(kOut | kShared, kData), kOperandInvalid | 1);
  EXPECT_EQ(report(kPending, kData), kOperandInvalid | 1) << "not accepted";
  EXPECT_EQ(report(TdMachine::kHidden, kData), kOperandInvalid | 1);
  EXPECT_EQ(report(kOut, kData + 32), kOperandInvalid | 2);
  EXPECT_EQ(report(kOut, kData | kShared), kOperandInvalid | 2);
  EXPECT_EQ(report(kOut, kPending), kOperandInvalid | 2);
  EXPECT_EQ(report(kOut, kData, 1), kOperandInvalid | 8);
  EXPECT_EQ(result().mac.report_type.type, 0) << "nothing was written";
}

TEST_F(TdReportTest, RefusesBadOperandsOfTheExtension) {
  EXPECT_EQ(extend(kData + 32, 0), kOperandInvalid | 1);
  EXPECT_EQ(extend(kData | kShared, 0), kOperandInvalid | 1);
  EXPECT_EQ(extend(kPending, 0), kOperandInvalid | 1);
  EXPECT_EQ(extend(TdMachine::kHidden, 0), kOperandInvalid | 1);
  EXPECT_EQ(extend(kData, 4), kOperandInvalid | 2);
  EXPECT_EQ(extend(kData, ~0ULL), kOperandInvalid | 2);
}

// --- VM.RD and VM.WR
// -------------------------------------------------------------------------------

TEST_F(TdxModuleTest, ReadsTheFieldsOfTheTd) {
  const auto value = [this](std::uint64_t id) {
    EXPECT_EQ(read_field(id), 0U) << std::hex << id;
    return td_.gpr(kR8);
  };
  EXPECT_EQ(value(tdx::kFieldAttributes), tdx::kAttributeSeptVeDisable);
  EXPECT_EQ(value(tdx::kFieldXfam), 7U);
  EXPECT_EQ(value(tdx::kFieldMaxVcpus), 1U);
  EXPECT_EQ(value(tdx::kFieldNumVcpus), 1U);
  EXPECT_EQ(value(tdx::kFieldGpaw), 0U);
  EXPECT_EQ(value(tdx::kFieldConfigFlags), 0U);
  EXPECT_EQ(value(tdx::kFieldTscFrequency), TdMachine::kTscHz / 25'000'000);
  EXPECT_EQ(value(tdx::kFieldTdCtls), tdx::kTdCtlsPendingVeDisable);
  EXPECT_EQ(value(tdx::kFieldNotifyEnables), 0U);
}

TEST_F(TdxModuleTest, FindsAFieldByClassAndCodeAlone) {
  EXPECT_EQ(read_field(tdx::kFieldNotifyEnablesLinux), 0U);
  EXPECT_EQ(write_field(tdx::kFieldNotifyEnablesLinux, 1, 1), 0U);
  EXPECT_EQ(read_field(tdx::kFieldNotifyEnables), 0U);
  EXPECT_EQ(td_.gpr(kR8), 1U);
}

TEST_F(TdxModuleTest, RefusesFieldsThatItDoesNotKnow) {
  constexpr std::uint64_t kIncorrect = 0xC000'0C00'0000'0002;
  for (const std::uint64_t id : {~0ULL, 0x1110'0003'0000'0FFFULL, 0x2110'0003'0000'0000ULL,
                                 tdx::kFieldXfam | (1ULL << 34), tdx::kFieldXfam | (1ULL << 38),
                                 tdx::kFieldXfam | (1ULL << 24), tdx::kFieldXfam | (1ULL << 62)}) {
    EXPECT_EQ(read_field(id), kIncorrect) << std::hex << id;
    EXPECT_EQ(td_.gpr(kR8), 0U) << "no value on an error";
    EXPECT_EQ(write_field(id, 0, ~0ULL), kIncorrect) << std::hex << id;
  }
}

TEST_F(TdxModuleTest, RefusesAnotherTdsFields) {
  td_.gpr(kRcx) = 1;
  td_.gpr(kRdx) = tdx::kFieldGpaw;
  EXPECT_FALSE(td_.tdcall(7).has_value());
  EXPECT_EQ(td_.gpr(kRax), kOperandInvalid | 1);
  EXPECT_EQ(td_.gpr(kR8), 0U);
  td_.gpr(kRcx) = 1;
  EXPECT_FALSE(td_.tdcall(8).has_value());
  EXPECT_EQ(td_.gpr(kRax), kOperandInvalid | 1);
}

TEST_F(TdxModuleTest, RefusesWritesToFieldsThatTheGuestMayOnlyRead) {
  for (const std::uint64_t id : {tdx::kFieldAttributes, tdx::kFieldXfam, tdx::kFieldMaxVcpus,
                                 tdx::kFieldGpaw, tdx::kFieldConfigFlags}) {
    EXPECT_EQ(write_field(id, 0, ~0ULL), 0xC000'0C01'0000'0002U) << std::hex << id;
  }
}

TEST_F(TdxModuleTest, CutsTheWriteMaskToTheWritableBit) {
  EXPECT_EQ(write_field(tdx::kFieldNotifyEnables, 0, ~0ULL), 0U) << "as Linux does it";
  EXPECT_EQ(td_.gpr(kR8), 0U);
  EXPECT_EQ(write_field(tdx::kFieldNotifyEnables, 1, 1), 0U);
  EXPECT_EQ(td_.gpr(kR8), 0U) << "the previous value";
  EXPECT_EQ(write_field(tdx::kFieldNotifyEnables, 0, 0), 0U) << "an empty mask changes nothing";
  EXPECT_EQ(td_.gpr(kR8), 1U);
  EXPECT_EQ(write_field(tdx::kFieldNotifyEnables, 2, 2), 0xC000'0C03'0000'0002U);
  EXPECT_EQ(write_field(tdx::kFieldNotifyEnables, 3, ~0ULL), 0xC000'0C03'0000'0002U);
  EXPECT_EQ(read_field(tdx::kFieldNotifyEnables), 0U);
  EXPECT_EQ(td_.gpr(kR8), 1U) << "refused writes changed nothing";
  EXPECT_EQ(write_field(tdx::kFieldNotifyEnables, 0, 1), 0U);
  EXPECT_EQ(td_.gpr(kR8), 1U);
}

TEST_F(TdxModuleTest, DoesNotLetTheGuestSwitchPendingExceptions) {
  EXPECT_EQ(write_field(tdx::kFieldTdCtls, 1, 1), 0U) << "unchanged bits are tolerated";
  EXPECT_EQ(write_field(tdx::kFieldTdCtls, 0, 1), 0xC000'0C03'0000'0002U);
  EXPECT_EQ(write_field(tdx::kFieldTdCtls, 8, 8), 0xC000'0C03'0000'0002U);
  EXPECT_EQ(read_field(tdx::kFieldTdCtls), 0U);
  EXPECT_EQ(td_.gpr(kR8), tdx::kTdCtlsPendingVeDisable);
}

}  // namespace
}  // namespace accede::emulator
