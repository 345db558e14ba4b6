// Shared by the tests of accede/host: storage, short names, and a SecureEpt ready to use.
#pragma once

#include "accede/host/secure_ept.hpp"

#include <cstdlib>
#include <memory>
#include <ostream>
#include <string>

// How GoogleTest prints our types.
namespace accede::abi::tdx {

inline void PrintTo(SeptState state, std::ostream* out) {
  *out << name_of(state);
}
inline void PrintTo(SeptLevel level, std::ostream* out) {
  *out << name_of(level);
}

}  // namespace accede::abi::tdx

namespace accede {
inline void PrintTo(PhysAddr address, std::ostream* out) {
  *out << "0x" << std::hex << address.value() << std::dec;
}
inline void PrintTo(Bytes bytes, std::ostream* out) {
  *out << bytes.value() << " B";
}
inline void PrintTo(PhysRange range, std::ostream* out) {
  *out << std::hex << "[0x" << range.begin().value() << ", 0x" << range.end().value() << ")"
       << std::dec;
}
}  // namespace accede

namespace accede::host::test {

/// 4 KiB aligned memory for table pages; its content starts as junk, as a host's would.
class Storage {
 public:
  explicit Storage(Bytes size)
      : size_{size.value()},
        data_{static_cast<std::byte*>(std::aligned_alloc(4096, size.value()))} {
    // Only a little junk: the tests with large storage must not touch it all.
    for (std::size_t i = 0; i < size_ && i < 64 * 4096; ++i) {
      data_.get()[i] = std::byte{0xA5};
    }
  }
  [[nodiscard]] std::span<std::byte> span() const { return {data_.get(), size_}; }

 private:
  struct Free {
    void operator()(std::byte* data) const { std::free(data); }
  };
  std::size_t size_;
  std::unique_ptr<std::byte, Free> data_;
};

inline PhysRange range(std::uint64_t begin, std::uint64_t end) {
  return *PhysRange::make(PhysAddr{begin}, PhysAddr{end});
}

inline std::uint64_t rcx(std::uint64_t gpa, std::uint64_t level) {
  return gpa | level;
}

/// A SecureEpt with its storage.
struct Sept {
  explicit Sept(const SecureEptConfig& config = {}, Bytes storage_bytes = Bytes{1 << 20})
      : storage{storage_bytes}, ept{config, storage.span()} {}

  /// SEPT.ADD down to the entries of `level`.
  void add_tables(std::uint64_t gpa, SeptLevel level) {
    const int top = ept.gpa_width() == 52 ? 4 : 3;
    for (int at = top; at > static_cast<int>(level); --at) {
      const auto l = static_cast<SeptLevel>(at);
      (void)ept.sept_add(PhysAddr{gpa}.align_down(abi::tdx::level_bytes(l)), l);
    }
  }
  void augment(std::uint64_t gpa, SeptLevel level) {
    add_tables(gpa, level);
    if (!ept.finalized()) {
      (void)ept.finalize();
    }
    const HostCall call = ept.page_aug(PhysAddr{gpa}, level, PhysAddr{gpa + kHpaOffset});
    if (!call.has_value() || call->status != 0) {
      std::abort();
    }
  }
  std::uint64_t accept(std::uint64_t gpa, std::uint64_t level) {
    const GuestCallResult result =
        ept.accept(rcx(gpa, level), [](PhysAddr) {}, [] { return false; });
    return result.kind == GuestCallKind::kCompleted ? result.rax : ~std::uint64_t{0};
  }
  SeptState state(std::uint64_t gpa) const { return ept.lookup(PhysAddr{gpa})->state; }

  static constexpr std::uint64_t kHpaOffset = 1ULL << 40;

  Storage storage;
  SecureEpt ept;
};

/// Seed of a randomised test: ACCEDE_TEST_SEED repeats a run.
inline std::uint64_t seed_from_environment(std::uint64_t otherwise) {
  const char* text = std::getenv("ACCEDE_TEST_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 0) : otherwise;
}

}  // namespace accede::host::test
