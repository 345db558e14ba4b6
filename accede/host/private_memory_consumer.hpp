// Who else must know when private memory comes and goes: the RMP, the secure EPT, an IOMMU.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/host/page_attributes.hpp"
#include "accede/host/private_memory_types.hpp"

namespace accede::host {

/// A registered consumer of private memory: what it needs of the memory, what it does to it, and
/// its callbacks. A null callback has nothing to do and refuses nothing. Callbacks run while no
/// other change or fault of the pages can; they must not call the PrivateMemory.
///
/// A conversion is prepared with every consumer, run by run, before anything changes; when one
/// refuses, or the memory object fails, all that prepared are told to cancel, run by run, the last
/// consumer first. Only then pages go or come.
struct MemoryConsumer {
  Requirements needs;
  Requirements breaks;
  void* context = nullptr;

  /// `run`, all of the other attribute, is about to become `to`: make sure that invalidate() of it
  /// cannot fail (SEPT: BLOCK and TRACK; RMP: not immutable, not in use). False: refused, with
  /// everything as before.
  bool (*prepare)(void* context, PhysRange run, PageAttribute to) = nullptr;
  /// The conversion that was prepared does not happen.
  void (*cancel)(void* context, PhysRange run, PageAttribute to) = nullptr;
  /// A private page is there (zero, or with launch content) and is about to be used. It may be so
  /// already, in this size or another. False: refused, nothing changed.
  bool (*allocate)(void* context, const BackedPage& page) = nullptr;
  /// A private page is gone; it may be a part of a larger page that was allocated, or may never
  /// have been allocated. After prepare() it cannot fail.
  void (*invalidate)(void* context, const BackedPage& page) = nullptr;
  /// Launch: the content of the private page is measured and made the guest's where it is. False:
  /// refused, nothing changed.
  bool (*launch)(void* context, const BackedPage& page) = nullptr;
};

/// A consumer whose callbacks are those of prepare, cancel, allocate, invalidate and launch that
/// `object` has as members. `object` outlives the registration.
template <class T>
[[nodiscard]] MemoryConsumer consumer_of(T& object, Requirements needs = {},
                                         Requirements breaks = {}) {
  MemoryConsumer consumer{.needs = needs, .breaks = breaks, .context = &object};
  if constexpr (requires { &T::prepare; }) {
    consumer.prepare = [](void* context, PhysRange run, PageAttribute to) -> bool {
      return static_cast<T*>(context)->prepare(run, to);
    };
  }
  if constexpr (requires { &T::cancel; }) {
    consumer.cancel = [](void* context, PhysRange run, PageAttribute to) {
      static_cast<T*>(context)->cancel(run, to);
    };
  }
  if constexpr (requires { &T::allocate; }) {
    consumer.allocate = [](void* context, const BackedPage& page) -> bool {
      return static_cast<T*>(context)->allocate(page);
    };
  }
  if constexpr (requires { &T::invalidate; }) {
    consumer.invalidate = [](void* context, const BackedPage& page) {
      static_cast<T*>(context)->invalidate(page);
    };
  }
  if constexpr (requires { &T::launch; }) {
    consumer.launch = [](void* context, const BackedPage& page) -> bool {
      return static_cast<T*>(context)->launch(page);
    };
  }
  return consumer;
}

}  // namespace accede::host
