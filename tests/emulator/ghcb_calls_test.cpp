#include "accede/emulator/ghcb_calls.hpp"

#include "accede/emulator/cpu.hpp"
#include "accede/emulator/cpuid.hpp"
#include "tests/emulator/snp_machine.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace accede::emulator {
namespace {

using abi::ghcb::ExitCode;
using abi::ghcb::GhcbPage;
using abi::ghcb::MsrCode;
using abi::ghcb::PageOp;
using abi::ghcb::TerminateReason;
using host::GhcbNext;
using host::GhcbOutcome;
using test::k4K;
using test::kCBit;
using test::SnpMachine;

constexpr std::uint64_t kHidden = SnpMachine::kHidden;
constexpr std::uint64_t kDevice = 0xC000'0000;
constexpr std::uint64_t kGhcb = 0x80'9000;
constexpr std::uint64_t kScratch = kGhcb + 0x800;

/// An SNP guest with its GHCB page shared and registered.
class GhcbCallsTest : public testing::Test {
 protected:
  GhcbCallsTest() {
    EXPECT_EQ(msr_call(abi::ghcb::page_state_request(PhysAddr{kGhcb}, PageOp::kShared)),
              abi::ghcb::page_state_response(0));
    EXPECT_EQ(msr_call(abi::ghcb::register_ghcb_request(PhysAddr{kGhcb})),
              abi::ghcb::register_ghcb_response(PhysAddr{kGhcb}));
    reporter_.counters().ghcb = {};
  }

  GhcbOutcome exit(std::uint64_t msr) {
    calls_.count(msr);
    return ghcb_.exit(msr);
  }
  std::uint64_t msr_call(std::uint64_t msr) {
    const GhcbOutcome outcome = exit(msr);
    EXPECT_EQ(outcome.next, GhcbNext::kResume);
    return outcome.msr;
  }

  [[nodiscard]] GhcbPage& page() { return machine_.ghcb(kGhcb); }
  [[nodiscard]] std::span<std::uint8_t> buffer() {
    return {reinterpret_cast<std::uint8_t*>(page().shared_buffer.data()), 2032};
  }
  /// The page with every field that a request can have marked valid.
  GhcbOutcome request(ExitCode code, std::uint64_t info1 = 0, std::uint64_t info2 = 0) {
    page().sw_exit_code = static_cast<std::uint64_t>(code);
    page().sw_exit_info_1 = info1;
    page().sw_exit_info_2 = info2;
    page().sw_scratch = kScratch;
    page().valid_bitmap = {~0ULL, ~0ULL};
    return exit(kGhcb);
  }
  /// The same; a test failure unless the request was carried out.
  void call(ExitCode code, std::uint64_t info1 = 0, std::uint64_t info2 = 0) {
    EXPECT_EQ(request(code, info1, info2).next, GhcbNext::kResume);
    EXPECT_EQ(page().sw_exit_info_1, 0U);
  }
  /// The reason why it was malformed; 0 when it was not.
  std::uint64_t malformed(ExitCode code, std::uint64_t info1 = 0, std::uint64_t info2 = 0) {
    EXPECT_EQ(request(code, info1, info2).next, GhcbNext::kResume);
    return page().sw_exit_info_1 == 2 ? page().sw_exit_info_2 : 0;
  }
  [[nodiscard]] bool is_general_protection() {
    return page().sw_exit_info_1 == 1 && page().sw_exit_info_2 == 0x8000'030D;
  }
  [[nodiscard]] std::uint64_t counted(GhcbSlot slot) {
    return reporter_.counters().ghcb[static_cast<std::size_t>(slot)];
  }
  [[nodiscard]] std::uint64_t counted_in_all() {
    std::uint64_t sum = 0;
    for (const std::uint64_t count : reporter_.counters().ghcb) {
      sum += count;
    }
    return sum;
  }

