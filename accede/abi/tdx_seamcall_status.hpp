// Status codes that only a host sees: bring-up of the module, keys, building and ending a TD
// (TDX module: status codes).
#pragma once

#include "accede/abi/tdx_status.hpp"

namespace accede::abi::tdx {

inline constexpr Status kTdAssociatedPagesExist{0xC000'0400};
inline constexpr Status kSysInitNotPending{0xC000'0500};
inline constexpr Status kSysLpInitDone{0xC000'0503};
inline constexpr Status kSysKeyConfigNotPending{0xC000'0507};
inline constexpr Status kSysLpInitNotPending{0xC000'050B};
inline constexpr Status kTdcsNotAllocated{0xC000'0606};
inline constexpr Status kTdcxNumIncorrect{0xC000'0610};
inline constexpr Status kVcpuNotAssociated{0x8000'0702};
inline constexpr Status kTdKeysNotConfigured{0x8000'0810};
inline constexpr Status kKeyConfigured{0x0000'0815};  ///< a warning: this package has the key
inline constexpr Status kWbcacheNotComplete{0x8000'0817};
inline constexpr Status kHkidNotFree{0xC000'0820};
inline constexpr Status kNoHkidReadyToWbcache{0x0000'0821};  ///< a warning: nothing to write back
inline constexpr Status kFlushvpNotDone{0x8000'0824};

}  // namespace accede::abi::tdx
