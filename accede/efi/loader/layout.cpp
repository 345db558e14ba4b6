#include "accede/efi/loader/layout.hpp"

#include "accede/abi/linux_boot.hpp"
#include "accede/firmware/linux_boot_params.hpp"

#include <algorithm>
#include <span>

namespace accede::efi::loader {

using namespace std::string_view_literals;
using abi::efi::Status;
using firmware::LinuxSetup;
using firmware::PlaceNeeds;

namespace {

/// Entries that the memory map may have more at the end than while memory is laid out. Departure
/// fails earlier.
constexpr std::size_t kSpareEntries = 512;

/// Kernel or initrd: in the firmware's memory, or else in memory that we accept.
Outcome<PhysRange> place_file(LoaderMemory& memory, const PlaceNeeds& needs, bool high,
                              std::string_view what) {
  if (!high) {
    if (const auto place = memory.allocate(needs, what)) {
      return *place;
    }
  }
  return memory.choose_unaccepted(needs, what);
}

/// Descriptors of a memory map that is read later.
std::size_t most_descriptors(const Firmware& firmware) {
  std::uint64_t bytes = 0;
  std::uint64_t key = 0;
  std::uint64_t stride = 0;
  std::uint32_t version = 0;
  firmware.boot().get_memory_map(&bytes, nullptr, &key, &stride, &version);
  return kSpareEntries +
         bytes / std::max<std::uint64_t>(stride, sizeof(abi::efi::MemoryDescriptor));
}

/// The small things, which the kernel or we need before it knows its memory.
Outcome<void> place_data(const Firmware& firmware, LoaderMemory& memory, const LinuxSetup& setup,
                         const LoaderOptions& options, Layout& layout) {
  const std::size_t entries = most_descriptors(firmware);
  struct Piece {
    PhysRange& place;
    Bytes size;
  };
  const std::array<Piece, 4> pieces{{
      {layout.zero_page, Bytes{sizeof(abi::linux_boot::BootParams)}},
      {layout.command_line, Bytes{options.command_line.size() + 1}},
      {layout.extension, firmware::E820Extension::bytes_for(entries)},
      {layout.e820, Bytes{entries * sizeof(abi::e820::Entry)}},
  }};
  for (const Piece& piece : pieces) {
    const auto place = memory.allocate(setup.data_place(piece.size), "boot parameters"sv);
    if (!place) {
      return std::unexpected{place.error()};
    }
    piece.place = *place;
  }
  return {};
}

/// After all others: the page tables map them.
Outcome<void> place_entry(LoaderMemory& memory, PhysRange program, std::uint64_t private_mask,
                          Layout& layout) {
  layout.plan = EntryPlan::make(layout.mapped(program), private_mask);
  const auto entry = memory.allocate(
      // Where the tables map themselves: the kernel reads them before it has its own.
      {.size = layout.plan.bytes(), .limit = PhysAddr{(4_GiB).value()}}, "page tables"sv);
  if (!entry) {
    return std::unexpected{entry.error()};
  }
  layout.entry = *entry;
  return {};
}

}  // namespace

Outcome<Layout> lay_out(const Firmware& firmware, LoaderMemory& memory, const Linux& files,
                        const LoaderOptions& options, PhysRange program,
                        std::uint64_t private_mask) {
  const LinuxSetup& setup = files.setup;
  const auto kernel = place_file(memory, setup.kernel_place(), options.place_high, "the kernel"sv);
  if (!kernel) {
    return std::unexpected{kernel.error()};
  }
  if (const auto good = setup.check_kernel(*kernel); !good) {
    return problem(Status::kUnsupported, good.error(), options.kernel);
  }
  Layout layout{.kernel = *kernel};
  if (files.initrd) {
    const auto initrd = place_file(memory, setup.initrd_place(files.initrd->size()),
                                   options.place_high, "the initrd"sv);
    if (!initrd) {
      return std::unexpected{initrd.error()};
    }
    if (const auto good = setup.check_initrd(*initrd); !good) {
      return problem(Status::kUnsupported, good.error(), options.initrd);
    }
    layout.initrd = *initrd;
  }
  if (const auto placed = place_data(firmware, memory, setup, options, layout); !placed) {
    return std::unexpected{placed.error()};
  }
  if (const auto placed = place_entry(memory, program, private_mask, layout); !placed) {
    return std::unexpected{placed.error()};
  }
  return layout;
}

Outcome<PhysAddr> fill(const Firmware& firmware, const Linux& files, const LoaderOptions& options,
                       const Layout& layout, PhysRange program) {
  std::ranges::copy(files.image.protected_mode(), at(layout.kernel));
  if (files.initrd) {
    const auto read =
        files.initrd->read(firmware, {at(layout.initrd), layout.initrd.size().value()});
    if (!read) {
      return std::unexpected{read.error()};
    }
  }
  const auto text = std::as_bytes(std::span{options.command_line});
  *std::ranges::copy(text, at(layout.command_line)).out = std::byte{0};
  const auto root = prepare_entry(layout.plan, layout.entry, layout.mapped(program));
  if (!root) {
    return problem(Status::kUnsupported, "page tables cannot map all that is handed over"sv);
  }
  return *root;
}

}  // namespace accede::efi::loader
