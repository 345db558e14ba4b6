// When a host gives a private page of a guest its RMP entry, and in which size.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"
#include "accede/host/page_attributes.hpp"
#include "accede/host/rmp.hpp"
#include "accede/host/rmp_duties.hpp"
#include "accede/host/td_memory.hpp"

#include <cstdint>
#include <span>
#include <string_view>

namespace accede::host {

enum class AssignOutcome : std::uint8_t {
  kAssigned4K,
  kAssigned2M,
  kAlreadyAssigned,
  kNotPrivate,  ///< not RAM, or its attribute is shared: a page state change comes first
  kRefused,     ///< the RMP or the firmware refused; the page stays as it is
};
[[nodiscard]] std::string_view name(AssignOutcome outcome);

/// KVM's rule (reference: SEV-SNP 6). A page state change sets the private attribute only. The
/// first private use, a touch or PVALIDATE, assigns: in 2 MiB where the backing has it, the whole
/// block is RAM, all its attributes are private and none of its 4 KiB is assigned; else in 4 KiB.
///
/// Holds references and no state: thread-safe as they are. Where two first uses of one 2 MiB block
/// race, one of them sees kAlreadyAssigned or kRefused; attributes must not change meanwhile.
class RmpAssignment {
 public:
  struct Config {
    std::uint32_t asid = 1;
    Backing backing = Backing::k4K;
    Bytes hpa_offset{};  ///< HPA = GPA + offset; a multiple of 2 MiB
  };
  enum class Purpose : std::uint8_t {
    kUse,     ///< Guest-Invalid: the guest validates it
    kLaunch,  ///< in Pre-Guest, then validated by the firmware with its content
  };

  /// The arguments outlive the object. Preconditions: `ram` is 4 KiB aligned, inside
  /// attributes.range() and, by the offset, inside rmp.covered().
  RmpAssignment(Rmp& rmp, const PageAttributes& attributes, std::span<const PhysRange> ram,
                const Config& config)
      : rmp_{rmp}, attributes_{attributes}, ram_{ram}, config_{config} {}

  /// The first private use of the page that contains `gpa`. A 2 MiB entry is made only inside
  /// `within`. `duties` null: the host has none.
  [[nodiscard]] AssignOutcome first_use(PhysAddr gpa, PhysRange within, Purpose purpose,
                                        const HostDuties* duties) const;

  [[nodiscard]] bool is_ram(PhysRange pages) const;

 private:
  [[nodiscard]] bool assign(PhysAddr page, PageSize size, Purpose purpose,
                            const HostDuties* duties) const;

  Rmp& rmp_;
  const PageAttributes& attributes_;
  std::span<const PhysRange> ram_;
  Config config_;
};

}  // namespace accede::host
