// Entries of exceptions and interrupts, and the reload of the segment registers.
// Calling convention: System V.

        .intel_syntax noprefix
        .text

// void kernel_load_segments(const TableRegister* gdt): selectors as in gdt.hpp.
        .globl  kernel_load_segments
        .hidden kernel_load_segments
kernel_load_segments:
        lgdt    [rdi]
        mov     eax, 16
        mov     ss, eax
        mov     ds, eax
        mov     es, eax
        xor     eax, eax
        mov     fs, eax
        mov     gs, eax
        mov     eax, 24
        ltr     ax
        lea     rax, [rip + 1f]
        push    8
        push    rax
        retfq
1:      ret

// Vector N enters at kernel_trap_entries + 16 * N; a TrapFrame (traps.hpp) is built on the stack and
// kernel_trap(TrapFrame*) called. The kernel is compiled without vector registers, so that these are
// all that a handler can change.
        .balign 16
        .globl  kernel_trap_entries
        .hidden kernel_trap_entries
kernel_trap_entries:
        .set    vector, 0
        .rept   256
        .balign 16
        .if     (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
        .else
        push    0
        .endif
        push    vector
        jmp     kernel_trap_common
        .set    vector, vector + 1
        .endr
kernel_trap_common:
        push    rax
        push    rcx
        push    rdx
        push    rbx
        push    rbp
        push    rsi
        push    rdi
        push    r8
        push    r9
        push    r10
        push    r11
        push    r12
        push    r13
        push    r14
        push    r15
        cld
        mov     rdi, rsp
        mov     rbp, rsp
        and     rsp, -16
        call    kernel_trap
        mov     rsp, rbp
        pop     r15
        pop     r14
        pop     r13
        pop     r12
        pop     r11
        pop     r10
        pop     r9
        pop     r8
        pop     rdi
        pop     rsi
        pop     rbp
        pop     rbx
        pop     rdx
        pop     rcx
        pop     rax
        add     rsp, 16
        iretq

        .section .note.GNU-stack, "", @progbits
