#include "accede/guest/kexec.hpp"

#include <algorithm>
#include <bit>

namespace accede::guest {

namespace {

constexpr Bytes kPage{4096};

std::unexpected<SegmentError> fail(SegmentErrorKind kind, std::size_t segment) {
  return std::unexpected{SegmentError{.kind = kind, .segment = segment}};
}

bool is_ram(MemoryKind kind) {
  return kind == MemoryKind::kUsable || kind == MemoryKind::kUnaccepted;
}

/// The first stretch of RAM of `map` that ends behind `from`: accepted and not, as one.
PhysRange next_ram(const MemoryMap& map, PhysAddr from) {
  PhysRange ram;
  for (const MemoryRegion& region : map.regions()) {
    if (!is_ram(region.kind)) {
      continue;
    }
    if (!ram.empty() && region.range.begin() == ram.end()) {
      ram = *PhysRange::make(ram.begin(), region.range.end());
      continue;
    }
    if (!ram.empty() && ram.end() > from) {
      return ram;
    }
    ram = region.range;
  }
  return ram.end() > from ? ram : PhysRange{};
}

/// The pages of the table; empty without one.
PhysRange pages_of(const UnacceptedTable& table) {
  if (!table.present()) {
    return {};
  }
  return *PhysRange::make(table.where().align_down(kPage),
                          (table.where() + Bytes{table.bytes().size()}).align_up(kPage));
}

using Checked = std::expected<void, SegmentErrorKind>;

/// What is wrong with a segment alone, apart from where it lies.
std::expected<Segment, SegmentErrorKind> check_form(const SegmentRequest& request) {
  const auto range = PhysRange::make(request.destination, request.size);
  if (!range) {
    return std::unexpected{SegmentErrorKind::kWraps};
  }
  if (!range->begin().is_aligned(kPage) || !range->end().is_aligned(kPage)) {
    return std::unexpected{SegmentErrorKind::kUnaligned};
  }
  if (request.file_size > request.size) {
    return std::unexpected{SegmentErrorKind::kFileTooLarge};
  }
  return Segment{.destination = *range, .file_size = request.file_size};
}

/// What is wrong with where it lies. `earlier` are the segments before it.
Checked check_place(PhysRange range, std::span<const Segment> earlier, const MemoryMap& map,
                    const UnacceptedTable& table) {
  if (range.empty()) {
    return {};
  }
  if (!next_ram(map, range.begin()).contains(range)) {
    return std::unexpected{SegmentErrorKind::kOutsideRam};
  }
  for (const Segment& other : earlier) {
    if (other.destination.overlaps(range)) {
      return std::unexpected{SegmentErrorKind::kOverlap};
    }
  }
  if (pages_of(table).overlaps(range)) {
    return std::unexpected{SegmentErrorKind::kOverwritesTable};
  }
  return {};
}

/// End of the lowest thing that is in the way of `range`: it cannot lie below that. With
/// `accepted_only`, unaccepted memory is in the way, also as the guard behind the range.
std::optional<PhysAddr> obstacle(PhysRange range, const DestinationRequest& request,
                                 const UnacceptedTable& table, bool accepted_only) {
  const PhysRange kept = pages_of(table);
  if (kept.overlaps(range)) {
    return kept.end();
  }
  for (const PhysRange taken : request.taken) {
    if (taken.overlaps(range)) {
      return taken.end();
    }
  }
  if (accepted_only) {
    if (const auto run = table.next_run(table.guarded(range))) {
      // All of the run, so that a terabyte is passed in one step; unless it shrank meanwhile.
      const auto whole = table.next_run(*PhysRange::make(run->begin(), table.covered().end()));
      return whole && whole->begin() == run->begin() ? whole->end() : run->end();
    }
  }
  return std::nullopt;
}

/// The multiple of `align` at or behind `address` where `size` bytes fit below `end`.
std::optional<PhysRange> place_from(PhysAddr address, Bytes size, Bytes align, PhysAddr end) {
  if (address >= end || (end - address) < size) {
    return std::nullopt;
  }
  const Bytes missing{(align.value() - (address.value() & (align.value() - 1))) &
                      (align.value() - 1)};
  if ((end - address) - size < missing) {
    return std::nullopt;
  }
  return PhysRange::make(address + missing, size);
}

std::optional<PhysRange> find_destination(const DestinationRequest& request, Bytes size,
                                          const MemoryMap& map, const UnacceptedTable& table,
                                          bool accepted_only) {
  PhysAddr from = request.limits.begin();
  while (true) {
    const PhysRange ram = next_ram(map, from);
    if (ram.empty() || ram.begin() >= request.limits.end()) {
      return std::nullopt;
    }
    const PhysAddr end = std::min(ram.end(), request.limits.end());
    PhysAddr at = std::max(ram.begin(), from);
    while (const auto place = place_from(at, size, request.align, end)) {
      const auto blocked = obstacle(*place, request, table, accepted_only);
      if (!blocked) {
        return place;
      }
      at = *blocked;
    }
    from = ram.end();
  }
}

HandOverPlan go_by(HandOverRoute route, const UnacceptedTable& table) {
  return {.route = route, .table = place_of(table)};
}

/// Why EFI is not a way, when it would be the only one.
HandOverErrorKind efi_problem(const NextKernel& next, PhysAddr table) {
  if (!next.efi_published) {
    return HandOverErrorKind::kNoCarrier;
  }
  if (*next.efi_published != table) {
    return HandOverErrorKind::kOtherTable;
  }
  return next.efi_system_table ? HandOverErrorKind::kNoRuntime : HandOverErrorKind::kNoSystemTable;
}

std::expected<void, HandOverErrorKind> survives(PhysRange pages, const MemoryMap& map) {
  PhysAddr known = pages.begin();
  for (const MemoryRegion& region : map.regions()) {
    if (!region.range.overlaps(pages)) {
      continue;
    }
    if (region.range.begin() > known) {
      return std::unexpected{HandOverErrorKind::kNotInMap};
    }
    if (region.kind != MemoryKind::kAcpiReclaim && region.kind != MemoryKind::kAcpiNvs &&
        region.kind != MemoryKind::kReserved) {
      return std::unexpected{HandOverErrorKind::kDoesNotSurvive};
    }
    known = region.range.end();
  }
  if (known < pages.end()) {
    return std::unexpected{HandOverErrorKind::kNotInMap};
  }
  return {};
}

struct Finding {
  HandOverRoute route;
  FindResult result;
};

/// What every carrier says; those with a size first.
std::array<Finding, 3> ask_carriers(const TableSources& sources, const ReadableMemory& memory) {
  const auto object = [&]() -> FindResult {
    if (sources.hand_over == PhysAddr{}) {
      return std::nullopt;
    }
    const auto place = find_in_hand_over(sources.hand_over, memory);
    if (!place) {
      return std::unexpected{place.error()};
    }
    return *place;
  };
  return {
      Finding{.route = HandOverRoute::kHandOver, .result = object()},
      Finding{.route = HandOverRoute::kSetupData,
              .result = find_in_setup_data(sources.setup_data, memory)},
      Finding{.route = HandOverRoute::kEfi, .result = find_in_efi(sources.efi_entries, memory)}};
}

}  // namespace

std::string_view to_string(SegmentErrorKind kind) {
  switch (kind) {
    case SegmentErrorKind::kTooMany:
      return "more than 16 segments"sv;
    case SegmentErrorKind::kWraps:
      return "the segment ends beyond the address space"sv;
    case SegmentErrorKind::kUnaligned:
      return "the segment begins or ends inside a page"sv;
    case SegmentErrorKind::kFileTooLarge:
      return "the content of the segment is larger than the segment"sv;
    case SegmentErrorKind::kOutsideRam:
      return "the segment does not lie in RAM"sv;
    case SegmentErrorKind::kOverlap:
      return "the segment overlaps an earlier one"sv;
    case SegmentErrorKind::kOverwritesTable:
      return "the segment would overwrite the unaccepted table"sv;
    case SegmentErrorKind::kTooMuchMemory:
      return "the segments take more than half of the RAM"sv;
    case SegmentErrorKind::kAcceptFailed:
      return "the destination of the segment could not be accepted"sv;
    case SegmentErrorKind::kNoDestination:
      return "there is no place for the segment"sv;
  }
  return "unknown error of a segment"sv;
}

std::string_view to_string(HandOverErrorKind kind) {
  switch (kind) {
    case HandOverErrorKind::kNotInMap:
      return "the memory map does not know the memory of the unaccepted table"sv;
    case HandOverErrorKind::kDoesNotSurvive:
      return "the unaccepted table lies in memory that the next kernel would use"sv;
    case HandOverErrorKind::kNoCarrier:
      return "nothing that the next kernel reads can name the unaccepted table"sv;
    case HandOverErrorKind::kNoSystemTable:
      return "the EFI system table, which names the unaccepted table, is not passed on"sv;
    case HandOverErrorKind::kNoRuntime:
      return "EFI runtime services are off, so the next kernel does not get the system table"sv;
    case HandOverErrorKind::kOtherTable:
      return "the EFI configuration table names another unaccepted table"sv;
  }
  return "unknown error of the hand-over"sv;
}

std::string_view to_string(StartErrorKind kind) {
  switch (kind) {
    case StartErrorKind::kCarrier:
      return "what names the unaccepted table is damaged"sv;
    case StartErrorKind::kDisagree:
      return "two places name different unaccepted tables"sv;
    case StartErrorKind::kTable:
      return "the unaccepted table that was handed over is not sound"sv;
  }
  return "unknown error of the start"sv;
}

std::expected<SegmentList, SegmentError> SegmentList::check(
    std::span<const SegmentRequest> requests, const MemoryMap& map, const UnacceptedTable& table) {
  if (requests.size() > kMostSegments) {
    return fail(SegmentErrorKind::kTooMany, kMostSegments);
  }
  SegmentList list;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const auto segment = check_form(requests[i]);
    if (!segment) {
      return fail(segment.error(), i);
    }
    list.segments_[i] = *segment;
  }
  list.count_ = requests.size();
  const Bytes most{(map.bytes_of(MemoryKind::kUsable) + map.bytes_of(MemoryKind::kUnaccepted)) /
                   2_B};
  Bytes sum;
  for (std::size_t i = 0; i < list.count_; ++i) {
    const PhysRange range = list.segments_[i].destination;
    if (const auto placed = check_place(range, list.segments().first(i), map, table); !placed) {
      return fail(placed.error(), i);
    }
    sum += range.size();
    if (sum > most) {
      return fail(SegmentErrorKind::kTooMuchMemory, i);
    }
  }
  return list;
}

