// What an inspection says, as a line of JSON and as text.
#pragma once

#include "accede/cli/inspect_boot.hpp"
#include "accede/inspect/claims.hpp"
#include "accede/inspect/report.hpp"

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace accede::cli {

/// Which file it was: what a catalogue knows it by.
struct InspectedFile {
  std::string path;
  std::uint64_t bytes = 0;
  std::int64_t modified = 0;  ///< seconds since the epoch
};

/// `claims`: nothing when there were none to check. `booted`: nullptr when nobody asked for that.
[[nodiscard]] nlohmann::ordered_json inspection_json(
    const InspectedFile& file, const inspect::Report& report,
    const std::optional<inspect::ClaimCheck>& claims, const BootedImage* booted = nullptr);

/// For a file that cannot be inspected. `message` goes on from the file's name.
[[nodiscard]] nlohmann::ordered_json inspection_error_json(const InspectedFile& file,
                                                           const std::string& message);

/// One line, with its end. Text that is not UTF-8 is replaced.
[[nodiscard]] std::string json_line(const nlohmann::ordered_json& value);

/// Several lines for a person.
[[nodiscard]] std::string inspection_text(const InspectedFile& file, const inspect::Report& report,
                                          const std::optional<inspect::ClaimCheck>& claims,
                                          const BootedImage* booted = nullptr);

}  // namespace accede::cli
