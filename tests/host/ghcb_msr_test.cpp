#include "tests/host/ghcb_fixture.hpp"

namespace accede::host::test {
namespace {

using Log = std::vector<std::string>;

std::uint64_t answer(GhcbVm& vm, std::uint64_t msr) {
  vm.host.log.clear();
  vm.host.mistakes.clear();
  const GhcbOutcome outcome = vm.ghcb.exit(msr);
  EXPECT_EQ(outcome, (GhcbOutcome{.next = GhcbNext::kResume, .msr = outcome.msr}));
  return outcome.msr;
}

TEST(GhcbMsrProtocol, SevInformationIsTheValueAtResetToo) {
  GhcbVm vm;
  EXPECT_EQ(answer(vm, 0x002), 0x0002000133000001U);
  EXPECT_EQ(vm.ghcb.reset_msr(), 0x0002000133000001U);
}

TEST(GhcbMsrProtocol, CpuidGivesTheRegisterAskedForOfSubleafZero) {
  GhcbVm vm;
  EXPECT_EQ(answer(vm, 0x8000001F00000004), 0x000000A000000005U);
  EXPECT_EQ(vm.host.log, Log{"cpuid 8000001f 0 xcr0 - xss -"});
  EXPECT_EQ(answer(vm, 0x8000001F40000004), 0x000000B040000005U);
  EXPECT_EQ(answer(vm, 0x8000001F80000004), 0x000000C080000005U);
  EXPECT_EQ(answer(vm, 0x8000001FC0000004), 0x000000D0C0000005U);
}

TEST(GhcbMsrProtocol, CpuidKeepsTheReservedBitsThatTheGuestSetAsKvmDoes) {
  GhcbVm vm;
  EXPECT_EQ(answer(vm, 0x000000013FFFF004), 0x000000A03FFFF005U);
}

TEST(GhcbMsrProtocol, HypervisorFeatures) {
  GhcbVm vm;
  EXPECT_EQ(answer(vm, 0x080), 0x3081U);
}

TEST(GhcbMsrProtocol, NoGhcbIsPreferred) {
  GhcbVm vm;
  EXPECT_EQ(answer(vm, 0x010), 0xFFFFFFFFFFFFF011U);
}

TEST(GhcbMsrProtocol, AnAcceptedRegistrationIsEchoed) {
  GhcbVm vm;
  EXPECT_EQ(answer(vm, 0x123012), 0x123013U);
  EXPECT_EQ(vm.host.log, Log{"register 123000"});
  EXPECT_EQ(vm.ghcb.registered(), PhysAddr{0x123000});
}

TEST(GhcbMsrProtocol, ARefusedRegistrationLeavesTheOldOne) {
  GhcbVm vm;
  vm.host.accepts_ghcb = false;
  EXPECT_EQ(answer(vm, 0x123012), 0xFFFFFFFFFFFFF013U);
  EXPECT_EQ(vm.ghcb.registered(), PhysAddr{kGhcb});
  ASSERT_EQ(vm.host.mistakes.size(), 1U);
  EXPECT_EQ(vm.host.mistakes[0], (GhcbMistake{.kind = GhcbMistakeKind::kBadRegistration,
                                              .field = GhcbField::kMsr,
                                              .value = 0x123012}));
}

TEST(GhcbMsrProtocol, AnAddressThatNoGuestHasCannotBeRegistered) {
  GhcbVm vm;
  for (const std::uint64_t gpa : {0UL, 1UL << 51, ~0xFFFUL}) {
    EXPECT_EQ(answer(vm, gpa | 0x012), 0xFFFFFFFFFFFFF013U) << gpa;
    EXPECT_TRUE(vm.host.log.empty());
  }
  EXPECT_EQ(answer(vm, 0x0007FFFFFFFFF012), 0x0007FFFFFFFFF013U);
}

TEST(GhcbMsrProtocol, PageStateOfOnePage) {
  GhcbVm vm;
  EXPECT_EQ(answer(vm, 0x0010000012345014), 0x15U);
  EXPECT_EQ(vm.host.log, Log{"private 4K 12345000-12346000"});
  EXPECT_EQ(answer(vm, 0x0020000012345014), 0x15U);
  EXPECT_EQ(vm.host.log, Log{"shared 4K 12345000-12346000"});
  EXPECT_EQ(answer(vm, 0x001FFFFFFFFFF014), 0x15U);
  EXPECT_EQ(vm.host.log, Log{"private 4K ffffffffff000-10000000000000"});
}

TEST(GhcbMsrProtocol, ARefusedOrUnfinishedPageStateIsKvmsError) {
  GhcbVm vm;
  vm.host.on_page_state = [](const auto&) { return GhcbPageStateAnswer{.refused = true}; };
  EXPECT_EQ(answer(vm, 0x0010000012345014), 0x8000000000000015U);
  vm.host.on_page_state = [](const auto&) {
    return GhcbPageStateAnswer{.done = PageCount{1}, .refused = true};
  };
  EXPECT_EQ(answer(vm, 0x0010000012345014), 0x8000000000000015U);
  vm.host.on_page_state = [](const auto&) { return GhcbPageStateAnswer{}; };
  EXPECT_EQ(answer(vm, 0x0010000012345014), 0x8000000000000015U);
}

TEST(GhcbMsrProtocol, OtherPageOperationsAreKvmsErrorAndDoNothing) {
  GhcbVm vm;
  for (std::uint64_t op = 0; op < 16; ++op) {
    if (op == 1 || op == 2) {
      continue;
    }
    EXPECT_EQ(answer(vm, op << 52 | 0x12345014), 0x8000000000000015U);
    EXPECT_TRUE(vm.host.log.empty());
    ASSERT_EQ(vm.host.mistakes.size(), 1U);
    EXPECT_EQ(vm.host.mistakes[0].kind, GhcbMistakeKind::kPageOperation);
  }
}

TEST(GhcbMsrProtocol, TerminationIsDecoded) {
  GhcbVm vm;
  EXPECT_EQ(
      vm.ghcb.exit(0x21100),
      (GhcbOutcome{.next = GhcbNext::kTerminate, .msr = 0x21100, .reason = {.set = 1, .code = 2}}));
  EXPECT_EQ(name_of(vm.ghcb.exit(0x21100).reason), "PVALIDATE failed");
}

TEST(GhcbMsrProtocol, AProcessorThatHoldsIsToldOfItsStart) {
  GhcbVm vm;
  EXPECT_EQ(vm.ghcb.exit(0x006), (GhcbOutcome{.next = GhcbNext::kHold, .msr = 0x007}));
  ASSERT_TRUE(vm.ghcb.holds());
  EXPECT_EQ(vm.ghcb.start(0x007), (GhcbOutcome{.next = GhcbNext::kResume, .msr = 0x1007}));
  EXPECT_FALSE(vm.ghcb.holds());
}

TEST(GhcbMsrProtocol, EveryOtherCodeResumesWithTheMsrUnchanged) {
  GhcbVm vm;
  const std::set<std::uint64_t> known{0x002, 0x004, 0x006, 0x010, 0x012, 0x014, 0x080, 0x100};
  for (std::uint64_t code = 1; code < 0x1000; ++code) {
    if (known.contains(code)) {
      continue;
    }
    const std::uint64_t msr = 0xABCDEF0123456000 | code;
    ASSERT_EQ(answer(vm, msr), msr);
    ASSERT_TRUE(vm.host.log.empty());
    ASSERT_EQ(vm.host.mistakes.size(), 1U);
    ASSERT_EQ(vm.host.mistakes[0].kind, GhcbMistakeKind::kUnknownMsrCode);
    ASSERT_EQ(vm.host.mistakes[0].value, msr);
  }
}

TEST(GhcbMsrProtocol, SnpRequestsOfAnotherGuestEndIt) {
  GhcbVm vm{{.is_snp = false}};
  for (const std::uint64_t msr : {0x010ULL, 0x809012ULL, 0x0010000012345014ULL}) {
    vm.host.mistakes.clear();
    EXPECT_EQ(vm.ghcb.exit(msr), (GhcbOutcome{.next = GhcbNext::kTerminate, .msr = msr}));
    EXPECT_TRUE(vm.host.log.empty());
    ASSERT_EQ(vm.host.mistakes.size(), 1U);
    EXPECT_EQ(vm.host.mistakes[0].kind, GhcbMistakeKind::kSnpOnly);
  }
  EXPECT_EQ(answer(vm, 0x002), 0x0002000133000001U) << "the others are answered";
}

TEST(GhcbNames, EveryKindAndFieldHasItsOwn) {
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < kGhcbMistakeKinds; ++i) {
    EXPECT_TRUE(names.insert(name(static_cast<GhcbMistakeKind>(i))).second) << i;
  }
  for (std::size_t i = 0; i < kGhcbFields; ++i) {
    EXPECT_TRUE(names.insert(name(static_cast<GhcbField>(i))).second) << i;
  }
  for (unsigned i = 0; i < 4; ++i) {
    EXPECT_TRUE(names.insert(name(static_cast<GhcbNext>(i))).second) << i;
  }
  EXPECT_FALSE(names.contains("unknown"));
  EXPECT_EQ(name(static_cast<GhcbMistakeKind>(200)), "unknown");
  EXPECT_EQ(name(static_cast<GhcbField>(200)), "unknown");
  EXPECT_EQ(name(static_cast<GhcbNext>(200)), "unknown");
}

TEST(GhcbRecorder, CountsRepetitionsAndKeepsTheFirstValue) {
  GhcbRecorder recorder;
  recorder.add({.kind = GhcbMistakeKind::kUnknownMsrCode, .value = 1});
  recorder.add({.kind = GhcbMistakeKind::kUnknownMsrCode, .value = 2});
  recorder.add({.kind = GhcbMistakeKind::kNoGhcb});
  recorder.add({.kind = GhcbMistakeKind::kUnknownMsrCode, .field = GhcbField::kRax});
  recorder.add({.kind = GhcbMistakeKind::kUnknownMsrCode, .exit_code = 7});
  ASSERT_EQ(recorder.records().size(), 4U);
  EXPECT_EQ(recorder.records()[0].first.value, 1U);
  EXPECT_EQ(recorder.records()[0].count, 2U);
  EXPECT_EQ(recorder.records()[3].count, 1U);
  EXPECT_EQ(recorder.dropped(), 0U);
}

TEST(GhcbRecorder, WhatFindsNoRoomIsCounted) {
  GhcbRecorder recorder;
  for (std::uint64_t code = 0; code < GhcbRecorder::kRoom + 5; ++code) {
    recorder.add({.kind = GhcbMistakeKind::kUnknownEvent, .exit_code = code});
  }
  recorder.add({.kind = GhcbMistakeKind::kUnknownEvent, .exit_code = 0});
  EXPECT_EQ(recorder.records().size(), GhcbRecorder::kRoom);
  EXPECT_EQ(recorder.dropped(), 5U);
  EXPECT_EQ(recorder.records()[0].count, 2U);
}

}  // namespace
}  // namespace accede::host::test