std::expected<Destination, SegmentError> choose_destination(const DestinationRequest& request,
                                                            const MemoryMap& map,
                                                            const UnacceptedTable& table) {
  ACCEDE_ASSERT(request.size != Bytes{0} && std::has_single_bit(request.align.value()) &&
                request.align >= kPage);
  if (request.size.value() > std::numeric_limits<std::uint64_t>::max() - kPage.value()) {
    return fail(SegmentErrorKind::kNoDestination, 0);
  }
  const Bytes size = kPage * ((request.size + (kPage - 1_B)) / kPage);
  for (const bool accepted_only : {true, false}) {
    if (const auto place = find_destination(request, size, map, table, accepted_only)) {
      const PhysRange guarded = table.guarded(*place);
      return Destination{.range = *place,
                         .unaccepted = guarded.empty() ? Bytes{0} : table.count(guarded)};
    }
  }
  return fail(SegmentErrorKind::kNoDestination, 0);
}

std::expected<HandOverPlan, HandOverErrorKind> plan_hand_over(const UnacceptedTable& table,
                                                              const MemoryMap& map,
                                                              const NextKernel& next) {
  if (!table.present() || table.unaccepted() == Bytes{0}) {
    return HandOverPlan{};
  }
  if (const auto kept = survives(pages_of(table), map); !kept) {
    return std::unexpected{kept.error()};
  }
  const bool named = next.efi_published == table.where();
  if (named && next.efi_system_table && next.efi_runtime) {
    return go_by(HandOverRoute::kEfi, table);
  }
  // A next kernel that reads another table from EFI would not know which of the two to believe.
  if (next.efi_published && !named && next.efi_system_table && next.efi_runtime) {
    return std::unexpected{HandOverErrorKind::kOtherTable};
  }
  if (next.setup_data) {
    return go_by(HandOverRoute::kSetupData, table);
  }
  if (next.hand_over_object) {
    return go_by(HandOverRoute::kHandOver, table);
  }
  return std::unexpected{efi_problem(next, table.where())};
}

