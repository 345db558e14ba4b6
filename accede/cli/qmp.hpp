// QEMU's machine protocol, as far as a boot needs it.
#pragma once

#include "accede/base/units.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

namespace accede::cli {

/// QEMU is there and wants the capabilities command.
struct QmpGreeting {};
/// The command with this id is done.
struct QmpDone {
  std::uint64_t id = 0;
};
struct QmpError {
  std::uint64_t id = 0;
  std::string message;
};
/// The guest asked for power-off or reset; the VM stands still, its memory is intact.
struct QmpShutdown {
  std::string reason;  ///< "guest-shutdown", "guest-reset", ...
};
struct QmpOther {};

using QmpMessage = std::variant<QmpOther, QmpGreeting, QmpDone, QmpError, QmpShutdown>;

[[nodiscard]] QmpMessage parse_qmp(std::string_view line);

/// Commands, each a line to be sent.
[[nodiscard]] std::string qmp_capabilities();
/// Saves guest memory to `file` and answers with `id`.
[[nodiscard]] std::string qmp_save_memory(std::uint64_t id, PhysAddr begin, Bytes size,
                                          const std::string& file);

}  // namespace accede::cli
