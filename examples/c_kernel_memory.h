/* The interface of c_kernel_memory.c. */
#pragma once

#include "accede/guest/c_api.h"

#ifdef __cplusplus
extern "C" {
#endif

struct boot_info {
  const void* efi_map; /* of the last GetMemoryMap before ExitBootServices */
  size_t efi_map_bytes;
  size_t efi_stride;
  uint64_t kernel_begin; /* our image, stacks, page tables: not to be given away */
  uint64_t kernel_end;
  uintptr_t direct_map; /* where physical address 0 is mapped */
};

/* What this machine is, and how an SNP guest reaches its host. */
accede_status find_platform(accede_platform* platform);
/* From the firmware's map to pages. */
accede_status start_memory(const accede_platform* platform, const struct boot_info* boot,
                           accede_detail* detail);
/* Takes a page and gives it back. */
accede_status use_a_page(void);
accede_pages* kernel_pages(void);

#ifdef __cplusplus
}
#endif
