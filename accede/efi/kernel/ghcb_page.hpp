// The kernel's GHCB page: a page of its image that it shares with the host, and takes back.
#pragma once

#include "accede/abi/ghcb.hpp"
#include "accede/base/function_ref.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/efi/kernel/kernel_error.hpp"
#include "accede/efi/kernel/page_tables.hpp"
#include "accede/emulator/cpu.hpp"
#include "accede/guest/page_state_list.hpp"
#include "accede/guest/platform.hpp"

#include <cstdint>
#include <expected>

namespace accede::efi::kernel {

/// Maps the GHCB page for the kernel: read and write, with or without the C-bit.
using MapGhcb = FunctionRef<std::expected<void, PageTablesError>(guest::Visibility)>;

/// Shares `ghcb`, which is private, accepted and used by nobody, and has the platform use it:
/// PVALIDATE takes the page back from use, the host makes it shared, the mapping loses its C-bit,
/// the host registers it for this CPU. `Platform`: efi::MachinePlatform on SNP, or a test.
/// Errors: what the host or the page tables refuse. Then the page is lost and must not be touched.
template <class Platform>
[[nodiscard, gnu::cold]] std::expected<void, KernelError> open_ghcb(Platform& platform,
                                                                    guest::GhcbRef ghcb,
                                                                    MapGhcb map) {
  constexpr std::string_view kWhat = "the GHCB page cannot be shared with the host"sv;
  const auto fail = [&](std::string_view why) {
    return std::unexpected{KernelError{.what = kWhat, .why = why, .detail = ghcb.address.value()}};
  };
  emulator::cpu::flush_page(ghcb.page);
  const PhysRange page = PhysRange::page(ghcb.address, PageSize::k4K);
  if (const auto converted = platform.convert(page, guest::Visibility::kShared); !converted) {
    return fail(guest::to_string(converted.error().kind));
  }
  if (const auto mapped = map(guest::Visibility::kShared); !mapped) {
    return fail(to_string(mapped.error()));
  }
  emulator::cpu::zero_page(ghcb.page);  // shared it holds something else than before
  if (!platform.ghcb_msr().keep(ghcb.address)) {
    return fail("the host does not register it"sv);
  }
  platform.use_ghcb(ghcb.page, ghcb.address);
  return {};
}

/// Makes the page private again, by the MSR protocol, so that whoever has its memory next can use
/// it like any other. Precondition: open_ghcb() succeeded; nobody makes calls through it any more.
/// Errors: as open_ghcb().
template <class Platform>
[[nodiscard, gnu::cold]] std::expected<void, KernelError> close_ghcb(Platform& platform,
                                                                     guest::GhcbRef ghcb,
                                                                     MapGhcb map) {
  constexpr std::string_view kWhat = "the GHCB page cannot be taken back from the host"sv;
  const auto fail = [&](std::string_view why) {
    return std::unexpected{KernelError{.what = kWhat, .why = why, .detail = ghcb.address.value()}};
  };
  platform.use_ghcb(nullptr, {});
  emulator::cpu::flush_page(ghcb.page);
  if (const auto mapped = map(guest::Visibility::kPrivate); !mapped) {
    return fail(to_string(mapped.error()));
  }
  const PhysRange page = PhysRange::page(ghcb.address, PageSize::k4K);
  if (const auto accepted = platform.accept(page); !accepted) {
    return fail(guest::to_string(accepted.error().kind));
  }
  return {};
}

}  // namespace accede::efi::kernel
