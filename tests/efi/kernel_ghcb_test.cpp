// Calls of our kernel, answered by the host's model of the GHCB and by hosts that lie.
#include "accede/efi/kernel/ghcb.hpp"

#include "tests/host/ghcb_fixture.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

namespace accede::efi::kernel {
namespace {

using abi::ghcb::ExitCode;
using abi::ghcb::GhcbPage;
using abi::ghcb::ValidBit;
using host::GhcbNext;
using host::GhcbOutcome;
using host::test::GhcbVm;
using host::test::kGhcb;
using testing::ElementsAre;
using testing::IsEmpty;

/// VMGEXIT to the host of `vm`, with what an interrupt does around it.
class Transport {
 public:
  explicit Transport(GhcbVm& host) : vm{&host} {}

  GhcbVm* vm;
  std::vector<GhcbOutcome> outcomes{};
  std::function<void()> before_exit{};
  std::function<void()> after_exit{};

  std::uint64_t msr_exchange(std::uint64_t request) {
    outcomes.push_back(vm->ghcb.exit(request));
    return outcomes.back().msr;
  }
  void page_exchange(PhysAddr ghcb) {
    run(before_exit);
    outcomes.push_back(vm->ghcb.exit(ghcb.value()));
    run(after_exit);
  }

 private:
  /// An interrupt is not interrupted.
  void run(const std::function<void()>& hook) {
    if (hook && !std::exchange(interrupted_, true)) {
      hook();
      interrupted_ = false;
    }
  }

  bool interrupted_ = false;
};
static_assert(guest::GhcbTransport<Transport>);

class GhcbCalls : public testing::Test {
 protected:
  GhcbCalls() { ghcb.use({.page = &vm.page(), .address = PhysAddr{kGhcb}}); }

