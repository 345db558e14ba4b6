// MEM.PAGE.ACCEPT, and what happens to who does not call it.

#include "tests/boot/probe/address_space.hpp"
#include "tests/boot/probe/instructions.hpp"
#include "tests/boot/probe/probe.hpp"

#include <array>

namespace probe {
namespace {

constexpr std::uint64_t kOperandInvalidRcx = 0xC000'0100'0000'0001;
constexpr std::uint64_t kAlreadyAccepted4K = 0x0000'0B0A'0000'0000;
constexpr std::uint64_t kAlreadyAccepted2M = 0x0000'0B0A'0000'0001;
constexpr std::uint64_t kSizeMismatch2M = 0xC000'0B0B'0000'0001;

// --- Touching what was not accepted: each ends the guest ----------------------------------------

void touch_pending(Probe& probe) {
  static_cast<void>(load<std::uint64_t>(at_private(probe.take_unit() + 0x1238_B)));
  probe.survived();
}

void touch_pending_write(Probe& probe) {
  store<std::uint8_t>(at_private(probe.take_unit() + 0x2345_B), 1);
  probe.survived();
}

void touch_pending_fetch(Probe& probe) {
  call_to(at_private(probe.take_unit() + 0x3000_B));
  probe.survived();
}

/// The processor itself reads the page, as a page table.
void touch_pending_page_table(Probe& probe) {
  AddressSpace::put_table(500, probe.take_unit());
  static_cast<void>(load<std::uint64_t>(at_private(PhysAddr{500ULL << 30})));
  probe.survived();
}

/// A unit was accepted and the next one not: a load of 8 bytes that begins in the first.
void guard_unit_missing(Probe& probe) {
  const PhysAddr unit = probe.take_unit(1);
  probe.expect("accept of the unit", accept(unit, PageSize::k2M), 0);
  static_cast<void>(load_unaligned(at_private(unit + 2_MiB - 4_B)));
  probe.survived();
}

void guard_unit(Probe& probe) {
  const PhysAddr unit = probe.take_unit(1);
  probe.expect("accept of the unit", accept(unit, PageSize::k2M), 0);
  probe.expect("accept of the guard unit", accept(unit + 2_MiB, PageSize::k2M), 0);
  probe.expect("the load across its end", load_unaligned(at_private(unit + 2_MiB - 4_B)), 0);
}

// --- The decision table
// ---------------------------------------------------------------------------

void accept_twice(Probe& probe) {
  const PhysAddr large = probe.take_accepted_unit();
  store<std::uint64_t>(at_private(large + 64_B), 42);
  probe.expect("2M over a 2M page", accept(large, PageSize::k2M), kAlreadyAccepted2M);
  probe.expect("4K inside a 2M page", accept(large + 0x5000_B, PageSize::k4K), kAlreadyAccepted2M);
  probe.expect("content of the page", load<std::uint64_t>(at_private(large + 64_B)), 42);

  const PhysAddr small = probe.take_unit();
  probe.expect("a 4K page", accept(small, PageSize::k4K), 0);
  probe.expect("the 4K page again", accept(small, PageSize::k4K), kAlreadyAccepted4K);
}

void accept_launch_memory(Probe& probe) {
  const PhysAddr own{reinterpret_cast<std::uintptr_t>(&accept_launch_memory)};
  const std::uint64_t status = accept(own.align_down(4_KiB), PageSize::k4K);
  probe.expect("the code of the status", status >> 32, kAlreadyAccepted4K >> 32);
}

void accept_2m_over_4k(Probe& probe) {
  const PhysAddr unit = probe.take_unit();
  probe.expect("a 4K page", accept(unit + 0x7000_B, PageSize::k4K), 0);
  probe.expect("2M around it", accept(unit, PageSize::k2M), kSizeMismatch2M);
  probe.expect("the rest stays pending: its first page", accept(unit, PageSize::k4K), 0);
}

void accept_1g(Probe& probe) {
  const PhysAddr gibibyte = probe.take_unit().align_down(1_GiB);
  probe.expect("1G", accept(gibibyte, PageSize::k1G), kOperandInvalidRcx);
}

void accept_unaligned(Probe& probe) {
  const PhysAddr unit = probe.take_unit();
  for (const Bytes offset : {4_KiB, 1_MiB, 2044_KiB}) {
    probe.expect("2M at a 4K boundary", accept(unit + offset, PageSize::k2M), kOperandInvalidRcx);
  }
  probe.expect("nothing of it was accepted", accept(unit, PageSize::k2M), 0);
}

void accept_reserved_bits(Probe& probe) {
  const std::uint64_t gpa = probe.take_unit().value();
  for (unsigned bit = 3; bit < 12; ++bit) {
    probe.expect("reserved low bit", accept_word(gpa | 1ULL << bit), kOperandInvalidRcx);
  }
  for (unsigned bit = 52; bit < 64; ++bit) {
    probe.expect("reserved high bit", accept_word(gpa | 1ULL << bit), kOperandInvalidRcx);
  }
  for (std::uint64_t level = 3; level < 8; ++level) {
    probe.expect("no such level", accept_word(gpa | level), kOperandInvalidRcx);
  }
  probe.expect("nothing of it was accepted", accept_word(gpa | 1), 0);
}

void accept_shared_bit(Probe& probe) {
  const std::uint64_t gpa = probe.take_unit().value();
  probe.expect("4K", accept_word(gpa | kSharedBit), kOperandInvalidRcx);
  probe.expect("2M", accept_word(gpa | kSharedBit | 1), kOperandInvalidRcx);
}

void accept_beyond_width(Probe& probe) {
  for (unsigned bit = 48; bit < 52; ++bit) {
    probe.expect("above GPAW", accept_word(1ULL << bit), kOperandInvalidRcx);
    probe.expect("above GPAW", accept_word(1ULL << bit | 1), kOperandInvalidRcx);
  }
}

/// As a guest does whose guard unit lies behind the end of memory.
void accept_behind_the_end(Probe& probe) {
  const PhysRange pending = probe.first_range(accede::abi::efi::MemoryType::kUnaccepted);
  static_cast<void>(accept(pending.end().align_up(2_MiB) + 2_MiB, PageSize::k2M));
  probe.survived();
}

/// The emulator's own memory: reserved in the map, and nobody's to accept.
void accept_emulator_memory(Probe& probe) {
  static_cast<void>(accept(probe.emulator_unit(), PageSize::k2M));
  probe.survived();
}

// --- Pages inside a unit, and content
// ---------------------------------------------------------------

void fill(PhysAddr begin, Bytes size, std::uint64_t seed) {
  for (Bytes at; at < size; at += 8_B) {
    store<std::uint64_t>(at_private(begin + at), seed + at.value());
  }
}

void accept_content(Probe& probe) {
  const PhysAddr large = probe.take_accepted_unit();
  probe.expect("2 MiB are zero", is_zero(large, 2_MiB));
  const PhysAddr small = probe.take_unit();
  probe.expect("4K", accept(small + 0x3000_B, PageSize::k4K), 0);
  probe.expect("4 KiB are zero", is_zero(small + 0x3000_B, 4_KiB));
  fill(large, 2_MiB, 1);
  probe.expect("what is written stays", load<std::uint64_t>(at_private(large + 1_MiB)),
               (1_MiB).value() + 1);
}

/// 512 pages one by one, each usable at once.
void accept_512_pages(Probe& probe) {
  const PhysAddr unit = probe.take_unit();
  std::uint64_t wrong = 0;
  for (Bytes at; at < 2_MiB; at += 4_KiB) {
    wrong += accept(unit + at, PageSize::k4K) != 0 ? 1 : 0;
    store<std::uint64_t>(at_private(unit + at), at.value());
  }
  probe.expect("pages that were refused", wrong, 0);
  for (Bytes at; at < 2_MiB; at += 4_KiB) {
    wrong += load<std::uint64_t>(at_private(unit + at)) != at.value() ? 1 : 0;
  }
  probe.expect("pages that lost their content", wrong, 0);
  probe.expect("2M over all of them", accept(unit, PageSize::k2M), kSizeMismatch2M);
  probe.expect("one again", accept(unit + 0x9000_B, PageSize::k4K), kAlreadyAccepted4K);
}

/// A host that backs with 4 KiB pages (--backing 4k).
void accept_4k_backing(Probe& probe) {
  const PhysAddr unit = probe.take_unit();
  probe.expect("2M", accept(unit, PageSize::k2M), kSizeMismatch2M);
  probe.expect("2M again", accept(unit, PageSize::k2M), kSizeMismatch2M);
  std::uint64_t wrong = 0;
  for (Bytes at; at < 2_MiB; at += 4_KiB) {
    wrong += accept(unit + at, PageSize::k4K) != 0 ? 1 : 0;
  }
  probe.expect("4K pages that were refused", wrong, 0);
  probe.expect("2 MiB are zero", is_zero(unit, 2_MiB));
}

constexpr auto kScenarios = std::to_array<Scenario>({
    {"touch-pending", touch_pending},
    {"touch-pending-write", touch_pending_write},
    {"touch-pending-fetch", touch_pending_fetch},
    {"touch-pending-page-table", touch_pending_page_table},
    {"guard-unit-missing", guard_unit_missing},
    {"guard-unit", guard_unit},
    {"accept-twice", accept_twice},
    {"accept-launch-memory", accept_launch_memory},
    {"accept-2m-over-4k", accept_2m_over_4k},
    {"accept-1g", accept_1g},
    {"accept-unaligned", accept_unaligned},
    {"accept-reserved-bits", accept_reserved_bits},
    {"accept-shared-bit", accept_shared_bit},
    {"accept-beyond-width", accept_beyond_width},
    {"accept-behind-the-end", accept_behind_the_end},
    {"accept-emulator-memory", accept_emulator_memory},
    {"accept-content", accept_content},
    {"accept-512-pages", accept_512_pages},
    {"accept-4k-backing", accept_4k_backing},
});

}  // namespace

std::span<const Scenario> accept_scenarios() {
  return kScenarios;
}

}  // namespace probe
