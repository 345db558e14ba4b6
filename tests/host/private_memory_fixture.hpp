// Shared by the tests of PrivateMemory: a VM of two slots on real memory, and a backing that fails.
#pragma once

#include "accede/host/linux_memfd.hpp"
#include "accede/host/private_memory.hpp"
#include "tests/host/sept_fixture.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

namespace accede::host {
inline void PrintTo(PrivateMemoryError error, std::ostream* out) {
  *out << name(error);
}
inline void PrintTo(const PrivateMemoryFailure& failure, std::ostream* out) {
  *out << name(failure.error) << " at ";
  PrintTo(failure.at, out);
  *out << " code " << failure.code;
}
}  // namespace accede::host

namespace accede::host::test {

inline constexpr std::array kAllVmTypes{VmType::kTdx,   VmType::kSnp, VmType::kSev,
                                        VmType::kSevEs, VmType::kCca, VmType::kPkvm};

inline constexpr Bytes kSlotSize = 8_MiB;
inline constexpr PhysAddr kLow{2ULL << 20};
inline constexpr PhysAddr kHigh{1ULL << 32};
inline constexpr PageAttribute kShared = PageAttribute::kShared;
inline constexpr PageAttribute kPrivate = PageAttribute::kPrivate;

/// `count` pages from page `first` of the slot that begins at `slot`.
inline PhysRange pages(PhysAddr slot, std::uint64_t first, std::uint64_t count) {
  return *PhysRange::make(slot + PageCount{first}.bytes(), PageCount{count}.bytes());
}
inline PhysRange whole(PhysAddr slot) {
  return *PhysRange::make(slot, kSlotSize);
}

/// memfd whose calls fail on request.
class FailingBacking {
 public:
  static constexpr int kCode = 117;

  explicit FailingBacking(VmType type) : real_{linux_memfd(type, kSlotSize * 2)} {
    if (!real_) {
      std::abort();
    }
  }

  /// The call after `calls` further ones fails.
  void fail_after(std::uint64_t calls) { left_ = static_cast<std::int64_t>(calls); }
  [[nodiscard]] bool failed() const { return failed_; }

  [[nodiscard]] Bytes size(PageAttribute side) const { return real_->size(side); }
  [[nodiscard]] bool in_place() const { return real_->in_place(); }
  [[nodiscard]] Requirements guarantees() const { return guarantees_; }
  [[nodiscard]] BackingResult allocate(PageAttribute side, OffsetRange range) {
    return fails() ? failure() : real_->allocate(side, range);
  }
  [[nodiscard]] BackingResult discard(PageAttribute side, OffsetRange range) {
    return fails() ? failure() : real_->discard(side, range);
  }
  [[nodiscard]] BackingResult set_host_access(PageAttribute side, OffsetRange range, bool allowed) {
    return fails() ? failure() : real_->set_host_access(side, range, allowed);
  }
  [[nodiscard]] BackingResult write(PageAttribute side, Bytes offset,
                                    std::span<const std::byte> content) {
    return fails() ? failure() : real_->write(side, offset, content);
  }
  [[nodiscard]] BackingCalls calls() const { return real_->calls(); }
  [[nodiscard]] const LinuxMemoryFile& file(PageAttribute side) const { return real_->file(side); }
  void set_guarantees(Requirements guarantees) { guarantees_ = guarantees; }

 private:
  [[nodiscard]] bool fails() {
    const bool now = left_.fetch_sub(1) == 0;
    failed_ = failed_ || now;
    return now;
  }
  [[nodiscard]] static BackingResult failure() { return std::unexpected{BackingFailure{kCode}}; }

  std::expected<LinuxFileBacking, std::string> real_;
  std::atomic<std::int64_t> left_ = -1;
  std::atomic<bool> failed_ = false;
  Requirements guarantees_ =
      Requirements::user_inaccessible() | Requirements::unmovable() | Requirements::unreclaimable();
};

/// A VM of two slots. `Tables`: how many of everything it can remember.
class PrivateVm {
 public:
  static constexpr std::size_t kTables = 8;

  explicit PrivateVm(PrivateMemoryConfig config)
      : backing{config.type},
        bits_(PageAttributes::storage_bound(all()).value() / 8),
        attributes_{all(), std::as_writable_bytes(std::span{bits_})},
        memory{config, backing, attributes_, storage()} {}
  explicit PrivateVm(VmType type, bool implicit = false)
      : PrivateVm{PrivateMemoryConfig{.type = type, .implicit_conversion = implicit}} {}

  /// The low slot at offset 0, the high one behind it.
  void bind() {
    ASSERT_TRUE(memory.add_slot(whole(kLow)));
    ASSERT_TRUE(memory.add_slot(whole(kHigh)));
    ASSERT_TRUE(memory.bind(kLow, 0_B, 0_B));
    ASSERT_TRUE(memory.bind(kHigh, kSlotSize, kSlotSize));
  }
  void make_private() {
    bind();
    ASSERT_TRUE(memory.initialise());
    ASSERT_TRUE(memory.set_private(whole(kLow)));
    ASSERT_TRUE(memory.set_private(whole(kHigh)));
  }
  /// All memory private.
  void launch() {
    make_private();
    ASSERT_TRUE(memory.launch());
  }

  /// What a guest sees of a page on a side, as on real memory.
  [[nodiscard]] std::byte* guest(PhysAddr gpa, PageAttribute side) const {
    const PhysRange page = PhysRange::page(gpa, PageSize::k4K);
    const OffsetRange at = memory.slot_of(page)->offsets(side, page);
    return backing.file(side).guest_view().data() + at.begin().value();
  }
  /// The content of a page, without making it: 0 where there is none.
  [[nodiscard]] std::uint64_t content(PhysAddr gpa, PageAttribute side) const {
    const PhysRange page = PhysRange::page(gpa, PageSize::k4K);
    const OffsetRange at = memory.slot_of(page)->offsets(side, page);
    std::uint64_t value = ~std::uint64_t{0};
    (void)pread(backing.file(side).fd(), &value, sizeof value,
                static_cast<off_t>(at.begin().value()));
    return value;
  }
  void put(PhysAddr gpa, PageAttribute side, std::uint64_t value) const {
    std::memcpy(guest(gpa, side), &value, sizeof value);
  }
  [[nodiscard]] bool is(PhysRange range, PageAttribute attribute) const {
    return attributes_.all(range, attribute);
  }

  FailingBacking backing;

 private:
  [[nodiscard]] static PhysRange all() { return *PhysRange::make(PhysAddr{0}, 8_GiB); }
  [[nodiscard]] PrivateMemoryStorage storage() {
    return {.slots = std::span{slots_}.first(3),
            .populated = std::span{populated_}.first(3),
            .consumers = std::span{consumers_}.first(3),
            .holds = holds_,
            .claims = claims_};
  }

  std::vector<std::uint64_t> bits_;
  PageAttributes attributes_;
  std::array<MemorySlot, kTables> slots_;
  std::array<PhysRange, kTables> populated_;
  std::array<ConsumerEntry, kTables> consumers_;
  std::array<MemoryHold, kTables> holds_;
  std::array<MemoryClaim, kTables> claims_;

 public:
  PrivateMemory<FailingBacking> memory;
};

/// True when `result` failed so.
template <class Result>
[[nodiscard]] testing::AssertionResult fails_with(const Result& result, PrivateMemoryError error) {
  if (result.has_value()) {
    return testing::AssertionFailure() << "succeeded";
  }
  return result.error().error == error
             ? testing::AssertionSuccess()
             : testing::AssertionFailure() << "failed with: " << name(result.error().error);
}

}  // namespace accede::host::test
