#include "accede/cli/smaps.hpp"

#include <gtest/gtest.h>

#include <sys/mman.h>
#include <unistd.h>
#include <cstring>
#include <string>

namespace accede::cli {
namespace {

constexpr Bytes kRam{4ULL << 30};

std::string mapping(const std::string& range, const std::string& rss) {
  return range + " rw-p 00000000 00:00 0 \nSize:  4194304 kB\nKernelPageSize: 4 kB\nRss: " + rss +
         " kB\nPss: 1 kB\nTHPeligible: 0\nVmFlags: rd wr mr mw me ac sd\n";
}

const std::string kOther = mapping("7f0000000000-7f0000010000", "            64");

TEST(Smaps, FindsTheMappingOfExactlyThisSize) {
  const std::string text = kOther + mapping("7e0000000000-7e0100000000", "       1000") + kOther;
  EXPECT_EQ(find_guest_ram(text, kRam), Bytes{1000ULL * 1024});
}

TEST(Smaps, TakesAnExactMappingBeforeALargerOne) {
  const std::string text = mapping("7d0000000000-7d0100100000", "       5") +
                           mapping("7e0000000000-7e0100000000", "       7");
  EXPECT_EQ(find_guest_ram(text, kRam), Bytes{7ULL * 1024});
}

TEST(Smaps, TakesAMappingThatWasMergedWithANeighbour) {
  EXPECT_EQ(find_guest_ram(mapping("7e0000000000-7e0100200000", " 9"), kRam), Bytes{9ULL * 1024});
}

TEST(Smaps, NothingFitsSmallerOrMuchLargerMappings) {
  EXPECT_FALSE(find_guest_ram(mapping("7e0000000000-7e00ff000000", " 9"), kRam));
  EXPECT_FALSE(find_guest_ram(mapping("7e0000000000-7e0200000000", " 9"), kRam));
}

TEST(Smaps, SurvivesGarbage) {
  for (const char* const text :
       {"", "\n\n", "Rss: 12 kB\n", "7e-\n", "-7e x\n", "7f-7e rw\nRss: 1 kB\n", "zz-zz rw\n",
        "7e0000000000-7e0100000000 rw-p\nRss:\nRss: kB\nRss: 12 MB\nRss: -1 kB\n",
        "7e0000000000-7e0100000000 rw-p\nRss: 99999999999999999999999 kB"}) {
    EXPECT_FALSE(find_guest_ram(text, kRam)) << text;
  }
}

TEST(Smaps, ReadsARealMapping) {
  constexpr std::size_t kSize = 37U << 20;
  constexpr std::size_t kTouched = 2U << 20;
  void* const memory = mmap(nullptr, kSize, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  madvise(memory, kSize, MADV_NOHUGEPAGE);
  std::memset(memory, 1, kTouched);
  EXPECT_EQ(backed_guest_ram(getpid(), Bytes{kSize}), Bytes{kTouched});
  munmap(memory, kSize);
}

TEST(Smaps, AProcessThatIsGoneHasNoMapping) {
  EXPECT_FALSE(backed_guest_ram(0x7FFF'FFFF, kRam));
}

}  // namespace
}  // namespace accede::cli
