// What a PrivateMemory remembers beside attributes: slots, stage, consumers, holds, claims.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/spin_lock.hpp"
#include "accede/base/units.hpp"
#include "accede/host/page_attributes.hpp"
#include "accede/host/private_memory_consumer.hpp"
#include "accede/host/private_memory_types.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace accede::host {

/// A range of guest memory and what holds it. Offsets mean something once it is bound.
struct MemorySlot {
  PhysRange gpas;
  Bytes shared_offset;
  Bytes private_offset;
  bool bound = false;

  /// Where the pages of `gpas` lie in the memory object of `side`. Precondition: a part of the
  /// slot.
  [[nodiscard]] OffsetRange offsets(PageAttribute side, PhysRange part) const;
};

/// How far a VM is on its way to run. A step back is impossible.
enum class VmStage : std::uint8_t {
  kSlots,        ///< slots are added
  kBound,        ///< slots are bound to memory
  kPopulated,    ///< initial content is put in place
  kInitialised,  ///< the platform knows the VM (TDH.MNG.INIT, SNP_LAUNCH_START)
  kPrivate,      ///< memory is made private, content kept
  kLaunched,     ///< content measured; the guest runs and converts
};
[[nodiscard]] std::string_view name(VmStage stage);

enum class HoldKind : std::uint8_t {
  kMapping,  ///< a process maps it
  kPin,      ///< somebody else's pages: a device, a system call under way
};

/// The host's use of memory that a conversion must not pull away.
struct MemoryHold {
  PhysRange gpas;
  PageAttribute side = PageAttribute::kShared;
  HoldKind kind = HoldKind::kMapping;
  bool used = false;
};

/// Names what hold() or register_consumer() made.
struct HoldId {
  std::size_t index = 0;
};
struct ConsumerId {
  std::size_t index = 0;
};

/// A range in which something changes now.
struct MemoryClaim {
  PhysRange gpas;
  bool used = false;
};

struct ConsumerEntry {
  MemoryConsumer consumer;
  bool used = false;
};

/// Room for what a VM has. One claim for each thread that
/// converts, faults, relinquishes, holds, or registers or unregisters a consumer at a time.
struct PrivateMemoryStorage {
  std::span<MemorySlot> slots;
  std::span<PhysRange> populated;
  std::span<ConsumerEntry> consumers;
  std::span<MemoryHold> holds;
  std::span<MemoryClaim> claims;
};

/// Not for embedders: the part of PrivateMemory that needs no backing.
///
/// Claims, holds: thread-safe, behind one spin lock; longest section: a walk over both tables. The
/// rest changes before launch only, by one thread; consumers while everything is claimed.
class PrivateMemoryBook {
 public:
  /// Empties the storage, which outlives the object.
  explicit PrivateMemoryBook(const PrivateMemoryStorage& storage);

  [[nodiscard]] PrivateMemoryResult<void> add_slot(PhysRange gpas);
  /// Precondition: `slot` is one of slots().
  [[nodiscard]] PrivateMemoryResult<void> bind(MemorySlot& slot, const MemorySlot& to,
                                               bool in_place);
  [[nodiscard]] PrivateMemoryResult<void> add_populated(PhysRange gpas);
  /// The last add_populated() did not come to pass; the stage was `before`.
  void drop_last_populated(VmStage before);
  [[nodiscard]] bool all_bound() const;

  [[nodiscard]] std::span<MemorySlot> slots() { return storage_.slots.first(slot_count_); }
  [[nodiscard]] std::span<const MemorySlot> slots() const {
    return storage_.slots.first(slot_count_);
  }
  [[nodiscard]] std::span<const PhysRange> populated() const {
    return storage_.populated.first(populated_count_);
  }
  /// The slot that `gpas` lies wholly inside, or null.
  [[nodiscard]] const MemorySlot* slot_of(PhysRange gpas) const;

  [[nodiscard]] VmStage stage() const { return stage_; }
  void set_stage(VmStage stage) { stage_ = stage; }

  /// Claims the 2 MiB blocks that `gpas` touches. kBusy: one is claimed; kTableFull.
  [[nodiscard]] PrivateMemoryResult<std::size_t> claim(PhysRange gpas);
  void release_claim(std::size_t index);

  /// kTableFull. Precondition: claimed by the caller.
  [[nodiscard]] PrivateMemoryResult<HoldId> hold(const MemoryHold& hold);
  [[nodiscard]] PrivateMemoryResult<void> release(HoldId id);
  /// The first hold of `gpas`, of this kind. `side` none: of any side. Precondition: claimed by the
  /// caller, or before launch.
  [[nodiscard]] std::optional<PhysRange> held(PhysRange gpas, HoldKind kind,
                                              std::optional<PageAttribute> side) const;

  /// Whether `consumer` may join: its flags against themselves, against `guarantees` and against
  /// all that are registered. kUnknownFlag, kContradiction, kNotGuaranteed, kTableFull.
  [[nodiscard]] PrivateMemoryResult<ConsumerId> place_for(const MemoryConsumer& consumer,
                                                          Requirements guarantees) const;
  void put(ConsumerId id, const MemoryConsumer& consumer);
  [[nodiscard]] PrivateMemoryResult<void> remove(ConsumerId id);
  [[nodiscard]] std::span<const ConsumerEntry> consumers() const { return storage_.consumers; }

 private:
  PrivateMemoryStorage storage_;
  std::size_t slot_count_ = 0;
  std::size_t populated_count_ = 0;
  VmStage stage_ = VmStage::kSlots;
  std::atomic<std::size_t> hold_count_ = 0;
  mutable SpinLock lock_;  ///< claims and holds
};

/// A claim with an owner.
class ScopedClaim {
 public:
  ScopedClaim(PrivateMemoryBook& book, PhysRange gpas) : book_{book}, index_{book.claim(gpas)} {}
  ~ScopedClaim() {
    if (index_) {
      book_.release_claim(*index_);
    }
  }
  ScopedClaim(const ScopedClaim&) = delete;
  ScopedClaim& operator=(const ScopedClaim&) = delete;

  [[nodiscard]] const PrivateMemoryResult<std::size_t>& result() const { return index_; }

 private:
  PrivateMemoryBook& book_;
  PrivateMemoryResult<std::size_t> index_;
};

}  // namespace accede::host
