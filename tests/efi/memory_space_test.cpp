// The launcher's side: claimed memory as the firmware's DXE services show it, and a handshake that
// only those find who look for it by its handle.

#include "accede/efi/memory_space.hpp"
#include "accede/efi/hidden_handshake.hpp"
#include "tests/efi/shim_firmware.hpp"

#include <gtest/gtest.h>

namespace accede::efi {
namespace {

using abi::efi::MemorySpaceDescriptor;
using abi::efi::MemorySpaceType;
using abi::efi::Status;

constexpr std::uint64_t kGiB = 1ULL << 30;

/// RAM from 4 to 8 GiB, of which 5 to 7 GiB are claimed.
class ClaimedSpace : public testing::Test {
 protected:
  ClaimedSpace() {
    fake.spaces = {{4 * kGiB, 8 * kGiB, MemorySpaceType::kSystemMemory}};
    EXPECT_TRUE(plan.left.add(PhysRange::make(PhysAddr{5 * kGiB}, PhysAddr{7 * kGiB}).value()));
    freed() = 0;
    firmware.boot().free_pages = free_pages;
    show_in_memory_space(firmware, plan);
  }
  MemorySpaceDescriptor at(std::uint64_t base) {
    MemorySpaceDescriptor descriptor{};
    EXPECT_EQ(services->get_memory_space_descriptor(base, &descriptor), Status::kSuccess);
    return descriptor;
  }
  void expect(std::uint64_t base, std::uint64_t begin, std::uint64_t end, MemorySpaceType type) {
    const MemorySpaceDescriptor descriptor = at(base);
    EXPECT_EQ(descriptor.base, begin);
    EXPECT_EQ(descriptor.base + descriptor.length, end);
    EXPECT_EQ(descriptor.type, type);
  }
  static std::uint64_t& freed() {
    static std::uint64_t bytes = 0;
    return bytes;
  }
  static Status ACCEDE_EFIAPI free_pages(std::uint64_t, std::uint64_t pages) {
    freed() += pages * 4096;
    return Status::kSuccess;
  }

  test::ShimFirmware fake;
  Firmware firmware = fake.firmware();
  MemoryPlan plan;
  abi::efi::DxeServices* services = [this] {
    const auto& system = firmware.system();
    return static_cast<abi::efi::DxeServices*>(system.configuration_table[0].table);
  }();
};

TEST_F(ClaimedSpace, IsUnacceptedBetweenWhatIsSystemMemory) {
  expect(5 * kGiB, 5 * kGiB, 7 * kGiB, MemorySpaceType::kUnaccepted);
  expect(4 * kGiB, 4 * kGiB, 5 * kGiB, MemorySpaceType::kSystemMemory);
  expect(7 * kGiB, 7 * kGiB, 8 * kGiB, MemorySpaceType::kSystemMemory);
  EXPECT_EQ(services->header.crc32, test::FakeFirmware::kCrc);
}

TEST_F(ClaimedSpace, BecomesFreeMemoryByRemovingAndAddingIt) {
  EXPECT_EQ(services->remove_memory_space(5 * kGiB, kGiB), Status::kSuccess);
  EXPECT_EQ(freed(), 0U);
  EXPECT_EQ(services->add_memory_space(MemorySpaceType::kSystemMemory, 5 * kGiB, kGiB, 0xF),
            Status::kSuccess);
  EXPECT_EQ(freed(), kGiB);
  expect(5 * kGiB, 4 * kGiB, 6 * kGiB, MemorySpaceType::kSystemMemory);
  expect(6 * kGiB, 6 * kGiB, 7 * kGiB, MemorySpaceType::kUnaccepted);
}

TEST_F(ClaimedSpace, IsFreedOnce) {
  EXPECT_EQ(services->remove_memory_space(6 * kGiB, kGiB), Status::kSuccess);
  EXPECT_EQ(services->remove_memory_space(5 * kGiB, kGiB), Status::kSuccess);
  const auto add = [&] {
    return services->add_memory_space(MemorySpaceType::kSystemMemory, 6 * kGiB, kGiB, 0xF);
  };
  EXPECT_EQ(add(), Status::kSuccess);
  EXPECT_NE(add(), Status::kSuccess);
  EXPECT_EQ(freed(), kGiB);
}

TEST_F(ClaimedSpace, WhatIsNotWhollyClaimedIsTheFirmwaresOwnAffair) {
  EXPECT_EQ(services->remove_memory_space(4 * kGiB, 2 * kGiB), Status::kSuccess)
      << "the fake firmware's answer";
  EXPECT_EQ(services->add_memory_space(MemorySpaceType::kSystemMemory, 5 * kGiB, kGiB, 0xF),
            Status::kSuccess);
  EXPECT_EQ(freed(), 0U) << "it was not removed from what is claimed";
}

TEST_F(ClaimedSpace, IsAddedAsSystemMemoryOnly) {
  EXPECT_EQ(services->remove_memory_space(5 * kGiB, kGiB), Status::kSuccess);
  EXPECT_NE(services->add_memory_space(MemorySpaceType::kReserved, 5 * kGiB, kGiB, 0xF),
            Status::kSuccess);
  EXPECT_EQ(freed(), 0U);
}

TEST(HiddenHandshake, IsNotFoundByKernelsThatLocateIt) {
  test::ShimFirmware fake;
  const Firmware firmware = fake.firmware();
  firmware.boot().locate_protocol = [](const abi::efi::Guid*, void*, void** interface)
                                        ACCEDE_EFIAPI {
                                          static int protocol = 0;
                                          *interface = &protocol;
                                          return Status::kSuccess;
                                        };
  hide_handshake_from_kernels(firmware);
  EXPECT_EQ(firmware.locate<abi::efi::MemoryAcceptanceHandshake>(
                abi::efi::kMemoryAcceptanceHandshakeProtocol),
            nullptr);
  EXPECT_NE(firmware.locate<abi::efi::MemoryAccept>(abi::efi::kMemoryAcceptProtocol), nullptr);
  EXPECT_EQ(firmware.boot().header.crc32, test::FakeFirmware::kCrc);
}

}  // namespace
}  // namespace accede::efi
