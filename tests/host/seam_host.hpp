// A host with the TDX module on it: a machine of two packages, its TDMRs, and TDs built by
// SEAMCALLs. Without GoogleTest: fuzz targets use it, too.
#pragma once

#include "accede/host/seam_module.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <vector>

namespace accede::host::test {

inline constexpr std::uint64_t kPageBytes = 4096;
inline constexpr std::uint64_t kMib = 1ULL << 20;
inline constexpr std::uint64_t kGib = 1ULL << 30;

/// For set-up: stops the program when a call does not do what it is for.
inline void must(const SeamCall& call) {
  if (!call.has_value() || call->status != 0) {
    std::fprintf(stderr, "set-up failed: %llx\n",
                 static_cast<unsigned long long>(call.value_or(SeamResult{}).status));
    std::abort();
  }
}

/// Memory aligned as the models want it; its content starts as junk, as a host's would.
class AlignedBytes {
 public:
  explicit AlignedBytes(Bytes size) : blocks_((size.value() + kBlock - 1) / kBlock) {
    std::ranges::fill(span(), std::byte{0xA5});
  }
  [[nodiscard]] std::span<std::byte> span() { return std::as_writable_bytes(std::span{blocks_}); }

 private:
  static constexpr std::size_t kBlock = 8192;
  struct alignas(kBlock) Block {
    std::array<std::byte, kBlock> bytes;
  };
  std::vector<Block> blocks_;
};

/// Memory: [1 MiB, 2 GiB) and [4 GiB, 8 GiB) convertible. TDMRs: [0, 1 GiB) without its first MiB,
/// [4 GiB, 6 GiB) with a reserved area of 16 MiB at kReserved. PAMTs are at 7 GiB, outside both.
class SeamHost {
 public:
  static constexpr std::uint64_t kReserved = 4 * kGib + 64 * kMib;
  static constexpr std::uint64_t kTdmr = 4 * kGib;
  static constexpr std::uint64_t kTdmrEnd = 6 * kGib;
  static constexpr KeyId kGlobalKey{32};
  static constexpr KeyId kFirstKey{33};

  explicit SeamHost(Bytes pamt_storage = 512_KiB, std::size_t tds = 4, std::size_t vcpus = 8)
      : pamt_{pamt_storage},
        tds_(tds),
        vcpus_(vcpus),
        module{{.cmrs = cmrs_,
                .physical_bits = 52,
                .key_bits = 6,
                .first_private_key = 32,
                .packages = 2,
                .processors_per_package = 2},
               {.pamt = pamt_.span(), .tds = tds_span(), .vcpus = vcpu_span()}} {
    tdmrs_[0] = {
        .base = 0, .size = kGib, .pamt_1g = {}, .pamt_2m = {}, .pamt_4k = {}, .reserved = {}};
    tdmrs_[0].reserved[0] = {.offset = 0, .size = kMib};
    tdmrs_[1] = {.base = kTdmr,
                 .size = 2 * kGib,
                 .pamt_1g = {},
                 .pamt_2m = {},
                 .pamt_4k = {},
                 .reserved = {}};
    tdmrs_[1].reserved[0] = {.offset = kReserved - kTdmr, .size = 16 * kMib};
    std::uint64_t at = 7 * kGib;
    for (abi::tdx::TdmrInfo& tdmr : tdmrs_) {
      const auto place = [&](PageSize page) {
        const Bytes size = least_pamt_size(Bytes{tdmr.size}, page, false);
        at += size.value();
        return abi::tdx::PamtArea{.base = at - size.value(), .size = size.value()};
      };
      tdmr.pamt_1g = place(PageSize::k1G);
      tdmr.pamt_2m = place(PageSize::k2M);
      tdmr.pamt_4k = place(PageSize::k4K);
    }
  }

  [[nodiscard]] static std::vector<ProcessorId> processors() {
    return {ProcessorId{0}, ProcessorId{1}, ProcessorId{2}, ProcessorId{3}};
  }
  /// One of each package.
  [[nodiscard]] static std::vector<ProcessorId> packages() {
    return {ProcessorId{0}, ProcessorId{2}};
  }

