// Starting another kernel from a running one: its segments go into accepted memory, and the
// unaccepted table goes with it.
//
// Order of use: SegmentList::check(), plan_hand_over(), load() (accepts), then copying, at once or
// at the jump. The next kernel calls start_from(). One table serves them all: it stays where it is
// and each kernel clears bits in it.
//
// Before the jump every other CPU is stopped and no accept is under way, else the next kernel finds
// a bit set for memory that is accepted. The same happens when a kernel dies between accepting a
// step and clearing its bits: the next one gets "already accepted" there and stops.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/phys_window.hpp"
#include "accede/guest/early_allocator.hpp"
#include "accede/guest/memory_map.hpp"
#include "accede/guest/table_carrier.hpp"
#include "accede/guest/unaccepted_table.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string_view>

namespace accede::guest {

// --- Segments ---

inline constexpr std::size_t kMostSegments = 16;

/// A segment as user space or a boot protocol asks for it: not trusted, so address and size are
/// apart.
struct SegmentRequest {
  PhysAddr destination;
  Bytes size;       ///< in memory; what the file does not fill is zero
  Bytes file_size;  ///< of the content
};

/// A segment that was checked.
struct Segment {
  PhysRange destination;
  Bytes file_size;
};

enum class SegmentErrorKind : std::uint8_t {
  kTooMany,          ///< more than kMostSegments
  kWraps,            ///< ends beyond the address space
  kUnaligned,        ///< begins or ends inside a page
  kFileTooLarge,     ///< the file is larger than the segment
  kOutsideRam,       ///< not wholly RAM that the next kernel may have
  kOverlap,          ///< overlaps an earlier segment
  kOverwritesTable,  ///< would overwrite the unaccepted table
  kTooMuchMemory,    ///< the segments up to this one take more than half of the RAM
  kAcceptFailed,     ///< the platform did not accept the destination
  kNoDestination,    ///< no place that fits
};
[[nodiscard]] std::string_view to_string(SegmentErrorKind kind);

struct SegmentError {
  SegmentErrorKind kind;
  std::size_t segment = 0;  ///< index in the request; kNoDestination: 0
  AcceptError accept{};     ///< kAcceptFailed: what the platform said
};

/// Segments that were found sound: page aligned, inside RAM, disjoint, not over the table, together
/// at most half of the RAM. An empty segment is fine and means nothing. A value type.
class SegmentList {
 public:
  /// RAM is what `map` calls usable or unaccepted. `map` and `table` are of this moment.
  /// Errors: every kind but kAcceptFailed and kNoDestination. The form of all segments is looked at
  /// before the place of any.
  [[nodiscard, gnu::cold]] static std::expected<SegmentList, SegmentError> check(
      std::span<const SegmentRequest> requests, const MemoryMap& map, const UnacceptedTable& table);

  [[nodiscard, gnu::cold]] std::span<const Segment> segments() const {
    return std::span{segments_}.first(count_);
  }

 private:
  SegmentList() = default;

  std::array<Segment, kMostSegments> segments_{};
  std::size_t count_ = 0;
};

/// A place for a segment, and how much of it load() will accept (guard included).
struct Destination {
  PhysRange range;
  Bytes unaccepted;
};

/// What choose_destination() looks for. Sizes are rounded up to pages.
struct DestinationRequest {
  Bytes size;           ///< not 0
  Bytes align = 4_KiB;  ///< a power of two, at least 4 KiB
  PhysRange limits = kAllMemory;
  std::span<const PhysRange> taken{};  ///< other segments, and whatever must stay
};

/// The lowest place in RAM, off the table and off what is taken, where nothing is left to accept;
/// when there is none, the lowest place. Error: kNoDestination.
[[nodiscard, gnu::cold]] std::expected<Destination, SegmentError> choose_destination(
    const DestinationRequest& request, const MemoryMap& map, const UnacceptedTable& table);

// --- Handing the table over ---

/// What this kernel can pass to the next one, and what the carriers that exist already say.
struct NextKernel {
  /// The next kernel gets the EFI system table and reads its configuration table.
  bool efi_system_table = false;
  /// EFI runtime services are on. Without them Linux does not pass the system table on.
  bool efi_runtime = false;
  /// The table that the configuration table names: from find_in_efi().
  std::optional<PhysAddr> efi_published{};
  /// The next kernel walks setup_data and knows our node.
  bool setup_data = false;
  /// The next kernel is told where a HandOver object lies.
  bool hand_over_object = false;
};

enum class HandOverRoute : std::uint8_t {
  kNone,       ///< nothing is unaccepted: no table is needed
  kEfi,        ///< the configuration table names it already
  kSetupData,  ///< to do: publish_in_setup_data()
  kHandOver,   ///< to do: publish_hand_over()
};

enum class HandOverErrorKind : std::uint8_t {
  kNotInMap,        ///< the memory map does not know the memory of the table
  kDoesNotSurvive,  ///< the table lies in memory that the next kernel takes for free
  kNoCarrier,       ///< nothing that the next kernel reads can name the table
  kNoSystemTable,   ///< only EFI names the table, and the system table is not passed on
  kNoRuntime,       ///< only EFI names the table, and the runtime services are off
  kOtherTable,      ///< EFI's configuration table names another table
};
[[nodiscard]] std::string_view to_string(HandOverErrorKind kind);

/// How the table reaches the next kernel.
struct HandOverPlan {
  HandOverRoute route = HandOverRoute::kNone;
  TablePlace table;
};

/// Decides how the table goes over, EFI first because every kernel reads that. A table without a
/// set bit need not go over: plan again when memory was added since.
/// Memory survives that `map` calls ACPI reclaim, ACPI NVS or reserved: no kernel uses that as RAM.
/// An error means: do not start the next kernel, it would touch unaccepted memory.
[[nodiscard, gnu::cold]] std::expected<HandOverPlan, HandOverErrorKind> plan_hand_over(
    const UnacceptedTable& table, const MemoryMap& map, const NextKernel& next);

// --- Loading ---

/// Segments whose destinations are accepted: only load() makes one, so nothing is copied before.
class LoadedSegments {
 public:
  [[nodiscard]] std::span<const Segment> segments() const { return list_.segments(); }
  [[nodiscard]] const HandOverPlan& hand_over() const { return plan_; }
  /// What load() accepted.
  [[nodiscard]] Bytes accepted() const { return accepted_; }

