// The memory of a confidential VM as a VMM manages it: what is private, what holds it, and what it
// takes to convert it.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"
#include "accede/host/page_attributes.hpp"
#include "accede/host/private_memory_backing.hpp"
#include "accede/host/private_memory_book.hpp"
#include "accede/host/private_memory_consumer.hpp"
#include "accede/host/private_memory_types.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace accede::host {

struct PrivateMemoryConfig {
  VmType type = VmType::kTdx;
  /// Conversions are multiples of it: 4 KiB times a power of two, at most 2 MiB. An implicit
  /// conversion is one of it.
  Bytes granule = 4_KiB;
  /// Convert at an access to the other side, where the VM type can.
  bool implicit_conversion = false;
  /// Largest page in which private memory is handed to consumers: 4K or 2M.
  PageSize largest_page = PageSize::k2M;
};

/// What a conversion did.
struct Conversion {
  Bytes changed;  ///< of pages that had the other attribute: 0 = nothing to do, nothing called
};

/// What a guest's access met.
struct MemoryFault {
  BackedPage page;         ///< there, and taken by every consumer when private; resume the guest
  bool converted = false;  ///< it was converted first, without having been asked for
};

/// The memory of one VM: slots, the attribute of each page, the memory objects behind both sides,
/// and who must know.
///
/// Before launch, in this order (kWrongOrder): add_slot, bind, populate, initialise, set_private,
/// launch; several of one kind may follow each other, populate may be left out. Then convert,
/// fault, relinquish. hold, release, register_consumer and unregister_consumer fit anywhere.
///
/// Invariants: a page of a slot is shared or private; of a VM with two backings, the other side of
/// a page holds nothing once convert() returned.
///
/// Thread-safe after launch: every member may be called concurrently; before, one thread. No lock
/// is held while a backing or a consumer works: who changes a range claims its 2 MiB blocks, and
/// whoever meets a claim is told kBusy and tries again. Each failure leaves everything as it was;
/// exceptions are named.
template <PrivateMemoryBacking Memory>
class PrivateMemory {
 public:
  /// The arguments outlive the object. Preconditions: `config.granule` as said; `memory.in_place()`
  /// as the VM type wants; `attributes.is_complete()`.
  PrivateMemory(const PrivateMemoryConfig& config, Memory& memory, PageAttributes& attributes,
                const PrivateMemoryStorage& storage);
  PrivateMemory(const PrivateMemory&) = delete;
  PrivateMemory& operator=(const PrivateMemory&) = delete;

  // --- Before launch ---

  /// Adds guest memory; all of it shared. kEmpty, kUnaligned, kOutsideAttributes, kSlotOverlap,
  /// kTableFull.
  [[nodiscard]] PrivateMemoryResult<void> add_slot(PhysRange gpas);

  /// Binds the slot that begins at `slot` to `shared_offset` and `private_offset` of the memory
  /// objects; with one backing both are the same. kOutsideSlots, kUnaligned, kOutsideBacking,
  /// kBindingOverlap.
  [[nodiscard]] PrivateMemoryResult<void> bind(PhysAddr slot, Bytes shared_offset,
                                               Bytes private_offset);

  /// Says that `gpas`, 4 KiB aligned, has initial content: `source`, copied into the private memory
  /// object in one call; or, where that is empty, what the host put there itself. kNotBound,
  /// kEmpty, kUnaligned, kOutsideSlots, kPopulated, kTableFull, kBackingFailed;
  /// kSeparateSource: this VM's content is encrypted in place. Precondition: `source` is empty or
  /// has the size of `gpas`.
  [[nodiscard]] PrivateMemoryResult<void> populate(PhysRange gpas,
                                                   std::span<const std::byte> source = {});

  /// The platform knows the VM: no more content. kNotBound.
  [[nodiscard]] PrivateMemoryResult<void> initialise();

  /// Makes `gpas` private; the content of the private memory object stays, the host's access to it
  /// and everything on the shared side of a VM with two backings end. Errors as convert().
  [[nodiscard]] PrivateMemoryResult<Conversion> set_private(PhysRange gpas);

  /// Hands every populated page to the consumers, which make it the guest's in place. kNotPrivate;
  /// kConsumerRefused, with all pages before it invalidated again.
  [[nodiscard]] PrivateMemoryResult<void> launch();

  // --- Afterwards ---

  /// The guest asked for it by hypercall (MapGPA, page state change, IPA_STATE_SET, MEM_SHARE).
  /// Pages that are `to` already stay as they are. With two backings, the pages of the old side are
  /// discarded by one call; in place, at most one call changes the host's access.
  /// kEmpty, kUnaligned, kOutsideSlots (not wholly inside one slot), kPinned, kMapped (to private
  /// in place), kBusy, kTableFull, kConsumerRefused, kBackingFailed.
  [[nodiscard]] PrivateMemoryResult<Conversion> convert(PhysRange gpas, PageAttribute to);