void LoadedSegments::copy(std::size_t segment, std::span<const std::byte> file,
                          PhysWindow window) const {
  ACCEDE_ASSERT(segment < segments().size());
  const Segment& to = segments()[segment];
  ACCEDE_ASSERT(file.size() == to.file_size.value());
  const std::span memory{window.pointer<std::byte>(to.destination.begin()),
                         static_cast<std::size_t>(to.destination.size().value())};
  std::copy(file.begin(), file.end(), memory.begin());
  std::fill(memory.subspan(file.size()).begin(), memory.end(), std::byte{0});
}

std::expected<HandOverRoute, StartError> start_from(const TableSources& sources,
                                                    const ReadableMemory& memory,
                                                    UnacceptedTable& table,
                                                    std::span<std::uint64_t> index) {
  std::optional<TablePlace> place;
  HandOverRoute route = HandOverRoute::kNone;
  for (const Finding& finding : ask_carriers(sources, memory)) {
    if (!finding.result) {
      return std::unexpected{StartError{.kind = StartErrorKind::kCarrier,
                                        .route = finding.route,
                                        .carrier = finding.result.error()}};
    }
    if (!*finding.result) {
      continue;
    }
    if (place && place->table != (*finding.result)->table) {
      return std::unexpected{StartError{.kind = StartErrorKind::kDisagree, .route = finding.route}};
    }
    if (!place) {
      place = **finding.result;
      route = finding.route;
    }
  }
  if (!place) {
    return HandOverRoute::kNone;
  }
  if (const auto attached = attach(table, *place, memory.window, index); !attached) {
    return std::unexpected{
        StartError{.kind = StartErrorKind::kTable, .route = route, .table = attached.error()}};
  }
  return route;
}

DumpFilter::Run DumpFilter::first_run(PhysRange range) const {
  ACCEDE_ASSERT(!range.empty());
  const PhysRange units = table_.units_of(range);
  const auto run = units.empty() ? std::nullopt : table_.next_run(units);
  if (!run) {
    return {.range = range, .readable = true};
  }
  const bool readable = run->begin() > range.begin();
  const PhysAddr end = readable ? run->begin() : run->end();
  return {.range = *PhysRange::make(range.begin(), std::min(end, range.end())),
          .readable = readable};
}

void DumpFilter::for_each_run(PhysRange range, FunctionRef<void(const Run&)> visit) const {
  while (!range.empty()) {
    const Run run = first_run(range);
    visit(run);
    range = *PhysRange::make(run.range.end(), range.end());
  }
}

}  // namespace accede::guest
