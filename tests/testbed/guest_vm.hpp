// A whole guest on a testbed: what its firmware leaves behind, and a kernel made of the guest
// library. All that the kernel keeps lies in the memory of the testbed: a touch of what is not
// accepted ends the test.
#pragma once

#include "accede/abi/efi.hpp"
#include "accede/abi/linux_unaccepted.hpp"
#include "accede/guest/acceptor.hpp"
#include "accede/guest/deferred_init.hpp"
#include "accede/guest/early_allocator.hpp"
#include "accede/guest/kexec.hpp"
#include "accede/guest/memory_map.hpp"
#include "accede/guest/page_allocator.hpp"
#include "accede/guest/policies.hpp"
#include "accede/guest/snp_platform.hpp"
#include "accede/guest/table_carrier.hpp"
#include "accede/guest/tdx_platform.hpp"
#include "accede/guest/unaccepted_table.hpp"
#include "accede/guest/zone_plan.hpp"
#include "accede/testbed/testbed.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <expected>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace accede::testbed::test {

using guest::MemoryKind;
using guest::MemoryRegion;
using guest::Order;
using guest::Visibility;

[[nodiscard]] inline PhysRange range(PhysAddr begin, Bytes size) {
  return *PhysRange::make(begin, size);
}

/// The value, or the end of the test.
template <class T, class E>
T must(std::expected<T, E> result, std::string_view what) {
  if (!result.has_value()) {
    std::string text{what};
    if constexpr (requires { guest::to_string(result.error().kind); }) {
      text += ": ";
      text += guest::to_string(result.error().kind);
    }
    throw std::runtime_error{text};
  }
  if constexpr (!std::is_void_v<T>) {
    return std::move(*result);
  }
}

// --- The sides ---

/// Intel TDX. Its firmware has nothing to prepare.
struct Tdx {
  static constexpr guest::PlatformKind kKind = guest::PlatformKind::kTdx;
  static constexpr std::string_view kUnusable = "PENDING";
  /// What a page reads as that was just accepted.
  static constexpr std::uint64_t kFresh = 0;

  struct Firmware {
    Firmware(Testbed&, PhysRange) {}
  };
  class Cpu {
   public:
    using Platform = guest::TdxPlatform;
    Cpu(Testbed&, PhysRange) {
      auto made = guest::TdxPlatform::make();
      if (!made.has_value()) {
        throw std::runtime_error{std::string{guest::to_string(made.error())}};
      }
      platform_.emplace(*made);
    }
    Platform& platform() { return *platform_; }

   private:
    std::optional<Platform> platform_;
  };
  static bool sound(Testbed& bed) { return bed.td().invariants(); }
};

/// AMD SEV-SNP. Its firmware shares the pages that become GHCBs.
struct Snp {
  static constexpr guest::PlatformKind kKind = guest::PlatformKind::kSnp;
  static constexpr std::string_view kUnusable = "Guest-Invalid";
  static constexpr std::uint64_t kFresh = SnpVm::kUndefined;

  struct Firmware {
    Firmware(Testbed& bed, PhysRange ghcbs) {
      guest::SnpPlatform platform{bed.snp(), bed.window()};
      must(platform.convert(ghcbs, Visibility::kShared), "no GHCB pages");
    }
  };
  class Cpu {
   public:
    using Platform = guest::SnpPlatform<GhcbPool>;
    Cpu(Testbed& bed, PhysRange ghcbs)
        : pool_{bed.snp(), bed.window(), ghcbs}, platform_{pool_, bed.window()} {}
    Platform& platform() { return platform_; }

   private:
    GhcbPool pool_;
    Platform platform_;
  };
  static bool sound(Testbed& bed) { return bed.snp().memory().invariants(); }
};

/// A guest that knows no confidential platform, although it runs in a TD whose memory the launch
/// accepted.
struct Plain : Tdx {
  class Cpu {
   public:
    using Platform = guest::NoPlatform;
    Cpu(Testbed&, PhysRange) {}
    Platform& platform() { return platform_; }

   private:
    Platform platform_;
  };
};

// --- The machine ---

struct MachineConfig {
  Bytes memory = 96_MiB;
  PhysAddr ram_begin{4ULL << 30};
  /// Accepted at launch, from the start of RAM. Not a multiple of a unit: a table cannot say so.
  Bytes launch = 8_MiB + 64_KiB;
  host::Backing backing = host::Backing::k2M;
  bool page_release = false;
};

