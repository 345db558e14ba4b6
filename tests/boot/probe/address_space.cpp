#include "tests/boot/probe/address_space.hpp"

#include "accede/efi/platform.hpp"
#include "accede/emulator/cpu.hpp"
#include "accede/guest/detect.hpp"
#include "tests/boot/probe/instructions.hpp"

#include <algorithm>
#include <array>

namespace probe {
namespace {

using Table = std::array<std::uint64_t, 512>;
using accede::emulator::cpu::read_cr3;
using accede::emulator::cpu::write_cr3;

// A processor's page tables lie at fixed addresses.
alignas(4096) Table g_root;
alignas(4096) Table g_private;
alignas(4096) Table g_shared;

constexpr std::uint64_t kTable = 0x63;         // present, writable, accessed, dirty
constexpr std::uint64_t kGibibyteLeaf = 0xE3;  // ... and large
constexpr std::uint64_t kAddress = 0x000F'FFFF'FFFF'F000;
constexpr std::size_t kPrivateSlot = 256;
constexpr std::size_t kSharedSlot = 257;
constexpr std::size_t kEmptySlot = 258;

std::uint64_t entry_for(const Table& table) {
  return reinterpret_cast<std::uintptr_t>(table.data()) | kTable;
}

/// What a leaf has besides its address, in either window.
struct ViewBits {
  std::uint64_t of_private = 0;
  std::uint64_t of_shared = 0;
};
ViewBits view_bits() {
  using accede::guest::PlatformKind;
  const auto platform = accede::guest::detect_platform(accede::efi::read_cpuid);
  if (!platform || platform->kind == PlatformKind::kNone) {
    return {};
  }
  return platform->kind == PlatformKind::kSnp ? ViewBits{.of_private = 1ULL << platform->c_bit}
                                              : ViewBits{.of_shared = kSharedBit};
}

}  // namespace

AddressSpace::AddressSpace() : firmware_cr3_{read_cr3()} {
  const auto* const firmware = reinterpret_cast<const std::uint64_t*>(firmware_cr3_ & kAddress);
  std::copy_n(firmware, g_root.size(), g_root.begin());
  const ViewBits bits = view_bits();
  for (std::uint64_t i = 0; i < g_private.size(); ++i) {
    g_private[i] = (i << 30) | kGibibyteLeaf | bits.of_private;
    g_shared[i] = (i << 30) | kGibibyteLeaf | bits.of_shared;
  }
  g_root[kPrivateSlot] = entry_for(g_private);
  g_root[kSharedSlot] = entry_for(g_shared);
  g_root[kEmptySlot] = 0;
  write_cr3(reinterpret_cast<std::uintptr_t>(g_root.data()));
}

AddressSpace::~AddressSpace() {
  write_cr3(firmware_cr3_);
}

void AddressSpace::put_table(std::uint64_t gibibyte, accede::PhysAddr table) {
  g_private[gibibyte] = table.value() | kTable;
  write_cr3(read_cr3());
}

bool is_zero(accede::PhysAddr begin, accede::Bytes size) {
  constexpr accede::Bytes kWord{8};
  for (accede::Bytes at; at < size; at += kWord) {
    if (load<std::uint64_t>(at_private(begin + at)) != 0) {
      return false;
    }
  }
  return true;
}

}  // namespace probe
