// The VMM's face towards an SNP guest: what its requests through the GHCB come to on this machine.
#pragma once

#include "accede/base/text_buffer.hpp"
#include "accede/emulator/device_access.hpp"
#include "accede/emulator/nested_page_table.hpp"
#include "accede/emulator/reporter.hpp"
#include "accede/emulator/vcpu.hpp"
#include "accede/host/ghcb.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace accede::emulator {

class SnpPages;

/// The counter of a request by the MSR protocol, or through the page.
[[nodiscard]] GhcbSlot slot_of(abi::ghcb::MsrCode code);
[[nodiscard]] GhcbSlot slot_of(abi::ghcb::ExitCode code);

/// Room for every text of describe().
using GhcbText = TextBuffer<128>;

/// Why a VMGEXIT ends the guest, in words, in `buffer`. Precondition: it does, by kTerminate or
/// kStop.
[[nodiscard]] std::string_view describe(const host::GhcbOutcome& outcome, GhcbText& buffer);

/// The host::GhcbHost of the one vCPU of this machine: its devices are the guest's, its pages are
/// SnpPages'. Every number is taken as the guest gives it; what is not there reads as all ones, or
/// is #GP. Work is bounded by Ghcb: 2032 port accesses or 253 page state changes.
/// Thread-compatible: used by the physical CPU that runs the vCPU.
class GhcbCalls {
 public:
  /// All arguments outlive the object.
  GhcbCalls(const Vcpu& vcpu, const DeviceAccess& devices, SnpPages& pages, Reporter& reporter)
      : vcpu_{vcpu}, devices_{devices}, pages_{pages}, reporter_{reporter} {}

  /// The Ghcb that goes with it: versions as KVM has them; no AP creation, for there is no second
  /// vCPU to create.
  [[nodiscard]] static constexpr host::GhcbConfig config() {
    return {.is_snp = true,
            .info = {.max_version = 2, .min_version = 1, .c_bit = NestedPageTable::kViewBit},
            .hv_features = abi::ghcb::kHvFeatureSnp,
            .sev_features = 1,
            .gpa_end = PhysAddr{NestedPageTable::kViewMask}};
  }

  /// Counts a VMGEXIT with `msr` in the GHCB MSR; to be called before Ghcb::exit(). A page that the
  /// guest changes meanwhile is counted as what it was.
  void count(std::uint64_t msr);

  // host::GhcbHost
  void report(const host::GhcbMistake& mistake);
  [[nodiscard]] abi::ghcb::GhcbPage* map_ghcb(PhysAddr gpa);
  [[nodiscard]] bool may_register(PhysAddr) { return true; }
  [[nodiscard]] host::GhcbCpuidResult cpuid(const host::GhcbCpuidQuery& query);
  [[nodiscard]] host::GhcbPageStateAnswer change_page_state(const host::GhcbPageState& change);
  [[nodiscard]] std::uint32_t read_port(host::GhcbPort port) {
    return DeviceAccess::read_port(port.port, port.size);
  }
  void write_port(host::GhcbPort port, std::uint32_t value) {
    DeviceAccess::write_port(port.port, port.size, value);
  }
  [[nodiscard]] std::optional<std::uint64_t> read_msr(std::uint32_t msr) {
    return DeviceAccess::read_msr(msr);
  }
  [[nodiscard]] bool write_msr(std::uint32_t msr, std::uint64_t value) {
    return DeviceAccess::write_msr(msr, value);
  }
  void read_mmio(PhysAddr gpa, std::span<std::uint8_t> to);
  void write_mmio(PhysAddr gpa, std::span<const std::uint8_t> from);
  [[nodiscard]] host::GhcbTsc read_tsc();
  [[nodiscard]] std::optional<std::uint64_t> read_pmc(std::uint32_t) { return std::nullopt; }
  [[nodiscard]] std::uint64_t read_dr7() { return vcpu_.save().dr7; }
  /// The guest writes its register by itself, and its host could not (KVM ignores the request).
  void write_dr7(std::uint64_t) {}
  /// INVD, WBINVD, MONITOR, MWAIT: nothing depends on them here.
  void execute(host::GhcbInstruction) {}
  /// There are no hypercalls.
  [[nodiscard]] std::uint64_t vmmcall(const host::GhcbVmmcall&);
  void nmi_complete() {}
  [[nodiscard]] std::optional<host::GhcbGuestAnswer> guest_request(const host::GhcbGuestRequest&);
  [[nodiscard]] bool has_vcpu(std::uint32_t apic_id) { return apic_id == 0; }
  [[nodiscard]] bool create_ap(const host::GhcbApCreation&) { return false; }
  [[nodiscard]] PhysAddr jump_table() { return jump_table_; }
  void set_jump_table(PhysAddr table) { jump_table_ = table; }

 private:
  const Vcpu& vcpu_;
  DeviceAccess devices_;
  SnpPages& pages_;
  Reporter& reporter_;
  PhysAddr jump_table_;
};
static_assert(host::GhcbHost<GhcbCalls>);

}  // namespace accede::emulator
