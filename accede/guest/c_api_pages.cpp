// The second object of the C header: zones and the page allocator.
#include "accede/guest/c_api_state.hpp"

namespace accede::guest::c_api {

namespace {

/// Room for `count` objects from the early allocator, constructed.
template <class T>
std::expected<std::span<T>, EarlyError> make_array(Memory& memory, std::size_t count) {
  const auto place =
      memory.early.allocate(Bytes{sizeof(T)} * count, Bytes{std::max<std::size_t>(alignof(T), 64)});
  if (!place) {
    return std::unexpected{place.error()};
  }
  T* const first = memory.window.pointer<T>(place->begin());
  for (std::size_t i = 0; i < count; ++i) {
    new (first + i) T{};
  }
  return std::span{first, count};
}

/// Nothing: a setting is out of bounds.
std::optional<ReserveConfig> reserve_from(const accede_reserve* reserve) {
  if (reserve == nullptr) {
    return ReserveConfig{};
  }
  constexpr std::uint64_t kMinute = 60'000'000'000;
  const std::uint64_t most = kAddressEnd.value();
  if (reserve->cpu_percent < 1 || reserve->cpu_percent > 100 || reserve->floor_bytes > most ||
      reserve->ceiling_bytes > most || reserve->horizon_ns > kMinute ||
      reserve->window_ns > kMinute || reserve->memory_ns > kMinute) {
    return std::nullopt;
  }
  return ReserveConfig{.floor = Bytes{reserve->floor_bytes},
                       .ceiling = Bytes{reserve->ceiling_bytes},
                       .horizon_ns = reserve->horizon_ns,
                       .window_ns = reserve->window_ns,
                       .memory_ns = reserve->memory_ns,
                       .cpu_percent = reserve->cpu_percent};
}

accede_status open_pages(accede_pages& pages, Memory& memory, std::span<const ZonePlan> plan,
                         unsigned cpus, const ReserveConfig& config, accede_detail* detail) {
  const auto zones = make_array<Zone>(memory, plan.size());
  if (!zones) {
    return report(zones.error(), detail);
  }
  const auto caches = make_array<CpuCache>(memory, cpus);
  if (!caches) {
    return report(caches.error(), detail);
  }
  memory.hooks.set_cpus(cpus);
  auto* const state = new (pages.storage) Pages{memory, *zones, *caches, config};
  if (const auto opened = open_zones(state->allocator, memory.early, plan, memory.window);
      !opened) {
    return report(opened.error(), detail);
  }
  memory.phase = Phase::kPagesOpen;
  pages.magic = kPagesMagic;
  return ACCEDE_OK;
}

AllocOptions options_from(std::uint32_t node, unsigned flags) {
  return {.node = node, .no_wait = (flags & ACCEDE_NO_WAIT) != 0};
}

accede_status report(FreeError error) {
  return numbered(kFreeErrors, error);
}

}  // namespace

}  // namespace accede::guest::c_api

using namespace accede;
using namespace accede::guest;
using namespace accede::guest::c_api;

accede_status accede_pages_open(accede_pages* pages, accede_memory* memory, unsigned cpus,
                                const accede_reserve* reserve, accede_detail* detail) {
  if (pages == nullptr || cpus == 0 || cpus > 65536) {
    return ACCEDE_BAD_ARGUMENT;
  }
  pages->magic = 0;
  Memory* const state = state_of(memory);
  if (state == nullptr || state->phase != Phase::kComplete) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  const auto config = reserve_from(reserve);
  if (!config) {
    return ACCEDE_BAD_ARGUMENT;
  }
  std::array<ZonePlan, Background::kMaxZones> plan;
  const std::size_t zones = plan_zones(state->early.ranges(), plan);
  if (zones > plan.size()) {
    return ACCEDE_TOO_MANY_ZONES;
  }
  if (zones == 0) {
    return ACCEDE_EARLY_OUT_OF_MEMORY;
  }
  return open_pages(*pages, *state, std::span{plan}.first(zones), cpus, *config, detail);
}

accede_status accede_pages_assign_cpu(accede_pages* pages, unsigned cpu, uint32_t node) {
  Pages* const state = state_of(pages);
  if (state == nullptr) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  if (cpu >= state->caches.size()) {
    return ACCEDE_BAD_ARGUMENT;
  }
  state->allocator.assign_cpu(cpu, node);
  return ACCEDE_OK;
}

accede_status accede_pages_init_step(accede_pages* pages, bool* more, accede_detail* detail) {
  Pages* const state = state_of(pages);
  if (state == nullptr) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  if (more == nullptr) {
    return ACCEDE_BAD_ARGUMENT;
  }
  state->running.fetch_add(1, std::memory_order_acq_rel);
  const auto step = state->init.step();
  if (step && !*step) {
    state->all_taken.store(true, std::memory_order_release);
  }
  state->running.fetch_sub(1, std::memory_order_acq_rel);
  *more = !step || *step;
  return step ? ACCEDE_OK : c_api::report(step.error(), detail);
}

