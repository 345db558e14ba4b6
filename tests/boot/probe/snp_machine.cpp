// The SNP guest as a machine: what it sees, its registers, RMPADJUST and RMPQUERY.

#include "accede/abi/sev.hpp"
#include "accede/emulator/cpu.hpp"
#include "tests/boot/probe/snp.hpp"

namespace probe {
namespace {

namespace cpu = accede::emulator::cpu;
namespace sev = accede::abi::sev;

constexpr std::uint64_t kFailInput = 1;
constexpr std::uint64_t kFailPermission = 2;
constexpr std::uint64_t kFailSizeMismatch = 6;

void visible(Probe& probe) {
  const cpu::CpuidResult vendor = cpu::cpuid(0, 0);
  probe.expect("Auth", vendor.ebx, 0x6874'7541);
  probe.expect("maximum leaf", cpu::cpuid(0x8000'0000, 0).eax >= sev::kCpuidLeaf);
  const cpu::CpuidResult leaf = cpu::cpuid(sev::kCpuidLeaf, 0);
  probe.expect("SEV, SEV-ES, SEV-SNP", leaf.eax, sev::kEaxSev | sev::kEaxSevEs | sev::kEaxSevSnp);
  probe.expect("position of the C-bit", sev::CpuidEbx::CBitPosition::get(leaf.ebx), 47);
  probe.expect("address bits that it takes", sev::CpuidEbx::PhysAddrReduction::get(leaf.ebx), 1);
  probe.expect("caches need no reads", sev::CpuidEbx::CoherencySfwNo::get(leaf.ebx), 1);
  probe.expect("no leaf of TDX", cpu::cpuid(0x21, 0).ebx != accede::abi::tdx::kCpuidEbx);
  probe.expect("addresses hold the C-bit", (cpu::cpuid(0x8000'0008, 0).eax & 0xFF) >= 48);
}

void status_msr(Probe& probe) {
  const Exceptions exceptions;
  constexpr std::uint64_t kStatus = sev::kStatusSev | sev::kStatusSevEs | sev::kStatusSevSnp;
  probe.expect("SEV_STATUS", cpu::read_msr(sev::kMsrSevStatus), kStatus);
  const Attempt write = attempt(probe_do_wrmsr, kStatus, sev::kMsrSevStatus);
  probe.expect("WRMSR of it", write.vector, kGeneralProtection);
  probe.expect("error code", write.error, 0);
  probe.expect("SEV_STATUS", cpu::read_msr(sev::kMsrSevStatus), kStatus);
}

void foreign_instructions(Probe& probe) {
  const Exceptions exceptions;
  probe.expect("TDCALL", attempt(probe_do_tdcall, 1).vector, kInvalidOpcode);
  probe.expect("SEAMCALL", attempt(probe_do_seamcall).vector, kInvalidOpcode);
  probe.expect("UD2", attempt(probe_do_ud2).vector, kInvalidOpcode);
}

/// What is an instruction of SNP guests alone (on a TD).
void no_snp(Probe& probe) {
  const Exceptions exceptions;
  const std::uint64_t page = linear(at_private(probe.take_unit()));
  probe.expect("PVALIDATE", attempt(probe_do_pvalidate, page, 0, 1).vector, kInvalidOpcode);
  probe.expect("RMPADJUST", attempt(probe_do_rmpadjust, page, 0, 1).vector, kInvalidOpcode);
  probe.expect("RMPQUERY", attempt(probe_do_rmpquery, page, 0, 1).vector, kInvalidOpcode);
  probe.expect("the unit is as it was", accept(PhysAddr{page - kPrivateWindow}, PageSize::k2M), 0);
}

// --- RMPADJUST and RMPQUERY
// -------------------------------------------------------------------------

std::uint64_t adjust(PhysAddr page, std::uint64_t size, std::uint64_t rdx) {
  const Attempt result = attempt(probe_do_rmpadjust, linear(at_private(page)), size, rdx);
  return result.vector == kNone ? result.after[Gpr::kRax] : result.vector | 1ULL << 63;
}

void expect_query(Probe& probe, PhysAddr page, unsigned vmpl, std::uint64_t size,
                  std::uint8_t permissions, bool vmsa) {
  const Attempt result = attempt(probe_do_rmpquery, linear(at_private(page)), 0xABCD, vmpl);
  probe.expect("RMPQUERY", result.vector, kNone);
  probe.expect("EAX", result.after[Gpr::kRax], 0);
  probe.expect("RCX: the size", result.after[Gpr::kRcx], size);
  probe.expect("RDX: VMPL, permissions, VMSA", result.after[Gpr::kRdx],
               rmp::RmpAdjustOperand::make(vmpl, permissions, vmsa));
}

void rmpadjust(Probe& probe) {
  using Operand = rmp::RmpAdjustOperand;
  const Exceptions exceptions;
  const PhysAddr unit = take_validated_unit(probe);
  expect_query(probe, unit, 0, rmp::kSize2M, rmp::kPermAll, false);
  expect_query(probe, unit, 1, rmp::kSize2M, 0, false);

  probe.expect("own VMPL", adjust(unit, rmp::kSize2M, 0), kFailPermission);
  probe.expect("a VMPL that is none", adjust(unit, rmp::kSize2M, 4), kFailInput);
  probe.expect("a bit that is none", adjust(unit, rmp::kSize2M, 1 | 1ULL << 17), kFailInput);
  probe.expect("a size that is none", adjust(unit, 2, 1), kFailInput);
  probe.expect("2M at a 4K boundary", adjust(unit + 4_KiB, rmp::kSize2M, 1), kFailInput);
  probe.expect("VMPL 1", adjust(unit, rmp::kSize2M, Operand::make(1, rmp::kPermRead)), 0);
  expect_query(probe, unit, 1, rmp::kSize2M, rmp::kPermRead, false);

  // A page of the unit alone, as Linux asks for its own VMPL: the entry becomes 512.
  const PhysAddr page = unit + 0x3000_B;
  probe.expect("VMPL 1 of 4 KiB", adjust(page, rmp::kSize4K, Operand::make(1, 0, true)), 0);
  expect_query(probe, page, 1, rmp::kSize4K, 0, true);
  expect_query(probe, page + 4_KiB, 1, rmp::kSize4K, rmp::kPermRead, false);
  probe.expect("2M over all of them", adjust(unit, rmp::kSize2M, 1), kFailSizeMismatch);
  probe.expect("the VMSA bit goes", adjust(page, rmp::kSize4K, 1), 0);
  expect_query(probe, page, 1, rmp::kSize4K, 0, false);
  store<std::uint64_t>(at_private(page), 42);
  probe.expect("the page is usable", load<std::uint64_t>(at_private(page)), 42);
}

void rmpadjust_operands(Probe& probe) {
  const Exceptions exceptions;
  const PhysAddr unit = take_validated_unit(probe);
  const auto page_fault = [&](std::string_view what, const Attempt& result, std::uint64_t error,
                              std::uint64_t cr2) {
    probe.expect(what, result.vector, kPageFault);
    probe.expect(what, result.error, error);
    probe.expect(what, result.cr2, cr2);
  };
  for (auto* const instruction : {probe_do_rmpadjust, probe_do_rmpquery}) {
    page_fault("not mapped", attempt(instruction, kNowhere, 0, 1), 0, kNowhere);
    page_fault("without the C-bit", attempt(instruction, linear(at_shared(unit)), 0, 1), 9,
               linear(at_shared(unit)));
  }
  const auto query = [&](PhysAddr page, std::uint64_t rdx) {
    return attempt(probe_do_rmpquery, linear(at_private(page)), 0, rdx).after[Gpr::kRax];
  };
  probe.expect("RMPQUERY, not aligned", query(unit + 8_B, 1), kFailInput);
  probe.expect("RMPQUERY of a VMPL that is none", query(unit, 4), kFailInput);
}

constexpr auto kScenarios = std::to_array<Scenario>({
    {"snp-visible", visible},
    {"snp-status-msr", status_msr},
    {"snp-foreign-instructions", foreign_instructions},
    {"no-snp", no_snp},
    {"snp-rmpadjust", rmpadjust},
    {"snp-rmpadjust-operands", rmpadjust_operands},
});

}  // namespace

std::span<const Scenario> snp_machine_scenarios() {
  return kScenarios;
}

}  // namespace probe
