#include "accede/base/phys_window.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>

namespace accede {
namespace {

TEST(PhysWindow, IsTheIdentityByDefault) {
  int value = 0;
  const PhysWindow window;
  EXPECT_EQ(window.address(&value), PhysAddr{reinterpret_cast<std::uintptr_t>(&value)});
  EXPECT_EQ(window.pointer<int>(window.address(&value)), &value);
}

TEST(PhysWindow, MapsPhysicalMemoryIntoABuffer) {
  std::array<std::uint8_t, 16> memory{};
  const PhysWindow window{reinterpret_cast<std::uintptr_t>(memory.data())};
  *window.pointer<std::uint8_t>(PhysAddr{5}) = 42;
  EXPECT_EQ(memory[5], 42);
  EXPECT_EQ(window.address(&memory[5]), PhysAddr{5});
}

TEST(PhysWindow, MapsABufferThatStandsForHighMemory) {
  std::array<std::uint8_t, 16> memory{};
  constexpr PhysAddr kBase{0x1'0000'0000};
  const PhysWindow window{reinterpret_cast<std::uintptr_t>(memory.data()) - kBase.value()};
  EXPECT_EQ(window.pointer<std::uint8_t>(kBase + 3_B), &memory[3]);
  EXPECT_EQ(window.address(&memory[3]), kBase + 3_B);
}

}  // namespace
}  // namespace accede
