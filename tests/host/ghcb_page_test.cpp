// Order of the checks, and how a request ends.
#include "tests/host/ghcb_fixture.hpp"

namespace accede::host::test {
namespace {

using Log = std::vector<std::string>;

/// Every exit code that is answered, with what it requires besides the three exit fields.
struct Event {
  ExitCode code;
  std::uint64_t info1;
  std::uint64_t info2;
  std::vector<ValidBit> required;
  bool snp_only = false;
};
std::vector<Event> events() {
  using enum ExitCode;
  constexpr auto kRax = ValidBit::kRax;
  constexpr auto kRcx = ValidBit::kRcx;
  constexpr auto kRdx = ValidBit::kRdx;
  constexpr auto kSwScratch = ValidBit::kSwScratch;
  return {
      {kDr7Read, 0, 0, {}},
      {kDr7Write, 0, 0, {kRax}},
      {kRdtsc, 0, 0, {}},
      {kRdpmc, 0, 0, {kRcx}},
      {kCpuid, 0, 0, {kRax, kRcx}},
      {kInvd, 0, 0, {}},
      {kIoio, 0x03F80210, 0, {kRax}},
      {kIoio, 0x03F80211, 0, {}},
      {kIoio, 0x03F80214, 1, {kSwScratch}},
      {kIoio, 0x03F80215, 1, {kSwScratch}},
      {kMsr, 0, 0, {kRcx}},
      {kMsr, 1, 0, {kRcx, kRax, kRdx}},
      {kVmmcall, 0, 0, {kRax, ValidBit::kCpl}},
      {kRdtscp, 0, 0, {}},
      {kWbinvd, 0, 0, {}},
      {kMonitor, 0, 0, {kRax, kRcx, kRdx}},
      {kMwait, 0, 0, {kRax, kRcx}},
      {kMmioRead, 0xFEE00000, 4, {kSwScratch}},
      {kMmioWrite, 0xFEE00000, 4, {kSwScratch}},
      {kNmiComplete, 0, 0, {}},
      {kApJumpTable, 1, 0, {}},
      {kPageStateChange, 0, 0, {kSwScratch}, true},
      {kGuestRequest, 0x1000, 0x2000, {}, true},
      {kExtGuestRequest, 0x1000, 0x2000, {}, true},
      {kApCreation, 1ULL << 32 | 1, 0x3000, {kRax}, true},
      {kApCreation, 1ULL << 32 | 2, 0, {}, true},
      {kHvFeatures, 0, 0, {}},
  };
}

/// The request with all that it requires; the first register value that suits them all.
GhcbVm& ask(GhcbVm& vm, const Event& event) {
  vm.ask(event.code, event.info1, event.info2);
  vm.page().shared_buffer[0] = PscHeader::make(1, 0);
  for (const ValidBit bit : event.required) {
    vm.with(bit, bit == ValidBit::kSwScratch ? kScratch : bit == ValidBit::kRcx ? 0x10 : 0);
  }
  if (event.code == ExitCode::kRdpmc) {
    vm.with(ValidBit::kRcx, 0);
  }
  return vm;
}

GhcbMistakeKind only_mistake(const GhcbVm& vm) {
  EXPECT_EQ(vm.host.mistakes.size(), 1U);
  return vm.host.mistakes.empty() ? GhcbMistakeKind::kNoGhcb : vm.host.mistakes[0].kind;
}

TEST(GhcbPageOrder, WithoutAnAddressTheGuestResumes) {
  GhcbVm vm;
  vm.host.mistakes.clear();
  EXPECT_EQ(vm.ghcb.exit(0), (GhcbOutcome{}));
  EXPECT_EQ(only_mistake(vm), GhcbMistakeKind::kNoGhcb);
}

TEST(GhcbPageOrder, APageThatCannotBeMappedResumes) {
  GhcbVm vm;
  for (const std::uint64_t gpa : {0x70'0000ULL, 1ULL << 51, ~0xFFFULL}) {
    vm.host.mistakes.clear();
    EXPECT_EQ(vm.ghcb.exit(gpa), (GhcbOutcome{.msr = gpa}));
    EXPECT_EQ(only_mistake(vm), GhcbMistakeKind::kUnmappable);
  }
}

TEST(GhcbPageOrder, AnUnregisteredPageStopsTheVmButItsBitmapIsCleared) {
  GhcbVm vm;
  GhcbPage other{};
  vm.host.pages[0x70'0000] = &other;
  vm.host.mistakes.clear();
  other.usage = 1;  // also wrong, and checked later
  other.valid_bitmap = {~0ULL, ~0ULL};
  other.sw_exit_info_1 = 0x55;
  const GhcbOutcome outcome = vm.ghcb.exit(0x70'0000);
  EXPECT_EQ(outcome.next, GhcbNext::kStop);
  EXPECT_EQ(outcome.mistake, GhcbMistakeKind::kNotRegistered);
  EXPECT_EQ(only_mistake(vm), GhcbMistakeKind::kNotRegistered);
  EXPECT_EQ(other.valid_bitmap, (std::array<std::uint64_t, 2>{}));
  EXPECT_EQ(other.sw_exit_info_1, 0x55U) << "nothing is answered";
}

TEST(GhcbPageOrder, OnlySnpGuestsMustRegister) {
  GhcbVm vm{{.is_snp = false}};
  EXPECT_EQ(vm.ask(ExitCode::kWbinvd).answer(), GhcbVm::kOk);
}

TEST(GhcbPageOrder, UsageComesBeforeMissingInputs) {
  GhcbVm vm;
  vm.ask(static_cast<ExitCode>(0x9999));
  vm.page().valid_bitmap = {};
  vm.page().usage = 7;
  EXPECT_EQ(vm.answer(), GhcbVm::malformed(MalformedReason::kBadUsage));
  EXPECT_EQ(only_mistake(vm), GhcbMistakeKind::kBadUsage);
  EXPECT_EQ(vm.host.mistakes[0].value, 7U);
}

TEST(GhcbPageOrder, TheExitFieldsMustBeValidEvenForAnUnknownCode) {
  GhcbVm vm;
  const std::pair<ValidBit, GhcbField> kFields[]{{ValidBit::kSwExitCode, GhcbField::kExitCode},
                                                 {ValidBit::kSwExitInfo1, GhcbField::kExitInfo1},
                                                 {ValidBit::kSwExitInfo2, GhcbField::kExitInfo2}};
  for (const auto& [bit, field] : kFields) {
    vm.ask(static_cast<ExitCode>(0x9999)).mark(bit, false);
    EXPECT_EQ(vm.answer(), GhcbVm::malformed(MalformedReason::kMissingInput));
    ASSERT_EQ(vm.host.mistakes.size(), 1U);
    EXPECT_EQ(vm.host.mistakes[0].field, field);
  }
}

TEST(GhcbPageOrder, EveryEventWithItsInputsIsAnswered) {
  for (const Event& event : events()) {
    GhcbVm vm;
    EXPECT_EQ(ask(vm, event).answer().first, 0U) << name_of(event.code);
    EXPECT_TRUE(vm.host.mistakes.empty()) << name_of(event.code);
  }
}

TEST(GhcbPageOrder, EveryMissingInputIsFoundBeforeAnythingIsDone) {
  for (const Event& event : events()) {
    for (const ValidBit missing : event.required) {
      GhcbVm vm;
      EXPECT_EQ(ask(vm, event).mark(missing, false).answer(),
                GhcbVm::malformed(MalformedReason::kMissingInput))
          << name_of(event.code) << " " << static_cast<int>(missing);
      EXPECT_TRUE(vm.host.log.empty());
      EXPECT_EQ(only_mistake(vm), GhcbMistakeKind::kMissingInput);
    }
  }
}

TEST(GhcbPageOrder, TheFirstOfSeveralMissingInputsIsReported) {
  GhcbVm vm;
  vm.ask(ExitCode::kMonitor).with(ValidBit::kRax, 1);
  EXPECT_EQ(vm.answer(), GhcbVm::malformed(MalformedReason::kMissingInput));
  ASSERT_EQ(vm.host.mistakes.size(), 1U);
  EXPECT_EQ(vm.host.mistakes[0].field, GhcbField::kRcx);
  EXPECT_EQ(vm.host.mistakes[0].exit_code, 0x8AU);
}

TEST(GhcbPageOrder, EventsOfSnpGuestsAreMissingInputForOthers) {
  for (const Event& event : events()) {
    GhcbVm vm{{.is_snp = false}};
    const auto answer = ask(vm, event).answer();
    if (event.snp_only) {
      EXPECT_EQ(answer, GhcbVm::malformed(MalformedReason::kMissingInput)) << name_of(event.code);
      EXPECT_EQ(only_mistake(vm), GhcbMistakeKind::kSnpOnly);
      EXPECT_TRUE(vm.host.log.empty());
    } else {
      EXPECT_EQ(answer.first, 0U) << name_of(event.code);
    }
  }
}

TEST(GhcbPageOrder, EveryOtherCodeIsAnInvalidEvent) {
  std::set<std::uint64_t> known;
  for (const Event& event : events()) {
    known.insert(static_cast<std::uint64_t>(event.code));
  }
  using enum ExitCode;
  for (const ExitCode code : {kApHltLoop, kTerminate, kUnsupported}) {
    known.insert(static_cast<std::uint64_t>(code));
  }
  GhcbVm vm;
  std::size_t answered = 0;
  for (std::uint64_t low = 0; low < 0x10000; ++low) {
    for (const std::uint64_t code : {low, low | 0x8000'0000, low | 1UL << 32}) {
      if (known.contains(code)) {
        ++answered;
        continue;
      }
      ASSERT_EQ(vm.ask(static_cast<ExitCode>(code)).answer(),
                GhcbVm::malformed(MalformedReason::kInvalidEvent))
          << code;
      ASSERT_EQ(only_mistake(vm), GhcbMistakeKind::kUnknownEvent);
      ASSERT_TRUE(vm.host.log.empty());
    }
  }
  EXPECT_EQ(answered, known.size());
}

TEST(GhcbPageOutput, RegistersThatWereNotValidComeBackAsZero) {
  GhcbVm vm;
  vm.ask(ExitCode::kWbinvd).with(ValidBit::kRbx, 0x5555);
  vm.page().rax = 0x1111;
  vm.page().rcx = 0x2222;
  vm.page().rdx = 0x3333;
  EXPECT_EQ(vm.answer(), GhcbVm::kOk);
  EXPECT_EQ(vm.page().rax, 0U);
  EXPECT_EQ(vm.page().rbx, 0x5555U);
  EXPECT_EQ(vm.page().rcx, 0U);
  EXPECT_EQ(vm.page().rdx, 0U);
}

TEST(GhcbPageOutput, TheRegistersComeBackFromAMalformedRequestToo) {
  GhcbVm vm;
  vm.ask(static_cast<ExitCode>(0x9999)).with(ValidBit::kRax, 0x5555);
  EXPECT_EQ(vm.answer(), GhcbVm::malformed(MalformedReason::kInvalidEvent));
  EXPECT_EQ(vm.page().rax, 0x5555U);
}

TEST(GhcbPageInput, WhatTheGuestWritesDuringTheCallChangesNothing) {
  GhcbVm vm;
  vm.ask(ExitCode::kMsr, 1)
      .with(ValidBit::kRcx, 0x10)
      .with(ValidBit::kRax, 0xAAAA)
      .with(ValidBit::kRdx, 0xBBBB);
  vm.host.on_call = [&vm] {
    vm.ask(ExitCode::kTerminate, 0, 99).with(ValidBit::kRax, 1).with(ValidBit::kRdx, 1);
    vm.page().usage = 9;
  };
  EXPECT_EQ(vm.answer(), GhcbVm::kOk);
  EXPECT_EQ(vm.host.log, Log{"wrmsr 10 bbbb0000aaaa"});
  EXPECT_EQ(vm.page().rax, 0xAAAAU);
}

TEST(GhcbPageEnd, TerminationByPageIsDecodedWithItsPayload) {
  GhcbVm vm;
  vm.ask(ExitCode::kTerminate, 0x21, 0xF00D);
  EXPECT_EQ(vm.exit(), (GhcbOutcome{.next = GhcbNext::kTerminate,
                                    .msr = kGhcb,
                                    .reason = {.set = 1, .code = 2},
                                    .payload = 0xF00D}));
  EXPECT_EQ(vm.page().sw_exit_info_1, 0x21U) << "nothing is answered";
  EXPECT_EQ(vm.page().valid_bitmap, (std::array<std::uint64_t, 2>{}));
}

TEST(GhcbPageEnd, AnEventThatTheGuestCannotHandleStopsTheVm) {
  GhcbVm vm;
  vm.ask(ExitCode::kUnsupported, 0x76, 5);
  const GhcbOutcome outcome = vm.exit();
  EXPECT_EQ(outcome.next, GhcbNext::kStop);
  EXPECT_EQ(outcome.mistake, GhcbMistakeKind::kUnsupportedEvent);
  ASSERT_EQ(vm.host.mistakes.size(), 1U);
  EXPECT_EQ(vm.host.mistakes[0].value, 0x76U);
}

TEST(GhcbPageEnd, AProcessorThatHoldsIsToldOfItsStart) {
  GhcbVm vm;
  vm.ask(ExitCode::kApHltLoop).with(ValidBit::kRbx, 3);
  EXPECT_EQ(vm.exit(), (GhcbOutcome{.next = GhcbNext::kHold, .msr = kGhcb}));
  EXPECT_EQ(vm.page().sw_exit_info_2, 0U);
  ASSERT_TRUE(vm.ghcb.holds());
  EXPECT_EQ(vm.ghcb.start(kGhcb), (GhcbOutcome{.msr = kGhcb}));
  EXPECT_EQ(vm.page().sw_exit_info_1, 0U);
  EXPECT_NE(vm.page().sw_exit_info_2, 0U);
  EXPECT_EQ(vm.page().rbx, 3U);
  EXPECT_FALSE(vm.ghcb.holds());
}

TEST(GhcbPageEnd, AStartFindsThePageGoneAndGoesOn) {
  GhcbVm vm;
  vm.ask(ExitCode::kApHltLoop);
  EXPECT_EQ(vm.exit().next, GhcbNext::kHold);
  vm.host.pages.clear();
  EXPECT_EQ(vm.ghcb.start(kGhcb), (GhcbOutcome{.msr = kGhcb}));
}

}  // namespace
}  // namespace accede::host::test
