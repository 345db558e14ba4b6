#include "accede/guest/c_api.h"
#include "examples/c_kernel_memory.h"
#include "examples/kernel_memory.hpp"
#include "tests/guest/allocator_fixture.hpp"
#include "tests/guest/early_fixture.hpp"
#include "tests/guest/fake_platform.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace accede::guest::test {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;

/// EFI descriptors, 48 bytes apart.
class EfiMap {
 public:
  static constexpr std::size_t kStride = 48;

  EfiMap& add(std::uint32_t type, std::uint64_t begin, std::uint64_t bytes) {
    const std::size_t at = bytes_.size();
    bytes_.resize(at + kStride);
    const std::uint64_t pages = bytes / 4096;
    std::memcpy(&bytes_[at], &type, sizeof type);
    std::memcpy(&bytes_[at + 8], &begin, sizeof begin);
    std::memcpy(&bytes_[at + 24], &pages, sizeof pages);
    return *this;
  }
  [[nodiscard]] const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

constexpr std::uint32_t kConventional = 7;
constexpr std::uint32_t kReclaim = 9;
constexpr std::uint32_t kUnacceptedType = 15;

/// A fake platform behind the function pointers.
accede_status call_accept(void* context, std::uint64_t begin, std::uint64_t end,
                          std::uint64_t* done_end, std::uint64_t* status) {
  const auto result =
      static_cast<FakePlatform*>(context)->accept(*PhysRange::make(PhysAddr{begin}, PhysAddr{end}));
  if (result) {
    return ACCEDE_OK;
  }
  *done_end = result.error().done_end.value();
  *status = result.error().status;
  return static_cast<accede_status>(ACCEDE_ALREADY_ACCEPTED +
                                    static_cast<int>(result.error().kind));
}
accede_status call_convert(void* context, std::uint64_t begin, std::uint64_t end, bool shared,
                           std::uint64_t*, std::uint64_t*) {
  const auto result = static_cast<FakePlatform*>(context)->convert(
      *PhysRange::make(PhysAddr{begin}, PhysAddr{end}),
      shared ? Visibility::kShared : Visibility::kPrivate);
  return result ? ACCEDE_OK : ACCEDE_REFUSED;
}

/// 16 MiB accepted, 112 MiB not, and a reserved table place in between.
class CApi : public ::testing::Test {
 protected:
  CApi() {
    efi_.add(kConventional, 0, 15 * kMiB)
        .add(kReclaim, 15 * kMiB, kMiB)
        .add(kUnacceptedType, 16 * kMiB, 112 * kMiB);
    platform_.kind = ACCEDE_PLATFORM_CALLBACKS;
    platform_.callbacks = {
        .context = &fake_, .accept = call_accept, .convert = call_convert, .preferred_step = 0};
    config_ = {.platform = platform_,
               .hooks = {},
               .phys_to_virt = reinterpret_cast<std::uintptr_t>(ram_.window().pointer<void>({})),
               .lists = lists_.data(),
               .lists_bytes = lists_.size() * 8};
  }

  void start(std::uint64_t table = 0, std::uint64_t bytes = 0) {
    ASSERT_EQ(accede_memory_init(&memory_, &config_, nullptr), ACCEDE_OK);
    ASSERT_EQ(accede_map_from_efi(&memory_, efi_.bytes().data(), efi_.bytes().size(),
                                  EfiMap::kStride, nullptr),
              ACCEDE_OK);
    ASSERT_EQ(accede_early_reserve(&memory_, 0, kMiB, nullptr), ACCEDE_OK);
    ASSERT_EQ(accede_table_build(&memory_, table, bytes, nullptr), ACCEDE_OK);
  }
  void open() {
    start();
    ASSERT_EQ(accede_pages_open(&pages_, &memory_, 2, nullptr, nullptr), ACCEDE_OK);
    for (bool more = true; more;) {
      ASSERT_EQ(accede_pages_init_step(&pages_, &more, nullptr), ACCEDE_OK);
    }
  }
  [[nodiscard]] accede_page_counters counters() {
    accede_page_counters out{};
    EXPECT_EQ(accede_pages_counters(&pages_, ACCEDE_ANY_NODE, &out), ACCEDE_OK);
    return out;
  }

