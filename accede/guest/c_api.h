/*
 * The guest library for kernels that are not written in C++. C11; C++ may include it too.
 *
 * Two objects in storage of the caller, in order of use at boot:
 *
 *   accede_memory   platform, memory map, unaccepted table, acceptor, early allocator
 *     accede_detect, accede_memory_init, accede_map_from_*, accede_early_reserve,
 *     accede_table_find / _attach (a table that exists), accede_table_build (always),
 * accede_early_* accede_pages    zones, CPU caches, page allocator, background acceptor
 *     accede_pages_open, accede_pages_init_step, then everything else
 *
 * Rules for all functions:
 *   - Addresses are physical, sizes are bytes, ranges are half-open [begin, end) and end at 2^52 at
 *     most. What is out of range is an error, never a trap, and so is a call before its time.
 *   - Pointers must not be null unless their comment says so; null is then an error too. What a
 *     pointer names must be as large as the call says.
 *   - `detail` may always be null. A call that fails writes it where there is more to know.
 *   - Where nothing else is said a call is for one CPU at a time, before other CPUs use the object.
 *   - Nothing is ever thrown, no memory is taken but what the comments name.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
/* Any number may come from C: for C++ that must be no surprise. */
#define ACCEDE_ENUM_BASE : int
extern "C" {
#else
#define ACCEDE_ENUM_BASE
#endif

/* --- Errors -------------------------------------------------------------------------------- */

/* Each group is an error type of the C++ library: group * 256 + its value. */
typedef enum accede_status ACCEDE_ENUM_BASE {
  ACCEDE_OK = 0,

  ACCEDE_BAD_ARGUMENT = 0x001, /* null, zero, not a power of two, out of bounds */
  ACCEDE_BAD_RANGE,            /* end before begin, or beyond 2^52 */
  ACCEDE_BAD_ORDER_OF_CALLS,   /* called before or after its time; never initialised */
  ACCEDE_MAP_BEYOND_2_52,      /* RAM at an address that no x86-64 machine has */
  ACCEDE_TOO_MANY_ZONES,       /* more than 64 */
  ACCEDE_TABLES_DISAGREE,      /* two carriers name different tables */

  ACCEDE_ALREADY_ACCEPTED = 0x100, /* an attack, or a wrong table: stop */
  ACCEDE_BUSY_FOREVER,
  ACCEDE_REFUSED,
  ACCEDE_HOST_LIED,
  ACCEDE_UNSUPPORTED,

  ACCEDE_TWO_PLATFORMS = 0x200,

  ACCEDE_TDX_INFO_REFUSED = 0x300,
  ACCEDE_TDX_BAD_GPA_WIDTH,

  ACCEDE_MAP_BAD_STRIDE = 0x400,
  ACCEDE_MAP_UNALIGNED_ENTRY,
  ACCEDE_MAP_ENTRY_WRAPS,
  ACCEDE_MAP_OVERLAP,
  ACCEDE_MAP_TOO_MANY_ENTRIES,

  ACCEDE_TABLE_MALFORMED = 0x500, /* not returned: one of the 0x600s says how */
  ACCEDE_TABLE_UNALIGNED,
  ACCEDE_TABLE_UNACCEPTED,
  ACCEDE_TABLE_TOO_LARGE,
  ACCEDE_TABLE_STORAGE,
  ACCEDE_TABLE_BAD_UNIT,

  ACCEDE_TABLE_TRUNCATED_HEADER = 0x600,
  ACCEDE_TABLE_UNKNOWN_VERSION,
  ACCEDE_TABLE_BAD_UNIT_SIZE,
  ACCEDE_TABLE_UNALIGNED_BASE,
  ACCEDE_TABLE_COVERAGE_OVERFLOW,
  ACCEDE_TABLE_TRUNCATED_BITMAP,

  ACCEDE_EARLY_OUT_OF_MEMORY = 0x700,
  ACCEDE_EARLY_NO_ROOM,
  ACCEDE_EARLY_NODE_CONFLICT,
  ACCEDE_EARLY_NOT_RESERVED,

  ACCEDE_OUT_OF_MEMORY = 0x800,
  ACCEDE_WOULD_ACCEPT, /* a no-wait request: try again where one may wait */

  ACCEDE_FREE_NOT_OURS = 0x900,
  ACCEDE_FREE_WRONG_STATE,
  ACCEDE_FREE_WRONG_ORDER,

  ACCEDE_SEGMENT_TOO_MANY = 0xA00,
  ACCEDE_SEGMENT_WRAPS,
  ACCEDE_SEGMENT_UNALIGNED,
  ACCEDE_SEGMENT_FILE_TOO_LARGE,
  ACCEDE_SEGMENT_OUTSIDE_RAM,
  ACCEDE_SEGMENT_OVERLAP,
  ACCEDE_SEGMENT_OVERWRITES_TABLE,
  ACCEDE_SEGMENT_TOO_MUCH_MEMORY,

  ACCEDE_HAND_OVER_NOT_IN_MAP = 0xB00,
  ACCEDE_HAND_OVER_DOES_NOT_SURVIVE,
  ACCEDE_HAND_OVER_NO_CARRIER,
  ACCEDE_HAND_OVER_NO_SYSTEM_TABLE,
  ACCEDE_HAND_OVER_NO_RUNTIME,
  ACCEDE_HAND_OVER_OTHER_TABLE,

  ACCEDE_CARRIER_TRUNCATED = 0xC00,
  ACCEDE_CARRIER_UNALIGNED,
  ACCEDE_CARRIER_NO_FREE_SLOT,
  ACCEDE_CARRIER_DUPLICATE,
  ACCEDE_CARRIER_NOT_READABLE,
  ACCEDE_CARRIER_WRAPS,
  ACCEDE_CARRIER_LOOP,
  ACCEDE_CARRIER_TOO_LONG,
  ACCEDE_CARRIER_BAD_MAGIC,
  ACCEDE_CARRIER_BAD_VERSION,
  ACCEDE_CARRIER_BAD_LENGTH,
  ACCEDE_CARRIER_BAD_CHECKSUM,
  ACCEDE_CARRIER_BAD_TABLE
} accede_status;

/* One line of text, never null, valid for ever. Any number is fine. */
const char* accede_status_text(accede_status status);

/* What is known about a failure; 0 where it does not apply. */
typedef struct accede_detail {
  uint64_t address;         /* page that the platform failed at, or address of a wrong field */
  uint64_t platform_status; /* the platform's own word: RAX of TDCALL, EAX of PVALIDATE, ... */
  uint64_t accepted;        /* bytes that the call accepted before it failed */
  uint64_t offset;          /* of the wrong entry or field in the input, in bytes */
  uint32_t index;           /* of the segment */
} accede_detail;

/* --- The platform and the hooks ------------------------------------------------------------ */

typedef enum accede_platform_kind ACCEDE_ENUM_BASE {
  ACCEDE_PLATFORM_NONE = 0, /* all memory is accepted; what the map calls unaccepted is not used */
  ACCEDE_PLATFORM_TDX = 1,
  ACCEDE_PLATFORM_SNP = 2,
  ACCEDE_PLATFORM_CALLBACKS = 3
} accede_platform_kind;

/* How an SNP guest reaches its host. Called on the current CPU, by accept and convert. */
typedef struct accede_snp_transport {
  void* context;
  /* Writes the GHCB MSR (C0010130), executes VMGEXIT, returns the MSR, which then holds what it
   * held before. Nothing else may use the MSR in between. Not null. */
  uint64_t (*msr_exchange)(void* context, uint64_t request);
  /* All three or none. claim: the current CPU's GHCB page (where it is mapped, shared) for the
   * caller alone until release, and its physical address; null when there is none or it is in use.
   * page_exchange: writes that address to the MSR and executes VMGEXIT. */
  void* (*claim_ghcb)(void* context, uint64_t* address);
  void (*page_exchange)(void* context, uint64_t address);
  void (*release_ghcb)(void* context, void* page, uint64_t address);
  bool no_cache_eviction; /* accede_detection.coherency_sfw_no */
} accede_snp_transport;

/* A platform of your own. Both calls may run on several CPUs at once, for disjoint ranges. They
 * return ACCEDE_OK or one of the 0x100s (everything else counts as ACCEDE_REFUSED) with
 * *done_end = end of what is done and *platform_status = any word for the report. */
typedef struct accede_callback_platform {
  void* context;
  accede_status (*accept)(void* context, uint64_t begin, uint64_t end, uint64_t* done_end,
                          uint64_t* platform_status);
  accede_status (*convert)(void* context, uint64_t begin, uint64_t end, bool shared,
                           uint64_t* done_end, uint64_t* platform_status); /* may be null */
  uint64_t preferred_step; /* most bytes of one accept call: a power of two from 4 KiB; 0: 2 MiB */
} accede_callback_platform;

typedef struct accede_platform {
  accede_platform_kind kind;
  accede_snp_transport snp;           /* ACCEDE_PLATFORM_SNP */
  accede_callback_platform callbacks; /* ACCEDE_PLATFORM_CALLBACKS */
} accede_platform;

/* Six hooks; each may be null, which does for one CPU without interrupts. */
typedef struct accede_hooks {
  void* context;
  unsigned (*cpu)(void* context);             /* 1: number of this CPU; may be stale when used */
  uintptr_t (*interrupts_off)(void* context); /* 2: both or none; returns the old state */
  void (*interrupts_restore)(void* context, uintptr_t state);
  void (*relax)(void* context);         /* 3: while another CPU accepts what we need */
  uint64_t (*now)(void* context);       /* 4: nanoseconds, not falling; background only */
  void (*wake_acceptor)(void* context); /* 5: must not block; background only */
  bool (*other_work)(void* context);    /* 6: this CPU has better to do; background only */
} accede_hooks;

typedef struct accede_detection {
  accede_platform_kind kind;
  unsigned c_bit;        /* SNP: position of the encryption bit in page-table entries */
  bool coherency_sfw_no; /* SNP: pages need no reads after PVALIDATE */
} accede_detection;

/* Which platform this is, by CPUID and, where that claims SNP, the MSR SEV_STATUS: CPL 0 only. */
accede_status accede_detect(accede_detection* out);

/* --- Memory: map, table, accepting, early allocation --------------------------------------- */

#define ACCEDE_MEMORY_BYTES 1024
typedef struct accede_memory {
  uint64_t magic;
#ifdef __cplusplus
  alignas(64)
#else
  _Alignas(64)
#endif
      unsigned char storage[ACCEDE_MEMORY_BYTES];
} accede_memory;

typedef struct accede_config {
  accede_platform platform; /* copied, like the hooks; the contexts must live on */
  accede_hooks hooks;
  uintptr_t phys_to_virt; /* where physical address 0 would be mapped: 0 with an identity map */
  /* For the memory map and the first entries of the early allocator, 8-byte aligned: 48 bytes for
   * each entry of the firmware's map, 768 at least. Lives as long as the object. */
  void* lists;
  size_t lists_bytes;
} accede_config;

/* Prepares the object, whatever is in it. It must not be moved afterwards. */
accede_status accede_memory_init(accede_memory* memory, const accede_config* config,
                                 accede_detail* detail);

/* Reads the firmware's map; call one of the two, once. The input is not trusted and not kept.
 * From an EFI map the RAM that needs no acceptance is available to the early allocator at once;
 * from E820, which cannot say what is accepted, nothing is until accede_table_build(). */
accede_status accede_map_from_efi(accede_memory* memory, const void* map, size_t bytes,
                                  size_t stride, accede_detail* detail);
accede_status accede_map_from_e820(accede_memory* memory, const void* entries, size_t bytes,
                                   accede_detail* detail);

typedef enum accede_memory_kind ACCEDE_ENUM_BASE {
  ACCEDE_MEMORY_USABLE = 0,
  ACCEDE_MEMORY_UNACCEPTED = 1,
  ACCEDE_MEMORY_RESERVED = 2,
  ACCEDE_MEMORY_ACPI_RECLAIM = 3,
  ACCEDE_MEMORY_ACPI_NVS = 4,
  ACCEDE_MEMORY_UNUSABLE = 5,
  ACCEDE_MEMORY_PERSISTENT = 6
} accede_memory_kind;
typedef struct accede_region {
  uint64_t begin;
  uint64_t end;
  accede_memory_kind kind;
} accede_region;

/* The map, sorted and merged: region `index`; false behind the last. */
bool accede_map_region(const accede_memory* memory, size_t index, accede_region* out);
/* Unaccepted memory that ACCEDE_PLATFORM_NONE leaves unused: complain when it is not 0. */
uint64_t accede_map_unusable(const accede_memory* memory);

/* A table that somebody else built, at `where`; it ends within `bytes`. `index` makes questions
 * about terabytes cheap: accepted, 8-byte aligned, a 256th of the table and 16 bytes; may be null.
 * The table's memory is accepted, writable and mapped; it is reserved by this call. */
accede_status accede_table_attach(accede_memory* memory, uint64_t where, uint64_t bytes,
                                  void* index, size_t index_bytes, accede_detail* detail);

/* Who may name a table that an earlier program left. */
typedef struct accede_sources {
  const void* efi_entries; /* the EFI configuration table; may be null */
  size_t efi_entry_count;
  uint64_t setup_data;           /* head of the chain; 0: none */
  uint64_t hand_over;            /* a hand-over object; 0: none */
  const accede_region* readable; /* memory that is mapped and may be read; kinds are ignored */
  size_t readable_count;         /* at most 64 */
} accede_sources;
typedef enum accede_route ACCEDE_ENUM_BASE {
  ACCEDE_ROUTE_NONE = 0, /* there is no table */
  ACCEDE_ROUTE_EFI = 1,
  ACCEDE_ROUTE_SETUP_DATA = 2,
  ACCEDE_ROUTE_HAND_OVER = 3
} accede_route;

/* Finds the table and attaches it, as above. *route (may be null): who named it. */
accede_status accede_table_find(accede_memory* memory, const accede_sources* sources, void* index,
                                size_t index_bytes, accede_route* route, accede_detail* detail);

/* Ends this part: without a table so far, builds one for the unaccepted memory of the map (none is
 * fine: nothing to do). It lies at `where` in `bytes` bytes of accepted memory that is yours; with
 * bytes 0 the library takes memory of its own, which does not survive kexec. Reserve what is in
 * use first. From now on all RAM is available to the early allocator. */
accede_status accede_table_build(accede_memory* memory, uint64_t where, uint64_t bytes,
                                 accede_detail* detail);
/* Bytes that accede_table_build() needs at `where`; 0: none. */
accede_status accede_table_size(const accede_memory* memory, uint64_t* bytes,
                                accede_detail* detail);
/* Where the table lies; false when there is none. */
bool accede_table_place(const accede_memory* memory, uint64_t* where, uint64_t* bytes);

/* Makes [begin, end) and its guard unit usable. *accepted (may be null): bytes that this call
 * accepted. Any CPU at any time, but no lock held and not from an interrupt handler that could
 * interrupt it. */
accede_status accede_accept(accede_memory* memory, uint64_t begin, uint64_t end, uint64_t* accepted,
                            accede_detail* detail);
/* The same, at most `budget` bytes of it, at least one unit. *rest_begin: where to go on, with
 * accede_accept_rest(); `end` when all is done. */
accede_status accede_accept_some(accede_memory* memory, uint64_t begin, uint64_t end,
                                 uint64_t budget, uint64_t* rest_begin, uint64_t* rest_end,
                                 accede_detail* detail);
accede_status accede_accept_rest(accede_memory* memory, uint64_t begin, uint64_t end,
                                 uint64_t budget, uint64_t* rest_begin, uint64_t* rest_end,
                                 accede_detail* detail);
/* True when accede_accept() would have something to do, or the range is not one. Any CPU. */
bool accede_contains_unaccepted(const accede_memory* memory, uint64_t begin, uint64_t end);
/* Gives accepted pages that nobody uses to the host, or takes them back; content is lost. Page
 * aligned. Any CPU. */
accede_status accede_convert(accede_memory* memory, uint64_t begin, uint64_t end, bool shared,
                             accede_detail* detail);

typedef struct accede_accept_counters {
  uint64_t accept_calls; /* that found something to accept */
  uint64_t platform_calls;
  uint64_t waits; /* calls that waited for another CPU */
  uint64_t failures;
  uint64_t accepted_bytes;
  uint64_t longest_step;     /* most bytes in one platform call */
  uint64_t longest_call;     /* most bytes in one accept call */
  uint64_t unaccepted_bytes; /* left, by the table */
} accede_accept_counters;
accede_status accede_counters(const accede_memory* memory, accede_accept_counters* out);

#define ACCEDE_ANY_NODE 0xFFFFFFFFU

/* Somebody uses it: the pages that it touches are not free. Before accede_pages_open(). */
accede_status accede_early_reserve(accede_memory* memory, uint64_t begin, uint64_t end,
                                   accede_detail* detail);
/* As the firmware's affinity table says. After accede_table_build(). */
accede_status accede_early_assign_node(accede_memory* memory, uint64_t begin, uint64_t end,
                                       uint32_t node, accede_detail* detail);
/* The lists may grow into free memory of the range, which is mapped. After accede_table_build(). */
accede_status accede_early_allow_growth(accede_memory* memory, uint64_t begin, uint64_t end);
/* `size` bytes at a multiple of `align` (a power of two) below `limit` (0: anywhere), accepted. */
accede_status accede_early_allocate(accede_memory* memory, uint64_t size, uint64_t align,
                                    uint64_t limit, uint32_t node, uint64_t* address,
                                    accede_detail* detail);
/* Only what was allocated or reserved, or a part of it. It stays accepted. */
accede_status accede_early_free(accede_memory* memory, uint64_t begin, uint64_t end,
                                accede_detail* detail);
uint64_t accede_early_free_bytes(const accede_memory* memory);

/* --- Pages --------------------------------------------------------------------------------- */

#define ACCEDE_PAGES_BYTES 10240
typedef struct accede_pages {
  uint64_t magic;
#ifdef __cplusplus
  alignas(64)
#else
  _Alignas(64)
#endif
      unsigned char storage[ACCEDE_PAGES_BYTES];
} accede_pages;

#define ACCEDE_MAX_ORDER 10U
#define ACCEDE_OWN_NODE 0xFFFFFFFFU
#define ACCEDE_NO_WAIT 1U /* flag: never accept, never wait for another CPU's accept */

/* Settings of the background acceptor, as ReserveConfig of accede/guest/reserve.hpp. */
typedef struct accede_reserve {
  uint64_t floor_bytes;
  uint64_t ceiling_bytes;
  uint64_t horizon_ns;
  uint64_t window_ns;
  uint64_t memory_ns;
  unsigned cpu_percent; /* 1 to 100 */
} accede_reserve;

/* Opens the zones of all RAM and takes from the early allocator: 12 bytes for each page that the
 * zones span, a zone object for each, 128 bytes for each of `cpus` CPUs. After this call the early
 * allocator only answers questions. `reserve` may be null. */
accede_status accede_pages_open(accede_pages* pages, accede_memory* memory, unsigned cpus,
                                const accede_reserve* reserve, accede_detail* detail);
/* Which node a CPU belongs to; until then that of the first zone. */
accede_status accede_pages_assign_cpu(accede_pages* pages, unsigned cpu, uint32_t node);
/* Adds the next 64 MiB to the allocator; *more false: all are added or with other CPUs. Call it
 * until then, on as many CPUs as you like; memory can be allocated from the first step on. An
 * error leaves memory unaccepted and free: go on. */
accede_status accede_pages_init_step(accede_pages* pages, bool* more, accede_detail* detail);

/* Everything below: any CPU; with hooks for interrupts also from interrupt handlers, with
 * ACCEDE_NO_WAIT. */

/* 2^order pages. Content: zero on TDX, undefined on SNP, or what the last user left. `node`: tried
 * first, or ACCEDE_OWN_NODE. */
accede_status accede_pages_allocate(accede_pages* pages, unsigned order, uint32_t node,
                                    unsigned flags, uint64_t* address, accede_detail* detail);
accede_status accede_pages_free(accede_pages* pages, uint64_t address, unsigned order);
/* Up to `count` single pages; *done of them. An error only when there was none. */
accede_status accede_pages_allocate_bulk(accede_pages* pages, uint64_t* addresses, size_t count,
                                         uint32_t node, unsigned flags, size_t* done,
                                         accede_detail* detail);
/* Any number of contiguous pages. Slow. After the last init step. */
accede_status accede_pages_allocate_contiguous(accede_pages* pages, uint64_t count, uint64_t align,
                                               uint32_t node, unsigned flags, uint64_t* address,
                                               accede_detail* detail);
accede_status accede_pages_free_contiguous(accede_pages* pages, uint64_t begin, uint64_t end);
/* Gives the pages in CPU caches back. */
accede_status accede_pages_drain_caches(accede_pages* pages);

/* Eager acceptance: accepts all that is left, as one of any number of CPUs. Not from interrupts. */
accede_status accede_pages_accept_everything(accede_pages* pages, uint64_t* accepted,
                                             accede_detail* detail);

#define ACCEDE_UNTIL_WOKEN UINT64_MAX
/* Background acceptance: one step, at most one unit. *sleep_ns: how long to sleep before the next;
 * ACCEDE_UNTIL_WOKEN: until the hook wake_acceptor is called, and a call that came during the step
 * counts. One thread; needs the hooks now and wake_acceptor. */
accede_status accede_pages_background_step(accede_pages* pages, uint64_t* accepted,
                                           uint64_t* sleep_ns, accede_detail* detail);

typedef struct accede_page_counters {
  uint64_t total_bytes;
  uint64_t free_bytes; /* unaccepted memory and CPU caches included */
  uint64_t unaccepted_bytes;
  uint64_t accept_waits;   /* requests that had to accept or to wait; of all nodes */
  uint64_t metadata_bytes; /* page information; of all nodes */
} accede_page_counters;
/* Of one node or ACCEDE_ANY_NODE. */
accede_status accede_pages_counters(const accede_pages* pages, uint32_t node,
                                    accede_page_counters* out);

/* --- Starting another kernel --------------------------------------------------------------- */

typedef struct accede_segment {
  uint64_t destination;
  uint64_t size;      /* in memory, page aligned like the destination */
  uint64_t file_size; /* of the content */
} accede_segment;

/* What this kernel can pass on, and what carriers say already. */
typedef struct accede_next_kernel {
  bool efi_system_table;
  bool efi_runtime;
  uint64_t efi_published; /* table that EFI's configuration table names; 0: none */
  bool setup_data;
  bool hand_over_object;
} accede_next_kernel;

/* What is left to do for the table: publish it by `route`. */
typedef struct accede_hand_over {
  accede_route route;
  uint64_t table;
  uint64_t table_bytes;
} accede_hand_over;

/* Checks segments (not trusted, at most 16): aligned, in RAM, disjoint, off the table. */
accede_status accede_kexec_check(const accede_memory* memory, const accede_segment* segments,
                                 size_t count, accede_detail* detail);
/* Checks them, plans the hand-over and accepts the destinations: copy only afterwards. */
accede_status accede_kexec_load(accede_memory* memory, const accede_segment* segments, size_t count,
                                const accede_next_kernel* next, accede_hand_over* plan,
                                uint64_t* accepted, accede_detail* detail);

#define ACCEDE_HAND_OVER_BYTES 40
#define ACCEDE_SETUP_DATA_BYTES 56
#define ACCEDE_EFI_ENTRY_BYTES 24
/* Writes a hand-over object / a setup_data node that goes before `old_head` (publish its address
 * in one store) / an entry of the EFI configuration table (`count` entries of `slots`; store
 * *new_count afterwards). Memory 8-byte aligned. */
accede_status accede_publish_object(const accede_memory* memory, void* object, size_t bytes,
                                    accede_detail* detail);
accede_status accede_publish_setup_data(const accede_memory* memory, void* node, size_t bytes,
                                        uint64_t old_head, accede_detail* detail);
accede_status accede_publish_efi(const accede_memory* memory, void* entries, size_t slots,
                                 size_t count, size_t* new_count, accede_detail* detail);

#ifdef __cplusplus
}
#endif
#undef ACCEDE_ENUM_BASE
