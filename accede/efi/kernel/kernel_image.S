// The kernel proper, carried inside accede-guest.efi; a page of its own, because the running kernel
// keeps it to start the next one from.
        .section .rodata, "a"
        .balign 4096
        .globl accede_kernel_image
        .globl accede_kernel_image_end
accede_kernel_image:
        .incbin ACCEDE_KERNEL_IMAGE
accede_kernel_image_end:
        .balign 4096
        .section .note.GNU-stack, "", @progbits
