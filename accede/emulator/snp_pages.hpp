// Private and shared pages of an SNP guest: the models decide, the guest's view follows.
#pragma once

#include "accede/emulator/guest_memory.hpp"
#include "accede/emulator/guest_view.hpp"
#include "accede/emulator/private_aliases.hpp"
#include "accede/host/snp_memory.hpp"

namespace accede::emulator {

/// Binds host::SnpMemory, which decides about every page, to the machine: nested tables, page
/// contents, counters. Invariant: a page is in the private view only while its RMP entry is
/// Guest-Valid, in the shared view only while its attribute is shared; but for the tables of a
/// guest that walks them without the C-bit (PrivateAliases).
///
/// Thread-safe as far as its parts are; called on the vCPU that caused the event.
class SnpPages {
 public:
  struct Config {
    /// A touch of memory that is not validated stops the guest with a report; else it raises #VC.
    bool stop_on_unaccepted = true;
  };

  /// All arguments outlive the object.
  SnpPages(const Config& config, GuestView& view, host::SnpMemory& memory)
      : config_{config}, view_{view}, memory_{memory} {}

  [[nodiscard]] GuestView& view() { return view_; }

  /// Makes `range` usable as it is: memory that was measured into the guest. False when storage
  /// ends.
  [[nodiscard]] bool adopt(PhysRange range);

  /// EAX and CF.
  struct Validation {
    std::uint32_t code;
    bool carry;
  };
  /// PVALIDATE of the page at `gpa` (without the C-bit) with ECX and EDX[0] as the guest gave them,
  /// or why the guest ends.
  [[nodiscard]] std::expected<Validation, Fault> pvalidate(Vcpu& vcpu, PhysAddr gpa,
                                                           std::uint32_t ecx, bool validate);

  /// RMPADJUST of the page at `gpa`. When the page is not validated there is no outcome: `vcpu` has
  /// the #VC.
  [[nodiscard]] std::expected<std::optional<host::RmpAdjustOutcome>, Fault> rmpadjust(
      Vcpu& vcpu, PhysAddr gpa, std::uint64_t rcx, std::uint64_t rdx);
  /// RMPQUERY, likewise.
  [[nodiscard]] std::expected<std::optional<host::RmpAdjustOutcome>, Fault> rmpquery(
      Vcpu& vcpu, PhysAddr gpa, std::uint64_t rdx);

  /// A page state change by either protocol.
  [[nodiscard]] host::GhcbPageStateAnswer change_page_state(const Vcpu& vcpu,
                                                            const host::GhcbPageState& change);

  /// The GHCB page at `gpa`: shared RAM, or null.
  [[nodiscard]] abi::ghcb::GhcbPage* map_ghcb(PhysAddr gpa);

  /// A guest access that the nested tables did not allow. When there is no fault the guest goes on
  /// and meets either a mapping or the exception that was put into `vcpu`.
  [[nodiscard]] Verdict touch(Vcpu& vcpu, std::uint64_t gpa, std::uint64_t error);

  /// To be called at exits: a guest whose page tables carry the C-bit does not need what the
  /// firmware needed.
  void forget_aliases(const Vcpu& vcpu) {
    if (has_c_bit(vcpu)) {
      aliases_.drop_passing(view_);
    }
  }

 private:
  /// Whether the guest's own page tables can say what is private, and do.
  [[nodiscard]] static bool has_c_bit(const Vcpu& vcpu) {
    return GuestMemory::has_view_bit(vcpu.save()) &&
           (vcpu.save().cr3 & NestedPageTable::kViewMask) != 0;
  }
  [[nodiscard]] Verdict touch_private(Vcpu& vcpu, PhysAddr gpa, std::uint64_t error);
  [[nodiscard]] Verdict touch_shared(Vcpu& vcpu, PhysAddr gpa, std::uint64_t error);
  [[nodiscard]] Verdict not_validated(Vcpu& vcpu, PhysAddr gpa, std::uint64_t error);
  [[nodiscard]] Fault refused(PhysAddr gpa, host::RmpVerdict verdict) const;
  [[nodiscard]] Fault no_ram(PhysAddr gpa) const;
  [[nodiscard]] Fault exhausted(PhysAddr gpa) const;
  [[nodiscard]] bool is_validated(PhysAddr gpa) const;
  void count_validation(Vcpu& vcpu, PhysAddr gpa, std::uint32_t ecx, bool validate,
                        const host::SnpPvalidate& outcome, std::uint64_t started);
  void count_implicit(const Vcpu& vcpu, PhysAddr gpa, View to);
  void report(EventKind kind, const Vcpu& vcpu, PhysAddr gpa, std::uint32_t detail);
  [[nodiscard]] std::expected<std::optional<host::RmpAdjustOutcome>, Fault> finish_adjust(
      Vcpu& vcpu, PhysAddr gpa, const host::SnpRmpAdjust& result);

  template <class Body>
  auto with_hooks(Body&& body);

  Config config_;
  GuestView& view_;
  host::SnpMemory& memory_;
  PrivateAliases aliases_;
};

}  // namespace accede::emulator
