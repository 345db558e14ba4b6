// The PVALIDATE instruction, and the seam through which the SNP platform reaches it.
#pragma once

#include "accede/abi/rmp.hpp"
#include "accede/base/assert.hpp"
#include "accede/base/units.hpp"
#include "accede/guest/platform.hpp"

#include <concepts>
#include <cstdint>

namespace accede::guest {

/// What PVALIDATE left in EAX and CF.
struct PvalidateResult {
  std::uint32_t code = 0;
  bool carry = false;
};

/// Executes PVALIDATE (F2 0F 01 FF) on the page at the virtual address `page`, which must be mapped
/// private (C-bit set); it is not dereferenced.
/// Preconditions: an SNP guest at VMPL 0 and CPL 0; `page` is aligned to `size`, 4 KiB or 2 MiB.
[[nodiscard]] inline PvalidateResult pvalidate(const void* page, PageSize size, bool validate) {
  ACCEDE_ASSERT(size != PageSize::k1G);
  std::uint64_t rax = reinterpret_cast<std::uintptr_t>(page);
  bool carry = false;
  asm volatile(".byte 0xF2, 0x0F, 0x01, 0xFF"
               : "+a"(rax), "=@ccc"(carry)
               : "c"(size == PageSize::k2M ? abi::rmp::kSize2M : abi::rmp::kSize4K),
                 "d"(static_cast<std::uint32_t>(validate ? 1 : 0))
               : "memory");
  return {.code = static_cast<std::uint32_t>(rax), .carry = carry};
}

/// What the result of PVALIDATE means. CF = 1 counts with success only: other codes leave it
/// undefined (APM: PVALIDATE). Success with CF = 1 says that nothing changed: kAlreadyAccepted.
[[nodiscard]] constexpr Answer answer_of(PvalidateResult result) {
  switch (static_cast<abi::rmp::PvalidateCode>(result.code)) {
    case abi::rmp::PvalidateCode::kSuccess:
      return result.carry ? Answer::kAlreadyAccepted : Answer::kAccepted;
    case abi::rmp::PvalidateCode::kFailSizeMismatch:
      return Answer::kSizeMismatch;
    case abi::rmp::PvalidateCode::kFailInput:
      break;
  }
  return Answer::kInvalid;
}

/// The word for a result in PlatformFailure::status: EAX, or 255 for success with CF = 1.
[[nodiscard]] constexpr std::uint64_t status_of(PvalidateResult result) {
  return result.code == 0 && result.carry ? abi::rmp::kPvalidateNoUpdate : result.code;
}

/// What executes a PVALIDATE: the processor, or a test. Callable from several CPUs at once.
template <class T>
concept PvalidatePolicy = requires(T& call, const void* page, PageSize size, bool validate) {
  { call(page, size, validate) } -> std::same_as<PvalidateResult>;
};

/// The instruction itself.
struct HardwarePvalidate {
  [[nodiscard]] PvalidateResult operator()(const void* page, PageSize size, bool validate) const {
    return pvalidate(page, size, validate);
  }
};
static_assert(PvalidatePolicy<HardwarePvalidate>);

}  // namespace accede::guest
