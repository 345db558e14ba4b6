#include "accede/efi/kernel/next_kernel.hpp"

#include "accede/efi/kernel/boot_map.hpp"

#include "accede/abi/efi.hpp"
#include "accede/base/assert.hpp"
#include "accede/efi/kernel/options.hpp"
#include "accede/guest/table_carrier.hpp"

#include <bit>

namespace accede::efi::kernel {
namespace {

/// Parts begin at multiples of this: more than any of them needs.
constexpr std::uint64_t kAlign = 64;
constexpr std::uint64_t kPage = 4096;

Bytes round_up(std::uint64_t bytes, std::uint64_t align) {
  return Bytes{(bytes + align - 1) / align * align};
}

}  // namespace

InfoLayout::InfoLayout(const BootReader& boot)
    : hand_over_{round_up(sizeof(BootInfo), kAlign)},
      map_{hand_over_ + round_up(sizeof(guest::HandOver), kAlign)},
      command_line_{map_ + round_up(boot.efi_map().size(), kAlign)},
      pristine_{command_line_ + round_up(boot.command_line().size(), kAlign)},
      size_{round_up((pristine_ + Bytes{boot.pristine_file().size()}).value(), kPage)} {}

std::expected<void, KernelError> InfoLayout::write(const BootReader& boot, PhysRange to,
                                                   PhysRange image, PhysAddr marked_page,
                                                   std::optional<guest::TablePlace> table,
                                                   MapCopy map, PhysWindow window) const {
  ACCEDE_ASSERT(to.size() >= size_);
  const std::span memory{window.pointer<std::byte>(to.begin()),
                         static_cast<std::size_t>(size_.value())};
  const auto part = [&](Bytes offset, std::size_t size) {
    return memory.subspan(offset.value(), size);
  };
  if (table) {
    const auto published =
        guest::publish_hand_over(part(hand_over_, sizeof(guest::HandOver)), *table);
    if (!published) {
      return std::unexpected{KernelError{.what = "the unaccepted table cannot be handed over"sv,
                                         .why = guest::to_string(published.error().kind)}};
    }
  }
  const auto new_map = part(map_, boot.efi_map().size());
  std::ranges::copy(boot.efi_map(), new_map.begin());
  if (map == MapCopy::kAllAccepted) {
    call_everything_accepted(new_map, boot.efi_stride());
  }
  const std::span command_line{window.pointer<char>(to.begin() + command_line_),
                               boot.command_line().size()};
  const std::size_t command_line_bytes = copy_command_line(boot.command_line(), command_line);
  std::ranges::copy(boot.pristine_file(), part(pristine_, boot.pristine_file().size()).begin());

  BootInfo info = boot.info();  // the speed of the counter and the like stay
  info.generation = boot.info().generation + 1;
  info.image = {image.begin().value(), image.end().value()};
  info.pristine.begin = (to.begin() + pristine_).value();
  info.pristine.end = info.pristine.begin + boot.pristine_file().size();
  info.info = {to.begin().value(), to.end().value()};
  info.efi_map = (to.begin() + map_).value();
  // Boot services memory is gone: nobody vouches for the configuration table any more.
  info.efi_entries = 0;
  info.efi_entry_count = 0;
  info.hand_over = table ? (to.begin() + hand_over_).value() : 0;
  info.command_line = (to.begin() + command_line_).value();
  info.command_line_bytes = command_line_bytes;
  info.marked_page = marked_page.value();
  info.marked_value = mark_of(info.generation, marked_page);
  new (memory.data()) BootInfo{info};
  return {};
}

std::size_t copy_command_line(std::string_view from, std::span<char> to) {
  std::size_t size = 0;
  for (auto word = take_word(from); !word.empty(); word = take_word(from)) {
    if (word == kKexecWord) {
      continue;
    }
    if (size != 0) {
      to[size++] = ' ';
    }
    std::ranges::copy(word, to.subspan(size, word.size()).begin());
    size += word.size();
  }
  return size;
}

void set_entry_time(const NextKernelEntry& next, PhysWindow window, std::uint64_t ticks) {
  window.pointer<BootInfo>(next.boot_info)->tsc_entry = ticks;
}

std::uint64_t mark_of(std::uint32_t generation, PhysAddr page) {
  return (page.value() + generation) * 0x9E37'79B9'7F4A'7C15ULL;
}

}  // namespace accede::efi::kernel
