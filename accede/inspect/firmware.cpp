#include "accede/inspect/firmware.hpp"

#include "accede/abi/efi.hpp"
#include "accede/inspect/firmware_tables.hpp"
#include "accede/inspect/firmware_volume.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <initializer_list>
#include <string_view>
#include <utility>

namespace accede::inspect {
namespace {

using abi::efi::Guid;
using image::Knows;

constexpr Guid kAmdSevDxe{
    0x2EC9DA37, 0xEE35, 0x4DE9, {0x86, 0xC5, 0x6D, 0x9A, 0x81, 0xDC, 0x38, 0xA7}};
constexpr Guid kTdxDxe{
    0xE750224E, 0x7BCE, 0x40AF, {0xB5, 0xBB, 0x47, 0xE3, 0x61, 0x1E, 0xB5, 0xC2}};

/// A volume that begins later does not make a file a flash image.
constexpr std::size_t kLastFirstVolume = 64 << 10;

std::vector<Evidence> operator+(std::vector<Evidence> all, const std::vector<Evidence>& more) {
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

/// A conclusion on everything that was read.
Capability certain(bool value, std::vector<Evidence> evidence) {
  return {.value = value ? Knows::kYes : Knows::kNo,
          .confidence = Confidence::kCertain,
          .evidence = std::move(evidence)};
}

/// What the conclusions rest on.
class Findings {
 public:
  Findings(const FirmwareTables& tables, const FirmwareVolumes& volumes)
      : tables_{tables},
        volumes_{volumes},
        sev_driver_{volumes.find(kAmdSevDxe)},
        tdx_driver_{volumes.find(kTdxDxe)} {}

  [[nodiscard]] Capability sev() const { return driver(sev_driver_, "AmdSevDxe"); }

  [[nodiscard]] Capability snp() const {
    const bool metadata =
        tables_.sev && tables_.sev->has(kSevSecretsPage) && tables_.sev->has(kSevCpuidPage);
    return with_metadata(sev(), metadata, metadata ? tables_.sev->offset : 0,
                         metadata ? "SEV metadata: secrets and CPUID page"
                                  : "no SEV metadata with secrets and CPUID page");
  }

  [[nodiscard]] Capability tdx() const {
    const bool metadata =
        tables_.tdx && tables_.tdx->has(kTdxBootVolume) && tables_.tdx->has(kTdxHob);
    return with_metadata(driver(tdx_driver_, "TdxDxe"), metadata,
                         metadata ? tables_.tdx->offset : 0,
                         metadata ? "TDX metadata: boot volume and HOB"
                                  : "no TDX metadata with boot volume and HOB");
  }

  [[nodiscard]] Capability accept_protocol() const {
    return protocol(abi::efi::kMemoryAcceptProtocol, "EDKII_MEMORY_ACCEPT_PROTOCOL",
                    {sev_driver_, tdx_driver_});
  }
  [[nodiscard]] Capability handshake() const {
    return protocol(abi::efi::kMemoryAcceptanceHandshakeProtocol,
                    "OVMF_SEV_MEMORY_ACCEPTANCE_PROTOCOL", {sev_driver_});
  }
  /// TDX firmware with the accept protocol leaves all memory above 4 GiB unaccepted.
  [[nodiscard]] Capability unaccepted_tdx() const {
    return given(tdx(), protocol(abi::efi::kMemoryAcceptProtocol, "EDKII_MEMORY_ACCEPT_PROTOCOL",
                                 {tdx_driver_}));
  }
  /// SNP firmware with the handshake does, when the kernel asks for it.
  [[nodiscard]] Capability unaccepted_snp() const { return given(snp(), handshake()); }

 private:
  /// That the drivers were looked at: for a conclusion that something is not there.
  [[nodiscard]] std::vector<Evidence> looked_at() const {
    if (!volumes_.problems().empty() || volumes_.files().empty()) {
      return {};
    }
    const FirmwareFile& last = volumes_.files().back();
    return {{std::to_string(volumes_.files().size()) + " files, none with it", last.place,
             last.offset}};
  }

  [[nodiscard]] Capability absent() const {
    auto evidence = looked_at();
    return evidence.empty() ? Capability{} : certain(false, std::move(evidence));
  }

  [[nodiscard]] Capability driver(const FirmwareFile* file, std::string name) const {
    return file == nullptr ? absent()
                           : certain(true, {{"driver " + name, file->place, file->offset}});
  }

  static Capability with_metadata(Capability driver, bool metadata, std::size_t offset,
                                  std::string signal) {
    if (driver.value != Knows::kYes) {
      return driver;
    }
    return certain(metadata,
                   driver.evidence + std::vector<Evidence>{{std::move(signal), "file", offset}});
  }

  /// A protocol that one of `drivers` produces: its GUID lies in the driver.
  [[nodiscard]] Capability protocol(const Guid& guid, std::string name,
                                    std::initializer_list<const FirmwareFile*> drivers) const {
    const auto bytes = std::bit_cast<std::array<std::byte, sizeof(Guid)>>(guid);
    std::vector<Evidence> evidence;
    for (const FirmwareFile* const file : drivers) {
      if (file == nullptr) {
        continue;
      }
      const auto at = std::ranges::search(file->content, bytes);
      if (!at.empty()) {
        evidence.push_back(
            {"GUID of " + name + (file == sev_driver_ ? " in AmdSevDxe" : " in TdxDxe"),
             file->place,
             file->content_offset + static_cast<std::size_t>(at.begin() - file->content.begin())});
      }
    }
    return evidence.empty() ? absent() : certain(true, std::move(evidence));
  }

  /// `what` of a guest that the firmware starts in.
  static Capability given(Capability guest, Capability what) {
    return guest.value != Knows::kYes ? guest : what;
  }

  const FirmwareTables& tables_;
  const FirmwareVolumes& volumes_;
  const FirmwareFile* sev_driver_;
  const FirmwareFile* tdx_driver_;
};

Machine machine_of(const FirmwareVolumes& volumes) {
  const auto& files = volumes.files();
  const auto with_code =
      std::ranges::find_if(files, [](const auto& file) { return file.machine.has_value(); });
  if (with_code == files.end()) {
    return Machine::kUnknown;
  }
  return inspect::machine_of(*with_code->machine);
}

/// The first release of edk2 with what was found.
std::string oldest_release(const Report& report, const FirmwareTables& tables) {
  std::string_view release;
  if (tables.igvm) {
    release = "202511";
  } else if (tables.sev && tables.sev->has(kSevSvsmCallingArea)) {
    release = "202405";
  } else if (tables.sev && tables.sev->has(kSevKernelHashes)) {
    release = "202402";
  } else if (report.has(Feature::kHandshake)) {
    release = "202302";
  } else if (report.has(Feature::kAcceptProtocol)) {
    release = "202211";
  }
  return release.empty() ? "" : "edk2-stable" + std::string{release} + " or later";
}

std::string guests(bool tdx, bool snp) {
  return tdx && snp ? "TDX and SEV-SNP guests"
         : tdx      ? "TDX guests"
         : snp      ? "SEV-SNP guests"
                    : "no guests";
}

/// Which of the three kinds the firmware is, and for which guests.
Verdict verdict_of(const Report& report) {
  const bool tdx = report.has(Feature::kTdxGuest);
  const bool snp = report.has(Feature::kSnpGuest);
  const bool tdx_lazy = report.has(Feature::kUnacceptedMemoryTdx);
  const bool snp_lazy = report.has(Feature::kUnacceptedMemorySnp);
  return {.accept_all = guests(tdx && !tdx_lazy, snp && !snp_lazy),
          .handshake = guests(false, snp_lazy),
          .never = guests(tdx_lazy, false)};
}

void note_metadata(Report& report, std::string_view name,
                   const std::optional<FirmwareMetadata>& metadata) {
  if (metadata) {
    report.notes.push_back(std::string{name} + " metadata of " +
                           std::to_string(metadata->sections.size()) + " sections at byte " +
                           std::to_string(metadata->offset));
  }
}

Report conclude(const FirmwareTables& tables, const FirmwareVolumes& volumes) {
  Report report{.kind = ImageKind::kOvmf, .machine = machine_of(volumes)};
  report.notes = tables.problems;
  report.notes.insert(report.notes.end(), volumes.problems().begin(), volumes.problems().end());
  note_metadata(report, "SEV", tables.sev);
  note_metadata(report, "TDX", tables.tdx);
  if (volumes.files().empty()) {
    report.notes.emplace_back("no firmware code: a store of variables");
    const std::string none = "no firmware code";
    report.verdict = {.accept_all = none, .handshake = none, .never = none};
    return report;
  }
  const Findings findings{tables, volumes};
  report[Feature::kSevGuest] = findings.sev();
  report[Feature::kSnpGuest] = findings.snp();
  report[Feature::kTdxGuest] = findings.tdx();
  report[Feature::kUnacceptedMemoryTdx] = findings.unaccepted_tdx();
  report[Feature::kUnacceptedMemorySnp] = findings.unaccepted_snp();
  report[Feature::kUnacceptedMemory] = report.has(Feature::kUnacceptedMemoryTdx)
                                           ? report[Feature::kUnacceptedMemoryTdx]
                                           : report[Feature::kUnacceptedMemorySnp];
  report[Feature::kHandshake] = findings.handshake();
  report[Feature::kAcceptProtocol] = findings.accept_protocol();
  report.version = oldest_release(report, tables);
  report.verdict = verdict_of(report);
  return report;
}

}  // namespace

std::optional<std::expected<Report, InspectError>> inspect_firmware(
    std::span<const std::byte> file) {
  const FirmwareTables tables = read_firmware_tables(file);
  const FirmwareVolumes volumes{file};
  const auto first = volumes.first_volume();
  if (!tables.footer && (!first || *first > kLastFirstVolume)) {
    return std::nullopt;
  }
  if (const auto at = volumes.truncated_volume()) {
    return std::unexpected{
        InspectError{.message = "ends inside the firmware volume at byte " + std::to_string(*at)}};
  }
  return conclude(tables, volumes);
}

}  // namespace accede::inspect
