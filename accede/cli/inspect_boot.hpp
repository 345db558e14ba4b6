// What boots of an image showed, in the words of an inspection, and where that is not what the
// image says of itself.
#pragma once

#include "accede/cli/failure.hpp"
#include "accede/cli/run_result.hpp"
#include "accede/inspect/report.hpp"

#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace accede::cli {

/// The image says one thing, its boot shows another.
struct Disagreement {
  std::string subject;  ///< a capability as JSON names it, "version", or what was booted
  std::string image;    ///< what the image says: "yes", "no", a version, a promise
  std::string boot;     ///< what the boot showed
};

/// An image that was booted, or why it was not.
struct BootedImage {
  std::vector<RunResult> runs = {};
  /// Goes on from "not booted: ". Runs before it may be there.
  std::string problem = {};
  bool failed = false;  ///< the problem is one: not just an image that nobody could start
  /// Ends when boot services do and the init is somebody's: see Expectations::on_its_own.
  bool on_its_own = false;
  inspect::Report seen = {};
  std::vector<Disagreement> disagreements = {};
};

/// What its boots mean for the exit code. A boot that nobody could see the end of is none that did
/// not end.
[[nodiscard]] ExitCode exit_code(const BootedImage& booted);

/// Counters of one run, as far as they tell who accepted.
struct Acceptance {
  Bytes lazy;  ///< was unaccepted when the guest started
  Bytes by_firmware;
  /// Loader and kernel, without what they had before: an SNP guest validates pages again that it
  /// takes back from the host.
  Bytes by_image;

  /// The firmware left memory to the image.
  [[nodiscard]] bool left_some() const { return by_firmware < lazy; }
};

/// Nothing when the run left no report, or no memory was unaccepted.
[[nodiscard]] std::optional<Acceptance> acceptance_of(const RunResult& run);

/// "tdx, handshake"
[[nodiscard]] std::string place_of(const RunResult& run);

/// Capabilities that a boot can show.
inline constexpr std::array kBootShows{inspect::Feature::kSevGuest,
                                       inspect::Feature::kSnpGuest,
                                       inspect::Feature::kTdxGuest,
                                       inspect::Feature::kUnacceptedMemory,
                                       inspect::Feature::kUnacceptedMemoryTdx,
                                       inspect::Feature::kUnacceptedMemorySnp,
                                       inspect::Feature::kHandshake,
                                       inspect::Feature::kEfiStub};

/// What the runs of one image showed: capabilities that it used, and those that it did not use
/// where it would have had to. Evidence::place names the run; its offset means nothing. An image
/// that did not come up refutes nothing: what it did not do, it may have had no time for.
[[nodiscard]] inspect::Report see_runs(std::span<const RunResult> runs);

/// Whether a run on firmware that never accepts would tell more than this one on firmware with the
/// handshake: the firmware accepted everything, so that nothing was left to accept.
[[nodiscard]] bool needs_unhelpful_firmware(const RunResult& run);

/// What `image` says and `runs` show otherwise. An answer that either does not have is no
/// disagreement. Promises count, too: a guest of a platform comes up on it, and one that accepts
/// memory sees all of it.
[[nodiscard]] std::vector<Disagreement> compare(const inspect::Report& image,
                                                std::span<const RunResult> runs);

/// `image`, and what its boots showed, which counts where they differ.
[[nodiscard]] inspect::Report with_boots(inspect::Report image, const BootedImage& booted);

[[nodiscard]] nlohmann::ordered_json boot_json(const BootedImage& booted);

/// Rows of name and value for a person.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> boot_rows(const BootedImage& booted);

}  // namespace accede::cli
