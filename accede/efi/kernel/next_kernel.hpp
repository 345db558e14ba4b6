// Starting this kernel once more in the same machine (kexec): the image goes to new memory, the
// unaccepted table stays where it is and is handed over, and one page says whether memory survived.
//
// The next kernel is entered on the stack and the page tables of this one, which lie in this one's
// image; it leaves that memory alone until it has its own, and it has them before it starts its
// memory. Nothing of this kernel's image is reserved for it then.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/phys_window.hpp"
#include "accede/efi/flat_image_file.hpp"
#include "accede/efi/kernel/boot_info.hpp"
#include "accede/efi/kernel/boot_reader.hpp"
#include "accede/efi/kernel/kernel_error.hpp"
#include "accede/guest/alloc_result.hpp"
#include "accede/guest/kexec.hpp"
#include "accede/guest/page_info.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

namespace accede::efi::kernel {

/// Where to go, and with what.
struct NextKernelEntry {
  PhysAddr entry;
  PhysAddr boot_info;
  PhysRange image;
  PhysRange info;
  PhysAddr marked_page;
  Bytes accepted;  ///< what loading had to accept
};

/// What becomes of the memory map that the next kernel gets.
enum class MapCopy : std::uint8_t {
  kAsItIs,
  kAllAccepted,  ///< no table goes over because all is accepted: the map must not say otherwise
};

/// Everything that a kernel is told, laid out in one range: BootInfo, HandOver object, memory map,
/// command line, image file.
class InfoLayout {
 public:
  explicit InfoLayout(const BootReader& boot);

  [[nodiscard]] Bytes size() const { return size_; }

  /// Fills `to` for a kernel at `image`. `table`: handed over in a HandOver object; nothing: none.
  /// Error: a table that no HandOver object can name.
  /// Preconditions: `to` has size() bytes, is mapped, accepted and unused.
  [[nodiscard]] std::expected<void, KernelError> write(const BootReader& boot, PhysRange to,
                                                       PhysRange image, PhysAddr marked_page,
                                                       std::optional<guest::TablePlace> table,
                                                       MapCopy map, PhysWindow window) const;

 private:
  Bytes hand_over_;
  Bytes map_;
  Bytes command_line_;
  Bytes pristine_;
  Bytes size_;
};

/// Copies `from` to `to` without the words that ask for a kexec; returns the length.
/// Precondition: `to` has room for all of `from`.
std::size_t copy_command_line(std::string_view from, std::span<char> to);

/// Time 0 of the next kernel. Precondition: prepare() made `next`.
void set_entry_time(const NextKernelEntry& next, PhysWindow window, std::uint64_t ticks);

/// What is written to each word of the marked page of a generation.
[[nodiscard]] std::uint64_t mark_of(std::uint32_t generation, PhysAddr page);

/// Leaves for good. Interrupts are off from here on; the next kernel sets up its own before it
/// turns them on.
[[noreturn]] inline void jump_to_kernel(const NextKernelEntry& next) {
  asm volatile(
      "cli\n\t"
      "cld\n\t"
      "jmp *%0"
      :
      : "r"(next.entry.value()), "D"(next.boot_info.value())
      : "memory");
  __builtin_unreachable();
}

/// Gets the next kernel ready, out of a started KernelMemory. One use; what was taken goes back
/// when it is destroyed before the jump or prepare() fails.
template <class Memory>
class NextKernel {
 public:
  explicit NextKernel(Memory& memory) : memory_{memory} {}
  ~NextKernel() { give_back(); }
  NextKernel(const NextKernel&) = delete;
  NextKernel& operator=(const NextKernel&) = delete;

  /// Takes memory, accepts it, copies everything, marks a page. On an error this kernel goes on as
  /// before (what was accepted stays accepted).
  /// Precondition: no other call on the memory is under way, and none follows a success.
  [[nodiscard, gnu::cold]] std::expected<NextKernelEntry, KernelError> prepare() {
    auto prepared = load();
    if (!prepared) {
      give_back();
    }
    return prepared;
  }

 private:
  using Result = std::expected<NextKernelEntry, KernelError>;
  using Place = std::expected<PhysRange, KernelError>;

  static constexpr Bytes kPage{4096};
  static constexpr Bytes kImageAlign = 2_MiB;
  static constexpr std::string_view kWhat = "the next kernel cannot be started"sv;

  static std::unexpected<KernelError> fail(std::string_view why, std::uint64_t detail = 0) {
    return std::unexpected{KernelError{.what = kWhat, .why = why, .detail = detail}};
  }

  Result load() {
    const auto file = FlatImageFile::parse(memory_.boot().pristine_file());
    if (!file) {
      return fail(to_string(file.error().kind), file.error().offset);
    }
    const auto plan =
        guest::plan_hand_over(memory_.table(), memory_.map(), {.hand_over_object = true});
    if (!plan) {
      return fail(guest::to_string(plan.error()));
    }
    if (const auto marked = mark_page(); !marked) {
      return std::unexpected{marked.error()};
    }
    const InfoLayout layout{memory_.boot()};
    const Place image = take(file->memory_bytes(), kImageAlign);
    const Place info = image ? take(layout.size(), kPage) : image;
    if (!info) {
      return std::unexpected{info.error()};
    }
    return copy(*file, layout, *plan, *image, *info);
  }

