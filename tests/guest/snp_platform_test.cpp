#include "accede/guest/snp_platform.hpp"

#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace accede::guest {
namespace {

using abi::ghcb::GhcbPage;
using abi::ghcb::PageOp;
using abi::ghcb::PscEntry;
using abi::ghcb::PscHeader;

constexpr std::uint64_t k4K = 4096;
constexpr std::uint64_t k2M = 2ULL << 20;
constexpr std::uint64_t kBase = 64 * k2M;
constexpr std::uint64_t kOrigin = 1ULL << 40;  ///< never dereferenced
constexpr PhysAddr kGhcb{0x809000};

PhysRange range(std::uint64_t begin, std::uint64_t end) {
  return *PhysRange::make(PhysAddr{begin}, PhysAddr{end});
}

/// A page and its size.
using Page = std::pair<std::uint64_t, PageSize>;

/// A host with a list of what it was asked, and the RMP's Validated bits. Honest unless the test
/// replaces a step. Every 4 KiB page of the RMP is a 4 KiB entry when `small` says so.
struct FakeHost {
  GhcbPage ghcb{};
  std::vector<std::uint64_t> msr_requests;
  std::vector<std::vector<std::uint64_t>> lists;  ///< entries of each list, first exchange only
  unsigned page_exchanges = 0;
  std::set<std::uint64_t> validated;
  std::set<std::uint64_t> shared;
  std::vector<Page> pvalidated;
  std::vector<Page> rescinded;

  std::function<std::uint64_t(std::uint64_t)> answer_msr = [](std::uint64_t) {
    return std::uint64_t{0x15};
  };
  /// Does some of the list. The default does all.
  std::function<void(FakeHost&)> answer_page = [](FakeHost& host) { host.advance_to_end(); };
  std::function<bool(std::uint64_t)> small = [](std::uint64_t) { return false; };
  /// Replaces the answer of PVALIDATE for some pages.
  std::function<std::optional<PvalidateResult>(Page, bool)> lie = [](Page, bool) {
    return std::nullopt;
  };

  std::uint64_t& header() { return ghcb.shared_buffer[0]; }
  void advance(unsigned entries) {
    header() = PscHeader::CurEntry::set(header(), PscHeader::CurEntry::get(header()) + entries);
  }
  void advance_to_end() {
    header() = PscHeader::CurEntry::set(header(), PscHeader::EndEntry::get(header()) + 1);
  }

  std::uint64_t msr_exchange(std::uint64_t request) {
    msr_requests.push_back(request);
    return answer_msr(request);
  }
  void page_exchange(PhysAddr address) {
    EXPECT_EQ(address, kGhcb);
    EXPECT_EQ(ghcb.sw_exit_code, 0x80000010U);
    EXPECT_EQ(ghcb.sw_scratch, kGhcb.value() + 0x800);
    EXPECT_EQ(ghcb.valid_bitmap[0], 0U);
    EXPECT_EQ(ghcb.valid_bitmap[1], 0xFULL << (114 - 64));
    EXPECT_EQ(ghcb.protocol_version, 2U);
    EXPECT_EQ(ghcb.usage, 0U);
    EXPECT_EQ(PscHeader::Reserved::get(header()), 0U);
    if (PscHeader::CurEntry::get(header()) == 0) {
      const auto count = PscHeader::EndEntry::get(header()) + 1;
      ASSERT_LE(count, 253U);
      lists.emplace_back(ghcb.shared_buffer.begin() + 1,
                         ghcb.shared_buffer.begin() + 1 + static_cast<long>(count));
    }
    ++page_exchanges;
    ghcb.valid_bitmap = {};
    answer_page(*this);
  }

