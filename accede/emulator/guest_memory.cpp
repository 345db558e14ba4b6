#include "accede/emulator/guest_memory.hpp"

#include <algorithm>
#include <bit>

namespace accede::emulator {
namespace {

constexpr std::uint64_t kCr0Paging = 1ULL << 31;
constexpr std::uint64_t kCr4La57 = 1ULL << 12;
constexpr std::uint64_t kEntryPresent = 1;
constexpr std::uint64_t kEntryLarge = 0x80;
constexpr std::uint64_t kEntryAddress = 0x000F'FFFF'FFFF'F000;

}  // namespace

/// The byte at `gpa`, valid up to the end of its 4 KiB page; null when the guest cannot reach it.
std::byte* GuestMemory::reach(std::uint64_t gpa) const {
  const PhysAddr address{gpa & ~NestedPageTable::kViewMask};
  if (address.value() >= NestedPageTable::kViewMask || machine_.region(address) != Region::kRam ||
      !tables_.mapped(tables_.view_of(gpa), address)) {
    return nullptr;
  }
  return window_.pointer<std::byte>(address);
}

bool GuestMemory::read(std::uint64_t gpa, std::span<std::byte> to) const {
  while (!to.empty()) {
    const std::byte* from = reach(gpa);
    if (from == nullptr) {
      return false;
    }
    const std::size_t part = std::min<std::size_t>(to.size(), 4096 - gpa % 4096);
    std::copy_n(from, part, to.data());
    to = to.subspan(part);
    gpa += part;
  }
  return true;
}

bool GuestMemory::write(std::uint64_t gpa, std::span<const std::byte> from) const {
  while (!from.empty()) {
    std::byte* to = reach(gpa);
    if (to == nullptr) {
      return false;
    }
    const std::size_t part = std::min<std::size_t>(from.size(), 4096 - gpa % 4096);
    std::copy_n(from.data(), part, to);
    from = from.subspan(part);
    gpa += part;
  }
  return true;
}

/// The address of a walk, a fetch or an access without paging. Where a set bit means private, those
/// are private without it too (reference: SEV-SNP 2.4; APM: C-bit).
std::uint64_t GuestMemory::always_private(std::uint64_t gpa) const {
  return tables_.view_bit() == ViewBit::kPrivate ? gpa | NestedPageTable::kViewMask : gpa;
}

std::optional<std::uint64_t> GuestMemory::translate(const VmcbSave& save,
                                                    std::uint64_t linear) const {
  if ((save.cr0 & kCr0Paging) == 0) {
    return always_private(linear & 0xFFFF'FFFF);
  }
  if ((save.efer & kEferLma) == 0) {
    return std::nullopt;  // 32-bit paging: nothing that the emulator answers runs there
  }
  const unsigned top_level = (save.cr4 & kCr4La57) != 0 ? 4 : 3;
  // Canonical: the bits above the highest translated one repeat it.
  const unsigned unused_bits = 64 - (12 + 9 * (top_level + 1));
  if (static_cast<std::int64_t>(linear << unused_bits) >> unused_bits !=
      static_cast<std::int64_t>(linear)) {
    return std::nullopt;
  }
  std::uint64_t table = always_private(save.cr3 & kEntryAddress);
  for (unsigned level = top_level;; --level) {
    std::array<std::byte, 8> raw{};
    const std::uint64_t index = (linear >> (12 + 9 * level)) % 512;
    if (!read(table + index * 8, raw)) {
      return std::nullopt;
    }
    const auto entry = std::bit_cast<std::uint64_t>(raw);
    if ((entry & kEntryPresent) == 0) {
      return std::nullopt;
    }
    if (level == 0 || (level <= 2 && (entry & kEntryLarge) != 0)) {
      const std::uint64_t offset_mask = (1ULL << (12 + 9 * level)) - 1;
      return (entry & kEntryAddress & ~offset_mask) | (linear & offset_mask);
    }
    table = always_private(entry & kEntryAddress);
  }
}

std::size_t GuestMemory::fetch(const VmcbSave& save, std::span<std::byte> to) const {
  const bool is_64bit = (save.efer & kEferLma) != 0 && (save.cs.attributes & 0x200) != 0;
  std::uint64_t linear = is_64bit ? save.rip : (save.cs.base + save.rip) & 0xFFFF'FFFF;
  std::size_t done = 0;
  while (done < to.size()) {
    const std::optional<std::uint64_t> gpa = translate(save, linear);
    const std::size_t part = std::min<std::size_t>(to.size() - done, 4096 - linear % 4096);
    if (!gpa || !read(always_private(*gpa), to.subspan(done, part))) {
      break;
    }
    done += part;
    linear += part;
  }
  return done;
}

}  // namespace accede::emulator
