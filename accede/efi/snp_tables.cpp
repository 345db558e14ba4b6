#include "accede/efi/snp_tables.hpp"

#include <algorithm>
#include <array>
#include <new>

namespace accede::efi {

using namespace std::string_view_literals;
namespace {

using abi::sev::CcBlob;
using abi::sev::CpuidEntry;
using abi::sev::CpuidPage;
using abi::sev::SecretsPage;
using guest::CpuidResult;
using guest::ReadCpuid;

constexpr std::uint32_t kBasic = 0;
constexpr std::uint32_t kHypervisor = 0x4000'0000;
constexpr std::uint32_t kExtended = 0x8000'0000;

constexpr std::uint32_t kFeatures = 1;
constexpr std::uint32_t kFeaturesOsxsave = 1U << 27;     // ECX
constexpr std::uint32_t kFeaturesHypervisor = 1U << 31;  // ECX
constexpr std::uint32_t kStructured = 7;
constexpr std::uint32_t kStructuredOspke = 1U << 4;  // ECX of subleaf 0
constexpr std::uint32_t kTopology = 0xB;
constexpr std::uint32_t kXsave = 0xD;
constexpr std::uint32_t kXsaveCompacted = 1U << 1 | 1U << 3;  // EAX of subleaf 1: XSAVEC, XSAVES
constexpr std::uint32_t kCaches = 0x8000'001D;

/// Legacy area and header: all that XCR0 = 1 needs.
constexpr std::uint32_t kXsaveLeastBytes = 0x240;
constexpr std::uint32_t kXsaveComponents = 63;
/// More than any processor has; a bound for answers that never end.
constexpr std::uint32_t kMostSubleaves = 8;

/// Leaves without subleaves.
constexpr auto kPlainLeaves = std::to_array<std::uint32_t>(
    {kBasic,      kFeatures,       2,           5,           6,
     kHypervisor, kHypervisor + 1, kExtended,   0x8000'0001, 0x8000'0002,
     0x8000'0003, 0x8000'0004,     0x8000'0005, 0x8000'0006, 0x8000'0007,
     0x8000'0008, 0x8000'0019,     0x8000'001A, 0x8000'001E, abi::sev::kCpuidLeaf,
     0x8000'0021});

class PageBuilder {
 public:
  PageBuilder(CpuidPage& page, ReadCpuid cpuid)
      : page_{page},
        cpuid_{cpuid},
        basic_end_{cpuid(kBasic, 0).eax},
        extended_end_{last_of(kExtended)},
        hypervisor_end_{has_hypervisor_leaves() ? last_of(kHypervisor) : 0} {}

  /// False when the page is full.
  [[nodiscard]] bool build() {
    for (const std::uint32_t leaf : kPlainLeaves) {
      add(leaf, 0, read(leaf, 0));
    }
    add_structured();
    add(kTopology, 0, read(kTopology, 0));
    add(kTopology, 1, read(kTopology, 1));
    add_xsave();
    for (std::uint32_t i = 0; i < kMostSubleaves && (read(kCaches, i).eax & 0x1F) != 0; ++i) {
      add(kCaches, i, read(kCaches, i));
    }
    return fits_;
  }

 private:
  /// The last leaf of a class; 0 when the processor answers with something else.
  [[nodiscard]] std::uint32_t last_of(std::uint32_t first) const {
    const std::uint32_t last = cpuid_(first, 0).eax;
    return last >> 16 == first >> 16 ? last : 0;
  }
  [[nodiscard]] bool has_hypervisor_leaves() const {
    return basic_end_ >= kFeatures && (cpuid_(kFeatures, 0).ecx & kFeaturesHypervisor) != 0;
  }
  [[nodiscard]] bool exists(std::uint32_t leaf) const {
    return leaf >= kExtended     ? leaf <= extended_end_
           : leaf >= kHypervisor ? leaf <= hypervisor_end_
                                 : leaf <= basic_end_;
  }

  [[nodiscard]] CpuidResult read(std::uint32_t leaf, std::uint32_t subleaf) const {
    if (!exists(leaf)) {
      return {};
    }
    CpuidResult answer = cpuid_(leaf, subleaf);
    if (leaf == kFeatures) {
      answer.ecx &= ~kFeaturesOsxsave;
    }
    if (leaf == kStructured && subleaf == 0) {
      answer.ecx &= ~kStructuredOspke;
    }
    return answer;
  }

  void add(std::uint32_t leaf, std::uint32_t subleaf, const CpuidResult& answer,
           std::uint64_t xcr0 = 0) {
    if ((answer.eax | answer.ebx | answer.ecx | answer.edx) == 0) {
      return;
    }
    if (page_.count == CpuidPage::kMostEntries) {
      fits_ = false;
      return;
    }
    page_.entries[page_.count++] = CpuidEntry{.eax_in = leaf,
                                              .ecx_in = subleaf,
                                              .xcr0_in = xcr0,
                                              .xss_in = 0,
                                              .eax = answer.eax,
                                              .ebx = answer.ebx,
                                              .ecx = answer.ecx,
                                              .edx = answer.edx,
                                              .reserved = 0};
  }

  void add_structured() {
    const CpuidResult first = read(kStructured, 0);
    add(kStructured, 0, first);
    for (std::uint32_t i = 1; i <= std::min(first.eax, kMostSubleaves - 1); ++i) {
      add(kStructured, i, read(kStructured, i));
    }
  }

  void add_xsave() {
    CpuidResult standard = read(kXsave, 0);
    CpuidResult compacted = read(kXsave, 1);
    if ((standard.eax | standard.edx) == 0) {
      return;
    }
    // EBX follows the processor's XCR0; the entries speak of XCR0 = 1.
    standard.ebx = kXsaveLeastBytes;
    compacted.ebx = (compacted.eax & kXsaveCompacted) != 0 ? kXsaveLeastBytes : 0;
    add(kXsave, 0, standard, 1);
    add(kXsave, 1, compacted, 1);
    const std::uint64_t components = std::uint64_t{standard.edx | compacted.edx} << 32 |
                                     std::uint64_t{standard.eax | compacted.ecx};
    for (std::uint32_t i = 2; i < kXsaveComponents; ++i) {
      if ((components >> i & 1) != 0) {
        add(kXsave, i, read(kXsave, i));
      }
    }
  }

  CpuidPage& page_;
  ReadCpuid cpuid_;
  std::uint32_t basic_end_;
  std::uint32_t extended_end_;
  std::uint32_t hypervisor_end_;
  bool fits_ = true;
};

/// The memory that install_snp_tables() takes.
struct Tables {
  CpuidPage cpuid;
  SecretsPage secrets;
  CcBlob blob;
};
constexpr std::uint64_t kPages = (sizeof(Tables) + 4095) / 4096;

std::uint64_t address_of(const void* pointer) {
  return reinterpret_cast<std::uint64_t>(pointer);
}

}  // namespace

std::string_view to_string(CpuidPageError error) {
  switch (error) {
    case CpuidPageError::kTooManyLeaves:
      return "this processor has more CPUID leaves than a CPUID page holds"sv;
  }
  return "unknown CPUID page error"sv;
}

std::expected<void, CpuidPageError> fill_cpuid_page(CpuidPage& page, ReadCpuid cpuid) {
  page = {};
  if (!PageBuilder{page, cpuid}.build()) {
    return std::unexpected{CpuidPageError::kTooManyLeaves};
  }
  return {};
}

void fill_secrets_page(SecretsPage& page, std::uint32_t family_model_stepping) {
  page = {};
  page.version = SecretsPage::kVersion;
  page.family_model_stepping = family_model_stepping;
}

Result<void> install_snp_tables(const Firmware& firmware, ReadCpuid cpuid) {
  std::uint64_t address = (4_GiB).value() - 1;
  abi::efi::Status status = firmware.boot().allocate_pages(
      abi::efi::AllocateType::kMaxAddress, abi::efi::MemoryType::kReserved, kPages, &address);
  if (is_error(status)) {
    return std::unexpected{Failure{"no memory for the CPUID page and the secrets page"sv, status}};
  }
  auto* const tables = new (reinterpret_cast<void*>(address)) Tables;
  if (const auto filled = fill_cpuid_page(tables->cpuid, cpuid); !filled) {
    return std::unexpected{Failure{to_string(filled.error())}};
  }
  fill_secrets_page(tables->secrets, cpuid(kFeatures, 0).eax);
  tables->blob = {.magic = CcBlob::kMagic,
                  .version = CcBlob::kVersion,
                  .reserved_6 = 0,
                  .secrets_address = address_of(&tables->secrets),
                  .secrets_bytes = sizeof(SecretsPage),
                  .reserved_20 = 0,
                  .cpuid_address = address_of(&tables->cpuid),
                  .cpuid_bytes = sizeof(CpuidPage),
                  .reserved_36 = 0};
  status = firmware.boot().install_configuration_table(&abi::efi::kConfidentialComputingBlob,
                                                       &tables->blob);
  if (is_error(status)) {
    return std::unexpected{
        Failure{"the confidential computing blob cannot be published"sv, status}};
  }
  return {};
}

}  // namespace accede::efi
