#include "accede/emulator/exception_frame.hpp"

#include "tests/emulator/snp_machine.hpp"

#include <gtest/gtest.h>

#include <array>

namespace accede::emulator {
namespace {

using namespace accede::test;

constexpr std::uint64_t kIdt = 0x30'0000;
constexpr std::uint64_t kGdt = 0x30'2000;
constexpr std::uint64_t kTss = 0x30'3000;
constexpr std::uint64_t kHandler = 0xFFFF'8123'4567'89A0;
constexpr std::uint64_t kStack = 0x31'0010;  // of the interrupted code; not aligned to 16
constexpr std::uint64_t kPrivilegeStack = 0x32'0000;
constexpr std::uint64_t kInterruptStack = 0x33'0000;
constexpr std::uint64_t kRip = SnpMachine::kRip;
constexpr std::uint64_t kFlags = 0x4'0302;  // AC, IF, TF
constexpr std::uint16_t kCode = 0x38;
constexpr std::uint8_t kVc = Vcpu::kVmmCommunication;
constexpr std::uint64_t kDoubleFault = 0x8000'0B08;

class ExceptionFrame : public testing::Test {
 protected:
  ExceptionFrame() {
    VmcbSave& save = snp_.vcpu().save();
    save.idtr = {.selector = 0, .attributes = 0, .limit = 0xFFF, .base = kIdt};
    save.gdtr = {.selector = 0, .attributes = 0, .limit = 0x47, .base = kGdt};
    save.tr.base = kTss;
    save.cs.selector = kCode;
    save.ss.selector = 0x30;
    save.rflags = kFlags;
    snp_.gpr(kRsp) = kStack;
    snp_.word(kGdt + kCode) = 0x00AF'9B00'0000'FFFF;
    put_gate(0x8E, 0);
    put_unaligned(kTss + 4, kPrivilegeStack);
    put_unaligned(kTss + 0x24 + 16, kInterruptStack);
  }

  void put_gate(std::uint64_t type, std::uint64_t stack) {
    snp_.word(kIdt + kVc * 16) = (kHandler & 0xFFFF) | std::uint64_t{kCode} << 16 | stack << 32 |
                                 type << 40 | (kHandler >> 16 & 0xFFFF) << 48;
    snp_.word(kIdt + kVc * 16 + 8) = kHandler >> 32;
  }
  /// The TSS has its words at odd multiples of 4.
  void put_unaligned(std::uint64_t gpa, std::uint64_t value) {
    snp_.word(gpa & ~7ULL) = value << 32;
    snp_.word((gpa & ~7ULL) + 8) = value >> 32;
  }
  void enter() {
    snp_.vcpu().inject_with_error(kVc, 0x404);
    snp_.processor().before_entry(snp_.vcpu());
  }
  /// Error code, RIP, CS, RFLAGS, RSP, SS.
  [[nodiscard]] std::array<std::uint64_t, 6> frame(std::uint64_t at) {
    std::array<std::uint64_t, 6> words{};
    for (std::size_t i = 0; i < words.size(); ++i) {
      words[i] = snp_.word(at + i * 8);
    }
    return words;
  }
  [[nodiscard]] VmcbSave& save() { return snp_.vcpu().save(); }

