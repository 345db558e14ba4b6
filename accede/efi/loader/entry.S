// The jump into the kernel. RDI: EntryState of hand_over.cpp.
//
// The stack is the firmware's, which the new page tables need not map: it is used for the last time
// before they are loaded.

  .text
  .global accede_enter_linux
  .hidden accede_enter_linux
accede_enter_linux:
  cli
  cld
  movq 0(%rdi), %rax
  movq 8(%rdi), %rsi
  movq 16(%rdi), %rdx
  lgdt 30(%rdi)
  pushq $0x10
  leaq 1f(%rip), %rcx
  pushq %rcx
  lretq
1:
  movl $0x18, %ecx
  movl %ecx, %ds
  movl %ecx, %es
  movl %ecx, %ss
  xorl %ecx, %ecx
  movl %ecx, %fs
  movl %ecx, %gs
  // Global pages of the firmware would outlive its tables.
  movq %cr4, %rcx
  andq $~0x80, %rcx
  movq %rcx, %cr4
  movq %rdx, %cr3
  xorl %ebx, %ebx
  xorl %ebp, %ebp
  xorl %edi, %edi
  jmp *%rax

  .section .note.GNU-stack, "", @progbits
