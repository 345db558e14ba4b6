#include "accede/guest/page_state_list.hpp"

#include "accede/base/assert.hpp"
#include "accede/base/shared_word.hpp"
#include "accede/guest/page_walk.hpp"

#include <atomic>

namespace accede::guest {

using abi::ghcb::ExitCode;
using abi::ghcb::GhcbPage;
using abi::ghcb::kPscMaxEntries;
using abi::ghcb::PageOp;
using abi::ghcb::PscEntry;
using abi::ghcb::PscHeader;
using abi::ghcb::ValidBit;

namespace {

/// The fields of a request. All of them every time: the host clears the valid bits.
void write_request(GhcbRef ghcb, std::uint16_t version) {
  GhcbPage& page = *ghcb.page;
  store_shared(page.sw_exit_code, static_cast<std::uint64_t>(ExitCode::kPageStateChange));
  store_shared(page.sw_exit_info_1, std::uint64_t{0});
  store_shared(page.sw_exit_info_2, std::uint64_t{0});
  store_shared(page.sw_scratch, ghcb.address.value() + abi::ghcb::kSharedBufferBegin);
  store_shared(page.protocol_version, version);
  store_shared(page.usage, abi::ghcb::kGhcbUsageStandard);
  const auto valid = abi::ghcb::valid_bits(ValidBit::kSwExitCode, ValidBit::kSwExitInfo1,
                                           ValidBit::kSwExitInfo2, ValidBit::kSwScratch);
  store_shared(page.valid_bitmap[0], valid[0]);
  store_shared(page.valid_bitmap[1], valid[1]);
}

PlatformResult fail(FailureKind kind, std::uint64_t status, PhysAddr at, PhysAddr end) {
  return std::unexpected{PlatformFailure{.kind = kind,
                                         .status = status,
                                         .at = at,
                                         .size = at < end ? largest_page(at, end) : PageSize::k4K,
                                         .done_end = at}};
}

}  // namespace

PageStateBatch::PageStateBatch(PhysRange range, PageSize cap) : cap_{cap} {
  ACCEDE_ASSERT(!range.empty());
  ACCEDE_ASSERT(range.begin().is_aligned(4_KiB) && range.end().is_aligned(4_KiB));
  PhysAddr at = range.begin();
  for (; at < range.end() && count_ < kPscMaxEntries; ++count_) {
    at += bytes(largest_page(at, range.end(), cap));
  }
  range_ = *PhysRange::make(range.begin(), at);
}

PhysAddr PageStateBatch::at(std::uint16_t index) const {
  ACCEDE_ASSERT(index <= count_);
  PhysAddr at = range_.begin();
  for (std::uint16_t i = 0; i < index; ++i) {
    at += bytes(largest_page(at, range_.end(), cap_));
  }
  return at;
}

void PageStateBatch::write(GhcbPage& page, PageOp op) const {
  PhysAddr at = range_.begin();
  for (std::uint16_t i = 0; i < count_; ++i) {
    const PageSize size = largest_page(at, range_.end(), cap_);
    store_shared(page.shared_buffer[i + 1U], PscEntry::make(at, size, op));
    at += bytes(size);
  }
}

PlatformResult change_page_state(GhcbRef ghcb, const PageStateBatch& batch, PageOp op,
                                 std::uint16_t version, FunctionRef<void(PhysAddr ghcb)> exchange) {
  ACCEDE_ASSERT(ghcb.page != nullptr && ghcb.address.is_aligned(4_KiB) && version >= 2);
  GhcbPage& page = *ghcb.page;
  const auto last = static_cast<std::uint16_t>(batch.count() - 1);
  const auto stop = [&](FailureKind kind, std::uint64_t status, std::uint64_t reached) {
    return fail(kind, status, batch.at(static_cast<std::uint16_t>(reached)), batch.range().end());
  };
  batch.write(page, op);
  std::uint16_t current = 0;
  for (unsigned stalled = 0; current <= last;) {
    store_shared(page.shared_buffer[0], PscHeader::make(current, last));
    write_request(ghcb, version);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    exchange(ghcb.address);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    const std::uint64_t info1 = load_shared(page.sw_exit_info_1);
    const std::uint64_t info2 = load_shared(page.sw_exit_info_2);
    const std::uint64_t header = load_shared(page.shared_buffer[0]);

    const std::uint64_t next = PscHeader::CurEntry::get(header);
    const bool sound = PscHeader::Reserved::get(header) == 0 &&
                       PscHeader::EndEntry::get(header) == last && next >= current &&
                       next <= last + 1U;
    if (static_cast<std::uint32_t>(info1) != 0 || info2 != 0) {
      const std::uint64_t word = static_cast<std::uint32_t>(info1) != 0 ? info1 : info2;
      return stop(FailureKind::kRefused, word, sound ? next : current);
    }
    if (!sound) {
      return stop(FailureKind::kHostLied, header, current);
    }
    stalled = next == current ? stalled + 1 : 0;
    if (stalled == kPageStateTries) {
      return stop(FailureKind::kBusyForever, header, current);
    }
    current = static_cast<std::uint16_t>(next);
  }
  return {};
}

PlatformResult change_page_state(PhysAddr page, PageOp op,
                                 FunctionRef<std::uint64_t(std::uint64_t)> exchange) {
  const std::uint64_t response = exchange(abi::ghcb::page_state_request(page, op));
  const auto error = abi::ghcb::page_state_error_of(response);
  if (error == 0U) {
    return {};
  }
  return fail(error.has_value() ? FailureKind::kRefused : FailureKind::kHostLied, response, page,
              page + 4_KiB);
}

}  // namespace accede::guest
