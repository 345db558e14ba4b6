// The C header: starting another kernel.
#include "accede/guest/c_api_state.hpp"

namespace accede::guest::c_api {

namespace {

std::expected<SegmentList, SegmentError> check(const Memory& memory, const accede_segment* segments,
                                               std::size_t count) {
  std::array<SegmentRequest, kMostSegments> requests;
  if (count > requests.size()) {
    return std::unexpected{
        SegmentError{.kind = SegmentErrorKind::kTooMany, .segment = kMostSegments}};
  }
  for (std::size_t i = 0; i < count; ++i) {
    requests[i] = {.destination = PhysAddr{segments[i].destination},
                   .size = Bytes{segments[i].size},
                   .file_size = Bytes{segments[i].file_size}};
  }
  return SegmentList::check(std::span{requests}.first(count), memory.map, memory.table);
}

NextKernel next_from(const accede_next_kernel& next) {
  return {.efi_system_table = next.efi_system_table,
          .efi_runtime = next.efi_runtime,
          .efi_published =
              next.efi_published != 0 ? std::optional{PhysAddr{next.efi_published}} : std::nullopt,
          .setup_data = next.setup_data,
          .hand_over_object = next.hand_over_object};
}

const Memory* with_table(const accede_memory* memory) {
  const Memory* const state = state_of(memory);
  return state != nullptr && state->table.present() ? state : nullptr;
}

std::span<std::byte> bytes_at(void* memory, std::size_t size) {
  return {static_cast<std::byte*>(memory), size};
}

}  // namespace

}  // namespace accede::guest::c_api

using namespace accede;
using namespace accede::guest;
using namespace accede::guest::c_api;

accede_status accede_kexec_check(const accede_memory* memory, const accede_segment* segments,
                                 size_t count, accede_detail* detail) {
  const Memory* const state = state_of(memory);
  if (state == nullptr || state->phase < Phase::kComplete) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  if (segments == nullptr) {
    return ACCEDE_BAD_ARGUMENT;
  }
  const auto list = c_api::check(*state, segments, count);
  return list ? ACCEDE_OK : report(list.error(), detail);
}

accede_status accede_kexec_load(accede_memory* memory, const accede_segment* segments, size_t count,
                                const accede_next_kernel* next, accede_hand_over* plan,
                                uint64_t* accepted, accede_detail* detail) {
  Memory* const state = state_of(memory);
  if (state == nullptr || state->phase < Phase::kComplete) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  if (segments == nullptr || next == nullptr || plan == nullptr) {
    return ACCEDE_BAD_ARGUMENT;
  }
  const auto list = c_api::check(*state, segments, count);
  if (!list) {
    return report(list.error(), detail);
  }
  const auto hand_over = plan_hand_over(state->table, state->map, next_from(*next));
  if (!hand_over) {
    return numbered(kHandOverErrors, hand_over.error());
  }
  const auto loaded = load(*list, *hand_over, state->acceptor);
  if (!loaded) {
    return report(loaded.error(), detail);
  }
  *plan = {.route = static_cast<accede_route>(hand_over->route),
           .table = hand_over->table.table.value(),
           .table_bytes = hand_over->table.bound.value()};
  if (accepted != nullptr) {
    *accepted = loaded->accepted().value();
  }
  return ACCEDE_OK;
}

accede_status accede_publish_object(const accede_memory* memory, void* object, size_t bytes,
                                    accede_detail* detail) {
  const Memory* const state = with_table(memory);
  if (state == nullptr) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  if (object == nullptr) {
    return ACCEDE_BAD_ARGUMENT;
  }
  const auto done = publish_hand_over(bytes_at(object, bytes), place_of(state->table));
  return done ? ACCEDE_OK : report(done.error(), detail);
}

accede_status accede_publish_setup_data(const accede_memory* memory, void* node, size_t bytes,
                                        uint64_t old_head, accede_detail* detail) {
  const Memory* const state = with_table(memory);
  if (state == nullptr) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  if (node == nullptr) {
    return ACCEDE_BAD_ARGUMENT;
  }
  const auto done =
      publish_in_setup_data(bytes_at(node, bytes), PhysAddr{old_head}, place_of(state->table));
  return done ? ACCEDE_OK : report(done.error(), detail);
}

accede_status accede_publish_efi(const accede_memory* memory, void* entries, size_t slots,
                                 size_t count, size_t* new_count, accede_detail* detail) {
  const Memory* const state = with_table(memory);
  if (state == nullptr) {
    return ACCEDE_BAD_ORDER_OF_CALLS;
  }
  if (entries == nullptr || new_count == nullptr || slots > 65536 || count > slots) {
    return ACCEDE_BAD_ARGUMENT;
  }
  const auto done = publish_in_efi(bytes_at(entries, slots * kEfiEntryBytes), count,
                                   place_of(state->table).table);
  if (!done) {
    return report(done.error(), detail);
  }
  *new_count = *done;
  return ACCEDE_OK;
}
