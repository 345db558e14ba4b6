// PrivateMemory on guest_memfd, where the kernel has it; elsewhere these tests are skipped.
#include "accede/host/linux_guest_memfd.hpp"

#include "tests/host/private_memory_fixture.hpp"

#include <cerrno>

namespace accede::host {
namespace {

using namespace test;

/// A VM of one slot on whatever memory.
struct OneSlot {
  OneSlot(const PrivateMemoryConfig& config, LinuxFileBacking& backing)
      : memory{config, backing, attributes, {slots, populated, consumers, holds, claims}} {}

  void launch() {
    ASSERT_TRUE(memory.add_slot(whole(kLow)));
    ASSERT_TRUE(memory.bind(kLow, 0_B, 0_B));
    ASSERT_TRUE(memory.initialise());
    ASSERT_TRUE(memory.set_private(whole(kLow)));
    ASSERT_TRUE(memory.launch());
  }

  PhysRange all = *PhysRange::make(PhysAddr{0}, 64_MiB);
  std::vector<std::uint64_t> bits =
      std::vector<std::uint64_t>(PageAttributes::storage_bound(all).value() / 8);
  PageAttributes attributes{all, std::as_writable_bytes(std::span{bits})};
  std::array<MemorySlot, 1> slots;
  std::array<PhysRange, 1> populated;
  std::array<ConsumerEntry, 1> consumers;
  std::array<MemoryHold, 1> holds;
  std::array<MemoryClaim, 1> claims;
  PrivateMemory<LinuxFileBacking> memory;
};

#define SKIP_WITHOUT_GUEST_MEMFD(part)                                    \
  const auto support = guest_memfd_support();                             \
  if (!support) {                                                         \
    GTEST_SKIP() << "no guest_memfd here: " << support.error();           \
  }                                                                       \
  if (!support->part) {                                                   \
    GTEST_SKIP() << "this kernel's guest_memfd does not have it: " #part; \
  }

TEST(LinuxGuestMemfd, IsDetectedOrTheReasonIsNamed) {
  const auto support = guest_memfd_support();
  if (!support) {
    EXPECT_FALSE(support.error().empty());
    GTEST_SKIP() << "no KVM here: " << support.error();
  }
  EXPECT_TRUE(support->guest_memfd || !support->host_mapping);
}

TEST(LinuxGuestMemfd, BacksPrivatePagesThatNoProcessReachesAndPunchesThem) {
  SKIP_WITHOUT_GUEST_MEMFD(guest_memfd);
  auto backing = linux_guest_memfd(VmType::kSnp, kSlotSize, GuestMemfdAccess::kNone);
  ASSERT_TRUE(backing) << backing.error();
  EXPECT_TRUE(backing->guarantees().contains(Requirements::unmovable() |
                                             Requirements::unreclaimable() |
                                             Requirements::user_inaccessible()));
  OneSlot vm{{.type = VmType::kSnp}, *backing};
  ASSERT_NO_FATAL_FAILURE(vm.launch());
  EXPECT_TRUE(backing->file(kPrivate).host_view().empty());
  const std::array<std::byte, 8> content{};
  EXPECT_EQ(backing->write(kPrivate, 0_B, content).error().code, EOPNOTSUPP);

  const Bytes empty = backing->file(kPrivate).backed();
  ASSERT_TRUE(vm.memory.fault(kLow, kPrivate)) << "fallocate of 2 MiB";
  const Bytes full = backing->file(kPrivate).backed();
  const std::uint64_t before = backing->calls().total();
  ASSERT_TRUE(vm.memory.convert(pages(kLow, 0, 253), kShared));
  EXPECT_EQ(backing->calls().total(), before + 1);
  // guest_memfd does not report what it holds on every kernel.
  if (full != empty) {
    EXPECT_EQ(backing->file(kPrivate).backed(), full - PageCount{253}.bytes());
  }
  ASSERT_TRUE(vm.memory.fault(kLow, kShared));
  ASSERT_TRUE(vm.memory.convert(pages(kLow, 0, 253), kPrivate));
  EXPECT_EQ(backing->file(kShared).backed(), 0_B);
}

TEST(LinuxGuestMemfd, InPlaceKeepsContentAndTheHostLosesIt) {
  SKIP_WITHOUT_GUEST_MEMFD(host_mapping);
  auto backing = linux_guest_memfd(VmType::kPkvm, kSlotSize, GuestMemfdAccess::kMapped);
  ASSERT_TRUE(backing) << backing.error();
  OneSlot vm{{.type = VmType::kPkvm}, *backing};
  const std::array content{std::byte{1}, std::byte{2}};
  ASSERT_TRUE(backing->write(kPrivate, 4_KiB, content));
  ASSERT_NO_FATAL_FAILURE(vm.launch());
  const std::byte* const seen = backing->file(kPrivate).host_view().data() + 4096;
  EXPECT_DEATH((void)*static_cast<const volatile std::byte*>(seen), "");
  ASSERT_TRUE(vm.memory.convert(pages(kLow, 1, 1), kShared));
  EXPECT_EQ(seen[0], std::byte{1});
  EXPECT_EQ(seen[1], std::byte{2});
  EXPECT_EQ(backing->file(kPrivate).guest_view()[4097], std::byte{2});
  ASSERT_TRUE(vm.memory.convert(pages(kLow, 1, 1), kPrivate));
  ASSERT_TRUE(vm.memory.relinquish(pages(kLow, 1, 1)));
  EXPECT_EQ(backing->file(kPrivate).guest_view()[4097], std::byte{0});
}

TEST(LinuxGuestMemfd, TheHostsMappingOfAFileThatStartsPrivateIsRefusedByTheKernel) {
  SKIP_WITHOUT_GUEST_MEMFD(guest_memfd);
  auto backing = linux_guest_memfd(VmType::kTdx, kSlotSize, GuestMemfdAccess::kNone);
  ASSERT_TRUE(backing) << backing.error();
  const auto view = LinuxMemoryFile::take(dup(backing->file(kPrivate).fd()), kSlotSize, true);
  EXPECT_FALSE(view);
}

}  // namespace
}  // namespace accede::host
