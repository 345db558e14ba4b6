// What was found out about kernels, kept in a UEFI variable so that later boots need not look
// again.
//
// Whoever writes the variable, a host or an earlier system, can only make this boot slower or a
// kernel lose memory, which a host can do anyway (docs/shim.md): nothing here decides what is
// accepted twice.
#pragma once

#include "accede/efi/firmware.hpp"
#include "accede/efi/shim/kernel_facts.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace accede::efi::shim {

/// At most kMost kernels; a new one takes the place of the oldest. The wire format: a header of
/// eight bytes, then 52 for each kernel, oldest first.
class VerdictStore {
 public:
  using Digest = host::Sha384::Digest;
  static constexpr std::size_t kMost = 16;
  static constexpr std::size_t kHeaderBytes = 8;
  static constexpr std::size_t kEntryBytes = sizeof(Digest) + 4;
  static constexpr std::size_t kMostBytes = kHeaderBytes + kMost * kEntryBytes;

  /// Any bytes. What this version did not write, whole and sound, is an empty store.
  [[nodiscard]] static VerdictStore parse(std::span<const std::byte> bytes);

  [[nodiscard]] std::optional<KernelFacts> find(const Digest& kernel) const;
  /// Precondition: find(kernel) has nothing.
  void add(const Digest& kernel, const KernelFacts& facts);
  [[nodiscard]] std::size_t size() const { return count_; }

  /// As parse() takes it, at the begin of `storage`.
  [[nodiscard]] std::span<const std::byte> serialize(
      std::span<std::byte, kMostBytes> storage) const;

 private:
  struct Entry {
    Digest kernel;
    KernelFacts facts;
  };
  std::array<Entry, kMost> entries_{};
  std::size_t count_ = 0;
};

/// The store in the firmware's variable; empty when there is none, or none that we wrote.
[[nodiscard]] VerdictStore read_verdicts(const Firmware& firmware);

/// Replaces the variable. Boot services can write it, an operating system cannot. Errors: the
/// firmware has no room, or keeps no variables.
[[nodiscard]] Result<void> write_verdicts(const Firmware& firmware, const VerdictStore& store);

inline constexpr abi::efi::Guid kVerdictVendor{
    0x6E1D5C0B, 0x93F4, 0x4B7E, {0x8A, 0x21, 0x4C, 0x77, 0x0E, 0xD9, 0x35, 0xB2}};
inline constexpr std::array<abi::efi::Char16, 15> kVerdictName{
    u'A', u'c', u'c', u'e', u'd', u'e', u'V', u'e', u'r', u'd', u'i', u'c', u't', u's', u'\0'};

}  // namespace accede::efi::shim
