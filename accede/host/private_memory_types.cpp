#include "accede/host/private_memory_types.hpp"

#include <array>

namespace accede::host {

using namespace std::string_view_literals;

const VmProperties& properties_of(VmType type) {
  // CCA: a touch of the shared alias of a private page reaches the host; one of a protected address
  // that is not RAM is injected into the Realm. SEV: nested page tables know no C-bit, so the host
  // hears of conversions by MAP_GPA_RANGE only.
  static constexpr std::array kTable = {
      VmProperties{.name = "TDX"sv,
                   .two_backings = true,
                   .content = ContentRule::kDestroyed,
                   .implicit_to_private = true,
                   .implicit_to_shared = true,
                   .separate_source = true,
                   .host_loses_private = true},
      VmProperties{.name = "SEV-SNP"sv,
                   .two_backings = true,
                   .content = ContentRule::kDestroyed,
                   .implicit_to_private = true,
                   .implicit_to_shared = true,
                   .separate_source = false,
                   .host_loses_private = true},
      VmProperties{.name = "SEV"sv,
                   .two_backings = false,
                   .content = ContentRule::kPreserved,
                   .implicit_to_private = false,
                   .implicit_to_shared = false,
                   .separate_source = false,
                   .host_loses_private = false},
      VmProperties{.name = "SEV-ES"sv,
                   .two_backings = false,
                   .content = ContentRule::kPreserved,
                   .implicit_to_private = false,
                   .implicit_to_shared = false,
                   .separate_source = false,
                   .host_loses_private = false},
      VmProperties{.name = "Arm CCA"sv,
                   .two_backings = true,
                   .content = ContentRule::kDestroyed,
                   .implicit_to_private = false,
                   .implicit_to_shared = true,
                   .separate_source = true,
                   .host_loses_private = true},
      VmProperties{.name = "pKVM"sv,
                   .two_backings = false,
                   .content = ContentRule::kPreserved,
                   .implicit_to_private = false,
                   .implicit_to_shared = false,
                   .separate_source = false,
                   .host_loses_private = true},
  };
  static_assert(kTable.size() == static_cast<std::size_t>(VmType::kPkvm) + 1);
  const auto index = static_cast<std::size_t>(type);
  ACCEDE_ASSERT(index < kTable.size());
  return kTable[index];
}

std::string_view name(PrivateMemoryError error) {
  switch (error) {
    case PrivateMemoryError::kWrongOrder:
      return "not at this stage: slots, bind, populate, init, set private, launch"sv;
    case PrivateMemoryError::kEmpty:
      return "an empty range"sv;
    case PrivateMemoryError::kUnaligned:
      return "not aligned to the granule"sv;
    case PrivateMemoryError::kOutsideSlots:
      return "not wholly inside one memory slot"sv;
    case PrivateMemoryError::kSlotOverlap:
      return "overlaps another memory slot"sv;
    case PrivateMemoryError::kOutsideAttributes:
      return "beyond the addresses whose attributes are kept"sv;
    case PrivateMemoryError::kOutsideBacking:
      return "beyond the end of the memory object"sv;
    case PrivateMemoryError::kBindingOverlap:
      return "would share memory with another binding"sv;
    case PrivateMemoryError::kNotBound:
      return "a memory slot is not bound to memory"sv;
    case PrivateMemoryError::kTableFull:
      return "no room to remember it"sv;
    case PrivateMemoryError::kSeparateSource:
      return "this VM encrypts its initial content in place: no separate source buffer"sv;
    case PrivateMemoryError::kPopulated:
      return "populated before"sv;
    case PrivateMemoryError::kMapped:
      return "mapped by the host"sv;
    case PrivateMemoryError::kPinned:
      return "pinned by the host"sv;
    case PrivateMemoryError::kNotShared:
      return "not all shared"sv;
    case PrivateMemoryError::kNotPrivate:
      return "not all private"sv;
    case PrivateMemoryError::kBusy:
      return "another change of the range is under way: try again"sv;
    case PrivateMemoryError::kImplicitConversion:
      return "an access to the other side, and this VM converts on request only"sv;
    case PrivateMemoryError::kConsumerRefused:
      return "a registered consumer refused"sv;
    case PrivateMemoryError::kBackingFailed:
      return "the memory object failed"sv;
    case PrivateMemoryError::kUnknownFlag:
      return "a requirement that does not exist"sv;
    case PrivateMemoryError::kContradiction:
      return "what one consumer needs another one breaks"sv;
    case PrivateMemoryError::kNotGuaranteed:
      return "a requirement that the memory object does not meet"sv;
    case PrivateMemoryError::kNotHeld:
      return "not held, or not registered"sv;
  }
  return "unknown error"sv;
}

}  // namespace accede::host
