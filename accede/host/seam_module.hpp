// The host's side of the TDX module: SEAMCALLs over TDMRs, PAMT and the secure EPTs of TDs. (What a
// guest asks by TDCALL is emulator::TdxModule; both decide page states in SecureEpt.)
#pragma once

#include "accede/abi/tdx.hpp"
#include "accede/abi/tdx_seamcall_status.hpp"
#include "accede/base/units.hpp"
#include "accede/host/pamt.hpp"
#include "accede/host/seam_types.hpp"
#include "accede/host/secure_ept.hpp"
#include "accede/host/tdmr_check.hpp"
#include "accede/host/try_lock.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

namespace accede::host {

/// Memory that the model takes for itself. Outlives the module.
struct SeamStorage {
  std::span<std::byte> pamt;  ///< Pamt::storage_bound(), 8 KiB aligned
  std::span<TdRecord> tds;
  std::span<VcpuRecord> vcpus;
};

/// The TDX module as a host sees it: SYS.* brings it up, MNG.* and VP.* build TDs from pages that
/// the host gives, MEM.* fills them, PHYMEM.* takes pages back. Every page, those of control
/// structures and secure-EPT tables too, must be free memory of an initialized part of a TDMR;
/// decisions, their order and status words are the module's (reference: TDX fact sheet, section 6,
/// 2.4; TDX module 1.5). One call per leaf; registers that a leaf takes are its parameters.
///
/// Common to all calls but SYS.*: SYS_NOT_READY before the last SYS.KEY.CONFIG. To all that take a
/// page: misaligned or with key bits OPERAND_INVALID, in no TDMR or in a GiB that TDMR.INIT did not
/// finish OPERAND_ADDR_RANGE_ERROR, an entry on the way locked by another call OPERAND_BUSY, of
/// another type or size, reserved, owned PAGE_METADATA_INCORRECT, with dynamic PAMT a free 4K page
/// of a region without a pair MISSING_PAMT_PAGE_PAIR; each with the operand. To those that need a
/// TD that is built: TD_KEYS_NOT_CONFIGURED, TDCS_NOT_ALLOCATED, OP_STATE_INCORRECT.
///
/// Contents of memory, keys and caches are not modelled: a source page, MRTD (Measurement does it),
/// WBINVD and PCONFIG have no effect beyond their checks and states. Nor are VP.ENTER (the embedder
/// runs the guest over secure_ept() and counts vCPUs there), SEPT.REMOVE, PROMOTE, DEMOTE, RELOCATE
/// and migration, nor the hint that a pair of pages became free. AUG needs a finalized TD
/// (SecureEpt); the module takes it from MNG.INIT on.
///
/// Thread-safe. Locks are the module's: global, keys, a PAMT entry (that of the TDR guards a TD),
/// the tree of a TD. None is ever waited for, so that their order does not matter; SecureEpt's come
/// last.
class SeamModule {
 public:
  /// An uninitialized module. Preconditions: SeamMachine's limits; records unused.
  SeamModule(const SeamMachine& machine, const SeamStorage& storage);
  SeamModule(const SeamModule&) = delete;
  SeamModule& operator=(const SeamModule&) = delete;

  // --- Bring-up, in this order (reference 6). SYS_BUSY while another one runs ---

  /// SYS_INIT_NOT_PENDING; RCX must be 0; CMR_LIST_INVALID.
  [[nodiscard]] SeamCall sys_init(std::uint64_t rcx = 0);
  /// On each processor once: SYS_LP_INIT_NOT_PENDING, SYS_LP_INIT_DONE.
  [[nodiscard]] SeamCall sys_lp_init(ProcessorId processor);
  /// SYS_CONFIG_NOT_PENDING, also while a processor is not initialized; a list of none or more than
  /// 64 OPERAND_INVALID|RDX; a key that is not private OPERAND_INVALID|R8; check_tdmrs().
  [[nodiscard]] SeamCall sys_config(std::span<const abi::tdx::TdmrInfo> tdmrs, KeyId global_key,
                                    bool dynamic_pamt = false);
  /// On one processor of each package: SYS_KEY_CONFIG_NOT_PENDING, KEY_CONFIGURED.
  [[nodiscard]] SeamCall sys_key_config(ProcessorId processor);
  /// One step for the TDMR that begins at `tdmr`: RDX = the first address that cannot be used yet,
  /// in whole GiB. No such TDMR OPERAND_INVALID|RCX; all done TDMR_ALREADY_INITIALIZED, a warning.
  [[nodiscard]] SeamCall sys_tdmr_init(PhysAddr tdmr);