  void configure() {
    must(module.sys_init());
    for (const ProcessorId processor : processors()) {
      must(module.sys_lp_init(processor));
    }
    must(module.sys_config(tdmrs_, kGlobalKey));
  }
  void make_ready() {
    configure();
    for (const ProcessorId processor : packages()) {
      must(module.sys_key_config(processor));
    }
  }
  /// TDMR.INIT until the address is reached.
  void initialize(std::uint64_t base, std::uint64_t end) {
    std::uint64_t next = base;
    while (next < end) {
      const SeamCall call = module.sys_tdmr_init(PhysAddr{base});
      must(call);
      next = call->rdx;
    }
  }
  void bring_up() {
    make_ready();
    for (const abi::tdx::TdmrInfo& tdmr : tdmrs_) {
      initialize(tdmr.base, tdmr.base + tdmr.size);
    }
  }

  /// A TD in pages from `at` on: TDR, TDCS pages, TDVPR, TDVPS pages. Initialized, one vCPU.
  PhysAddr build_td(std::uint64_t at, KeyId key, unsigned max_vcpus = 2) {
    const PhysAddr tdr{at};
    must(module.mng_create(tdr, key));
    for (const ProcessorId processor : packages()) {
      must(module.mng_key_config(processor, tdr));
    }
    for (unsigned i = 0; i < kLeastTdcsPages; ++i) {
      must(module.mng_addcx(PhysAddr{at += kPageBytes}, tdr));
    }
    const TdParams params{.sept = {}, .max_vcpus = static_cast<std::uint16_t>(max_vcpus)};
    must(module.mng_init(tdr, params, sept_.emplace_back(256_KiB).span()));
    add_vcpu(tdr, at + kPageBytes);
    return tdr;
  }
  PhysAddr add_vcpu(PhysAddr tdr, std::uint64_t at) {
    const PhysAddr tdvpr{at};
    must(module.vp_create(tdvpr, tdr));
    for (unsigned i = 1; i < kLeastTdvpsPages; ++i) {
      must(module.vp_addcx(PhysAddr{at += kPageBytes}, tdvpr));
    }
    must(module.vp_init(ProcessorId{0}, tdvpr));
    return tdvpr;
  }
  /// Where build_td() put the vCPU, and the first page that it did not use.
  [[nodiscard]] static PhysAddr vcpu_of(PhysAddr tdr) {
    return tdr + 4_KiB * (1 + kLeastTdcsPages);
  }
  [[nodiscard]] static PhysAddr after(PhysAddr tdr) {
    return vcpu_of(tdr) + 4_KiB * kLeastTdvpsPages;
  }

  /// Tables down to 4K entries for the GPA, in the pages before `last`.
  void add_tables(PhysAddr tdr, std::uint64_t gpa, std::uint64_t pages,
                  SeptLevel down_to = SeptLevel::k2M) {
    for (int level = 3; level >= static_cast<int>(down_to); --level) {
      const std::uint64_t base = gpa & ~((1ULL << (12 + 9 * level)) - 1);
      const SeamCall call = module.mem_sept_add(
          base | static_cast<std::uint64_t>(level), tdr,
          PhysAddr{pages + kPageBytes * (3 - static_cast<std::uint64_t>(level))});
      must(call);
    }
  }

  [[nodiscard]] SeamResult metadata(std::uint64_t page) {
    const SeamCall call = module.phymem_page_rdmd(PhysAddr{page});
    must(call);
    return call.value_or(SeamResult{});
  }
  [[nodiscard]] PamtType type(std::uint64_t page) {
    return static_cast<PamtType>(metadata(page).rcx);
  }

  [[nodiscard]] std::vector<abi::tdx::TdmrInfo>& tdmrs() { return tdmrs_; }
  [[nodiscard]] std::vector<abi::tdx::CmrInfo>& cmrs() { return cmrs_; }

 private:
  std::span<TdRecord> tds_span() { return {tds_.data(), tds_.size()}; }
  std::span<VcpuRecord> vcpu_span() { return {vcpus_.data(), vcpus_.size()}; }

  std::vector<abi::tdx::CmrInfo> cmrs_{{kMib, 2 * kGib - kMib}, {4 * kGib, 4 * kGib}};
  std::vector<abi::tdx::TdmrInfo> tdmrs_{2};
  AlignedBytes pamt_;
  std::vector<TdRecord> tds_;
  std::vector<VcpuRecord> vcpus_;
  std::deque<AlignedBytes> sept_;

 public:
  SeamModule module;
};

}  // namespace accede::host::test
