// The first object of the C header: platform, map, table, acceptor, early allocator.
#include "accede/guest/c_api_state.hpp"

namespace accede::guest::c_api {

namespace {

/// Half of the storage is for the map, the rest for the two lists, which can grow.
std::optional<Lists> make_lists(void* storage, std::size_t bytes) {
  static_assert(sizeof(MemoryRegion) <= 32 && sizeof(EarlyRange) <= 32);
  if (storage == nullptr || !is_aligned_for<MemoryRegion>(storage)) {
    return std::nullopt;
  }
  const std::size_t map_entries = bytes / 2 / sizeof(MemoryRegion);
  const std::size_t list_entries = bytes / 4 / sizeof(EarlyRange);
  if (list_entries < 8) {
    return std::nullopt;
  }
  auto* const map = static_cast<MemoryRegion*>(storage);
  for (std::size_t i = 0; i < map_entries; ++i) {
    new (map + i) MemoryRegion{};
  }
  auto* const lists = reinterpret_cast<EarlyRange*>(map + map_entries);
  for (std::size_t i = 0; i < list_entries * 2; ++i) {
    new (lists + i) EarlyRange{};
  }
  return Lists{.map = {map, map_entries},
               .memory = {lists, list_entries},
               .reserved = {lists + list_entries, list_entries}};
}

/// Adds the RAM of one kind.
CEarly::Done add_ram(Memory& memory, MemoryKind kind) {
  for (const MemoryRegion& region : memory.map.regions()) {
    if (region.kind == kind) {
      if (const auto added = memory.early.add_memory(region.range); !added) {
        return added;
      }
    }
  }
  return {};
}

accede_status use_map(Memory& memory, const MemoryMap::Result& map, bool says_unaccepted,
                      accede_detail* detail) {
  if (!map) {
    return report(map.error(), detail);
  }
  for (const MemoryRegion& region : map->regions()) {
    const bool ram = region.kind == MemoryKind::kUsable || region.kind == MemoryKind::kUnaccepted;
    if (ram && region.range.end() > kAddressEnd) {
      return ACCEDE_MAP_BEYOND_2_52;
    }
  }
  memory.map = *map;
  memory.phase = Phase::kMapped;
  if (says_unaccepted) {
    if (const auto added = add_ram(memory, MemoryKind::kUsable); !added) {
      return report(added.error(), detail);
    }
    memory.phase = Phase::kAcceptedRam;
  }
  return ACCEDE_OK;
}

bool before_table(const Memory& memory) {
  return memory.phase == Phase::kAcceptedRam || memory.phase == Phase::kMapped;
}
/// The early allocator may hand out and take back.
bool can_allocate(const Memory& memory) {
  return memory.phase == Phase::kAcceptedRam || memory.phase == Phase::kComplete;
}

std::span<std::uint64_t> index_from(void* index, std::size_t bytes) {
  if (index == nullptr) {
    return {};
  }
  return {static_cast<std::uint64_t*>(index), bytes / sizeof(std::uint64_t)};
}

/// Reserves a table that was attached; without room for that it is let go of.
accede_status reserve_table(Memory& memory, accede_detail* detail) {
  if (!memory.table.present()) {
    return ACCEDE_OK;
  }
  const auto reserved = memory.early.reserve_table(memory.table);
  return reserved ? ACCEDE_OK : report(reserved.error(), detail);
}

/// The layout of the table to build: empty when none is needed.
std::expected<std::optional<TableLayout>, TableError> table_plan(const Memory& memory) {
  if (memory.table.present() || memory.platform.kind() == PlatformKind::kNone) {
    return std::nullopt;
  }
  return UnacceptedTable::plan(memory.map);
}

accede_status build_at(Memory& memory, const TableLayout& layout, PhysRange place,
                       accede_detail* detail) {
  const Bytes index_bytes{layout.index * sizeof(std::uint64_t)};
  const auto index = memory.early.allocate(index_bytes, Bytes{sizeof(std::uint64_t)});
  if (!index) {
    return report(index.error(), detail);
  }
  const auto built = memory.table.build(
      memory.map, layout, {memory.window.pointer<std::byte>(place.begin()), place.size().value()},
      place.begin(), {memory.window.pointer<std::uint64_t>(index->begin()), layout.index},
      [&memory](PhysRange range) { return memory.platform.accept(range); });
  return built ? ACCEDE_OK : report(built.error(), detail);
}

accede_status build(Memory& memory, const TableLayout& layout, std::optional<PhysRange> place,
                    accede_detail* detail) {
  if (memory.phase != Phase::kAcceptedRam) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  if (!place) {
    const auto own = memory.early.allocate(layout.table, Bytes{sizeof(std::uint64_t)});
    if (!own) {
      return report(own.error(), detail);
    }
    return build_at(memory, layout, *own, detail);
  }
  if (const auto reserved = memory.early.reserve_pages(*place); !reserved) {
    return report(reserved.error(), detail);
  }
  return build_at(memory, layout, *place, detail);
}

accede_status some_done(const CAcceptor::PartResult& progress, std::uint64_t* rest_begin,
                        std::uint64_t* rest_end, accede_detail* detail) {
  if (!progress) {
    return report(progress.error(), detail);
  }
  *rest_begin = progress->rest.begin().value();
  *rest_end = progress->rest.end().value();
  return ACCEDE_OK;
}

}  // namespace

}  // namespace accede::guest::c_api

