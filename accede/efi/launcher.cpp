// BOOTX64.EFI: makes the machine a confidential guest, plays its firmware's part, starts the
// kernel.

#include "accede/efi/boot_volume.hpp"
#include "accede/efi/firmware.hpp"
#include "accede/efi/firmware_part.hpp"
#include "accede/efi/fw_cfg.hpp"
#include "accede/efi/ghcb_page.hpp"
#include "accede/efi/kernel_start.hpp"
#include "accede/efi/launcher_config.hpp"
#include "accede/efi/machine_protocol.hpp"
#include "accede/efi/memory_plan.hpp"
#include "accede/efi/platform.hpp"
#include "accede/efi/start_emulator.hpp"
#include "accede/efi/unaccepted_map.hpp"
#include "accede/emulator/hypercall.hpp"
#include "accede/firmware/loader_room.hpp"

namespace accede::efi {

using namespace std::string_view_literals;
namespace {

using abi::efi::Status;
using guest::PlatformKind;

bool is_snp(const LauncherConfig& config) {
  return config.platform == LauncherConfig::Platform::kSnp;
}

/// The ports of QEMU's configuration device.
struct MachinePorts {
  void select(std::uint16_t item) const { emulator::cpu::out16(abi::fw_cfg::kSelectorPort, item); }
  [[nodiscard]] std::uint8_t next_byte() const {
    return emulator::cpu::in8(abi::fw_cfg::kDataPort);
  }
};

/// 0 for a file that is not there: whoever needs it says so.
Bytes size_of_file(const Firmware& firmware, std::string_view path) {
  const auto volume = BootVolume::open(firmware);
  if (!volume || path.empty()) {
    return Bytes{};
  }
  const auto file = volume->open_file(path);
  return Bytes{file ? file->bytes() : 0};
}

/// A loader of ours is a program in memory beside the kernel.
Bytes room_for_loader(const Firmware& firmware, const LauncherConfig& config) {
  return firmware::loader_room(size_of_file(firmware, config.kernel),
                               size_of_file(firmware, config.initrd)) +
         size_of_file(firmware, config.loader) * 2;
}

/// What was decided before the take-over.
struct Preparation {
  MemoryPlan memory;
  std::optional<GhcbRoom> ghcb;  ///< for an SNP guest
};

FirmwareGoal goal_of(const Firmware& firmware, const LauncherConfig& config,
                     const firmware::Negotiation& negotiation) {
  using firmware::AcceptanceScope;
  if (negotiation.accepts_at_start()) {
    return {.scope = AcceptanceScope::kEverything, .at_least = {}, .loader_room = {}};
  }
  if (config.accept_scope != AcceptanceScope::kAtLeast) {
    return {.scope = config.accept_scope, .at_least = {}, .loader_room = {}};
  }
  return {.scope = AcceptanceScope::kAtLeast,
          .at_least = Bytes{config.accept_at_least},
          .loader_room = room_for_loader(firmware, config)};
}

void report_plan(const MemoryPlan& plan) {
  emulator::JsonLine line{"firmware-plan"sv};
  Firmware::report(line.number("accepts_bytes"sv, plan.accepted.size().value())
                       .number("leaves_bytes"sv, plan.left.size().value()));
}

/// From the plain machine to a guest of the emulator that has not accepted the pending memory. All
/// that the guest needs of the firmware before it accepts is taken here.
Result<Preparation> become_guest(const Firmware& firmware, const LauncherConfig& config,
                                 const firmware::Negotiation& negotiation) {
  const Result<RangeList> ram = survey_ram(firmware);
  if (!ram) {
    return std::unexpected{ram.error()};
  }
  const Result<PlacedEmulator> placed = place_emulator(firmware, config, *ram);
  if (!placed) {
    return std::unexpected{placed.error()};
  }
  std::optional<GhcbRoom> ghcb;
  if (is_snp(config)) {
    const Result<GhcbRoom> reserved = GhcbRoom::reserve(firmware);
    if (!reserved) {
      return std::unexpected{reserved.error()};
    }
    ghcb = *reserved;
  }
  // Last: what is free now becomes pending. Nobody runs who could allocate what the firmware
  // accepts before it has, and what it leaves is claimed.
  const Result<MemoryPlan> plan =
      plan_memory(firmware, *ram, goal_of(firmware, config, negotiation));
  if (!plan) {
    return std::unexpected{plan.error()};
  }
  const Result<MemoryPlan> memory = claim_left(firmware, *plan);
  if (!memory) {
    return std::unexpected{memory.error()};
  }
  report_plan(*memory);
  if (auto entered = enter_emulator(*placed, config, *memory); !entered) {
    return std::unexpected{entered.error()};
  }
  return Preparation{.memory = *memory, .ghcb = ghcb};
}

/// Under the emulator, it writes the line; without it, we do.
void report_phase(bool emulated, emulator::Phase phase) {
  if (emulated) {
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
  bool emulated = false;
  bool loader_tells = false;  ///< the loader says itself when the kernel begins
};

void ACCEDE_EFIAPI loader_exits_boot_services(MachineProtocol* self) {
  reinterpret_cast<Machine*>(self)->loader_tells = true;
}

void ACCEDE_EFIAPI kernel_begins(MachineProtocol* self) {
  report_phase(reinterpret_cast<Machine*>(self)->emulated, emulator::Phase::kKernel);
}

Machine g_machine{.protocol = {.revision = MachineProtocol::kRevision,
                               .loader_exits_boot_services = loader_exits_boot_services,
                               .kernel_begins = kernel_begins}};

void ACCEDE_EFIAPI after_boot_services(void* /*event*/, void* /*context*/) {
  if (!g_machine.loader_tells) {
    report_phase(g_machine.emulated, emulator::Phase::kKernel);
  }
}

/// From here on somebody says when the kernel begins: the loader, or the end of boot services.
Result<void> watch_for_the_kernel(const Firmware& firmware, bool emulated) {
  g_machine.emulated = emulated;
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

void report_return(bool emulated, std::uint64_t status) {
  if (emulated) {
    emulator::announce_return(status);
    return;
  }
  emulator::JsonLine line{"kernel-returned"sv};
  Firmware::report(line.number("status"sv, status));
}

/// Returns only when the kernel was an EFI program that came back: its status.
Result<std::uint64_t> start(const Firmware& firmware, const LauncherConfig& config) {
  const bool emulated = config.platform != LauncherConfig::Platform::kNone;
  if (auto done = punch_holes(firmware, config.map_holes); !done) {
    return std::unexpected{done.error()};
  }
  if (auto done = watch_for_the_kernel(firmware, emulated); !done) {
    return std::unexpected{done.error()};
  }
  return start_kernel(firmware, config,
                      [emulated] { report_phase(emulated, emulator::Phase::kLoader); });
}

/// As start(), on the configured confidential platform.
Result<std::uint64_t> start_confidential(const Firmware& firmware, const LauncherConfig& config) {
  firmware::Negotiation negotiation = negotiation_of(config, read_host_wish(MachinePorts{}));
  const Result<Preparation> prepared = become_guest(firmware, config, negotiation);
  if (!prepared) {
    return std::unexpected{prepared.error()};
  }
  auto platform = MachinePlatform::detect();
  if (!platform) {
    return std::unexpected{Failure{platform.error()}};
  }
  if (platform->kind() != (is_snp(config) ? PlatformKind::kSnp : PlatformKind::kTdx)) {
    return std::unexpected{Failure{"the emulator made this machine something else"sv}};
  }
  std::optional<GhcbMemory> ghcb;
  if (prepared->ghcb) {
    ghcb.emplace(firmware, *platform, *prepared->ghcb);
    if (auto shared = ghcb->share(); !shared) {
      return std::unexpected{Failure{shared.error()}};
    }
  }
  if (auto done = play_firmware(firmware, config, prepared->memory, *platform, negotiation);
      !done) {
    return std::unexpected{done.error()};
  }
  return start(firmware, config);
}

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
  const bool plain = config->platform == LauncherConfig::Platform::kNone;
  const auto status = plain ? start(firmware, *config) : start_confidential(firmware, *config);
  if (!status) {
    return std::unexpected{status.error()};
  }
  // Last of all: whoever reads the line takes the machine's figures.
  report_return(!plain, *status);
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