  /// The guest touched `gpa` through `side`: backs the page, private in the largest size that
  /// slot, attributes and configuration allow, and tells the consumers. kImplicitConversion, unless
  /// the VM may convert for it; else errors as convert(). A private page whose consumer refused
  /// stays backed, by zeroes; where backing fails after a conversion, the page stays converted.
  [[nodiscard]] PrivateMemoryResult<MemoryFault> fault(PhysAddr gpa, PageAttribute side);

  /// The guest gives private pages back: they and their content are gone, still private; the next
  /// touch finds new ones. Errors as convert(); kNotPrivate.
  [[nodiscard]] PrivateMemoryResult<void> relinquish(PhysRange gpas);

  // --- Any time ---

  /// The host maps or pins pages of a side. Pins are of shared pages (kNotShared). kEmpty,
  /// kUnaligned, kOutsideSlots, kBusy, kTableFull.
  [[nodiscard]] PrivateMemoryResult<HoldId> hold(PhysRange gpas, PageAttribute side, HoldKind kind);
  /// kNotHeld.
  [[nodiscard]] PrivateMemoryResult<void> release(HoldId id) { return book_.release(id); }

  /// Registers a consumer. One that needs the memory user-inaccessible turns it private, content
  /// kept: before launch everything, as set_private() (kWrongOrder before initialise()), later what
  /// is shared in place. kMapped: somebody maps it; kUnknownFlag, kContradiction (with itself or
  /// any registered consumer), kNotGuaranteed, kTableFull, kBusy; or as set_private().
  [[nodiscard]] PrivateMemoryResult<ConsumerId> register_consumer(const MemoryConsumer& consumer);
  /// Pages stay as they are. kNotHeld, kBusy.
  [[nodiscard]] PrivateMemoryResult<void> unregister_consumer(ConsumerId id);

  [[nodiscard]] const VmProperties& properties() const { return properties_; }
  [[nodiscard]] Bytes granule() const { return config_.granule; }
  [[nodiscard]] VmStage stage() const { return book_.stage(); }
  [[nodiscard]] std::span<const MemorySlot> slots() const { return book_.slots(); }
  [[nodiscard]] const MemorySlot* slot_of(PhysRange gpas) const { return book_.slot_of(gpas); }
  /// Precondition: inside the attributes' range.
  [[nodiscard]] PageAttribute attribute(PhysAddr gpa) const { return attributes_.get(gpa); }
  [[nodiscard]] const PageAttributes& attributes() const { return attributes_; }
  [[nodiscard]] Memory& memory() { return memory_; }

 private:
  [[nodiscard]] PrivateMemoryResult<const MemorySlot*> check(PhysRange gpas, Bytes granule) const;
  [[nodiscard]] PrivateMemoryResult<void> check_holds(PhysRange gpas, PageAttribute to) const;
  /// Pages that are not as they shall be: how many bytes, and from the first to the last of them.
  struct Difference {
    PhysRange hull;
    Bytes size;
  };
  [[nodiscard]] Difference differing(PhysRange gpas, PageAttribute to) const;
  [[nodiscard]] PrivateMemoryResult<Conversion> change(PhysRange gpas, PageAttribute to,
                                                       bool keep_content);
  [[nodiscard]] PrivateMemoryResult<Conversion> change_claimed(const MemorySlot& slot,
                                                               PhysRange gpas, PageAttribute to,
                                                               bool keep_content);
  [[nodiscard]] PrivateMemoryResult<void> prepare(PhysRange gpas, PageAttribute to);
  void cancel(PhysRange gpas, PageAttribute to);
  void cancel_run(PhysRange run, PageAttribute to, std::size_t consumers);
  [[nodiscard]] BackingResult move_backing(const MemorySlot& slot, PhysRange gpas, PageAttribute to,
                                           bool keep_content);
  void restore_host_access(const MemorySlot& slot, PhysRange gpas);
  void invalidate(const MemorySlot& slot, PhysRange gpas);
  void invalidate_page(const BackedPage& page, std::size_t consumers);
  [[nodiscard]] BackedPage page_at(const MemorySlot& slot, PageAttribute side, PhysAddr gpa,
                                   PhysRange within) const;
  [[nodiscard]] PrivateMemoryResult<void> back(const BackedPage& page, PageAttribute side);
  [[nodiscard]] bool launch_page(const BackedPage& page);
  template <class Use>
  void for_each_populated(Use use) const;
  [[nodiscard]] PrivateMemoryResult<void> close_private_side();
  [[nodiscard]] PrivateMemoryResult<void> make_all_private();

  PrivateMemoryConfig config_;
  const VmProperties& properties_;
  Memory& memory_;
  PageAttributes& attributes_;
  PrivateMemoryBook book_;
};

}  // namespace accede::host

#include "accede/host/private_memory_change.hpp"  // IWYU pragma: export
#include "accede/host/private_memory_launch.hpp"  // IWYU pragma: export
