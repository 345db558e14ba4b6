// BOOTX64.EFI: makes the machine a TD, plays the firmware's part, starts the kernel.

#include "accede/efi/firmware.hpp"
#include "accede/efi/high_memory.hpp"
#include "accede/efi/kernel_start.hpp"
#include "accede/efi/launcher_config.hpp"
#include "accede/efi/machine_protocol.hpp"
#include "accede/efi/start_emulator.hpp"
#include "accede/efi/tdcall.hpp"
#include "accede/emulator/hypercall.hpp"

namespace accede::efi {

using namespace std::string_view_literals;
namespace {

using abi::efi::MemoryAccept;
using abi::efi::Status;

/// EDKII_MEMORY_ACCEPT_PROTOCOL: accepts, and does nothing to the memory map.
Status ACCEDE_EFIAPI accept_memory(MemoryAccept* /*self*/, std::uint64_t start,
                                   std::uint64_t bytes) {
  const auto range = PhysRange::make(PhysAddr{start}, Bytes{bytes});
  if (!range || !range->begin().is_aligned(4_KiB) || !range->end().is_aligned(4_KiB)) {
    return Status::kInvalidParameter;
  }
  return accept_range(*range) ? Status::kSuccess : Status::kDeviceError;
}

MemoryAccept g_accept_protocol{.accept_memory = accept_memory};

/// The firmware kind that accepts everything: the memory stays conventional in its map.
Result<void> accept_all(const MemoryPlan& plan) {
  for (const PhysRange& range : plan.pending_ranges()) {
    if (!accept_range(range)) {
      return std::unexpected{Failure{"the firmware could not accept all memory"sv}};
    }
  }
  return {};
}

/// From the plain machine to a TD whose memory is as the configured firmware leaves it.
Result<void> become_td(const Firmware& firmware, const LauncherConfig& config) {
  const bool accepts_all = config.firmware == LauncherConfig::Firmware::kAcceptAll;
  Result<MemoryPlan> plan = survey_memory(firmware);
  if (!plan) {
    return std::unexpected{plan.error()};
  }
  if (!accepts_all) {
    if (auto claimed = claim_pending(firmware, *plan); !claimed) {
      return claimed;
    }
  }
  const Result<PlacedEmulator> placed = place_emulator(firmware, *plan);
  if (!placed) {
    return std::unexpected{placed.error()};
  }
  if (accepts_all) {
    // Placing allocated memory, perhaps above 4 GiB: what is free there now becomes pending, and
    // nobody runs who could allocate it before it is accepted.
    plan = survey_memory(firmware);
    if (!plan) {
      return std::unexpected{plan.error()};
    }
  }
  if (auto entered = enter_emulator(*placed, config, *plan); !entered) {
    return entered;
  }
  if (!accepts_all) {
    show_as_unaccepted(firmware, config.map_lie);
  } else if (auto accepted = accept_all(*plan); !accepted) {
    return accepted;
  }
  abi::efi::Handle handle = nullptr;
  return firmware.install(&handle, abi::efi::kMemoryAcceptProtocol, &g_accept_protocol);
}

/// Under the emulator, it writes the line; without it, we do.
void report_phase(bool is_td, emulator::Phase phase) {
  if (is_td) {
    emulator::announce_phase(phase);
    return;
  }
  emulator::JsonLine line{phase == emulator::Phase::kKernel ? "boot-services-exited"sv
                                                            : "kernel-start"sv};
  Firmware::report(line);
}

// What the callbacks of the firmware and of the loader need; a protocol's functions get `self`.
struct Machine {
  MachineProtocol protocol;
  bool is_td = false;
  bool loader_tells = false;  ///< the loader says itself when the kernel begins
};

void ACCEDE_EFIAPI loader_exits_boot_services(MachineProtocol* self) {
  reinterpret_cast<Machine*>(self)->loader_tells = true;
}

void ACCEDE_EFIAPI kernel_begins(MachineProtocol* self) {
  report_phase(reinterpret_cast<Machine*>(self)->is_td, emulator::Phase::kKernel);
}

Machine g_machine{.protocol = {.revision = MachineProtocol::kRevision,
                               .loader_exits_boot_services = loader_exits_boot_services,
                               .kernel_begins = kernel_begins}};

void ACCEDE_EFIAPI after_boot_services(void* /*event*/, void* /*context*/) {
  if (!g_machine.loader_tells) {
    report_phase(g_machine.is_td, emulator::Phase::kKernel);
  }
}

/// From here on somebody says when the kernel begins: the loader, or the end of boot services.
Result<void> watch_for_the_kernel(const Firmware& firmware, bool is_td) {
  g_machine.is_td = is_td;
  void* event = nullptr;
  const Status status =
      firmware.boot().create_event(abi::efi::kEventSignalExitBootServices, abi::efi::kTplCallback,
                                   after_boot_services, nullptr, &event);
  if (is_error(status)) {
    return std::unexpected{Failure{"no event for ExitBootServices"sv, status}};
  }
  abi::efi::Handle handle = nullptr;
  return firmware.install(&handle, MachineProtocol::kGuid, &g_machine.protocol);
}

void report_return(bool is_td, std::uint64_t status) {
  if (is_td) {
    emulator::announce_return(status);
    return;
  }
  emulator::JsonLine line{"kernel-returned"sv};
  Firmware::report(line.number("status"sv, status));
}

/// Does everything and returns only when the kernel was an EFI program that came back.
Result<void> run(const Firmware& firmware) {
  const Result<std::span<std::byte>> file = firmware.read_file("\\accede\\accede.cfg"sv);
  if (!file) {
    return std::unexpected{Failure{"\\accede\\accede.cfg cannot be read"sv, file.error().status}};
  }
  const auto config =
      parse_launcher_config({reinterpret_cast<const char*>(file->data()), file->size()});
  if (!config) {
    return std::unexpected{Failure{describe(config.error().kind)}};
  }
  const bool is_td = config->platform == LauncherConfig::Platform::kTdx;
  if (is_td) {
    if (auto done = become_td(firmware, *config); !done) {
      return std::unexpected{done.error()};
    }
  }
  if (auto done = punch_holes(firmware, config->map_holes); !done) {
    return std::unexpected{done.error()};
  }
  if (auto done = watch_for_the_kernel(firmware, is_td); !done) {
    return std::unexpected{done.error()};
  }
  const Result<std::uint64_t> status =
      start_kernel(firmware, *config, [is_td] { report_phase(is_td, emulator::Phase::kLoader); });
  if (!status) {
    return std::unexpected{status.error()};
  }
  report_return(is_td, *status);
  return {};
}

}  // namespace
}  // namespace accede::efi

extern "C" accede::abi::efi::Status efi_main(accede::abi::efi::Handle image,
                                             accede::abi::efi::SystemTable* system) {
  using namespace accede;
  using namespace std::string_view_literals;
  const efi::Firmware firmware{image, *system};
  emulator::JsonLine hello{"launcher"sv};
  hello.text("version"sv, ACCEDE_VERSION ""sv);
  efi::Firmware::report(hello);

  if (const efi::Result<void> done = efi::run(firmware); !done) {
    firmware.give_up(done.error());
  }
  firmware.power_off();
}
