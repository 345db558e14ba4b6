// Delivering an exception to a guest without the processor's help.
#pragma once

#include "accede/emulator/guest_memory.hpp"
#include "accede/emulator/vcpu.hpp"

#include <cstdint>

namespace accede::emulator {

/// Raises exception `vector` with `error` in the guest as a processor in long mode does: the gate
/// of its IDT, the stack that this names, the frame, the handler's first instruction. For vectors
/// whose error code the processor below does not push when it is asked to inject them: QEMU's TCG
/// knows those of old and takes #VC for an exception without one.
///
/// The guest gets #DF instead when gate, code segment or stack cannot be used.
/// Precondition: nothing else is to be injected.
void deliver_with_error(const GuestMemory& memory, Vcpu& vcpu, std::uint8_t vector,
                        std::uint32_t error);

}  // namespace accede::emulator
