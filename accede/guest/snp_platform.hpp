// AMD SEV-SNP as a platform: page state changes by the host, PVALIDATE by the guest.
#pragma once

#include "accede/abi/ghcb.hpp"
#include "accede/abi/rmp.hpp"
#include "accede/base/assert.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/base/phys_window.hpp"
#include "accede/base/units.hpp"
#include "accede/guest/page_state_list.hpp"
#include "accede/guest/page_walk.hpp"
#include "accede/guest/platform.hpp"
#include "accede/guest/pvalidate.hpp"

#include <atomic>
#include <concepts>
#include <cstdint>
#include <expected>

namespace accede::guest {

/// How the embedder reaches the host. Both exchanges happen on the current CPU and must not be
/// interrupted by another use of its GHCB MSR between the write and the read (interrupts off, or
/// the handlers save and restore the MSR).
///   msr_exchange(request)  writes the GHCB MSR (C0010130), executes VMGEXIT, returns the MSR. The
///                          MSR holds afterwards what it held before.
///   page_exchange(ghcb)    writes the GPA of a GHCB page to the MSR and executes VMGEXIT.
template <class T>
concept GhcbTransport = requires(T& transport, std::uint64_t request, PhysAddr ghcb) {
  { transport.msr_exchange(request) } -> std::same_as<std::uint64_t>;
  { transport.page_exchange(ghcb) } -> std::same_as<void>;
};

/// A transport that knows the GHCB page of each CPU (a host takes only the page registered for the
/// CPU that exits).
///   claim_ghcb()       the current CPU's page for the caller alone, who stays on this CPU until
///                      release_ghcb(); a null page when there is none or it is in use (an
///                      interrupt came in between): then the MSR protocol serves.
template <class T>
concept PerCpuGhcbTransport = GhcbTransport<T> && requires(T& transport, GhcbRef ghcb) {
  { transport.claim_ghcb() } -> std::same_as<GhcbRef>;
  { transport.release_ghcb(ghcb) } -> std::same_as<void>;
};

struct SnpOptions {
  /// Read the first and the last byte of each 4 KiB page after validating it (the cache coherency
  /// mitigation of 2025). Not needed where Detection::coherency_sfw_no is set.
  bool evict_caches = true;
  std::uint16_t ghcb_version = 2;  ///< negotiated; page state lists need 2
};

/// The SNP guest that this code runs in, at VMPL 0. A model of AcceptPlatform.
///
/// Until there is a GHCB page, the host is asked by the MSR protocol, one 4 KiB page at a time;
/// with one, by lists of up to 253 entries. Whatever the host says, a page counts as accepted when
/// its own PVALIDATE changed it: success with CF = 1 means that the page was valid before although
/// our table says it was not, an aliasing attack (APM: PVALIDATE); the page is not used.
///
/// Thread-safe with a PerCpuGhcbTransport, and as long as no GHCB page is given: then no state
/// changes. With use_ghcb() the page belongs to the CPU it is registered for, and accept() and
/// convert() may run on that CPU only; a call that interrupts another there uses the MSR protocol.
/// No lock is held anywhere; a GHCB is claimed for one list, not during PVALIDATE.
///
/// Longest uninterrupted step: one exchange with the host, or PVALIDATE of one page and the reads
/// behind it.
template <GhcbTransport Transport, PvalidatePolicy Pvalidate = HardwarePvalidate>
class SnpPlatform {
 public:
  /// `transport` outlives the object. Through `window` every page that is accepted or converted
  /// is mapped, private (C-bit set). Where the window is not 2 MiB aligned, only 4 KiB pages are
  /// used: PVALIDATE takes virtual addresses.
  SnpPlatform(Transport& transport, PhysWindow window, SnpOptions options = {},
              Pvalidate pvalidate = {})
      : transport_{transport}, window_{window}, options_{options}, pvalidate_{pvalidate} {}
  SnpPlatform(const SnpPlatform&) = delete;
  SnpPlatform& operator=(const SnpPlatform&) = delete;