/// What does not change while kernels come and go: the testbed and what the firmware put there.
/// From the start of RAM: 1 MiB of kernel image, GHCB pages, tables of the firmware, free memory.
template <class Side>
class Machine {
 public:
  static constexpr Bytes kStride = 48_B;  ///< of the memory map: not that of a descriptor
  static constexpr std::size_t kEfiSlots = 8;

  explicit Machine(const MachineConfig& config = {})
      : config_{config}, bed_{make(config)}, firmware_{*bed_, ghcbs()} {
    // The first touch of a page must not be an atomic access: see Testbed, limits.
    for (PhysAddr page = ram().begin(); page < acpi().end(); page += 4_KiB) {
      [[maybe_unused]] const std::uint64_t first = word(page);
    }
    constexpr std::array<std::uint8_t, 16> kOther{0x11, 0x22, 0x33};
    for (std::size_t i = 0; i < efi_count_; ++i) {
      std::ranges::copy(std::as_bytes(std::span{kOther}),
                        efi_slots().subspan(i * guest::kEfiEntryBytes).begin());
    }
  }

  [[nodiscard]] Testbed& bed() { return *bed_; }
  [[nodiscard]] PhysWindow window() const { return bed_->window(); }
  [[nodiscard]] PhysRange ram() const { return bed_->ram(); }
  [[nodiscard]] PhysAddr at(Bytes offset) const { return config_.ram_begin + offset; }

  [[nodiscard]] PhysRange image() const { return range(at(0_B), 1_MiB); }
  [[nodiscard]] PhysRange ghcbs() const { return range(at(1_MiB), 64_KiB); }
  [[nodiscard]] PhysRange acpi() const { return *PhysRange::make(ghcbs().end(), at(2_MiB)); }
  [[nodiscard]] PhysRange launch() const { return range(at(0_B), config_.launch); }
  [[nodiscard]] PhysRange unaccepted() const {
    return *PhysRange::make(launch().end(), ram().end());
  }
  /// Where the table goes: not page aligned.
  [[nodiscard]] PhysAddr table_at() const { return acpi().begin() + 8_B; }
  [[nodiscard]] PhysAddr hand_over_at() const { return acpi().end() - 4_KiB; }

  [[nodiscard]] std::span<std::byte> memory(PhysRange part) const {
    return {window().template pointer<std::byte>(part.begin()), part.size().value()};
  }
  [[nodiscard]] volatile std::uint64_t& word(PhysAddr gpa) const {
    return *window().template pointer<volatile std::uint64_t>(gpa);
  }
  [[nodiscard]] std::optional<StopReport> touch(PhysAddr gpa) const {
    return catch_stop([&] { [[maybe_unused]] const std::uint64_t value = word(gpa); });
  }

  /// Regions as the firmware sees them.
  [[nodiscard]] std::vector<MemoryRegion> regions() const {
    return {{.range = image(), .kind = MemoryKind::kUsable},
            {.range = ghcbs(), .kind = MemoryKind::kReserved},
            {.range = acpi(), .kind = MemoryKind::kAcpiReclaim},
            {.range = *PhysRange::make(acpi().end(), launch().end()), .kind = MemoryKind::kUsable},
            {.range = unaccepted(), .kind = MemoryKind::kUnaccepted}};
  }

  /// EFI's configuration table: slots, of which the first count are in use.
  [[nodiscard]] std::span<std::byte> efi_slots() const {
    return memory(range(acpi().end() - 8_KiB, Bytes{kEfiSlots * guest::kEfiEntryBytes}));
  }
  [[nodiscard]] std::span<const std::byte> efi_entries() const {
    return efi_slots().first(efi_count_ * guest::kEfiEntryBytes);
  }
  void publish_in_efi(PhysAddr table) {
    efi_count_ = must(guest::publish_in_efi(efi_slots(), efi_count_, table), "EFI");
  }

  /// The host does this from now on.
  void play(std::vector<host::HostileRule> rules) {
    rules_ = std::move(rules);
    bed_->play(rules_);
  }

 private:
  static std::unique_ptr<Testbed> make(const MachineConfig& config) {
    return must(Testbed::make({.memory = config.memory,
                               .ram_begin = config.ram_begin,
                               .backing = config.backing,
                               .platform = Side::kKind,
                               .page_release = config.page_release,
                               .accepted_at_start = {range(config.ram_begin, config.launch)}}),
                "no testbed");
  }

