// When translations of the secure EPT are gone: epochs, TRACK, vCPUs inside, and FINALIZE.
#include "accede/host/secure_ept.hpp"

#include "accede/base/assert.hpp"
#include "accede/host/sept_entry.hpp"

#include <atomic>

namespace accede::host {

using namespace internal;
using abi::tdx::Operand;
using abi::tdx::Status;
using abi::tdx::status;

namespace {

constexpr std::uint64_t kOneEpoch = 1ULL << 32;

constexpr std::uint64_t epoch_in(std::uint64_t word) {
  return word >> 32;
}
/// vCPUs inside in the epochs of the parity of `epoch`.
constexpr std::uint64_t count_shift(std::uint64_t epoch) {
  return 16 * (epoch & 1);
}
constexpr std::uint64_t vcpus_in(std::uint64_t word, std::uint64_t epoch) {
  return (word >> count_shift(epoch)) & 0xFFFF;
}

}  // namespace

std::uint64_t SecureEpt::epoch() const {
  return epoch_in(epoch_word_.load(std::memory_order_seq_cst)) & kEpochMask;
}

bool SecureEpt::tracked(std::uint64_t raw) const {
  const std::uint64_t word = epoch_word_.load(std::memory_order_seq_cst);
  const std::uint64_t since = (epoch_in(word) - epoch_of(raw)) & kEpochMask;
  // One TRACK later, vCPUs that entered before it may still use what was blocked.
  return since > 1 || (since == 1 && vcpus_in(word, epoch_in(word) - 1) == 0);
}

std::uint64_t SecureEpt::track() {
  std::uint64_t word = epoch_word_.load(std::memory_order_seq_cst);
  do {
    if (vcpus_in(word, epoch_in(word) - 1) != 0) {
      return status(Status::kPreviousTlbEpochBusy, Operand::kTdEpoch);
    }
  } while (!epoch_word_.compare_exchange_weak(word, word + kOneEpoch, std::memory_order_seq_cst));
  return 0;
}

VcpuEpoch SecureEpt::vcpu_entered() {
  std::uint64_t word = epoch_word_.load(std::memory_order_seq_cst);
  std::uint64_t next = 0;
  do {
    ACCEDE_ASSERT(vcpus_in(word, epoch_in(word)) < 0xFFFF);
    next = word + (1ULL << count_shift(epoch_in(word)));
  } while (!epoch_word_.compare_exchange_weak(word, next, std::memory_order_seq_cst));
  return static_cast<VcpuEpoch>(epoch_in(word) & 1);
}

void SecureEpt::vcpu_left(VcpuEpoch epoch) {
  const auto parity = static_cast<std::uint64_t>(epoch);
  const std::uint64_t before =
      epoch_word_.fetch_sub(1ULL << count_shift(parity), std::memory_order_seq_cst);
  ACCEDE_ASSERT(vcpus_in(before, parity) != 0);
}

std::uint64_t SecureEpt::finalize() {
  return finalized_.exchange(true, std::memory_order_acq_rel) ? status(Status::kOpStateIncorrect)
                                                              : 0;
}

bool SecureEpt::finalized() const {
  return finalized_.load(std::memory_order_acquire);
}

}  // namespace accede::host
