// One boot of the matrix of firmware and kernels, judged by what was measured.
#pragma once

#include "accede/base/units.hpp"
#include "accede/cli/boot_options.hpp"
#include "accede/cli/run_result.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace accede::cli {

/// The columns of the matrix, in the order in which a user upgrades.
enum class KernelColumn {
  kUnenlightened,     ///< knows nothing of unaccepted memory
  kEnlightened,       ///< accepts memory itself, and tells the firmware so by the handshake
  kHandshakeDropped,  ///< accepts memory itself and tells nobody
};

/// The rows, in the order in which a user upgrades: deployed, near future, far future.
inline constexpr std::array kMatrixFirmware{FirmwareKind::kAcceptAll, FirmwareKind::kHandshake,
                                            FirmwareKind::kNever};
inline constexpr std::array kMatrixKernels{KernelColumn::kUnenlightened, KernelColumn::kEnlightened,
                                           KernelColumn::kHandshakeDropped};

/// `deployed`, `near future`, `far future`: the words of the discussion that the matrix is from.
[[nodiscard]] std::string_view age(FirmwareKind kind);

/// `unenlightened`, `enlightened`, `handshake dropped`.
[[nodiscard]] std::string_view name(KernelColumn column);

/// Where in the matrices of all platforms a cell stands.
struct CellPlace {
  Platform platform = Platform::kTdx;
  FirmwareKind firmware = FirmwareKind::kAcceptAll;
  KernelColumn column = KernelColumn::kUnenlightened;

  friend bool operator==(const CellPlace&, const CellPlace&) = default;
};

/// Who accepted how much of the memory above 4 GiB until user space was up.
struct AcceptedShares {
  Bytes pending;  ///< what was unaccepted when the firmware began
  Bytes by_firmware;
  Bytes by_kernel;
  Bytes total;  ///< by everybody; may exceed `pending` by what was shared in between
};

/// What is kept of a boot.
struct CellFigures {
  std::optional<Outcome> outcome;  ///< nothing: the launcher could not go on
  std::string message;             ///< why it did not get to user space; may be empty
  std::string kernel;              ///< version
  std::string encryption;          ///< as the kernel says it; empty: it knows of none
  double seconds = 0;              ///< start of the VM to user space, or to the end of a failed run
  std::optional<double> kernel_to_init;
  std::optional<Bytes> mem_total;
  std::optional<Bytes> lost;  ///< RAM of the VM that the kernel cannot see
  std::optional<AcceptedShares> accepted;
  std::size_t broken_rules = 0;  ///< places where the guest did what hardware may punish
};

struct MatrixCell {
  CellPlace place;
  CellFigures figures;
};

/// The unenlightened kernel on firmware that accepted hardly anything, and never more: how far it
/// gets with work that wants memory.
struct ScarceBoot {
  Platform platform = Platform::kTdx;
  Bytes asked_to_accept;  ///< of the firmware, beyond what a loader needs
  Bytes wanted;           ///< memory that the work asked for
  CellFigures figures;
  std::optional<Bytes> touched;  ///< memory that the work got; nothing: it did not begin
  bool out_of_memory = false;    ///< there was no more
};

/// The matrices of one or more platforms, as far as they were booted.
struct MatrixReport {
  Bytes memory;  ///< of each VM
  /// Of 2 MiB, modelled; nothing: memory is zeroed.
  std::optional<std::chrono::nanoseconds> accept_cost = std::nullopt;
  std::vector<MatrixCell> cells;
  std::vector<ScarceBoot> scarce = {};
};

[[nodiscard]] CellFigures figures_of(const RunResult& result);

[[nodiscard]] ScarceBoot scarce_boot_of(const RunResult& result, Bytes asked_to_accept,
                                        Bytes wanted);

/// What a cell came to.
enum class BootClass {
  kFast,        ///< all RAM, and some of it not accepted yet when user space is up
  kSlow,        ///< all RAM, all of it accepted before user space is up
  kLimited,     ///< RAM is lost
  kDidNotBoot,  ///< no user space
  kUnmeasured,  ///< user space, but figures are missing
};

/// Less than this is noise: what firmware keeps for itself, what a kernel shares and takes back.
inline constexpr Bytes kNoticeable{64ULL << 20};

/// Decided by memory alone: who accepted how much and what is lost. Times do not matter, they
/// depend on the machine.
[[nodiscard]] BootClass classify(const CellFigures& figures);

/// `fast boot`, `slow boot`, `limited RAM`; how a boot ended that did not reach user space;
/// `not measured`.
[[nodiscard]] std::string_view class_name(const CellFigures& figures);

/// What the discussion of 2023 predicts (Dave Hansen's table, as corrected: docs/matrix.md). Never
/// kDidNotBoot: each combination boots.
[[nodiscard]] BootClass predicted(FirmwareKind firmware, KernelColumn column);

/// `fast boot`, `slow boot`, `limited RAM`. Precondition: a class that `predicted` gives.
[[nodiscard]] std::string_view prediction_name(BootClass prediction);

/// Why the prediction does not hold, as a phrase with the figures; nothing when it holds. A slow
/// boot is predicted because the firmware accepts everything, limited RAM because nobody accepts
/// what the firmware left: another cause for the same class is a difference.
[[nodiscard]] std::optional<std::string> difference(BootClass prediction,
                                                    const CellFigures& figures);

}  // namespace accede::cli
