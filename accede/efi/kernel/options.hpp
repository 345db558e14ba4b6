// What the command line asks of the kernel: words that begin with "accede.".
#pragma once

#include "accede/base/function_ref.hpp"
#include "accede/base/units.hpp"

#include <cstdint>
#include <optional>
#include <string_view>

namespace accede::efi::kernel {

enum class PolicyName : std::uint8_t { kLazy, kEager, kBackground };
[[nodiscard]] std::string_view to_string(PolicyName policy);

enum class WorkKind : std::uint8_t { kTouch, kRandom, kFill };
[[nodiscard]] std::string_view to_string(WorkKind kind);

/// A rule to break on purpose, so that the report about it can be seen.
enum class FaultKind : std::uint8_t { kNull, kUnaccepted, kUndefined, kStack };
[[nodiscard]] std::string_view to_string(FaultKind kind);

enum class ExitKind : std::uint8_t { kPowerOff, kHang };

struct Options {
  PolicyName policy = PolicyName::kLazy;  ///< accede.policy=lazy|eager|background
  bool touch_all = false;                 ///< accede.touch=all
  Bytes touch;                            ///< accede.touch=SIZE
  WorkKind work = WorkKind::kTouch;       ///< accede.work=touch|random|fill
  bool kexec = false;                     ///< accede.kexec=1
  ExitKind exit = ExitKind::kPowerOff;    ///< accede.exit=poweroff|hang
  std::optional<FaultKind> fault;         ///< accede.fault=null|unaccepted|undefined|stack

  [[nodiscard]] bool wants_work() const { return touch_all || touch != Bytes{0}; }
};

/// A word that begins with "accede." and is not understood.
struct OptionProblem {
  std::string_view word;  ///< points into the command line
  std::string_view why;
};

/// Reads words that are separated by blanks, line ends or zero bytes. Of several equal words the
/// last counts; a word with a problem changes nothing; words of others are ignored.
[[nodiscard]] Options parse_options(std::string_view command_line,
                                    FunctionRef<void(const OptionProblem&)> report);

/// The word of the command line that asks for a kexec: the next kernel does not get it.
inline constexpr std::string_view kKexecWord = "accede.kexec=1";

/// Takes the first word off `text`, and the separators before it; empty when there is none.
[[nodiscard]] std::string_view take_word(std::string_view& text);

/// A number of bytes, with K, M, G or T (powers of 1024) behind it or not. Nothing: not such a
/// number, or one that does not fit 64 bits.
[[nodiscard]] std::optional<Bytes> parse_size(std::string_view text);

}  // namespace accede::efi::kernel
