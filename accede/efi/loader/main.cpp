// accede-loader.efi: reads a Linux kernel and its initrd, leaves boot services with our unaccepted
// table, and enters the kernel by the 64-bit boot protocol.
//
// Everything that can go wrong is looked for while the firmware is still there to return to. What
// cannot be undone comes last: the handshake, accepting memory, ExitBootServices.

#include "accede/abi/linux_boot.hpp"
#include "accede/efi/departure.hpp"
#include "accede/efi/ghcb_page.hpp"
#include "accede/efi/last_words.hpp"
#include "accede/efi/loader/hand_over.hpp"
#include "accede/efi/loader/layout.hpp"
#include "accede/efi/loader/linux_files.hpp"
#include "accede/efi/loader/memory.hpp"
#include "accede/efi/loader/options.hpp"
#include "accede/efi/loader/problem.hpp"
#include "accede/efi/machine_protocol.hpp"
#include "accede/efi/platform.hpp"
#include "accede/firmware/linux_boot_params.hpp"
#include "accede/firmware/linux_e820.hpp"
#include "accede/firmware/linux_setup.hpp"

#include <algorithm>
#include <array>
#include <new>
#include <optional>

namespace accede::efi::loader {

using namespace std::string_view_literals;
namespace {

using abi::efi::Status;
using abi::linux_boot::BootParams;
using firmware::LinuxSetup;
using image::Knows;

constexpr std::string_view kName = "accede-loader: "sv;

void say(const Firmware& firmware, std::string_view first, std::string_view second = {}) {
  for (const std::string_view part : {kName, first, second, "\n"sv}) {
    firmware.print(part);
  }
}

Outcome<LoaderOptions> read_options(const Firmware& firmware,
                                    std::span<char, kMostOptionCharacters> storage) {
  const auto loaded =
      firmware.protocol<abi::efi::LoadedImage>(firmware.image(), abi::efi::kLoadedImageProtocol);
  if (!loaded) {
    return problem(Status::kUnsupported, loaded.error());
  }
  const auto* const bytes = static_cast<const std::byte*>((*loaded)->load_options);
  const std::size_t size = bytes == nullptr ? 0 : (*loaded)->load_options_bytes;
  const auto text = to_ascii({bytes, size}, storage);
  if (!text) {
    return problem(text.error());
  }
  const auto options = parse_options(*text);
  if (!options) {
    return problem(options.error());
  }
  return *options;
}

AcceptanceWish wish_for(const Firmware& firmware, const Linux& files) {
  say(firmware, "Linux "sv, files.release());
  switch (files.accepts) {
    case Knows::kYes:
      say(firmware, "the kernel accepts memory: it gets the table"sv);
      return AcceptanceWish::kTable;
    case Knows::kNo:
      say(firmware, "the kernel does not accept memory: all of it is accepted first"sv);
      return AcceptanceWish::kEverything;
    case Knows::kUnknown:
      break;
  }
  say(firmware, "cannot tell whether the kernel accepts memory: all of it is accepted first"sv);
  return AcceptanceWish::kEverything;
}

/// Address of the ACPI root pointer; 0 when the firmware names none.
PhysAddr find_rsdp(const abi::efi::SystemTable& system) {
  const std::span tables{system.configuration_table, system.number_of_table_entries};
  for (const abi::efi::Guid& guid : {abi::efi::kAcpi20Table, abi::efi::kAcpi10Table}) {
    const auto found = std::ranges::find_if(
        tables, [&](const abi::efi::ConfigurationTable& entry) { return entry.guid == guid; });
    if (found != tables.end()) {
      return PhysAddr{reinterpret_cast<std::uint64_t>(found->table)};
    }
  }
  return PhysAddr{0};
}

/// After boot services: fills the zero page from the final map.
std::expected<void, firmware::LinuxBootError> tell_kernel(const Firmware& firmware,
                                                          const Departure& departure,
                                                          const LinuxSetup& setup,
                                                          const LoaderOptions& options,
                                                          const Layout& layout) {
  using firmware::UnacceptedMemory;
  // settle() has left nothing unaccepted that the table does not name.
  const auto unaccepted =
      departure.table().present() ? UnacceptedMemory::kToldByTable : UnacceptedMemory::kAccepted;
  auto* const entries = reinterpret_cast<abi::e820::Entry*>(at(layout.e820));
  const std::size_t room = layout.e820.size().value() / sizeof(abi::e820::Entry);
  const auto e820 = firmware::build_e820(
      departure.efi_map(), departure.stride(),
      {.unaccepted = unaccepted, .soft_reserve = !refuses_soft_reserve(options.command_line)},
      {entries, room});
  if (!e820) {
    return std::unexpected{e820.error()};
  }
  const auto& system = firmware.system();
  const auto efi_map =
      PhysRange::make(PhysAddr{reinterpret_cast<std::uint64_t>(departure.efi_map().data())},
                      Bytes{departure.efi_map().size()});
  auto* const params = new (at(layout.zero_page)) BootParams{};
  return fill_boot_params(
      *params, setup,
      {.kernel = layout.kernel,
       .command_line = layout.command_line,
       .initrd = layout.initrd,
       .efi = {.system_table = PhysAddr{reinterpret_cast<std::uint64_t>(&system)},
               .memory_map = *efi_map,
               .stride = departure.stride(),
               .descriptor_version = departure.descriptor_version()},
       .acpi_rsdp = find_rsdp(system),
       .e820 = *e820,
       .extension = {.memory = {at(layout.extension), layout.extension.size().value()},
                     .where = layout.extension.begin()}});
}

/// The last steps that can return: after them only ExitBootServices is left. Returns the root page
/// table.
Outcome<PhysAddr> commit(const Firmware& firmware, LoaderMemory& memory, Departure& departure,
                         const Linux& files, const LoaderOptions& options, const Layout& layout,
                         PhysRange program) {
  if (!memory.has_chosen()) {
    const auto root = fill(firmware, files, options, layout, program);
    if (root && files.accepts == Knows::kYes && !promise_to_accept(firmware)) {
      say(firmware, "the firmware refuses the handshake and accepts all memory"sv);
    }
    return root;
  }
  if (!promise_to_accept(firmware)) {
    // It would accept a second time what we accept now.
    return problem(Status::kUnsupported, "the firmware insists on accepting all memory"sv);
  }
  if (const auto accepted = memory.accept_chosen(departure); !accepted) {
    return std::unexpected{accepted.error()};
  }
  return fill(firmware, files, options, layout, program);
}

/// Returns only while the firmware is whole.
Outcome<void> leave(const Firmware& firmware, MachinePlatform& platform, Departure& departure,
                    const LinuxSetup& setup, const LoaderOptions& options, const Layout& layout,
                    PhysAddr root) {
  auto* machine = firmware.locate<MachineProtocol>(MachineProtocol::kGuid);
  if (machine != nullptr && machine->revision != MachineProtocol::kRevision) {
    machine = nullptr;
  }
  if (machine != nullptr) {
    machine->loader_exits_boot_services(machine);
  }
  const LastWords last_words{firmware, platform.kind()};
  if (const auto left = departure.exit(); !left) {
    if (departure.firmware_is_intact()) {
      departure.cancel();
      return problem(Status::kLoadError, left.error());
    }
    last_words.say_and_stop(kName, left.error().what);
  }
  asm volatile("cli" : : : "memory");
  const auto settled =
      departure.settle([&platform](PhysRange range) { return platform.accept(range); });
  if (!settled) {
    last_words.say_and_stop(kName, settled.error());
  }
  if (const auto told = tell_kernel(firmware, departure, setup, options, layout); !told) {
    Line line;
    describe(line, told.error());
    last_words.say_and_stop(kName, line.view());
  }
  if (machine != nullptr) {
    machine->kernel_begins(machine);
  }
  enter_linux(layout.entry, root, layout.kernel.begin() + Bytes{abi::linux_boot::kEntry64Offset},
              layout.zero_page.begin());
}

/// Where this program lies: the jump into the kernel happens here.
Outcome<PhysRange> own_program(const Firmware& firmware) {
  const auto loaded =
      firmware.protocol<abi::efi::LoadedImage>(firmware.image(), abi::efi::kLoadedImageProtocol);
  if (!loaded) {
    return problem(Status::kUnsupported, loaded.error());
  }
  const auto range =
      PhysRange::make(PhysAddr{reinterpret_cast<std::uint64_t>((*loaded)->image_base)},
                      Bytes{(*loaded)->image_bytes});
  if (!range) {
    return problem(Status::kUnsupported, "the firmware does not say where the loader lies"sv);
  }
  return *range;
}

/// So that memory is accepted by lists. Without the page it only takes longer.
void share_ghcb(const Firmware& firmware, MachinePlatform& platform,
                std::optional<GhcbMemory>& ghcb) {
  constexpr std::string_view kWithout = "memory is accepted page by page: "sv;
  const auto room = GhcbRoom::reserve(firmware);
  if (!room) {
    say(firmware, kWithout, room.error().what);
    return;
  }
  ghcb.emplace(firmware, platform, *room);
  if (const auto shared = ghcb->share(); !shared) {
    say(firmware, kWithout, shared.error());
  }
}

/// Returns only with a problem.
Outcome<void> run(const Firmware& firmware) {
  auto platform = MachinePlatform::detect();
  if (!platform) {
    return problem(Status::kUnsupported, platform.error());
  }
  const auto program = own_program(firmware);
  if (!program) {
    return std::unexpected{program.error()};
  }
  std::array<char, kMostOptionCharacters> text;
  const auto options = read_options(firmware, text);
  if (!options) {
    return std::unexpected{options.error()};
  }
  LoaderMemory memory{firmware};
  const auto files = read_linux(firmware, memory, *options, platform->kind());
  if (!files) {
    return std::unexpected{files.error()};
  }
  const auto layout =
      lay_out(firmware, memory, *files, *options, *program, platform->private_mask());
  if (!layout) {
    return std::unexpected{layout.error()};
  }
  std::optional<GhcbMemory> ghcb;
  if (platform->is_snp()) {
    share_ghcb(firmware, *platform, ghcb);
  }
  Departure departure{firmware, wish_for(firmware, *files)};
  if (const auto prepared = departure.prepare(platform->kind()); !prepared) {
    departure.cancel();
    return problem(Status::kLoadError, prepared.error());
  }
  const auto root = commit(firmware, memory, departure, *files, *options, *layout, *program);
  if (!root) {
    departure.cancel();
    return std::unexpected{root.error()};
  }
  return leave(firmware, *platform, departure, files->setup, *options, *layout, *root);
}

}  // namespace
}  // namespace accede::efi::loader

extern "C" accede::abi::efi::Status efi_main(accede::abi::efi::Handle image,
                                             accede::abi::efi::SystemTable* system) {
  using namespace accede;
  const efi::Firmware firmware{image, *system};
  const auto result = efi::loader::run(firmware);
  efi::loader::say(firmware, result.error().line.view());
  return result.error().status;
}
