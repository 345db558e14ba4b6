// The GHCB page as the host reads and answers it: every field once, then never again.
#pragma once

#include "accede/abi/ghcb.hpp"
#include "accede/base/units.hpp"
#include "accede/host/ghcb_types.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace accede::host {

/// A copy of what the guest passes. Registers that it did not mark valid are 0.
struct GhcbInput {
  std::array<std::uint64_t, 2> valid{};
  std::uint64_t exit_code = 0;  ///< read whether valid or not, as the two infos
  std::uint64_t info1 = 0;
  std::uint64_t info2 = 0;
  std::uint64_t scratch = 0;
  std::uint64_t rax = 0;
  std::uint64_t rbx = 0;
  std::uint64_t rcx = 0;
  std::uint64_t rdx = 0;
  std::uint64_t rsi = 0;
  std::uint64_t xcr0 = 0;
  std::uint64_t xss = 0;
  std::uint32_t usage = 0;
  std::uint8_t cpl = 0;

  [[nodiscard]] bool has(abi::ghcb::ValidBit bit) const {
    const auto index = static_cast<unsigned>(bit);
    return (valid[index / 64] >> (index % 64) & 1) != 0;
  }
  [[nodiscard]] abi::ghcb::ExitCode code() const {
    return static_cast<abi::ghcb::ExitCode>(exit_code);
  }
};

/// Reads the request and clears the valid bitmap in the page, as KVM does before any check.
[[nodiscard]] GhcbInput take_input(abi::ghcb::GhcbPage& page);

/// The first thing wrong with a request, in KVM's order: usage; the exit code and both infos marked
/// valid; then what the exit code requires; the code itself (reference: SEV-SNP 3.4). Nothing when
/// the request may be carried out.
[[nodiscard]] std::optional<GhcbMistake> check_input(const GhcbInput& input, bool is_snp);

/// sw_exit_info_2 for a mistake that is answered as a malformed request.
[[nodiscard]] abi::ghcb::MalformedReason malformed_reason(GhcbMistakeKind kind);

/// What the guest gets back. RAX, RBX, RCX and RDX are returned at every exit, changed or not.
struct GhcbOutput {
  std::uint64_t rax = 0;
  std::uint64_t rbx = 0;
  std::uint64_t rcx = 0;
  std::uint64_t rdx = 0;
  std::uint64_t info1 = 0;
  std::uint64_t info2 = 0;

  /// The registers as they came, and success.
  [[nodiscard]] static GhcbOutput of(const GhcbInput& input) {
    return {.rax = input.rax, .rbx = input.rbx, .rcx = input.rcx, .rdx = input.rdx};
  }
  void malformed(abi::ghcb::MalformedReason reason) {
    info1 = static_cast<std::uint64_t>(abi::ghcb::ExitResult::kMalformed);
    info2 = static_cast<std::uint64_t>(reason);
  }
  void general_protection() {
    info1 = static_cast<std::uint64_t>(abi::ghcb::ExitResult::kException);
    info2 = abi::ghcb::EventInjection::exception(abi::ghcb::kVectorGeneralProtection);
  }
};
/// Writes the fields and the valid bitmap of just these fields.
void put_output(abi::ghcb::GhcbPage& page, const GhcbOutput& output);

/// The rest of a GHCB page's shared buffer from some byte on. Every read is one read of each byte;
/// the guest may write at any time. Offsets and sizes are in bytes from that byte; the accesses
/// assert that they lie inside. Refers to the buffer, which outlives it.
class GhcbScratch {
 public:
  using Buffer = std::span<std::uint64_t, abi::ghcb::kPscWords>;

  /// The whole shared buffer.
  explicit GhcbScratch(Buffer buffer) : GhcbScratch{buffer, 0} {}

  /// From where sw_scratch points, or nothing when `size` bytes from there do not lie in the shared
  /// buffer of this page: protocol version 2 allows no other place.
  [[nodiscard]] static std::optional<GhcbScratch> make(abi::ghcb::GhcbPage& page, PhysAddr ghcb,
                                                       std::uint64_t scratch, std::uint64_t size);

  /// Bytes up to the end of the shared buffer.
  [[nodiscard]] std::size_t room() const { return words_.size_bytes() - begin_; }

  void read(std::size_t offset, std::span<std::uint8_t> to) const;
  void write(std::size_t offset, std::span<const std::uint8_t> from) const;

  /// Little-endian integers of `size` <= 8 bytes.
  [[nodiscard]] std::uint64_t load(std::size_t offset, std::size_t size) const;
  void store(std::size_t offset, std::size_t size, std::uint64_t value) const;

 private:
  GhcbScratch(Buffer words, std::size_t begin) : words_{words}, begin_{begin} {}

  /// Precondition: the `size` bytes at `offset` lie inside.
  [[nodiscard]] std::uint8_t* bytes(std::size_t offset, std::size_t size) const;
  /// The word at `offset` when `size` and place are those of one, which is then accessed at once.
  [[nodiscard]] std::uint64_t* word(std::size_t offset, std::size_t size) const;

  Buffer words_;
  std::size_t begin_;
};

}  // namespace accede::host
