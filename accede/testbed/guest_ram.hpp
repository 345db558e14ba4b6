// The memory of the testbed's guest: a memfd whose pages can be taken out of reach.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/phys_window.hpp"
#include "accede/base/units.hpp"
#include "accede/testbed/mapping.hpp"

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

namespace accede::testbed {

/// How pages are kept out of the guest's reach.
enum class Isolation : std::uint8_t {
  kAuto,         ///< userfaultfd where the kernel permits it, else mprotect
  kUserfaultfd,  ///< absent pages raise SIGBUS; opening one takes no process-wide lock
  kMprotect,     ///< closed pages raise SIGSEGV; works everywhere, but threads wait for each other
};
[[nodiscard]] std::string_view name(Isolation isolation);

/// Guest memory at a place of the host's choice. Pages start closed; a touch of a closed page is a
/// signal. Shared and private pages lie in the same window: an ordinary process has no second view,
/// and the testbed decides by the page's state alone.
///
/// Invariant: a closed page has no memory behind it, so that opening one is all that it takes to
/// zero it. Thread-safe, but drop() must not run at once with either on overlapping pages. Both may
/// run in a signal handler; a kernel that refuses them (no memory, too many mappings) ends the
/// process with one line of text. A child of fork() has no mapping of the window.
class GuestRam {
 public:
  /// `isolation` kUserfaultfd fails where the kernel does not permit it.
  /// Preconditions: `range` starts at a multiple of 2 MiB, is 4 KiB aligned and not empty.
  [[nodiscard]] static std::expected<GuestRam, std::string> make(PhysRange range,
                                                                 Isolation isolation);

  [[nodiscard]] PhysRange range() const { return range_; }
  [[nodiscard]] PhysWindow window() const { return window_; }
  /// kUserfaultfd or kMprotect.
  [[nodiscard]] Isolation isolation() const {
    return userfault_.valid() ? Isolation::kUserfaultfd : Isolation::kMprotect;
  }
  /// The guest address of a pointer into the window.
  [[nodiscard]] std::optional<PhysAddr> gpa_of(const void* pointer) const;

  /// Makes `pages` accessible and backs them; those that were closed read as zero, the others keep
  /// their content. Precondition: 4 KiB aligned, inside range().
  void open(PhysRange pages);
  /// Closes `pages` and gives their memory back to the host; the content is lost. Precondition as
  /// open().
  void drop(PhysRange pages);

  /// Memory that the host spends on the guest now.
  [[nodiscard]] Bytes backed() const;

 private:
  GuestRam(PhysRange range, OwnedFd file, Mapping mapping, std::byte* begin)
      : range_{range},
        file_{std::move(file)},
        mapping_{std::move(mapping)},
        window_{reinterpret_cast<std::uintptr_t>(begin) - range.begin().value()} {}
  [[nodiscard]] std::expected<void, std::string> register_userfault();
  void populate(PhysRange pages);
  void protect(PhysRange pages, int protection);

  PhysRange range_;
  OwnedFd file_;
  Mapping mapping_;
  PhysWindow window_;
  OwnedFd userfault_;  ///< invalid: mprotect
};

}  // namespace accede::testbed
