// pKVM's hypercalls over PrivateMemory.
#include "accede/host/pkvm.hpp"

#include "tests/host/private_memory_fixture.hpp"

namespace accede::host {
namespace {

using namespace test;

constexpr std::uint32_t kFeatures = 0x86000000;
constexpr std::uint32_t kMemInfo = 0xC6000002;
constexpr std::uint32_t kShare = 0xC6000003;
constexpr std::uint32_t kUnshare = 0xC6000004;
constexpr std::uint32_t kRelinquish = 0xC6000009;

class PkvmTest : public testing::Test {
 protected:
  void SetUp() override { vm_.launch(); }
  [[nodiscard]] std::int64_t call(std::uint32_t function, std::uint64_t address,
                                  std::uint64_t count = 0) {
    return static_cast<std::int64_t>(guest_.call(function, address, count).registers[0]);
  }

  PrivateVm vm_{VmType::kPkvm};
  Pkvm<FailingBacking> guest_{vm_.memory, {}};
  Pkvm<FailingBacking> android_{vm_.memory, {.android = true, .most_granules = 4}};
};

TEST_F(PkvmTest, SharingKeepsThePageItsPlaceAndItsContent) {
  const PhysAddr page = pages(kHigh, 6, 1).begin();
  ASSERT_TRUE(vm_.memory.fault(page, kPrivate));
  vm_.put(page, kPrivate, 4711);
  const LinuxMemoryFile& file = vm_.backing.file(kPrivate);
  const Bytes backed = file.backed();
  const Bytes offset = kSlotSize + (page - kHigh);
  const std::byte* const seen_by_host = file.host_view().data() + offset.value();

  ASSERT_EQ(call(kShare, page.value()), 0);
  EXPECT_EQ(vm_.memory.attribute(page), kShared);
  EXPECT_EQ(vm_.memory.fault(page, kShared)->page.offset, offset);
  std::uint64_t value = 0;
  std::memcpy(&value, seen_by_host, sizeof value);
  EXPECT_EQ(value, 4711U);
  vm_.put(page, kShared, 4712);
  std::memcpy(&value, seen_by_host, sizeof value);
  EXPECT_EQ(value, 4712U) << "one page, seen from both sides";

  ASSERT_EQ(call(kUnshare, page.value()), 0);
  EXPECT_EQ(vm_.content(page, kPrivate), 4712U);
  EXPECT_EQ(file.backed(), backed) << "no page came or went";
  EXPECT_DEATH((void)*static_cast<const volatile std::byte*>(seen_by_host), "");
}

TEST_F(PkvmTest, AnswersDiscoveryAndTheGranule) {
  EXPECT_EQ(call(kFeatures, 0), 0b1'1101);
  EXPECT_EQ(android_.call(kFeatures, 0, 0).registers[0], 0b10'0001'1101U);
  EXPECT_EQ(call(kMemInfo, 0), 4096);
  EXPECT_EQ(guest_.call(kMemInfo, 0, 0).registers[1], 0U);
  EXPECT_EQ(android_.call(kMemInfo, 0, 0).registers[1], 1U);
  EXPECT_EQ(call(kMemInfo, 1), -3);
  EXPECT_EQ(call(kMemInfo, 0, 1), -3);
}

TEST_F(PkvmTest, RefusesWhatIsWrongAndChangesNothing) {
  for (const std::uint32_t function : {kShare, kUnshare}) {
    EXPECT_EQ(call(function, kLow.value() + 1), -3);
    EXPECT_EQ(call(function, 0), -3) << "outside the slots";
    EXPECT_EQ(call(function, ~0xFFFULL), -3);
    EXPECT_EQ(call(function, ~0ULL), -3);
    EXPECT_EQ(call(function, kLow.value(), 1), -3) << "upstream: R2 is 0";
  }
  EXPECT_EQ(call(kUnshare, kLow.value()), -3) << "private already";
  ASSERT_EQ(call(kShare, kLow.value()), 0);
  EXPECT_EQ(call(kShare, kLow.value()), -3) << "shared already";
  for (const std::uint32_t function : {0xC6000005U, 0xC6000007U, 0xC6000008U, kRelinquish, 0U}) {
    EXPECT_EQ(call(function, kLow.value()), -1);
  }
  vm_.backing.fail_after(0);
  EXPECT_EQ(call(kUnshare, kLow.value()), -3);
  EXPECT_TRUE(vm_.is(pages(kLow, 0, 1), kShared));
  EXPECT_TRUE(vm_.is(pages(kLow, 1, 2047), kPrivate));
}

TEST_F(PkvmTest, AndroidSharesManyGranulesAndTellsHowFarItCame) {
  std::uint64_t done = 0;
  int calls = 0;
  while (done < 10) {
    const PkvmAnswer answer = android_.call(kShare, kLow.value() + done * 4096, 10 - done);
    ASSERT_EQ(answer.registers[0], 0U);
    ASSERT_GE(answer.registers[1], 1U);
    ASSERT_LE(answer.registers[1], 4U);
    done += answer.registers[1];
    ++calls;
  }
  EXPECT_EQ(done, 10U);
  EXPECT_EQ(calls, 3);
  EXPECT_TRUE(vm_.is(pages(kLow, 0, 10), kShared));
  EXPECT_TRUE(vm_.is(pages(kLow, 10, 2038), kPrivate));
  // Up to the first granule in another state, and to the end of the slot.
  EXPECT_EQ(android_.call(kUnshare, pages(kLow, 8, 1).begin().value(), 4).registers[1], 2U);
  EXPECT_EQ(android_.call(kShare, pages(kLow, 2047, 1).begin().value(), 4).registers[1], 1U);
  EXPECT_EQ(android_.call(kShare, kHigh.value(), ~0ULL).registers[1], 4U);
}

TEST_F(PkvmTest, AndroidRelinquishGivesThePageBack) {
  const PhysAddr page = kLow;
  ASSERT_TRUE(vm_.memory.fault(page, kPrivate));
  vm_.put(page, kPrivate, 4711);
  ASSERT_EQ(android_.call(kRelinquish, page.value(), 0).registers[0], 0U);
  EXPECT_EQ(vm_.content(page, kPrivate), 0U);
  EXPECT_EQ(vm_.backing.file(kPrivate).backed(), 2_MiB - 4_KiB);
  const auto invalid = static_cast<std::uint64_t>(std::int64_t{-3});
  EXPECT_EQ(android_.call(kRelinquish, ~0ULL, 0).registers[0], invalid);
  EXPECT_EQ(android_.call(kRelinquish, 1, 0).registers[0], invalid);
}

TEST_F(PkvmTest, ImplicitConversionIsRefusedEvenWhenTheEmbedderAllowsIt) {
  PrivateVm vm{VmType::kPkvm, /*implicit=*/true};
  vm.launch();
  EXPECT_TRUE(fails_with(vm.memory.fault(kLow, kShared), PrivateMemoryError::kImplicitConversion));
}

}  // namespace
}  // namespace accede::host
