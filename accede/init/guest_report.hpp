// The JSON objects that this program reports (docs/emulator.md).
#pragma once

#include "accede/base/text_buffer.hpp"
#include "accede/init/touch.hpp"

namespace accede::init {

/// Room for the longest line: meminfo, or a full latency histogram.
using JsonLine = TextBuffer<std::size_t{48} * 1024>;

/// {"step":"up",...}: the state of the guest as it is now. `generation`: Request::generation.
void write_up(JsonLine& line, unsigned generation);

/// {"step":"work",...}: the state of the guest and what the workload measured.
void write_work(JsonLine& line, unsigned generation, const TouchResult& result);

/// {"step":"kexec",...}: the state of the guest before it gives way to the next kernel.
void write_kexec(JsonLine& line, unsigned generation);

}  // namespace accede::init