  /// From now on lists go through this page, which is shared, registered for this CPU and mapped at
  /// `page`; null goes back to the MSR protocol. A transport that knows per-CPU pages goes first.
  /// Preconditions: no other call runs; the negotiated version is 2 or more.
  void use_ghcb(abi::ghcb::GhcbPage* page, PhysAddr address) {
    ACCEDE_ASSERT(page == nullptr || (address.is_aligned(4_KiB) && options_.ghcb_version >= 2));
    ghcb_ = {.page = page, .address = address};
  }

  /// The host makes the pages private, the guest validates them. Their content is undefined.
  /// PlatformFailure::status: the response, header or info word of the host (page_state_list.hpp),
  /// EAX of PVALIDATE, 255 for CF = 1. done_end: the last page whose PVALIDATE succeeded; pages
  /// beyond may have been made private, which may be asked for again.
  [[nodiscard]] PlatformResult accept(PhysRange range) {
    if (auto legal = check(range); !legal.has_value()) {
      return legal;
    }
    while (!range.empty()) {
      const Told told = tell_host(range, abi::ghcb::PageOp::kPrivate);
      if (!told.result.has_value()) {
        return undone(told.result, range.begin());
      }
      if (auto result = set_validated(told.asked, true); !result.has_value()) {
        return result;
      }
      range = *PhysRange::make(told.asked.end(), range.end());
    }
    return {};
  }

  /// To private: accept(). To shared: PVALIDATE takes the pages back from use, then the host makes
  /// them shared; the embedder changes its page tables afterwards. Pages from done_end on are
  /// private and validated as before, unless restoring them failed too: then the kind is kHostLied,
  /// `at` the page and status that of PVALIDATE, and no page of the failed batch may be used.
  /// Precondition: as accept; to shared: the pages were accepted, and nothing uses them.
  [[nodiscard]] PlatformResult convert(PhysRange range, Visibility to) {
    if (to == Visibility::kPrivate) {
      return accept(range);
    }
    if (auto legal = check(range); !legal.has_value()) {
      return legal;
    }
    while (!range.empty()) {
      const PageStateBatch batch{range, cap()};
      if (auto result = share(batch.range()); !result.has_value()) {
        return result;
      }
      range = *PhysRange::make(batch.range().end(), range.end());
    }
    return {};
  }

  [[nodiscard]] PlatformKind kind() const { return PlatformKind::kSnp; }
  /// 16 entries of a list: one exit for what takes milliseconds to validate.
  [[nodiscard]] Bytes preferred_step() const { return 32_MiB; }

 private:
  /// What the host was asked for: the front of a range. On failure done_end says how far it came.
  struct Told {
    PhysRange asked;
    PlatformResult result;
  };

  /// A GHCB page for one list: the transport's, else the one given, else none.
  class Claim {
   public:
    explicit Claim(SnpPlatform& platform) : platform_{platform} {
      if constexpr (PerCpuGhcbTransport<Transport>) {
        ghcb_ = platform_.transport_.claim_ghcb();
        from_transport_ = ghcb_.page != nullptr;
      }
      if (ghcb_.page == nullptr && platform_.ghcb_.page != nullptr &&
          !platform_.ghcb_claimed_.exchange(true, std::memory_order_acquire)) {
        ghcb_ = platform_.ghcb_;
      }
    }
    ~Claim() {
      if constexpr (PerCpuGhcbTransport<Transport>) {
        if (from_transport_) {
          platform_.transport_.release_ghcb(ghcb_);
          return;
        }
      }
      if (ghcb_.page != nullptr) {
        platform_.ghcb_claimed_.store(false, std::memory_order_release);
      }
    }
    Claim(const Claim&) = delete;
    Claim& operator=(const Claim&) = delete;

    [[nodiscard]] GhcbRef ghcb() const { return ghcb_; }

   private:
    SnpPlatform& platform_;
    GhcbRef ghcb_;
    bool from_transport_ = false;
  };

  [[nodiscard]] static PlatformResult undone(PlatformResult result, PhysAddr done_end) {
    result.error().done_end = done_end;
    return result;
  }

