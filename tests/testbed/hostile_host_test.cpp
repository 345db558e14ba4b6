// A hostile host against the whole guest: what the guest says, and that it goes on or stops safely.
#include "accede/abi/e820.hpp"
#include "accede/abi/rmp.hpp"
#include "accede/abi/tdx.hpp"
#include "accede/guest/detect.hpp"
#include "tests/testbed/guest_vm.hpp"
#include "tests/testbed/tdcall.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <random>
#include <utility>
#include <vector>

namespace accede::testbed {
namespace {

using abi::tdx::Operand;
using abi::tdx::Status;
using abi::tdx::status;
using guest::AllocErrorKind;
using guest::FailureKind;
using guest::MapErrorKind;
using guest::PlatformFailure;
using guest::TableErrorKind;
using host::HostileAct;
using host::HostileEvent;
using host::HostileRule;
using test::Blocks;
using test::efi_map;
using test::Kernel;
using test::Machine;
using test::MachineConfig;
using test::MemoryKind;
using test::MemoryRegion;
using test::must;
using test::Order;
using test::range;
using test::Snp;
using test::Tdx;
using test::Visibility;

constexpr std::uint64_t kBusyRcx = status(Status::kOperandBusy, Operand::kRcx);

/// A guest that has used up all accepted memory, so that its next request accepts; what it keeps
/// there must outlive every attack.
template <class Side>
class Victim {
 public:
  explicit Victim(MachineConfig config = {.memory = 40_MiB})
      : machine{config}, kernel{machine}, kept{machine.window()} {
    kernel.boot();
    EXPECT_EQ(kernel.take_all(kept, Order{0}, {.no_wait = true}).kind,
              AllocErrorKind::kWouldAccept);
    accepted_before_ = machine.bed().counters().accepted_bytes;
  }

  /// The unit that the next request accepts: the highest that is unaccepted.
  [[nodiscard]] PhysRange next_unit() {
    PhysRange last;
    kernel.table().for_each_run([&](PhysRange run) { last = run; });
    return *PhysRange::make(last.end() - 2_MiB, last.end());
  }
  /// A request that is to fail in the platform; how it did.
  PlatformFailure attack(Order order = {}) {
    Blocks none{machine.window()};
    const auto error = kernel.take(none, order);
    EXPECT_TRUE(error.has_value());
    EXPECT_TRUE(none.entries().empty());
    if (!error) {
      return {};
    }
    EXPECT_EQ(error->kind, AllocErrorKind::kAcceptFailed);
    EXPECT_TRUE(error->accept.units.contains(error->accept.failure.at));
    EXPECT_TRUE(kernel.table().any_unaccepted(error->accept.units));
    EXPECT_EQ(kernel.problem(), "");
    return error->accept.failure;
  }
  /// Nothing was lost; with an honest host all memory can be used, each page accepted once.
  void expect_recovery() {
    EXPECT_TRUE(kept.intact());
    EXPECT_EQ(kernel.problem(), "");
    machine.play({});
    Blocks rest{machine.window()};
    EXPECT_EQ(kernel.take_all(rest).kind, AllocErrorKind::kOutOfMemory);
    EXPECT_EQ(rest.size() + kept.size(), kernel.allocator().counters().total);
    EXPECT_TRUE(rest.intact());
    EXPECT_TRUE(kept.intact());
    EXPECT_EQ(kernel.table().unaccepted(), 0_B);
    EXPECT_EQ(machine.bed().counters().accepted_bytes, machine.unaccepted().size().value());
    EXPECT_TRUE(kernel.give_back(rest));
    EXPECT_TRUE(kernel.give_back(kept));
    EXPECT_EQ(kernel.problem(), "");
  }
  [[nodiscard]] std::uint64_t accepted_since() {
    return machine.bed().counters().accepted_bytes - accepted_before_;
  }
  [[nodiscard]] std::uint64_t content(PhysAddr page) { return machine.word(page); }

  Machine<Side> machine;
  Kernel<Side> kernel;
  Blocks kept;

