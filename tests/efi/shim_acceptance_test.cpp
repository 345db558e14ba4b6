// Accepting everything in a kernel's place, on firmware of every age and mood.

#include "accede/efi/shim/acceptance.hpp"
#include "tests/efi/shim_firmware.hpp"

#include <gtest/gtest.h>

namespace accede::efi::shim {
namespace {

using abi::efi::MemorySpaceType;
using abi::efi::MemoryType;

constexpr std::uint64_t kGiB = 1ULL << 30;

class ShimAcceptance : public testing::Test {
 protected:
  Accepted accept() {
    auto memory = UnacceptedMemory::find(firmware);
    EXPECT_TRUE(memory.has_value());
    const Accepted result = memory->accept_all();
    memory->release();
    EXPECT_EQ(fake.allocations(), 0U);
    return result;
  }
  void expect_refusal(const Accepted& result, std::string_view why) {
    EXPECT_EQ(result.now, 0_B);
    EXPECT_EQ(result.lost, 0_B);
    EXPECT_EQ(result.left, 2_GiB);
    EXPECT_EQ(result.why.what, why);
    EXPECT_EQ(fake.accepted_bytes, 0U) << "what the firmware cannot be told is not accepted";
    EXPECT_EQ(fake.bytes_of(MemoryType::kUnaccepted), 2 * kGiB);
  }

  test::ShimFirmware fake;
  Firmware firmware = fake.firmware();
};

TEST_F(ShimAcceptance, MakesUnacceptedMemoryConventional) {
  fake.add_unaccepted(4 * kGiB, 6 * kGiB);
  const Accepted result = accept();
  EXPECT_EQ(result.now, 2_GiB);
  EXPECT_EQ(result.left + result.lost, 0_B);
  EXPECT_EQ(fake.accepted_bytes, 2 * kGiB);
  EXPECT_EQ(fake.bytes_of(MemoryType::kUnaccepted), 0U);
  EXPECT_EQ(fake.bytes_of(MemoryType::kConventional), 4 * kGiB);
}

TEST_F(ShimAcceptance, PassesCacheabilityOnAndNothingOfTheFirmwaresOwn) {
  fake.add_unaccepted(4 * kGiB, 6 * kGiB);
  static_cast<void>(accept());
  EXPECT_EQ(fake.added_capabilities, 0xFU);
}

TEST_F(ShimAcceptance, TakesTheNumberThat202211HasForUnacceptedMemory) {
  fake.add_unaccepted(4 * kGiB, 6 * kGiB);
  fake.spaces[0].type = MemorySpaceType::kUnaccepted202211;
  EXPECT_EQ(accept().now, 2_GiB);
}

TEST_F(ShimAcceptance, GoesByThePiecesOfTheMemorySpaceBelowOneDescriptorOfTheMap) {
  fake.add(MemoryType::kUnaccepted, 4 * kGiB, 6 * kGiB);
  fake.spaces = {{.begin = 5 * kGiB, .end = 6 * kGiB, .capabilities = 1},
                 {.begin = 4 * kGiB, .end = 5 * kGiB, .capabilities = 2}};
  EXPECT_EQ(accept().now, 2_GiB);
  EXPECT_EQ(fake.bytes_of(MemoryType::kUnaccepted), 0U);
}

TEST_F(ShimAcceptance, TakesOnlyWhatTheMapShowsOfAPieceOfTheMemorySpace) {
  fake.add(MemoryType::kUnaccepted, 5 * kGiB, 6 * kGiB);
  fake.spaces = {{.begin = 4 * kGiB, .end = 8 * kGiB}};
  EXPECT_EQ(accept().now, 1_GiB);
  EXPECT_EQ(fake.accepted_bytes, kGiB);
}

TEST_F(ShimAcceptance, Regression_E03_ManyRangesThatTheFirmwareForgotToCountAreAllAccepted) {
  for (std::uint64_t i = 100; i > 0; --i) {  // downwards: no order can be relied on
    fake.add_unaccepted((4 + i) * kGiB, (4 + i) * kGiB + 4096);
  }
  fake.forgotten = 100;
  EXPECT_EQ(accept().now, Bytes{100 * 4096});
  EXPECT_EQ(fake.bytes_of(MemoryType::kUnaccepted), 0U);
}

TEST_F(ShimAcceptance, LeavesMemoryThatTheFirmwaresDriversKnowAsSomethingElse) {
  fake.add_unaccepted(4 * kGiB, 6 * kGiB);
  fake.spaces[0].type = MemorySpaceType::kReserved;
  expect_refusal(accept(), "the firmware's drivers know nothing of unaccepted memory there");
}

TEST_F(ShimAcceptance, LeavesEverythingWithoutAServiceThatAccepts) {
  fake.add_unaccepted(4 * kGiB, 6 * kGiB);
  fake.offers_acceptance = false;
  expect_refusal(accept(), "the firmware offers nothing that accepts memory");
}

TEST_F(ShimAcceptance, LeavesEverythingWithoutDxeServices) {
  fake.add_unaccepted(4 * kGiB, 6 * kGiB);
  firmware.boot().install_configuration_table(&abi::efi::kDxeServicesTable, nullptr);
  expect_refusal(accept(), "the firmware has no DXE services to be told by");
}

TEST_F(ShimAcceptance, MemoryWhoseAcceptanceFailsIsShownToNobody) {
  fake.add_unaccepted(4 * kGiB, 6 * kGiB);
  fake.accept_fails = true;
  const Accepted result = accept();
  EXPECT_EQ(result.lost, 2_GiB);
  EXPECT_EQ(result.why.what, "accepting memory failed");
  EXPECT_EQ(fake.bytes_of(MemoryType::kUnaccepted), 0U) << "a kernel would accept it again";
  EXPECT_EQ(fake.bytes_of(MemoryType::kConventional), 2 * kGiB) << "nor is it there";
}

TEST_F(ShimAcceptance, MemoryThatTheFirmwareDoesNotTakeBackIsLostAndSaidToBe) {
  fake.add_unaccepted(4 * kGiB, 6 * kGiB);
  fake.add_fails = true;
  const Accepted result = accept();
  EXPECT_EQ(result.lost, 2_GiB);
  EXPECT_EQ(result.why.what, "the firmware does not take accepted memory back");
}

}  // namespace
}  // namespace accede::efi::shim