  PvalidateResult pvalidate(std::uint64_t page, PageSize size, bool validate) {
    (validate ? pvalidated : rescinded).emplace_back(page, size);
    if (const auto answer = lie({page, size}, validate)) {
      return *answer;
    }
    if (size == PageSize::k2M && small(page)) {
      return {.code = 6, .carry = false};
    }
    bool changed = false;
    for (std::uint64_t at = page; at < page + bytes(size).value(); at += k4K) {
      changed = (validate ? validated.insert(at).second : validated.erase(at) != 0) || changed;
    }
    return {.code = 0, .carry = !changed};
  }
};

struct FakePvalidate {
  FakeHost* host = nullptr;
  std::uint64_t origin = kOrigin;
  PvalidateResult operator()(const void* page, PageSize size, bool validate) const {
    return host->pvalidate(reinterpret_cast<std::uintptr_t>(page) - origin, size, validate);
  }
};
using Platform = SnpPlatform<FakeHost, FakePvalidate>;
static_assert(AcceptPlatform<Platform>);

class Snp : public ::testing::Test {
 protected:
  void use_ghcb() { platform.use_ghcb(&host.ghcb, kGhcb); }
  /// The bytes [begin, end) are validated, and nothing else.
  bool validated(std::uint64_t begin, std::uint64_t end) const {
    return host.validated.size() == (end - begin) / k4K &&
           (begin == end ||
            (*host.validated.begin() == begin && *host.validated.rbegin() == end - k4K));
  }

  FakeHost host;
  Platform platform{host, PhysWindow{kOrigin}, {.evict_caches = false}, {&host}};
};

// --- PVALIDATE's answers ---

TEST(SnpAnswer, EveryResultOfPvalidateIsAnOutcome) {
  EXPECT_EQ(answer_of(PvalidateResult{0, false}), Answer::kAccepted);
  EXPECT_EQ(answer_of(PvalidateResult{0, true}), Answer::kAlreadyAccepted);
  for (const bool carry : {false, true}) {
    EXPECT_EQ(answer_of(PvalidateResult{6, carry}), Answer::kSizeMismatch);
    for (const std::uint32_t code : {1U, 2U, 3U, 255U, 0xFFFF'FFFFU}) {
      EXPECT_EQ(answer_of(PvalidateResult{code, carry}), Answer::kInvalid);
    }
  }
  EXPECT_EQ(status_of({0, true}), 255U);
  EXPECT_EQ(status_of({6, true}), 6U);
}

// --- accept by the MSR protocol ---

TEST_F(Snp, WithoutAGhcbPageEverySmallPageIsAskedForByMsr) {
  ASSERT_TRUE(platform.accept(range(kBase, kBase + k2M)).has_value());
  ASSERT_EQ(host.msr_requests.size(), 512U);
  EXPECT_EQ(host.msr_requests[1],
            abi::ghcb::page_state_request(PhysAddr{kBase + k4K}, PageOp::kPrivate));
  EXPECT_EQ(host.pvalidated.size(), 512U);
  EXPECT_TRUE(validated(kBase, kBase + k2M));
  EXPECT_EQ(host.page_exchanges, 0U);
}

TEST_F(Snp, AnMsrRefusalStopsBeforeThePageIsValidated) {
  host.answer_msr = [&](std::uint64_t request) {
    return abi::ghcb::page_state_gpa(request).value() == kBase + 2 * k4K ? 0x8000000000000015
                                                                         : std::uint64_t{0x15};
  };
  const auto result = platform.accept(range(kBase, kBase + k2M));
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error(), (PlatformFailure{.kind = FailureKind::kRefused,
                                             .status = 0x8000000000000015,
                                             .at = PhysAddr{kBase + 2 * k4K},
                                             .size = PageSize::k4K,
                                             .done_end = PhysAddr{kBase + 2 * k4K}}));
  EXPECT_TRUE(validated(kBase, kBase + 2 * k4K));
}

TEST_F(Snp, AnMsrAnswerThatIsNoResponseIsALie) {
  for (const std::uint64_t word : {0x0010000004000014ULL, 0x1015ULL, 0ULL, 0x0000000000000013ULL}) {
    host.answer_msr = [&](std::uint64_t) { return word; };
    const auto result = platform.accept(range(kBase, kBase + k4K));
    ASSERT_FALSE(result.has_value());
    EXPECT_EQ(result.error().kind, FailureKind::kHostLied);
    EXPECT_EQ(result.error().status, word);
  }
  EXPECT_TRUE(host.validated.empty());
}

// --- accept by lists ---

TEST_F(Snp, AListHas2MEntriesWhereTheyFit) {
  use_ghcb();
  ASSERT_TRUE(platform.accept(range(kBase - k4K, kBase + k2M + k4K)).has_value());
  ASSERT_EQ(host.lists.size(), 1U);
  const std::vector<std::uint64_t> expected{
      PscEntry::make(PhysAddr{kBase - k4K}, PageSize::k4K, PageOp::kPrivate),
      PscEntry::make(PhysAddr{kBase}, PageSize::k2M, PageOp::kPrivate),
      PscEntry::make(PhysAddr{kBase + k2M}, PageSize::k4K, PageOp::kPrivate)};
  EXPECT_EQ(host.lists[0], expected);
  const std::vector<Page> pages{
      {kBase - k4K, PageSize::k4K}, {kBase, PageSize::k2M}, {kBase + k2M, PageSize::k4K}};
  EXPECT_EQ(host.pvalidated, pages);
  EXPECT_TRUE(host.msr_requests.empty());
}

TEST_F(Snp, AListEndsAt253EntriesAndAnotherFollows) {
  use_ghcb();
  ASSERT_TRUE(platform.accept(range(kBase + k4K, kBase + k2M)).has_value());  // 511 pages
  ASSERT_EQ(host.lists.size(), 3U);
  EXPECT_EQ(host.lists[0].size(), 253U);
  EXPECT_EQ(host.lists[1].size(), 253U);
  EXPECT_EQ(host.lists[2].size(), 5U);
  EXPECT_TRUE(validated(kBase + k4K, kBase + k2M));
}

TEST_F(Snp, ASizeMismatchMakes512SmallPages) {
  use_ghcb();
  host.small = [](std::uint64_t page) { return page == kBase; };
  ASSERT_TRUE(platform.accept(range(kBase, kBase + 2 * k2M)).has_value());
  EXPECT_EQ(host.pvalidated.size(), 514U);
  EXPECT_EQ(host.pvalidated.back(), (Page{kBase + k2M, PageSize::k2M}));
  EXPECT_TRUE(validated(kBase, kBase + 2 * k2M));
}

TEST_F(Snp, Regression_O01_CarryIsAnAttackAndThePageIsNotUsed) {
  use_ghcb();
  host.validated.insert(kBase + k2M);  // replayed behind the guest: valid although never accepted
  host.small = [](std::uint64_t page) { return page == kBase + k2M; };
  const auto result = platform.accept(range(kBase, kBase + 3 * k2M));
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error(), (PlatformFailure{.kind = FailureKind::kAlreadyAccepted,
                                             .status = 255,
                                             .at = PhysAddr{kBase + k2M},
                                             .size = PageSize::k4K,
                                             .done_end = PhysAddr{kBase + k2M}}));
}

