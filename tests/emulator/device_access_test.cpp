#include "accede/emulator/device_access.hpp"

#include "accede/emulator/host_context.hpp"
#include "accede/emulator/report_layout.hpp"
#include "tests/emulator/guest_ram.hpp"

#include <gtest/gtest.h>

#include <array>
#include <numeric>
#include <span>
#include <vector>

namespace accede::emulator {
namespace {

using test::range_of;

constexpr std::uint64_t kRamEnd = 1 << 20;
constexpr std::uint64_t kDevice = 2 << 20;
constexpr std::uint64_t kHidden = 3 << 20;

/// Memory stands for the registers of a device.
class DeviceAccessTest : public testing::Test {
 protected:
  static constexpr std::size_t kRegisters = 32;

  DeviceAccessTest() { std::iota(registers().begin(), registers().end(), std::uint8_t{1}); }

  [[nodiscard]] std::span<std::uint8_t> registers() {
    return {&memory_.at<std::uint8_t>(PhysAddr{kDevice}), kRegisters};
  }
  [[nodiscard]] bool read(std::uint64_t gpa, std::size_t size) {
    data_ = {};
    return devices_.read_mmio(PhysAddr{gpa}, std::span{data_}.first(size));
  }
  [[nodiscard]] bool write(std::uint64_t gpa, std::size_t size) {
    return devices_.write_mmio(PhysAddr{gpa}, std::span{data_}.first(size));
  }

  test::GuestRam memory_{8_MiB};
  std::array<PhysRange, 1> ram_{range_of(0, kRamEnd)};
  MachineMap machine_{ram_, range_of(kHidden, kHidden + 4096)};
  DeviceAccess devices_{machine_, memory_.window()};
  std::array<std::uint8_t, 8> data_{};
};

TEST_F(DeviceAccessTest, ReadsAnyBytesOfADevice) {
  for (std::size_t offset = 0; offset < 9; ++offset) {
    for (std::size_t size = 1; size <= 8; ++size) {
      SCOPED_TRACE(testing::Message() << size << " at " << offset);
      EXPECT_TRUE(read(kDevice + offset, size));
      for (std::size_t i = 0; i < data_.size(); ++i) {
        EXPECT_EQ(data_[i], i < size ? offset + i + 1 : 0);
      }
    }
  }
}

TEST_F(DeviceAccessTest, WritesTheseBytesOfADeviceAndNoOthers) {
  for (std::size_t offset = 0; offset < 9; ++offset) {
    for (std::size_t size = 1; size <= 8; ++size) {
      SCOPED_TRACE(testing::Message() << size << " at " << offset);
      std::vector<std::uint8_t> expected(kRegisters);
      std::iota(registers().begin(), registers().end(), std::uint8_t{1});
      std::iota(expected.begin(), expected.end(), std::uint8_t{1});
      std::iota(data_.begin(), data_.end(), std::uint8_t{0xE0});
      const auto written = std::span{expected}.subspan(offset, size);
      std::iota(written.begin(), written.end(), std::uint8_t{0xE0});
      EXPECT_TRUE(write(kDevice + offset, size));
      EXPECT_TRUE(std::ranges::equal(registers(), expected));
    }
  }
}

TEST_F(DeviceAccessTest, AccessesInNaturallyAlignedParts) {
  const auto parts = [](std::uint64_t gpa, std::size_t size) {
    std::vector<std::size_t> list;
    while (size != 0) {
      list.push_back(DeviceAccess::first_access(PhysAddr{gpa}, size));
      gpa += list.back();
      size -= list.back();
    }
    return list;
  };
  using Parts = std::vector<std::size_t>;
  EXPECT_EQ(parts(0xFEE0'0020, 4), (Parts{4}));
  EXPECT_EQ(parts(0xFEE0'0020, 8), (Parts{8}));
  EXPECT_EQ(parts(0, 8), (Parts{8}));
  EXPECT_EQ(parts(0x1000, 7), (Parts{4, 2, 1}));
  EXPECT_EQ(parts(0x1001, 8), (Parts{1, 2, 4, 1}));
  EXPECT_EQ(parts(0x1004, 8), (Parts{4, 4}));
  EXPECT_EQ(parts(0x1006, 3), (Parts{2, 1}));
  EXPECT_EQ(parts(0x1007, 2), (Parts{1, 1}));
}

TEST_F(DeviceAccessTest, TouchesNothingThatIsRam) {
  auto& word = memory_.at<std::uint64_t>(PhysAddr{kRamEnd - 8});
  data_.fill(0xFF);
  EXPECT_FALSE(write(kRamEnd - 8, 8));
  EXPECT_FALSE(write(kRamEnd - 1, 2)) << "one byte is RAM";
  EXPECT_EQ(word, 0U);
  EXPECT_EQ(memory_.at<std::uint8_t>(PhysAddr{kRamEnd}), 0U);
  EXPECT_FALSE(read(kRamEnd - 1, 1));
  EXPECT_TRUE(read(kRamEnd, 1));
}

TEST_F(DeviceAccessTest, TouchesNothingThatIsTheEmulators) {
  data_.fill(0xFF);
  EXPECT_FALSE(write(kHidden, 8));
  EXPECT_FALSE(write(kHidden - 1, 2));
  EXPECT_FALSE(read(kHidden + 4095, 1));
  EXPECT_EQ(memory_.at<std::uint64_t>(PhysAddr{kHidden}), 0U);
  EXPECT_TRUE(write(kHidden - 1, 1));
}

TEST_F(DeviceAccessTest, TouchesNothingBeyondTheEmulatorsAddressSpace) {
  EXPECT_FALSE(read(kHostMapEnd.value(), 1));
  EXPECT_FALSE(read(kHostMapEnd.value() - 7, 8));
  EXPECT_FALSE(read(1ULL << 47, 4));
  EXPECT_FALSE(read(~0ULL, 1)) << "wraps";
  EXPECT_FALSE(write(~0ULL - 6, 8)) << "wraps";
}

TEST_F(DeviceAccessTest, HasNoReportPort) {
  EXPECT_EQ(DeviceAccess::read_port(kReportPort, 1), 0xFFU);
  EXPECT_EQ(DeviceAccess::read_port(kReportPort, 2), 0xFFFFU);
  EXPECT_EQ(DeviceAccess::read_port(kReportPort - 1, 2), 0xFFFFU);
  EXPECT_EQ(DeviceAccess::read_port(kReportPort - 3, 4), 0xFFFF'FFFFU);
  // A write that reached a port would be a #GP in this process.
  DeviceAccess::write_port(kReportPort, 1, 'x');
  DeviceAccess::write_port(kReportPort - 1, 2, 'x');
  DeviceAccess::write_port(kReportPort - 3, 4, 'x');
}

TEST_F(DeviceAccessTest, HasOnlyTheModelSpecificRegistersOfAVmm) {
  for (const std::uint64_t msr : {0x10ULL, 0x830ULL, 0x4b56'4d00ULL, 0xC000'0080ULL, 0xC001'0117ULL,
                                  0xC001'0130ULL, 0xC001'0131ULL, 1ULL << 32 | 0x1B, ~0ULL}) {
    SCOPED_TRACE(testing::Message() << std::hex << msr);
    EXPECT_EQ(DeviceAccess::read_msr(msr), std::nullopt);
    EXPECT_FALSE(DeviceAccess::write_msr(msr, 0));
  }
}

}  // namespace
}  // namespace accede::emulator
