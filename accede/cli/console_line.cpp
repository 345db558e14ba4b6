#include "accede/cli/console_line.hpp"

#include "accede/cli/json_fields.hpp"

#include <charconv>
#include <utility>

namespace accede::cli {
namespace {

constexpr std::string_view kInitPrefix = "ACCEDE-INIT ";
constexpr std::string_view kGuestPrefix = "ACCEDE-GUEST ";

std::optional<Bytes> bytes_field(const nlohmann::json& object, const char* name) {
  const auto number = number_field(object, name);
  return number ? std::optional{Bytes{*number}} : std::nullopt;
}

GuestState parse_state(const nlohmann::json& object) {
  const nlohmann::json meminfo = object_field(object, "meminfo");
  const auto bytes = [&meminfo](const char* name) {
    return Bytes{number_field(meminfo, name).value_or(0)};
  };
  GuestState state{.uptime_seconds = real_field(object, "uptime_seconds").value_or(0),
                   .release = text_field(object, "release"),
                   .mem_total = bytes("MemTotal"),
                   .mem_free = bytes("MemFree"),
                   .mem_available = bytes("MemAvailable"),
                   .unaccepted = std::nullopt,
                   .ram = std::nullopt,
                   .used = bytes_field(object, "used_bytes"),
                   .page_info = bytes_field(object, "page_info_bytes"),
                   .accepted = bytes_field(object, "accepted_bytes"),
                   .table = text_field(object, "table")};
  if (meminfo.contains("Unaccepted")) {
    state.unaccepted = bytes("Unaccepted");
  }
  if (const auto ram = number_field(object, "ram_bytes"); ram && *ram != 0) {
    state.ram = Bytes{*ram};
  }
  return state;
}

/// A list of [upper bound, count]; entries of another form are left out.
std::vector<LatencyBucket> parse_histogram(const nlohmann::json& object) {
  std::vector<LatencyBucket> histogram;
  const auto list = object.find("histogram");
  if (list == object.end() || !list->is_array()) {
    return histogram;
  }
  for (const nlohmann::json& entry : *list) {
    const bool pair = entry.is_array() && entry.size() == 2 && entry[0].is_number_unsigned() &&
                      entry[1].is_number_unsigned();
    if (pair) {
      histogram.push_back(
          {.upper_ns = entry[0].get<std::uint64_t>(), .count = entry[1].get<std::uint64_t>()});
    }
  }
  return histogram;
}

FirstTouch parse_first_touch(const nlohmann::json& object) {
  const auto number = [&object](const char* name) {
    return number_field(object, name).value_or(0);
  };
  return {.count = number("count"),
          .p50 = number("p50"),
          .p99 = number("p99"),
          .p999 = number("p999"),
          .p9999 = number("p9999"),
          .max = number("max"),
          .histogram = parse_histogram(object)};
}

GuestWork parse_work(const nlohmann::json& object) {
  return {.state = parse_state(object),
          .touched = Bytes{number_field(object, "touched_bytes").value_or(0)},
          .wrong_pages = number_field(object, "wrong_pages").value_or(0),
          .seconds = static_cast<double>(number_field(object, "touch_ns").value_or(0)) / 1e9,
          .stopped = text_field(object, "stopped"),
          .first_touch = parse_first_touch(object_field(object, "first_touch_ns"))};
}

GuestUp parse_up(const nlohmann::json& object, bool own_kernel) {
  GuestUp up{.state = parse_state(object),
             .own_kernel = own_kernel,
             .generation = number_field(object, "generation").value_or(1)};
  if (std::string page = text_field(object, "marked_page"); !page.empty()) {
    // A word that is not known is not taken for good news.
    up.marked_page = page == "kept" ? std::move(page) : "lost";
  }
  return up;
}

/// What our init or, with `own_kernel`, our kernel says.
ConsoleLine parse_report(std::string_view json, bool own_kernel) {
  const auto object = parse_object(json);
  if (!object) {
    return GarbledInit{};
  }
  const std::string step = text_field(*object, "step");
  if (step == (own_kernel ? "ready" : "up")) {
    return parse_up(*object, own_kernel);
  }
  if (step == "work") {
    return parse_work(*object);
  }
  if (step == "kexec") {
    return GuestKexec{.state = parse_state(*object)};
  }
  if (own_kernel && step == "fault") {
    return GuestFaultLine{.message = text_field(*object, "message")};
  }
  if (step == "off") {
    return GuestOff{};
  }
  if (step == "error") {
    return GuestError{.message = text_field(*object, "message")};
  }
  return OtherLine{};
}

/// `1K/2K available ...`: the second figure.
std::optional<Bytes> parse_memory(std::string_view text) {
  const std::size_t slash = text.find("K/");
  if (slash == std::string_view::npos) {
    return std::nullopt;
  }
  text.remove_prefix(slash + 2);
  std::uint64_t kibibytes = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), kibibytes);
  constexpr std::uint64_t kMostKibibytes = 1ULL << 42;
  const std::string_view rest = text.substr(static_cast<std::size_t>(end - text.data()));
  if (error != std::errc{} || kibibytes > kMostKibibytes || !rest.starts_with("K available")) {
    return std::nullopt;
  }
  return Bytes{kibibytes * 1024};
}

/// What follows `marker` in `line`.
std::optional<std::string_view> after(std::string_view line, std::string_view marker) {
  const std::size_t position = line.find(marker);
  return position == std::string_view::npos ? std::nullopt
                                            : std::optional{line.substr(position + marker.size())};
}

}  // namespace

bool is_guest_report(std::string_view line) {
  return line.find(kInitPrefix) != std::string_view::npos ||
         line.find(kGuestPrefix) != std::string_view::npos;
}

ConsoleLine parse_console_line(std::string_view line) {
  if (const auto json = after(line, kInitPrefix)) {
    return parse_report(*json, false);
  }
  if (const auto json = after(line, kGuestPrefix)) {
    return parse_report(*json, true);
  }
  for (const std::string_view prefix : {"accede-loader: ", "accede-guest: "}) {
    if (const auto reason = after(line, prefix)) {
      return Refusal{.reason = std::string{*reason}};
    }
  }
  if (const auto message = after(line, "Kernel panic - not syncing")) {
    const std::size_t text = message->find_first_not_of(": ");
    return KernelPanic{text == std::string_view::npos ? "" : std::string{message->substr(text)}};
  }
  if (const auto features = after(line, "Memory Encryption Features active:")) {
    const std::size_t text = features->find_first_not_of(' ');
    return EncryptionFeatures{text == std::string_view::npos ? ""
                                                             : std::string{features->substr(text)}};
  }
  if (const auto banner = after(line, "] Linux version ")) {
    return KernelBanner{std::string{banner->substr(0, banner->find(' '))}};
  }
  if (const auto figures = after(line, "] Memory: ")) {
    if (const auto ram = parse_memory(*figures)) {
      return KernelMemory{*ram};
    }
  }
  if (const auto program = after(line, "] Run ");
      program && program->ends_with("as init process")) {
    return InitStarted{};
  }
  return OtherLine{};
}

}  // namespace accede::cli
