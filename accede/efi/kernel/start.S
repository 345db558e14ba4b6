// Where the kernel is entered: RDI = BootInfo, interrupts off, memory mapped at its physical address.
        .section .text.entry, "ax", @progbits
        .globl  kernel_entry
kernel_entry:
        cli
        cld
        lea     kernel_stack_top(%rip), %rsp
        xor     %ebp, %ebp
        call    kernel_main
1:      cli
        hlt
        jmp     1b

// The page below the stack is never mapped: a stack that overflows faults instead of overwriting.
        .section .bss.stack, "aw", @nobits
        .balign 4096
        .globl  kernel_stack_guard
        .globl  kernel_stack_top
kernel_stack_guard:
        .skip   4096
        .skip   65536
kernel_stack_top:
        .section .note.GNU-stack, "", @progbits
