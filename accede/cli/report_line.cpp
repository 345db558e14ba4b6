#include "accede/cli/report_line.hpp"

#include "accede/cli/json_fields.hpp"

#include <charconv>
#include <optional>

namespace accede::cli {
namespace {

/// `0x123` as a number.
std::optional<std::uint64_t> parse_hex(std::string_view text) {
  if (!text.starts_with("0x")) {
    return std::nullopt;
  }
  text.remove_prefix(2);
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  return error == std::errc{} && end == text.data() + text.size() ? std::optional{value}
                                                                  : std::nullopt;
}

ReportLine takeover(const nlohmann::json& object) {
  const auto gpa = parse_hex(text_field(object, "report_gpa"));
  const auto size = number_field(object, "report_bytes");
  if (!gpa || !size) {
    return UnknownLine{};
  }
  return Takeover{.report_gpa = PhysAddr{*gpa}, .report_size = Bytes{*size}};
}

ReportLine firmware_plan(const nlohmann::json& object) {
  const auto accepts = number_field(object, "accepts_bytes");
  if (!accepts) {
    return UnknownLine{};
  }
  return FirmwarePlan{.accepts = Bytes{*accepts}};
}

ReportLine kernel_returned(const nlohmann::json& object) {
  const auto status = number_field(object, "status");
  if (!status) {
    return UnknownLine{};
  }
  return KernelReturned{.status = *status};
}

Fault fault(const nlohmann::json& object) {
  return {.kind = text_field(object, "kind"),
          .gpa = text_field(object, "gpa"),
          .rip = text_field(object, "rip"),
          .state = text_field(object, "state"),
          .message = text_field(object, "message")};
}

}  // namespace

ReportLine parse_report_line(std::string_view line) {
  const auto object = parse_object(line);
  if (!object) {
    return UnknownLine{};
  }
  const std::string event = text_field(*object, "event");
  if (event == "launcher") {
    return LauncherStarted{.version = text_field(*object, "version")};
  }
  if (event == "firmware-plan") {
    return firmware_plan(*object);
  }
  if (event == "takeover") {
    return takeover(*object);
  }
  if (event == "kernel-start") {
    return KernelStarted{};
  }
  if (event == "boot-services-exited") {
    return BootServicesExited{};
  }
  if (event == "kernel-returned") {
    return kernel_returned(*object);
  }
  if (event == "error") {
    return LauncherError{.message = text_field(*object, "message")};
  }
  if (event == "fault") {
    return fault(*object);
  }
  if (event == "guest-panic") {
    return GuestPanic{.message = text_field(*object, "message")};
  }
  return UnknownLine{};
}

}  // namespace accede::cli
