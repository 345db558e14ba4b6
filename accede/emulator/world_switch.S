// The switch between the emulator and its guest, the take-over, and exception entries.
// Calling convention: System V.

        .intel_syntax noprefix
        .section .text.entry, "ax"

// int64 emulator_entry(const LaunchInfo* info)
// Called by the launcher on the firmware's stack with interrupts disabled. On success the *guest*
// sees this call return 0; on failure it returns an error number natively. The registers are kept
// as a LaunchFrame (emulator/takeover.hpp): the order of the pushes is its layout.
        .globl  emulator_entry
emulator_entry:
        push    rbp
        push    rbx
        push    r12
        push    r13
        push    r14
        push    r15
        pushfq
        mov     rsi, rsp
        cld
        call    emulator_prepare
        test    rax, rax
        js      1f
        // rax = the vCPU; its first word is the top of its stack.
        mov     rsp, [rax]
        mov     rdi, rax
        xor     ebp, ebp
        call    emulator_start
        ud2
1:      popfq
        pop     r15
        pop     r14
        pop     r13
        pop     r12
        pop     rbx
        pop     rbp
        ret

        .text

// void svm_run(uint64_t gpr[16], uint64_t vmcb_pa)
// Runs the guest until the next exit. gpr[] is indexed by register number; RAX and RSP are in the
// VMCB. FS, GS, TR, LDTR and the SYSCALL MSRs are never changed by the emulator, so that VMLOAD
// and VMSAVE are not needed. No vector register is touched.
        .globl  svm_run
svm_run:
        push    rbp
        push    rbx
        push    r12
        push    r13
        push    r14
        push    r15
        push    rdi
        mov     rax, rsi
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
        vmrun   rax
        push    rdi
        mov     rdi, [rsp + 8]
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

// void svm_idle(uint64_t vmcb_pa)
// Runs the idle guest: waits until a physical interrupt is pending, without taking it. Interrupts
// are enabled on the host side of VMRUN so that they end it; GIF stays clear around it.
        .globl  svm_idle
svm_idle:
        push    rbx
        push    rbp
        push    r12
        push    r13
        push    r14
        push    r15
        mov     rax, rdi
        sti
        vmrun   rax
        cli
        pop     r15
        pop     r14
        pop     r13
        pop     r12
        pop     rbp
        pop     rbx
        ret

// What the idle guest executes; lies in the emulator's own, hidden memory.
        .globl  svm_idle_code
svm_idle_code:
        hlt
        jmp     svm_idle_code

// void load_tables(const void* gdtr, const void* idtr): code selector 8, data selector 16.
        .globl  load_tables
load_tables:
        lgdt    [rdi]
        lidt    [rsi]
        mov     eax, 16
        mov     ss, eax
        mov     ds, eax
        mov     es, eax
        lea     rax, [rip + 1f]
        push    8
        push    rax
        retfq
1:      ret

// Exceptions inside the emulator are bugs of the emulator: vector N enters at
// exception_entries + 16 * N and ends in emulator_exception(vector, rip, cr2).
        .balign 16
        .globl  exception_entries
exception_entries:
        .set    vector, 0
        .rept   32
        .balign 16
        .if     (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21)
        add     rsp, 8                  // drop the error code
        .endif
        push    vector
        jmp     exception_common
        .set    vector, vector + 1
        .endr
exception_common:
        pop     rdi
        pop     rsi
        mov     rdx, cr2
        and     rsp, -16
        call    emulator_exception
        ud2

        .section .note.GNU-stack, "", @progbits
