// Assertions for caller bugs. Always on: a confidential guest that goes on with a broken
// precondition leaks or corrupts memory.
#pragma once

/// Stops at once (an invalid instruction: no text, no unwinding, usable without any runtime) when
/// `condition` is false. For bugs of the caller only; what the outside can cause is an error value.
#define ACCEDE_ASSERT(condition)     \
  do {                               \
    if (!(condition)) [[unlikely]] { \
      __builtin_trap();              \
    }                                \
  } while (false)
