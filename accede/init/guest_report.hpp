// The JSON objects that this program reports (docs/emulator.md).
#pragma once

#include "accede/base/text_buffer.hpp"
#include "accede/init/touch.hpp"

namespace accede::init {

/// Room for the longest line: meminfo, or a full latency histogram.
using JsonLine = TextBuffer<std::size_t{48} * 1024>;

/// {"step":"up",...}: the state of the guest as it is now.
void write_up(JsonLine& line);

/// {"step":"work",...}: the state of the guest and what the workload measured.
void write_work(JsonLine& line, const TouchResult& result);

}  // namespace accede::init
