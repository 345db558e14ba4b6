// Booting the guest that misbehaves on purpose. Its scenarios are in probe/.
#pragma once

#include "tests/boot/accede_run.hpp"

#include <string>
#include <vector>

namespace accede::test {

/// Boots the probe with a comma list of scenarios.
[[nodiscard]] Boot probe(const std::string& scenarios, std::vector<std::string> options = {});

/// Boots scenarios that the guest survives; each checks every word that it gets.
Boot survive(const std::string& scenarios, const std::vector<std::string>& options = {});

/// Boots a scenario that ends the guest with a fault, which the report area has too, as the only
/// fatal violation.
Boot break_rule(const std::string& scenario, const std::string& kind,
                const std::vector<std::string>& options = {});

/// A field of the JSON that is a hexadecimal address.
[[nodiscard]] std::uint64_t address(const Boot& boot, const std::string& path);

inline constexpr std::uint64_t kUnit = 2 * kMiB;
/// The first unit of unaccepted memory: where q35 continues above 4 GiB.
inline constexpr std::uint64_t kFirstUnit = 4 * kGiB;
/// The shared bit of a TDX guest and the C-bit of an SNP guest.
inline constexpr std::uint64_t kViewBit = 1ULL << 47;

}  // namespace accede::test