  /// Copies the content of a segment to its destination and clears the rest. Precondition: `file`
  /// is as long as the segment's file_size says, the window maps the destination, and nobody uses
  /// it any more.
  void copy(std::size_t segment, std::span<const std::byte> file, PhysWindow window) const;

 private:
  template <RangeAcceptor Acceptor>
  friend std::expected<LoadedSegments, SegmentError> load(const SegmentList& list,
                                                          const HandOverPlan& plan,
                                                          Acceptor& acceptor);
  LoadedSegments(const SegmentList& list, const HandOverPlan& plan) : list_{list}, plan_{plan} {}

  SegmentList list_;
  HandOverPlan plan_;
  Bytes accepted_;
};

/// Accepts every destination, and nothing else but their guard units. Takes the plan because a
/// kernel without its table must not even be loaded. Error: kAcceptFailed; what was accepted stays
/// accepted and is usable as ever.
template <RangeAcceptor Acceptor>
[[nodiscard, gnu::cold]] std::expected<LoadedSegments, SegmentError> load(const SegmentList& list,
                                                                          const HandOverPlan& plan,
                                                                          Acceptor& acceptor) {
  LoadedSegments loaded{list, plan};
  std::size_t index = 0;
  for (const Segment& segment : list.segments()) {
    if (!segment.destination.empty()) {
      const auto accepted = acceptor.accept(segment.destination);
      if (!accepted) {
        return std::unexpected{SegmentError{
            .kind = SegmentErrorKind::kAcceptFailed, .segment = index, .accept = accepted.error()}};
      }
      loaded.accepted_ += *accepted;
    }
    ++index;
  }
  return loaded;
}

// --- In the next kernel ---

/// What the next kernel was given.
struct TableSources {
  std::span<const std::byte> efi_entries{};  ///< EFI configuration table; may be empty
  PhysAddr setup_data{};                     ///< head of the chain; 0: none
  PhysAddr hand_over{};                      ///< HandOver object; 0: none
};

enum class StartErrorKind : std::uint8_t {
  kCarrier,   ///< a carrier is damaged: `carrier`
  kDisagree,  ///< two carriers name different tables
  kTable,     ///< the table is not sound: `table`
};
[[nodiscard]] std::string_view to_string(StartErrorKind kind);

struct StartError {
  StartErrorKind kind;
  HandOverRoute route = HandOverRoute::kNone;  ///< the carrier that is damaged or disagrees
  CarrierError carrier{};
  TableError table{};
};

/// Finds the table that the kernel before us left and attaches it. Returns where it came from;
/// kNone: nobody names a table, all memory is accepted. A carrier with a size wins over one
/// without. Precondition: `table` has none yet, and the memory of the table may be written.
[[nodiscard, gnu::cold]] std::expected<HandOverRoute, StartError> start_from(
    const TableSources& sources, const ReadableMemory& memory, UnacceptedTable& table,
    std::span<std::uint64_t> index);

// --- Reading memory that somebody else manages ---

/// Answers the readers of raw memory (crash dumps, /proc/kcore): an unaccepted page must not be
/// touched, and has no content. Thread-safe; an answer "unaccepted" may be out of date when it
/// arrives, an answer "readable" never is.
class DumpFilter {
 public:
  struct Run {
    PhysRange range;
    bool readable = false;
  };

  /// `table` outlives the object.
  explicit DumpFilter(const UnacceptedTable& table) : table_{table} {}

  /// True when all of `range` may be read.
  [[nodiscard]] bool readable(PhysRange range) const { return !table_.any_unaccepted(range); }
  /// The longest part of `range` from its begin that is all readable or all unaccepted.
  /// Precondition: `range` is not empty.
  [[nodiscard, gnu::cold]] Run first_run(PhysRange range) const;
  /// Calls `visit` for the runs of `range`, ascending; together they are all of it.
  void for_each_run(PhysRange range, FunctionRef<void(const Run&)> visit) const;

 private:
  const UnacceptedTable& table_;
};

}  // namespace accede::guest
