// Private and shared pages of a TD: the models decide, the guest's view follows.
#pragma once

#include "accede/emulator/guest_view.hpp"
#include "accede/host/td_memory.hpp"

namespace accede::emulator {

/// Binds host::TdMemory, which decides about every page, to the machine: nested tables, page
/// contents, counters. Invariant: a private page is in the private view only while its SEPT state
/// is MAPPED, a page is in the shared view only while its attribute is shared.
///
/// Thread-safe as far as its parts are; called on the vCPU that caused the event.
class TdPages {
 public:
  /// All arguments outlive the object.
  TdPages(GuestView& view, host::TdMemory& memory) : view_{view}, memory_{memory} {}

  [[nodiscard]] GuestView& view() { return view_; }

  /// Makes `range` usable as it is: memory in use when the guest starts. False when storage ends.
  [[nodiscard]] bool adopt(PhysRange range);

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

 private:
  void count_refusal(const Vcpu& vcpu, std::uint64_t rcx, const host::AcceptOutcome& outcome);
  [[nodiscard]] Verdict touch_private(Vcpu& vcpu, PhysAddr gpa, std::uint64_t error);
  [[nodiscard]] Verdict touch_shared(PhysAddr gpa);
  [[nodiscard]] Fault exhausted(PhysAddr gpa) const;

  template <class Body>
  auto with_hooks(const Vcpu& vcpu, Body&& body);

  GuestView& view_;
  host::TdMemory& memory_;
};

}  // namespace accede::emulator
