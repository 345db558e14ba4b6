// What an inspection of an image says, and why.
#pragma once

#include "accede/image/pe.hpp"
#include "accede/image/unaccepted_support.hpp"
#include "accede/inspect/disk_image.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace accede::inspect {

/// What a file is. kImage: the flat kernel of another architecture, with its EFI stub.
enum class ImageKind : std::uint8_t { kBzImage, kVmlinux, kUki, kZboot, kImage, kOvmf, kDisk };

[[nodiscard]] std::string_view to_string(ImageKind kind);

enum class Machine : std::uint8_t { kUnknown, kX86_64, kArm64, kRiscv64, kLoongArch64, kOther };

[[nodiscard]] Machine machine_of(image::PeMachine machine);

/// The architecture's tag; empty for kUnknown and kOther.
[[nodiscard]] std::string_view machine_tag(Machine machine);

/// Something in the image that a conclusion rests on.
struct Evidence {
  std::string signal;
  /// Where `offset` counts from: "file", or what was unpacked from it, as "vmlinux".
  std::string place;
  std::uint64_t offset = 0;

  friend bool operator==(const Evidence&, const Evidence&) = default;
};

/// In the order of reports. For firmware the guest is what the firmware can start in.
enum class Feature : std::uint8_t {
  kSevGuest,
  kSnpGuest,
  kTdxGuest,
  kUnacceptedMemory,     ///< kernels: accept memory themselves; firmware: leaves it unaccepted
  kUnacceptedMemoryTdx,  ///< the same on TDX
  kUnacceptedMemorySnp,  ///< the same on SEV-SNP
  kHandshake,            ///< AllowUnacceptedMemory: kernels call it, firmware offers it
  kAcceptProtocol,       ///< firmware: EDKII_MEMORY_ACCEPT_PROTOCOL
  kKexec,                ///< starts another kernel
  kKexecTarget,          ///< started by kexec, it finds the EFI tables
  kEmbeddedConfig,       ///< holds its configuration
  kEfiStub,              ///< an EFI program
};
inline constexpr std::size_t kFeatureCount = 12;

/// As JSON names it.
[[nodiscard]] std::string_view to_string(Feature feature);

/// kCertain: several independent signals, or the one that the image cannot have for another
/// reason. kLikely: a single signal. No confidence goes with kUnknown.
enum class Confidence : std::uint8_t { kLikely, kCertain };

[[nodiscard]] std::string_view to_string(Confidence confidence);

/// A conclusion. kUnknown is no answer and never stands for kNo.
struct Capability {
  image::Knows value = image::Knows::kUnknown;
  Confidence confidence = Confidence::kLikely;
  /// For kNo: the landmarks that a search found, so that what it did not find is not there.
  std::vector<Evidence> evidence = {};
  /// The image is older than the first upstream release with the feature, "6.5"; else empty.
  std::string backported_from = {};
};

/// What becomes of a guest, by the kind of firmware that it starts on (kernels); or which guests
/// the firmware is of that kind for (firmware). One line each.
struct Verdict {
  std::string accept_all;
  std::string handshake;
  std::string never;
};

struct Report {
  ImageKind kind{};
  Machine machine = Machine::kUnknown;
  /// "6.12.117+deb12-cloud-amd64"; firmware: the oldest release that it can be; empty: unknown.
  std::string version = {};
  /// "#1 SMP PREEMPT_DYNAMIC ..."; empty: unknown.
  std::string uts_version = {};
  /// Names of the bits that are set, and what packs the kernel; bzImage only.
  std::vector<std::string> xloadflags = {};
  std::string compression = {};
  /// Of the embedded configuration, the options that matter here: name without CONFIG_, and value.
  std::map<std::string, std::string> config = {};
  /// What else is worth a line.
  std::vector<std::string> notes = {};
  std::optional<DiskImage> disk = {};  ///< kDisk only
  Verdict verdict = {};
  std::array<Capability, kFeatureCount> capabilities = {};  ///< by Feature

  [[nodiscard]] Capability& operator[](Feature feature) {
    return capabilities[static_cast<std::size_t>(feature)];
  }
  [[nodiscard]] const Capability& operator[](Feature feature) const {
    return capabilities[static_cast<std::size_t>(feature)];
  }
  [[nodiscard]] bool has(Feature feature) const {
    return (*this)[feature].value == image::Knows::kYes;
  }
};

}  // namespace accede::inspect
