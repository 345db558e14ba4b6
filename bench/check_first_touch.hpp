#pragma once

#include "bench/figures.hpp"
#include "bench/verdict.hpp"

namespace accede::bench {

/// First touch at a steady rate, with a CPU for the acceptor.
void check_first_touch(Verdicts& verdicts, const Scale& scale);

/// The same with an empty reserve and a third thread that wants a CPU.
void check_first_touch_loaded(Verdicts& verdicts, const Scale& scale);

}  // namespace accede::bench