  MachineConfig config_;
  std::vector<host::HostileRule> rules_;
  std::unique_ptr<Testbed> bed_;
  typename Side::Firmware firmware_;
  std::size_t efi_count_ = 2;
};

/// Descriptors of GetMemoryMap for `regions`, Machine::kStride apart.
[[nodiscard]] inline std::vector<std::byte> efi_map(std::span<const MemoryRegion> regions) {
  using enum abi::efi::MemoryType;
  constexpr std::size_t kStride = 48;
  std::vector<std::byte> bytes(regions.size() * kStride);
  for (std::size_t i = 0; i < regions.size(); ++i) {
    const auto type = [&] {
      switch (regions[i].kind) {
        case MemoryKind::kUsable:
          return i % 2 == 0 ? kConventional : kBootServicesData;
        case MemoryKind::kUnaccepted:
          return kUnaccepted;
        case MemoryKind::kAcpiReclaim:
          return kAcpiReclaim;
        default:
          return kReserved;
      }
    }();
    const abi::efi::MemoryDescriptor descriptor{.type = static_cast<std::uint32_t>(type),
                                                .padding = 0,
                                                .physical_start = regions[i].range.begin().value(),
                                                .virtual_start = 0,
                                                .number_of_pages = regions[i].range.size() / 4_KiB,
                                                .attribute = 0xF};
    std::memcpy(&bytes[i * kStride], &descriptor, sizeof(descriptor));
  }
  return bytes;
}

// --- The kernel ---

/// Kernel hooks where a thread is a CPU. Thread-safe.
class Hooks {
 public:
  /// Says which CPU the calling thread is.
  static void run_on(unsigned cpu) { cpu_ = cpu; }

  [[nodiscard]] unsigned cpu() const { return cpu_; }
  bool interrupts_off() { return false; }
  void interrupts_restore(bool) {}
  void relax() { std::this_thread::yield(); }
  [[nodiscard]] std::uint64_t now() const { return now_ns.fetch_add(1'000'000); }
  void wake_acceptor() {
    wakes.fetch_add(1);
    wakes.notify_all();
  }
  [[nodiscard]] bool other_work() const { return false; }

  /// A clock that every look moves on by a millisecond.
  mutable std::atomic<std::uint64_t> now_ns = 0;
  std::atomic<std::uint64_t> wakes = 0;

 private:
  static inline thread_local unsigned cpu_ = 0;
};
static_assert(guest::AllocatorHooks<Hooks>);

/// Blocks that the kernel handed out, with a content that tells them apart.
class Blocks {
 public:
  struct Entry {
    PhysAddr at;
    Order order;
  };
  explicit Blocks(PhysWindow window, std::uint64_t salt = 0x5EED) : window_{window}, salt_{salt} {}

  /// Writes the begin, the middle and the end of every page.
  void add(PhysAddr at, Order order) {
    entries_.push_back({at, order});
    each_word(entries_.back(), [](volatile std::uint64_t& word, std::uint64_t value) {
      word = value;
      return true;
    });
  }
  /// True when every page has its content still.
  [[nodiscard]] bool intact() const {
    return std::ranges::all_of(entries_, [this](const Entry& entry) { return intact(entry); });
  }
  [[nodiscard]] bool intact(const Entry& entry) const {
    return each_word(
        entry, [](volatile std::uint64_t& word, std::uint64_t value) { return word == value; });
  }
  [[nodiscard]] Bytes size() const {
    Bytes sum;
    for (const Entry& entry : entries_) {
      sum += entry.order.bytes();
    }
    return sum;
  }
  [[nodiscard]] const std::vector<Entry>& entries() const { return entries_; }
  [[nodiscard]] std::vector<Entry> take() { return std::exchange(entries_, {}); }

 private:
  template <class Act>
  bool each_word(const Entry& entry, Act act) const {
    bool all = true;
    for (Bytes page{}; page < entry.order.bytes(); page += 4_KiB) {
      for (const Bytes offset : {0_B, 2048_B, 4088_B}) {
        const PhysAddr at = entry.at + page + offset;
        all = act(*window_.pointer<volatile std::uint64_t>(at), at.value() ^ salt_) && all;
      }
    }
    return all;
  }

