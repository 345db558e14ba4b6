// What stops the loader: one line for the user and a status for the firmware.
#pragma once

#include "accede/abi/efi.hpp"
#include "accede/base/text_buffer.hpp"
#include "accede/efi/firmware.hpp"
#include "accede/efi/loader/options.hpp"
#include "accede/firmware/linux_boot_error.hpp"

#include <expected>
#include <string_view>

namespace accede::efi::loader {

using Line = TextBuffer<320>;

struct Problem {
  Line line{};
  abi::efi::Status status = abi::efi::Status::kLoadError;
};

template <class T>
using Outcome = std::expected<T, Problem>;

/// `subject` (a path, empty: none) and `what`.
[[nodiscard]] std::unexpected<Problem> problem(abi::efi::Status status, std::string_view what,
                                               std::string_view subject = {});
/// The firmware's own status goes into the line.
[[nodiscard]] std::unexpected<Problem> problem(abi::efi::Status status, const Failure& failure,
                                               std::string_view subject = {});
/// With the figures of the error. InvalidParameter.
[[nodiscard]] std::unexpected<Problem> problem(const OptionsError& error);
/// With the figures of the error.
[[nodiscard]] std::unexpected<Problem> problem(abi::efi::Status status,
                                               const firmware::LinuxBootError& error,
                                               std::string_view subject = {});

/// The line of a LinuxBootError, with its figures.
void describe(Line& line, const firmware::LinuxBootError& error);

}  // namespace accede::efi::loader