using namespace accede;
using namespace accede::guest;
using namespace accede::guest::c_api;

accede_status accede_memory_init(accede_memory* memory, const accede_config* config,
                                 accede_detail*) {
  if (memory == nullptr || config == nullptr) {
    return ACCEDE_BAD_ARGUMENT;
  }
  memory->magic = 0;
  if (const accede_status status = AnyPlatform::check(config->platform); status != ACCEDE_OK) {
    return status;
  }
  const bool interrupts = config->hooks.interrupts_off != nullptr;
  const auto lists = make_lists(config->lists, config->lists_bytes);
  if (!lists || interrupts != (config->hooks.interrupts_restore != nullptr)) {
    return ACCEDE_BAD_ARGUMENT;
  }
  auto* const state = new (memory->storage) Memory{*config, *lists};
  if (const accede_status status = state->platform.start(); status != ACCEDE_OK) {
    return status;
  }
  memory->magic = kMemoryMagic;
  return ACCEDE_OK;
}

accede_status accede_map_from_efi(accede_memory* memory, const void* map, size_t bytes,
                                  size_t stride, accede_detail* detail) {
  Memory* const state = state_of(memory);
  if (state == nullptr || state->phase != Phase::kStarted) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  if (map == nullptr) {
    return ACCEDE_BAD_ARGUMENT;
  }
  const std::span input{static_cast<const std::byte*>(map), bytes};
  return use_map(*state, MemoryMap::from_efi(input, stride, state->map_storage), true, detail);
}

accede_status accede_map_from_e820(accede_memory* memory, const void* entries, size_t bytes,
                                   accede_detail* detail) {
  Memory* const state = state_of(memory);
  if (state == nullptr || state->phase != Phase::kStarted) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  if (entries == nullptr) {
    return ACCEDE_BAD_ARGUMENT;
  }
  const std::span input{static_cast<const std::byte*>(entries), bytes};
  return use_map(*state, MemoryMap::from_e820(input, state->map_storage), false, detail);
}

bool accede_map_region(const accede_memory* memory, size_t index, accede_region* out) {
  const Memory* const state = state_of(memory);
  if (state == nullptr || out == nullptr || index >= state->map.regions().size()) {
    return false;
  }
  const MemoryRegion& region = state->map.regions()[index];
  *out = {.begin = region.range.begin().value(),
          .end = region.range.end().value(),
          .kind = static_cast<accede_memory_kind>(region.kind)};
  return true;
}