  TestRam ram_{128_MiB};
  FakePlatform fake_;
  EfiMap efi_;
  std::vector<std::uint64_t> lists_ = std::vector<std::uint64_t>(1024);
  accede_platform platform_{};
  accede_config config_{};
  accede_memory memory_{};
  accede_pages pages_{};
};

TEST_F(CApi, EveryStatusHasATextOfItsOwn) {
  std::set<std::string> texts;
  unsigned count = 0;
  const auto group = [&](unsigned first, unsigned last) {
    for (unsigned status = first; status <= last; ++status) {
      const std::string text = accede_status_text(static_cast<accede_status>(status));
      EXPECT_EQ(text.find("unknown status"), std::string::npos) << status;
      texts.insert(text);
      ++count;
    }
  };
  group(ACCEDE_OK, ACCEDE_TABLES_DISAGREE);
  group(ACCEDE_ALREADY_ACCEPTED, ACCEDE_UNSUPPORTED);
  group(ACCEDE_TWO_PLATFORMS, ACCEDE_TWO_PLATFORMS);
  group(ACCEDE_TDX_INFO_REFUSED, ACCEDE_TDX_BAD_GPA_WIDTH);
  group(ACCEDE_MAP_BAD_STRIDE, ACCEDE_MAP_TOO_MANY_ENTRIES);
  group(ACCEDE_TABLE_MALFORMED, ACCEDE_TABLE_BAD_UNIT);
  group(ACCEDE_TABLE_TRUNCATED_HEADER, ACCEDE_TABLE_TRUNCATED_BITMAP);
  group(ACCEDE_EARLY_OUT_OF_MEMORY, ACCEDE_EARLY_NOT_RESERVED);
  group(ACCEDE_OUT_OF_MEMORY, ACCEDE_WOULD_ACCEPT);
  group(ACCEDE_FREE_NOT_OURS, ACCEDE_FREE_WRONG_ORDER);
  group(ACCEDE_SEGMENT_TOO_MANY, ACCEDE_SEGMENT_TOO_MUCH_MEMORY);
  group(ACCEDE_HAND_OVER_NOT_IN_MAP, ACCEDE_HAND_OVER_OTHER_TABLE);
  group(ACCEDE_CARRIER_TRUNCATED, ACCEDE_CARRIER_BAD_TABLE);
  EXPECT_EQ(texts.size(), count);
  for (const unsigned unknown : {0x0FFU, 0x1FFU, 0x6FFU, 0xC80U, 0xFFFFU, ~0U}) {
    EXPECT_STRNE(accede_status_text(static_cast<accede_status>(unknown)), "");
  }
}

TEST_F(CApi, NothingWorksBeforeItsTime) {
  std::uint64_t value = 0;
  bool more = false;
  EXPECT_EQ(accede_map_from_efi(&memory_, &value, 0, 40, nullptr), ACCEDE_BAD_ORDER_OF_CALLS);
  EXPECT_EQ(accede_accept(&memory_, 0, 4096, nullptr, nullptr), ACCEDE_BAD_ORDER_OF_CALLS);
  EXPECT_EQ(accede_accept(nullptr, 0, 4096, nullptr, nullptr), ACCEDE_BAD_ORDER_OF_CALLS);
  EXPECT_EQ(accede_pages_open(&pages_, &memory_, 1, nullptr, nullptr), ACCEDE_BAD_ORDER_OF_CALLS);
  EXPECT_EQ(accede_pages_init_step(&pages_, &more, nullptr), ACCEDE_BAD_ORDER_OF_CALLS);
  EXPECT_EQ(accede_pages_allocate(&pages_, 0, 0, 0, &value, nullptr), ACCEDE_BAD_ORDER_OF_CALLS);
  EXPECT_TRUE(accede_contains_unaccepted(&memory_, 0, 4096));
  ASSERT_EQ(accede_memory_init(&memory_, &config_, nullptr), ACCEDE_OK);
  EXPECT_EQ(accede_table_build(&memory_, 0, 0, nullptr), ACCEDE_BAD_ORDER_OF_CALLS);
  EXPECT_EQ(accede_early_allocate(&memory_, 64, 8, 0, ACCEDE_ANY_NODE, &value, nullptr),
            ACCEDE_BAD_ORDER_OF_CALLS);
}

TEST_F(CApi, RefusesAConfigurationWithHoles) {
  accede_config bad = config_;
  bad.platform.callbacks.accept = nullptr;
  EXPECT_EQ(accede_memory_init(&memory_, &bad, nullptr), ACCEDE_BAD_ARGUMENT);
  bad = config_;
  bad.platform.callbacks.preferred_step = 3 * 4096;
  EXPECT_EQ(accede_memory_init(&memory_, &bad, nullptr), ACCEDE_BAD_ARGUMENT);
  bad = config_;
  bad.platform.kind = ACCEDE_PLATFORM_SNP;
  EXPECT_EQ(accede_memory_init(&memory_, &bad, nullptr), ACCEDE_BAD_ARGUMENT);
  bad = config_;
  bad.platform.kind = static_cast<accede_platform_kind>(9);
  EXPECT_EQ(accede_memory_init(&memory_, &bad, nullptr), ACCEDE_BAD_ARGUMENT);
  bad = config_;
  bad.lists_bytes = 64;
  EXPECT_EQ(accede_memory_init(&memory_, &bad, nullptr), ACCEDE_BAD_ARGUMENT);
  bad = config_;
  bad.hooks.interrupts_restore = [](void*, std::uintptr_t) {};
  EXPECT_EQ(accede_memory_init(&memory_, &bad, nullptr), ACCEDE_BAD_ARGUMENT);
  EXPECT_EQ(accede_memory_init(nullptr, &config_, nullptr), ACCEDE_BAD_ARGUMENT);
}

TEST_F(CApi, ReportsWhichEntryOfTheMapIsWrong) {
  ASSERT_EQ(accede_memory_init(&memory_, &config_, nullptr), ACCEDE_OK);
  efi_.add(kConventional, 64 * kMiB, kMiB);
  accede_detail detail{};
  EXPECT_EQ(accede_map_from_efi(&memory_, efi_.bytes().data(), efi_.bytes().size(), EfiMap::kStride,
                                &detail),
            ACCEDE_MAP_OVERLAP);
  EXPECT_EQ(detail.offset, 3 * EfiMap::kStride);
}

TEST_F(CApi, RefusesRamThatNoMachineHas) {
  ASSERT_EQ(accede_memory_init(&memory_, &config_, nullptr), ACCEDE_OK);
  efi_.add(kConventional, ~0ULL << 13, 4096);
  EXPECT_EQ(accede_map_from_efi(&memory_, efi_.bytes().data(), efi_.bytes().size(), EfiMap::kStride,
                                nullptr),
            ACCEDE_MAP_BEYOND_2_52);
}

TEST_F(CApi, BuildsTheTableInAcceptedMemoryAndAcceptsWhatItHandsOut) {
  start();
  std::uint64_t where = 0;
  std::uint64_t bytes = 0;
  ASSERT_TRUE(accede_table_place(&memory_, &where, &bytes));
  EXPECT_LT(where + bytes, 15 * kMiB);
  EXPECT_GE(where, kMiB);
  EXPECT_EQ(fake_.accepted_bytes(), 0_B);
  std::uint64_t page = 0;
  ASSERT_EQ(accede_early_allocate(&memory_, 4096, 4096, 0, ACCEDE_ANY_NODE, &page, nullptr),
            ACCEDE_OK);
  EXPECT_GE(page, 16 * kMiB);
  EXPECT_TRUE(fake_.accepted(area(Bytes{page}, 4_KiB)));
  EXPECT_FALSE(accede_contains_unaccepted(&memory_, page, page + 4096));
  EXPECT_EQ(accede_early_free(&memory_, page, page + 4096, nullptr), ACCEDE_OK);
  EXPECT_EQ(accede_early_free(&memory_, page, page + 4096, nullptr), ACCEDE_EARLY_NOT_RESERVED);
  EXPECT_EQ(accede_early_allocate(&memory_, 0, 8, 0, 0, &page, nullptr), ACCEDE_BAD_ARGUMENT);
  EXPECT_EQ(accede_early_allocate(&memory_, 8, 24, 0, 0, &page, nullptr), ACCEDE_BAD_ARGUMENT);
  EXPECT_EQ(accede_early_allocate(&memory_, ~0ULL, 8, 0, 0, &page, nullptr), ACCEDE_BAD_ARGUMENT);
  EXPECT_EQ(accede_early_allocate(&memory_, 1ULL << 40, 8, 0, 0, &page, nullptr),
            ACCEDE_EARLY_OUT_OF_MEMORY);
}

TEST_F(CApi, AcceptsARangeOnceAndSaysHowMuch) {
  start();
  std::uint64_t accepted = 0;
  ASSERT_EQ(accede_accept(&memory_, 32 * kMiB, 33 * kMiB, &accepted, nullptr), ACCEDE_OK);
  EXPECT_EQ(accepted, 2 * kMiB);
  ASSERT_EQ(accede_accept(&memory_, 32 * kMiB, 33 * kMiB, &accepted, nullptr), ACCEDE_OK);
  EXPECT_EQ(accepted, 0U);
  EXPECT_EQ(accede_accept(&memory_, 33 * kMiB, 32 * kMiB, nullptr, nullptr), ACCEDE_BAD_RANGE);
  EXPECT_EQ(accede_accept(&memory_, 0, ~0ULL, nullptr, nullptr), ACCEDE_BAD_RANGE);
  EXPECT_TRUE(accede_contains_unaccepted(&memory_, 2, 1));
  accede_accept_counters counters{};
  ASSERT_EQ(accede_counters(&memory_, &counters), ACCEDE_OK);
  EXPECT_EQ(counters.accepted_bytes, 2 * kMiB);
  EXPECT_EQ(counters.unaccepted_bytes, 110 * kMiB);
}

TEST_F(CApi, AcceptsWithinABudgetUntilNothingIsLeft) {
  start();
  std::uint64_t begin = 16 * kMiB;
  std::uint64_t end = 32 * kMiB;
  ASSERT_EQ(accede_accept_some(&memory_, begin, end, 4 * kMiB, &begin, &end, nullptr), ACCEDE_OK);
  EXPECT_EQ(begin, 20 * kMiB);
  for (unsigned steps = 0; begin < end; ++steps) {
    ASSERT_LT(steps, 10U);
    ASSERT_EQ(accede_accept_rest(&memory_, begin, end, 4 * kMiB, &begin, &end, nullptr), ACCEDE_OK);
  }
  EXPECT_EQ(fake_.accepted_bytes(), 18_MiB);  // the guard unit too
}

TEST_F(CApi, TellsAnAttackFromARefusal) {
  start();
  fake_.fail_at(PhysAddr{40 * kMiB}, FailureKind::kAlreadyAccepted, 0xB0A);
  accede_detail detail{};
  EXPECT_EQ(accede_accept(&memory_, 36 * kMiB, 41 * kMiB, nullptr, &detail),
            ACCEDE_ALREADY_ACCEPTED);
  EXPECT_EQ(detail.address, 40 * kMiB);
  EXPECT_EQ(detail.platform_status, 0xB0AU);
  EXPECT_EQ(detail.accepted, 4 * kMiB);
}

TEST_F(CApi, ACallbackThatLiesAboutItsProgressIsHeldInsideTheRequest) {
  config_.platform.callbacks.accept = [](void*, std::uint64_t, std::uint64_t, std::uint64_t* done,
                                         std::uint64_t*) {
    *done = ~0ULL;
    return static_cast<accede_status>(12345);
  };
  start();
  accede_detail detail{};
  EXPECT_EQ(accede_accept(&memory_, 32 * kMiB, 33 * kMiB, nullptr, &detail), ACCEDE_REFUSED);
  EXPECT_LE(detail.address, 34 * kMiB);
}

TEST_F(CApi, ConvertsAcceptedMemoryOnly) {
  start();
  ASSERT_EQ(accede_convert(&memory_, 32 * kMiB, 32 * kMiB + 4096, true, nullptr), ACCEDE_OK);
  EXPECT_TRUE(fake_.shared(area(32_MiB, 4_KiB)));
  EXPECT_FALSE(accede_contains_unaccepted(&memory_, 32 * kMiB, 32 * kMiB + 4096));
  EXPECT_EQ(accede_convert(&memory_, 32 * kMiB, 32 * kMiB + 1, true, nullptr), ACCEDE_BAD_RANGE);
}

TEST_F(CApi, AllocatesAndFreesPagesAndCountsThem) {
  open();
  EXPECT_EQ(fake_.accepted_bytes() + Bytes{counters().unaccepted_bytes}, 112_MiB);
  std::uint64_t page = 0;
  ASSERT_EQ(accede_pages_allocate(&pages_, 9, ACCEDE_OWN_NODE, 0, &page, nullptr), ACCEDE_OK);
  const std::uint64_t free = counters().free_bytes;
  EXPECT_EQ(accede_pages_free(&pages_, page, 8), ACCEDE_FREE_WRONG_ORDER);
  EXPECT_EQ(accede_pages_free(&pages_, page, 9), ACCEDE_OK);
  EXPECT_EQ(accede_pages_free(&pages_, page, 9), ACCEDE_FREE_WRONG_STATE);
  EXPECT_EQ(accede_pages_free(&pages_, ~0ULL, 0), ACCEDE_FREE_NOT_OURS);
  EXPECT_EQ(counters().free_bytes, free + 2 * kMiB);
  EXPECT_EQ(accede_pages_allocate(&pages_, 11, 0, 0, &page, nullptr), ACCEDE_BAD_ARGUMENT);
  EXPECT_EQ(accede_early_reserve(&memory_, 0, 4096, nullptr), ACCEDE_BAD_ORDER_OF_CALLS);
  std::vector<std::uint64_t> many(100);
  std::size_t done = 0;
  ASSERT_EQ(accede_pages_allocate_bulk(&pages_, many.data(), many.size(), ACCEDE_OWN_NODE, 0, &done,
                                       nullptr),
            ACCEDE_OK);
  EXPECT_EQ(done, many.size());
  EXPECT_EQ(std::set<std::uint64_t>(many.begin(), many.end()).size(), many.size());
  ASSERT_EQ(
      accede_pages_allocate_contiguous(&pages_, 777, 4096, ACCEDE_OWN_NODE, 0, &page, nullptr),
      ACCEDE_OK);
  EXPECT_EQ(accede_pages_free_contiguous(&pages_, page, page + 777 * 4096), ACCEDE_OK);
  EXPECT_EQ(accede_pages_free_contiguous(&pages_, page, page + 777 * 4096),
            ACCEDE_FREE_WRONG_STATE);
  EXPECT_EQ(accede_pages_allocate_contiguous(&pages_, ~0ULL, 4096, 0, 0, &page, nullptr),
            ACCEDE_BAD_ARGUMENT);
}

TEST_F(CApi, ANoWaitRequestNeverAccepts) {
  open();
  const Bytes before = fake_.accepted_bytes();
  std::uint64_t page = 0;
  accede_status status = ACCEDE_OK;
  while (status == ACCEDE_OK) {
    status = accede_pages_allocate(&pages_, 10, ACCEDE_OWN_NODE, ACCEDE_NO_WAIT, &page, nullptr);
  }
  EXPECT_EQ(status, ACCEDE_WOULD_ACCEPT);
  EXPECT_EQ(fake_.accepted_bytes(), before);
  std::uint64_t accepted = 0;
  ASSERT_EQ(accede_pages_accept_everything(&pages_, &accepted, nullptr), ACCEDE_OK);
  EXPECT_EQ(fake_.accepted_bytes(), 112_MiB);
  EXPECT_EQ(accede_pages_allocate(&pages_, 10, ACCEDE_OWN_NODE, ACCEDE_NO_WAIT, &page, nullptr),
            ACCEDE_OK);
}

TEST_F(CApi, TheBackgroundStepFillsAReserveAndSleeps) {
  std::uint64_t now = 0;
  config_.hooks.context = &now;
  config_.hooks.now = [](void* context) { return *static_cast<std::uint64_t*>(context) += 1000; };
  config_.hooks.wake_acceptor = [](void*) {};
  start();
  const accede_reserve reserve{.floor_bytes = 32 * kMiB,
                               .ceiling_bytes = 64 * kMiB,
                               .horizon_ns = 20'000'000,
                               .window_ns = 10'000'000,
                               .memory_ns = 100'000'000,
                               .cpu_percent = 90};
  accede_reserve bad = reserve;
  bad.cpu_percent = 0;
  EXPECT_EQ(accede_pages_open(&pages_, &memory_, 1, &bad, nullptr), ACCEDE_BAD_ARGUMENT);
  ASSERT_EQ(accede_pages_open(&pages_, &memory_, 1, &reserve, nullptr), ACCEDE_OK);
  for (bool more = true; more;) {
    ASSERT_EQ(accede_pages_init_step(&pages_, &more, nullptr), ACCEDE_OK);
  }
  std::uint64_t sleep = 0;
  for (unsigned steps = 0; sleep != ACCEDE_UNTIL_WOKEN; ++steps) {
    ASSERT_LT(steps, 100U);
    ASSERT_EQ(accede_pages_background_step(&pages_, nullptr, &sleep, nullptr), ACCEDE_OK);
  }
  const accede_page_counters after = counters();
  EXPECT_GE(after.free_bytes - after.unaccepted_bytes, 32 * kMiB);
  EXPECT_GT(after.unaccepted_bytes, 0U);
}

TEST_F(CApi, HandsTheTableToTheNextKernelWhichGoesOn) {
  std::uint64_t bytes = 0;
  ASSERT_EQ(accede_memory_init(&memory_, &config_, nullptr), ACCEDE_OK);
  EXPECT_EQ(accede_table_size(nullptr, &bytes, nullptr), ACCEDE_BAD_ARGUMENT);
  start(15 * kMiB, 4096);
  ASSERT_EQ(accede_accept(&memory_, 64 * kMiB, 66 * kMiB - 4096, nullptr, nullptr), ACCEDE_OK);

  accede_segment segments[2] = {{.destination = 32 * kMiB, .size = 8192, .file_size = 5000},
                                {.destination = 15 * kMiB, .size = 4096, .file_size = 0}};
  accede_next_kernel next{};
  next.hand_over_object = true;
  accede_hand_over plan{};
  accede_detail detail{};
  EXPECT_NE(accede_kexec_check(&memory_, segments, 2, &detail), ACCEDE_OK);
  EXPECT_EQ(detail.index, 1U);
  EXPECT_EQ(accede_kexec_check(&memory_, segments, 17, nullptr), ACCEDE_SEGMENT_TOO_MANY);
  std::uint64_t accepted = 0;
  ASSERT_EQ(accede_kexec_load(&memory_, segments, 1, &next, &plan, &accepted, nullptr), ACCEDE_OK);
  EXPECT_EQ(accepted, 2 * kMiB);
  EXPECT_EQ(plan.route, ACCEDE_ROUTE_HAND_OVER);
  EXPECT_EQ(plan.table, 15 * kMiB);
  next = {};
  EXPECT_EQ(accede_kexec_load(&memory_, segments, 1, &next, &plan, nullptr, nullptr),
            ACCEDE_HAND_OVER_NO_CARRIER);

  const std::uint64_t object = 2 * kMiB;
  ASSERT_EQ(accede_publish_object(&memory_, ram_.window().pointer<void>(PhysAddr{object}),
                                  ACCEDE_HAND_OVER_BYTES, nullptr),
            ACCEDE_OK);

  accede_memory second{};
  ASSERT_EQ(accede_memory_init(&second, &config_, nullptr), ACCEDE_OK);
  ASSERT_EQ(accede_map_from_efi(&second, efi_.bytes().data(), efi_.bytes().size(), EfiMap::kStride,
                                nullptr),
            ACCEDE_OK);
  const accede_region readable{.begin = 0, .end = 16 * kMiB, .kind = ACCEDE_MEMORY_USABLE};
  accede_sources sources{};
  sources.hand_over = object;
  sources.readable = &readable;
  sources.readable_count = 1;
  accede_route route = ACCEDE_ROUTE_NONE;
  ASSERT_EQ(accede_table_find(&second, &sources, nullptr, 0, &route, nullptr), ACCEDE_OK);
  EXPECT_EQ(route, ACCEDE_ROUTE_HAND_OVER);
  ASSERT_EQ(accede_table_build(&second, 0, 0, nullptr), ACCEDE_OK);
  EXPECT_FALSE(accede_contains_unaccepted(&second, 64 * kMiB, 66 * kMiB - 4096));
  EXPECT_TRUE(accede_contains_unaccepted(&second, 70 * kMiB, 71 * kMiB));
  EXPECT_EQ(fake_.double_accepts(), std::vector<PhysAddr>{});
}

TEST_F(CApi, ADamagedCarrierAndADamagedTableAreErrors) {
  start(15 * kMiB, 4096);
  auto* const object = ram_.window().pointer<unsigned char>(PhysAddr{2 * kMiB});
  ASSERT_EQ(accede_publish_object(&memory_, object, ACCEDE_HAND_OVER_BYTES, nullptr), ACCEDE_OK);
  object[20] ^= 1;
  accede_memory second{};
  ASSERT_EQ(accede_memory_init(&second, &config_, nullptr), ACCEDE_OK);
  ASSERT_EQ(accede_map_from_efi(&second, efi_.bytes().data(), efi_.bytes().size(), EfiMap::kStride,
                                nullptr),
            ACCEDE_OK);
  const accede_region readable{.begin = 0, .end = 16 * kMiB, .kind = ACCEDE_MEMORY_USABLE};
  accede_sources sources{};
  sources.hand_over = 2 * kMiB;
  sources.readable = &readable;
  sources.readable_count = 1;
  EXPECT_EQ(accede_table_find(&second, &sources, nullptr, 0, nullptr, nullptr),
            ACCEDE_CARRIER_BAD_CHECKSUM);
  EXPECT_EQ(accede_table_attach(&second, 15 * kMiB, 20, nullptr, 0, nullptr),
            ACCEDE_TABLE_TRUNCATED_HEADER);
  EXPECT_EQ(accede_table_attach(&second, 15 * kMiB + 4, 4000, nullptr, 0, nullptr),
            ACCEDE_TABLE_UNALIGNED);
  ASSERT_EQ(accede_table_attach(&second, 15 * kMiB, 4096, nullptr, 0, nullptr), ACCEDE_OK);
  EXPECT_EQ(accede_table_attach(&second, 15 * kMiB, 4096, nullptr, 0, nullptr),
            ACCEDE_BAD_ORDER_OF_CALLS);
}

TEST_F(CApi, E820AndATableGiveNothingAwayBeforeTheTableIsThere) {
  start(15 * kMiB, 4096);
  struct [[gnu::packed]] Entry {
    std::uint64_t begin, bytes;
    std::uint32_t type;
  };
  const Entry e820[] = {{0, 15 * kMiB, 1}, {15 * kMiB, kMiB, 3}, {16 * kMiB, 112 * kMiB, 1}};
  accede_memory second{};
  ASSERT_EQ(accede_memory_init(&second, &config_, nullptr), ACCEDE_OK);
  ASSERT_EQ(accede_map_from_e820(&second, e820, sizeof e820, nullptr), ACCEDE_OK);
  std::uint64_t page = 0;
  EXPECT_EQ(accede_early_allocate(&second, 4096, 4096, 0, ACCEDE_ANY_NODE, &page, nullptr),
            ACCEDE_BAD_ORDER_OF_CALLS);
  ASSERT_EQ(accede_table_attach(&second, 15 * kMiB, 4096, nullptr, 0, nullptr), ACCEDE_OK);
  ASSERT_EQ(accede_table_build(&second, 0, 0, nullptr), ACCEDE_OK);
  ASSERT_EQ(accede_early_allocate(&second, 4096, 4096, 0, ACCEDE_ANY_NODE, &page, nullptr),
            ACCEDE_OK);
  EXPECT_TRUE(fake_.accepted(area(Bytes{page}, 4_KiB)));
}

TEST_F(CApi, WithoutAPlatformUnacceptedMemoryIsLeftAlone) {
  config_.platform = {};
  start();
  EXPECT_EQ(accede_map_unusable(&memory_), 112 * kMiB);
  EXPECT_LT(accede_early_free_bytes(&memory_), 15 * kMiB);
}

TEST_F(CApi, TheExampleInCSetsUpMemory) {
  const boot_info boot{.efi_map = efi_.bytes().data(),
                       .efi_map_bytes = efi_.bytes().size(),
                       .efi_stride = EfiMap::kStride,
                       .kernel_begin = kMiB,
                       .kernel_end = 2 * kMiB,
                       .direct_map = config_.phys_to_virt};
  ASSERT_EQ(start_memory(&platform_, &boot, nullptr), ACCEDE_OK);
  EXPECT_EQ(use_a_page(), ACCEDE_OK);
  accede_page_counters counters{};
  ASSERT_EQ(accede_pages_counters(kernel_pages(), ACCEDE_ANY_NODE, &counters), ACCEDE_OK);
  EXPECT_GT(counters.unaccepted_bytes, 100 * kMiB);
  EXPECT_EQ(fake_.double_accepts(), std::vector<PhysAddr>{});
}

TEST_F(CApi, TheExampleInCppSetsUpMemory) {
  const auto memory = std::make_unique<example::KernelMemory<FakePlatform>>(fake_, ram_.window());
  const auto started = memory->start({.efi_map = efi_.bytes(),
                                      .efi_stride = EfiMap::kStride,
                                      .kernel = area(1_MiB, 1_MiB),
                                      .direct_map = config_.phys_to_virt});
  ASSERT_TRUE(started) << started.error();
  EXPECT_TRUE(memory->pages().invariants());
  EXPECT_TRUE(memory->table().invariants());
  EXPECT_GT(memory->pages().counters().unaccepted, 100_MiB);
  const auto page = memory->pages().allocate(Order{10});
  ASSERT_TRUE(page);
  EXPECT_TRUE(memory->pages().free(*page, Order{10}));
  EXPECT_EQ(fake_.double_accepts(), std::vector<PhysAddr>{});
}

}  // namespace
}  // namespace accede::guest::test
