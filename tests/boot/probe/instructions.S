// Instructions that need every register. Calling convention: System V.

        .intel_syntax noprefix
        .text

// void probe_tdcall(Registers*): TDCALL with the registers of the argument (all but RSP; its layout
// is in instructions.hpp), and what they hold afterwards.
        .globl  probe_tdcall
        .hidden probe_tdcall
probe_tdcall:
        push    rbp
        push    rbx
        push    r12
        push    r13
        push    r14
        push    r15
        push    rdi
        mov     rax, [rdi + 8 * 0]
        mov     rcx, [rdi + 8 * 1]
        mov     rdx, [rdi + 8 * 2]
        mov     rbx, [rdi + 8 * 3]
        mov     rbp, [rdi + 8 * 5]
        mov     rsi, [rdi + 8 * 6]
        mov     r8,  [rdi + 8 * 8]
        mov     r9,  [rdi + 8 * 9]
        mov     r10, [rdi + 8 * 10]
        mov     r11, [rdi + 8 * 11]
        mov     r12, [rdi + 8 * 12]
        mov     r13, [rdi + 8 * 13]
        mov     r14, [rdi + 8 * 14]
        mov     r15, [rdi + 8 * 15]
        mov     rdi, [rdi + 8 * 7]
        .byte   0x66, 0x0F, 0x01, 0xCC
        push    rdi
        mov     rdi, [rsp + 8]
        mov     [rdi + 8 * 0], rax
        mov     [rdi + 8 * 1], rcx
        mov     [rdi + 8 * 2], rdx
        mov     [rdi + 8 * 3], rbx
        mov     [rdi + 8 * 5], rbp
        mov     [rdi + 8 * 6], rsi
        mov     [rdi + 8 * 8], r8
        mov     [rdi + 8 * 9], r9
        mov     [rdi + 8 * 10], r10
        mov     [rdi + 8 * 11], r11
        mov     [rdi + 8 * 12], r12
        mov     [rdi + 8 * 13], r13
        mov     [rdi + 8 * 14], r14
        mov     [rdi + 8 * 15], r15
        pop     qword ptr [rdi + 8 * 7]
        pop     rdi
        pop     r15
        pop     r14
        pop     r13
        pop     r12
        pop     rbx
        pop     rbp
        ret

// void probe_attempt(Registers*, void (*instruction)()): runs one of the routines below with RAX,
// RCX, RDX and RBX of the argument, and what they hold afterwards. An exception goes on right behind
// the call with the stack as it was (probe_exception in exceptions.cpp).
        .globl  probe_attempt
        .hidden probe_attempt
probe_attempt:
        push    rbp
        push    rbx
        push    r12
        push    r13
        push    r14
        push    r15
        push    rdi
        mov     [rip + probe_resume_rsp], rsp
        lea     rax, [rip + 1f]
        mov     [rip + probe_resume_rip], rax
        mov     rax, [rdi + 8 * 0]
        mov     rcx, [rdi + 8 * 1]
        mov     rdx, [rdi + 8 * 2]
        mov     rbx, [rdi + 8 * 3]
        call    rsi
1:      mov     qword ptr [rip + probe_resume_rip], 0
        pop     rdi
        mov     [rdi + 8 * 0], rax
        mov     [rdi + 8 * 1], rcx
        mov     [rdi + 8 * 2], rdx
        mov     [rdi + 8 * 3], rbx
        pop     r15
        pop     r14
        pop     r13
        pop     r12
        pop     rbx
        pop     rbp
        ret

        .macro  routine name, instruction:vararg
        .globl  probe_do_\name
        .hidden probe_do_\name
probe_do_\name:
        \instruction
        ret
        .endm
        routine load, mov rax, [rcx]
        routine rdmsr, rdmsr
        routine wrmsr, wrmsr
        routine vmmcall, vmmcall
        routine vmrun, vmrun rax
        routine vmload, vmload rax
        routine vmsave, vmsave rax
        routine stgi, stgi
        routine clgi, clgi
        routine tdcall, .byte 0x66, 0x0F, 0x01, 0xCC
        routine tdcall_with_two_prefixes, .byte 0x66, 0x66, 0x0F, 0x01, 0xCC
        routine seamcall, .byte 0x66, 0x0F, 0x01, 0xCF
        routine ud2, ud2

// The same, and RBX = RFLAGS afterwards.
        .macro  routine_with_flags name, bytes:vararg
        .globl  probe_do_\name
        .hidden probe_do_\name
probe_do_\name:
        .byte   \bytes
        pushfq
        pop     rbx
        ret
        .endm
        routine_with_flags pvalidate, 0xF2, 0x0F, 0x01, 0xFF
        routine_with_flags rmpadjust, 0xF3, 0x0F, 0x01, 0xFE
        routine_with_flags rmpquery, 0xF3, 0x0F, 0x01, 0xFD

// TDCALL in compatibility mode. RBX = a 32-bit code selector. Code and stack lie below 4 GiB.
        .globl  probe_do_tdcall_in_compatibility_mode
        .hidden probe_do_tdcall_in_compatibility_mode
probe_do_tdcall_in_compatibility_mode:
        mov     ecx, cs
        lea     rdx, [rip + 2f]
        push    rbx
        lea     rbx, [rip + 1f]
        push    rbx
        retfq
        .code32
1:      .byte   0x66, 0x0F, 0x01, 0xCC
        push    ecx
        push    edx
        retf
        .code64
2:      ret

// Exception vector N enters at probe_exception_entries + 16 * N; an ExceptionFrame
// (exceptions.hpp) is built on the stack and probe_exception(ExceptionFrame*) called. What it
// leaves in the frame is what the interrupted code goes on with.
        .balign 16
        .globl  probe_exception_entries
        .hidden probe_exception_entries
probe_exception_entries:
        .set    vector, 0
        .rept   32
        .balign 16
        .if     (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
        .else
        push    0
        .endif
        push    vector
        jmp     probe_exception_common
        .set    vector, vector + 1
        .endr
probe_exception_common:
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
        call    probe_exception
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

        .data
        .balign 8
        .globl  probe_resume_rip
        .hidden probe_resume_rip
        .globl  probe_resume_rsp
        .hidden probe_resume_rsp
probe_resume_rip:
        .quad   0
probe_resume_rsp:
        .quad   0

        .section .note.GNU-stack, "", @progbits
