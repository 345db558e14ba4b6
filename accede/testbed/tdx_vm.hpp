// The TDX side of the testbed: the module that answers TDCALL, and the VMM behind it.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/host/hostile_script.hpp"
#include "accede/host/page_attributes.hpp"
#include "accede/host/secure_ept.hpp"
#include "accede/host/td_memory.hpp"
#include "accede/testbed/counters.hpp"
#include "accede/testbed/cpu_state.hpp"
#include "accede/testbed/guest_ram.hpp"
#include "accede/testbed/mapping.hpp"
#include "accede/testbed/stop_report.hpp"

#include <array>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>

namespace accede::testbed {

struct TdxVmConfig {
  host::Backing backing = host::Backing::k2M;
  bool page_release = false;  ///< MEM.PAGE.RELEASE exists
  std::uint32_t vcpus = 1;    ///< what VP.INFO says
};

/// One TD: host::TdMemory decides about every page, GuestRam follows.
///
/// Answers the leaves VP.VMCALL<MapGPA> (other sub-functions: SUBFUNC_UNSUPPORTED), VP.INFO,
/// MEM.PAGE.ACCEPT and, if configured, MEM.PAGE.RELEASE; every other one is OPERAND_INVALID|RAX.
///
/// Invariant: a page that is neither MAPPED nor shared has no memory behind it. Hence zeroing is
/// done by opening a page, and the module's own zeroing has nothing left to do. Opened pages are
/// those that the hook `mapped` reported: pages adopted at launch are backed at their first touch.
///
/// Thread-safe. Its functions run in signal handlers: no heap, no lock but the models'.
class TdxVm {
 public:
  static constexpr unsigned kGpaWidth = 48;

  /// The arguments outlive the object. Precondition: `ram` ends below the shared bit.
  [[nodiscard]] static std::expected<std::unique_ptr<TdxVm>, std::string> make(
      const TdxVmConfig& config, GuestRam& ram, host::HostileScript& script,
      LiveCounters& counters);

  /// TDCALL at the thread's RIP: registers change and RIP advances, or both stay and the
  /// instruction runs again. A report: the guest must stop.
  [[nodiscard]] std::optional<StopReport> tdcall(CpuState& cpu);

  /// The guest touched `gpa`, inside RAM. No report: it goes on at the same instruction.
  [[nodiscard]] std::optional<StopReport> touch(PhysAddr gpa);

  /// Takes private pages out of the guest and adds them again, PENDING. Between the two they are
  /// shared for a moment.
  void replace(PhysRange pages);

  [[nodiscard]] host::TdMemory& memory() { return memory_; }
  [[nodiscard]] host::SecureEpt& sept() { return sept_; }
  [[nodiscard]] host::PageAttributes& attributes() { return attributes_; }

 private:
  TdxVm(const TdxVmConfig& config, GuestRam& ram, host::HostileScript& script,
        LiveCounters& counters, Mapping sept_storage, Mapping attribute_storage);

  [[nodiscard]] std::optional<StopReport> accept(CpuState& cpu);
  [[nodiscard]] std::optional<StopReport> release(CpuState& cpu);
  [[nodiscard]] std::optional<StopReport> vmcall(CpuState& cpu);
  [[nodiscard]] std::optional<StopReport> map_gpa(CpuState& cpu);
  void vp_info(CpuState& cpu);
  [[nodiscard]] std::optional<StopReport> finish(CpuState& cpu, const host::AcceptOutcome& outcome);
  void complete(CpuState& cpu, std::uint64_t rax);
  void count_accept(const host::AcceptOutcome& outcome);
  void back_small(PhysAddr gpa);
  [[nodiscard]] StopReport report(StopCause cause, PhysAddr gpa) const;
  template <class Body>
  auto with_hooks(Body&& body);

  GuestRam& ram_;
  host::HostileScript& script_;
  LiveCounters& counters_;
  std::uint32_t vcpus_;
  std::array<PhysRange, 1> ranges_;
  Mapping sept_storage_;
  Mapping attribute_storage_;
  host::SecureEpt sept_;
  host::PageAttributes attributes_;
  host::TdMemory memory_;
};

}  // namespace accede::testbed