uint64_t accede_map_unusable(const accede_memory* memory) {
  const Memory* const state = state_of(memory);
  return state == nullptr ? 0
                          : unusable_without_platform(state->map, state->platform.kind()).value();
}

accede_status accede_table_attach(accede_memory* memory, uint64_t where, uint64_t bytes,
                                  void* index, size_t index_bytes, accede_detail* detail) {
  Memory* const state = state_of(memory);
  if (state == nullptr || !before_table(*state) || state->table.present()) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  if (!is_size(bytes) || where > kAddressEnd.value() - bytes ||
      !is_aligned_for<std::uint64_t>(index)) {
    return ACCEDE_BAD_ARGUMENT;
  }
  const TablePlace place{.table = PhysAddr{where}, .bound = Bytes{bytes}};
  if (const auto attached =
          attach(state->table, place, state->window, index_from(index, index_bytes));
      !attached) {
    return report(attached.error(), detail);
  }
  return reserve_table(*state, detail);
}

accede_status accede_table_find(accede_memory* memory, const accede_sources* sources, void* index,
                                size_t index_bytes, accede_route* route, accede_detail* detail) {
  Memory* const state = state_of(memory);
  if (state == nullptr || !before_table(*state) || state->table.present()) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  std::array<PhysRange, 64> readable;
  if (sources == nullptr || sources->readable_count > readable.size() ||
      (sources->readable == nullptr && sources->readable_count != 0) ||
      (sources->efi_entries == nullptr && sources->efi_entry_count != 0) ||
      !is_aligned_for<std::uint64_t>(index)) {
    return ACCEDE_BAD_ARGUMENT;
  }
  for (std::size_t i = 0; i < sources->readable_count; ++i) {
    const auto range = range_from(sources->readable[i].begin, sources->readable[i].end);
    if (!range) {
      return ACCEDE_BAD_RANGE;
    }
    readable[i] = *range;
  }
  const auto found = start_from(
      {.efi_entries = {static_cast<const std::byte*>(sources->efi_entries),
                       sources->efi_entry_count * kEfiEntryBytes},
       .setup_data = PhysAddr{sources->setup_data},
       .hand_over = PhysAddr{sources->hand_over}},
      {.window = state->window, .ranges = std::span{readable}.first(sources->readable_count)},
      state->table, index_from(index, index_bytes));
  if (!found) {
    const StartError& error = found.error();
    return error.kind == StartErrorKind::kCarrier ? report(error.carrier, detail)
           : error.kind == StartErrorKind::kTable ? report(error.table, detail)
                                                  : ACCEDE_TABLES_DISAGREE;
  }
  if (route != nullptr) {
    *route = static_cast<accede_route>(*found);
  }
  return reserve_table(*state, detail);
}

accede_status accede_table_size(const accede_memory* memory, uint64_t* bytes,
                                accede_detail* detail) {
  const Memory* const state = state_of(memory);
  if (state == nullptr || bytes == nullptr) {
    return ACCEDE_BAD_ARGUMENT;
  }
  const auto layout = table_plan(*state);
  if (!layout) {
    return report(layout.error(), detail);
  }
  *bytes = *layout ? (*layout)->table.value() : 0;
  return ACCEDE_OK;
}

accede_status accede_table_build(accede_memory* memory, uint64_t where, uint64_t bytes,
                                 accede_detail* detail) {
  Memory* const state = state_of(memory);
  if (state == nullptr || !before_table(*state)) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  std::optional<PhysRange> place;
  if (bytes != 0) {
    if (!is_size(bytes) || where > kAddressEnd.value() - bytes) {
      return ACCEDE_BAD_ARGUMENT;
    }
    place = *PhysRange::make(PhysAddr{where}, Bytes{bytes});
  }
  const auto layout = table_plan(*state);
  if (!layout) {
    return report(layout.error(), detail);
  }
  if (*layout) {
    if (const accede_status status = build(*state, **layout, place, detail); status != ACCEDE_OK) {
      return status;
    }
  }
  if (state->phase == Phase::kMapped) {
    if (const auto added = add_ram(*state, MemoryKind::kUsable); !added) {
      return report(added.error(), detail);
    }
  }
  if (state->platform.kind() != PlatformKind::kNone) {
    if (const auto added = add_ram(*state, MemoryKind::kUnaccepted); !added) {
      return report(added.error(), detail);
    }
  }
  state->phase = Phase::kComplete;
  return ACCEDE_OK;
}

