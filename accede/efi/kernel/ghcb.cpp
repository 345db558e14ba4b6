#include "accede/efi/kernel/ghcb.hpp"

#include "accede/base/assert.hpp"
#include "accede/base/shared_word.hpp"

#include <array>
#include <atomic>
#include <cstddef>

namespace accede::efi::kernel {

using abi::ghcb::GhcbPage;
using abi::ghcb::ValidBit;

namespace {

constexpr std::uint16_t kVersion = 2;

/// The words of a page that a call and its answer change, put back at the end. What is put back is
/// the host's business as before: nothing in the page is believed because of where it came from.
class KeptWords {
 public:
  explicit KeptWords(GhcbPage& page)
      : words_{&page.rax,
               &page.rbx,
               &page.rcx,
               &page.rdx,
               &page.sw_exit_code,
               &page.sw_exit_info_1,
               &page.sw_exit_info_2,
               &page.sw_scratch,
               &page.shared_buffer[0],
               &page.valid_bitmap[0],
               &page.valid_bitmap[1]} {
    for (std::size_t i = 0; i < words_.size(); ++i) {
      values_[i] = load_shared(*words_[i]);
    }
  }
  ~KeptWords() {
    for (std::size_t i = 0; i < words_.size(); ++i) {
      store_shared(*words_[i], values_[i]);
    }
  }
  KeptWords(const KeptWords&) = delete;
  KeptWords& operator=(const KeptWords&) = delete;

 private:
  std::array<std::uint64_t*, 11> words_;
  std::array<std::uint64_t, 11> values_{};
};

void write_request(guest::GhcbRef ghcb, const GhcbRequest& request) {
  GhcbPage& page = *ghcb.page;
  auto valid =
      abi::ghcb::valid_bits(ValidBit::kSwExitCode, ValidBit::kSwExitInfo1, ValidBit::kSwExitInfo2);
  const auto give = [&valid](std::uint64_t& field, std::optional<std::uint64_t> value,
                             ValidBit bit) {
    store_shared(field, value.value_or(0));
    if (value) {
      const auto bits = abi::ghcb::valid_bits(bit);
      valid[0] |= bits[0];
      valid[1] |= bits[1];
    }
  };
  give(page.rax, request.rax, ValidBit::kRax);
  give(page.rcx, request.rcx, ValidBit::kRcx);
  give(page.rdx, request.rdx, ValidBit::kRdx);
  if (request.data) {
    store_shared(page.shared_buffer[0], *request.data);
    give(page.sw_scratch, ghcb.address.value() + abi::ghcb::kSharedBufferBegin,
         ValidBit::kSwScratch);
  }
  store_shared(page.sw_exit_code, static_cast<std::uint64_t>(request.code));
  store_shared(page.sw_exit_info_1, request.info1);
  store_shared(page.sw_exit_info_2, request.info2);
  store_shared(page.protocol_version, kVersion);
  store_shared(page.usage, abi::ghcb::kGhcbUsageStandard);
  store_shared(page.valid_bitmap[0], valid[0]);
  store_shared(page.valid_bitmap[1], valid[1]);
}

std::optional<GhcbAnswer> read_answer(GhcbPage& page, const GhcbRequest& request) {
  const auto result = static_cast<std::uint32_t>(load_shared(page.sw_exit_info_1));
  if (result != static_cast<std::uint32_t>(abi::ghcb::ExitResult::kOk)) {
    return std::nullopt;
  }
  const std::array valid{load_shared(page.valid_bitmap[0]), load_shared(page.valid_bitmap[1])};
  const auto is_valid = [&valid](ValidBit bit) {
    const auto wanted = abi::ghcb::valid_bits(bit);
    return (valid[0] & wanted[0]) == wanted[0] && (valid[1] & wanted[1]) == wanted[1];
  };
  if ((request.wants_rax && !is_valid(ValidBit::kRax)) ||
      (request.wants_rdx && !is_valid(ValidBit::kRdx))) {
    return std::nullopt;
  }
  return GhcbAnswer{.rax = request.wants_rax ? load_shared(page.rax) : 0,
                    .rdx = request.wants_rdx ? load_shared(page.rdx) : 0,
                    .data = request.data ? load_shared(page.shared_buffer[0]) : 0};
}

}  // namespace

std::optional<GhcbAnswer> ghcb_call(guest::GhcbRef ghcb, const GhcbRequest& request,
                                    FunctionRef<void(PhysAddr ghcb)> exchange) {
  ACCEDE_ASSERT(ghcb.page != nullptr && ghcb.address.is_aligned(4_KiB));
  const KeptWords kept{*ghcb.page};
  std::atomic_signal_fence(std::memory_order_seq_cst);
  write_request(ghcb, request);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  exchange(ghcb.address);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  auto answer = read_answer(*ghcb.page, request);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  return answer;
}

}  // namespace accede::efi::kernel
