// What a hypervisor must be able to do so that GHCB requests can be answered.
#pragma once

#include "accede/abi/ghcb.hpp"
#include "accede/base/units.hpp"
#include "accede/host/ghcb_page_state.hpp"
#include "accede/host/ghcb_types.hpp"

#include <concepts>
#include <cstdint>
#include <optional>
#include <span>

namespace accede::host {

struct GhcbCpuidQuery {
  std::uint32_t leaf = 0;
  std::uint32_t subleaf = 0;
  std::optional<std::uint64_t> xcr0;  ///< the guest's, when it says; always with leaf 0xD by page
  std::optional<std::uint64_t> xss;
};
struct GhcbCpuidResult {
  std::uint32_t eax = 0;
  std::uint32_t ebx = 0;
  std::uint32_t ecx = 0;
  std::uint32_t edx = 0;
};

/// 1, 2 or 4 bytes.
struct GhcbPort {
  std::uint16_t port = 0;
  std::uint8_t size = 1;
};

struct GhcbTsc {
  std::uint64_t tsc = 0;
  std::uint32_t aux = 0;
};

/// A hypercall of the guest, from CPL 0.
struct GhcbVmmcall {
  std::uint64_t rax = 0;
  std::uint64_t rbx = 0;
  std::uint64_t rcx = 0;
  std::uint64_t rdx = 0;
  std::uint64_t rsi = 0;
};

/// Instructions that return nothing.
enum class GhcbInstruction : std::uint8_t { kInvd, kWbinvd, kMonitor, kMwait };

/// A message to the security processor. Both pages are 4 KiB aligned and distinct; they need not be
/// RAM, nor shared.
struct GhcbGuestRequest {
  struct Certificates {
    PhysAddr data{};          ///< as the guest gave it
    std::uint64_t pages = 0;  ///< as the guest gave it
  };
  PhysAddr request{};
  PhysAddr response{};
  bool extended = false;
  std::optional<Certificates> certificates;  ///< extended, and both registers given
};
/// sw_exit_info_2 of a guest request.
struct GhcbGuestAnswer {
  std::uint32_t firmware_error = 0;
  std::uint32_t vmm_error = 0;
  std::uint64_t pages_needed = 0;  ///< into RBX with kVmmErrorBufferTooSmall
};

/// A request for another vCPU that passed KVM's checks: the vCPU exists, the injection mode is that
/// of the VM, the VMSA's address is page aligned, not 2 MiB aligned and below gpa_end. Whether
/// that page is private memory with an RMP entry that says VMSA is for the host to find out.
struct GhcbApCreation {
  std::uint32_t apic_id = 0;
  abi::ghcb::ApCreationRequest request = abi::ghcb::ApCreationRequest::kCreate;
  PhysAddr vmsa{};                 ///< not for kDestroy
  std::uint64_t sev_features = 0;  ///< not for kDestroy
};

/// The face of a hypervisor towards one vCPU. Every number that it is given is the guest's: any
/// value, unless a type above says more. Every answer of the right type is safe.
///   report(mistake)            the guest did something wrong; it is answered as the kind says
///   map_ghcb(gpa)              the host's view of a shared page, valid until the next exit() or
///                              start() begins, or nullptr when `gpa` is no such. `gpa` is not 0, a
///                              multiple of 4 KiB below gpa_end
///   may_register(gpa)          whether the page may be this vCPU's GHCB (KVM: always); as above
///   change_page_state(change)  see ghcb_page_state.hpp
///   read_port, write_port      the value in the low bytes; missing ports read as all ones
///   read_msr, write_msr        nothing or false: #GP
///   read_mmio, write_mmio      1 to 8 bytes at an address below 2^64 - 8, which need not be a
///                              device's; read_mmio sets all bytes
///   read_pmc                   nothing: #GP
///   vmmcall                    returns RAX
///   guest_request              nothing: invalid input
///   has_vcpu(apic_id), create_ap(request)   false: invalid input
///   jump_table, set_jump_table one address for the VM
template <class T>
concept GhcbHost = requires(
    T& host, PhysAddr gpa, const GhcbMistake& mistake, const GhcbCpuidQuery& query,
    const GhcbPageState& change, std::uint32_t index, std::uint64_t value, GhcbPort port,
    std::span<std::uint8_t> to, std::span<const std::uint8_t> from, const GhcbVmmcall& call,
    GhcbInstruction instruction, const GhcbGuestRequest& request, const GhcbApCreation& ap) {
  { host.report(mistake) } -> std::same_as<void>;
  { host.map_ghcb(gpa) } -> std::same_as<abi::ghcb::GhcbPage*>;
  { host.may_register(gpa) } -> std::same_as<bool>;
  { host.cpuid(query) } -> std::same_as<GhcbCpuidResult>;
  { host.change_page_state(change) } -> std::same_as<GhcbPageStateAnswer>;
  { host.read_port(port) } -> std::same_as<std::uint32_t>;
  { host.write_port(port, index) } -> std::same_as<void>;
  { host.read_msr(index) } -> std::same_as<std::optional<std::uint64_t>>;
  { host.write_msr(index, value) } -> std::same_as<bool>;
  { host.read_mmio(gpa, to) } -> std::same_as<void>;
  { host.write_mmio(gpa, from) } -> std::same_as<void>;
  { host.read_tsc() } -> std::same_as<GhcbTsc>;
  { host.read_pmc(index) } -> std::same_as<std::optional<std::uint64_t>>;
  { host.read_dr7() } -> std::same_as<std::uint64_t>;
  { host.write_dr7(value) } -> std::same_as<void>;
  { host.execute(instruction) } -> std::same_as<void>;
  { host.vmmcall(call) } -> std::same_as<std::uint64_t>;
  { host.nmi_complete() } -> std::same_as<void>;
  { host.guest_request(request) } -> std::same_as<std::optional<GhcbGuestAnswer>>;
  { host.has_vcpu(index) } -> std::same_as<bool>;
  { host.create_ap(ap) } -> std::same_as<bool>;
  { host.jump_table() } -> std::same_as<PhysAddr>;
  { host.set_jump_table(gpa) } -> std::same_as<void>;
};

}  // namespace accede::host
