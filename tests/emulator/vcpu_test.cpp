#include "accede/emulator/vcpu.hpp"

#include <gtest/gtest.h>

#include <memory>

namespace accede::emulator {
namespace {

class VcpuTest : public testing::Test {
 protected:
  VcpuTest() { vcpu_.vmcb = vmcb_.get(); }

  [[nodiscard]] std::uint64_t event() const { return vmcb_->control.event_injection; }

  std::unique_ptr<Vmcb> vmcb_ = std::make_unique<Vmcb>();
  Vcpu vcpu_{};
};

TEST_F(VcpuTest, StepsOverAnInstructionAndEndsItsInterruptShadow) {
  vcpu_.save().rip = 0x1000;
  vmcb_->control.interrupt_shadow = 1;
  vcpu_.advance(4);
  EXPECT_EQ(vcpu_.save().rip, 0x1004U);
  EXPECT_EQ(vmcb_->control.interrupt_shadow, 0U);
}

TEST_F(VcpuTest, KnowsWhenTheGuestRunsIn64BitMode) {
  EXPECT_FALSE(vcpu_.in_64bit_mode());
  vcpu_.save().efer = kEferLma;
  EXPECT_FALSE(vcpu_.in_64bit_mode()) << "compatibility mode";
  vcpu_.save().cs.attributes = 0x29B;
  EXPECT_TRUE(vcpu_.in_64bit_mode());
  vcpu_.save().efer = 0;
  EXPECT_FALSE(vcpu_.in_64bit_mode());
}

TEST_F(VcpuTest, InjectsExceptionsWithAndWithoutErrorCode) {
  vcpu_.inject(Vcpu::kInvalidOpcode);
  EXPECT_EQ(event(), 0x8000'0306U);
  vcpu_.inject_with_error(Vcpu::kGeneralProtection, 0x18);
  EXPECT_EQ(event(), 0x18'8000'0B0DU);
}

TEST_F(VcpuTest, LatchesTheInformationOfTheFirstVirtualizationException) {
  vcpu_.inject_ve({.exit_reason = 48,
                   .instruction_length = 3,
                   .qualification = 1,
                   .linear_address = 2,
                   .gpa = 0x1234});
  EXPECT_EQ(event(), 0x8000'0314U);
  EXPECT_TRUE(vcpu_.ve_pending);
  EXPECT_EQ(vcpu_.ve.gpa, 0x1234U);
}

TEST_F(VcpuTest, MakesASecondVirtualizationExceptionADoubleFault) {
  vcpu_.inject_ve({.exit_reason = 48,
                   .instruction_length = 0,
                   .qualification = 0,
                   .linear_address = 0,
                   .gpa = 0x1000});
  vcpu_.inject_ve({.exit_reason = 10,
                   .instruction_length = 2,
                   .qualification = 0,
                   .linear_address = 0,
                   .gpa = 0x2000});
  EXPECT_EQ(event(), 0x8000'0B08U);
  EXPECT_EQ(vcpu_.ve.gpa, 0x1000U) << "the first one stays readable";
  EXPECT_EQ(vcpu_.ve.exit_reason, 48U);
}

}  // namespace
}  // namespace accede::emulator
