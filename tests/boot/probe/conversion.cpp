// Private and shared: MapGPA and the two views of memory.

#include "tests/boot/probe/address_space.hpp"
#include "tests/boot/probe/instructions.hpp"
#include "tests/boot/probe/probe.hpp"

#include <array>

namespace probe {
namespace {

using accede::abi::tdx::Vmcall;

constexpr std::uint64_t kInvalidOperand = 0x8000'0000'0000'0000;
constexpr std::uint64_t kAlignError = 0x8000'0000'0000'0002;
constexpr std::uint64_t kPattern = 0x5A5A'5A5A'5A5A'5A5A;

/// MapGPA: R10.
std::uint64_t map_gpa(std::uint64_t gpa, std::uint64_t bytes) {
  return vmcall(Vmcall::kMapGpa, gpa, bytes)[Gpr::kR10];
}

void make_shared(Probe& probe, PhysAddr gpa, Bytes size) {
  probe.expect("MapGPA to shared", map_gpa(gpa.value() | kSharedBit, size.value()), 0);
}
void make_private(Probe& probe, PhysAddr gpa, Bytes size) {
  probe.expect("MapGPA to private", map_gpa(gpa.value(), size.value()), 0);
}

/// KVM's checks in KVM's order, with R11 naming the start.
void map_gpa_operands(Probe& probe) {
  const std::uint64_t gpa = probe.take_unit().value();
  struct Row {
    std::string_view what;
    std::uint64_t gpa;
    std::uint64_t bytes;
    std::uint64_t r10;
  };
  const std::array<Row, 11> rows{{
      {"no bytes", gpa, 0, kInvalidOperand},
      {"no bytes, not aligned", gpa + 1, 0, kInvalidOperand},
      {"wraps", ~0xFFFULL, 0x2000, kInvalidOperand},
      {"ends at 2^64", ~0xFFFULL, 0x1000, kInvalidOperand},
      {"beyond the width", 1ULL << 48, 0x1000, kInvalidOperand},
      {"runs beyond the width", (1ULL << 48) - 0x1000, 0x2000, kInvalidOperand},
      {"from private to shared", kSharedBit - 0x1000, 0x2000, kInvalidOperand},
      {"larger than a half", gpa, kSharedBit, kInvalidOperand},
      {"start not aligned", gpa + 8, 0x1000, kAlignError},
      {"size not aligned", gpa, 0x1008, kAlignError},
      {"shared, not aligned", gpa | kSharedBit | 0x800, 0x800, kAlignError},
  }};
  for (const Row& row : rows) {
    const Registers answer = vmcall(Vmcall::kMapGpa, row.gpa, row.bytes);
    probe.expect("RAX", answer[Gpr::kRax], 0);
    probe.expect(row.what, answer[Gpr::kR10], row.r10);
    probe.expect("R11 names the start", answer[Gpr::kR11], row.gpa);
  }
  probe.expect("the unit is as it was", accept(PhysAddr{gpa}, PageSize::k2M), 0);
}

/// Memory that held data in both views is zero after the way back.
void shared_round_trip(Probe& probe) {
  const PhysAddr unit = probe.take_accepted_unit();
  store<std::uint64_t>(at_private(unit + 1_MiB), kPattern);
  make_shared(probe, unit, 2_MiB);
  probe.expect("the private content is gone",
               load<std::uint64_t>(at_shared(unit + 1_MiB)) != kPattern);
  store<std::uint64_t>(at_shared(unit + 1_MiB), kPattern + 1);
  store<std::uint64_t>(at_shared(unit + 2_MiB - 8_B), kPattern + 2);
  probe.expect("shared memory keeps what is written", load<std::uint64_t>(at_shared(unit + 1_MiB)),
               kPattern + 1);
  make_private(probe, unit, 2_MiB);
  probe.expect("accept", accept(unit, PageSize::k2M), 0);
  for (Bytes at; at < 2_MiB; at += 8_B) {
    if (!probe.expect("private memory is zero", load<std::uint64_t>(at_private(unit + at)), 0)) {
      break;
    }
  }
}

/// The same for one page inside a large one; its neighbours keep their content.
void convert_one_page(Probe& probe) {
  const PhysAddr unit = probe.take_accepted_unit();
  const PhysAddr page = unit + 0x8000_B;
  for (const PhysAddr at : {page - 8_B, page, page + 4_KiB}) {
    store<std::uint64_t>(at_private(at), kPattern);
  }
  make_shared(probe, page, 4_KiB);
  store<std::uint64_t>(at_shared(page), 1);
  probe.expect("the page before", load<std::uint64_t>(at_private(page - 8_B)), kPattern);
  probe.expect("the page behind", load<std::uint64_t>(at_private(page + 4_KiB)), kPattern);
  make_private(probe, page, 4_KiB);
  probe.expect("accept of a neighbour", accept(page + 4_KiB, PageSize::k4K), 0x0000'0B0A'0000'0000);
  probe.expect("accept of the page", accept(page, PageSize::k4K), 0);
  probe.expect("its content", load<std::uint64_t>(at_private(page)), 0);
  probe.expect("the page before", load<std::uint64_t>(at_private(page - 8_B)), kPattern);
}

/// Memory that was never accepted can be shared at once.
void share_pending_memory(Probe& probe) {
  const PhysAddr unit = probe.take_unit();
  make_shared(probe, unit + 4_KiB, 8_KiB);
  store<std::uint64_t>(at_shared(unit + 4_KiB), kPattern);
  probe.expect("shared content", load<std::uint64_t>(at_shared(unit + 4_KiB)), kPattern);
  make_private(probe, unit + 4_KiB, 8_KiB);
  probe.expect("accept", accept(unit + 4_KiB, PageSize::k4K), 0);
  probe.expect("private content", load<std::uint64_t>(at_private(unit + 4_KiB)), 0);
}

void convert_twice(Probe& probe) {
  const PhysAddr unit = probe.take_accepted_unit();
  store<std::uint64_t>(at_private(unit), kPattern);
  make_private(probe, unit, 2_MiB);
  probe.expect("private already: content", load<std::uint64_t>(at_private(unit)), kPattern);
  make_shared(probe, unit, 4_KiB);
  store<std::uint64_t>(at_shared(unit), kPattern + 1);
  make_shared(probe, unit, 16_KiB);
  probe.expect("shared already: content", load<std::uint64_t>(at_shared(unit)), kPattern + 1);
}

void convert_device(Probe& probe) {
  make_shared(probe, PhysAddr{0xFED0'0000}, 4_KiB);
  make_private(probe, PhysAddr{0xFED0'0000}, 4_KiB);
}

/// A device answers in both views.
void device_in_both_views(Probe& probe) {
  constexpr PhysAddr kHpetCapabilities{0xFED0'0000};
  const auto value = load<std::uint32_t>(at_private(kHpetCapabilities));
  probe.expect("a device", value != 0 && value != 0xFFFF'FFFF);
  probe.expect("the shared view", load<std::uint32_t>(at_shared(kHpetCapabilities)), value);
}

// --- Each of these ends the guest
// --------------------------------------------------------------------

void accept_shared(Probe& probe) {
  const PhysAddr unit = probe.take_unit();
  make_shared(probe, unit, 4_KiB);
  static_cast<void>(accept(unit, PageSize::k4K));
  probe.survived();
}

/// The translation is in the TLB when the page goes: MapGPA must take it out.
void private_access_to_shared(Probe& probe) {
  const PhysAddr unit = probe.take_accepted_unit();
  store<std::uint64_t>(at_private(unit + 0x1018_B), kPattern);
  make_shared(probe, unit, 2_MiB);
  store<std::uint64_t>(at_private(unit + 0x1018_B), kPattern);
  probe.survived();
}

void shared_access_to_private(Probe& probe) {
  const PhysAddr unit = probe.take_accepted_unit();
  static_cast<void>(load<std::uint64_t>(at_shared(unit + 0x28_B)));
  probe.survived();
}

void shared_access_after_unshare(Probe& probe) {
  const PhysAddr unit = probe.take_unit();
  make_shared(probe, unit, 4_KiB);
  store<std::uint64_t>(at_shared(unit), kPattern);
  make_private(probe, unit, 4_KiB);
  static_cast<void>(load<std::uint64_t>(at_shared(unit)));
  probe.survived();
}

/// GetQuote into the emulator's own memory, made "shared" before.
void quote_into_emulator_memory(Probe& probe) {
  const PhysAddr target = probe.emulator_unit();
  static_cast<void>(map_gpa(target.value() | kSharedBit, 4096));
  const Registers answer = vmcall(Vmcall::kGetQuote, target.value() | kSharedBit, 4096);
  probe.expect("GetQuote", answer[Gpr::kR10], kInvalidOperand);
  static_cast<void>(load<std::uint64_t>(at_shared(target)));
  probe.survived();
}

constexpr auto kScenarios = std::to_array<Scenario>({
    {"map-gpa-operands", map_gpa_operands},
    {"shared-round-trip", shared_round_trip},
    {"convert-one-page", convert_one_page},
    {"share-pending-memory", share_pending_memory},
    {"convert-twice", convert_twice},
    {"convert-device", convert_device},
    {"device-in-both-views", device_in_both_views},
    {"accept-shared", accept_shared},
    {"private-access-to-shared", private_access_to_shared},
    {"shared-access-to-private", shared_access_to_private},
    {"shared-access-after-unshare", shared_access_after_unshare},
    {"quote-into-emulator-memory", quote_into_emulator_memory},
});

}  // namespace

std::span<const Scenario> conversion_scenarios() {
  return kScenarios;
}

}  // namespace probe