 private:
  std::uint64_t accepted_before_ = 0;
};

template <class Side>
class HostileHostTest : public testing::Test {};
using Sides = testing::Types<Tdx, Snp>;
TYPED_TEST_SUITE(HostileHostTest, Sides, test::SideNames);

constexpr HostileEvent accept_event(guest::PlatformKind kind) {
  return kind == guest::PlatformKind::kTdx ? HostileEvent::kAccept : HostileEvent::kValidate;
}
/// The lie "it was accepted before".
constexpr HostileAct already(guest::PlatformKind kind) {
  return kind == guest::PlatformKind::kTdx ? HostileAct::kAlreadyAccepted : HostileAct::kUnchanged;
}
/// The word for it, for a page of 2 MiB.
constexpr std::uint64_t already_word(guest::PlatformKind kind) {
  return kind == guest::PlatformKind::kTdx ? status(Status::kPageAlreadyAccepted, PageSize::k2M)
                                           : std::uint64_t{abi::rmp::kPvalidateNoUpdate};
}

// --- Pages removed and added again ---

TYPED_TEST(HostileHostTest, Regression_O02_APageReplacedBehindTheGuestIsNeverAcceptedSilently) {
  Victim<TypeParam> victim;
  const PhysAddr stolen = victim.kept.entries()[100].at;
  victim.machine.play({{.event = accept_event(TypeParam::kKind),
                        .act = HostileAct::kReplace,
                        .target = range(stolen, 4_KiB)}});
  Blocks more{victim.machine.window()};
  ASSERT_FALSE(victim.kernel.take(more));
  ASSERT_EQ(victim.machine.bed().script().acted(0), 1U);

  // The table says that it is the guest's: nobody accepts it, and the touch ends the VM.
  EXPECT_EQ(victim.kernel.acceptor().accept(range(stolen, 4_KiB)), 0_B);
  const auto stop = victim.machine.touch(stolen);
  ASSERT_TRUE(stop.has_value());
  EXPECT_EQ(stop->cause, StopCause::kTouch);
  EXPECT_EQ(stop->gpa, stolen);
  EXPECT_EQ(stop->state, TypeParam::kUnusable);
  for (const Blocks::Entry& entry : victim.kept.entries()) {
    EXPECT_TRUE(entry.at == stolen || victim.kept.intact(entry));
  }
  EXPECT_TRUE(more.intact());
  EXPECT_EQ(victim.kernel.problem(), "");
}

TYPED_TEST(HostileHostTest, APageReplacedBeforeItsFirstUseIsNotZeroMemoryOfTheHost) {
  Victim<TypeParam> victim;
  const PhysRange unit = victim.next_unit();
  victim.machine.play({{.event = accept_event(TypeParam::kKind),
                        .act = HostileAct::kReplace,
                        .where = unit,
                        .target = range(unit.begin(), 4_KiB)}});
  Blocks more{victim.machine.window()};
  const auto stop = catch_stop([&] {
    const auto got = victim.kernel.allocator().allocate(Order{9});
    victim.machine.word(got.value()) = 1;
  });
  ASSERT_TRUE(stop.has_value());
  EXPECT_EQ(stop->cause, StopCause::kTouch);
  EXPECT_EQ(stop->gpa, unit.begin());
  EXPECT_EQ(stop->state, TypeParam::kUnusable);
  EXPECT_TRUE(victim.kept.intact());
}

TEST(HostileHost, Regression_O02_AfterTheGuestsOwnReleaseAPageIsAcceptedAgain) {
  Victim<Tdx> victim{{.memory = 40_MiB, .page_release = true}};
  Blocks more{victim.machine.window()};
  ASSERT_FALSE(victim.kernel.take(more, Order{9}));
  const PhysRange unit = range(more.entries()[0].at, 2_MiB);
  ASSERT_EQ(test::release(unit.begin(), PageSize::k2M), 0U);
  victim.kernel.table().mark_unaccepted(unit);
  EXPECT_TRUE(victim.machine.touch(unit.begin()).has_value());
  ASSERT_EQ(victim.kernel.acceptor().accept(unit), 2_MiB);
  EXPECT_EQ(victim.content(unit.begin()), 0U);
  EXPECT_EQ(victim.machine.bed().counters().refused, 0U);
  EXPECT_TRUE(victim.kept.intact());
}

// --- Pages accepted twice ---

TYPED_TEST(HostileHostTest, Regression_O01_APageThatIsSaidToBeAcceptedAlreadyIsAnAttack) {
  Victim<TypeParam> victim;
  const PhysRange unit = victim.next_unit();
  victim.machine.play(
      {{.event = accept_event(TypeParam::kKind), .act = already(TypeParam::kKind)}});
  EXPECT_EQ(victim.attack(), (PlatformFailure{.kind = FailureKind::kAlreadyAccepted,
                                              .status = already_word(TypeParam::kKind),
                                              .at = unit.begin(),
                                              .size = PageSize::k2M,
                                              .done_end = unit.begin()}));
  EXPECT_TRUE(victim.machine.touch(unit.begin()).has_value());
  EXPECT_EQ(victim.accepted_since(), 0U);
  victim.expect_recovery();
}

/// A table in the place of the firmware's: `words` of bitmap from the start of RAM.
template <class Side>
void forge_table(Machine<Side>& machine, std::vector<std::uint64_t> words,
                 abi::linux_unaccepted::TableHeader header) {
  const auto room = machine.memory(*PhysRange::make(machine.table_at(), machine.acpi().end()));
  std::memcpy(room.data(), &header, sizeof(header));
  std::memcpy(room.data() + sizeof(header), words.data(), words.size() * 8);
  machine.publish_in_efi(machine.table_at());
}
template <class Side>
abi::linux_unaccepted::TableHeader header_for(const Machine<Side>& machine) {
  return {.version = 1,
          .unit_size = 2 << 20,
          .phys_base = machine.ram().begin().value(),
          .bitmap_bytes = 8};
}

TYPED_TEST(HostileHostTest, Regression_O01_MemoryOfTheLaunchThatATableOffersAgainIsAnAttack) {
  Machine<TypeParam> machine{{.memory = 40_MiB, .launch = 8_MiB}};
  machine.word(machine.at(4_MiB)) = 42;
  // Units 2 and 3 are the launch's; 4 to 19 are not.
  forge_table(machine, {0xFFFFC}, header_for(machine));
  Kernel<TypeParam> kernel{machine};
  must(kernel.read_efi_map(efi_map(machine.regions())), "map");
  must(kernel.find_table({.efi_entries = machine.efi_entries()}), "table");
  must(kernel.start_early(), "early");
  kernel.finish_boot();

  Blocks kept{machine.window()};
  guest::AllocError error = kernel.take_all(kept, Order{9});
  ASSERT_EQ(error.kind, AllocErrorKind::kAcceptFailed);
  EXPECT_EQ(error.accept.failure.kind, FailureKind::kAlreadyAccepted);
  EXPECT_EQ(error.accept.failure.status, already_word(TypeParam::kKind));
  EXPECT_TRUE(range(machine.at(4_MiB), 4_MiB).contains(error.accept.failure.at));
  // Asking again says the same; the pages stay out of use and keep what they hold.
  error = kernel.take_all(kept, Order{0});
  EXPECT_EQ(error.accept.failure.kind, FailureKind::kAlreadyAccepted);
  for (const Blocks::Entry& entry : kept.entries()) {
    EXPECT_FALSE(range(entry.at, entry.order.bytes()).overlaps(range(machine.at(4_MiB), 4_MiB)));
  }
  EXPECT_EQ(kernel.table().unaccepted(), 4_MiB);
  EXPECT_EQ(machine.word(machine.at(4_MiB)), 42U);
  EXPECT_TRUE(kept.intact());
  EXPECT_EQ(kernel.problem(), "");
}

// --- Pages that never arrive ---

TEST(HostileHost, AHostThatStaysBusyStopsTheRequestAndNothingElse) {
  Victim<Tdx> victim;
  const PhysRange unit = victim.next_unit();
  victim.machine.play({{.act = HostileAct::kBusy, .where = unit, .times = HostileRule::kForever}});
  EXPECT_EQ(victim.attack(), (PlatformFailure{.kind = FailureKind::kBusyForever,
                                              .status = kBusyRcx,
                                              .at = unit.begin(),
                                              .size = PageSize::k2M,
                                              .done_end = unit.begin()}));
  // The unit is the guard of the one below it, which cannot be had either. Then requests go
  // elsewhere.
  EXPECT_EQ(victim.attack(Order{9}).at, unit.begin());
  Blocks more{victim.machine.window()};
  for (unsigned i = 0; i < 4; ++i) {
    EXPECT_FALSE(victim.kernel.take(more, Order{9}));
  }
  EXPECT_TRUE(more.intact());
  EXPECT_TRUE(victim.kernel.give_back(more));
  victim.expect_recovery();
}

TEST(HostileHost, ABusyPageThatComesFreeInTimeIsNoError) {
  Victim<Tdx> victim;
  victim.machine.play({{.act = HostileAct::kBusy, .times = guest::TdxPlatform::kBusyTries - 1}});
  Blocks more{victim.machine.window()};
  EXPECT_FALSE(victim.kernel.take(more));
  EXPECT_TRUE(victim.kernel.give_back(more));
  victim.expect_recovery();
}

TEST(HostileHost, AUnitThatFailedPartWayGoesOnAtThePageWhereItFailed) {
  Victim<Tdx> victim{{.memory = 40_MiB, .backing = host::Backing::k4K}};
  const PhysRange unit = victim.next_unit();
  const PhysRange page = range(unit.begin() + 4_KiB * 100, 4_KiB);
  // The first event that concerns the page is the request for 2 MiB, which mismatches.
  victim.machine.play({{.act = HostileAct::kBusy,
                        .where = page,
                        .first = 2,
                        .times = guest::TdxPlatform::kBusyTries}});
  EXPECT_EQ(victim.attack(), (PlatformFailure{.kind = FailureKind::kBusyForever,
                                              .status = kBusyRcx,
                                              .at = page.begin(),
                                              .size = PageSize::k4K,
                                              .done_end = page.begin()}));
  EXPECT_EQ(victim.accepted_since(), (4_KiB * 100).value());
  victim.expect_recovery();
}

TEST(HostileHost, APvalidateThatFailsPartWayGoesOnAtThePageWhereItFailed) {
  Victim<Snp> victim{{.memory = 40_MiB, .backing = host::Backing::k4K}};
  const PhysRange unit = victim.next_unit();
  const PhysRange page = range(unit.begin() + 4_KiB * 511, 4_KiB);
  victim.machine.play({{.event = HostileEvent::kValidate,
                        .act = HostileAct::kUnchanged,
                        .where = page,
                        .first = 2}});
  EXPECT_EQ(victim.attack(), (PlatformFailure{.kind = FailureKind::kAlreadyAccepted,
                                              .status = abi::rmp::kPvalidateNoUpdate,
                                              .at = page.begin(),
                                              .size = PageSize::k4K,
                                              .done_end = page.begin()}));
  EXPECT_EQ(victim.accepted_since(), (4_KiB * 511).value());
  victim.expect_recovery();
}

// --- Backing in small pages ---

TYPED_TEST(HostileHostTest, AUnitThatTheHostSplitsIsAcceptedInSmallPages) {
  Victim<TypeParam> victim;
  const PhysRange unit = victim.next_unit();
  victim.machine.play(
      {{.event = accept_event(TypeParam::kKind), .act = HostileAct::kBackSmall, .where = unit}});
  const std::uint64_t before = victim.machine.bed().counters().accepts_4k;
  Blocks more{victim.machine.window()};
  ASSERT_FALSE(victim.kernel.take(more, Order{9}));
  EXPECT_EQ(more.entries()[0].at, unit.begin());
  EXPECT_EQ(victim.machine.bed().counters().accepts_4k - before, 512U);
  EXPECT_TRUE(victim.kernel.give_back(more));
  victim.expect_recovery();
}

TEST(HostileHost, ASizeMismatchOfASmallPageIsRefused) {
  Victim<Tdx> victim;
  const PhysRange unit = victim.next_unit();
  const std::uint64_t word = status(Status::kPageSizeMismatch, PageSize::k4K);
  victim.machine.play(
      {{.act = HostileAct::kStatus, .times = HostileRule::kForever, .value = word}});
  EXPECT_EQ(victim.attack(), (PlatformFailure{.kind = FailureKind::kRefused,
                                              .status = word,
                                              .at = unit.begin(),
                                              .size = PageSize::k4K,
                                              .done_end = unit.begin()}));
  victim.expect_recovery();
}

// --- Any status ---

FailureKind kind_of(Status code) {
  switch (code) {
    case Status::kPageAlreadyAccepted:
      return FailureKind::kAlreadyAccepted;
    case Status::kOperandBusy:
      return FailureKind::kBusyForever;
    default:
      return FailureKind::kRefused;
  }
}

TEST(HostileHost, Regression_T01_EveryStatusOfTheModuleIsAnOutcome) {
  Victim<Tdx> victim;
  for (const auto& [code, text] : abi::tdx::kStatusNames) {
    if (code == Status::kSuccess) {
      continue;  // SUCCESS with anything below is success: the next test
    }
    for (const std::uint32_t low : {0U, 1U, 0xFFFF'FFFFU}) {
      const std::uint64_t word = std::uint64_t{static_cast<std::uint32_t>(code)} << 32 | low;
      victim.machine.play(
          {{.act = HostileAct::kStatus, .times = HostileRule::kForever, .value = word}});
      const PlatformFailure failure = victim.attack();
      EXPECT_EQ(failure.kind, kind_of(code)) << text;
      EXPECT_EQ(failure.status, word) << text;
      EXPECT_EQ(failure.done_end, failure.at) << text;
    }
  }
  EXPECT_EQ(victim.accepted_since(), 0U);
  victim.expect_recovery();
}

TEST(HostileHost, Regression_T01_StatusesWithoutANameAreRefused) {
  Victim<Tdx> victim;
  std::mt19937_64 random{20};
  for (unsigned i = 0; i < 200; ++i) {
    const std::uint64_t word = i < 64 ? 1ULL << i : random();
    const auto code = abi::tdx::code_of(word);
    if (code == Status::kSuccess || kind_of(code) != FailureKind::kRefused) {
      continue;
    }
    victim.machine.play(
        {{.act = HostileAct::kStatus, .times = HostileRule::kForever, .value = word}});
    const PlatformFailure failure = victim.attack();
    ASSERT_EQ(failure.kind, FailureKind::kRefused) << std::hex << word;
    ASSERT_EQ(failure.status, word);
  }
  victim.expect_recovery();
}

TYPED_TEST(HostileHostTest, APretendedAcceptIsFoundOutAtTheFirstTouch) {
  Victim<TypeParam> victim;
  const PhysRange unit = victim.next_unit();
  victim.machine.play(
      {{.event = accept_event(TypeParam::kKind), .act = HostileAct::kPretend, .where = unit}});
  const auto stop = catch_stop([&] {
    const auto got = victim.kernel.allocator().allocate(Order{9});
    victim.machine.word(got.value()) = 1;
  });
  ASSERT_TRUE(stop.has_value());
  EXPECT_EQ(stop->gpa, unit.begin());
  EXPECT_EQ(stop->state, TypeParam::kUnusable);
  EXPECT_TRUE(victim.kept.intact());
}

TEST(HostileHost, EveryAnswerOfPvalidateIsAnOutcome) {
  Victim<Snp> victim;
  for (const std::uint32_t code : {1U, 2U, 3U, 4U, 5U, 7U, 255U, 0xFFFF'FFFFU}) {
    victim.machine.play(
        {{.event = HostileEvent::kValidate, .act = HostileAct::kStatus, .value = code}});
    const PlatformFailure failure = victim.attack();
    EXPECT_EQ(failure.kind, FailureKind::kRefused) << code;
    EXPECT_EQ(failure.status, code);
  }
  // A mismatch of a 4 KiB page too.
  victim.machine.play({{.event = HostileEvent::kValidate,
                        .act = HostileAct::kStatus,
                        .times = HostileRule::kForever,
                        .value = 6}});
  const PlatformFailure failure = victim.attack();
  EXPECT_EQ(failure.kind, FailureKind::kRefused);
  EXPECT_EQ(failure.size, PageSize::k4K);
  EXPECT_EQ(failure.status, 6U);
  victim.expect_recovery();
}

// --- MapGPA ---

class HostileMapGpaTest : public testing::Test {
 protected:
  /// convert() of `pages` to shared, which fails.
  PlatformFailure share(PhysRange pages) {
    const auto result = victim.kernel.platform().convert(pages, Visibility::kShared);
    EXPECT_FALSE(result.has_value());
    return result.has_value() ? PlatformFailure{} : result.error();
  }
  /// A block that is in use: 4 MiB with a known content.
  PhysRange block() {
    EXPECT_FALSE(victim.kernel.take(more, Order{10}));
    return range(more.entries().back().at, 4_MiB);
  }
  std::uint64_t shared(PhysAddr at) { return at.value() | victim.kernel.platform().shared_bit(); }

  Victim<Tdx> victim{};
  Blocks more{victim.machine.window()};
};

TEST_F(HostileMapGpaTest, Regression_K03_ALieAboutTheProgressLeavesEveryPageAsItWas) {
  const PhysRange pages = block();
  const std::uint64_t begin = shared(pages.begin());
  const std::uint64_t end = shared(pages.end());
  using enum HostileAct;
  struct Lie {
    HostileAct act;
    std::uint64_t value;
    std::uint64_t r11;
  };
  for (const Lie& lie :
       {Lie{kRetryBackwards, 0, begin - 4096}, Lie{kRetryOutOfRange, 0, end + 4096},
        Lie{kRetryAt, end, end}, Lie{kRetryAt, begin + 1, begin + 1},
        Lie{kRetryAt, pages.begin().value() + 8192, pages.begin().value() + 8192},
        Lie{kRetryAt, ~0ULL, ~0ULL}, Lie{kRetryAt, 0, 0}, Lie{kRetryAt, 77, 77}}) {
    victim.machine.play({{.event = HostileEvent::kConvert, .act = lie.act, .value = lie.value}});
    EXPECT_EQ(share(pages), (PlatformFailure{.kind = FailureKind::kHostLied,
                                             .status = lie.r11,
                                             .at = pages.begin(),
                                             .size = PageSize::k4K,
                                             .done_end = pages.begin()}))
        << std::hex << lie.value;
    EXPECT_TRUE(more.intact());
  }
  EXPECT_TRUE(victim.kernel.give_back(more));
  victim.expect_recovery();
}

TEST_F(HostileMapGpaTest, RetryForEverIsBounded) {
  const PhysRange pages = block();
  victim.machine.play({{.event = HostileEvent::kConvert,
                        .act = HostileAct::kRetryInPlace,
                        .times = HostileRule::kForever}});
  const PlatformFailure failure = share(pages);
  EXPECT_EQ(failure.kind, FailureKind::kBusyForever);
  EXPECT_EQ(failure.status, 1U);
  EXPECT_EQ(failure.at, pages.begin());
  EXPECT_LE(victim.machine.bed().script().acted(0), guest::TdxPlatform::kMapGpaRetries + 1);
  EXPECT_TRUE(more.intact());
  EXPECT_TRUE(victim.kernel.give_back(more));
  victim.expect_recovery();
}

TEST_F(HostileMapGpaTest, EveryOtherAnswerIsRefusedAndARetryWorks) {
  const PhysRange pages = block();
  for (const std::uint64_t r10 : {2ULL, 1ULL << 63, (1ULL << 63) | 1, (1ULL << 63) | 2, ~0ULL}) {
    victim.machine.play(
        {{.event = HostileEvent::kConvert, .act = HostileAct::kStatus, .value = r10}});
    const PlatformFailure failure = share(pages);
    EXPECT_EQ(failure.kind, FailureKind::kRefused);
    EXPECT_EQ(failure.status, r10);
    EXPECT_EQ(failure.done_end, pages.begin());
    EXPECT_TRUE(more.intact());
  }
  must(victim.kernel.platform().convert(pages, Visibility::kShared), "share");
  must(victim.kernel.platform().convert(pages, Visibility::kPrivate), "take back");
  EXPECT_EQ(victim.content(pages.begin()), 0U);
  EXPECT_TRUE(victim.kept.intact());
}

TEST_F(HostileMapGpaTest, AConversionThatIsCutShortSaysHowFarItCame) {
  const PhysRange pages = block();
  victim.machine.play(
      {{.event = HostileEvent::kConvert, .act = HostileAct::kPartly, .value = (64_KiB).value()},
       {.event = HostileEvent::kConvert, .act = HostileAct::kRetryBackwards, .first = 2}});
  const PlatformFailure failure = share(pages);
  EXPECT_EQ(failure.kind, FailureKind::kHostLied);
  EXPECT_EQ(failure.at, pages.begin() + 64_KiB);
  EXPECT_EQ(failure.done_end, pages.begin() + 64_KiB);
  EXPECT_EQ(victim.content(pages.begin()), 0U);  // shared
  EXPECT_EQ(victim.content(failure.done_end), failure.done_end.value() ^ 0x5EED);
  must(victim.kernel.platform().convert(range(pages.begin(), 64_KiB), Visibility::kPrivate),
       "take back");
  EXPECT_EQ(victim.content(failure.done_end), failure.done_end.value() ^ 0x5EED);
  EXPECT_TRUE(victim.kept.intact());
  EXPECT_EQ(victim.kernel.problem(), "");
}

TEST_F(HostileMapGpaTest, AConversionInManyPartsIsNoError) {
  const PhysRange pages = block();
  victim.machine.play(
      {{.event = HostileEvent::kConvert, .act = HostileAct::kPartly, .times = 100, .value = 4096}});
  must(victim.kernel.platform().convert(pages, Visibility::kShared), "share");
  EXPECT_EQ(victim.machine.bed().counters().to_shared_bytes, pages.size().value());
}

TEST_F(HostileMapGpaTest, APretendedConversionToPrivateIsFoundByTheAccept) {
  const PhysRange pages = block();
  must(victim.kernel.platform().convert(pages, Visibility::kShared), "share");
  victim.machine.play({{.event = HostileEvent::kConvert, .act = HostileAct::kPretend}});
  // The pages are shared still: the accept cannot end, and an honest machine stops the guest.
  const auto stop =
      catch_stop([&] { (void)victim.kernel.platform().convert(pages, Visibility::kPrivate); });
  ASSERT_TRUE(stop.has_value());
  EXPECT_EQ(stop->cause, StopCause::kSharedPage);
  EXPECT_EQ(stop->gpa, pages.begin());
}

TEST_F(HostileMapGpaTest, AnAcceptThatFailsAfterAConversionSaysWhichPageIsNotOurs) {
  const PhysRange pages = block();
  must(victim.kernel.platform().convert(pages, Visibility::kShared), "share");
  const PhysRange second = range(pages.begin() + 2_MiB, 2_MiB);
  victim.machine.play({{.act = HostileAct::kAlreadyAccepted, .where = second}});
  const auto result = victim.kernel.platform().convert(pages, Visibility::kPrivate);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, FailureKind::kAlreadyAccepted);
  EXPECT_EQ(result.error().at, second.begin());
  EXPECT_EQ(result.error().done_end, second.begin());
  EXPECT_FALSE(victim.machine.touch(pages.begin()).has_value());
  EXPECT_TRUE(victim.machine.touch(second.begin()).has_value());
  must(victim.kernel.platform().accept(second), "retry");
  EXPECT_TRUE(victim.kernel.give_back(more));
  EXPECT_TRUE(victim.kept.intact());
}

// --- Page state changes ---

class HostilePageStateTest : public testing::Test {
 protected:
  PhysRange block() {
    EXPECT_FALSE(victim.kernel.take(more, Order{5}));
    return range(more.entries().back().at, 128_KiB);
  }
  PlatformFailure share(PhysRange pages) {
    const auto result = victim.kernel.platform().convert(pages, Visibility::kShared);
    EXPECT_FALSE(result.has_value());
    return result.has_value() ? PlatformFailure{} : result.error();
  }
  /// All pages can be used, as private memory.
  void expect_private(PhysRange pages) {
    for (PhysAddr page = pages.begin(); page < pages.end(); page += 4_KiB) {
      ASSERT_FALSE(victim.machine.touch(page).has_value());
      ASSERT_EQ(victim.machine.bed().snp().memory().attribute(page), host::PageAttribute::kPrivate);
      victim.machine.word(page) = page.value();
    }
  }
  void play(HostileAct act, std::uint64_t value = 0, std::uint64_t times = 1,
            std::uint64_t first = 1) {
    victim.machine.play({{.event = HostileEvent::kPageStateChange,
                          .act = act,
                          .first = first,
                          .times = times,
                          .value = value}});
  }

  Victim<Snp> victim{};
  Blocks more{victim.machine.window()};
};

TEST(HostileHost, ASpoiledPageStateListStopsTheAcceptAndARetryWorks) {
  using enum HostileAct;
  using abi::ghcb::PscHeader;
  for (const auto& [act, word] :
       {std::pair{kListGrown, PscHeader::make(1, 1)},
        std::pair{kListMovedBack, PscHeader::make(0xFFFF, 0)},
        std::pair{kReservedSet, PscHeader::Reserved::set(PscHeader::make(1, 0), 1)}}) {
    Victim<Snp> victim;
    victim.machine.play({{.event = HostileEvent::kPageStateChange, .act = act}});
    const PhysAddr unit = victim.next_unit().begin();
    EXPECT_EQ(victim.attack(), (PlatformFailure{.kind = FailureKind::kHostLied,
                                                .status = word,
                                                .at = unit,
                                                .size = PageSize::k2M,
                                                .done_end = unit}))
        << host::name(act);
    EXPECT_EQ(victim.accepted_since(), 0U);
    victim.expect_recovery();
  }
}

TEST_F(HostilePageStateTest, AListThatIsNeverFinishedIsBounded) {
  play(HostileAct::kPartly, 0, HostileRule::kForever);
  const PlatformFailure failure = victim.attack();
  EXPECT_EQ(failure.kind, FailureKind::kBusyForever);
  EXPECT_LE(victim.machine.bed().script().acted(0), guest::kPageStateTries);
  victim.expect_recovery();
}

TEST_F(HostilePageStateTest, AnErrorOfTheHostIsGivenOnWord) {
  for (const std::uint64_t info :
       {1ULL, (1ULL << 32) | 1, (1ULL << 32) | 2, 0x100ULL << 32, ~0ULL}) {
    play(HostileAct::kStatus, info);
    const PlatformFailure failure = victim.attack();
    EXPECT_EQ(failure.kind, FailureKind::kRefused);
    EXPECT_EQ(failure.status, info);
  }
  victim.expect_recovery();
}

TEST_F(HostilePageStateTest, AListDoneInPartsIsResumedWithoutAPageTwice) {
  const PhysRange pages = block();
  play(HostileAct::kPartly, 3, 1000);
  must(victim.kernel.platform().convert(pages, Visibility::kShared), "share");
  EXPECT_EQ(victim.machine.bed().script().acted(0), 11U);  // 32 entries
  must(victim.kernel.platform().convert(pages, Visibility::kPrivate), "take back");
  EXPECT_EQ(victim.machine.bed().script().acted(0), 22U);
  EXPECT_EQ(victim.machine.bed().counters().refused, 0U);
  expect_private(pages);
  EXPECT_TRUE(victim.kept.intact());
}

TEST(HostileHost, AListOfManyUnitsThatStopsInTheMiddleGoesOnThere) {
  Machine<Snp> machine{{.memory = 64_MiB}};
  Kernel<Snp> kernel{machine};
  kernel.boot_to_early();
  // One list for 16 units: the host does five, then four, then fails.
  const PhysRange pages = range(machine.at(16_MiB), 32_MiB - 4_KiB);
  using enum HostileAct;
  constexpr HostileEvent kEvent = HostileEvent::kPageStateChange;
  machine.play({{.event = kEvent, .act = kPartly, .first = 1, .value = 5},
                {.event = kEvent, .act = kPartly, .first = 2, .value = 4},
                {.event = kEvent, .act = kStatus, .first = 3, .value = 0x100ULL << 32}});
  const auto failed = kernel.acceptor().accept(pages);
  ASSERT_FALSE(failed.has_value());
  EXPECT_EQ(failed.error().failure.kind, FailureKind::kRefused);
  EXPECT_EQ(failed.error().failure.at, pages.begin() + 2_MiB * 9);
  // What the host made private is not the guest's before its PVALIDATE.
  EXPECT_EQ(failed.error().failure.done_end, pages.begin());
  EXPECT_EQ(kernel.table().count(pages), 32_MiB);
  machine.play({});
  ASSERT_EQ(kernel.acceptor().accept(pages), 32_MiB);
  EXPECT_EQ(machine.bed().counters().refused, 0U);
  EXPECT_FALSE(machine.touch(pages.end() - 8_B).has_value());
}

TEST_F(HostilePageStateTest, Regression_K03_AFailedConversionToSharedGivesThePagesBack) {
  using enum HostileAct;
  const PhysRange pages = block();
  for (const auto& [act, kind] : {std::pair{kListGrown, FailureKind::kHostLied},
                                  {kReservedSet, FailureKind::kHostLied},
                                  {kListMovedBack, FailureKind::kHostLied}}) {
    // After three entries, so that the answer is about the rest.
    victim.machine.play({{.event = HostileEvent::kPageStateChange, .act = kPartly, .value = 3},
                         {.event = HostileEvent::kPageStateChange, .act = act, .first = 2}});
    const PlatformFailure failure = share(pages);
    EXPECT_EQ(failure.kind, kind) << host::name(act);
    EXPECT_EQ(failure.done_end, pages.begin() + 4_KiB * 3);
    victim.machine.play({});
    must(victim.kernel.platform().convert(*PhysRange::make(pages.begin(), failure.done_end),
                                          Visibility::kPrivate),
         "take back");
    expect_private(pages);
  }
  EXPECT_TRUE(victim.kept.intact());
  EXPECT_TRUE(Snp::sound(victim.machine.bed()));
}

TEST_F(HostilePageStateTest, Regression_K03_ARefusedConversionLeavesThePagesUsable) {
  const PhysRange pages = block();
  play(HostileAct::kStatus, 0x100ULL << 32);
  const PlatformFailure failure = share(pages);
  EXPECT_EQ(failure, (PlatformFailure{.kind = FailureKind::kRefused,
                                      .status = 0x100ULL << 32,
                                      .at = pages.begin(),
                                      .size = PageSize::k4K,
                                      .done_end = pages.begin()}));
  expect_private(pages);
  must(victim.kernel.platform().convert(pages, Visibility::kShared), "retry");
  must(victim.kernel.platform().convert(pages, Visibility::kPrivate), "take back");
  EXPECT_TRUE(victim.kept.intact());
}

TEST_F(HostilePageStateTest, APageThatTheHostReplacedIsNoticedWhenItIsGivenAway) {
  const PhysRange pages = block();
  const PhysRange stolen = range(pages.begin() + 20_KiB, 4_KiB);
  victim.machine.play(
      {{.event = HostileEvent::kPageStateChange, .act = HostileAct::kReplace, .target = stolen}});
  Blocks other{victim.machine.window()};
  ASSERT_FALSE(victim.kernel.take(other, Order{9}));
  ASSERT_EQ(victim.machine.bed().script().acted(0), 1U);
  const PlatformFailure failure = share(pages);
  EXPECT_EQ(failure.kind, FailureKind::kHostLied);
  EXPECT_EQ(failure.at, stolen.begin());
  EXPECT_EQ(failure.done_end, pages.begin());
  EXPECT_TRUE(other.intact());
  EXPECT_TRUE(victim.kept.intact());
}

TEST(HostileHost, TheHostsAnswersToTheMsrProtocolAreNotBelievedEither) {
  Machine<Snp> machine{{.memory = 32_MiB}};
  guest::SnpPlatform platform{machine.bed().snp(), machine.window()};
  const PhysRange pages = range(machine.at(12_MiB), 16_KiB);
  const auto failure = [&](HostileAct act, std::uint64_t value) {
    machine.play({{.event = HostileEvent::kPageStateChange, .act = act, .value = value}});
    return platform.accept(pages).error();
  };
  EXPECT_EQ(failure(HostileAct::kReservedSet, 0).kind, FailureKind::kHostLied);
  const PlatformFailure refused = failure(HostileAct::kStatus, 5);
  EXPECT_EQ(refused.kind, FailureKind::kRefused);
  EXPECT_EQ(refused.at, pages.begin());
  EXPECT_EQ(abi::ghcb::page_state_error_of(refused.status), 5U);
  machine.play({});
  must(platform.accept(pages), "retry");
  EXPECT_FALSE(machine.touch(pages.begin()).has_value());
}

// --- At boot, before there is a table ---

TYPED_TEST(HostileHostTest, AnAttackWhileTheTableIsBuiltStopsTheBootByName) {
  Machine<TypeParam> machine{{.memory = 32_MiB}};
  Kernel<TypeParam> kernel{machine};
  must(kernel.read_efi_map(efi_map(machine.regions())), "map");
  const PhysAddr page = machine.at(9_MiB);
  machine.play({{.event = accept_event(TypeParam::kKind),
                 .act = already(TypeParam::kKind),
                 .where = range(page, 4_KiB)}});
  const auto built = kernel.build_table();
  ASSERT_FALSE(built.has_value());
  EXPECT_EQ(built.error().kind, TableErrorKind::kAcceptFailed);
  EXPECT_EQ(built.error().failure.kind, FailureKind::kAlreadyAccepted);
  EXPECT_EQ(built.error().failure.at, page);
  EXPECT_FALSE(kernel.table().present());
  EXPECT_TRUE(machine.touch(page).has_value());
}

TYPED_TEST(HostileHostTest, AnAttackOnTheBookkeepingStopsTheEarlyAllocatorByName) {
  Machine<TypeParam> machine{{.memory = 32_MiB}};
  Kernel<TypeParam> kernel{machine};
  kernel.boot_to_early();
  machine.play({{.event = accept_event(TypeParam::kKind),
                 .act = already(TypeParam::kKind),
                 .where = range(machine.at(30_MiB), 2_MiB)}});
  const auto opened = kernel.open_allocator();
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().kind, guest::EarlyErrorKind::kAcceptFailed);
  EXPECT_EQ(opened.error().accept.failure.kind, FailureKind::kAlreadyAccepted);
  EXPECT_EQ(opened.error().accept.failure.at, machine.at(30_MiB));
  EXPECT_TRUE(kernel.early().invariants());
  EXPECT_TRUE(kernel.table().invariants());
  // The fault passed: the same again works, and nothing is accepted twice.
  machine.play({});
  kernel.finish_boot();
  Blocks blocks{machine.window()};
  EXPECT_EQ(kernel.take_all(blocks).kind, AllocErrorKind::kOutOfMemory);
  EXPECT_TRUE(blocks.intact());
  EXPECT_EQ(machine.bed().counters().accepted_bytes, machine.unaccepted().size().value());
}

TEST(HostileHost, ALongListAtBootMayComeBackInParts) {
  Machine<Snp> machine{{.memory = 32_MiB}};
  machine.play({{.event = HostileEvent::kPageStateChange,
                 .act = HostileAct::kPartly,
                 .times = 50,
                 .value = 7}});
  Kernel<Snp> kernel{machine};
  kernel.boot();
  EXPECT_EQ(machine.bed().script().acted(0), 50U);
  EXPECT_EQ(machine.bed().counters().refused, 0U);
  EXPECT_EQ(kernel.problem(), "");
}

TYPED_TEST(HostileHostTest, AnEagerBootThatIsAttackedKeepsTheRest) {
  Machine<TypeParam> machine{{.memory = 40_MiB}};
  Kernel<TypeParam, guest::Eager> kernel{machine};
  kernel.boot_to_early();
  must(kernel.open_allocator(), "allocator");
  const PhysRange unit = range(machine.at(20_MiB), 2_MiB);
  machine.play({{.event = accept_event(TypeParam::kKind),
                 .act = already(TypeParam::kKind),
                 .where = unit,
                 .times = HostileRule::kForever}});
  const auto ran = kernel.init().run();
  ASSERT_FALSE(ran.has_value());
  EXPECT_EQ(ran.error().failure.kind, FailureKind::kAlreadyAccepted);
  EXPECT_EQ(ran.error().failure.at, unit.begin());
  EXPECT_GE(kernel.table().unaccepted(), 2_MiB);
  EXPECT_LE(kernel.table().unaccepted(), 4_MiB);
  EXPECT_EQ(kernel.problem(), "");
  machine.play({});
  Blocks blocks{machine.window()};
  EXPECT_EQ(kernel.take_all(blocks).kind, AllocErrorKind::kOutOfMemory);
  EXPECT_TRUE(blocks.intact());
  EXPECT_EQ(blocks.size(), kernel.allocator().counters().total);
  EXPECT_EQ(kernel.problem(), "");
}

// --- Memory maps ---

/// Boots from `regions` as EFI's map and uses all memory; the map that the library made.
template <class Side>
std::vector<MemoryRegion> boot_from(const std::vector<MemoryRegion>& regions) {
  Machine<Side> machine{{.memory = 32_MiB}};
  Kernel<Side> kernel{machine};
  must(kernel.read_efi_map(efi_map(regions)), "map");
  must(kernel.build_table(), "table");
  must(kernel.start_early(), "early");
  kernel.finish_boot();
  Blocks blocks{machine.window()};
  EXPECT_EQ(kernel.take_all(blocks).kind, AllocErrorKind::kOutOfMemory);
  EXPECT_TRUE(blocks.intact());
  EXPECT_EQ(kernel.problem(), "");
  EXPECT_EQ(machine.bed().counters().accepted_bytes, machine.unaccepted().size().value());
  EXPECT_EQ(machine.bed().counters().refused, 0U);
  std::vector<MemoryRegion> made{kernel.map().regions().begin(), kernel.map().regions().end()};
  std::ranges::for_each(made, [](MemoryRegion& region) { region.entry = 0; });
  return made;
}
template <class Side>
std::vector<MemoryRegion> honest_regions() {
  return Machine<Side>{{.memory = 32_MiB}}.regions();
}

TYPED_TEST(HostileHostTest, Regression_E01_AnyOrderOfTheMapBootsTheSameGuest) {
  std::vector<MemoryRegion> regions = honest_regions<TypeParam>();
  // The unaccepted region in three descriptors.
  const PhysRange all = regions.back().range;
  regions.pop_back();
  PhysAddr at = all.begin();
  for (const PhysAddr end : {at + 3_MiB, at + 11_MiB + 4_KiB, all.end()}) {
    regions.push_back({.range = *PhysRange::make(at, end), .kind = MemoryKind::kUnaccepted});
    at = end;
  }
  const std::vector<MemoryRegion> expected = boot_from<TypeParam>(regions);
  std::mt19937 random{7};
  for (unsigned i = 0; i < 4; ++i) {
    std::ranges::shuffle(regions, random);
    EXPECT_EQ(boot_from<TypeParam>(regions), expected);
  }
  std::ranges::reverse(regions);
  EXPECT_EQ(boot_from<TypeParam>(regions), expected);
}

TYPED_TEST(HostileHostTest, EmptyAndRepeatedEntriesOfTheMapChangeNothing) {
  std::vector<MemoryRegion> regions = honest_regions<TypeParam>();
  const std::vector<MemoryRegion> expected = boot_from<TypeParam>(regions);
  const PhysRange unaccepted = regions.back().range;
  regions.push_back(regions.back());
  regions.push_back(
      {.range = range(unaccepted.begin() + 4_KiB, 8_MiB), .kind = MemoryKind::kUnaccepted});
  regions.push_back({.range = range(unaccepted.begin() + 4_MiB, 0_B), .kind = MemoryKind::kUsable});
  regions.insert(regions.begin(),
                 {.range = range(PhysAddr{}, 0_B), .kind = MemoryKind::kUnaccepted});
  EXPECT_EQ(boot_from<TypeParam>(regions), expected);
}

TYPED_TEST(HostileHostTest, AMapThatClaimsMemoryTwiceDoesNotBoot) {
  Machine<TypeParam> machine{{.memory = 32_MiB}};
  for (const MemoryKind kind : {MemoryKind::kUsable, MemoryKind::kReserved}) {
    for (const Bytes offset : {0_B, 4_KiB, 20_MiB}) {
      std::vector<MemoryRegion> regions = machine.regions();
      regions.push_back({.range = range(machine.at(10_MiB) + offset, 4_KiB), .kind = kind});
      Kernel<TypeParam> kernel{machine};
      const auto read = kernel.read_efi_map(efi_map(regions));
      ASSERT_FALSE(read.has_value());
      EXPECT_EQ(read.error(), (guest::MapError{MapErrorKind::kOverlap, 5 * 48}));
      EXPECT_TRUE(kernel.map().regions().empty());
    }
  }
  EXPECT_EQ(machine.bed().counters().accepted_bytes, 0U);
}

/// A map with one more descriptor: `begin` and `pages` as the host likes.
template <class Side>
std::vector<std::byte> map_with(const Machine<Side>& machine, std::uint64_t begin,
                                std::uint64_t pages, abi::efi::MemoryType type) {
  std::vector<MemoryRegion> regions = machine.regions();
  regions.push_back({});
  std::vector<std::byte> bytes = efi_map(regions);
  const abi::efi::MemoryDescriptor descriptor{.type = static_cast<std::uint32_t>(type),
                                              .padding = 0,
                                              .physical_start = begin,
                                              .virtual_start = 0,
                                              .number_of_pages = pages,
                                              .attribute = 0};
  std::memcpy(&bytes[bytes.size() - 48], &descriptor, sizeof(descriptor));
  return bytes;
}

TYPED_TEST(HostileHostTest, EntriesThatWrapOrAreUnalignedDoNotBoot) {
  using enum abi::efi::MemoryType;
  Machine<TypeParam> machine{{.memory = 32_MiB}};
  const auto error = [&](std::uint64_t begin, std::uint64_t pages) {
    Kernel<TypeParam> kernel{machine};
    return kernel.read_efi_map(map_with(machine, begin, pages, kUnaccepted)).error();
  };
  constexpr std::size_t kEntry = 5 * 48;
  constexpr std::uint64_t kLastPage = ~0ULL << 12;
  EXPECT_EQ(error(kLastPage, 1), (guest::MapError{MapErrorKind::kEntryWraps, kEntry}));
  EXPECT_EQ(error(kLastPage, 2), (guest::MapError{MapErrorKind::kEntryWraps, kEntry}));
  EXPECT_EQ(error(0, ~0ULL), (guest::MapError{MapErrorKind::kEntryWraps, kEntry}));
  EXPECT_EQ(error(4096, 1ULL << 52), (guest::MapError{MapErrorKind::kEntryWraps, kEntry}));
  EXPECT_EQ(error(1, 1), (guest::MapError{MapErrorKind::kUnalignedEntry, kEntry}));
}

TYPED_TEST(HostileHostTest, ReservedMemoryAtTheTopOfTheAddressSpaceIsLeftAlone) {
  Machine<TypeParam> machine{{.memory = 32_MiB}};
  Kernel<TypeParam> kernel{machine};
  must(kernel.read_efi_map(
           map_with(machine, (~0ULL << 12) - 4096, 1, abi::efi::MemoryType::kReserved)),
       "map");
  must(kernel.build_table(), "table");
  must(kernel.start_early(), "early");
  kernel.finish_boot();
  EXPECT_EQ(kernel.problem(), "");
}

TYPED_TEST(HostileHostTest, Regression_T01_UnacceptedMemoryBeyondWhatATableHoldsIsAnError) {
  Machine<TypeParam> machine{{.memory = 32_MiB}};
  const auto error = [&](std::uint64_t begin) {
    Kernel<TypeParam> kernel{machine};
    must(kernel.read_efi_map(map_with(machine, begin, 1024, abi::efi::MemoryType::kUnaccepted)),
         "map");
    return kernel.build_table().error().kind;
  };
  EXPECT_EQ(error(~0ULL << 30), TableErrorKind::kTooLarge);
  EXPECT_EQ(error(1ULL << 53), TableErrorKind::kTooLarge);
  EXPECT_EQ(error(1ULL << 47), TableErrorKind::kStorage);  // more than the loader has room for
  EXPECT_EQ(machine.bed().counters().accepted_bytes, 0U);
}

TYPED_TEST(HostileHostTest, MemoryThatIsNoneIsRefusedByName) {
  Victim<TypeParam> victim;
  const PhysRange beyond = range(PhysAddr{1ULL << 52}, 2_MiB);
  const auto result = victim.kernel.platform().accept(beyond);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, FailureKind::kRefused);
  EXPECT_EQ(result.error().at, beyond.begin());
  EXPECT_EQ(result.error().done_end, beyond.begin());
  victim.expect_recovery();
}

template <std::size_t Count>
std::vector<std::byte> e820(const std::array<abi::e820::Entry, Count>& entries) {
  const auto raw = std::as_bytes(std::span{entries});
  return {raw.begin(), raw.end()};
}

TYPED_TEST(HostileHostTest, AHostileE820BootsOrIsRefusedByName) {
  Machine<TypeParam> machine{{.memory = 32_MiB, .launch = 32_MiB}};
  const std::uint64_t base = machine.ram().begin().value();
  const auto read = [&](std::uint64_t address, std::uint64_t bytes, std::uint32_t type) {
    Kernel<TypeParam> kernel{machine};
    return kernel.read_e820(e820(std::array{abi::e820::Entry{base, (1_MiB).value(), 1},
                                            abi::e820::Entry{address, bytes, type}}));
  };
  EXPECT_EQ(read(~0ULL, 1, 1).error(), (guest::MapError{MapErrorKind::kEntryWraps, 20}));
  EXPECT_EQ(read(4096, ~0ULL, 2).error(), (guest::MapError{MapErrorKind::kEntryWraps, 20}));
  EXPECT_EQ(read(base + 4096, 4096, 2).error(), (guest::MapError{MapErrorKind::kOverlap, 20}));
  EXPECT_TRUE(read(base + 4096, 4096, 1).has_value());
  EXPECT_TRUE(read(base + 4096, 0, 2).has_value());

  // Unsorted, unaligned, touching, overlapping with itself, of an unknown type, and at the top.
  Kernel<TypeParam> kernel{machine};
  must(kernel.read_e820(e820(
           std::array{abi::e820::Entry{base + (20 << 20) + 1, (8 << 20) + 13, 1},
                      abi::e820::Entry{~0ULL - 8192, 4096, 99}, abi::e820::Entry{base, 1 << 20, 1},
                      abi::e820::Entry{base + (2 << 20), (18 << 20) + 1, 1},
                      abi::e820::Entry{base + (25 << 20), 4 << 20, 1}, abi::e820::Entry{0, 0, 1}})),
       "E820");
  must(kernel.start_early(), "early");
  kernel.finish_boot();
  Blocks blocks{machine.window()};
  EXPECT_EQ(kernel.take_all(blocks).kind, AllocErrorKind::kOutOfMemory);
  EXPECT_TRUE(blocks.intact());
  for (const Blocks::Entry& entry : blocks.entries()) {
    EXPECT_TRUE(kernel.map().covers(range(entry.at, 4_KiB), MemoryKind::kUsable));
  }
  EXPECT_EQ(kernel.problem(), "");
}

// --- Tables ---

TYPED_TEST(HostileHostTest, AMalformedTableStopsTheBootByName) {
  using abi::linux_unaccepted::ParseErrorKind;
  using Header = abi::linux_unaccepted::TableHeader;
  Machine<TypeParam> machine{{.memory = 32_MiB}};
  const Header good = header_for(machine);
  const auto expect = [&](Header header, ParseErrorKind kind, std::size_t offset) {
    forge_table(machine, {0xFFF0}, header);
    Kernel<TypeParam> kernel{machine};
    must(kernel.read_efi_map(efi_map(machine.regions())), "map");
    const auto found = kernel.find_table({.efi_entries = machine.efi_entries()});
    ASSERT_FALSE(found.has_value());
    EXPECT_EQ(found.error().kind, guest::StartErrorKind::kTable);
    EXPECT_EQ(found.error().route, guest::HandOverRoute::kEfi);
    EXPECT_EQ(found.error().table.kind, TableErrorKind::kMalformed);
    EXPECT_EQ(found.error().table.parse, kind) << to_string(kind);
    EXPECT_EQ(found.error().table.offset, offset);
    EXPECT_FALSE(kernel.table().present());
  };
  const auto with = [&](auto Header::* field, auto value) {
    Header header = good;
    header.*field = static_cast<std::remove_reference_t<decltype(header.*field)>>(value);
    return header;
  };
  using enum ParseErrorKind;
  for (const std::uint32_t version : {0U, 2U, ~0U}) {
    expect(with(&Header::version, version), kUnknownVersion, 0);
  }
  for (const std::uint32_t unit : {0U, 1U, 2048U, 4097U, 3U << 20, ~0U}) {
    expect(with(&Header::unit_size, unit), kBadUnitSize, 4);
  }
  for (const std::uint64_t base : {1ULL, 4096ULL, ~0ULL}) {
    expect(with(&Header::phys_base, base), kUnalignedBase, 8);
  }
  for (const std::uint64_t bytes : {~0ULL, 1ULL << 63, 1ULL << 40}) {
    expect(with(&Header::bitmap_bytes, bytes), kCoverageOverflow, 16);
  }
  expect(with(&Header::phys_base, ~0ULL << 21), kCoverageOverflow, 16);
  // Longer than the memory in which it may lie.
  expect(with(&Header::bitmap_bytes, machine.launch().size().value()), kTruncatedBitmap, 16);
}

TYPED_TEST(HostileHostTest, ATableThatCallsItselfUnacceptedStopsTheBoot) {
  Machine<TypeParam> machine{{.memory = 32_MiB}};
  forge_table(machine, {0xFFFF}, header_for(machine));
  Kernel<TypeParam> kernel{machine};
  const auto found = kernel.find_table({.efi_entries = machine.efi_entries()});
  ASSERT_FALSE(found.has_value());
  EXPECT_EQ(found.error().table.kind, TableErrorKind::kUnacceptedTable);
  EXPECT_FALSE(kernel.table().present());
}

/// A guest of 32 MiB whose table has `words` of bitmap.
template <class Side>
void find_long_table(Kernel<Side>& kernel, const std::vector<std::uint64_t>& words) {
  Machine<Side>& machine = kernel.machine();
  auto header = header_for(machine);
  header.bitmap_bytes = words.size() * 8;
  forge_table(machine, words, header);
  must(kernel.read_efi_map(efi_map(machine.regions())), "map");
  must(kernel.find_table({.efi_entries = machine.efi_entries()}), "table");
  must(kernel.start_early(), "early");
}

TYPED_TEST(HostileHostTest, BitsBeyondTheMemoryAreNeverAccepted) {
  Machine<TypeParam> machine{{.memory = 32_MiB, .launch = 8_MiB}};
  Kernel<TypeParam> kernel{machine};
  // Units 4 to 15 are memory; bits from 17 on are set for none.
  find_long_table(kernel, {0xFFFF'FFFF'FFFE'FFF0, ~0ULL, ~0ULL, ~0ULL});
  kernel.finish_boot();
  Blocks blocks{machine.window()};
  EXPECT_EQ(kernel.take_all(blocks).kind, AllocErrorKind::kOutOfMemory);
  EXPECT_TRUE(blocks.intact());
  EXPECT_EQ(must(kernel.allocator().accept_everything(), "everything"), 0_B);
  EXPECT_EQ(machine.bed().counters().accepted_bytes, machine.unaccepted().size().value());
  EXPECT_EQ(kernel.table().unaccepted(), 2_MiB * (256 - 17));
  EXPECT_EQ(kernel.problem(), "");
}

TEST(HostileHost, ABitRightBehindTheMemoryStopsTheGuestAtTheGuardOfItsLastPage) {
  Machine<Tdx> machine{{.memory = 32_MiB, .launch = 8_MiB}};
  Kernel<Tdx> kernel{machine};
  find_long_table(kernel, {~0xFULL});
  const auto stop = catch_stop([&] { (void)kernel.acceptor().accept(machine.unaccepted()); });
  ASSERT_TRUE(stop.has_value());
  EXPECT_EQ(stop->cause, StopCause::kNotRam);
  EXPECT_EQ(stop->gpa, machine.ram().end());
}

TYPED_TEST(HostileHostTest, TwoTablesOfDifferentOpinionStopTheBoot) {
  Machine<TypeParam> machine{{.memory = 32_MiB}};
  forge_table(machine, {0xFFF0}, header_for(machine));
  const auto object = machine.memory(range(machine.hand_over_at(), 64_B));
  must(guest::publish_hand_over(object, {.table = machine.table_at() + 64_B, .bound = 32_B}),
       "hand-over");
  Kernel<TypeParam> kernel{machine};
  const auto found = kernel.find_table(
      {.efi_entries = machine.efi_entries(), .hand_over = machine.hand_over_at()});
  ASSERT_FALSE(found.has_value());
  EXPECT_EQ(found.error().kind, guest::StartErrorKind::kDisagree);
  EXPECT_FALSE(kernel.table().present());
}

// --- CPUID ---

/// CPUID whose answers change: the first read of a leaf says one thing, every later one another.
class Fickle {
 public:
  using Leaves = std::map<std::uint32_t, guest::CpuidResult>;
  Fickle(Leaves first, Leaves later) : first_{std::move(first)}, later_{std::move(later)} {}
  guest::CpuidResult operator()(std::uint32_t leaf, std::uint32_t) {
    const Leaves& now = reads_[leaf]++ == 0 ? first_ : later_;
    const auto found = now.find(leaf);
    return found == now.end() ? guest::CpuidResult{} : found->second;
  }
  [[nodiscard]] unsigned most_reads() const {
    unsigned most = 0;
    for (const auto& [leaf, reads] : reads_) {
      most = std::max(most, reads);
    }
    return most;
  }

 private:
  Leaves first_;
  Leaves later_;
  std::map<std::uint32_t, unsigned> reads_;
};

const Fickle::Leaves kTdxLeaves{{0, {.eax = 0x21}},
                                {0x21, {.ebx = 0x65746E49, .ecx = 0x20202020, .edx = 0x5844546C}}};
const Fickle::Leaves kSnpLeaves{{0x80000000, {.eax = 0x8000001F}},
                                {0x8000001F, {.eax = 1U << 4, .ebx = 51}}};
const Fickle::Leaves kNoLeaves{};

TEST(HostileHost, CpuidThatChangesBetweenReadsGetsOneDecision) {
  using enum guest::PlatformKind;
  const auto sev_status = [] { return std::uint64_t{4}; };
  for (const auto& [first, later, kind] :
       {std::tuple{kTdxLeaves, kNoLeaves, kTdx}, std::tuple{kSnpLeaves, kNoLeaves, kSnp},
        std::tuple{kNoLeaves, kTdxLeaves, kNone}, std::tuple{kTdxLeaves, kSnpLeaves, kTdx},
        std::tuple{kSnpLeaves, kTdxLeaves, kSnp}}) {
    Fickle cpuid{first, later};
    const auto found = guest::detect_platform(cpuid, sev_status);
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(found->kind, kind);
    EXPECT_LE(cpuid.most_reads(), 1U);
  }
}

TEST(HostileHost, AGuestThatIsToldItIsOrdinaryTouchesNoUnacceptedMemory) {
  Fickle cpuid{kNoLeaves, kTdxLeaves};
  ASSERT_EQ(guest::detect_platform(cpuid)->kind, guest::PlatformKind::kNone);
  Machine<test::Plain> machine{{.memory = 32_MiB}};
  Kernel<test::Plain> kernel{machine};
  must(kernel.read_efi_map(efi_map(machine.regions())), "map");
  EXPECT_EQ(guest::unusable_without_platform(kernel.map(), guest::PlatformKind::kNone),
            machine.unaccepted().size());
  EXPECT_EQ(machine.bed().counters().instructions, 0U);
}

}  // namespace
}  // namespace accede::testbed