  PhysWindow window_;
  std::uint64_t salt_;
  std::vector<Entry> entries_;
};

/// One kernel, from the memory map to the page allocator. The steps are separate, so that a test
/// can come in between; boot() takes them all.
template <class Side, class Policy = guest::Lazy>
class Kernel {
  struct Relax {
    void operator()() const { std::this_thread::yield(); }
  };

 public:
  using Platform = typename Side::Cpu::Platform;
  using Acceptor = guest::Acceptor<Platform, Relax>;
  using Early = guest::EarlyAllocator<Acceptor>;
  using Allocator = guest::PageAllocator<Acceptor, Policy, Hooks>;
  static constexpr std::size_t kEarlyEntries = 6;

  /// `cpus`: number of CPU caches.
  explicit Kernel(Machine<Side>& machine, unsigned cpus = 1)
      : machine_{machine},
        cpu_{machine.bed(), machine.ghcbs()},
        cpus_{cpus},
        acceptor_{table_, cpu_.platform()},
        early_{acceptor_, machine.window(), array<guest::EarlyRange>(0_B, kEarlyEntries),
               array<guest::EarlyRange>(4_KiB, kEarlyEntries)} {}

  // --- Steps ---

  [[nodiscard]] std::expected<void, guest::MapError> read_efi_map(std::span<const std::byte> bytes,
                                                                  std::size_t stride = 48) {
    return keep(guest::MemoryMap::from_efi(bytes, stride, regions_));
  }
  [[nodiscard]] std::expected<void, guest::MapError> read_e820(std::span<const std::byte> bytes) {
    return keep(guest::MemoryMap::from_e820(bytes, regions_));
  }
  /// As the first kernel after firmware that leaves memory unaccepted: the stub's work.
  [[nodiscard]] std::expected<void, guest::TableError> build_table(Bytes unit = 2_MiB) {
    const auto layout = guest::UnacceptedTable::plan(map_, unit);
    if (!layout) {
      return std::unexpected{layout.error()};
    }
    if (!*layout) {
      return {};
    }
    const PhysRange room = *PhysRange::make(machine_.table_at(), machine_.acpi().end() - 8_KiB);
    const auto accept = [this](PhysRange now) { return cpu_.platform().accept(now); };
    return table_.build(map_, **layout, machine_.memory(room), room.begin(), index(), accept);
  }
  /// As any later kernel. Precondition as start_from().
  [[nodiscard]] std::expected<guest::HandOverRoute, guest::StartError> find_table(
      const guest::TableSources& sources) {
    const std::array readable{machine_.launch()};
    return guest::start_from(sources, {.window = machine_.window(), .ranges = readable}, table_,
                             index());
  }
  /// Adds the memory and reserves what is in use: the image, the table, and `more`.
  [[nodiscard]] typename Early::Done start_early(std::span<const PhysRange> more = {}) {
    if (auto added = early_.add_memory(map_); !added) {
      return added;
    }
    if (auto reserved = early_.reserve(machine_.image()); !reserved) {
      return reserved;
    }
    if (auto reserved = early_.reserve_table(table_); table_.present() && !reserved) {
      return reserved;
    }
    early_.allow_growth();
    for (const PhysRange part : more) {
      if (auto reserved = early_.reserve(part); !reserved) {
        return reserved;
      }
    }
    return {};
  }
  /// Zones, caches and page information; no memory is in the allocator yet.
  [[nodiscard]] typename Early::Done open_allocator() {
    std::array<guest::ZonePlan, 8> plan{};
    const std::size_t count = guest::plan_zones(early_.ranges(), plan);
    const auto zones = early_.allocate(Bytes{sizeof(guest::Zone)} * count, 64_B);
    const auto caches = early_.allocate(Bytes{sizeof(guest::CpuCache)} * cpus_, 64_B);
    if (!zones || !caches) {
      return std::unexpected{zones ? caches.error() : zones.error()};
    }
    allocator_.emplace(acceptor_, objects<guest::Zone>(zones->begin(), count),
                       objects<guest::CpuCache>(caches->begin(), cpus_), hooks_);
    const auto opened =
        guest::open_zones(*allocator_, early_, std::span{plan}.first(count), machine_.window());
    init_.emplace(*allocator_, early_.ranges());
    return opened;
  }