  GhcbVm vm;
  Transport transport{vm};
  BasicGhcb<Transport> ghcb{transport};
};

TEST_F(GhcbCalls, ReadAPort) {
  EXPECT_EQ(ghcb.in8(0x3FD), 0xBB);
  EXPECT_THAT(vm.host.log, ElementsAre("in 3fd/1"));
}

TEST_F(GhcbCalls, WriteAPort) {
  EXPECT_TRUE(ghcb.out8(0x3F8, 0x41));
  EXPECT_THAT(vm.host.log, ElementsAre("out 3f8/1 41"));
}

TEST_F(GhcbCalls, ReadAnMsr) {
  EXPECT_EQ(ghcb.read_msr(0x10), 0x1122'3344'5566'7788U);
  EXPECT_THAT(vm.host.log, ElementsAre("rdmsr 10"));
}

TEST_F(GhcbCalls, WriteAnMsr) {
  EXPECT_TRUE(ghcb.write_msr(0x10, 0x8765'4321'1234'5678));
  EXPECT_THAT(vm.host.log, ElementsAre("wrmsr 10 8765432112345678"));
}

TEST_F(GhcbCalls, ReadFourBytesOfADevice) {
  EXPECT_EQ(ghcb.read32(PhysAddr{0xFEE0'0390}), 0xE3E2'E1E0U);
  EXPECT_THAT(vm.host.log, ElementsAre("mmio fee00390/4"));
}

TEST_F(GhcbCalls, WriteFourBytesOfADevice) {
  EXPECT_TRUE(ghcb.write32(PhysAddr{0xFEE0'00B0}, 0x0403'0201));
  EXPECT_THAT(vm.host.log, ElementsAre("mmio fee000b0/4 <- 1 2 3 4"));
}

TEST_F(GhcbCalls, AreWellFormedInTheEyesOfTheHost) {
  EXPECT_TRUE(ghcb.in8(0x3FD) && ghcb.out8(0x3F8, 1) && ghcb.read_msr(0x10) &&
              ghcb.write_msr(0x10, 1) && ghcb.read32(PhysAddr{0xFEE0'0000}) &&
              ghcb.write32(PhysAddr{0xFEE0'0000}, 1));
  EXPECT_THAT(vm.host.mistakes, IsEmpty());
  EXPECT_EQ(vm.page().protocol_version, 2);
  EXPECT_EQ(vm.page().usage, 0U);
}

TEST_F(GhcbCalls, SayWhenTheHostHasNoSuchMsr) {
  EXPECT_EQ(ghcb.read_msr(0x11), std::nullopt);
  EXPECT_FALSE(ghcb.write_msr(0x11, 0));
}

TEST_F(GhcbCalls, AskForTerminationThroughThePageAndThenByTheMsr) {
  ghcb.terminate({.set = 1, .code = 2});
  ASSERT_EQ(transport.outcomes.size(), 2U);
  for (const GhcbOutcome& outcome : transport.outcomes) {
    EXPECT_EQ(outcome.next, GhcbNext::kTerminate);
    EXPECT_EQ(outcome.reason, abi::ghcb::kTerminateLinuxPvalidate);
  }
}

TEST_F(GhcbCalls, WithoutAPageReachNobody) {
  ghcb.use({});
  EXPECT_FALSE(ghcb.in8(0x3FD));
  EXPECT_FALSE(ghcb.out8(0x3F8, 1));
  EXPECT_FALSE(ghcb.read_msr(0x10));
  EXPECT_FALSE(ghcb.write32(PhysAddr{0xFEE0'0000}, 1));
  EXPECT_THAT(transport.outcomes, IsEmpty());
}

TEST_F(GhcbCalls, WithoutAPageTerminateByTheMsr) {
  ghcb.use({});
  ghcb.terminate(abi::ghcb::kTerminateGeneral);
  ASSERT_EQ(transport.outcomes.size(), 1U);
  EXPECT_EQ(transport.outcomes[0].next, GhcbNext::kTerminate);
}

TEST_F(GhcbCalls, LeaveThePageAsItWas) {
  std::memset(static_cast<void*>(&vm.page()), 0x5A, sizeof(GhcbPage));
  vm.page().protocol_version = 2;
  vm.page().usage = 0;
  const auto before = std::make_unique<GhcbPage>(vm.page());
  EXPECT_TRUE(ghcb.in8(0x3FD) && ghcb.write_msr(0x10, 1) && ghcb.read32(PhysAddr{0xFEE0'0000}));
  EXPECT_EQ(std::memcmp(before.get(), &vm.page(), sizeof(GhcbPage)), 0);
}

TEST_F(GhcbCalls, MayComeInTheMiddleOfAnother) {
  const auto interrupt = [this] { EXPECT_TRUE(ghcb.write32(PhysAddr{0xFEE0'00B0}, 0)); };
  transport.before_exit = interrupt;
  transport.after_exit = interrupt;
  EXPECT_EQ(ghcb.read_msr(0x10), 0x1122'3344'5566'7788U);
  EXPECT_THAT(vm.host.log,
              ElementsAre("mmio fee000b0/4 <- 0 0 0 0", "rdmsr 10", "mmio fee000b0/4 <- 0 0 0 0"));
}

TEST_F(GhcbCalls, MayComeInTheMiddleOfAListOfPageStates) {
  const auto interrupt = [this] {
    EXPECT_TRUE(ghcb.write32(PhysAddr{0xFEE0'00B0}, 0));
    EXPECT_TRUE(ghcb.in8(0x3FD));
  };
  transport.before_exit = interrupt;
  transport.after_exit = interrupt;
  const PhysRange pages = *PhysRange::make(PhysAddr{1ULL << 32}, 4_MiB);
  EXPECT_TRUE(guest::change_page_state(
      {.page = &vm.page(), .address = PhysAddr{kGhcb}}, guest::PageStateBatch{pages, PageSize::k2M},
      abi::ghcb::PageOp::kPrivate, 2,
      [this](PhysAddr ghcb_gpa) { transport.page_exchange(ghcb_gpa); }));
  EXPECT_THAT(vm.host.log, testing::Contains("private 2M 100000000-100400000").Times(1));
  EXPECT_THAT(vm.host.mistakes, IsEmpty());
}

/// A page, and a host that does what the test says.
class GhcbLies : public testing::Test {
 protected:
  [[nodiscard]] std::optional<GhcbAnswer> call(const GhcbRequest& request) {
    return ghcb_call({.page = page.get(), .address = PhysAddr{kGhcb}}, request,
                     [this](PhysAddr) { host(*page); });
  }
  static constexpr GhcbRequest kRdmsr{
      .code = ExitCode::kMsr, .rcx = 0x10, .wants_rax = true, .wants_rdx = true};

  std::unique_ptr<GhcbPage> page = std::make_unique<GhcbPage>();
  std::function<void(GhcbPage&)> host = [](GhcbPage&) {};
};

TEST_F(GhcbLies, ThatAnswerNothingAreRefused) {
  EXPECT_FALSE(call(kRdmsr));
}

TEST_F(GhcbLies, WithoutARegisterThatIsWantedAreRefused) {
  host = [](GhcbPage& p) {
    p.rax = 1;
    p.valid_bitmap = abi::ghcb::valid_bits(ValidBit::kRax);
  };
  EXPECT_FALSE(call(kRdmsr));
  host = [](GhcbPage& p) {
    p.rdx = 1;
    p.valid_bitmap = abi::ghcb::valid_bits(ValidBit::kRdx);
  };
  EXPECT_FALSE(call(kRdmsr));
}

TEST_F(GhcbLies, WithAnErrorAreRefusedWhateverElseTheySay) {
  for (const std::uint64_t error : {1U, 2U, 3U, 0x8000'0000U}) {
    host = [error](GhcbPage& p) {
      p.sw_exit_info_1 = error;
      p.valid_bitmap = abi::ghcb::valid_bits(ValidBit::kRax, ValidBit::kRdx);
    };
    EXPECT_FALSE(call(kRdmsr)) << error;
  }
}

TEST_F(GhcbLies, InTheUpperHalvesOfAnMsrDoNotMix) {
  host = [](GhcbPage& p) {
    p.rax = 0xFFFF'FFFF'0000'0001;
    p.rdx = 0xFFFF'FFFF'0000'0002;
    p.valid_bitmap = abi::ghcb::valid_bits(ValidBit::kRax, ValidBit::kRdx);
  };
  struct Lying {
    std::function<void(GhcbPage&)>* host;
    GhcbPage* page;
    std::uint64_t msr_exchange(std::uint64_t request) { return request; }
    void page_exchange(PhysAddr) { (*host)(*page); }
  } transport{&host, page.get()};
  BasicGhcb<Lying> ghcb{transport};
  ghcb.use({.page = page.get(), .address = PhysAddr{kGhcb}});
  EXPECT_EQ(ghcb.read_msr(0x10), 0x2'0000'0001U);
}

TEST_F(GhcbLies, AreGivenNoRegisterThatTheCallDoesNotNeed) {
  page->rax = 0xAAAA;
  page->rcx = 0xCCCC;
  page->rdx = 0xDDDD;
  host = [](GhcbPage& p) {
    EXPECT_EQ(p.sw_exit_code, 0x7BU);
    EXPECT_EQ(p.sw_exit_info_1, 0x03F8'0211U);
    EXPECT_EQ(p.rax, 0U);
    EXPECT_EQ(p.rcx, 0U);
    EXPECT_EQ(p.rdx, 0U);
    EXPECT_EQ(p.valid_bitmap, abi::ghcb::valid_bits(ValidBit::kSwExitCode, ValidBit::kSwExitInfo1,
                                                    ValidBit::kSwExitInfo2));
    p.sw_exit_info_1 = 0;
    p.rax = 7;
    p.rdx = 8;
    p.valid_bitmap = abi::ghcb::valid_bits(ValidBit::kRax);
  };
  const auto answer = call({.code = ExitCode::kIoio, .info1 = 0x03F8'0211, .wants_rax = true});
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->rax, 7U);
  EXPECT_EQ(answer->rdx, 0U);
}

}  // namespace
}  // namespace accede::efi::kernel