accede_status accede_pages_allocate(accede_pages* pages, unsigned order, uint32_t node,
                                    unsigned flags, uint64_t* address, accede_detail* detail) {
  Pages* const state = state_of(pages);
  if (state == nullptr) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  if (order > ACCEDE_MAX_ORDER || address == nullptr) {
    return ACCEDE_BAD_ARGUMENT;
  }
  const auto page = state->allocator.allocate(Order{order}, options_from(node, flags));
  if (!page) {
    return c_api::report(page.error(), detail);
  }
  *address = page->value();
  return ACCEDE_OK;
}

accede_status accede_pages_free(accede_pages* pages, uint64_t address, unsigned order) {
  Pages* const state = state_of(pages);
  if (state == nullptr) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  if (order > ACCEDE_MAX_ORDER) {
    return ACCEDE_BAD_ARGUMENT;
  }
  const auto freed = state->allocator.free(PhysAddr{address}, Order{order});
  return freed ? ACCEDE_OK : report(freed.error());
}

accede_status accede_pages_allocate_bulk(accede_pages* pages, uint64_t* addresses, size_t count,
                                         uint32_t node, unsigned flags, size_t* done,
                                         accede_detail* detail) {
  Pages* const state = state_of(pages);
  if (state == nullptr) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  if (addresses == nullptr || count == 0 || done == nullptr) {
    return ACCEDE_BAD_ARGUMENT;
  }
  std::array<PhysAddr, 64> some;
  std::size_t got = 0;
  while (got < count) {
    const auto want = std::span{some}.first(std::min(some.size(), count - got));
    const auto batch = state->allocator.allocate_bulk(want, options_from(node, flags));
    if (!batch && got == 0) {
      return c_api::report(batch.error(), detail);
    }
    const std::size_t here = batch.value_or(0);
    for (const PhysAddr page : want.first(here)) {
      addresses[got++] = page.value();
    }
    if (here < want.size()) {
      break;
    }
  }
  *done = got;
  return ACCEDE_OK;
}

accede_status accede_pages_allocate_contiguous(accede_pages* pages, uint64_t count, uint64_t align,
                                               uint32_t node, unsigned flags, uint64_t* address,
                                               accede_detail* detail) {
  Pages* const state = state_of(pages);
  if (state == nullptr || !state->ready()) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  if (count == 0 || count > kAddressEnd.value() / 8192 || !is_alignment(align) || align < 4096 ||
      address == nullptr) {
    return ACCEDE_BAD_ARGUMENT;
  }
  const auto run = state->allocator.allocate_contiguous(PageCount{count}, Bytes{align},
                                                        options_from(node, flags));
  if (!run) {
    return c_api::report(run.error(), detail);
  }
  *address = run->begin().value();
  return ACCEDE_OK;
}

accede_status accede_pages_free_contiguous(accede_pages* pages, uint64_t begin, uint64_t end) {
  Pages* const state = state_of(pages);
  if (state == nullptr || !state->ready()) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  const auto range = range_from(begin, end);
  if (!range) {
    return ACCEDE_BAD_RANGE;
  }
  const auto freed = state->allocator.free_contiguous(*range);
  return freed ? ACCEDE_OK : report(freed.error());
}

accede_status accede_pages_drain_caches(accede_pages* pages) {
  Pages* const state = state_of(pages);
  if (state == nullptr) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  state->allocator.drain_caches();
  return ACCEDE_OK;
}

accede_status accede_pages_accept_everything(accede_pages* pages, uint64_t* accepted,
                                             accede_detail* detail) {
  Pages* const state = state_of(pages);
  if (state == nullptr) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  const auto done = state->allocator.accept_everything();
  if (!done) {
    return c_api::report(done.error(), detail);
  }
  if (accepted != nullptr) {
    *accepted = done->value();
  }
  return ACCEDE_OK;
}

accede_status accede_pages_background_step(accede_pages* pages, uint64_t* accepted,
                                           uint64_t* sleep_ns, accede_detail* detail) {
  Pages* const state = state_of(pages);
  if (state == nullptr) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  if (sleep_ns == nullptr) {
    return ACCEDE_BAD_ARGUMENT;
  }
  const auto step = state->background.step();
  if (!step) {
    return c_api::report(step.error(), detail);
  }
  if (accepted != nullptr) {
    *accepted = step->accepted.value();
  }
  *sleep_ns = step->sleep_ns;
  return ACCEDE_OK;
}

accede_status accede_pages_counters(const accede_pages* pages, uint32_t node,
                                    accede_page_counters* out) {
  const Pages* const state = state_of(pages);
  if (state == nullptr || out == nullptr) {
    return ACCEDE_BAD_ARGUMENT;
  }
  const MemoryCounters counters = state->allocator.counters(
      node == ACCEDE_ANY_NODE ? std::nullopt : std::optional<unsigned>{node});
  *out = {.total_bytes = counters.total.value(),
          .free_bytes = counters.free.value(),
          .unaccepted_bytes = counters.unaccepted.value(),
          .accept_waits = state->allocator.accept_waits(),
          .metadata_bytes = state->allocator.metadata().value()};
  return ACCEDE_OK;
}
