// What the firmware of an SNP guest leaves for its kernel: the CPUID page, the secrets page, and
// the blob that names both.
#pragma once

#include "accede/abi/sev.hpp"
#include "accede/efi/firmware.hpp"
#include "accede/guest/detect.hpp"

#include <expected>

namespace accede::efi {

enum class CpuidPageError : std::uint8_t {
  kTooManyLeaves,  ///< more than CpuidPage::kMostEntries
};
[[nodiscard]] std::string_view to_string(CpuidPageError error);

/// What `cpuid` answers to the leaves that Linux asks an AMD processor for; where the processor
/// answers zero there is no entry, which means the same. The rules of the page (reference: SEV-SNP
/// 5.1): ecx_in is the subleaf of indexed leaves and 0 elsewhere; the sizes in subleaves 0 and 1 of
/// leaf 0xD are those for XCR0 = 1 and XSS = 0; bits that follow CR4 are clear.
/// Precondition: runs in the guest, whose CPUID may differ from the machine's.
[[nodiscard]] std::expected<void, CpuidPageError> fill_cpuid_page(abi::sev::CpuidPage& page,
                                                                  guest::ReadCpuid cpuid);

/// A page without secrets: here is no firmware of a processor to talk to, and a guest that finds
/// its keys zero does not try. `family_model_stepping`: EAX of CPUID leaf 1.
void fill_secrets_page(abi::sev::SecretsPage& page, std::uint32_t family_model_stepping);

/// Both pages and the blob in reserved memory below 4 GiB, and the blob in the EFI configuration
/// table. Precondition: as fill_cpuid_page().
[[nodiscard]] Result<void> install_snp_tables(const Firmware& firmware, guest::ReadCpuid cpuid);

}  // namespace accede::efi