  Result copy(const FlatImageFile& file, const InfoLayout& layout, const guest::HandOverPlan& plan,
              PhysRange image, PhysRange info) {
    const std::array requests{
        guest::SegmentRequest{
            .destination = image.begin(), .size = image.size(), .file_size = file.file_bytes()},
        guest::SegmentRequest{
            .destination = info.begin(), .size = info.size(), .file_size = Bytes{0}}};
    const auto list = guest::SegmentList::check(requests, memory_.map(), memory_.table());
    if (!list) {
      return fail(guest::to_string(list.error().kind),
                  requests[list.error().segment].destination.value());
    }
    const auto loaded = guest::load(*list, plan, memory_.acceptor());
    if (!loaded) {
      const guest::PlatformFailure& failure = loaded.error().accept.failure;
      return fail(guest::to_string(failure.kind), failure.at.value());
    }
    const PhysWindow window = memory_.window();
    loaded->copy(0, file.content(), window);
    loaded->copy(1, {}, window);
    file.relocate({window.template pointer<std::byte>(image.begin()),
                   static_cast<std::size_t>(image.size().value())},
                  image.begin());
    const guest::HandOverPlan& hand_over = loaded->hand_over();
    const bool has_table = hand_over.route == guest::HandOverRoute::kHandOver;
    const bool all_accepted = !has_table && memory_.unusable() == Bytes{0};
    const auto written =
        layout.write(memory_.boot(), info, image, *marked_,
                     has_table ? std::optional{hand_over.table} : std::nullopt,
                     all_accepted ? MapCopy::kAllAccepted : MapCopy::kAsItIs, window);
    if (!written) {
      return std::unexpected{written.error()};
    }
    return NextKernelEntry{.entry = image.begin() + Bytes{file.entry_offset()},
                           .boot_info = info.begin(),
                           .image = image,
                           .info = info,
                           .marked_page = *marked_,
                           .accepted = loaded->accepted()};
  }

  /// A page that nobody writes to from here on.
  std::expected<void, KernelError> mark_page() {
    const auto page = memory_.pages().allocate(guest::Order{0});
    if (!page) {
      return fail(guest::to_string(page.error().kind));
    }
    marked_ = *page;
    auto* const words = memory_.window().template pointer<volatile std::uint64_t>(*page);
    std::fill_n(words, kPage.value() / sizeof(std::uint64_t),
                mark_of(memory_.boot().info().generation + 1, *page));
    return {};
  }

  /// Memory that nobody uses, taken out of the allocator. As long as there is unaccepted memory it
  /// is taken from that on purpose: a destination outside accepted memory is what an ordinary
  /// kexec never gets right by itself (Linux copied to unaccepted memory, lesson L14), so here
  /// every kexec shows that load() accepts before anything is copied.
  Place take(Bytes size, Bytes align) {
    Place place = take_unaccepted(size, align);
    return place ? place : take_accepted(size, align);
  }

  Place take_unaccepted(Bytes size, Bytes align) {
    const guest::UnacceptedTable& table = memory_.table();
    PhysRange rest = table.covered();
    while (!rest.empty()) {
      const auto run = table.next_run(rest);
      if (!run) {
        break;
      }
      const auto found = guest::choose_destination(
          {.size = size, .align = align, .limits = *run, .taken = std::span{taken_}.first(count_)},
          memory_.map(), table);
      if (found) {
        // Not accepted here: that is left to load().
        const auto out = memory_.pages().take_out(found->range, false);
        if (out && *out) {
          return keep(found->range);
        }
      }
      rest = *PhysRange::make(run->end(), rest.end());
    }
    return fail("there is no room for it"sv);
  }

  /// Everything is accepted, or what is not is too small. The allocator knows what is free; the
  /// rules for destinations are asked all the same.
  Place take_accepted(Bytes size, Bytes align) {
    const PageCount pages{(size.value() + kPage.value() - 1) / kPage.value()};
    const auto range = memory_.pages().allocate_contiguous(pages, align);
    if (!range) {
      return fail(guest::to_string(range.error().kind));
    }
    const Place kept = keep(*range);
    const auto found = guest::choose_destination({.size = size,
                                                  .align = align,
                                                  .limits = *range,
                                                  .taken = std::span{taken_}.first(count_ - 1)},
                                                 memory_.map(), memory_.table());
    return found ? Place{found->range} : fail(guest::to_string(found.error().kind));
  }

  PhysRange keep(PhysRange range) {
    taken_[count_++] = range;
    return range;
  }

  void give_back() {
    for (; count_ != 0; --count_) {
      // It was taken whole a moment ago, so it can be given back.
      const auto freed = memory_.pages().free_contiguous(taken_[count_ - 1]);
      ACCEDE_ASSERT(freed.has_value());
    }
    if (marked_) {
      const auto freed = memory_.pages().free(*std::exchange(marked_, std::nullopt), {});
      ACCEDE_ASSERT(freed.has_value());
    }
  }

  Memory& memory_;
  std::array<PhysRange, 2> taken_{};
  std::size_t count_ = 0;
  std::optional<PhysAddr> marked_;
};

}  // namespace accede::efi::kernel
