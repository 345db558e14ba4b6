// The SNP side of the testbed: the processor that executes PVALIDATE, and the VMM behind VMGEXIT.
#pragma once

#include "accede/abi/ghcb.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/base/phys_window.hpp"
#include "accede/guest/page_state_list.hpp"
#include "accede/guest/snp_platform.hpp"
#include "accede/host/hostile_script.hpp"
#include "accede/host/page_attributes.hpp"
#include "accede/host/rmp.hpp"
#include "accede/host/snp_memory.hpp"
#include "accede/testbed/counters.hpp"
#include "accede/testbed/cpu_state.hpp"
#include "accede/testbed/guest_ram.hpp"
#include "accede/testbed/mapping.hpp"
#include "accede/testbed/stop_report.hpp"

#include <array>
#include <atomic>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>

namespace accede::testbed {

/// One SNP guest: host::SnpMemory decides about every page, GuestRam follows. VMGEXIT does not trap
/// in a process, so the guest calls the host through guest::GhcbTransport, of which this is a
/// model.
///
/// What a page holds when it has been validated is undefined on SNP. Here its first word is
/// kUndefined, so that a guest that takes it for zero is found out. Rescinding a page loses its
/// content too. The window has no C-bit: a page is used as what the host takes it for.
///
/// Invariant: a page that is neither validated nor shared has no memory behind it. Thread-safe; two
/// CPUs that convert and touch one page at once get an order that hardware might not give them.
/// pvalidate() and touch() run in signal handlers, the exchanges do not.
class SnpVm {
 public:
  static constexpr std::uint64_t kUndefined = 0xA5A5'A5A5'A5A5'A5A5;

  /// The arguments outlive the object.
  [[nodiscard]] static std::expected<std::unique_ptr<SnpVm>, std::string> make(
      host::Backing backing, GuestRam& ram, host::HostileScript& script, LiveCounters& counters);

  /// PVALIDATE of `gpa` at the thread's RIP: registers change and RIP advances. A report: the guest
  /// must stop.
  [[nodiscard]] std::optional<StopReport> pvalidate(CpuState& cpu, PhysAddr gpa);

  /// The guest touched `gpa`, inside RAM. No report: it goes on at the same instruction.
  [[nodiscard]] std::optional<StopReport> touch(PhysAddr gpa);

  /// GhcbTransport: SEV information, hypervisor features, GHCB registration (always granted) and
  /// page state changes. Anything else is answered with 0, which is a response to nothing.
  [[nodiscard]] std::uint64_t msr_exchange(std::uint64_t request);
  /// GhcbTransport: page state change lists; other events are refused as malformed. A GHCB that is
  /// not shared RAM stops the guest.
  void page_exchange(PhysAddr ghcb);

  /// Takes private pages out of the guest and adds them again, not validated. Between the two they
  /// are shared for a moment.
  void replace(PhysRange pages);

  [[nodiscard]] host::SnpMemory& memory() { return memory_; }
  [[nodiscard]] host::Rmp& rmp() { return rmp_; }

 private:
  using PscList = std::array<std::uint64_t, abi::ghcb::kPscWords>;

  SnpVm(host::Backing backing, GuestRam& ram, host::HostileScript& script, LiveCounters& counters,
        Mapping rmp_storage, Mapping attribute_storage);

  void complete(CpuState& cpu, std::uint32_t eax, bool carry);
  [[nodiscard]] bool lie_about_pvalidate(CpuState& cpu, const host::HostileDeed& deed);
  void count(const host::SnpPvalidate& outcome, bool validate);
  void back_small(PhysAddr gpa);
  [[nodiscard]] std::uint64_t msr_page_state(std::uint64_t request);
  [[nodiscard]] std::uint64_t answer_list(PscList& list);
  [[nodiscard]] std::uint64_t do_list(PscList& list);
  [[nodiscard]] StopReport report(StopCause cause, PhysAddr gpa) const;
  template <class Body>
  auto with_hooks(bool is_new, Body&& body);

  GuestRam& ram_;
  host::HostileScript& script_;
  LiveCounters& counters_;
  std::array<PhysRange, 1> ranges_;
  Mapping rmp_storage_;
  Mapping attribute_storage_;
  host::Rmp rmp_;
  host::PageAttributes attributes_;
  host::SnpMemory memory_;
};
static_assert(guest::GhcbTransport<SnpVm>);

/// A transport for several CPUs: each call takes a GHCB page of its own from a pool. Thread-safe
/// and lock-free.
class GhcbPool {
 public:
  static constexpr unsigned kMaxPages = 64;

  /// Preconditions: `pages` are shared pages of `vm`, 4 KiB aligned, at most kMaxPages (none: the
  /// MSR protocol serves); `vm` outlives the object.
  GhcbPool(SnpVm& vm, PhysWindow window, PhysRange pages);

  [[nodiscard]] std::uint64_t msr_exchange(std::uint64_t request) {
    return vm_.msr_exchange(request);
  }
  void page_exchange(PhysAddr ghcb) { vm_.page_exchange(ghcb); }
  [[nodiscard]] guest::GhcbRef claim_ghcb();
  void release_ghcb(guest::GhcbRef ghcb);

 private:
  SnpVm& vm_;
  PhysWindow window_;
  PhysAddr begin_;
  std::atomic<std::uint64_t> free_;  ///< bit n: page n
};
static_assert(guest::PerCpuGhcbTransport<GhcbPool>);

}  // namespace accede::testbed