  void boot_to_early(std::span<const PhysRange> reserved = {}) {
    must(read_efi_map(efi_map(machine_.regions())), "memory map");
    must(build_table(), "table");
    must(start_early(reserved), "early allocator");
  }
  void boot() {
    boot_to_early();
    finish_boot();
  }
  /// After start_early().
  void finish_boot() {
    must(open_allocator(), "page allocator");
    if (!init_->run().has_value()) {
      throw std::runtime_error{"deferred init"};
    }
  }

  // --- Using it ---

  /// Allocates a block, writes it and keeps it in `to`; the error when there is none.
  std::optional<guest::AllocError> take(Blocks& to, Order order = {},
                                        guest::AllocOptions options = {}) {
    const auto got = allocator().allocate(order, options);
    if (!got) {
      return got.error();
    }
    to.add(*got, order);
    return std::nullopt;
  }
  /// Takes blocks until there is an error, which is returned.
  guest::AllocError take_all(Blocks& to, Order order = {}, guest::AllocOptions options = {}) {
    for (;;) {
      if (const auto error = take(to, order, options)) {
        return *error;
      }
    }
  }
  /// Frees all; false when the allocator does not want one of them.
  bool give_back(Blocks& blocks) {
    return std::ranges::all_of(blocks.take(), [this](const Blocks::Entry& entry) {
      return allocator().free(entry.at, entry.order).has_value();
    });
  }
  /// What is wrong with the guest as a whole, if anything. Only while no other call runs.
  [[nodiscard]] std::string problem() {
    if (!table_.invariants()) {
      return "the table is not sound";
    }
    if (!early_.invariants()) {
      return "the early allocator is not sound";
    }
    if (allocator_ && !allocator_->invariants()) {
      return "the page allocator is not sound";
    }
    return Side::sound(machine_.bed()) ? "" : "the host's model is not sound";
  }

  [[nodiscard]] Platform& platform() { return cpu_.platform(); }
  [[nodiscard]] const guest::MemoryMap& map() const { return map_; }
  [[nodiscard]] guest::UnacceptedTable& table() { return table_; }
  [[nodiscard]] Acceptor& acceptor() { return acceptor_; }
  [[nodiscard]] Early& early() { return early_; }
  [[nodiscard]] Allocator& allocator() { return *allocator_; }
  [[nodiscard]] guest::DeferredInit<Allocator>& init() { return *init_; }
  [[nodiscard]] Hooks& hooks() { return hooks_; }
  [[nodiscard]] Machine<Side>& machine() { return machine_; }

 private:
  std::expected<void, guest::MapError> keep(const guest::MemoryMap::Result& result) {
    if (!result) {
      return std::unexpected{result.error()};
    }
    map_ = *result;
    return {};
  }
  template <class T>
  std::span<T> objects(PhysAddr at, std::size_t count) {
    static_assert(std::is_trivially_destructible_v<T>);
    T* const first = machine_.window().template pointer<T>(at);
    for (std::size_t i = 0; i < count; ++i) {
      new (first + i) T{};
    }
    return {first, count};
  }
  /// Objects in the kernel's image.
  template <class T>
  std::span<T> array(Bytes offset, std::size_t count) {
    return objects<T>(machine_.image().begin() + offset, count);
  }
  std::span<std::uint64_t> index() { return array<std::uint64_t>(8_KiB, 4096); }

  Machine<Side>& machine_;
  typename Side::Cpu cpu_;
  unsigned cpus_;
  std::array<MemoryRegion, 64> regions_{};
  guest::MemoryMap map_;
  guest::UnacceptedTable table_;
  Acceptor acceptor_;
  Early early_;
  Hooks hooks_;
  std::optional<Allocator> allocator_;
  std::optional<guest::DeferredInit<Allocator>> init_;
};

/// Runs `body(i)` on `count` threads, each a CPU of that number, and waits for all.
template <class Body>
void on_cpus(unsigned count, Body body) {
  std::vector<std::jthread> threads;
  for (unsigned i = 0; i < count; ++i) {
    threads.emplace_back([&body, i] {
      Hooks::run_on(i);
      body(i);
    });
  }
}

struct SideNames {
  template <class Side>
  static std::string GetName(int) {
    return Side::kKind == guest::PlatformKind::kTdx ? "Tdx" : "Snp";
  }
};

}  // namespace accede::testbed::test
