// The launcher's configuration file, docs/emulator.md.
#pragma once

#include "accede/firmware/acceptance_plan.hpp"
#include "accede/firmware/negotiation.hpp"

#include <cstdint>
#include <expected>
#include <string_view>

namespace accede::efi {

inline constexpr std::string_view kDefaultKernel = "\\accede\\kernel.efi";

inline constexpr std::uint64_t kMostMapHoles = 1'000;

/// How the firmware's memory map misleads the program that is started; for tests of loaders.
enum class MapLie : std::uint8_t {
  kNone,
  kOverlap,    ///< unaccepted memory that is also usable
  kWrap,       ///< memory that ends beyond the address space
  kUnaligned,  ///< memory that begins inside a page
  kRestless,   ///< a key that is never right: ExitBootServices always fails
  kGrow,       ///< a map that is longer at each call
  kNoTable,    ///< no lie: there is no memory for an unaccepted table
};

struct LauncherConfig {
  enum class Platform : std::uint8_t { kTdx, kSnp, kNone };
  using Firmware = accede::firmware::FirmwareKind;

  Platform platform = Platform::kTdx;
  Firmware firmware = Firmware::kNever;
  /// How much the firmware accepts before a loader starts, unless it accepts all.
  accede::firmware::AcceptanceScope accept_scope = accede::firmware::AcceptanceScope::kBelow4G;
  std::uint64_t accept_at_least = 0;  ///< bytes, for AcceptanceScope::kAtLeast
  /// A kernel cannot find the handshake, and so does not promise anything.
  bool hide_handshake = false;
  bool back_with_4k = false;
  bool log_events = true;
  /// A touch of unaccepted memory stops the guest; else it raises #VE or #VC in it.
  bool stop_on_unaccepted = true;
  std::uint64_t accept_cost_ns = 0;
  std::uint64_t map_holes = 0;  ///< single pages that the firmware keeps, at most kMostMapHoles
  MapLie map_lie = MapLie::kNone;
  std::string_view shim;    ///< empty: none; else it is started, and starts the kernel
  std::string_view loader;  ///< empty: the kernel's own EFI stub is started
  /// `kernel` lies on another volume than ours: a disk boots by itself.
  bool from_disk = false;
  std::string_view kernel = kDefaultKernel;
  std::string_view initrd;
  std::string_view append;
};

struct ConfigError {
  enum class Kind : std::uint8_t { kNoEquals, kUnknownKey, kBadValue };
  Kind kind;
  std::uint32_t line;  ///< counted from 1
};

[[nodiscard]] std::string_view describe(ConfigError::Kind kind);

/// Reads the whole text; the result points into it. The last of several equal keys counts.
[[nodiscard]] std::expected<LauncherConfig, ConfigError> parse_launcher_config(
    std::string_view text);

}  // namespace accede::efi
