// What exceptions and their error codes are called.
#pragma once

#include "accede/abi/tdx.hpp"
#include "accede/base/text_buffer.hpp"

#include <cstdint>
#include <string_view>

namespace accede::efi::kernel {

inline constexpr std::uint64_t kNmiVector = 2;
inline constexpr std::uint64_t kDoubleFaultVector = 8;
inline constexpr std::uint64_t kPageFaultVector = 14;
inline constexpr std::uint64_t kVirtualizationVector = 20;
inline constexpr std::uint64_t kVmmCommunicationVector = 29;

/// "#PF page fault"; "reserved exception" for a vector without a name.
[[nodiscard]] std::string_view exception_name(std::uint64_t vector);

/// One line of a report, or the message of a fault.
using FaultText = TextBuffer<200>;

/// What an error code says, e.g. "write, present, supervisor"; empty when the exception has none.
[[nodiscard]] FaultText describe_error(std::uint64_t vector, std::uint64_t error);

/// What a #VE is about; "unknown reason" for a number without a name.
[[nodiscard]] std::string_view exit_reason_name(std::uint64_t reason);

}  // namespace accede::efi::kernel
