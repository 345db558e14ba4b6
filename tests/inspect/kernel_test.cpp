#include "accede/inspect/elf_image.hpp"
#include "accede/inspect/inspect.hpp"
#include "accede/inspect/kernel_config.hpp"
#include "accede/inspect/release.hpp"
#include "tests/inspect/made_up.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>

namespace accede::inspect {
namespace {

using image::Knows;
using test::bytes_of;
using test::ByteVector;
using test::Features;

Report report_of(const ByteVector& file) {
  auto report = inspect(file);
  EXPECT_TRUE(report) << (report ? "" : report.error().message);
  return report.value_or(Report{});
}

std::string error_of(const ByteVector& file) {
  const auto report = inspect(file);
  EXPECT_FALSE(report);
  return report ? "" : report.error().message;
}

std::string value_of(const Report& report, Feature feature) {
  const Capability& capability = report[feature];
  std::string text{to_string(capability.value)};
  return capability.value == Knows::kUnknown
             ? text
             : text + ", " + std::string{to_string(capability.confidence)};
}

constexpr std::array kAccepting{Feature::kUnacceptedMemory, Feature::kUnacceptedMemoryTdx,
                                Feature::kUnacceptedMemorySnp, Feature::kHandshake};

TEST(Inspect, AKernelThatAccepts) {
  const Report report = report_of(test::bzimage({}));
  EXPECT_EQ(report.kind, ImageKind::kBzImage);
  EXPECT_EQ(report.machine, Machine::kX86_64);
  EXPECT_EQ(report.version, "6.12.1-made-up");
  EXPECT_EQ(report.uts_version, "#1 SMP PREEMPT_RT today");
  EXPECT_EQ(report.compression, "gzip");
  for (const Feature feature : kAccepting) {
    EXPECT_EQ(value_of(report, feature), "yes, certain") << to_string(feature);
  }
  for (const Feature feature : {Feature::kSevGuest, Feature::kSnpGuest, Feature::kTdxGuest,
                                Feature::kKexec, Feature::kKexecTarget, Feature::kEfiStub}) {
    EXPECT_EQ(value_of(report, feature), "yes, certain") << to_string(feature);
  }
  EXPECT_EQ(report.verdict.handshake, "safe with lazy firmware");
  EXPECT_EQ(report.verdict.never, "safe with lazy firmware");
}

TEST(Inspect, AKernelThatDoesNotAccept) {
  const Report report = report_of(test::bzimage(test::old_features()));
  for (const Feature feature : kAccepting) {
    EXPECT_EQ(value_of(report, feature), "no, certain") << to_string(feature);
    EXPECT_FALSE(report[feature].evidence.empty()) << to_string(feature);
  }
  EXPECT_EQ(value_of(report, Feature::kTdxGuest), "no, certain");
  EXPECT_EQ(value_of(report, Feature::kSnpGuest), "yes, certain");
  EXPECT_TRUE(report.verdict.never.starts_with("needs accept-all"));
}

TEST(Inspect, EveryCompression) {
  for (const auto method :
       {Compression::kGzip, Compression::kBzip2, Compression::kLzma, Compression::kXz,
        Compression::kLzo, Compression::kLz4, Compression::kZstd}) {
    const Report report = report_of(test::bzimage({}, method));
    EXPECT_EQ(report.compression, to_string(method));
    EXPECT_TRUE(report.has(Feature::kTdxGuest)) << to_string(method);
  }
}

constexpr std::array kSlow{Compression::kXz, Compression::kLzma, Compression::kBzip2};
constexpr std::size_t kMuch = std::size_t{4} << 20;

TEST(Inspect, WhatUnpacksSlowlyIsReadToTheEndOfItsTexts) {
  for (const auto method : kSlow) {
    for (Features features : {Features{}, test::old_features()}) {
      const Report whole = report_of(test::bzimage(features, method));
      features.zeros_behind = kMuch;
      const Report part = report_of(test::bzimage(features, method));
      ASSERT_EQ(part.notes.size(), 1U) << to_string(method);
      EXPECT_TRUE(part.notes[0].starts_with("unpacked to the end of the kernel's first segment"));
      EXPECT_TRUE(whole.notes.empty());
      for (std::size_t i = 0; i < kFeatureCount; ++i) {
        const auto feature = static_cast<Feature>(i);
        EXPECT_EQ(value_of(part, feature), value_of(whole, feature)) << to_string(feature);
      }
    }
  }
}

TEST(Inspect, WhatUnpacksFastIsReadToItsEnd) {
  EXPECT_TRUE(report_of(test::bzimage({.zeros_behind = kMuch}, Compression::kZstd)).notes.empty());
}

TEST(Inspect, NothingIsMissedInAKernelWhoseTextsLieElsewhere) {
  for (const auto method : kSlow) {
    const Report report = report_of(test::bzimage({.zeros_before = kMuch}, method));
    EXPECT_TRUE(report.has(Feature::kTdxGuest)) << to_string(method);
    EXPECT_TRUE(report.notes.empty());
  }
}

TEST(Inspect, AnOpenQuestionIsReadToTheEnd) {
  // The kernel's configuration says nothing of what its texts say.
  const Report report = report_of(test::bzimage(
      {.config = "CONFIG_AMD_MEM_ENCRYPT=y\n", .zeros_behind = kMuch}, Compression::kXz));
  EXPECT_EQ(value_of(report, Feature::kTdxGuest), "unknown");
  EXPECT_TRUE(report.notes.empty());
}

TEST(Inspect, EvidenceLiesWhereItSays) {
  const auto file = test::bzimage({});
  const auto kernel = test::vmlinux({});
  const Report report = report_of(file);
  for (const Evidence& evidence : report[Feature::kTdxGuest].evidence) {
    EXPECT_EQ(evidence.place, "vmlinux");
    EXPECT_LT(evidence.offset, kernel.size());
  }
  const auto& sev = report[Feature::kSevGuest].evidence.front();
  const auto text = bytes_of("\1c SEV");
  EXPECT_TRUE(std::equal(text.begin(), text.end(),
                         kernel.begin() + static_cast<std::ptrdiff_t>(sev.offset)));
  const auto& handshake = report[Feature::kHandshake].evidence.front();
  EXPECT_EQ(handshake.place, "file");
  const auto message = bytes_of("Memory acceptance");
  const auto found = std::ranges::search(file, message);
  EXPECT_EQ(static_cast<std::ptrdiff_t>(handshake.offset), found.begin() - file.begin());
}

TEST(Inspect, AcceptanceOnOnePlatformOnly) {
  const Report report = report_of(test::bzimage({.tdx = false}));
  EXPECT_EQ(value_of(report, Feature::kUnacceptedMemory), "yes, certain");
  EXPECT_EQ(value_of(report, Feature::kUnacceptedMemorySnp), "yes, certain");
  EXPECT_EQ(value_of(report, Feature::kUnacceptedMemoryTdx), "no, certain");
  EXPECT_EQ(report.verdict.never, "safe with lazy firmware (SEV-SNP only)");
}

TEST(Inspect, AKernelThatIsNoGuest) {
  const Report report =
      report_of(test::bzimage({.sev = false, .snp = false, .tdx = false, .unaccepted = false}));
  // The decompressor of the made-up kernel knows SEV-SNP.
  EXPECT_EQ(value_of(report, Feature::kSnpGuest), "yes, likely");
  EXPECT_EQ(value_of(report, Feature::kSevGuest), "no, certain");
  const Report other =
      report_of(test::vmlinux({.sev = false, .snp = false, .tdx = false, .unaccepted = false}));
  EXPECT_EQ(value_of(other, Feature::kSnpGuest), "no, certain");
  EXPECT_EQ(other.verdict.accept_all, "cannot be a TDX or SEV-SNP guest");
}

TEST(Inspect, PositiveEvidenceBelowTheUpstreamReleaseIsABackport) {
  const Report report = report_of(test::bzimage({.release = "5.14.0-500.el9"}));
  EXPECT_EQ(report[Feature::kTdxGuest].backported_from, "5.19");
  EXPECT_EQ(report[Feature::kUnacceptedMemory].backported_from, "6.5");
  EXPECT_EQ(report[Feature::kHandshake].backported_from, "6.5");
  EXPECT_EQ(report[Feature::kSevGuest].backported_from, "");
}

TEST(Inspect, TheVersionDecidesNothing) {
  Features features = test::old_features();
  features.release = "7.99.0";
  const Report report = report_of(test::bzimage(features));
  EXPECT_EQ(value_of(report, Feature::kUnacceptedMemory), "no, certain");
  EXPECT_EQ(report[Feature::kSnpGuest].backported_from, "");
}

TEST(Inspect, ReadsTheEmbeddedConfiguration) {
  const Report report = report_of(test::vmlinux(
      {.config = "CONFIG_INTEL_TDX_GUEST=y\nCONFIG_AMD_MEM_ENCRYPT=y\nCONFIG_KEXEC_CORE=y\n"
                 "CONFIG_UNACCEPTED_MEMORY=y\n# CONFIG_EFI_STUB is not set\nCONFIG_OTHER=m\n"}));
  EXPECT_EQ(value_of(report, Feature::kEmbeddedConfig), "yes, certain");
  EXPECT_EQ(report.config.size(), 4U);
  EXPECT_EQ(report.config.at("INTEL_TDX_GUEST"), "y");
  EXPECT_EQ(report[Feature::kTdxGuest].evidence.back().signal, "CONFIG_INTEL_TDX_GUEST=y");
}

TEST(Inspect, AConfigurationAloneIsEvidence) {
  Features features = test::old_features();
  features.config = "CONFIG_INTEL_TDX_GUEST=y\nCONFIG_AMD_MEM_ENCRYPT=y\n";
  EXPECT_EQ(value_of(report_of(test::vmlinux(features)), Feature::kTdxGuest), "yes, likely");
}

TEST(Inspect, AContradictionIsNoAnswer) {
  const Report report =
      report_of(test::vmlinux({.config = "CONFIG_AMD_MEM_ENCRYPT=y\nCONFIG_KEXEC_CORE=y\n"}));
  EXPECT_EQ(value_of(report, Feature::kTdxGuest), "unknown");
  EXPECT_EQ(value_of(report, Feature::kUnacceptedMemory), "unknown");
}

TEST(Inspect, DecompressorAndKernelMustAgree) {
  // The stub of the new kernel around the old kernel.
  const auto stub = test::bzimage({}, Compression::kLz4);
  auto mixed = test::bzimage(test::old_features(), Compression::kLz4);
  constexpr std::size_t kBehindPayload = 0x1200;
  std::copy(stub.begin() + kBehindPayload, stub.end(), mixed.begin() + kBehindPayload);
  EXPECT_EQ(value_of(report_of(mixed), Feature::kUnacceptedMemory), "unknown");
}

TEST(Inspect, AVmlinuxSaysNothingOfTheHandshake) {
  const Report report = report_of(test::vmlinux({}));
  EXPECT_EQ(report.kind, ImageKind::kVmlinux);
  EXPECT_EQ(report.version, "6.12.1-made-up");
  EXPECT_EQ(value_of(report, Feature::kUnacceptedMemory), "yes, certain");
  EXPECT_EQ(value_of(report, Feature::kHandshake), "unknown");
  EXPECT_EQ(value_of(report_of(test::vmlinux(test::old_features())), Feature::kHandshake),
            "no, certain");
}

TEST(Inspect, AUnifiedImageIsItsKernel) {
  const auto linux = test::bzimage({});
  const auto file = test::uki(linux);
  const Report report = report_of(file);
  EXPECT_EQ(report.kind, ImageKind::kUki);
  EXPECT_TRUE(report.has(Feature::kHandshake));
  const auto inner = report_of(linux)[Feature::kHandshake].evidence.front().offset;
  const auto base =
      static_cast<std::uint64_t>(std::ranges::search(file, linux).begin() - file.begin());
  EXPECT_EQ(report[Feature::kHandshake].evidence.front().offset, base + inner);
  EXPECT_TRUE(report.notes.empty());
}

TEST(Inspect, AUnifiedImageMayAcceptEverythingByItsCommandLine) {
  const Report report = report_of(test::uki(test::bzimage({}), "quiet accept_memory=eager"));
  ASSERT_EQ(report.notes.size(), 1U);
  EXPECT_NE(report.notes[0].find("accept_memory=eager"), std::string::npos);
}

TEST(Inspect, KernelsOfOtherMachinesAreNoX86Guests) {
  for (const auto& file : {test::zboot({}), test::flat_image({}), test::uki(test::zboot({}))}) {
    const Report report = report_of(file);
    EXPECT_EQ(report.machine, Machine::kArm64);
    EXPECT_EQ(report.version, "6.12.1-made-up");
    EXPECT_EQ(value_of(report, Feature::kSevGuest), "no, certain");
    EXPECT_EQ(report[Feature::kSevGuest].evidence.front().signal, "for ARM64");
    EXPECT_EQ(value_of(report, Feature::kHandshake), "no, certain");
    EXPECT_TRUE(report.has(Feature::kEfiStub));
  }
  EXPECT_EQ(report_of(test::zboot({})).kind, ImageKind::kZboot);
  EXPECT_EQ(report_of(test::flat_image({})).kind, ImageKind::kImage);
  EXPECT_EQ(report_of(test::zboot({}, 0x5064)).machine, Machine::kRiscv64);
}

TEST(InspectErrors, NameWhatIsWrong) {
  EXPECT_EQ(error_of({}), "is empty");
  EXPECT_EQ(error_of(bytes_of("text")), "is neither a kernel nor a firmware image");
  auto file = test::bzimage({});
  file.resize(file.size() - 1);
  EXPECT_EQ(error_of(file),
            "is no sound bzImage: file ends inside the protected-mode code (at "
            "byte " +
                std::to_string(file.size()) + ")");
  file = test::bzimage({}, Compression::kXz);
  file[0xA00 + 40] ^= std::byte{1};
  EXPECT_EQ(error_of(file),
            "has a payload that is not sound: compressed data is corrupt or cut off");
  file[0xA00] = std::byte{0};
  EXPECT_EQ(error_of(file), "has a payload that is compressed by no known method");
}

TEST(InspectErrors, AWrongSizeBehindThePayload) {
  auto file = test::bzimage({}, Compression::kZstd);
  const std::size_t size = test::vmlinux({}).size();
  // The trailer: the size, little-endian, behind the packed kernel.
  ByteVector trailer;
  test::append_number(trailer, size, 4);
  const auto at = std::ranges::search(file, trailer);
  ASSERT_FALSE(at.empty());
  *at.begin() ^= std::byte{1};
  EXPECT_TRUE(error_of(file).starts_with("has a payload that is not sound: "));
}

/// `file` without the mark or the text that makes it a kernel.
InspectError error_without(ByteVector file, std::string_view what) {
  const auto at = std::ranges::search(file, bytes_of(what));
  EXPECT_FALSE(at.empty());
  *at.begin() ^= std::byte{1};
  const auto report = inspect(file);
  EXPECT_FALSE(report);
  return report ? InspectError{} : report.error();
}

TEST(InspectErrors, OtherProgramsArePassedOver) {
  auto error = error_without(test::vmlinux({}), "Linux version");
  EXPECT_EQ(error.message, "is an ELF file, but no Linux kernel");
  EXPECT_FALSE(error.recognised);
  EXPECT_FALSE(error_without(test::vmlinux({}), "Kernel command line").recognised);
  error = error_without(test::flat_image({}), "ARMd");
  EXPECT_EQ(error.message, "is an EFI program, but no Linux kernel");
  EXPECT_FALSE(error.recognised);
}

TEST(InspectErrors, ModulesArePassedOverAndDamagedKernelsAreNot) {
  auto module = test::vmlinux({});
  module[16] = std::byte{1};  // ET_REL
  auto report = inspect(module);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().message, "is an ELF file that cannot be executed");
  EXPECT_TRUE(report.error().recognised);
  EXPECT_FALSE(error_without(module, "Linux version").recognised);
}

TEST(InspectErrors, AFlatKernelThatDoesNotSayWhatItIs) {
  const auto error = error_without(test::flat_image({}), "Linux version");
  EXPECT_EQ(error.message, "is no sound kernel: it lacks what every kernel says");
  EXPECT_TRUE(error.recognised);
}

TEST(InspectErrors, AnEfiProgramThatIsCutOff) {
  for (auto file : {test::uki(test::bzimage({})), test::zboot({}), test::flat_image({})}) {
    const std::string end = std::to_string(file.size());
    file.pop_back();
    EXPECT_EQ(error_of(file), "is cut off: its sections go on to byte " + end);
  }
}

TEST(InspectErrors, AnElfFileThatIsCutOff) {
  auto file = test::vmlinux({});
  file.resize(file.size() - 1);
  EXPECT_EQ(error_of(file), "ends inside segment 0");
}

TEST(InspectErrors, DamageInWhatIsReadOfASlowPayload) {
  auto file = test::bzimage({.zeros_behind = kMuch}, Compression::kXz);
  file[0xA00 + 40] ^= std::byte{1};
  EXPECT_EQ(error_of(file),
            "has a payload that is not sound: compressed data is corrupt or cut off");
}

TEST(ElfSegments, TheFirstEndsWhereItsHeaderSays) {
  const auto file = test::vmlinux({.zeros_behind = 100});
  EXPECT_EQ(end_of_first_segment(file, file.size()), file.size() - 100);
  EXPECT_EQ(end_of_first_segment(std::span{file}.first(4096 / 2), file.size()), file.size() - 100);
}

TEST(ElfSegments, MustLieInTheFile) {
  auto file = test::vmlinux({.zeros_behind = 100});
  EXPECT_EQ(end_of_first_segment(file, file.size() - 1), std::nullopt);
  constexpr std::size_t kHeaders = 64 + 2 * 56;
  EXPECT_TRUE(end_of_first_segment(std::span{file}.first(kHeaders), file.size()));
  for (std::size_t size = 0; size < kHeaders; ++size) {
    EXPECT_EQ(end_of_first_segment(std::span{file}.first(size), file.size()), std::nullopt);
  }
  constexpr std::size_t kSectionsAt = 40;  // in the header, with their count and size behind it
  file[kSectionsAt + 5] = std::byte{1};
  EXPECT_EQ(end_of_first_segment(file, file.size()), std::nullopt);
}

TEST(Releases, AreReadFromTexts) {
  EXPECT_EQ(parse_release("6.12.117+deb12-cloud-amd64"), (Release{6, 12}));
  EXPECT_EQ(parse_release("5.4"), (Release{5, 4}));
  for (const char* const text : {"", "6", "6.", "v6.1", ".1", "99999999999.1"}) {
    EXPECT_EQ(parse_release(text), std::nullopt) << text;
  }
  EXPECT_LT((Release{5, 19}), (Release{6, 5}));
  EXPECT_EQ(to_string(Release{6, 5}), "6.5");
}

TEST(Releases, VersionTextsAreSplit) {
  const auto words = split_version_text("Linux version 6.1.0 (a@b) (gcc) #2 SMP\x1B Debian");
  EXPECT_EQ(words.release, "6.1.0");
  EXPECT_EQ(words.uts_version, "#2 SMP Debian");
  EXPECT_EQ(split_version_text("").release, "");
}

TEST(KernelConfigs, AreReadFromTexts) {
  const auto config =
      parse_kernel_config("# a comment\nCONFIG_A=y\n\n# CONFIG_B is not set\nCONFIG_C=\"x=y\"");
  EXPECT_EQ(config, (KernelConfig{{"A", "y"}, {"C", "\"x=y\""}}));
}

TEST(KernelConfigs, NeedTheirEnd) {
  auto kernel = test::kernel_texts({.config = "CONFIG_A=y\n"});
  const auto mark = std::ranges::search(kernel, bytes_of("IKCFG_ST")).begin() - kernel.begin();
  EXPECT_TRUE(read_kernel_config(kernel, static_cast<std::size_t>(mark)));
  kernel.resize(kernel.size() - 1);
  EXPECT_FALSE(read_kernel_config(kernel, static_cast<std::size_t>(mark)));
}

}  // namespace
}  // namespace accede::inspect