bool accede_table_place(const accede_memory* memory, uint64_t* where, uint64_t* bytes) {
  const Memory* const state = state_of(memory);
  if (state == nullptr || where == nullptr || bytes == nullptr || !state->table.present()) {
    return false;
  }
  *where = state->table.where().value();
  *bytes = state->table.bytes().size();
  return true;
}

accede_status accede_accept(accede_memory* memory, uint64_t begin, uint64_t end, uint64_t* accepted,
                            accede_detail* detail) {
  Memory* const state = state_of(memory);
  if (state == nullptr || state->phase < Phase::kComplete) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  const auto range = range_from(begin, end);
  if (!range) {
    return ACCEDE_BAD_RANGE;
  }
  const auto done = state->acceptor.accept(*range);
  if (!done) {
    return report(done.error(), detail);
  }
  if (accepted != nullptr) {
    *accepted = done->value();
  }
  return ACCEDE_OK;
}

accede_status accede_accept_some(accede_memory* memory, uint64_t begin, uint64_t end,
                                 uint64_t budget, uint64_t* rest_begin, uint64_t* rest_end,
                                 accede_detail* detail) {
  Memory* const state = state_of(memory);
  if (state == nullptr || state->phase < Phase::kComplete) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  const auto range = range_from(begin, end);
  if (!range) {
    return ACCEDE_BAD_RANGE;
  }
  if (rest_begin == nullptr || rest_end == nullptr) {
    return ACCEDE_BAD_ARGUMENT;
  }
  return some_done(state->acceptor.accept_some(*range, Bytes{budget}), rest_begin, rest_end,
                   detail);
}

accede_status accede_accept_rest(accede_memory* memory, uint64_t begin, uint64_t end,
                                 uint64_t budget, uint64_t* rest_begin, uint64_t* rest_end,
                                 accede_detail* detail) {
  Memory* const state = state_of(memory);
  if (state == nullptr || state->phase < Phase::kComplete) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  const auto range = range_from(begin, end);
  if (!range) {
    return ACCEDE_BAD_RANGE;
  }
  if (rest_begin == nullptr || rest_end == nullptr) {
    return ACCEDE_BAD_ARGUMENT;
  }
  return some_done(state->acceptor.accept_rest(*range, Bytes{budget}), rest_begin, rest_end,
                   detail);
}

bool accede_contains_unaccepted(const accede_memory* memory, uint64_t begin, uint64_t end) {
  const Memory* const state = state_of(memory);
  const auto range = range_from(begin, end);
  return state == nullptr || state->phase < Phase::kComplete || !range ||
         state->acceptor.contains_unaccepted(*range);
}

accede_status accede_convert(accede_memory* memory, uint64_t begin, uint64_t end, bool shared,
                             accede_detail* detail) {
  Memory* const state = state_of(memory);
  if (state == nullptr || state->phase < Phase::kComplete) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  const auto range = range_from(begin, end);
  if (!range || !page_aligned(*range)) {
    return ACCEDE_BAD_RANGE;
  }
  // What is shared and still has its bit set would be accepted again when a neighbour is used.
  if (shared) {
    if (const auto accepted = state->acceptor.accept(*range); !accepted) {
      return report(accepted.error(), detail);
    }
  }
  const auto converted =
      state->platform.convert(*range, shared ? Visibility::kShared : Visibility::kPrivate);
  return converted ? ACCEDE_OK : report(converted.error(), detail);
}

