// The resident emulator, carried inside the launcher: BOOTX64.EFI is one file.
        .section .rodata, "a"
        .balign 4096
        .globl accede_emulator_image
        .globl accede_emulator_image_end
accede_emulator_image:
        .incbin ACCEDE_EMULATOR_IMAGE
accede_emulator_image_end:
        .byte 0
        .section .note.GNU-stack, "", @progbits
