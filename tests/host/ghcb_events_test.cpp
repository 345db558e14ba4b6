// What each exit code does.
#include "tests/host/ghcb_fixture.hpp"

namespace accede::host::test {
namespace {

using Log = std::vector<std::string>;

constexpr std::uint64_t kGp = 0x8000030D;

TEST(GhcbEvent, CpuidPassesTheFeatureMasksThatTheGuestGave) {
  GhcbVm vm;
  vm.ask(ExitCode::kCpuid).with(ValidBit::kRax, 7).with(ValidBit::kRcx, 1);
  EXPECT_EQ(vm.answer(), GhcbVm::kOk);
  EXPECT_EQ(vm.host.log, Log{"cpuid 7 1 xcr0 - xss -"});
  EXPECT_EQ(vm.page().rax, 0xA0U);
  EXPECT_EQ(vm.page().rbx, 0xB0U);
  EXPECT_EQ(vm.page().rcx, 0xC0U);
  EXPECT_EQ(vm.page().rdx, 0xD0U);
  vm.ask(ExitCode::kCpuid)
      .with(ValidBit::kRax, 0xD)
      .with(ValidBit::kRcx, 0)
      .with(ValidBit::kXcr0, 7)
      .with(ValidBit::kXss, 3);
  EXPECT_EQ(vm.answer(), GhcbVm::kOk);
  EXPECT_EQ(vm.host.log, Log{"cpuid d 0 xcr0 7 xss 3"});
}

TEST(GhcbEvent, CpuidLeafDNeedsXcr0) {
  GhcbVm vm;
  vm.ask(ExitCode::kCpuid).with(ValidBit::kRax, 0xD).with(ValidBit::kRcx, 0);
  EXPECT_EQ(vm.answer(), GhcbVm::malformed(MalformedReason::kMissingInput));
  EXPECT_EQ(vm.host.mistakes.at(0).field, GhcbField::kXcr0);
}

TEST(GhcbEvent, OutWritesTheLowBytesOfRax) {
  GhcbVm vm;
  const std::pair<std::uint64_t, std::string> kCases[]{{0x03F80210, "out 3f8/1 44"},
                                                       {0x03F80220, "out 3f8/2 3344"},
                                                       {0x03F80240, "out 3f8/4 11223344"}};
  for (const auto& [info, line] : kCases) {
    vm.ask(ExitCode::kIoio, info).with(ValidBit::kRax, 0xFFEEDDCC11223344);
    EXPECT_EQ(vm.answer(), GhcbVm::kOk);
    EXPECT_EQ(vm.host.log, Log{line});
  }
}

TEST(GhcbEvent, InReplacesWhatTheInstructionReplaces) {
  GhcbVm vm;
  const std::pair<std::uint64_t, std::uint64_t> kCases[]{
      {0x03F80211, 0x11223344556677BB}, {0x03F80221, 0x112233445566AABB}, {0x03F80241, 0x8899AABB}};
  for (const auto& [info, rax] : kCases) {
    vm.ask(ExitCode::kIoio, info).with(ValidBit::kRax, 0x1122334455667788);
    EXPECT_EQ(vm.answer(), GhcbVm::kOk);
    EXPECT_EQ(vm.page().rax, rax);
  }
  vm.ask(ExitCode::kIoio, 0x03F80211);
  EXPECT_EQ(vm.answer(), GhcbVm::kOk);
  EXPECT_EQ(vm.page().rax, 0xBBU) << "RAX that was not given counts as 0";
}

TEST(GhcbEvent, PortAccessOfNoSizeDoesNothingAndOfTwoSizesIsInvalid) {
  GhcbVm vm;
  EXPECT_EQ(vm.ask(ExitCode::kIoio, 0x03F80201).answer(), GhcbVm::kOk);
  EXPECT_TRUE(vm.host.log.empty());
  for (const std::uint64_t sizes : {0x30UL, 0x50UL, 0x60UL, 0x70UL}) {
    EXPECT_EQ(vm.ask(ExitCode::kIoio, 0x03F80201 | sizes).answer(),
              GhcbVm::malformed(MalformedReason::kInvalidInput));
    EXPECT_EQ(vm.host.mistakes.at(0).field, GhcbField::kExitInfo1);
    EXPECT_TRUE(vm.host.log.empty());
  }
}

TEST(GhcbEvent, StringOutputTakesItsElementsFromTheBuffer) {
  GhcbVm vm;
  vm.ask(ExitCode::kIoio, 0x03F8022C, 3).with(ValidBit::kSwScratch, kScratch + 2);
  vm.page().shared_buffer[0] = 0x4444'3333'2222'1111;
  EXPECT_EQ(vm.answer(), GhcbVm::kOk);
  EXPECT_EQ(vm.host.log, (Log{"out 3f8/2 2222", "out 3f8/2 3333", "out 3f8/2 4444"}));
}

TEST(GhcbEvent, StringInputGoesToTheBuffer) {
  GhcbVm vm;
  vm.host.port_input = {0xAAAAAA01, 0xBBBBBB02, 3};
  vm.ask(ExitCode::kIoio, 0x03F8021D, 3).with(ValidBit::kSwScratch, kScratch);
  vm.page().shared_buffer[0] = ~0ULL;
  EXPECT_EQ(vm.answer(), GhcbVm::kOk);
  EXPECT_EQ(vm.page().shared_buffer[0], 0xFFFFFFFFFF030201U);
}

TEST(GhcbEvent, AStringFillsTheWholeBufferAndNoMore) {
  GhcbVm vm;
  vm.ask(ExitCode::kIoio, 0x03F8021D, 2032).with(ValidBit::kSwScratch, kScratch);
  EXPECT_EQ(vm.answer(), GhcbVm::kOk);
  EXPECT_EQ(vm.host.log.size(), 2032U);
  EXPECT_EQ(vm.page().reserved_ff0[0], std::byte{0});
  vm.ask(ExitCode::kIoio, 0x03F8021D, 2033).with(ValidBit::kSwScratch, kScratch);
  EXPECT_EQ(vm.answer(), GhcbVm::malformed(MalformedReason::kBadScratch));
  EXPECT_TRUE(vm.host.log.empty());
}

TEST(GhcbEvent, AnEmptyStringDoesNothingWhereverItsScratchIs) {
  GhcbVm vm;
  EXPECT_EQ(vm.ask(ExitCode::kIoio, 0x03F8021D, 0).with(ValidBit::kSwScratch, 5).answer(),
            GhcbVm::kOk);
  EXPECT_TRUE(vm.host.log.empty());
}

TEST(GhcbEvent, AStringOfMoreThan2GStopsTheVm) {
  GhcbVm vm;
  const std::pair<std::uint64_t, std::uint64_t> kCases[]{
      {0x03F8021D, 1ULL << 31}, {0x03F8024D, 1ULL << 29}, {0x03F8024D, 1ULL << 62}};
  for (const auto& [info, count] : kCases) {
    vm.ask(ExitCode::kIoio, info, count).with(ValidBit::kSwScratch, kScratch);
    EXPECT_EQ(vm.exit().next, GhcbNext::kStop);
    EXPECT_EQ(vm.host.mistakes.at(0).kind, GhcbMistakeKind::kStringTooLong);
  }
  vm.ask(ExitCode::kIoio, 0x03F8021D, (1ULL << 31) - 1).with(ValidBit::kSwScratch, kScratch);
  EXPECT_EQ(vm.answer(), GhcbVm::malformed(MalformedReason::kBadScratch));
}

TEST(GhcbEvent, MsrsAreReadAndWrittenInHalves) {
  GhcbVm vm;
  EXPECT_EQ(vm.ask(ExitCode::kMsr, 0).with(ValidBit::kRcx, 0x10).answer(), GhcbVm::kOk);
  EXPECT_EQ(vm.page().rax, 0x55667788U);
  EXPECT_EQ(vm.page().rdx, 0x11223344U);
  vm.ask(ExitCode::kMsr, 1)
      .with(ValidBit::kRcx, 0x10)
      .with(ValidBit::kRax, 0xFFFFFFFF00000001)
      .with(ValidBit::kRdx, 0xFFFFFFFF00000002);
  EXPECT_EQ(vm.answer(), GhcbVm::kOk);
  EXPECT_EQ(vm.host.log, Log{"wrmsr 10 200000001"});
}

TEST(GhcbEvent, AnMsrThatIsNotThereIsAGeneralProtection) {
  GhcbVm vm;
  EXPECT_EQ(vm.ask(ExitCode::kMsr, 0).with(ValidBit::kRcx, 0x11).answer(), std::pair(1UL, kGp));
  vm.ask(ExitCode::kMsr, 1).with(ValidBit::kRcx, 0x11).with(ValidBit::kRax, 0);
  EXPECT_EQ(vm.with(ValidBit::kRdx, 0).answer(), std::pair(1UL, kGp));
  EXPECT_EQ(vm.ask(ExitCode::kRdpmc).with(ValidBit::kRcx, 1).answer(), std::pair(1UL, kGp));
}

TEST(GhcbEvent, CountersAndClocks) {
  GhcbVm vm;
  EXPECT_EQ(vm.ask(ExitCode::kRdpmc).with(ValidBit::kRcx, 0).answer(), GhcbVm::kOk);
  EXPECT_EQ(vm.page().rax, 2U);
  EXPECT_EQ(vm.page().rdx, 1U);
  EXPECT_EQ(vm.ask(ExitCode::kRdtsc).answer(), GhcbVm::kOk);
  EXPECT_EQ(vm.page().rax, 0x05060708U);
  EXPECT_EQ(vm.page().rdx, 0x01020304U);
  EXPECT_EQ(vm.page().rcx, 0U);
  EXPECT_EQ(vm.ask(ExitCode::kRdtscp).answer(), GhcbVm::kOk);
  EXPECT_EQ(vm.page().rcx, 9U);
}

TEST(GhcbEvent, DebugRegister7) {
  GhcbVm vm;
  EXPECT_EQ(vm.ask(ExitCode::kDr7Read).answer(), GhcbVm::kOk);
  EXPECT_EQ(vm.page().rax, 0x400U);
  EXPECT_EQ(vm.ask(ExitCode::kDr7Write).with(ValidBit::kRax, 0x455).answer(), GhcbVm::kOk);
  EXPECT_EQ(vm.host.log, Log{"dr7 <- 455"});
}

TEST(GhcbEvent, InstructionsWithoutResultAreToldApart) {
  GhcbVm vm;
  const std::pair<ExitCode, std::string> kCases[]{{ExitCode::kInvd, "execute 0"},
                                                  {ExitCode::kWbinvd, "execute 1"},
                                                  {ExitCode::kMonitor, "execute 2"},
                                                  {ExitCode::kMwait, "execute 3"},
                                                  {ExitCode::kNmiComplete, "nmi complete"}};
  for (const auto& [code, line] : kCases) {
    vm.ask(code).with(ValidBit::kRax, 0).with(ValidBit::kRcx, 0).with(ValidBit::kRdx, 0);
    EXPECT_EQ(vm.answer(), GhcbVm::kOk);
    EXPECT_EQ(vm.host.log, Log{line});
  }
}

TEST(GhcbEvent, AHypercallReachesTheHostFromKernelModeOnly) {
  GhcbVm vm;
  vm.ask(ExitCode::kVmmcall)
      .with(ValidBit::kRax, 1)
      .with(ValidBit::kRbx, 2)
      .with(ValidBit::kRcx, 3)
      .with(ValidBit::kRsi, 5)
      .with(ValidBit::kCpl, 0);
  EXPECT_EQ(vm.answer(), GhcbVm::kOk);
  EXPECT_EQ(vm.host.log, Log{"vmmcall 1 2 3 0 5"});
  EXPECT_EQ(vm.page().rax, 0x77U);
  vm.ask(ExitCode::kVmmcall).with(ValidBit::kRax, 1).with(ValidBit::kCpl, 3);
  EXPECT_EQ(vm.answer(), GhcbVm::kOk);
  EXPECT_TRUE(vm.host.log.empty());
  EXPECT_EQ(vm.page().rax, ~0ULL) << "-EPERM";
}

TEST(GhcbEvent, MmioGoesThroughTheBuffer) {
  GhcbVm vm;
  vm.ask(ExitCode::kMmioRead, 0xFEE00020, 3).with(ValidBit::kSwScratch, kScratch);
  EXPECT_EQ(vm.answer(), GhcbVm::kOk);
  EXPECT_EQ(vm.host.log, Log{"mmio fee00020/3"});
  EXPECT_EQ(vm.page().shared_buffer[0], 0xE2E1E0U);
  vm.ask(ExitCode::kMmioWrite, 0xFEE00020, 8).with(ValidBit::kSwScratch, kScratch + 1);
  vm.page().shared_buffer[0] = 0x8877665544332211;
  vm.page().shared_buffer[1] = 0x99;
  EXPECT_EQ(vm.answer(), GhcbVm::kOk);
  EXPECT_EQ(vm.host.log, Log{"mmio fee00020/8 <- 22 33 44 55 66 77 88 99"});
}

TEST(GhcbEvent, MmioOfNothingIsNothingAndOfMoreThan8BytesInvalid) {
  GhcbVm vm;
  EXPECT_EQ(vm.ask(ExitCode::kMmioRead, 0, 0).with(ValidBit::kSwScratch, 1).answer(), GhcbVm::kOk);
  vm.ask(ExitCode::kMmioRead, 0, 9).with(ValidBit::kSwScratch, 1);
  EXPECT_EQ(vm.answer(), GhcbVm::malformed(MalformedReason::kInvalidInput));
  vm.ask(ExitCode::kMmioWrite, 0, ~0ULL).with(ValidBit::kSwScratch, 1);
  EXPECT_EQ(vm.answer(), GhcbVm::malformed(MalformedReason::kInvalidInput));
  vm.ask(ExitCode::kMmioWrite, ~0ULL, 8).with(ValidBit::kSwScratch, kScratch);
  EXPECT_EQ(vm.answer(), GhcbVm::malformed(MalformedReason::kInvalidInput));
  EXPECT_TRUE(vm.host.log.empty());
}

TEST(GhcbEvent, ScratchMustLieInTheSharedBufferOfThePage) {
  GhcbVm vm;
  const auto read = [&vm](std::uint64_t scratch) {
    vm.ask(ExitCode::kMmioRead, 0xFEE00020, 8).with(ValidBit::kSwScratch, scratch);
    return vm.answer();
  };
  const auto bad = GhcbVm::malformed(MalformedReason::kBadScratch);
  EXPECT_EQ(read(kGhcb + 0xFE8), GhcbVm::kOk);
  for (const std::uint64_t scratch :
       {std::uint64_t{0}, kGhcb, kScratch - 1, kGhcb + 0xFE9, kGhcb + 0xFF0, kGhcb + 0x1000,
        kGhcb + 0x1800, kGhcb - 0x800, ~0UL, ~0UL - 7}) {
    EXPECT_EQ(read(scratch), bad) << scratch;
    EXPECT_EQ(vm.host.mistakes.at(0).kind, GhcbMistakeKind::kBadScratch);
    EXPECT_EQ(vm.host.mistakes.at(0).value, scratch);
    EXPECT_TRUE(vm.host.log.empty());
  }
}

TEST(GhcbEvent, GuestRequestsCarryTheFirmwaresAndTheHostsError) {
  GhcbVm vm;
  vm.host.guest_answer = GhcbGuestAnswer{.firmware_error = 0x16, .vmm_error = 2};
  EXPECT_EQ(vm.ask(ExitCode::kGuestRequest, 0x1000, 0x2000).answer(),
            std::pair(0UL, 0x0000000200000016UL));
  EXPECT_EQ(vm.host.log, Log{"guest request 1000 2000"});
}

TEST(GhcbEvent, ExtendedGuestRequestsSayWhereCertificatesGo) {
  GhcbVm vm;
  vm.host.guest_answer = GhcbGuestAnswer{.vmm_error = 1, .pages_needed = 4};
  vm.ask(ExitCode::kExtGuestRequest, 0x1000, 0x2000)
      .with(ValidBit::kRax, 0x5000)
      .with(ValidBit::kRbx, 2);
  EXPECT_EQ(vm.answer(), std::pair(0UL, 1UL << 32));
  EXPECT_EQ(vm.page().rbx, 4U);
  EXPECT_EQ(vm.host.log, Log{"guest request 1000 2000 extended 5000 2"});
  vm.ask(ExitCode::kExtGuestRequest, 0x1000, 0x2000).with(ValidBit::kRax, 0x5000);
  EXPECT_EQ(vm.answer().first, 0U);
  EXPECT_EQ(vm.host.log, Log{"guest request 1000 2000 extended"});
}

TEST(GhcbEvent, ARefusedGuestRequestIsInvalidInput) {
  GhcbVm vm;
  vm.host.guest_answer.reset();
  EXPECT_EQ(vm.ask(ExitCode::kExtGuestRequest, 0x1000, 0x2000).answer(),
            GhcbVm::malformed(MalformedReason::kInvalidInput));
}

TEST(GhcbEvent, PagesOfAGuestRequestAreAlignedAndDistinct) {
  GhcbVm vm;
  const std::pair<std::uint64_t, std::uint64_t> kCases[]{
      {0x1001, 0x2000}, {0x1000, 0x2FFF}, {0x1000, 0x1000}, {0x1800, 0x1800}};
  for (const auto& [request, response] : kCases) {
    for (const ExitCode code : {ExitCode::kGuestRequest, ExitCode::kExtGuestRequest}) {
      EXPECT_EQ(vm.ask(code, request, response).answer(),
                GhcbVm::malformed(MalformedReason::kMissingInput));
      EXPECT_EQ(vm.host.mistakes.at(0).kind, GhcbMistakeKind::kBadRequestPages);
      EXPECT_TRUE(vm.host.log.empty());
    }
  }
}

TEST(GhcbEvent, ProcessorsAreCreatedAndDestroyed) {
  GhcbVm vm;
  vm.ask(ExitCode::kApCreation, 0x0000000100000001, 0x3000).with(ValidBit::kRax, 1);
  EXPECT_EQ(vm.answer(), GhcbVm::kOk);
  EXPECT_EQ(vm.host.log, Log{"ap 1 1 3000 1"});
  vm.ask(ExitCode::kApCreation, 0x0000000100000000, 0x3000).with(ValidBit::kRax, 0x21);
  EXPECT_EQ(vm.answer(), GhcbVm::kOk) << "other features than the VM's, but for injection";
  EXPECT_EQ(vm.host.log, Log{"ap 1 0 3000 21"});
  EXPECT_EQ(vm.ask(ExitCode::kApCreation, 0x0000000100000002, 7).answer(), GhcbVm::kOk);
  EXPECT_EQ(vm.host.log, Log{"ap 1 2 0 0"});
}

TEST(GhcbEvent, ApCreationChecksEverythingBeforeTheHostIsAsked) {
  struct Case {
    std::uint64_t info1;
    std::uint64_t info2;
    std::uint64_t rax;
    GhcbField field;
  };
  constexpr std::uint64_t kCreate = 0x0000000100000001;
  const Case kCases[]{
      {0x0000000500000001, 0x3001, 0x9, GhcbField::kExitInfo1},  // no such vCPU
      {0x0000000100000003, 0x3001, 0x9, GhcbField::kExitInfo1},  // no such request
      {0x0000000100010001, 0x3000, 1, GhcbField::kExitInfo1},    // VMPL 1
      {kCreate, 0x3001, 0x9, GhcbField::kRax},                   // restricted injection
      {kCreate, 0x3001, 0x11, GhcbField::kRax},                  // alternate injection
      {kCreate, 0x3001, 1, GhcbField::kExitInfo2},               // misaligned
      {kCreate, 1ULL << 51, 1, GhcbField::kExitInfo2},           // beyond the address width
      {kCreate, 0x200000, 1, GhcbField::kExitInfo2},             // 2 MiB aligned
      {kCreate, 0, 1, GhcbField::kExitInfo2},
  };
  GhcbVm vm;
  for (const Case& test : kCases) {
    vm.ask(ExitCode::kApCreation, test.info1, test.info2).with(ValidBit::kRax, test.rax);
    EXPECT_EQ(vm.answer(), GhcbVm::malformed(MalformedReason::kInvalidInput)) << test.info1;
    EXPECT_EQ(vm.host.mistakes.at(0).field, test.field) << test.info1;
    EXPECT_TRUE(vm.host.log.empty());
  }
  vm.host.creates_aps = false;
  vm.ask(ExitCode::kApCreation, kCreate, 0x3000).with(ValidBit::kRax, 1);
  EXPECT_EQ(vm.answer(), GhcbVm::malformed(MalformedReason::kInvalidInput));
}

TEST(GhcbEvent, TheApJumpTableIsKept) {
  GhcbVm vm;
  EXPECT_EQ(vm.ask(ExitCode::kApJumpTable, 0, 0x9F000).answer(), GhcbVm::kOk);
  EXPECT_EQ(vm.ask(ExitCode::kApJumpTable, 1, 0).answer(), std::pair(0UL, 0x9F000UL));
  EXPECT_EQ(vm.ask(ExitCode::kApJumpTable, 2, 0).answer(),
            GhcbVm::malformed(MalformedReason::kInvalidInput));
}

TEST(GhcbEvent, HypervisorFeatures) {
  GhcbVm vm;
  EXPECT_EQ(vm.ask(ExitCode::kHvFeatures).answer(), std::pair(0UL, 3UL));
}

}  // namespace
}  // namespace accede::host::test
