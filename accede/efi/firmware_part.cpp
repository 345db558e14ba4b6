#include "accede/efi/firmware_part.hpp"

#include "accede/efi/hidden_handshake.hpp"
#include "accede/efi/memory_space.hpp"
#include "accede/efi/snp_tables.hpp"
#include "accede/efi/unaccepted_map.hpp"
#include "accede/emulator/hypercall.hpp"

#include <algorithm>
#include <array>
#include <span>

namespace accede::efi {

using namespace std::string_view_literals;
namespace {

using abi::efi::MemoryAccept;
using abi::efi::MemoryAcceptanceHandshake;
using abi::efi::Status;

/// What loaders had accepted through the protocol: not to be accepted again at ExitBootServices.
struct AcceptedRanges {
  std::array<PhysRange, 64> ranges{};
  std::size_t count = 0;

  [[nodiscard]] bool is_full() const { return count == ranges.size(); }
  /// Keeps them sorted. Precondition: not full.
  void add(PhysRange range) {
    const auto used = std::span{ranges}.first(count);
    const auto at = std::ranges::upper_bound(used, range.begin(), {}, &PhysRange::begin);
    std::move_backward(at, used.end(), used.end() + 1);
    *at = range;
    ++count;
  }
  [[nodiscard]] std::span<const PhysRange> view() const { return {ranges.data(), count}; }
};

/// The protocol comes first: `This` is the whole object.
struct Acceptor {
  MemoryAccept protocol;
  MachinePlatform* platform = nullptr;
  AcceptedRanges accepted;
};

/// EDKII_MEMORY_ACCEPT_PROTOCOL: accepts, and does nothing to the memory map.
Status ACCEDE_EFIAPI accept_memory(MemoryAccept* self, std::uint64_t start, std::uint64_t bytes) {
  const auto range = PhysRange::make(PhysAddr{start}, Bytes{bytes});
  if (!range || !range->begin().is_aligned(4_KiB) || !range->end().is_aligned(4_KiB)) {
    return Status::kInvalidParameter;
  }
  auto& acceptor = *reinterpret_cast<Acceptor*>(self);
  if (acceptor.accepted.is_full()) {
    return Status::kOutOfResources;
  }
  if (!acceptor.platform->accept(*range)) {
    return Status::kDeviceError;
  }
  acceptor.accepted.add(*range);
  return Status::kSuccess;
}

Acceptor g_acceptor{
    .protocol = {.accept_memory = accept_memory}, .platform = nullptr, .accepted = {}};

/// The protocol comes first: `This` is the whole object.
struct Handshake {
  MemoryAcceptanceHandshake protocol;
  firmware::Negotiation* negotiation = nullptr;
};

Status ACCEDE_EFIAPI allow_unaccepted_memory(MemoryAcceptanceHandshake* self) {
  reinterpret_cast<Handshake*>(self)->negotiation->allow_unaccepted();
  return Status::kSuccess;
}

Handshake g_handshake{.protocol = {.allow_unaccepted_memory = allow_unaccepted_memory}};

/// What of `memory` no loader had accepted.
Result<void> accept_all(MachinePlatform& platform, const RangeList& memory) {
  const auto accept = [&](PhysRange part) { return platform.accept(part).has_value(); };
  for (const PhysRange& range : memory.view()) {
    if (!for_each_gap(range, g_acceptor.accepted.view(), accept)) {
      return std::unexpected{Failure{"the firmware could not accept memory"sv}};
    }
  }
  return {};
}

/// What accepting at ExitBootServices needs: a UEFI service has no context argument.
struct LateAcceptance {
  const Firmware* firmware = nullptr;
  const MemoryPlan* plan = nullptr;
  MachinePlatform* platform = nullptr;
};
LateAcceptance g_late;

void accept_all_at_exit() {
  emulator::announce_firmware_accepts(true);
  if (const auto accepted = accept_all(*g_late.platform, g_late.plan->left); !accepted) {
    g_late.firmware->give_up(accepted.error());
  }
  emulator::announce_firmware_accepts(false);
}

}  // namespace

firmware::Negotiation negotiation_of(const LauncherConfig& config, firmware::HostWish wish) {
  return firmware::Negotiation{config.firmware, wish, config.accept_scope};
}

Result<void> play_firmware(const Firmware& firmware, const LauncherConfig& config,
                           const MemoryPlan& plan, MachinePlatform& platform,
                           firmware::Negotiation& negotiation) {
  if (auto accepted = accept_all(platform, plan.accepted); !accepted) {
    return accepted;
  }
  if (!negotiation.accepts_at_start()) {
    g_late = {.firmware = &firmware, .plan = &plan, .platform = &platform};
    show_as_unaccepted(firmware, config.map_lie, negotiation, accept_all_at_exit);
    show_in_memory_space(firmware, plan);
  }
  if (platform.is_snp()) {
    if (auto installed = install_snp_tables(firmware, read_cpuid); !installed) {
      return installed;
    }
  }
  g_acceptor.platform = &platform;
  abi::efi::Handle handle = nullptr;
  if (auto installed =
          firmware.install(&handle, abi::efi::kMemoryAcceptProtocol, &g_acceptor.protocol);
      !installed || !negotiation.has_handshake()) {
    return installed;
  }
  if (config.hide_handshake) {
    hide_handshake_from_kernels(firmware);
  }
  g_handshake.negotiation = &negotiation;
  return firmware.install(&handle, abi::efi::kMemoryAcceptanceHandshakeProtocol,
                          &g_handshake.protocol);
}

}  // namespace accede::efi
