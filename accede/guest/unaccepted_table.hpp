// The table that says which memory needs acceptance: Linux's format, version 1, used in place.
#pragma once

#include "accede/abi/linux_unaccepted.hpp"
#include "accede/base/function_ref.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/base/spin_lock.hpp"
#include "accede/guest/memory_map.hpp"
#include "accede/guest/platform.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string_view>

namespace accede::guest {

/// How large a table for a memory map is.
struct TableLayout {
  Bytes unit;             ///< what one bit covers
  PhysRange covered;      ///< begin and end are multiples of the unit
  Bytes bitmap;           ///< what the header says; 0 for an empty map
  Bytes table;            ///< storage: header and bitmap, padded to 8 bytes
  std::size_t index = 0;  ///< words of the private index, at most 1 MiB for 4 PiB
};

enum class TableErrorKind : std::uint8_t {
  kMalformed,        ///< `parse` says how
  kUnaligned,        ///< the table does not lie at a multiple of 8 bytes
  kUnacceptedTable,  ///< the table says that it lies in unaccepted memory itself
  kTooLarge,         ///< more than 4 PiB from the first to the last unaccepted byte
  kStorage,          ///< storage or index smaller than the layout says, or unaligned
  kBadUnit,          ///< asked for a unit that is not a power of two from 4 KiB to 2 GiB
  kAcceptFailed,     ///< a head, tail or short region could not be accepted: `failure`
};
[[nodiscard]] std::string_view to_string(TableErrorKind kind);

struct TableError {
  TableErrorKind kind;
  std::size_t offset = 0;  ///< kMalformed: of the wrong field, in bytes from the table's start
  abi::linux_unaccepted::ParseErrorKind parse{};
  PlatformFailure failure{};
};

/// The unaccepted-memory table, in memory that outlives the kernel (it is handed to the next one).
///
/// A bit is 1 while its unit must not be touched. Bits are set while the table is built or memory
/// is added, and cleared after the unit was accepted, never the other way round. Beside the table
/// lies a private index, two bits for 64 bytes of bitmap ("something may be unaccepted here", "all
/// of it is"), which makes questions about terabytes cheap; without one every answer is the same,
/// slower.
///
/// Invariants: a granule with a set bit is marked as such, one marked full has no clear bit;
/// unaccepted() equals the set bits.
/// Thread-safe; reads and clears are lock-free except that whoever empties a granule takes a spin
/// lock for a few loads. Range arguments may be unaligned and may lie outside the table (memory
/// outside is accepted).
class UnacceptedTable {
 public:
  using Result = std::expected<std::optional<TableLayout>, TableError>;
  /// Accepts memory that no bit can stand for.
  using AcceptNow = FunctionRef<PlatformResult(PhysRange)>;

  /// Bits of bitmap behind two bits of the index: 64 bytes.
  static constexpr std::uint64_t kGranuleBits = 512;

  /// The layout for the unaccepted regions of `map`; nothing when there is none. `unit`: Linux on
  /// x86 accepts 2 MiB only from its own stub; other readers take any power of two from 4 KiB.
  /// Errors: kTooLarge, kBadUnit.
  [[nodiscard, gnu::cold]] static Result plan(
      const MemoryMap& map, Bytes unit = abi::linux_unaccepted::kLinuxX86UnitSize);

  /// Words of index that a table of `bitmap` bytes can use.
  [[nodiscard]] static constexpr std::size_t index_words(Bytes bitmap) {
    const std::uint64_t granules = (bitmap.value() * 8 + kGranuleBits - 1) / kGranuleBits;
    return (granules + 63) / 64 * 2;
  }

  /// No table: everything is accepted and every call is a no-op.
  UnacceptedTable() = default;
  UnacceptedTable(const UnacceptedTable&) = delete;
  UnacceptedTable& operator=(const UnacceptedTable&) = delete;

