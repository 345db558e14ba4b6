#include "accede/efi/loader/problem.hpp"

namespace accede::efi::loader {

using namespace std::string_view_literals;
namespace {

using abi::efi::Status;
using firmware::LinuxBootErrorKind;

Problem begin(Status status, std::string_view subject) {
  Problem problem{.status = status};
  if (!subject.empty()) {
    problem.line.text(subject).text(": "sv);
  }
  return problem;
}

/// True when the figures of the error are addresses.
bool tells_addresses(LinuxBootErrorKind kind) {
  using enum LinuxBootErrorKind;
  return kind == kInitrdTooHigh || kind == kAbove4G || kind == kKernelMisplaced ||
         kind == kOverlap || kind == kProtocolTooOld || kind == kBadAlignment;
}

}  // namespace

void describe(Line& line, const firmware::LinuxBootError& error) {
  line.text(to_string(error.kind));
  if (error.value == 0 && error.limit == 0) {
    return;
  }
  const auto figure = [&line, hex = tells_addresses(error.kind)](std::uint64_t value) {
    hex ? line.hex(value) : line.number(value);
  };
  line.text(": "sv);
  figure(error.value);
  if (error.limit != 0) {
    line.text(" against "sv);
    figure(error.limit);
  }
}

std::unexpected<Problem> problem(Status status, std::string_view what, std::string_view subject) {
  Problem result = begin(status, subject);
  result.line.text(what);
  return std::unexpected{result};
}

std::unexpected<Problem> problem(Status status, const Failure& failure, std::string_view subject) {
  Problem result = begin(status, subject);
  result.line.text(failure.what);
  if (is_error(failure.status)) {
    result.line.text(" (status "sv).hex(static_cast<std::uint64_t>(failure.status)).text(")"sv);
  }
  return std::unexpected{result};
}

std::unexpected<Problem> problem(const OptionsError& error) {
  Problem result = begin(Status::kInvalidParameter, {});
  result.line.text(to_string(error.kind));
  if (error.kind == OptionsError::Kind::kTooLong) {
    result.line.text(": "sv).number(error.value).text(" against "sv).number(error.limit);
  } else if (error.kind == OptionsError::Kind::kNotAscii) {
    result.line.text(" at position "sv).number(error.value);
  }
  return std::unexpected{result};
}

std::unexpected<Problem> problem(Status status, const firmware::LinuxBootError& error,
                                 std::string_view subject) {
  Problem result = begin(status, subject);
  describe(result.line, error);
  return std::unexpected{result};
}

}  // namespace accede::efi::loader
