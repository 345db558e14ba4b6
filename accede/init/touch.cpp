#include "accede/init/touch.hpp"

#include <sys/mman.h>
#include <x86intrin.h>
#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <ctime>

namespace accede::init {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kStep = 4ULL << 20;  // between two looks at /proc/meminfo
constexpr std::size_t kWordsPerPage = kPage / sizeof(std::uint64_t);

std::uint64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

/// What is written to a page: different for each, so that two pages with one backing show.
std::uint64_t pattern(std::uint64_t page) {
  return (page + 1) * 0x9E37'79B9'7F4A'7C15ULL;
}

/// What must stay available: the kernel kills for memory well before the last page is gone, and
/// killing this program is a kernel panic.
std::uint64_t reserve(const MemoryState& memory) {
  return (128ULL << 20) + memory.total / 64;
}

/// Why touching must stop now; empty: go on.
std::string_view reason_to_stop(bool until_accepted) {
  const MemoryState memory = read_memory_state();
  if (until_accepted && memory.unaccepted.value_or(0) == 0) {
    return "accepted";
  }
  return memory.available < reserve(memory) + kStep ? "memory" : "";
}

void touch_pages(volatile std::uint64_t* words, std::uint64_t begin, std::uint64_t end,
                 LatencyHistogram& latency) {
  for (std::uint64_t page = begin; page < end; ++page) {
    volatile std::uint64_t* const first = words + page * kWordsPerPage;
    const std::uint64_t start = __rdtsc();
    *first = pattern(page);
    latency.add(__rdtsc() - start);
    first[kWordsPerPage - 1] = ~pattern(page);
  }
}

/// Pages of [0, end) whose first and last word are not the pattern, or whose middle is not zero.
std::uint64_t count_wrong(const volatile std::uint64_t* words, std::uint64_t end) {
  std::uint64_t wrong = 0;
  for (std::uint64_t page = 0; page < end; ++page) {
    const volatile std::uint64_t* const first = words + page * kWordsPerPage;
    const bool right = first[0] == pattern(page) && first[kWordsPerPage / 2] == 0 &&
                       first[kWordsPerPage - 1] == ~pattern(page);
    wrong += right ? 0 : 1;
  }
  return wrong;
}

}  // namespace

void touch_memory(const Request& request, TouchResult& result) {
  const MemoryState before = read_memory_state();
  const bool until_accepted = request.touch_all && before.unaccepted.value_or(0) != 0;
  const std::uint64_t wanted = request.touch_all ? before.total : request.touch_bytes;
  const std::uint64_t limit = std::min(wanted, before.total) / kPage * kPage;
  void* const memory = mmap(nullptr, std::max(limit, kPage), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    result.stopped = std::strerror(errno);
    return;
  }
  // Fails on kernels without huge pages, which is what is wanted.
  madvise(memory, std::max(limit, kPage), MADV_NOHUGEPAGE);
  auto* const words = static_cast<volatile std::uint64_t*>(memory);

  const std::uint64_t start_ns = now_ns();
  const std::uint64_t start_ticks = __rdtsc();
  while (result.touched_bytes < limit && result.stopped.empty()) {
    result.stopped = reason_to_stop(until_accepted);
    if (result.stopped.empty()) {
      const std::uint64_t end = std::min(result.touched_bytes + kStep, limit);
      touch_pages(words, result.touched_bytes / kPage, end / kPage, result.latency);
      result.touched_bytes = end;
    }
  }
  result.elapsed_ticks = __rdtsc() - start_ticks;
  result.elapsed_ns = now_ns() - start_ns;
  if (result.stopped.empty()) {
    result.stopped = wanted > limit ? "memory" : "done";
  }
  result.wrong_pages = count_wrong(words, result.touched_bytes / kPage);
}

}  // namespace accede::init