  SnpMachine machine_;
  Vcpu& vcpu_ = machine_.vcpu();
  Reporter& reporter_ = machine_.reporter();
  GhcbCalls calls_{vcpu_, DeviceAccess{machine_.view().machine(), machine_.view().window()},
                   machine_.pages(), reporter_};
  host::Ghcb<GhcbCalls> ghcb_{calls_, GhcbCalls::config()};
};

// --- What is counted as what ---

TEST(GhcbSlotTest, GivesEveryMsrCodeItsCounter) {
  EXPECT_EQ(slot_of(MsrCode::kSevInfoRequest), GhcbSlot::kMsrSevInfo);
  EXPECT_EQ(slot_of(MsrCode::kCpuidRequest), GhcbSlot::kMsrCpuid);
  EXPECT_EQ(slot_of(MsrCode::kPreferredGhcbRequest), GhcbSlot::kMsrRegister);
  EXPECT_EQ(slot_of(MsrCode::kRegisterGhcbRequest), GhcbSlot::kMsrRegister);
  EXPECT_EQ(slot_of(MsrCode::kPageStateRequest), GhcbSlot::kMsrPageState);
  EXPECT_EQ(slot_of(MsrCode::kHvFeaturesRequest), GhcbSlot::kMsrHvFeatures);
  EXPECT_EQ(slot_of(MsrCode::kTerminateRequest), GhcbSlot::kMsrTerminate);
}

TEST(GhcbSlotTest, GivesEveryExitCodeItsCounter) {
  EXPECT_EQ(slot_of(ExitCode::kCpuid), GhcbSlot::kCpuid);
  EXPECT_EQ(slot_of(ExitCode::kIoio), GhcbSlot::kIo);
  EXPECT_EQ(slot_of(ExitCode::kMsr), GhcbSlot::kMsr);
  EXPECT_EQ(slot_of(ExitCode::kMmioRead), GhcbSlot::kMmio);
  EXPECT_EQ(slot_of(ExitCode::kMmioWrite), GhcbSlot::kMmio);
  EXPECT_EQ(slot_of(ExitCode::kPageStateChange), GhcbSlot::kPageState);
  EXPECT_EQ(slot_of(ExitCode::kHvFeatures), GhcbSlot::kHvFeatures);
  EXPECT_EQ(slot_of(ExitCode::kGuestRequest), GhcbSlot::kGuestRequest);
  EXPECT_EQ(slot_of(ExitCode::kExtGuestRequest), GhcbSlot::kGuestRequest);
  EXPECT_EQ(slot_of(ExitCode::kApCreation), GhcbSlot::kApCreation);
  EXPECT_EQ(slot_of(ExitCode::kVmmcall), GhcbSlot::kVmmcall);
  EXPECT_EQ(slot_of(ExitCode::kTerminate), GhcbSlot::kTerminate);
}

TEST(GhcbSlotTest, CountsAllOtherNumbersTogether) {
  for (const int code : {0x000, 0x001, 0x003, 0x006, 0x015, 0x016, 0x101, 0xFFF}) {
    EXPECT_EQ(slot_of(static_cast<MsrCode>(code)), GhcbSlot::kMsrOther) << code;
  }
  for (const std::uint64_t code :
       {0x0ULL, 0x27ULL, 0x6EULL, 0x8000'0004ULL, 0x8000'FFFFULL, 1ULL << 32 | 0x72, ~0ULL}) {
    EXPECT_EQ(slot_of(static_cast<ExitCode>(code)), GhcbSlot::kOther) << code;
  }
}

TEST_F(GhcbCallsTest, CountsRequestsOfBothProtocols) {
  msr_call(abi::ghcb::msr_word(MsrCode::kSevInfoRequest));
  call(ExitCode::kHvFeatures);
  call(ExitCode::kHvFeatures);
  EXPECT_EQ(counted(GhcbSlot::kMsrSevInfo), 1U);
  EXPECT_EQ(counted(GhcbSlot::kHvFeatures), 2U);
  EXPECT_EQ(counted_in_all(), 3U);
}

TEST_F(GhcbCallsTest, CountsAnExitWithoutAPageAsOther) {
  for (const std::uint64_t msr : {std::uint64_t{0}, kGhcb + k4K, kDevice, kHidden, kCBit,
                                  kCBit | kGhcb, ~std::uint64_t{0xFFF}}) {
    EXPECT_EQ(exit(msr), (GhcbOutcome{.next = GhcbNext::kResume, .msr = msr})) << msr;
  }
  EXPECT_EQ(counted(GhcbSlot::kOther), 7U);
  EXPECT_EQ(counted_in_all(), 7U);
}

TEST_F(GhcbCallsTest, ReportsWhatTheGuestDoesWrong) {
  EXPECT_EQ(malformed(ExitCode::kMmioRead, kDevice, 9), 5U);
  const ReportHeader& header = reporter_.header();
  ASSERT_EQ(header.violation_slots, 1U);
  const Violation& violation = header.violations[0];
  EXPECT_EQ(violation.kind, EventKind::kBadGhcb);
  EXPECT_EQ(violation.gpa, 9U) << "the value";
  EXPECT_EQ(violation.rip, SnpMachine::kRip);
  EXPECT_EQ(violation.fatal, 0U);
  EXPECT_EQ(violation.detail >> 8,
            static_cast<std::uint32_t>(host::GhcbMistakeKind::kInvalidInput));
  EXPECT_EQ(violation.detail & 0xFF, static_cast<std::uint32_t>(host::GhcbField::kExitInfo2));
}

// --- What the machine answers ---

TEST_F(GhcbCallsTest, SaysWhereTheEncryptionBitIs) {
  EXPECT_EQ(msr_call(abi::ghcb::msr_word(MsrCode::kSevInfoRequest)), 0x0002'0001'2F00'0001U);
  EXPECT_EQ(ghcb_.reset_msr(), 0x0002'0001'2F00'0001U);
}

TEST_F(GhcbCallsTest, PromisesSnpAndNoOtherProcessors) {
  EXPECT_EQ(msr_call(abi::ghcb::msr_word(MsrCode::kHvFeaturesRequest)), 0x1081U);
  call(ExitCode::kHvFeatures);
  EXPECT_EQ(page().sw_exit_info_2, 1U);
}

TEST_F(GhcbCallsTest, AnswersCpuidAsTheInstructionDoes) {
  constexpr std::uint32_t kExtendedBase = 0x8000'0000;
  for (const std::uint32_t leaf : {0U, 0x21U, 0x4000'0000U, 0x8000'0000U, 0x8000'001FU, ~0U}) {
    SCOPED_TRACE(leaf);
    page().rax = leaf;
    page().rcx = 0;
    call(ExitCode::kCpuid);
    const cpu::CpuidResult expected = snp_cpuid(leaf, 0, cpu::cpuid(leaf, 0), cpu::cpuid(0, 0).eax,
                                                cpu::cpuid(kExtendedBase, 0).eax, vcpu_.save().cr4);
    EXPECT_EQ(page().rax, expected.eax);
    EXPECT_EQ(page().rbx, expected.ebx);
    EXPECT_EQ(page().rcx, expected.ecx);
    EXPECT_EQ(page().rdx, expected.edx);
  }
  EXPECT_EQ(msr_call(abi::ghcb::cpuid_request(0x8000'001F, abi::ghcb::CpuidRegister::kEbx)),
            0x8000'006F'4000'0005U);
}

TEST_F(GhcbCallsTest, AnswersCpuidForTheGuestsCr4) {
  constexpr std::uint64_t kOsxsaveInCr4 = 1ULL << 18;
  for (const std::uint64_t cr4 : {std::uint64_t{0}, kOsxsaveInCr4}) {
    vcpu_.save().cr4 = cr4;
    page().rax = 1;
    call(ExitCode::kCpuid);
    EXPECT_EQ(page().rcx >> 27 & 1, cr4 != 0 ? 1U : 0U);
  }
}

TEST_F(GhcbCallsTest, HidesTheReportPort) {
  page().rax = 0;
  call(ExitCode::kIoio, std::uint64_t{kReportPort} << 16 | 0x11);
  EXPECT_EQ(page().rax, 0xFFU);
  call(ExitCode::kIoio, std::uint64_t{kReportPort} << 16 | 0x10);
  EXPECT_EQ(counted(GhcbSlot::kIo), 2U);
}

TEST_F(GhcbCallsTest, MovesAtMostABufferOfStringsInOneExit) {
  constexpr std::uint64_t kInsByte = std::uint64_t{kReportPort} << 16 | 0x1D;
  std::ranges::fill(buffer(), std::uint8_t{0});
  call(ExitCode::kIoio, kInsByte, 2032);
  EXPECT_TRUE(std::ranges::all_of(buffer(), [](std::uint8_t byte) { return byte == 0xFF; }));
  std::ranges::fill(buffer(), std::uint8_t{0});
  EXPECT_EQ(malformed(ExitCode::kIoio, kInsByte, 2033), 3U) << "bad scratch area";
  EXPECT_TRUE(std::ranges::all_of(buffer(), [](std::uint8_t byte) { return byte == 0; }));
}

TEST_F(GhcbCallsTest, RaisesGeneralProtectionForRegistersThatAVmmDoesNotHave) {
  page().rcx = 0xC000'0080;
  request(ExitCode::kMsr, 0);
  EXPECT_TRUE(is_general_protection());
  request(ExitCode::kMsr, 1);
  EXPECT_TRUE(is_general_protection());
  request(ExitCode::kRdpmc);
  EXPECT_TRUE(is_general_protection());
}

TEST_F(GhcbCallsTest, ReadsAndWritesDevices) {
  auto& word = machine_.word(kDevice + 8);
  word = 0x1122'3344'5566'7788;
  std::ranges::fill(buffer(), std::uint8_t{0});
  call(ExitCode::kMmioRead, kDevice + 9, 3);
  EXPECT_EQ(page().shared_buffer[0], 0x55'6677U);
  page().shared_buffer[0] = 0xAABB;
  call(ExitCode::kMmioWrite, kDevice + 8, 2);
  EXPECT_EQ(word, 0x1122'3344'5566'AABBU);
}

TEST_F(GhcbCallsTest, ShowsAllOnesWhereThereIsNoDevice) {
  for (const std::uint64_t gpa : {std::uint64_t{0x1000}, kHidden, kDevice | kCBit}) {
    SCOPED_TRACE(testing::Message() << std::hex << gpa);
    std::ranges::fill(buffer(), std::uint8_t{0});
    call(ExitCode::kMmioRead, gpa, 4);
    EXPECT_EQ(page().shared_buffer[0], 0xFFFF'FFFFU);
  }
}

TEST_F(GhcbCallsTest, WritesToDevicesOnly) {
  for (const std::uint64_t gpa : {std::uint64_t{0x1000}, SnpMachine::kHiddenEnd - 8}) {
    page().shared_buffer[0] = 42;
    call(ExitCode::kMmioWrite, gpa, 8);
    EXPECT_EQ(machine_.word(gpa), 0U);
  }
}

TEST_F(GhcbCallsTest, TellsTheTime) {
  const auto now = [this] { return page().rdx << 32 | page().rax; };
  const std::uint64_t before = cpu::read_tsc();
  call(ExitCode::kRdtsc);
  EXPECT_LE(before, now());
  page().rcx = ~0ULL;
  call(ExitCode::kRdtscp);
  EXPECT_LE(now(), cpu::read_tsc());
  EXPECT_LE(page().rcx, 0xFFFF'FFFFU) << "TSC_AUX";
}

TEST_F(GhcbCallsTest, ShowsTheGuestsDr7AndLeavesItAlone) {
  vcpu_.save().dr7 = 0x455;
  page().rax = ~0ULL;
  call(ExitCode::kDr7Write);
  call(ExitCode::kDr7Read);
  EXPECT_EQ(page().rax, 0x455U);
}

TEST_F(GhcbCallsTest, HasNoHypercalls) {
  page().cpl = 0;
  page().rax = 12;
  call(ExitCode::kVmmcall);
  EXPECT_EQ(page().rax, static_cast<std::uint64_t>(-1000));
}

TEST_F(GhcbCallsTest, AnswersGuestRequestsWithAnErrorOfTheHost) {
  for (const ExitCode code : {ExitCode::kGuestRequest, ExitCode::kExtGuestRequest}) {
    call(code, 0x10'0000, 0x10'1000);
    EXPECT_EQ(page().sw_exit_info_2, 0xFFFF'FFFF'0000'0000U);
  }
  EXPECT_EQ(counted(GhcbSlot::kGuestRequest), 2U);
}

TEST_F(GhcbCallsTest, CreatesNoProcessors) {
  constexpr std::uint64_t kVmsa = 0x10'1000;
  page().rax = 1;
  EXPECT_EQ(malformed(ExitCode::kApCreation, 1, kVmsa), 5U) << "the one there is";
  page().rax = 1;
  EXPECT_EQ(malformed(ExitCode::kApCreation, 1ULL << 32 | 1, kVmsa), 5U) << "no such vCPU";
}

TEST_F(GhcbCallsTest, KeepsTheJumpTable) {
  call(ExitCode::kApJumpTable, 0, 0x9F000);
  call(ExitCode::kApJumpTable, 1);
  EXPECT_EQ(page().sw_exit_info_2, 0x9F000U);
}

TEST_F(GhcbCallsTest, ChangesPageStates) {
  const std::uint64_t before = reporter_.counters().page_state_entries;
  const std::uint64_t shared = reporter_.counters().to_shared_bytes;
  page().shared_buffer[0] = abi::ghcb::PscHeader::make(0, 1);
  page().shared_buffer[1] = 0x0020'0000'0040'0000;  // 4 KiB to shared
  page().shared_buffer[2] = 0x0020'0000'0060'0000;
  call(ExitCode::kPageStateChange);
  EXPECT_EQ(page().sw_exit_info_2, 0U);
  EXPECT_TRUE(machine_.is_shared(0x40'0000));
  EXPECT_TRUE(machine_.is_shared(0x60'0000));
  EXPECT_FALSE(machine_.is_shared(0x50'0000));
  EXPECT_EQ(reporter_.counters().page_state_entries, before + 2);
  EXPECT_EQ(reporter_.counters().to_shared_bytes, shared + 2 * k4K);
  EXPECT_EQ(counted(GhcbSlot::kPageState), 1U);
}

// --- Why the guest ends ---

std::string text_of(const GhcbOutcome& outcome) {
  GhcbText buffer;
  const std::string text{describe(outcome, buffer)};
  EXPECT_FALSE(buffer.overflowed()) << text;
  return text;
}

TEST_F(GhcbCallsTest, TellsATerminationByMsrInWords) {
  const GhcbOutcome outcome = exit(0x0000'0000'0002'1100);
  EXPECT_EQ(outcome.next, GhcbNext::kTerminate);
  EXPECT_EQ(text_of(outcome), "the guest terminated 1:2 (PVALIDATE failed)");
  EXPECT_EQ(counted(GhcbSlot::kMsrTerminate), 1U);
}

TEST_F(GhcbCallsTest, TellsATerminationThroughThePageWithItsInformation) {
  const GhcbOutcome outcome = request(ExitCode::kTerminate, 0x20, 0x1'0038);
  EXPECT_EQ(outcome.next, GhcbNext::kTerminate);
  EXPECT_EQ(text_of(outcome),
            "the guest terminated 0:2 (SNP features unsupported); sw_exit_info_2 0x10038");
  EXPECT_EQ(counted(GhcbSlot::kTerminate), 1U);
}

TEST_F(GhcbCallsTest, TellsWhichGhcbWasNotRegistered) {
  msr_call(abi::ghcb::page_state_request(PhysAddr{kGhcb + k4K}, PageOp::kShared));
  const GhcbOutcome outcome = exit(kGhcb + k4K);
  EXPECT_EQ(outcome.next, GhcbNext::kStop);
  EXPECT_EQ(text_of(outcome), "VMGEXIT without an answer: GHCB not registered; GHCB MSR 0x80a000");
}

TEST(GhcbDescribeTest, HasRoomForEveryReason) {
  for (unsigned set = 0; set < 16; ++set) {
    for (unsigned code = 0; code < 256; ++code) {
      const TerminateReason reason{static_cast<std::uint8_t>(set), static_cast<std::uint8_t>(code)};
      text_of({.next = GhcbNext::kTerminate, .msr = kGhcb, .reason = reason, .payload = ~0ULL});
    }
  }
  for (std::size_t kind = 0; kind < host::kGhcbMistakeKinds; ++kind) {
    text_of({.next = GhcbNext::kStop,
             .msr = ~std::uint64_t{0xFFF},
             .mistake = static_cast<host::GhcbMistakeKind>(kind)});
  }
}

TEST(GhcbDescribeTest, ForgetsTheLastText) {
  GhcbText buffer;
  static_cast<void>(
      describe({.next = GhcbNext::kTerminate, .msr = 0x100, .reason = {1, 3}}, buffer));
  EXPECT_EQ(describe({.next = GhcbNext::kTerminate, .msr = 0x100, .reason = {0, 0}}, buffer),
            "the guest terminated 0:0 (general failure)");
}

}  // namespace
}  // namespace accede::emulator
