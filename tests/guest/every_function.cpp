// The whole guest library in one program. `scripts/check guest-size` links it with all object files
// of the library, limits what the result weighs in a kernel, and wants every public function of a
// class template, every function template and every inline free function named here. Nothing runs.
//
// The address of each is taken, so that it exists once, out of line, with what it needs.
//
// A kernel that runs on either platform decides at run time, once: KernelPlatform. So the templates
// above the platforms exist once, as in such a kernel.
#include "accede/guest/acceptor.hpp"
#include "accede/guest/background.hpp"
#include "accede/guest/deferred_init.hpp"
#include "accede/guest/early_allocator.hpp"
#include "accede/guest/hooks.hpp"
#include "accede/guest/kexec.hpp"
#include "accede/guest/page_allocator.hpp"
#include "accede/guest/page_walk.hpp"
#include "accede/guest/platform.hpp"
#include "accede/guest/policies.hpp"
#include "accede/guest/snp_platform.hpp"
#include "accede/guest/tdx_platform.hpp"
#include "accede/guest/unaccepted_table.hpp"

#include <cstdint>
#include <expected>
#include <optional>
#include <span>

namespace accede::guest {

/// What an SNP kernel brings, at its smallest.
class KernelTransport {
 public:
  std::uint64_t msr_exchange(std::uint64_t request) {
    asm volatile("rep; vmmcall" : "+a"(request)::"memory");
    return request;
  }
  void page_exchange(PhysAddr ghcb) { asm volatile("rep; vmmcall" ::"a"(ghcb.value()) : "memory"); }
  GhcbRef claim_ghcb() { return page_; }
  void release_ghcb(GhcbRef) {}

 private:
  GhcbRef page_;
};

class KernelPlatform {
 public:
  [[nodiscard]] PlatformResult accept(PhysRange range) {
    return tdx_ ? tdx_->accept(range) : snp_->accept(range);
  }
  [[nodiscard]] PlatformResult convert(PhysRange range, Visibility to) {
    return tdx_ ? tdx_->convert(range, to) : snp_->convert(range, to);
  }
  [[nodiscard]] PlatformKind kind() const { return tdx_ ? tdx_->kind() : snp_->kind(); }
  [[nodiscard]] Bytes preferred_step() const {
    return tdx_ ? tdx_->preferred_step() : snp_->preferred_step();
  }

 private:
  std::optional<TdxPlatform> tdx_;
  std::optional<SnpPlatform<KernelTransport>> snp_;
};
static_assert(AcceptPlatform<KernelPlatform>);

using KernelTdx = BasicTdxPlatform<HardwareTdcall>;
using KernelSnp = SnpPlatform<KernelTransport>;
using KernelAcceptor = Acceptor<KernelPlatform>;
using KernelEarly = EarlyAllocator<KernelAcceptor>;
using KernelPages = PageAllocator<KernelAcceptor, Background>;
using KernelInit = DeferredInit<KernelPages>;
using KernelBackground = BackgroundAcceptor<KernelPages>;

namespace {

/// Makes the compiler believe that all of them are called from elsewhere.
template <class... Functions>
[[gnu::always_inline]] inline void keep(Functions... functions) {
  (..., [](auto& function) __attribute__((always_inline)) {
    asm volatile("" ::"r"(&function) : "memory");
  }(functions));
}

// The code that takes the addresses has a section of its own, which does not count.
[[gnu::section(".every_function")]] void keep_platforms() {
  keep(&KernelTdx::make, &KernelTdx::accept, &KernelTdx::convert, &KernelTdx::kind,
       &KernelTdx::preferred_step, &KernelTdx::shared_bit, &KernelTdx::private_end);
  keep(&KernelSnp::use_ghcb, &KernelSnp::accept, &KernelSnp::convert, &KernelSnp::kind,
       &KernelSnp::preferred_step);
  keep(&reaction, &failure_of, &largest_page, &tdcall, &pvalidate, &status_of);
  keep(static_cast<Answer (*)(std::uint64_t)>(&answer_of),
       static_cast<Answer (*)(PvalidateResult)>(&answer_of));
  using AnyPage = PageAnswer (*)(PhysAddr, PageSize);
  keep(&accept_by_page<AnyPage&>);
}

[[gnu::section(".every_function")]] void keep_texts() {
  keep(static_cast<std::string_view (*)(PlatformKind)>(&to_string),
       static_cast<std::string_view (*)(FailureKind)>(&to_string),
       static_cast<std::string_view (*)(AllocErrorKind)>(&to_string),
       static_cast<std::string_view (*)(FreeError)>(&to_string),
       static_cast<std::string_view (*)(PageState)>(&to_string));
}

[[gnu::section(".every_function")]] void keep_acceptor() {
  using Own = KernelAcceptor;
  keep(&Own::accept, &Own::accept_some, &Own::accept_rest, &Own::contains_unaccepted,
       &Own::counters, &Own::platform, &Own::relax, &Own::step,
       static_cast<UnacceptedTable& (Own::*)()>(&Own::table),
       static_cast<const UnacceptedTable& (Own::*)() const>(&Own::table));
  keep(&accept_all<KernelPlatform>);
}

[[gnu::section(".every_function")]] void keep_early() {
  using Own = KernelEarly;
  keep(static_cast<Own::Done (Own::*)(PhysRange, NodeId)>(&Own::add_memory),
       static_cast<Own::Done (Own::*)(const MemoryMap&, NodeId)>(&Own::add_memory));
  keep(&Own::allow_growth, &Own::assign_node, &Own::reserve, &Own::reserve_pages,
       &Own::reserve_table, &Own::allocate, &Own::free, &Own::ranges, &Own::bookkeeping,
       &Own::invariants);
}

[[gnu::section(".every_function")]] void keep_pages() {
  using Own = KernelPages;
  keep(&Own::open_zone, &Own::assign_cpu, &Own::prepare, &Own::add, &Own::allocate,
       &Own::allocate_bulk, &Own::allocate_contiguous, &Own::free, &Own::free_contiguous,
       &Own::drain_caches, &Own::take_out, &Own::accept_ahead, &Own::accept_everything);
  keep(&Own::zone_count, &Own::zone, &Own::exact_counters, &Own::counters, &Own::cached,
       &Own::accept_waits, &Own::metadata, &Own::unit_order, &Own::acceptor, &Own::policy,
       &Own::hooks, &Own::invariants);
  keep(&KernelInit::step, &KernelInit::run, &KernelBackground::step, &KernelBackground::reserve);
  keep(&open_zones<KernelPages, KernelEarly>, &load<KernelAcceptor>);
  keep(static_cast<std::uint32_t (*)(Frame)>(&number));
}

}  // namespace

/// Never called. The constructors, and everything above.
extern "C" [[gnu::section(".every_function")]] void accede_every_function(
    KernelPlatform& platform, UnacceptedTable& table, std::span<Zone> zones,
    std::span<CpuCache> caches, SingleCpuHooks& hooks, PhysWindow window) {
  KernelAcceptor acceptor{table, platform};
  KernelEarly early{acceptor, window, {}, {}};
  KernelPages pages{acceptor, zones, caches, hooks};
  KernelInit init{pages, early.ranges()};
  KernelBackground background{pages};
  asm volatile("" ::"r"(&early), "r"(&init), "r"(&background) : "memory");
  keep_platforms();
  keep_texts();
  keep_acceptor();
  keep_early();
  keep_pages();
}

}  // namespace accede::guest
