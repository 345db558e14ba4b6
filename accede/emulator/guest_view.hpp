// What the guest's processor reaches, and what it finds there: nested tables and page contents.
#pragma once

#include "accede/emulator/fault.hpp"
#include "accede/emulator/machine.hpp"
#include "accede/emulator/nested_page_table.hpp"
#include "accede/emulator/reporter.hpp"
#include "accede/emulator/touched_pages.hpp"
#include "accede/emulator/vcpu.hpp"

#include <atomic>

namespace accede::emulator {

/// What one accept costs.
struct AcceptCost {
  std::uint64_t ticks_per_2m = 0;  ///< TSC ticks; 0: zeroing is the cost
};

/// The part of guest memory that knows no confidential platform: both views, the contents of pages
/// that come and go, devices, who runs, what acceptance costs. TdPages and SnpPages tell it what
/// their models have decided.
///
/// Hooks of a model cannot fail: when there is no page left for a nested table, exhausted() stays
/// true from then on, and whoever ran the model stops the guest.
///
/// Thread-safe as far as its parts are.
class GuestView {
 public:
  /// All arguments outlive the object.
  GuestView(PhysWindow window, const MachineMap& machine, TouchedPages& touched,
            NestedPageTable& tables, Reporter& reporter, AcceptCost cost)
      : window_{window},
        machine_{machine},
        touched_{touched},
        tables_{tables},
        reporter_{reporter},
        cost_{cost} {}

  [[nodiscard]] PhysWindow window() const { return window_; }
  [[nodiscard]] const MachineMap& machine() const { return machine_; }
  [[nodiscard]] const NestedPageTable& tables() const { return tables_; }
  [[nodiscard]] Reporter& reporter() { return reporter_; }

  /// Maps the devices below 4 GiB in both views; the rest follows on first touch. False when there
  /// is no table page left.
  [[nodiscard]] bool map_low_devices();
  /// Maps the largest page around a device address that holds no RAM. False as above.
  [[nodiscard]] bool map_device(View view, PhysAddr gpa);

  /// A nested page fault at `gpa` (with the view bit): a device is mapped; for RAM
  /// `touch_ram(View, PhysAddr)` decides; what is nobody's or the emulator's ends the guest.
  template <class TouchRam>
  [[nodiscard]] Verdict touch(std::uint64_t gpa, TouchRam touch_ram) {
    using namespace std::string_view_literals;
    const View view = tables_.view_of(gpa);
    const PhysAddr address{gpa & ~NestedPageTable::kViewMask};
    if (address.value() >= NestedPageTable::kViewMask) {
      return std::unexpected{beyond_width(gpa)};
    }
    switch (machine_.region(address)) {
      case Region::kEmulator:
        return std::unexpected{emulator_memory(gpa)};
      case Region::kDevice:
        return map_device(view, address) ? Verdict{}
                                         : std::unexpected{out_of_storage(address, "a device"sv)};
      case Region::kRam:
        return touch_ram(view, address);
    }
    return {};
  }

  /// From now on the guest may reach and write `range` in `view`.
  void map(View view, PhysRange range);
  /// The guest must no longer reach `range` in `view`; its content stays.
  void unmap(View view, PhysRange range);
  /// Zeroes what the guest may have written to `range`: what it left there was encrypted with a key
  /// that nobody else has, and zero is what a host's fresh page holds.
  void scrub(PhysRange range);
  /// Zeroes a page that is being accepted, unless the time of that is modelled and the page is
  /// zero.
  void zero_accepted(PhysAddr page);
  /// Lets the rest of the modelled time of an accept pass, which began at `started` (TSC).
  void wait_out(std::uint64_t started, Bytes accepted) const;
  [[nodiscard]] bool exhausted() const { return exhausted_.load(std::memory_order_relaxed); }

  /// Counts an accept of `size` that the guest asked for and got, and the longest run of them.
  void count_accept(Vcpu& vcpu, PhysAddr gpa, PageSize size, std::uint64_t started);

  /// Who accepts from now on, for the counters. Phases only go forward.
  void enter_phase(Phase phase);
  [[nodiscard]] Phase phase() const { return phase_.load(std::memory_order_relaxed); }
  /// While true, accepted bytes are the firmware's in every phase but the kernel's.
  void set_firmware_accepts(bool accepts) {
    firmware_accepts_.store(accepts, std::memory_order_relaxed);
  }
  /// For whom accepted bytes are counted.
  [[nodiscard]] Phase accepting_phase() const;

  /// Number of times a mapping was taken away: a vCPU that has seen a smaller one must flush.
  [[nodiscard]] std::uint64_t flush_generation() const {
    return flushes_.load(std::memory_order_acquire);
  }

  /// The faults that both platforms have.
  [[nodiscard]] static Fault emulator_memory(std::uint64_t gpa);
  [[nodiscard]] static Fault beyond_width(std::uint64_t gpa);
  [[nodiscard]] static Fault triple_fault();
  [[nodiscard]] static Fault out_of_storage(PhysAddr gpa, std::string_view state);

 private:
  PhysWindow window_;
  const MachineMap& machine_;
  TouchedPages& touched_;
  NestedPageTable& tables_;
  Reporter& reporter_;
  AcceptCost cost_;
  std::atomic<std::uint64_t> flushes_ = 0;
  std::atomic<bool> exhausted_ = false;
  std::atomic<Phase> phase_ = Phase::kFirmware;
  std::atomic<bool> firmware_accepts_ = false;
};

}  // namespace accede::emulator