TEST_F(Snp, AnUnknownCodeOfPvalidateIsARefusal) {
  use_ghcb();
  host.lie = [](Page, bool) { return PvalidateResult{.code = 1, .carry = true}; };
  const auto result = platform.accept(range(kBase, kBase + k2M));
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, FailureKind::kRefused);
  EXPECT_EQ(result.error().status, 1U);
  EXPECT_EQ(result.error().done_end, PhysAddr{kBase});
}

TEST_F(Snp, AddressesBeyond52BitsAreRefusedWithoutAsking) {
  const auto result = platform.accept(range((1ULL << 52) - k4K, (1ULL << 52) + k4K));
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().at, PhysAddr{1ULL << 52});
  EXPECT_EQ(result.error().done_end, PhysAddr{(1ULL << 52) - k4K});
  EXPECT_TRUE(host.msr_requests.empty());
  EXPECT_TRUE(platform.accept(range(kBase, kBase)).has_value());
  EXPECT_TRUE(platform.convert(range(kBase, kBase), Visibility::kShared).has_value());
}

TEST(SnpWindow, AWindowThatIsNot2MAlignedUsesSmallPages) {
  FakeHost host;
  Platform platform{host,
                    PhysWindow{kOrigin + k4K},
                    {.evict_caches = false},
                    {.host = &host, .origin = kOrigin + k4K}};
  platform.use_ghcb(&host.ghcb, kGhcb);
  ASSERT_TRUE(platform.accept(range(kBase, kBase + k2M)).has_value());
  EXPECT_EQ(host.pvalidated.size(), 512U);
}

TEST(SnpEvict, TheMitigationReadsEveryPageItValidatedAndOnlyThose) {
  // The window ends where the memory does: a read beyond it is found by the sanitizer.
  const auto memory = std::make_unique<std::array<std::byte, 2 * k4K>>();
  const auto origin = reinterpret_cast<std::uintptr_t>(memory->data()) - kBase;
  FakeHost host;
  Platform platform{host, PhysWindow{origin}, {}, {.host = &host, .origin = origin}};
  EXPECT_TRUE(platform.accept(range(kBase, kBase + 2 * k4K)).has_value());
  EXPECT_TRUE(platform.convert(range(kBase, kBase + 2 * k4K), Visibility::kShared).has_value());
}

