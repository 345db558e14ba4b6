// Leaving the firmware with an unaccepted table: what a loader and our kernel's EFI part share.
//
//   prepare()   while boot services are there: all memory, and the table (empty) in the EFI
//               configuration table
//   exit()      ExitBootServices with its one retry
//   settle()    the table from the final map; what no bit can stand for is accepted
#pragma once

#include "accede/base/function_ref.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/efi/firmware.hpp"
#include "accede/guest/memory_map.hpp"
#include "accede/guest/platform.hpp"
#include "accede/guest/unaccepted_table.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>

namespace accede::efi {

/// What becomes of memory that the firmware left unaccepted.
enum class AcceptanceWish : std::uint8_t {
  kTable,       ///< a table tells the kernel; no memory for one: everything is accepted
  kEverything,  ///< the kernel cannot accept memory: all of it is accepted before it runs
};

/// Firmware that would accept everything on the way out must not: the kernel does it, or we have
/// begun to. Firmware without the handshake never does. False: it does so all the same.
[[nodiscard]] bool promise_to_accept(const Firmware& firmware);

/// One use, in the order above. Not copied or moved: the table is an object with an address.
class Departure {
 public:
  Departure(const Firmware& firmware, AcceptanceWish wish) : firmware_{firmware}, wish_{wish} {}
  Departure(const Departure&) = delete;
  Departure& operator=(const Departure&) = delete;

  /// Reads and checks the memory map, allocates what the later steps need, publishes an empty
  /// table. After an error and cancel() the program can return to the firmware.
  [[nodiscard]] Result<void> prepare(guest::PlatformKind platform);
  /// Takes the table back from the firmware, for a program that returns after prepare().
  void cancel();

  /// Memory that the map calls unaccepted and that the caller accepted: no bit is set for it, and
  /// it counts as usable. Precondition: at most kMostAccepted, page aligned.
  void note_accepted(PhysRange range);
  static constexpr std::size_t kMostAccepted = 8;

  /// ExitBootServices. On success only runtime services are left; the caller turns interrupts off,
  /// whose handlers are still the firmware's. On an error boot services are
  /// half gone and the caller may only power off, if firmware_is_intact() does not say otherwise.
  [[nodiscard]] Result<void> exit();
  /// False once ExitBootServices was called.
  [[nodiscard]] bool firmware_is_intact() const { return !exit_called_; }

  /// Accepts memory on the platform, less than 4 MiB at a time.
  using Accept = FunctionRef<guest::PlatformResult(PhysRange)>;
  /// Builds the table, or accepts everything. Precondition: exit() succeeded.
  [[nodiscard]] std::expected<void, std::string_view> settle(Accept accept);

  /// The final map as the firmware wrote it. Precondition: exit() succeeded.
  [[nodiscard]] std::span<const std::byte> efi_map() const { return efi_map_.bytes; }
  [[nodiscard]] std::size_t stride() const { return efi_map_.stride; }
  [[nodiscard]] std::uint32_t descriptor_version() const { return efi_map_.version; }
  /// The same, checked; before settle() as it was in prepare(). Precondition: prepare() succeeded.
  [[nodiscard]] const guest::MemoryMap& memory_map() const { return map_; }
  [[nodiscard]] const guest::UnacceptedTable& table() const { return table_; }
  /// What settle() accepted.
  [[nodiscard]] Bytes accepted() const { return accepted_; }

 private:
  [[nodiscard]] Result<void> read_map();
  [[nodiscard]] Result<void> reserve_table();
  [[nodiscard]] std::expected<void, std::string_view> parse_final_map();
  [[nodiscard]] std::expected<bool, std::string_view> build_table(Accept accept);

  const Firmware& firmware_;
  AcceptanceWish wish_;

  Firmware::MemoryMap efi_map_;
  std::span<guest::MemoryRegion> regions_;
  guest::MemoryMap map_;
  std::array<PhysRange, kMostAccepted> own_{};
  std::size_t own_count_ = 0;

  std::span<std::byte> table_memory_;
  std::span<std::uint64_t> index_;
  guest::UnacceptedTable table_;
  Bytes accepted_;
  bool exit_called_ = false;
};

}  // namespace accede::efi
