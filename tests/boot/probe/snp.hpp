// What an SNP guest says to its processor and to its host: PVALIDATE, the MSR protocol, a GHCB
// page.
#pragma once

#include "accede/abi/ghcb.hpp"
#include "accede/abi/rmp.hpp"
#include "accede/efi/ghcb_msr.hpp"
#include "accede/guest/pvalidate.hpp"
#include "tests/boot/probe/address_space.hpp"
#include "tests/boot/probe/exceptions.hpp"
#include "tests/boot/probe/probe.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace probe {

namespace ghcb = accede::abi::ghcb;
namespace rmp = accede::abi::rmp;

/// PVALIDATE of the private page at `gpa`: EAX, or 255 for success with CF = 1. Preconditions: an
/// AddressSpace lives; `gpa` is aligned to `size`, 4 KiB or 2 MiB.
[[nodiscard]] inline std::uint64_t validate(PhysAddr gpa, PageSize size, bool to_valid = true) {
  const void* const page = const_cast<const void*>(at_private(gpa));
  return accede::guest::status_of(accede::guest::pvalidate(page, size, to_valid));
}
/// The other way round: the page is not validated any more.
[[nodiscard]] inline std::uint64_t rescind(PhysAddr gpa, PageSize size) {
  return validate(gpa, size, false);
}
inline constexpr std::uint64_t kNoUpdate = rmp::kPvalidateNoUpdate;

/// The linear address of a window's page, for RAX.
[[nodiscard]] inline std::uint64_t linear(const volatile void* page) {
  return reinterpret_cast<std::uintptr_t>(page);
}

/// VMGEXIT with `value` in the GHCB MSR: what the MSR holds afterwards. A registered page stays
/// registered.
inline std::uint64_t vmgexit(std::uint64_t value) {
  const accede::efi::CpuGhcbPort port;
  port.write(value);
  port.exit();
  return port.read();
}

/// The response to a page state change that was done.
inline constexpr std::uint64_t kPageStateDone = ghcb::page_state_response(0);

/// Changes one 4 KiB page by the MSR protocol: the response.
inline std::uint64_t change_page(PhysAddr gpa, ghcb::PageOp op) {
  return vmgexit(ghcb::page_state_request(gpa, op));
}

/// Like Probe::take_accepted_unit().
[[nodiscard]] PhysAddr take_validated_unit(Probe& probe);

/// A request through the page. A field without a value is not marked valid.
struct GhcbRequest {
  std::uint64_t code = 0;
  std::uint64_t info1 = 0;
  std::uint64_t info2 = 0;
  std::optional<std::uint64_t> rax{};
  std::optional<std::uint64_t> rbx{};
  std::optional<std::uint64_t> rcx{};
  std::optional<std::uint64_t> rdx{};
  std::optional<std::uint64_t> scratch{};
  std::optional<std::uint64_t> xcr0{};
  std::optional<std::uint64_t> cpl{};
  std::uint32_t usage = ghcb::kGhcbUsageStandard;
};
struct GhcbAnswer {
  std::uint64_t info1 = 0;
  std::uint64_t info2 = 0;
  std::uint64_t rax = 0;
  std::uint64_t rbx = 0;
  std::uint64_t rcx = 0;
  std::uint64_t rdx = 0;
};

/// Offset of the shared buffer in the page.
inline constexpr std::size_t kGhcbBuffer = ghcb::kSharedBufferBegin;

/// The page that the probe shares with its host. All objects are the same page, which the first one
/// takes from unaccepted memory; each registers it.
class Ghcb {
 public:
  explicit Ghcb(Probe& probe);

  [[nodiscard]] PhysAddr gpa() const { return gpa_; }
  /// Address of a byte of the shared buffer: sw_scratch.
  [[nodiscard]] std::uint64_t scratch(std::size_t offset = 0) const {
    return gpa_.value() + kGhcbBuffer + offset;
  }

  void put(std::size_t offset, std::uint64_t value) const {
    store<std::uint64_t>(at_shared(gpa_ + Bytes{offset}), value);
  }
  [[nodiscard]] std::uint64_t get(std::size_t offset) const {
    return load<std::uint64_t>(at_shared(gpa_ + Bytes{offset}));
  }

  /// Writes `request` and leaves the rest of the page as it is.
  void write(const GhcbRequest& request) const;
  /// write(), VMGEXIT, and what the page holds then. Checks that exactly the fields that a host
  /// always gives are valid.
  GhcbAnswer call(const GhcbRequest& request) const;
  /// Calls with a request that a host must not carry out; checks how it says so.
  void refused(std::string_view what, const GhcbRequest& request,
               ghcb::MalformedReason reason) const;
  void raises_gp(std::string_view what, const GhcbRequest& request) const;

  /// Puts a page state list into the shared buffer and has it done: sw_exit_info_2.
  std::uint64_t page_states(std::span<const std::uint64_t> entries, std::uint16_t current,
                            std::uint16_t last) const;
  /// All of `entries`.
  std::uint64_t page_states(std::span<const std::uint64_t> entries) const {
    return page_states(entries, 0, static_cast<std::uint16_t>(entries.size() - 1));
  }
  /// What the host left of a list.
  [[nodiscard]] std::uint64_t list_header() const { return get(kGhcbBuffer); }
  [[nodiscard]] std::uint64_t list_entry(std::size_t index) const {
    return get(kGhcbBuffer + 8 + 8 * index);
  }

 private:
  Probe& probe_;
  PhysAddr gpa_;
};

}  // namespace probe