// --- hostile lists ---

TEST_F(Snp, AListPartlyDoneIsResumedUntilItIsDone) {
  use_ghcb();
  unsigned calls = 0;
  host.answer_page = [&](FakeHost& h) { h.advance(++calls % 3 == 0 ? 2 : calls % 3 == 1 ? 1 : 0); };
  ASSERT_TRUE(platform.accept(range(kBase, kBase + 6 * k2M)).has_value());
  EXPECT_EQ(host.page_exchanges, 6U);
  EXPECT_EQ(host.lists.size(), 1U);
  EXPECT_TRUE(validated(kBase, kBase + 6 * k2M));
}

TEST_F(Snp, AListThatNeverProgressesEndsAtTheBound) {
  use_ghcb();
  host.answer_page = [first = true](FakeHost& h) mutable {
    h.advance(std::exchange(first, false) ? 1 : 0);
  };
  const auto result = platform.accept(range(kBase, kBase + 3 * k2M));
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, FailureKind::kBusyForever);
  EXPECT_EQ(result.error().at, PhysAddr{kBase + k2M});
  EXPECT_EQ(result.error().done_end, PhysAddr{kBase}) << "nothing was validated";
  EXPECT_EQ(host.page_exchanges, 1U + kPageStateTries);
  EXPECT_TRUE(host.validated.empty());
}

/// The host answers the second exchange of a list of three with `header`.
void expect_lie(std::uint64_t header) {
  FakeHost host;
  Platform platform{host, PhysWindow{kOrigin}, {.evict_caches = false}, {&host}};
  platform.use_ghcb(&host.ghcb, kGhcb);
  host.answer_page = [&](FakeHost& h) {
    if (h.page_exchanges == 1) {
      h.advance(2);
    } else {
      h.header() = header;
    }
  };
  const auto result = platform.accept(range(kBase, kBase + 3 * k2M));
  ASSERT_FALSE(result.has_value()) << header;
  EXPECT_EQ(result.error(), (PlatformFailure{.kind = FailureKind::kHostLied,
                                             .status = header,
                                             .at = PhysAddr{kBase + 2 * k2M},
                                             .size = PageSize::k2M,
                                             .done_end = PhysAddr{kBase}}));
  EXPECT_TRUE(host.validated.empty());
  EXPECT_EQ(host.page_exchanges, 2U);
}

TEST(SnpHostile, AListThatGrewIsCaught) {
  expect_lie(PscHeader::make(3, 3));
  expect_lie(PscHeader::make(3, 0xFFFF));
}
TEST(SnpHostile, AListThatShrankIsCaught) {
  expect_lie(PscHeader::make(2, 1));
  expect_lie(PscHeader::make(3, 0));
}
TEST(SnpHostile, AListThatMovedBackwardsIsCaught) {
  expect_lie(PscHeader::make(1, 2));
  expect_lie(PscHeader::make(0, 2));
}
TEST(SnpHostile, AListThatWentPastItsEndIsCaught) {
  expect_lie(PscHeader::make(4, 2));
  expect_lie(PscHeader::make(0xFFFF, 2));
}
TEST(SnpHostile, AChangedReservedFieldIsCaught) {
  expect_lie(PscHeader::make(3, 2) | 1ULL << 32);
  expect_lie(PscHeader::make(3, 2) | 1ULL << 63);
}

TEST_F(Snp, EntriesChangedByTheHostChangeNothing) {
  use_ghcb();
  host.answer_page = [](FakeHost& h) {
    h.ghcb.shared_buffer[1] = PscEntry::make(PhysAddr{0}, PageSize::k2M, PageOp::kShared);
    h.advance_to_end();
  };
  ASSERT_TRUE(platform.accept(range(kBase, kBase + k2M)).has_value());
  EXPECT_TRUE(validated(kBase, kBase + k2M));
}

