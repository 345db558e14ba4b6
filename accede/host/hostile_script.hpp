// A script of what a hostile host does to its guest, for the testbed and the emulator.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string_view>

namespace accede::host {

/// What the guest does while the host waits for its moment.
enum class HostileEvent : std::uint8_t {
  kAccept,           ///< TDX: MEM.PAGE.ACCEPT, every execution of the instruction
  kConvert,          ///< TDX: VP.VMCALL<MapGPA>
  kPageStateChange,  ///< SNP: VMGEXIT with a page-state change request
  kValidate,         ///< SNP: PVALIDATE
};
[[nodiscard]] std::string_view name(HostileEvent event);

/// What the host does then. Acts marked "instead" take the place of the honest answer and change no
/// state; the others come on top of it.
enum class HostileAct : std::uint8_t {
  kNothing,
  // Any event.
  kStatus,     ///< instead: answers `value` (RAX of ACCEPT, R10 of MapGPA, EAX of PVALIDATE,
               ///< SW_EXITINFO2 of a page-state change)
  kPretend,    ///< instead: claims success
  kReplace,    ///< afterwards: removes the pages and adds them again, not accepted
  kBackSmall,  ///< before an accept or PVALIDATE: backs the page in 4K, so that 2M mismatches
  // kAccept.
  kBusy,             ///< instead: OPERAND_BUSY|RCX
  kAlreadyAccepted,  ///< instead: PAGE_ALREADY_ACCEPTED at the level of the request
  // kConvert: instead, RETRY with R11 ...
  kRetryBackwards,   ///< ... one page below the start of the request
  kRetryOutOfRange,  ///< ... one page past its end
  kRetryInPlace,     ///< ... at its start: no progress
  kRetryAt,          ///< ... `value`, as it is
  // kConvert and kPageStateChange.
  kPartly,  ///< does only the first `value` bytes (entries of a page-state change), honestly
  // kPageStateChange.
  kListGrown,      ///< end_entry comes back larger
  kListMovedBack,  ///< cur_entry comes back one below that of the request
  kReservedSet,    ///< a reserved field of the list comes back changed
  // kValidate.
  kUnchanged,  ///< instead: CF = 1, the page was validated before
};
[[nodiscard]] std::string_view name(HostileAct act);

/// One rule: at the first-th event of its kind in `where`, and the `times`-1 after it, `act`.
struct HostileRule {
  static constexpr std::uint64_t kForever = std::numeric_limits<std::uint64_t>::max();

  HostileEvent event = HostileEvent::kAccept;
  HostileAct act = HostileAct::kNothing;
  /// Only events that concern a page in here count; empty: all events do.
  PhysRange where{};
  std::uint64_t first = 1;  ///< 1: the first one
  std::uint64_t times = 1;
  std::uint64_t value = 0;
  /// kReplace: the pages; empty: those of the event.
  PhysRange target{};
};

/// What the host does now.
struct HostileDeed {
  HostileAct act = HostileAct::kNothing;
  std::uint64_t value = 0;
  PhysRange target;  ///< pages of kReplace
};

/// Plays rules. An embedder asks consult() at every event and does what the deed says; the helpers
/// below word the answers that are the same everywhere.
///
/// Invariants: every rule counts its own events; when several rules are due at once, the one that
/// comes first in the list acts. Thread-safe and lock-free but for start(): events of several vCPUs
/// are counted in some order.
class HostileScript {
 public:
  static constexpr std::size_t kMaxRules = 32;

  /// An honest host.
  HostileScript() = default;
  /// `rules` outlives its use. Precondition: at most kMaxRules.
  explicit HostileScript(std::span<const HostileRule> rules) { start(rules); }
  HostileScript(const HostileScript&) = delete;
  HostileScript& operator=(const HostileScript&) = delete;

  /// Puts `rules` in the place of those before, every count at zero; an empty list makes the host
  /// honest again. Preconditions: as the constructor; nobody is in consult().
  void start(std::span<const HostileRule> rules);

  /// The guest does `event` to `pages`.
  [[nodiscard]] HostileDeed consult(HostileEvent event, PhysRange pages);

  /// How often rule number `rule` has acted.
  [[nodiscard]] std::uint64_t acted(std::size_t rule) const;

 private:
  std::span<const HostileRule> rules_;
  std::array<std::atomic<std::uint64_t>, kMaxRules> seen_{};
  std::array<std::atomic<std::uint64_t>, kMaxRules> acted_{};
};

/// RAX of a MEM.PAGE.ACCEPT with operand `rcx` that `deed` answers in the module's place; nothing
/// when the honest model is to answer.
[[nodiscard]] std::optional<std::uint64_t> accept_lie(const HostileDeed& deed, std::uint64_t rcx);

/// R10 and R11 of a MapGPA.
struct MapGpaLie {
  std::uint64_t r10 = 0;
  std::uint64_t r11 = 0;
};
/// The answer to MapGPA of R12 = `start`, R13 = `size` that `deed` gives in the host's place;
/// nothing when the honest model is to answer.
[[nodiscard]] std::optional<MapGpaLie> map_gpa_lie(const HostileDeed& deed, std::uint64_t start,
                                                   std::uint64_t size);

/// The header that a page-state change list comes back with: the guest gave `asked`, the honest
/// answer is `honest`.
[[nodiscard]] std::uint64_t psc_header_lie(const HostileDeed& deed, std::uint64_t asked,
                                           std::uint64_t honest);

}  // namespace accede::host
