// Private and shared pages of the guest: the models decide, the nested tables follow.
#pragma once

#include "accede/emulator/fault.hpp"
#include "accede/emulator/machine.hpp"
#include "accede/emulator/nested_page_table.hpp"
#include "accede/emulator/reporter.hpp"
#include "accede/emulator/touched_pages.hpp"
#include "accede/emulator/vcpu.hpp"
#include "accede/host/td_memory.hpp"

#include <atomic>

namespace accede::emulator {

/// What one accept costs.
struct AcceptCost {
  std::uint64_t ticks_per_2m = 0;  ///< TSC ticks; 0: zeroing is the cost
};

/// Binds host::TdMemory, which decides about every page, to the machine: nested tables, page
/// contents, counters. Invariant: a private page is in the private view only while its SEPT state
/// is MAPPED, a page is in the shared view only while its attribute is shared.
///
/// Thread-safe as far as its parts are; called on the vCPU that caused the event.
class GuestPages {
 public:
  /// All arguments outlive the object.
  GuestPages(PhysWindow window, const MachineMap& machine, host::TdMemory& memory,
             TouchedPages& touched, NestedPageTable& tables, Reporter& reporter, AcceptCost cost)
      : window_{window},
        machine_{machine},
        memory_{memory},
        touched_{touched},
        tables_{tables},
        reporter_{reporter},
        cost_{cost} {}

  /// Makes `range` usable as it is: memory in use when the guest starts. False when storage ends.
  [[nodiscard]] bool adopt(PhysRange range);

  /// Maps the devices below 4 GiB in both views; the rest follows on first touch.
  [[nodiscard]] bool map_low_devices();

  /// TDG.MEM.PAGE.ACCEPT with operand `rcx`: the status word for RAX, or why the TD ends.
  [[nodiscard]] std::expected<std::uint64_t, Fault> accept(Vcpu& vcpu, std::uint64_t rcx);

  /// A guest access that the nested tables did not allow. When there is no fault the guest goes on
  /// and meets either a mapping or the exception that was put into `vcpu`.
  [[nodiscard]] Verdict touch(Vcpu& vcpu, std::uint64_t gpa, std::uint64_t error);

  struct Conversion {
    std::uint64_t r10;
    std::uint64_t r11;
  };
  /// VMCALL MapGPA: R12 = first GPA with the wanted polarity, R13 = bytes.
  [[nodiscard]] std::expected<Conversion, Fault> convert(Vcpu& vcpu, std::uint64_t r12,
                                                         std::uint64_t r13);

  /// Writes "service unavailable" into the GetQuote buffer at `gpa` (shared bit set). False when
  /// there is no such shared buffer.
  [[nodiscard]] bool refuse_quote(std::uint64_t gpa, std::uint64_t bytes);

  /// Who accepts from now on, for the counters. Phases only go forward.
  void enter_phase(Phase phase);
  [[nodiscard]] Phase phase() const { return phase_.load(std::memory_order_relaxed); }

  /// Number of times a mapping was taken away: a vCPU that has seen a smaller one must flush.
  [[nodiscard]] std::uint64_t flush_generation() const {
    return flushes_.load(std::memory_order_acquire);
  }

 private:
  void zero(PhysAddr page);
  void wait_out(std::uint64_t started, Bytes accepted) const;
  void count_accept(Vcpu& vcpu, const host::AcceptOutcome& outcome, std::uint64_t started);
  void count_refusal(const Vcpu& vcpu, std::uint64_t rcx, const host::AcceptOutcome& outcome);
  [[nodiscard]] Verdict touch_device(View view, PhysAddr gpa);
  [[nodiscard]] Verdict touch_private(Vcpu& vcpu, PhysAddr gpa, std::uint64_t error);
  [[nodiscard]] Verdict touch_shared(PhysAddr gpa);
  void map_private(PhysRange range);
  void map_shared(PhysAddr page);
  void forget_private(PhysRange range);
  void forget_shared(PhysRange range);
  [[nodiscard]] Fault exhausted(PhysAddr gpa) const;

  template <class Body>
  auto with_hooks(const Vcpu& vcpu, Body&& body);

  PhysWindow window_;
  const MachineMap& machine_;
  host::TdMemory& memory_;
  TouchedPages& touched_;
  NestedPageTable& tables_;
  Reporter& reporter_;
  AcceptCost cost_;
  std::atomic<std::uint64_t> flushes_ = 0;
  std::atomic<bool> tables_exhausted_ = false;  ///< a hook, which cannot fail, found no page
  std::atomic<Phase> phase_ = Phase::kFirmware;
};

}  // namespace accede::emulator