  // --- Building a TD ---

  /// RCX `tdr` becomes the root of a TD. Key not private OPERAND_INVALID|RDX, HKID_NOT_FREE.
  [[nodiscard]] SeamCall mng_create(PhysAddr tdr, KeyId key);
  /// On one processor of each package: LIFECYCLE_STATE_INCORRECT, KEY_CONFIGURED.
  [[nodiscard]] SeamCall mng_key_config(ProcessorId processor, PhysAddr tdr);
  /// RCX `page` joins TDCS: TDCX_NUM_INCORRECT beyond kMostTdcsPages.
  [[nodiscard]] SeamCall mng_addcx(PhysAddr page, PhysAddr tdr);
  /// `sept_storage` as SecureEpt's constructor takes it. No vCPU allowed OPERAND_INVALID|MAX_VCPUS;
  /// a width that is not 48 or 52 OPERAND_INVALID|EPTP_CONTROLS.
  [[nodiscard]] SeamCall mng_init(PhysAddr tdr, const TdParams& params,
                                  std::span<std::byte> sept_storage);
  /// RCX `tdvpr` becomes the root of a vCPU.
  [[nodiscard]] SeamCall vp_create(PhysAddr tdvpr, PhysAddr tdr);
  /// RCX `page` joins TDVPS: VCPU_STATE_INCORRECT, TDCX_NUM_INCORRECT beyond kMostTdvpsPages.
  [[nodiscard]] SeamCall vp_addcx(PhysAddr page, PhysAddr tdvpr);
  /// TDCX_NUM_INCORRECT with too few pages, VCPU_STATE_INCORRECT, MAX_VCPUS_EXCEEDED. The processor
  /// holds state of the vCPU until vp_flush().
  [[nodiscard]] SeamCall vp_init(ProcessorId processor, PhysAddr tdvpr);
  /// NO_VCPUS. The TD becomes runnable.
  [[nodiscard]] SeamCall mr_finalize(PhysAddr tdr);

  // --- Its memory. RCX: GPA | level. An error of the entry leaves the entry in RCX and its level
  // --- and state in RDX ---

  [[nodiscard]] SeamCall mem_sept_add(std::uint64_t rcx, PhysAddr tdr, PhysAddr page);
  [[nodiscard]] SeamCall mem_page_add(std::uint64_t rcx, PhysAddr tdr, PhysAddr page);
  [[nodiscard]] SeamCall mem_page_aug(std::uint64_t rcx, PhysAddr tdr, PhysAddr page);
  [[nodiscard]] SeamCall mem_range_block(std::uint64_t rcx, PhysAddr tdr);
  [[nodiscard]] SeamCall mem_range_unblock(std::uint64_t rcx, PhysAddr tdr);
  [[nodiscard]] SeamCall mem_track(PhysAddr tdr);
  /// RCX out: the page, free again.
  [[nodiscard]] SeamCall mem_page_remove(std::uint64_t rcx, PhysAddr tdr);

  // --- Ending a TD ---

  /// VCPU_NOT_ASSOCIATED with this processor.
  [[nodiscard]] SeamCall vp_flush(ProcessorId processor, PhysAddr tdvpr);
  /// FLUSHVP_NOT_DONE. The TD never runs again.
  [[nodiscard]] SeamCall mng_vpflushdone(PhysAddr tdr);
  /// On one processor of each package: NO_HKID_READY_TO_WBCACHE, a warning.
  [[nodiscard]] SeamCall phymem_cache_wb(ProcessorId processor);
  /// WBCACHE_NOT_COMPLETE. The key is free; pages can be reclaimed.
  [[nodiscard]] SeamCall mng_key_freeid(PhysAddr tdr);
  /// RCX, RDX, R8 out: type, owner, size of the page as it was. LIFECYCLE_STATE_INCORRECT before
  /// mng_key_freeid(); a TDR with other pages left TD_ASSOCIATED_PAGES_EXIST.
  [[nodiscard]] SeamCall phymem_page_reclaim(PhysAddr page);
  /// The page, with any key id, must be free.
  [[nodiscard]] SeamCall phymem_page_wbinvd(PhysAddr page);
  /// RCX, RDX, R8 out: type, owner, size. Any page of an initialized TDMR.
  [[nodiscard]] SeamCall phymem_page_rdmd(PhysAddr page);

  // --- Dynamic PAMT (module 2.0). RCX: a 2M region | level 1. OPERAND_INVALID|RAX without it ---