  /// The formats have 40 bits for a page number.
  [[nodiscard]] static PlatformResult check(PhysRange range) {
    ACCEDE_ASSERT(range.begin().is_aligned(4_KiB) && range.end().is_aligned(4_KiB));
    constexpr PhysAddr kEnd{1ULL << 52};
    if (range.end() <= kEnd) {
      return {};
    }
    return std::unexpected{
        PlatformFailure{.kind = FailureKind::kRefused,
                        .status = static_cast<std::uint64_t>(abi::rmp::PvalidateCode::kFailInput),
                        .at = range.begin() < kEnd ? kEnd : range.begin(),
                        .size = PageSize::k4K,
                        .done_end = range.begin()}};
  }

  [[nodiscard]] PageSize cap() const {
    const auto origin = reinterpret_cast<std::uintptr_t>(window_.pointer<void>(PhysAddr{}));
    return origin % bytes(PageSize::k2M).value() == 0 ? PageSize::k2M : PageSize::k4K;
  }

  [[nodiscard]] Told tell_host(PhysRange range, abi::ghcb::PageOp op) {
    const Claim claim{*this};
    if (claim.ghcb().page == nullptr) {
      return {.asked = PhysRange::page(range.begin(), PageSize::k4K),
              .result = change_page_state(range.begin(), op, [this](std::uint64_t request) {
                return transport_.msr_exchange(request);
              })};
    }
    const PageStateBatch batch{range, cap()};
    return {.asked = batch.range(),
            .result = change_page_state(claim.ghcb(), batch, op, options_.ghcb_version,
                                        [this](PhysAddr ghcb) { transport_.page_exchange(ghcb); })};
  }

  [[nodiscard]] PlatformResult set_validated(PhysRange range, bool validate) {
    return accept_by_page(range, cap(), [this, validate](PhysAddr page, PageSize size) {
      const PvalidateResult result = pvalidate_(window_.pointer<void>(page), size, validate);
      const Answer answer = answer_of(result);
      if (validate && answer == Answer::kAccepted && options_.evict_caches) {
        evict(page, size);
      }
      return PageAnswer{.answer = answer, .status = status_of(result)};
    });
  }

  void evict(PhysAddr page, PageSize size) const {
    const auto* data = window_.pointer<const volatile std::uint8_t>(page);
    for (std::uint64_t offset = 0; offset < bytes(size).value(); offset += 4096) {
      static_cast<void>(data[offset]);
      static_cast<void>(data[offset + 4095]);
    }
  }

  /// One batch to shared: rescind all, then tell the host.
  [[nodiscard]] PlatformResult share(PhysRange range) {
    if (auto rescinded = set_validated(range, false); !rescinded.has_value()) {
      if (rescinded.error().kind == FailureKind::kAlreadyAccepted) {
        // CF = 1: a page of ours was not valid any more. The host took it and put it back.
        rescinded.error().kind = FailureKind::kHostLied;
      }
      const PhysRange front = *PhysRange::make(range.begin(), rescinded.error().at);
      return restore(front, undone(rescinded, range.begin()));
    }
    while (!range.empty()) {
      const Told told = tell_host(range, abi::ghcb::PageOp::kShared);
      if (!told.result.has_value()) {
        return restore(*PhysRange::make(told.result.error().done_end, range.end()), told.result);
      }
      range = *PhysRange::make(told.asked.end(), range.end());
    }
    return {};
  }

  /// Validates `range` again, which was rescinded and is not shared, and gives `failure`.
  [[nodiscard]] PlatformResult restore(PhysRange range, PlatformResult failure) {
    if (const auto restored = set_validated(range, true); !restored.has_value()) {
      failure.error().kind = FailureKind::kHostLied;
      failure.error().status = restored.error().status;
      failure.error().at = restored.error().at;
      failure.error().size = restored.error().size;
    }
    return failure;
  }

  Transport& transport_;
  PhysWindow window_;
  SnpOptions options_;
  [[no_unique_address]] Pvalidate pvalidate_;
  GhcbRef ghcb_;
  std::atomic<bool> ghcb_claimed_ = false;
};

}  // namespace accede::guest