  SnpMachine snp_;
};

TEST_F(ExceptionFrame, HoldsTheErrorCodeAndWhereTheGuestWas) {
  enter();
  EXPECT_EQ(snp_.event(), 0U);
  EXPECT_EQ(save().rip, kHandler);
  EXPECT_EQ(snp_.gpr(kRsp), 0x31'0010U - 48);
  const std::array<std::uint64_t, 6> expected{0x404, kRip, kCode, kFlags | 1 << 16, kStack, 0x30};
  EXPECT_EQ(frame(snp_.gpr(kRsp)), expected);
  EXPECT_EQ(save().cs.selector, kCode);
  EXPECT_EQ(save().cs.attributes, 0xA9B);
}

TEST_F(ExceptionFrame, LiesAtAMultipleOfSixteen) {
  snp_.gpr(kRsp) = kStack + 8 + 3;
  enter();
  EXPECT_EQ(snp_.gpr(kRsp), kStack - 48);
  EXPECT_EQ(frame(snp_.gpr(kRsp))[4], kStack + 8 + 3);
}

TEST_F(ExceptionFrame, OfAnInterruptGateMasksInterruptsAndOfATrapGateDoesNot) {
  enter();
  EXPECT_EQ(save().rflags, 0x4'0002U);
  save().rflags = kFlags;
  put_gate(0x8F, 0);
  enter();
  EXPECT_EQ(save().rflags, 0x4'0202U);
}

TEST_F(ExceptionFrame, GoesToTheStackThatTheGateNames) {
  put_gate(0x8E, 3);
  enter();
  EXPECT_EQ(snp_.gpr(kRsp), kInterruptStack - 48);
  EXPECT_EQ(frame(kInterruptStack - 48)[4], kStack);
}

TEST_F(ExceptionFrame, OfUserCodeGoesToTheKernelsStackAndLevel) {
  save().cpl = 3;
  save().cs.selector = 0x33;
  save().ss.selector = 0x2B;
  enter();
  EXPECT_EQ(snp_.gpr(kRsp), kPrivilegeStack - 48);
  const std::array<std::uint64_t, 6> expected{0x404, kRip, 0x33, kFlags | 1 << 16, kStack, 0x2B};
  EXPECT_EQ(frame(kPrivilegeStack - 48), expected);
  EXPECT_EQ(save().cpl, 0);
  EXPECT_EQ(save().ss.selector, 0);
  EXPECT_EQ(save().cs.selector, kCode);
}

TEST_F(ExceptionFrame, CrossesPages) {
  snp_.gpr(kRsp) = 0x31'1010;
  enter();
  EXPECT_EQ(snp_.gpr(kRsp), 0x31'0FE0U);
  EXPECT_EQ(snp_.word(0x31'0FE0), 0x404U);
  EXPECT_EQ(snp_.word(0x31'1008), 0x30U);
}

TEST_F(ExceptionFrame, IsADoubleFaultWhereItCannotBe) {
  const auto expect_double_fault = [&](const char* what) {
    enter();
    EXPECT_EQ(snp_.event(), kDoubleFault) << what;
    EXPECT_EQ(save().rip, kRip) << what;
  };
  put_gate(0x0E, 0);
  expect_double_fault("the gate is not present");
  put_gate(0x85, 0);
  expect_double_fault("the gate is a task gate");
  put_gate(0x8E, 0);
  save().idtr.limit = kVc * 16 + 14;
  expect_double_fault("the gate is behind the table's end");
  save().idtr.limit = 0xFFF;
  snp_.word(kGdt + kCode) = 0x00CF'9B00'0000'FFFF;
  expect_double_fault("32-bit code");
  snp_.word(kGdt + kCode) = 0x00AF'9B00'0000'FFFF;
  snp_.gpr(kRsp) = SnpMachine::kPending + 0x1000;
  expect_double_fault("the stack is not validated");
  snp_.gpr(kRsp) = SnpMachine::kLowEnd + 0x10;
  snp_.word(SnpMachine::kLowEnd - 8) = 7;
  expect_double_fault("the stack ends in no memory");
  EXPECT_EQ(snp_.word(SnpMachine::kLowEnd - 8), 7U) << "nothing was written";
}

TEST_F(ExceptionFrame, IsLeftToTheProcessorForOtherEvents) {
  snp_.vcpu().inject_page_fault(0x1234, 2);
  const std::uint64_t event = snp_.event();
  snp_.processor().before_entry(snp_.vcpu());
  EXPECT_EQ(snp_.event(), event);
  EXPECT_EQ(save().rip, kRip);
}

}  // namespace
}  // namespace accede::emulator
