// The GHCB page of a UEFI program, beside the firmware's own.
#pragma once

#include "accede/efi/firmware.hpp"
#include "accede/efi/platform.hpp"

#include <expected>
#include <string_view>

namespace accede::efi {

/// Reserved memory below 4 GiB for a GHCB page: no kernel that is started later uses a page that
/// the host could still write.
struct GhcbRoom {
  PhysRange page;
  PhysRange tables;  ///< for splitting the page out of a larger one

  /// Taken from the firmware.
  [[nodiscard]] static Result<GhcbRoom> reserve(const Firmware& firmware);
};

/// A page for lists to the host. Without one the platform goes on by the MSR protocol, a page at a
/// time. Not copied or moved.
class GhcbMemory {
 public:
  /// Both outlive the object. Precondition: platform.is_snp().
  GhcbMemory(const Firmware& firmware, MachinePlatform& platform, const GhcbRoom& room)
      : firmware_{firmware}, platform_{platform}, room_{room} {}
  /// Makes the page private again and gives it back to the firmware; a page that the host does not
  /// let go stays reserved. Precondition: boot services are there.
  ~GhcbMemory();
  GhcbMemory(const GhcbMemory&) = delete;
  GhcbMemory& operator=(const GhcbMemory&) = delete;

  /// Shares the page with the host and gives it to the platform. Calls no service of the firmware,
  /// so that it can be used while memory that the firmware takes for its own is not accepted yet.
  /// Once. Errors: a phrase for the user; the platform is as it was. Precondition: the firmware's
  /// page tables are in use and map memory at its own address.
  [[nodiscard]] std::expected<void, std::string_view> share();

 private:
  enum class State : std::uint8_t {
    kReserved,
    kShared,  ///< and mapped so
    kLost,    ///< nobody may use it any more
  };

  [[nodiscard]] bool make_private();

  const Firmware& firmware_;
  MachinePlatform& platform_;
  GhcbRoom room_;
  State state_ = State::kReserved;
};

}  // namespace accede::efi
