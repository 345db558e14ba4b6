#include "accede/inspect/kernel_file.hpp"

#include "accede/base/byte_reader.hpp"
#include "accede/image/bzimage.hpp"
#include "accede/image/pe.hpp"
#include "accede/inspect/decompress.hpp"
#include "accede/inspect/elf_image.hpp"
#include "accede/inspect/kernel_capabilities.hpp"
#include "accede/inspect/release.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

namespace accede::inspect {
namespace {

using image::BzImage;
using image::KernelSignal;
using image::Knows;
using image::PeImage;
using Inspected = std::expected<Report, InspectError>;
using FileBytes = std::span<const std::byte>;

constexpr std::string_view kVmlinux = "vmlinux";
constexpr std::size_t kMostVersionText = 512;

std::unexpected<InspectError> fail(std::string message) {
  return std::unexpected{InspectError{.message = std::move(message)}};
}

std::string at_offset(std::string_view what, std::size_t offset) {
  return std::string{what} + " (at byte " + std::to_string(offset) + ")";
}

/// Text at `offset` up to a NUL or a line's end.
std::string_view text_at(FileBytes bytes, std::size_t offset) {
  const auto rest = bytes.subspan(offset, std::min(kMostVersionText, bytes.size() - offset));
  const auto end = std::ranges::find_if(
      rest, [](std::byte c) { return c == std::byte{0} || c == std::byte{'\n'}; });
  return {reinterpret_cast<const char*>(rest.data()), static_cast<std::size_t>(end - rest.begin())};
}

/// A banner alone may be in a program about kernels, like the command.
bool is_linux(const image::KernelSignals& signals) {
  return signals[KernelSignal::kBanner] && signals[KernelSignal::kCommandLine];
}

constexpr std::array kConfigOfInterest{"AMD_MEM_ENCRYPT", "INTEL_TDX_GUEST", "UNACCEPTED_MEMORY",
                                       "KEXEC_CORE",      "KEXEC_FILE",      "EFI_STUB",
                                       "SEV_GUEST",       "TDX_GUEST_DRIVER"};

/// What the kernel itself says: signals, version where no header told it, configuration.
void look_at_kernel(FileBytes kernel, std::string_view place, std::uint64_t base, Report& report,
                    KernelFindings& findings) {
  findings.kernel = image::find_kernel_signals(kernel);
  findings.kernel_place = place;
  findings.kernel_base = base;
  const auto banner = (*findings.kernel)[KernelSignal::kBanner];
  if (banner && report.version.empty()) {
    const VersionWords words = split_version_text(text_at(kernel, *banner));
    report.version = words.release;
    report.uts_version = words.uts_version;
  }
  if (const auto mark = (*findings.kernel)[KernelSignal::kConfig]) {
    auto config = read_kernel_config(kernel, *mark);
    if (config) {
      for (const char* const option : kConfigOfInterest) {
        if (const auto value = config->find(option); value != config->end()) {
          report.config.insert(*value);
        }
      }
      findings.config = *std::move(config);
    } else {
      report.notes.push_back(config.error());
    }
  }
}

Report conclude(Report report, const KernelFindings& findings) {
  conclude_kernel(report, findings);
  report.verdict = kernel_verdict(report);
  return report;
}

void set_header_flag(Report& report, Feature feature, bool value, std::string signal,
                     std::uint64_t offset) {
  report[feature] = {.value = value ? Knows::kYes : Knows::kNo,
                     .confidence = Confidence::kCertain,
                     .evidence = {{std::move(signal), "file", offset}}};
}

// bzImage.

constexpr std::size_t kXloadflags = 0x236;
constexpr std::array kXloadflagNames{"KERNEL_64", "ABOVE_4G", "EFI_HANDOVER_32", "EFI_HANDOVER_64",
                                     "EFI_KEXEC", "5LEVEL",   "5LEVEL_ENABLED",  "MEM_ENCRYPTION"};

void read_xloadflags(const BzImage& bzimage, std::uint64_t base, Report& report) {
  const unsigned flags = bzimage.header().xloadflags;
  for (std::size_t bit = 0; bit < kXloadflagNames.size(); ++bit) {
    if ((flags >> bit & 1) != 0) {
      report.xloadflags.emplace_back(kXloadflagNames[bit]);
    }
  }
  const bool kexec = (flags & abi::linux_boot::kXlfEfiKexec) != 0;
  set_header_flag(report, Feature::kKexecTarget, kexec,
                  kexec ? "xloadflags: EFI_KEXEC" : "xloadflags without EFI_KEXEC",
                  base + kXloadflags);
}

/// The kernel in a bzImage, unpacked as far as somebody asked for.
struct Payload {
  Unpacker unpacker;
  std::size_t size;  ///< of the whole kernel, as the payload's last four bytes announce it
  Compression method;
};

std::unexpected<InspectError> unsound_payload(std::string_view why) {
  return fail("has a payload that is not sound: " + std::string{why});
}

std::expected<Payload, InspectError> open_payload(const BzImage& bzimage) {
  constexpr std::size_t kTrailer = 4;
  const auto payload = bzimage.payload();
  const auto method = recognise_compression(payload);
  if (payload.size() < kTrailer || !method) {
    return fail("has a payload that is compressed by no known method");
  }
  const std::size_t size = *ByteReader{payload}.read<std::uint32_t>(payload.size() - kTrailer);
  // The size is gzip's own last field; behind every other method it is an addition.
  const auto packed =
      *method == Compression::kGzip ? payload : payload.first(payload.size() - kTrailer);
  auto unpacker = Unpacker::open(packed, std::min(size, kMostUnpacked));
  if (!unpacker) {
    return unsound_payload(to_string(unpacker.error()));
  }
  return Payload{.unpacker = *std::move(unpacker), .size = size, .method = *method};
}

/// All of the kernel is there, and is a sound ELF file.
std::expected<void, InspectError> unpack_all(Payload& payload) {
  const auto done = payload.unpacker.unpack_to(std::numeric_limits<std::size_t>::max());
  if (!done) {
    return unsound_payload(to_string(done.error()));
  }
  const auto& kernel = payload.unpacker.bytes();
  if (kernel.size() != payload.size) {
    return unsound_payload(std::to_string(kernel.size()) + " bytes unpacked, " +
                           std::to_string(payload.size) + " announced");
  }
  if (const auto elf = parse_elf(kernel); !elf) {
    return fail("has a payload that " + elf.error());
  }
  return {};
}

/// Of methods that take a second for a kernel, what no conclusion needs stays packed.
bool is_slow(Compression method) {
  return method == Compression::kXz || method == Compression::kLzma ||
         method == Compression::kBzip2;
}

/// Every question has an answer, and the search met the landmarks.
bool is_settled(const Report& report, const KernelFindings& findings) {
  const auto& signals = *findings.kernel;
  const bool landmarks = signals[KernelSignal::kBanner] &&
                         signals[KernelSignal::kFreePagesCounter] &&
                         signals[KernelSignal::kCommandLine];
  const bool config = !signals[KernelSignal::kConfig] || findings.config;
  constexpr std::array kQuestions{Feature::kSevGuest,
                                  Feature::kSnpGuest,
                                  Feature::kTdxGuest,
                                  Feature::kUnacceptedMemory,
                                  Feature::kUnacceptedMemoryTdx,
                                  Feature::kUnacceptedMemorySnp,
                                  Feature::kHandshake,
                                  Feature::kKexec};
  return landmarks && config && std::ranges::none_of(kQuestions, [&](Feature question) {
           return report[question].value == Knows::kUnknown;
         });
}

/// Concludes from the first segment of the kernel alone: its code and its read-only data, where a
/// compiler puts texts, so that a text which is not there is not in the kernel. (The table's GUID
/// may lie behind it; it is a third signal of what two texts tell.) Nothing when the kernel is not
/// laid out like that, or a question stays open; an error when it cannot be unpacked so far.
std::expected<std::optional<Report>, InspectError> conclude_early(Payload& payload, Report report,
                                                                  KernelFindings findings) {
  constexpr std::size_t kHeaders = 4096;
  auto done = payload.unpacker.unpack_to(kHeaders);
  const auto end = end_of_first_segment(payload.unpacker.bytes(), payload.size);
  if (done && end) {
    done = payload.unpacker.unpack_to(*end);
  }
  if (!done) {
    return unsound_payload(to_string(done.error()));
  }
  if (!end || payload.unpacker.bytes().size() >= payload.size) {
    return std::nullopt;
  }
  look_at_kernel(payload.unpacker.bytes(), kVmlinux, 0, report, findings);
  report = conclude(std::move(report), findings);
  if (!is_settled(report, findings)) {
    return std::nullopt;
  }
  report.notes.push_back("unpacked to the end of the kernel's first segment: " +
                         std::to_string(payload.unpacker.bytes().size()) + " of " +
                         std::to_string(payload.size) + " bytes");
  return report;
}

/// `base`: of `file` in the file that offsets count from.
Inspected inspect_bzimage(FileBytes file, std::uint64_t base, ImageKind kind) {
  const auto bzimage = BzImage::parse(file);
  if (!bzimage) {
    const auto& error = bzimage.error();
    return fail("is no sound bzImage: " + at_offset(to_string(error.kind), error.offset));
  }
  Report report{.kind = kind, .machine = Machine::kX86_64};
  const VersionWords words = split_version_text(bzimage->version_text());
  report.version = words.release;
  report.uts_version = words.uts_version;
  read_xloadflags(*bzimage, base, report);
  const auto pe = PeImage::parse(file);
  const bool stub = pe && pe->is_efi_application();
  set_header_flag(report, Feature::kEfiStub, stub, stub ? "PE header" : "no PE header",
                  base + (stub ? pe->machine_offset() : 0));
  KernelFindings findings{.stub = image::find_unaccepted_support(file),
                          .stub_base = base,
                          .machine_offset = base + kXloadflags};
  auto payload = open_payload(*bzimage);
  if (!payload) {
    return std::unexpected{payload.error()};
  }
  report.compression = to_string(payload->method);
  if (is_slow(payload->method)) {
    auto early = conclude_early(*payload, report, findings);
    if (!early) {
      return std::unexpected{early.error()};
    }
    if (*early) {
      return **std::move(early);
    }
  }
  if (const auto done = unpack_all(*payload); !done) {
    return std::unexpected{done.error()};
  }
  look_at_kernel(payload->unpacker.bytes(), kVmlinux, 0, report, findings);
  return conclude(std::move(report), findings);
}

// Everything else.

Inspected inspect_vmlinux(FileBytes file) {
  const auto elf = parse_elf(file);
  if (!elf) {
    // Modules and libraries are no damaged kernels.
    const bool kernel = is_linux(image::find_kernel_signals(file));
    return std::unexpected{InspectError{.message = elf.error(), .recognised = kernel}};
  }
  constexpr std::size_t kMachineField = 18;
  Report report{.kind = ImageKind::kVmlinux, .machine = elf->machine};
  KernelFindings findings{.machine_offset = kMachineField};
  look_at_kernel(file, "file", 0, report, findings);
  if (!is_linux(*findings.kernel)) {
    return std::unexpected{
        InspectError{.message = "is an ELF file, but no Linux kernel", .recognised = false}};
  }
  return conclude(std::move(report), findings);
}

/// A flat kernel of another architecture, unpacked or at `base` in the file.
Inspected inspect_flat(FileBytes kernel, std::string_view place, std::uint64_t base, Report report,
                       std::uint64_t machine_offset) {
  KernelFindings findings{.machine_offset = machine_offset};
  look_at_kernel(kernel, place, base, report, findings);
  if (!is_linux(*findings.kernel)) {
    return fail("is no sound kernel: it lacks what every kernel says");
  }
  return conclude(std::move(report), findings);
}

/// Linux marks its images, in a place that is free in other EFI programs.
bool has_linux_mark(const ByteReader& file) {
  constexpr std::size_t kMark = 0x38;
  constexpr std::array<std::uint32_t, 3> kMarks{0x644D'5241,   // "ARMd"
                                                0x0543'5352,   // "RSC" and 5
                                                0x8182'23CD};  // any architecture
  const auto mark = file.read<std::uint32_t>(kMark);
  return mark && std::ranges::find(kMarks, *mark) != kMarks.end();
}

constexpr std::size_t kZbootMagicAt = 4;
constexpr std::uint32_t kZbootMagic = 0x676D'697A;  // "zimg"

bool is_zboot(const ByteReader& file) {
  return file.read<std::uint16_t>(0) == 0x5A4D &&
         file.read<std::uint32_t>(kZbootMagicAt) == kZbootMagic;
}

Inspected inspect_zboot(FileBytes file, const PeImage& pe, std::uint64_t base, Report report) {
  const ByteReader reader{file};
  constexpr std::size_t kPayload = 8;
  const auto packed = reader.slice(*reader.read<std::uint32_t>(kPayload),
                                   *reader.read<std::uint32_t>(kPayload + 4));
  if (!packed) {
    return fail("ends inside the compressed kernel");
  }
  if (const auto method = recognise_compression(*packed)) {
    report.compression = to_string(*method);
  }
  const auto kernel = decompress(*packed, kMostUnpacked);
  if (!kernel) {
    return fail("has a payload that is not sound: " + std::string{to_string(kernel.error())});
  }
  return inspect_flat(*kernel, "Image", 0, std::move(report), base + pe.machine_offset());
}

/// An EFI program that is a kernel: zboot, bzImage or flat. `kind`: kUki when it was found in one.
Inspected inspect_efi_kernel(FileBytes file, std::uint64_t base, std::optional<ImageKind> kind);

void add_uki_sections(const PeImage& pe, Report& report) {
  if (const auto uname = pe.find_section(".uname"); uname && report.version.empty()) {
    report.version = split_version_text(text_at(uname->content, 0)).release;
  }
  const auto cmdline = pe.find_section(".cmdline");
  if (cmdline && text_at(cmdline->content, 0).find("accept_memory=eager") != std::string::npos) {
    report.notes.emplace_back("its command line accepts all memory at boot (accept_memory=eager)");
  }
}

std::unexpected<InspectError> cut_off(const PeImage& pe) {
  return fail("is cut off: its sections go on to byte " + std::to_string(pe.extent()));
}

Inspected inspect_pe(FileBytes file) {
  const auto pe = PeImage::parse(file);
  if (!pe) {
    const bool truncated = pe.error().kind == image::PeErrorKind::kTruncated;
    return std::unexpected{InspectError{
        .message =
            "is no sound EFI program: " + at_offset(to_string(pe.error().kind), pe.error().offset),
        .recognised = truncated}};
  }
  if (pe->extent() > file.size()) {
    return cut_off(*pe);
  }
  if (const auto linux = pe->find_section(".linux")) {
    auto report = inspect_efi_kernel(linux->content, linux->offset, ImageKind::kUki);
    if (report) {
      add_uki_sections(*pe, *report);
    } else {
      report.error() = {.message =
                            "is a unified kernel image whose kernel " + report.error().message};
    }
    return report;
  }
  return inspect_efi_kernel(file, 0, std::nullopt);
}

bool has_setup_header(const ByteReader& file) {
  return file.read<std::uint16_t>(0x1FE) == abi::linux_boot::kBootFlag &&
         file.read<std::uint32_t>(0x202) == abi::linux_boot::kHeaderMagic;
}

Inspected inspect_efi_kernel(FileBytes file, std::uint64_t base, std::optional<ImageKind> kind) {
  if (has_setup_header(ByteReader{file})) {
    return inspect_bzimage(file, base, kind.value_or(ImageKind::kBzImage));
  }
  const auto pe = PeImage::parse(file);
  if (!pe) {
    return fail("is no sound EFI program: " +
                at_offset(to_string(pe.error().kind), pe.error().offset));
  }
  if (pe->extent() > file.size()) {
    return cut_off(*pe);
  }
  Report report{.machine = machine_of(pe->machine())};
  set_header_flag(report, Feature::kEfiStub, true, "PE header", base + pe->machine_offset());
  if (is_zboot(ByteReader{file})) {
    report.kind = kind.value_or(ImageKind::kZboot);
    return inspect_zboot(file, *pe, base, std::move(report));
  }
  if (!has_linux_mark(ByteReader{file})) {
    return std::unexpected{
        InspectError{.message = "is an EFI program, but no Linux kernel", .recognised = false}};
  }
  report.kind = kind.value_or(ImageKind::kImage);
  return inspect_flat(file, "file", base, std::move(report), base + pe->machine_offset());
}

}  // namespace

std::optional<Inspected> inspect_kernel(FileBytes file) {
  const ByteReader reader{file};
  if (has_setup_header(reader)) {
    return inspect_bzimage(file, 0, ImageKind::kBzImage);
  }
  if (reader.read<std::uint16_t>(0) == 0x5A4D) {
    return inspect_pe(file);
  }
  if (is_elf(file)) {
    return inspect_vmlinux(file);
  }
  return std::nullopt;
}

}  // namespace accede::inspect