accede_status accede_counters(const accede_memory* memory, accede_accept_counters* out) {
  const Memory* const state = state_of(memory);
  if (state == nullptr || out == nullptr) {
    return ACCEDE_BAD_ARGUMENT;
  }
  const AcceptorCounters counters = state->acceptor.counters();
  *out = {.accept_calls = counters.accept_calls,
          .platform_calls = counters.platform_calls,
          .waits = counters.waits,
          .failures = counters.failures,
          .accepted_bytes = counters.accepted.value(),
          .longest_step = counters.longest_step.value(),
          .longest_call = counters.longest_call.value(),
          .unaccepted_bytes = state->table.unaccepted().value()};
  return ACCEDE_OK;
}

accede_status accede_early_reserve(accede_memory* memory, uint64_t begin, uint64_t end,
                                   accede_detail* detail) {
  Memory* const state = state_of(memory);
  if (state == nullptr || state->phase >= Phase::kPagesOpen) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  const auto range = range_from(begin, end);
  if (!range) {
    return ACCEDE_BAD_RANGE;
  }
  const auto done = state->early.reserve_pages(*range);
  return done ? ACCEDE_OK : report(done.error(), detail);
}

accede_status accede_early_assign_node(accede_memory* memory, uint64_t begin, uint64_t end,
                                       uint32_t node, accede_detail* detail) {
  Memory* const state = state_of(memory);
  if (state == nullptr || state->phase != Phase::kComplete) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  if (node == ACCEDE_ANY_NODE) {
    return ACCEDE_BAD_ARGUMENT;
  }
  const auto range = range_from(begin, end);
  if (!range) {
    return ACCEDE_BAD_RANGE;
  }
  const auto done = state->early.assign_node(*range, NodeId{node});
  return done ? ACCEDE_OK : report(done.error(), detail);
}

accede_status accede_early_allow_growth(accede_memory* memory, uint64_t begin, uint64_t end) {
  Memory* const state = state_of(memory);
  if (state == nullptr || state->phase != Phase::kComplete) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  const auto range = range_from(begin, end);
  if (!range) {
    return ACCEDE_BAD_RANGE;
  }
  state->early.allow_growth(*range);
  return ACCEDE_OK;
}

accede_status accede_early_allocate(accede_memory* memory, uint64_t size, uint64_t align,
                                    uint64_t limit, uint32_t node, uint64_t* address,
                                    accede_detail* detail) {
  Memory* const state = state_of(memory);
  if (state == nullptr || !can_allocate(*state)) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  if (!is_size(size) || !is_alignment(align) || address == nullptr) {
    return ACCEDE_BAD_ARGUMENT;
  }
  EarlyPlace place{.node = NodeId{node}};
  if (limit != 0) {
    const PhysAddr end{std::clamp(limit, kAllMemory.begin().value(), kAddressEnd.value())};
    place.limits = *PhysRange::make(kAllMemory.begin(), end);
  }
  const auto found = state->early.allocate(Bytes{size}, Bytes{align}, place);
  if (!found) {
    return report(found.error(), detail);
  }
  *address = found->begin().value();
  return ACCEDE_OK;
}

accede_status accede_early_free(accede_memory* memory, uint64_t begin, uint64_t end,
                                accede_detail* detail) {
  Memory* const state = state_of(memory);
  if (state == nullptr || !can_allocate(*state)) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  const auto range = range_from(begin, end);
  if (!range) {
    return ACCEDE_BAD_RANGE;
  }
  const auto done = state->early.free(*range);
  return done ? ACCEDE_OK : report(done.error(), detail);
}

uint64_t accede_early_free_bytes(const accede_memory* memory) {
  const Memory* const state = state_of(memory);
  return state == nullptr ? 0 : state->early.ranges().free_bytes().value();
}
