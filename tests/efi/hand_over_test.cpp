// The page tables that a kernel is entered with, walked as the processor does.

#include "accede/efi/loader/hand_over.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <optional>

extern "C" [[noreturn]] void accede_enter_linux(const void*);
extern "C" [[noreturn]] void accede_enter_linux(const void* /*state*/) {
  std::abort();
}

namespace accede::efi::loader {
namespace {

constexpr std::uint64_t kCBit = 1ULL << 51;
constexpr std::uint64_t kAddress = 0x000F'FFFF'FFFF'F000 & ~kCBit;
constexpr PhysRange kFirst4GiB = *PhysRange::make(PhysAddr{0}, 4_GiB);
constexpr PhysRange kHigh = *PhysRange::make(PhysAddr{0x3'4020'0000}, 4_MiB);

/// The leaf that maps `address`.
std::optional<std::uint64_t> leaf_of(PhysAddr root, PhysAddr address) {
  std::uint64_t table = root.value();
  for (unsigned shift = 39;; shift -= 9) {
    const std::uint64_t entry =
        reinterpret_cast<const std::uint64_t*>(table)[address.value() >> shift & 511];
    if ((entry & 1) == 0) {
      return std::nullopt;
    }
    if (shift == 12 || (entry & 0x80) != 0) {
      return entry;
    }
    table = entry & kAddress;
  }
}

class HandOverTest : public testing::Test {
 protected:
  std::optional<PhysAddr> prepare(std::uint64_t private_mask) {
    plan_.tables = firmware::IdentityMap::tables_for({&kFirst4GiB, 1}, plan_.leaf, plan_.levels) +
                   firmware::IdentityMap::tables_for({&kHigh, 1}, plan_.leaf, plan_.levels);
    plan_.private_mask = private_mask;
    const std::size_t size = plan_.bytes().value();
    memory_.reset(static_cast<std::byte*>(std::aligned_alloc(4096, size)));
    std::fill_n(memory_.get(), size, std::byte{0xFF});
    const auto memory =
        PhysRange::make(PhysAddr{reinterpret_cast<std::uintptr_t>(memory_.get())}, plan_.bytes());
    return prepare_entry(plan_, *memory, {&kHigh, 1});
  }

  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  EntryPlan plan_;
  std::unique_ptr<std::byte, Free> memory_;
};

TEST_F(HandOverTest, MapsThePrivateMemoryOfAnSnpGuestPrivate) {
  const auto root = prepare(kCBit);
  ASSERT_TRUE(root.has_value());
  for (const PhysAddr at : {PhysAddr{0}, PhysAddr{0x7FFF'F000}, kHigh.begin(), kHigh.end() - 1_B}) {
    const auto leaf = leaf_of(*root, at);
    ASSERT_TRUE(leaf.has_value()) << at.value();
    EXPECT_EQ(*leaf & kCBit, kCBit);
    EXPECT_EQ(*leaf & kAddress, at.align_down(2_MiB).value());
  }
  EXPECT_FALSE(leaf_of(*root, kHigh.end()).has_value());
  EXPECT_EQ(root->value() & kCBit, 0U);
}

TEST_F(HandOverTest, SetsNoSuchBitElsewhere) {
  const auto root = prepare(0);
  ASSERT_TRUE(root.has_value());
  EXPECT_EQ(leaf_of(*root, kHigh.begin()).value(), kHigh.begin().value() | 0x83);
}

}  // namespace
}  // namespace accede::efi::loader
