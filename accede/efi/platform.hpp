// The confidential platform that a UEFI program finds itself on, decided at run time.
#pragma once

#include "accede/abi/ghcb.hpp"
#include "accede/efi/ghcb_msr.hpp"
#include "accede/guest/detect.hpp"
#include "accede/guest/platform.hpp"
#include "accede/guest/snp_platform.hpp"
#include "accede/guest/tdx_platform.hpp"

#include <expected>
#include <optional>
#include <string_view>

namespace accede::efi {

/// Executes CPUID.
[[nodiscard]] guest::CpuidResult read_cpuid(std::uint32_t leaf, std::uint32_t subleaf);

/// TDX, SEV-SNP at VMPL 0, or none. A model of AcceptPlatform for memory that is mapped at its own
/// address. Not copied or moved. Thread-safe, on SNP with the limits of guest::SnpPlatform.
class MachinePlatform {
  class Key {
    friend MachinePlatform;
    explicit Key() = default;
  };

 public:
  /// What this processor says, and on SNP whether its host speaks our version of the GHCB
  /// protocol. Errors: a phrase for the user.
  [[nodiscard]] static std::expected<MachinePlatform, std::string_view> detect();

  /// For detect() alone.
  explicit MachinePlatform(Key) {}
  MachinePlatform(Key, guest::TdxPlatform tdx) : tdx_{tdx} {}
  MachinePlatform(Key, const guest::Detection& snp);
  MachinePlatform(const MachinePlatform&) = delete;
  MachinePlatform& operator=(const MachinePlatform&) = delete;

  [[nodiscard]] guest::PlatformResult accept(PhysRange range);
  [[nodiscard]] guest::PlatformResult convert(PhysRange range, guest::Visibility to);
  [[nodiscard]] guest::PlatformKind kind() const;
  [[nodiscard]] Bytes preferred_step() const;

  [[nodiscard]] bool is_tdx() const { return tdx_.has_value(); }
  [[nodiscard]] bool is_snp() const { return snp_.has_value(); }

  /// The bit of a page-table entry that makes what it maps private: SNP's C-bit. 0 elsewhere.
  [[nodiscard]] std::uint64_t private_mask() const { return private_mask_; }

  /// SNP: from now on the host is asked by lists through this page, which is shared, mapped at
  /// `page`, and of which can_register() is true; null goes back to the MSR protocol.
  /// Preconditions: is_snp(); no other call runs.
  void use_ghcb(abi::ghcb::GhcbPage* page, PhysAddr address);
  /// Stateless: as good as any other GhcbMsr. Precondition: is_snp().
  [[nodiscard]] GhcbMsr& ghcb_msr() { return ghcb_msr_; }

 private:
  std::optional<guest::TdxPlatform> tdx_;
  [[no_unique_address]] GhcbMsr ghcb_msr_;
  std::optional<guest::SnpPlatform<GhcbMsr>> snp_;
  std::uint64_t private_mask_ = 0;
  [[no_unique_address]] guest::NoPlatform none_;
};
static_assert(guest::AcceptPlatform<MachinePlatform>);

}  // namespace accede::efi