TEST_F(Snp, AnErrorWordIsARefusalWhateverTheHeaderSays) {
  use_ghcb();
  host.answer_page = [](FakeHost& h) {
    h.advance_to_end();
    h.ghcb.sw_exit_info_2 = 0x100ULL << 32;
  };
  auto result = platform.accept(range(kBase, kBase + k2M));
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, FailureKind::kRefused);
  EXPECT_EQ(result.error().status, 0x100ULL << 32);
  EXPECT_EQ(result.error().done_end, PhysAddr{kBase});
  host.answer_page = [](FakeHost& h) {
    h.ghcb.sw_exit_info_1 = 2;
    h.ghcb.sw_exit_info_2 = 3;
    h.header() = ~std::uint64_t{0};
  };
  result = platform.accept(range(kBase, kBase + k2M));
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().status, 2U);
  EXPECT_EQ(result.error().at, PhysAddr{kBase});
}

// --- convert ---

TEST_F(Snp, ToSharedRescindsFirstAndToPrivateAccepts) {
  use_ghcb();
  ASSERT_TRUE(platform.accept(range(kBase, kBase + k2M)).has_value());
  host.answer_page = [](FakeHost& h) {
    EXPECT_TRUE(h.validated.empty());
    h.advance_to_end();
  };
  ASSERT_TRUE(platform.convert(range(kBase, kBase + k2M), Visibility::kShared).has_value());
  EXPECT_EQ(host.rescinded, (std::vector<Page>{{kBase, PageSize::k2M}}));
  EXPECT_EQ(PscEntry::op(host.lists.back()[0]), PageOp::kShared);
  ASSERT_TRUE(platform.convert(range(kBase, kBase + k2M), Visibility::kPrivate).has_value());
  EXPECT_EQ(PscEntry::op(host.lists.back()[0]), PageOp::kPrivate);
  EXPECT_TRUE(validated(kBase, kBase + k2M));
}

TEST_F(Snp, ToSharedWorksByMsrToo) {
  ASSERT_TRUE(platform.accept(range(kBase, kBase + 2 * k4K)).has_value());
  ASSERT_TRUE(platform.convert(range(kBase, kBase + 2 * k4K), Visibility::kShared).has_value());
  EXPECT_EQ(host.msr_requests.back(),
            abi::ghcb::page_state_request(PhysAddr{kBase + k4K}, PageOp::kShared));
  EXPECT_TRUE(host.validated.empty());
}

TEST_F(Snp, Regression_K03_ARefusedConversionLeavesTheOldStateFromDoneEndOn) {
  use_ghcb();
  ASSERT_TRUE(platform.accept(range(kBase, kBase + 3 * k2M)).has_value());
  host.answer_page = [](FakeHost& h) {
    h.advance(1);
    h.ghcb.sw_exit_info_2 = (1ULL << 32) | 2;
  };
  const auto result = platform.convert(range(kBase, kBase + 3 * k2M), Visibility::kShared);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, FailureKind::kRefused);
  EXPECT_EQ(result.error().done_end, PhysAddr{kBase + k2M});
  EXPECT_TRUE(validated(kBase + k2M, kBase + 3 * k2M));
  // The caller goes on from done_end, and now the host agrees.
  host.answer_page = [](FakeHost& h) { h.advance_to_end(); };
  EXPECT_TRUE(
      platform.convert(range(kBase + k2M, kBase + 3 * k2M), Visibility::kShared).has_value());
}

TEST_F(Snp, Regression_K03_ARefusalByMsrRestoresThePagesNotYetShared) {
  ASSERT_TRUE(platform.accept(range(kBase, kBase + 4 * k4K)).has_value());
  host.answer_msr = [&](std::uint64_t request) {
    return abi::ghcb::page_state_gpa(request).value() == kBase + k4K ? 0x8000000000000015
                                                                     : std::uint64_t{0x15};
  };
  const auto result = platform.convert(range(kBase, kBase + 4 * k4K), Visibility::kShared);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().done_end, PhysAddr{kBase + k4K});
  EXPECT_TRUE(validated(kBase + k4K, kBase + 4 * k4K));
}

TEST_F(Snp, AFailedRescindRestoresTheBatchAndAsksTheHostNothing) {
  use_ghcb();
  ASSERT_TRUE(platform.accept(range(kBase, kBase + 2 * k2M)).has_value());
  const auto exchanges = host.page_exchanges;
  host.lie = [](Page page, bool validate) -> std::optional<PvalidateResult> {
    if (!validate && page.first == kBase + k2M) {
      return PvalidateResult{.code = 1, .carry = false};
    }
    return std::nullopt;
  };
  const auto result = platform.convert(range(kBase, kBase + 2 * k2M), Visibility::kShared);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, FailureKind::kRefused);
  EXPECT_EQ(result.error().at, PhysAddr{kBase + k2M});
  EXPECT_EQ(result.error().done_end, PhysAddr{kBase});
  EXPECT_TRUE(validated(kBase, kBase + 2 * k2M));
  EXPECT_EQ(host.page_exchanges, exchanges);
}

