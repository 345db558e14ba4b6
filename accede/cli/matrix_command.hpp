// `accede matrix`: boots each firmware with each kernel and compares.
#pragma once

#include "accede/cli/boot_options.hpp"
#include "accede/cli/failure.hpp"

#include <expected>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

namespace accede::cli {

/// The options as typed; absent means not given.
struct RawMatrixOptions {
  std::optional<std::string> platform = {};
  std::optional<std::string> memory = {};
  std::optional<std::string> kernels = {};
  std::optional<std::string> accept_cost = {};
  std::optional<std::string> timeout = {};
  bool json = false;
};

struct MatrixOptions {
  /// What the boots of one platform have in common: two kernels, the unenlightened one first. At
  /// least one platform.
  std::vector<BootOptions> platforms;
  bool json = false;
};

/// The least memory of a VM that has any to accept: QEMU gives a VM of up to 2816 MiB all of it
/// below 4 GiB, where OVMF accepts it.
inline constexpr Bytes kLeastMatrixMemory{3ULL << 30};

/// Every error is one line that names the option.
[[nodiscard]] std::expected<MatrixOptions, Failure> check_matrix_options(
    const RawMatrixOptions& raw);

/// Boots the cells one after the other, so that their seconds compare, and reports. A boot that
/// fails is a cell; the exit code is 1 when there is one, for each combination is predicted to
/// boot. A prediction that does not hold is reported and changes no exit code. A signal ends the
/// command with what a person can still be told: the cells so far.
[[nodiscard]] int matrix_command(const MatrixOptions& options, std::ostream& out,
                                 std::ostream& err);

}  // namespace accede::cli
