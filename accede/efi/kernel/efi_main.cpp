// accede-guest.efi: loads our kernel, builds its unaccepted table, leaves the firmware, enters it.

#include "accede/base/text_buffer.hpp"
#include "accede/efi/departure.hpp"
#include "accede/efi/firmware.hpp"
#include "accede/efi/flat_image_file.hpp"
#include "accede/efi/kernel/boot_info.hpp"
#include "accede/efi/kernel/boot_map.hpp"
#include "accede/efi/kernel/memory_lists.hpp"
#include "accede/efi/last_words.hpp"
#include "accede/efi/platform.hpp"
#include "accede/emulator/cpu.hpp"
#include "accede/emulator/flat_image.hpp"

#include <algorithm>
#include <new>

extern "C" {
extern const std::byte accede_kernel_image[];
extern const std::byte accede_kernel_image_end[];
}

namespace accede::efi::kernel {

using namespace std::string_view_literals;
namespace {

using abi::efi::MemoryType;
using abi::efi::Status;

/// Longer ones are refused. Linux takes 2047.
constexpr std::size_t kMostCommandLine = 2047;

std::span<const std::byte> kernel_file() {
  return {accede_kernel_image,
          static_cast<std::size_t>(accede_kernel_image_end - accede_kernel_image)};
}

BootInfo::Range range_of(PhysRange range) {
  return {range.begin().value(), range.end().value()};
}

Result<PhysRange> allocate_pages(const Firmware& firmware, MemoryType type, Bytes bytes) {
  std::uint64_t address = 0;
  const std::uint64_t pages = (bytes + 4095_B).value() / 4096;
  const Status status =
      firmware.boot().allocate_pages(abi::efi::AllocateType::kAnyPages, type, pages, &address);
  if (is_error(status)) {
    return std::unexpected{Failure{"out of memory"sv, status}};
  }
  return *PhysRange::make(PhysAddr{address}, PageCount{pages}.bytes());
}

/// The load options as ASCII; what is not ASCII is refused.
Result<std::span<char>> command_line(const Firmware& firmware) {
  const auto loaded =
      firmware.protocol<abi::efi::LoadedImage>(firmware.image(), abi::efi::kLoadedImageProtocol);
  if (!loaded) {
    return std::unexpected{loaded.error()};
  }
  const auto* const wide = static_cast<const abi::efi::Char16*>((*loaded)->load_options);
  const std::size_t room = wide == nullptr ? 0 : (*loaded)->load_options_bytes / 2;
  const auto length = static_cast<std::size_t>(std::find(wide, wide + room, u'\0') - wide);
  if (length > kMostCommandLine) {
    return std::unexpected{Failure{"the command line is longer than 2047 characters"sv}};
  }
  if (!std::all_of(wide, wide + length, [](abi::efi::Char16 c) { return c >= 32 && c < 127; })) {
    return std::unexpected{Failure{"the command line has characters that are not ASCII"sv}};
  }
  const auto text = firmware.allocate(length + 1);
  if (!text) {
    return std::unexpected{text.error()};
  }
  auto* const first = reinterpret_cast<char*>(text->data());
  std::transform(wide, wide + length, first,
                 [](abi::efi::Char16 c) { return static_cast<char>(c); });
  return std::span{first, length};
}

/// What is allocated before boot services end.
struct Loaded {
  PhysRange image_pages;
  PhysRange image;  ///< inside them
  std::uint64_t entry = 0;
  PhysRange info;  ///< BootInfo, then the command line, then the memory map
  std::span<char> options;
  std::uint64_t tsc_hz = 0;
};

Result<Loaded> load(const Firmware& firmware) {
  const auto options = command_line(firmware);
  if (!options) {
    return std::unexpected{options.error()};
  }
  const auto file = FlatImageFile::parse(kernel_file());
  if (!file) {
    return std::unexpected{Failure{to_string(file.error().kind)}};
  }
  // Code, because the kernel starts on the firmware's page tables.
  const auto image =
      allocate_pages(firmware, MemoryType::kLoaderCode, file->memory_bytes() + 2_MiB);
  const auto map = firmware.memory_map();
  if (!image || !map) {
    return std::unexpected{Failure{"no memory for the kernel"sv}};
  }
  const auto info = allocate_pages(
      firmware, MemoryType::kLoaderData,
      Bytes{sizeof(BootInfo) + options->size() + 2 * map->bytes.size() + 128 * map->stride});
  firmware.boot().free_pool(map->bytes.data());
  if (!info) {
    return std::unexpected{info.error()};
  }
  const PhysRange place = *PhysRange::make(image->begin().align_up(2_MiB), file->memory_bytes());
  file->place({reinterpret_cast<std::byte*>(place.begin().value()), place.size().value()},
              place.begin());
  return Loaded{.image_pages = *image,
                .image = place,
                .entry = place.begin().value() + file->entry_offset(),
                .info = *info,
                .options = *options,
                .tsc_hz = firmware.measure_tsc()};
}

void give_back(const Firmware& firmware, const Loaded& loaded) {
  for (const PhysRange pages : {loaded.image_pages, loaded.info}) {
    firmware.boot().free_pages(pages.begin().value(), pages.size().value() / 4096);
  }
  firmware.boot().free_pool(loaded.options.data());
}

/// What the kernel could only say when there is no firmware any more to go back to.
Result<void> check_machine(const guest::MemoryMap& map) {
  constexpr std::uint64_t kFiveLevels = 1U << 12;
  constexpr std::size_t kSpareRegions = 64;
  if ((emulator::cpu::read_cr4() & kFiveLevels) != 0) {
    return std::unexpected{Failure{"the firmware runs with five levels of page tables"sv}};
  }
  if (map.regions().size() + kSpareRegions > MemoryLists::kMostRegions) {
    return std::unexpected{Failure{"the memory map is too scattered for the kernel"sv}};
  }
  return {};
}

/// Fills the information pages. False: the map does not fit any more.
bool fill_info(const Loaded& loaded, const Departure& departure, const Firmware& firmware,
               std::uint64_t tsc_entry) {
  auto* const memory = reinterpret_cast<std::byte*>(loaded.info.begin().value());
  std::byte* const text = memory + sizeof(BootInfo);
  std::byte* const map = text + (loaded.options.size() + 7) / 8 * 8;
  const auto used = static_cast<std::size_t>(map - memory) + departure.efi_map().size();
  if (used > loaded.info.size().value()) {
    return false;
  }
  std::ranges::copy(std::as_bytes(loaded.options), text);
  std::ranges::copy(departure.efi_map(), map);
  if (!departure.table().present()) {
    call_everything_accepted({map, departure.efi_map().size()}, departure.stride());
  }
  const auto& system = firmware.system();
  new (memory) BootInfo{.magic = BootInfo::kMagic,
                        .version = BootInfo::kVersion,
                        .generation = 1,
                        .image = range_of(loaded.image),
                        .pristine = range_of(*PhysRange::make(
                            PhysAddr{reinterpret_cast<std::uint64_t>(kernel_file().data())},
                            Bytes{kernel_file().size()})),
                        .info = range_of(loaded.info),
                        .efi_map = reinterpret_cast<std::uint64_t>(map),
                        .efi_map_bytes = departure.efi_map().size(),
                        .efi_stride = departure.stride(),
                        .efi_system_table = reinterpret_cast<std::uint64_t>(&system),
                        .efi_entries = reinterpret_cast<std::uint64_t>(system.configuration_table),
                        .efi_entry_count = system.number_of_table_entries,
                        .hand_over = 0,
                        .command_line = reinterpret_cast<std::uint64_t>(text),
                        .command_line_bytes = loaded.options.size(),
                        .tsc_hz = loaded.tsc_hz,
                        .tsc_entry = tsc_entry,
                        .marked_page = 0,
                        .marked_value = 0};
  return true;
}

/// Does not return once boot services have ended; before that, it returns what went wrong.
Failure start(const Firmware& firmware) {
  auto platform = MachinePlatform::detect();
  if (!platform) {
    return Failure{platform.error()};
  }
  const auto loaded = load(firmware);
  if (!loaded) {
    return loaded.error();
  }
  Departure departure{firmware, AcceptanceWish::kTable};
  auto ready = departure.prepare(platform->kind());
  if (ready) {
    ready = check_machine(departure.memory_map());
  }
  if (!ready) {
    departure.cancel();
    give_back(firmware, *loaded);
    return ready.error();
  }
  // A firmware that refuses accepts everything, which is as good.
  static_cast<void>(promise_to_accept(firmware));

  const LastWords last_words{firmware, platform->kind()};
  if (const auto left = departure.exit(); !left) {
    if (departure.firmware_is_intact()) {
      departure.cancel();
      give_back(firmware, *loaded);
      return left.error();
    }
    last_words.say_and_stop("accede-guest: "sv, left.error().what);
  }
  const std::uint64_t tsc_entry = emulator::cpu::read_tsc();
  asm volatile("cli" : : : "memory");
  const auto settled =
      departure.settle([&platform](PhysRange range) { return platform->accept(range); });
  if (!settled) {
    last_words.say_and_stop("accede-guest: "sv, settled.error());
  }
  if (!fill_info(*loaded, departure, firmware, tsc_entry)) {
    last_words.say_and_stop("accede-guest: "sv, "the memory map grew on the way out"sv);
  }
  const auto entry = reinterpret_cast<EntryFn>(loaded->entry);
  entry(reinterpret_cast<const BootInfo*>(loaded->info.begin().value()));
  __builtin_unreachable();
}

}  // namespace
}  // namespace accede::efi::kernel

extern "C" accede::abi::efi::Status efi_main(accede::abi::efi::Handle image,
                                             accede::abi::efi::SystemTable* system) {
  using namespace accede;
  using namespace std::string_view_literals;
  const efi::Firmware firmware{image, *system};
  const efi::Failure failure = efi::kernel::start(firmware);
  for (const std::string_view part : {"accede-guest: "sv, failure.what, "\n"sv}) {
    firmware.print(part);
  }
  return is_error(failure.status) ? failure.status : abi::efi::Status::kLoadError;
}