  /// RDX and R8 name the pages that will hold the metadata of the region's 4K pages; they may be in
  /// the region. HPA_RANGE_NOT_FREE|RCX; PAGE_NOT_FREE with the page's operand.
  [[nodiscard]] SeamCall phymem_pamt_add(std::uint64_t rcx, PhysAddr first, PhysAddr second);
  /// RDX, R8 out: the pages. NO_PAMT_PAGE_PAIR|RCX; PAMT_PAGE_NOT_EMPTY with the number of the page
  /// that describes one in use.
  [[nodiscard]] SeamCall phymem_pamt_remove(std::uint64_t rcx);

  // --- For the embedder ---

  /// The page states of the TD, for its guest's side; the host's goes through the calls above. None
  /// before MNG.INIT, and while another call has the TD for itself. Valid until the TDR is
  /// reclaimed.
  [[nodiscard]] SecureEpt* secure_ept(PhysAddr tdr);
  /// Structure of all tables. Only while no other call runs.
  [[nodiscard]] bool invariants() const;

 private:
  enum class SysState : std::uint8_t { kInitPending, kInitDone, kConfigDone, kReady };
  enum class KeyState : std::uint8_t { kFree, kReserved, kAssigned, kFlushed };
  struct Key {
    KeyState state = KeyState::kFree;
    std::atomic<std::uint32_t> packages_to_flush = 0;
  };
  struct LockedTd;
  struct Target;
  enum class OnPage : std::uint8_t { kSeptTable, kAdd, kAug };

  template <class T>
  using Got = std::expected<T, SeamCall>;

  [[nodiscard]] static SeamCall answer(abi::tdx::Status code, abi::tdx::Operand operand);
  [[nodiscard]] static SeamCall answer(abi::tdx::Status code, std::uint32_t details = 0);
  [[nodiscard]] static SeamCall success() { return SeamResult{}; }

  [[nodiscard]] PhysAddr memory_end() const;
  [[nodiscard]] bool is_private(KeyId key) const;
  [[nodiscard]] unsigned package_of(ProcessorId processor) const;
  [[nodiscard]] std::uint32_t all_packages() const { return (1U << machine_.packages) - 1; }
  [[nodiscard]] bool ready() const;

  [[nodiscard]] Got<PamtPage> walk(PhysAddr page, abi::tdx::Operand operand, PageSize size,
                                   PamtLock lock);
  [[nodiscard]] Got<PamtPage> lock_page(PhysAddr page, abi::tdx::Operand operand, PamtType type,
                                        PamtLock lock, PageSize size = PageSize::k4K);
  [[nodiscard]] SeamCall check_region(std::uint64_t rcx) const;
  [[nodiscard]] Got<LockedTd> lock_td(PhysAddr tdr, abi::tdx::Operand operand, PamtLock lock);
  [[nodiscard]] Got<LockedTd> lock_owner(const PamtPage& page, PamtLock lock);
  [[nodiscard]] static SeamCall built(const TdRecord& td);
  [[nodiscard]] Got<LockedTd> lock_built_td(PhysAddr tdr, abi::tdx::Operand operand, PamtLock lock,
                                            TdOpState first, TdOpState last);

  [[nodiscard]] static Got<Target> target_of(const TdRecord& td, std::uint64_t rcx,
                                             SeptLevel lowest, SeptLevel highest);
  [[nodiscard]] static SeamCall answer_of(const TdRecord& td, const Target& target,
                                          const HostCall& call);
  [[nodiscard]] SeamCall take_page(std::uint64_t rcx, PhysAddr tdr, PhysAddr page, OnPage what);
  [[nodiscard]] static HostCall put_page(TdRecord& td, const Target& target, PhysAddr page,
                                         OnPage what);
  [[nodiscard]] SeamCall change_range(std::uint64_t rcx, PhysAddr tdr, bool block);
  [[nodiscard]] SeamCall remove_target(LockedTd& locked, const Target& target);

  SeamMachine machine_;
  Pamt pamt_;
  std::span<TdRecord> tds_;
  std::span<VcpuRecord> vcpus_;
  TryLock global_lock_;
  TryLock key_lock_;
  std::atomic<SysState> state_ = SysState::kInitPending;
  std::atomic<unsigned> processors_done_ = 0;
  std::array<std::atomic<bool>, kMostProcessors> processor_done_{};
  std::uint32_t packages_done_ = 0;  ///< bit mask; under global_lock_
  std::array<Key, kMostKeys> keys_{};
};

}  // namespace accede::host
