// Making one page private or shared in page tables that somebody else built and that are in use.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/phys_window.hpp"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <string_view>

namespace accede::efi {

/// Page tables of an SNP guest that map memory at its own address.
struct LiveTables {
  PhysWindow window;  ///< through which the tables can be read and written
  PhysAddr root;      ///< without the C-bit
  bool five_levels = false;
  std::uint64_t private_mask = 0;  ///< the C-bit
};

enum class PrivacyError : std::uint8_t {
  kNotMapped,  ///< the page is not mapped, or not at its own address
  kNoTables,   ///< a large page has to be split and there is no memory for its table
};
[[nodiscard]] std::string_view to_string(PrivacyError error);

/// Memory for the tables of one change: a page of 1 GiB becomes pages of 2 MiB, one of those
/// becomes pages of 4 KiB.
inline constexpr Bytes kMostSplitTables{2 * 4096};

/// Sets (private) or clears (shared) the C-bit of the 4 KiB page `page` alone: a larger page is
/// split, and its other parts stay mapped as they were, with every flag. A page that is as wished
/// is not split. Tables come from the front of `spare`, which is theirs afterwards; a pointer to
/// one has the C-bit when the pointers above it have it: the tables' owner finds it as his own.
///
/// The processor that uses the tables may go on using them meanwhile: an entry changes by one store
/// at a time. The caller drops the translation of `page` afterwards. After an error nothing that is
/// mapped has changed. Preconditions: `page` and `spare` are 4 KiB aligned; `spare` can be written
/// through the window.
[[nodiscard]] std::expected<void, PrivacyError> set_page_private(const LiveTables& tables,
                                                                 PhysAddr page, bool is_private,
                                                                 PhysRange spare);

}  // namespace accede::efi
