// What the host's side of the TDX module is made of: its machine, its answers, its TDs and vCPUs.
#pragma once

#include "accede/abi/tdmr.hpp"
#include "accede/base/units.hpp"
#include "accede/host/secure_ept.hpp"
#include "accede/host/try_lock.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string_view>

namespace accede::host {

/// Pages that the module asks for (TDX module 1.5 without nested VMs; later ones ask for more).
inline constexpr unsigned kLeastTdcsPages = 6;   ///< TDH.MNG.ADDCX calls
inline constexpr unsigned kMostTdcsPages = 9;    ///< with the roots of three nested VMs
inline constexpr unsigned kLeastTdvpsPages = 6;  ///< TDVPR and TDH.VP.ADDCX calls
inline constexpr unsigned kMostTdvpsPages = 15;  ///< with the pages of three nested VMs
inline constexpr unsigned kMostKeys = 64;        ///< of a modelled machine, shared ones included
inline constexpr unsigned kMostPackages = 8;
inline constexpr unsigned kMostProcessors = 1024;

/// A logical processor, from 0; the caller of a SEAMCALL.
class ProcessorId {
 public:
  constexpr explicit ProcessorId(unsigned value) : value_{value} {}
  [[nodiscard]] constexpr unsigned value() const { return value_; }
  friend constexpr auto operator<=>(ProcessorId, ProcessorId) = default;

 private:
  unsigned value_;
};

/// A key id (HKID).
class KeyId {
 public:
  constexpr KeyId() = default;
  constexpr explicit KeyId(unsigned value) : value_{value} {}
  [[nodiscard]] constexpr unsigned value() const { return value_; }
  friend constexpr auto operator<=>(KeyId, KeyId) = default;

 private:
  unsigned value_ = 0;
};

/// The machine that the module runs on.
struct SeamMachine {
  std::span<const abi::tdx::CmrInfo> cmrs;  ///< must outlive the module
  unsigned physical_bits = 52;              ///< with the bits of the key id
  unsigned key_bits = 6;                    ///< at most 6: kMostKeys
  unsigned first_private_key = 32;          ///< ids from here to 2^key_bits are private
  unsigned packages = 1;                    ///< 1 to kMostPackages
  unsigned processors_per_package = 1;      ///< together at most kMostProcessors
};

/// What a SEAMCALL leaves in registers.
struct SeamResult {
  std::uint64_t status = 0;  ///< RAX
  std::uint64_t rcx = 0;
  std::uint64_t rdx = 0;
  std::uint64_t r8 = 0;

  [[nodiscard]] bool ok() const { return !abi::tdx::is_error(status); }
  friend bool operator==(const SeamResult&, const SeamResult&) = default;
};

/// Why the model, not the module, cannot do a call. Nothing changed.
enum class SeamError : std::uint8_t {
  kNoPageMetadata,  ///< the storage for PAMT tables is used up
  kNoSeptStorage,   ///< that of the TD's SecureEpt is used up
  kNoTdRecord,      ///< as many TDs as there are records
  kNoVcpuRecord,    ///< as many vCPUs as there are records
};
[[nodiscard]] std::string_view name(SeamError error);

using SeamCall = std::expected<SeamResult, SeamError>;

/// What a TD is created with: the part of TD_PARAMS that the model has a use for.
struct TdParams {
  SecureEptConfig sept;
  std::uint16_t max_vcpus = 1;  ///< at least 1
};

/// LIFECYCLE_STATE of a TDR: what its key can be used for.
enum class TdLifecycle : std::uint8_t {
  kKeyAssigned = 0,
  kKeysConfigured = 1,
  kBlocked = 2,
  kTeardown = 3,
};
[[nodiscard]] std::string_view name(TdLifecycle state);

/// OP_STATE of a TDCS, without migration.
enum class TdOpState : std::uint8_t { kUninitialized = 0, kInitialized = 1, kRunnable = 2 };

/// A TD: what the module keeps in the TDR and TDCS pages. Members are for SeamModule: they change
/// under an exclusive lock of the TDR's PAMT entry, the atomic ones also under a shared one.
struct TdRecord {
  std::atomic<bool> used = false;
  TdLifecycle lifecycle = TdLifecycle::kKeyAssigned;
  TdOpState op_state = TdOpState::kUninitialized;
  KeyId key;
  std::uint32_t packages_with_key = 0;  ///< bit mask
  unsigned tdcs_pages = 0;
  std::uint16_t max_vcpus = 0;
  std::atomic<std::uint64_t> children = 0;    ///< CHLDCNT: 4 KiB pages besides the TDR
  std::atomic<std::uint32_t> vcpus = 0;       ///< initialized ones
  std::atomic<std::uint32_t> associated = 0;  ///< vCPUs that a processor may hold state of
  TryLock sept_lock;                          ///< the tree: shared, or exclusive for BLOCK
  std::optional<SecureEpt> sept;              ///< from MNG.INIT on
};

/// A vCPU: what the module keeps in the TDVPS pages. Changes under an exclusive lock of the TDVPR's
/// PAMT entry.
struct VcpuRecord {
  std::atomic<bool> used = false;
  bool initialized = false;
  unsigned pages = 0;                     ///< with the TDVPR
  std::uint32_t index = 0;                ///< in the TD, from VP.INIT on
  std::optional<ProcessorId> associated;  ///< the processor that ran it last
};

}  // namespace accede::host