TEST_F(Snp, APageThatLostItsValidationBehindTheGuestIsFoundWhenItIsRescinded) {
  use_ghcb();
  host.small = [](std::uint64_t) { return true; };
  ASSERT_TRUE(platform.accept(range(kBase, kBase + k2M)).has_value());
  host.validated.erase(kBase + 3 * k4K);
  const auto result = platform.convert(range(kBase, kBase + k2M), Visibility::kShared);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, FailureKind::kHostLied);
  EXPECT_EQ(result.error().status, 255U);
  EXPECT_EQ(result.error().at, PhysAddr{kBase + 3 * k4K});
}

TEST_F(Snp, ARestoreThatFailsIsReportedAsALie) {
  use_ghcb();
  ASSERT_TRUE(platform.accept(range(kBase, kBase + k2M)).has_value());
  host.answer_page = [](FakeHost& h) { h.ghcb.sw_exit_info_2 = 0x100ULL << 32; };
  host.lie = [](Page, bool validate) -> std::optional<PvalidateResult> {
    return validate ? std::optional{PvalidateResult{.code = 0, .carry = true}} : std::nullopt;
  };
  const auto result = platform.convert(range(kBase, kBase + k2M), Visibility::kShared);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, FailureKind::kHostLied);
  EXPECT_EQ(result.error().status, 255U);
}

// --- whose GHCB ---

struct PerCpuHost : FakeHost {
  GhcbRef next{};
  unsigned claims = 0;
  unsigned releases = 0;
  bool claimed = false;
  GhcbRef claim_ghcb() {
    ++claims;
    if (claimed || next.page == nullptr) {
      return {};
    }
    claimed = true;
    return next;
  }
  void release_ghcb(GhcbRef) {
    EXPECT_TRUE(claimed);
    claimed = false;
    ++releases;
  }
};
using PerCpuPlatform = SnpPlatform<PerCpuHost, FakePvalidate>;

TEST(SnpPerCpu, ThePageOfTheCpuIsClaimedForOneListAndNotDuringPvalidate) {
  PerCpuHost host;
  host.next = {.page = &host.ghcb, .address = kGhcb};
  PerCpuPlatform platform{host, PhysWindow{kOrigin}, {.evict_caches = false}, {&host}};
  host.lie = [&](Page, bool) -> std::optional<PvalidateResult> {
    EXPECT_FALSE(host.claimed);
    return std::nullopt;
  };
  ASSERT_TRUE(platform.accept(range(kBase + k4K, kBase + k2M)).has_value());
  EXPECT_EQ(host.claims, 3U);
  EXPECT_EQ(host.releases, 3U);
  EXPECT_TRUE(host.msr_requests.empty());
}

TEST(SnpPerCpu, ACpuWithoutAPageUsesTheMsrProtocol) {
  PerCpuHost host;
  PerCpuPlatform platform{host, PhysWindow{kOrigin}, {.evict_caches = false}, {&host}};
  ASSERT_TRUE(platform.accept(range(kBase, kBase + k4K)).has_value());
  EXPECT_EQ(host.msr_requests.size(), 1U);
  EXPECT_EQ(host.releases, 0U);
}

TEST_F(Snp, ACallThatInterruptsAListUsesTheMsrProtocol) {
  use_ghcb();
  host.answer_page = [&](FakeHost& h) {
    EXPECT_TRUE(platform.accept(range(kBase + 8 * k2M, kBase + 8 * k2M + k4K)).has_value());
    h.advance_to_end();
  };
  ASSERT_TRUE(platform.accept(range(kBase, kBase + k2M)).has_value());
  EXPECT_EQ(host.msr_requests.size(), 1U);
  EXPECT_EQ(host.page_exchanges, 1U);
  platform.use_ghcb(nullptr, PhysAddr{});
  ASSERT_TRUE(platform.accept(range(kBase + k2M, kBase + k2M + k4K)).has_value());
  EXPECT_EQ(host.msr_requests.size(), 2U);
}

}  // namespace
}  // namespace accede::guest