  /// Builds the table in `storage` (accepted memory that survives kexec, 8-byte aligned, at the
  /// physical address `where`) as Linux's stub does: regions below two units and unaligned heads
  /// and tails go to `accept_now` at once, in address order. `index` (accepted, at least
  /// `layout.index` words) may be empty. Both outlive the object. Errors: kStorage, kAcceptFailed
  /// (the object stays without a table; what was accepted stays accepted). Precondition: `layout`
  /// is plan()'s for `map`, and the object has no table yet.
  [[nodiscard, gnu::cold]] std::expected<void, TableError> build(
      const MemoryMap& map, const TableLayout& layout, std::span<std::byte> storage, PhysAddr where,
      std::span<std::uint64_t> index, AcceptNow accept_now);

  /// Uses a table that somebody else built: firmware, a loader, the kernel before us. Checks all of
  /// it; `where` is its physical address. `index` may be empty or too small (then it is not used).
  /// Errors: kMalformed, kUnaligned, kUnacceptedTable; the object then stays without a table.
  /// Whether the bits fit the machine only a memory map can tell: first_beyond(). Precondition: the
  /// object has no table yet.
  [[nodiscard, gnu::cold]] std::expected<void, TableError> attach(std::span<std::byte> table,
                                                                  PhysAddr where,
                                                                  std::span<std::uint64_t> index);

  /// The first memory that the table calls unaccepted although `map` has no RAM there; nothing when
  /// the table fits. Ask once about a table that somebody else built: the guard unit of the last
  /// RAM would be accepted where nothing is.
  [[nodiscard, gnu::cold]] std::optional<PhysRange> first_beyond(const MemoryMap& map) const;

  [[nodiscard]] bool present() const { return !bitmap_.empty(); }
  /// What one bit covers; 2 MiB without a table.
  [[nodiscard]] Bytes unit() const { return unit_; }
  /// What the bitmap covers; empty without a table.
  [[nodiscard]] PhysRange covered() const { return covered_; }
  /// The table as it lies in memory, padding excluded.
  [[nodiscard]] std::span<const std::byte> bytes() const { return table_; }
  [[nodiscard]] PhysAddr where() const { return where_; }
  /// Memory whose bits are set. Exact when no call that changes bits runs.
  [[nodiscard]] Bytes unaccepted() const {
    return unit_ * unaccepted_units_.load(std::memory_order_relaxed);
  }

  /// The whole units that `range` touches, as far as the table covers them.
  [[nodiscard]] PhysRange units_of(PhysRange range) const;
  /// units_of() plus the guard unit: a range whose last page ends on a unit boundary has the unit
  /// after it accepted too, because code may read past the end of a page (Linux:
  /// load_unaligned_zeropad), and a touch of unaccepted memory is not a fixable exception. The
  /// range is rounded to pages first, so the rule holds for every alignment.
  [[nodiscard]] PhysRange guarded(PhysRange range) const;

  /// True when a unit of `range` is unaccepted. No guard.
  [[nodiscard]] bool any_unaccepted(PhysRange range) const;
  /// The first maximal run of unaccepted units inside `range`, cut to it; nothing when there is
  /// none. Precondition: `range` is what units_of() or guarded() returned, or a part in units.
  [[nodiscard]] std::optional<PhysRange> next_run(PhysRange range) const;
  /// Bytes of unaccepted units inside the units of `range`.
  [[nodiscard]] Bytes count(PhysRange range) const;
  /// Calls `visit` with every maximal run, ascending.
  void for_each_run(FunctionRef<void(PhysRange)> visit) const;

  /// Clears the bits of accepted units, and only then may others see the memory as accepted.
  /// Precondition: `units` is a range of whole units inside covered().
  void mark_accepted(PhysRange units);
  /// Sets bits for memory that was added (hot-plug) or that the guest gave back (TDX RELEASE).
  /// Nobody may be using or accepting it. Precondition as mark_accepted().
  void mark_unaccepted(PhysRange units);

