/* Memory of a kernel in a confidential VM, in C: the code to copy. docs/embedding.md explains each
 * step. */
#include "examples/c_kernel_memory.h"

static accede_memory memory;
static accede_pages pages;
/* 48 bytes for each entry of the firmware's map. */
static _Alignas(8) unsigned char lists[48 * 256];

static uint64_t read_msr(uint32_t number) {
  uint32_t low, high;
  __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(number));
  return (uint64_t)high << 32 | low;
}

static void write_msr(uint32_t number, uint64_t value) {
  __asm__ volatile("wrmsr" ::"a"((uint32_t)value), "d"((uint32_t)(value >> 32)), "c"(number)
                   : "memory");
}

static uint64_t msr_exchange(void* context, uint64_t request) {
  const uint32_t ghcb_msr = 0xC0010130;
  const uint64_t before = read_msr(ghcb_msr);
  (void)context;
  write_msr(ghcb_msr, request);
  __asm__ volatile("rep; vmmcall" ::: "memory"); /* VMGEXIT */
  const uint64_t response = read_msr(ghcb_msr);
  write_msr(ghcb_msr, before);
  return response;
}

accede_status find_platform(accede_platform* platform) {
  accede_detection found;
  const accede_status status = accede_detect(&found);
  if (status == ACCEDE_OK) {
    *platform = (accede_platform){
        .kind = found.kind,
        .snp = {.msr_exchange = msr_exchange, .no_cache_eviction = found.coherency_sfw_no}};
  }
  return status;
}

accede_status start_memory(const accede_platform* platform, const struct boot_info* boot,
                           accede_detail* detail) {
  const accede_config config = {.platform = *platform,
                                .phys_to_virt = boot->direct_map,
                                .lists = lists,
                                .lists_bytes = sizeof lists};
  accede_status status = accede_memory_init(&memory, &config, detail);
  /* What the firmware says, and what of it is in use. */
  if (status == ACCEDE_OK) {
    status =
        accede_map_from_efi(&memory, boot->efi_map, boot->efi_map_bytes, boot->efi_stride, detail);
  }
  if (status == ACCEDE_OK) {
    status = accede_early_reserve(&memory, boot->kernel_begin, boot->kernel_end, detail);
  }
  /* The table: from here on every allocation is accepted before anybody sees it. */
  if (status == ACCEDE_OK) {
    status = accede_table_build(&memory, 0, 0, detail);
  }
  if (status == ACCEDE_OK) {
    status = accede_early_allow_growth(&memory, 4096, UINT64_C(1) << 52);
  }
  /* Zones for one CPU, then their memory. Other CPUs may take part in the steps. */
  if (status == ACCEDE_OK) {
    status = accede_pages_open(&pages, &memory, 1, NULL, detail);
  }
  for (bool more = true; status == ACCEDE_OK && more;) {
    status = accede_pages_init_step(&pages, &more, detail);
  }
  return status;
}

accede_status use_a_page(void) {
  uint64_t page = 0;
  const accede_status status = accede_pages_allocate(&pages, 0, ACCEDE_OWN_NODE, 0, &page, NULL);
  return status == ACCEDE_OK ? accede_pages_free(&pages, page, 0) : status;
}

accede_pages* kernel_pages(void) {
  return &pages;
}

/* Called by the assembly that a kernel starts with. */
int example_main(const void* efi_map, size_t bytes, size_t stride, uint64_t kernel_begin,
                 uint64_t kernel_end);
int example_main(const void* efi_map, size_t bytes, size_t stride, uint64_t kernel_begin,
                 uint64_t kernel_end) {
  const struct boot_info boot = {efi_map, bytes, stride, kernel_begin, kernel_end, 0};
  accede_platform platform;
  return find_platform(&platform) == ACCEDE_OK &&
                 start_memory(&platform, &boot, NULL) == ACCEDE_OK && use_a_page() == ACCEDE_OK
             ? 0
             : 1;
}
