#include "accede/emulator/machine.hpp"

#include "tests/emulator/guest_ram.hpp"

#include <gtest/gtest.h>

#include <array>

namespace accede::emulator {
namespace {

using test::range_of;

class MachineMapTest : public testing::Test {
 protected:
  static constexpr std::uint64_t kMiB = 1 << 20;
  static constexpr std::uint64_t kGiB = 1 << 30;
  std::array<PhysRange, 4> ram_{range_of(0, 0xA0000), range_of(kMiB, 32 * kMiB),
                                range_of(48 * kMiB, 64 * kMiB), range_of(4 * kGiB, 5 * kGiB)};
  MachineMap machine_{ram_, range_of(32 * kMiB, 48 * kMiB)};
};

TEST_F(MachineMapTest, TellsRamDevicesAndItsOwnMemoryApart) {
  EXPECT_EQ(machine_.region(PhysAddr{0}), Region::kRam);
  EXPECT_EQ(machine_.region(PhysAddr{0x9FFFF}), Region::kRam);
  EXPECT_EQ(machine_.region(PhysAddr{0xA0000}), Region::kDevice);
  EXPECT_EQ(machine_.region(PhysAddr{kMiB}), Region::kRam);
  EXPECT_EQ(machine_.region(PhysAddr{32 * kMiB - 1}), Region::kRam);
  EXPECT_EQ(machine_.region(PhysAddr{32 * kMiB}), Region::kEmulator);
  EXPECT_EQ(machine_.region(PhysAddr{48 * kMiB - 1}), Region::kEmulator);
  EXPECT_EQ(machine_.region(PhysAddr{48 * kMiB}), Region::kRam);
  EXPECT_EQ(machine_.region(PhysAddr{0xFEE00000}), Region::kDevice);
  EXPECT_EQ(machine_.region(PhysAddr{5 * kGiB}), Region::kDevice);
  EXPECT_EQ(machine_.region(PhysAddr{~0ULL}), Region::kDevice);
}

TEST_F(MachineMapTest, CallsARangeADeviceOnlyWithoutAnyByteOfRam) {
  EXPECT_TRUE(machine_.is_device(range_of(0xA0000, kMiB)));
  EXPECT_FALSE(machine_.is_device(range_of(0xA0000, kMiB + 1)));
  EXPECT_FALSE(machine_.is_device(range_of(0x9FFFF, 0xA0001)));
  EXPECT_TRUE(machine_.is_device(range_of(64 * kMiB, 4 * kGiB)));
  EXPECT_FALSE(machine_.is_device(range_of(40 * kMiB, 41 * kMiB))) << "the emulator is no device";
}

TEST(EmulatorStorage, GrowsWithTheMachineAndStaysSmall) {
  const Bytes small = emulator_storage(4_GiB, PhysAddr{6ULL << 30}, Personality::kTdx);
  EXPECT_GE(small, 48_MiB + 4_MiB);
  EXPECT_LE(small, 64_MiB);
  const Bytes large = emulator_storage(64_GiB, PhysAddr{66ULL << 30}, Personality::kTdx);
  EXPECT_LE(large, 128_MiB);
}

}  // namespace
}  // namespace accede::emulator
