// What an acceptance plan will cost, before it is carried out: so that a time-out of whoever waits
// for the VM is foreseen and not met.
#pragma once

#include "accede/base/units.hpp"
#include "accede/firmware/acceptance_plan.hpp"
#include "accede/guest/memory_map.hpp"

#include <compare>
#include <cstdint>

namespace accede::firmware {

/// A duration. Arithmetic on predictions ends at the largest one instead of wrapping.
struct Nanoseconds {
  std::uint64_t value = 0;

  friend constexpr auto operator<=>(Nanoseconds, Nanoseconds) = default;
};

/// What accepting one page takes.
struct PageCost {
  Nanoseconds parallel;  ///< on the CPU that does it: zeroing, the call
  Nanoseconds serial;    ///< in which no other CPU gets ahead: the host's locks

  friend constexpr bool operator==(PageCost, PageCost) = default;
};

struct CostModel {
  PageCost page_4k;
  PageCost page_2m;  ///< a 1 GiB page costs as much as 512 of these
  /// More CPUs than this do not help.
  std::uint32_t most_cpus = 1;

  /// A model with one figure: so much for 2 MiB on one CPU, a 512th of it for 4 KiB (the calls are
  /// free), and CPUs share all of it.
  [[nodiscard]] static constexpr CostModel per_2m(Nanoseconds cost) {
    return {.page_4k = {.parallel = {cost.value / 512}, .serial = {}},
            .page_2m = {.parallel = cost, .serial = {}},
            .most_cpus = ~0U};
  }
};

/// TDX as reported: 90 GiB in 60 s on one vCPU, in 40 s on four, no faster on more (reference: boot
/// flow 8). Nobody reported 4 KiB pages: theirs is a lower bound.
inline constexpr CostModel kReportedTdx{.page_4k = {.parallel = {1'130}, .serial = {1'413}},
                                        .page_2m = {.parallel = {578'704}, .serial = {723'379}},
                                        .most_cpus = 4};
/// SEV-SNP as reported: 128 GiB boot 205 s longer when everything is accepted (reference: boot flow
/// 8). Nothing is known about more CPUs and 4 KiB pages.
inline constexpr CostModel kReportedSnp{.page_4k = {.parallel = {6'109}, .serial = {}},
                                        .page_2m = {.parallel = {3'128'000}, .serial = {}},
                                        .most_cpus = 1};

struct Prediction {
  Nanoseconds time;  ///< until the last CPU is done
  Bytes accepted;
  std::uint64_t pages_4k = 0;
  std::uint64_t pages_2m = 0;
  std::uint64_t pages_1g = 0;
  /// Host memory behind the VM at the hand-over: what was usable from the start, what the plan
  /// accepts, and the nested page tables (secure EPT) for the latter. Tables that the host keeps
  /// for all of its memory (PAMT, RMP) are not the VM's.
  Bytes backed;
  Bytes tables;  ///< the part of `backed` that is page tables

  friend bool operator==(const Prediction&, const Prediction&) = default;
};

/// For a plan of `map` that `cpus` CPUs carry out, which take chunks as they are free.
/// Precondition: cpus != 0.
[[nodiscard, gnu::cold]] Prediction predict(const AcceptancePlan& plan, const guest::MemoryMap& map,
                                            const CostModel& model, std::uint32_t cpus);

/// How much memory in 2 MiB pages can be accepted in `limit`: what kAtLeast may ask for when
/// somebody waits no longer. Precondition: cpus != 0.
[[nodiscard, gnu::cold]] Bytes acceptable_within(Nanoseconds limit, const CostModel& model,
                                                 std::uint32_t cpus);

}  // namespace accede::firmware
