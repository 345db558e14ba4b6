// Feature tags: what an image is, in the words of image catalogues.
#pragma once

#include "accede/inspect/report.hpp"

#include <expected>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace accede::inspect {

/// The tags of an image, sorted: an architecture, UEFI_COMPATIBLE, SEV_CAPABLE, SEV_SNP_CAPABLE,
/// TDX_CAPABLE, UNACCEPTED_MEMORY, KERNEL_6_12 and the like. None without evidence.
[[nodiscard]] std::vector<std::string> tags_of(const Report& report);

/// Claims that somebody made about an image.
struct ClaimCheck {
  std::vector<std::string> wrong;     ///< the image shows that it is otherwise
  std::vector<std::string> unproven;  ///< the image says nothing about it
};
[[nodiscard]] ClaimCheck check_claims(const Report& report, std::span<const std::string> claims);

/// "A,B" as tags: capital letters, digits and underscores. The error is the one that is none.
[[nodiscard]] std::expected<std::vector<std::string>, std::string> parse_tags(
    std::string_view list);

}  // namespace accede::inspect
