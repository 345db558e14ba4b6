#include "accede/cli/matrix_fidelity.hpp"

namespace accede::cli {
namespace {

/// What a kernel calls the platform when it names its memory encryption.
std::string_view encryption_of(Platform platform) {
  return platform == Platform::kSnp ? "SEV-SNP" : "Intel TDX";
}

/// A kernel without code for the platform runs here because the emulator lets pass what hardware
/// would not.
std::string why_hardware_stops_it(Platform platform) {
  return platform == Platform::kSnp
             ? "on hardware it does not start"
             : "on hardware its first access to a port raises #VE, and it has no handler";
}

/// Precondition: the kernel did not name the platform as its memory encryption.
std::string kernel_that_named_nothing(Platform platform, const CellFigures& figures) {
  const std::string code = "code for " + std::string{encryption_of(platform)} + " guests";
  return figures.outcome == Outcome::kUserspace
             ? figures.kernel + " has no " + code + ": " + why_hardware_stops_it(platform)
             : "nobody can tell whether " + figures.kernel + " has " + code +
                   ": it did not come up";
}

}  // namespace

bool is_shipped(Platform platform, FirmwareKind kind) {
  switch (kind) {
    case FirmwareKind::kAcceptAll:
      return true;
    case FirmwareKind::kHandshake:
      return platform == Platform::kSnp;
    case FirmwareKind::kNever:
      return platform == Platform::kTdx;
  }
  return false;
}

std::string_view firmware_history(Platform platform, FirmwareKind kind) {
  const bool snp = platform == Platform::kSnp;
  switch (kind) {
    case FirmwareKind::kAcceptAll:
      return snp ? "OVMF before edk2-stable202302 did this"
                 : "OVMF before edk2-stable202211 did this";
    case FirmwareKind::kHandshake:
      return snp ? "OVMF does this since edk2-stable202302"
                 : "OVMF never had the handshake for TDX";
    case FirmwareKind::kNever:
      return snp ? "no OVMF for SEV-SNP leaves memory unaccepted unless the kernel asks for it"
                 : "OVMF does this since edk2-stable202211";
  }
  return "";
}

std::vector<std::string> only_here_because(const MatrixCell& cell) {
  const CellPlace& place = cell.place;
  const CellFigures& figures = cell.figures;
  std::vector<std::string> reasons;
  if (!is_shipped(place.platform, place.firmware)) {
    reasons.emplace_back(firmware_history(place.platform, place.firmware));
  }
  if (figures.encryption.find(encryption_of(place.platform)) == std::string::npos) {
    reasons.push_back(kernel_that_named_nothing(place.platform, figures));
  }
  if (place.column == KernelColumn::kHandshakeDropped) {
    reasons.push_back("no released Linux has dropped the handshake: it is hidden from " +
                      figures.kernel);
  }
  return reasons;
}

std::string fidelity(const MatrixCell& cell) {
  std::string text;
  for (const std::string& reason : only_here_because(cell)) {
    text += (text.empty() ? "emulator only, because " : "; ") + reason;
  }
  return text.empty() ? "as shipped" : text;
}

}  // namespace accede::cli
