#pragma once

#include "bench/check.hpp"
#include "bench/verdict.hpp"

namespace accede::bench {

/// What acceptance costs an allocator with nothing left to accept: in instructions, by callgrind,
/// because A/A of identical code differs by several per cent in time.
void check_alloc(Verdicts& verdicts, const CheckSettings& settings);

/// Runs the allocation trace `times` times under "plain" or "drained"; false: no such kind. What
/// callgrind counts.
[[nodiscard]] bool replay(std::string_view kind, unsigned times);

}  // namespace accede::bench