  /// The index and the count agree with the bitmap. Only while no other call runs.
  [[nodiscard, gnu::cold]] bool invariants() const;

 private:
  using Word = std::uint64_t;
  struct Bits {
    std::uint64_t begin;
    std::uint64_t end;
  };

  void use_index(std::span<std::uint64_t> index);
  [[gnu::cold]] void adopt(std::span<std::byte> table, PhysAddr where,
                           const abi::linux_unaccepted::Header& header,
                           std::span<std::uint64_t> index);
  [[gnu::cold]] void drop();
  [[nodiscard]] Bits bits_of(PhysRange units) const;
  [[nodiscard]] PhysRange range_of(Bits bits) const;
  [[nodiscard]] std::uint64_t word_count() const { return (bits_ + 63) / 64; }

  [[nodiscard]] Word load(std::uint64_t word) const;
  Word clear(std::uint64_t word, Word mask);
  Word set(std::uint64_t word, Word mask);

  [[nodiscard]] std::uint64_t find_set(std::uint64_t from, std::uint64_t end) const;
  [[nodiscard]] std::uint64_t find_clear(std::uint64_t from, std::uint64_t end) const;
  [[nodiscard]] static std::uint64_t skip(std::span<Word> marks, Word uninteresting,
                                          std::uint64_t word, std::uint64_t end_word);
  std::uint64_t prefetch_mixed(std::uint64_t granule, unsigned count) const;
  void zero_bytes_to(std::size_t& written, std::size_t end);
  void set_run(Bits bits, std::size_t& written);
  [[gnu::cold]] void fill_index();
  void granule_emptied(std::uint64_t granule);
  [[nodiscard]] bool granule_empty(std::uint64_t granule) const;

  std::span<const std::byte> table_;
  std::span<std::byte> bitmap_;
  std::span<std::uint64_t> some_;  ///< index: a bit for each granule that may have a set bit
  std::span<std::uint64_t> full_;  ///< index: a bit for each granule that has no clear bit
  PhysAddr where_;
  Bytes unit_ = abi::linux_unaccepted::kLinuxX86UnitSize;
  unsigned unit_shift_ = 21;
  PhysRange covered_;
  std::uint64_t bits_ = 0;        ///< of the bitmap: a multiple of 8
  std::uint64_t full_words_ = 0;  ///< words that lie wholly inside the bitmap
  std::atomic<std::uint64_t> unaccepted_units_ = 0;
  SpinLock index_lock_;
};

/// Accepts every unaccepted region of `map` at once: all that a kernel needs that wants neither a
/// table nor a change of its allocator. Returns the bytes accepted, or the first failure (what came
/// before it is accepted). One call on the platform is at most its preferred step.
template <AcceptPlatform Platform>
[[nodiscard, gnu::cold]] std::expected<Bytes, PlatformFailure> accept_all(const MemoryMap& map,
                                                                          Platform& platform) {
  Bytes done;
  for (const MemoryRegion& region : map.regions()) {
    if (region.kind != MemoryKind::kUnaccepted) {
      continue;
    }
    PhysRange rest = region.range;
    while (!rest.empty()) {
      const Bytes into = rest.begin() - rest.begin().align_down(platform.preferred_step());
      const Bytes most = std::min(platform.preferred_step() - into, rest.size());
      const PhysRange step = *PhysRange::make(rest.begin(), most);
      if (const PlatformResult result = platform.accept(step); !result) {
        return std::unexpected{result.error()};
      }
      done += step.size();
      rest = *PhysRange::make(step.end(), rest.end());
    }
  }
  return done;
}

/// The complaint of a kernel without a platform about memory that it cannot use: the bytes of all
/// unaccepted regions, 0 when there is nothing to complain about.
[[nodiscard, gnu::cold]] Bytes unusable_without_platform(const MemoryMap& map,
                                                         PlatformKind platform);

}  // namespace accede::guest
