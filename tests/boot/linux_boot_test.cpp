// Stock distribution kernels, unmodified, as guests.

#include "tests/boot/linux_boot.hpp"
#include "accede/cli/event_file.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <span>
#include <string>

namespace accede::test {
namespace {

/// The bounce buffers that the command asks for, and those that a TD of 4 GiB has by itself (6 % of
/// its memory, rounded): memory that is made shared and that MemTotal does not count.
constexpr std::uint64_t kSmallSwiotlb = 32 * kMiB;
constexpr std::uint64_t kOwnSwiotlb = 256 * kMiB;
constexpr double k37GiB = 3.7 * kGiB;

TEST(Linux612, ReachesUserSpaceAsATdWithMostMemoryUnaccepted) {
  const Boot result = linux_boot({"--kernel", "debian-6.12"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_TRUE(result.console_has("Memory Encryption Features active: Intel TDX")) << result;
  EXPECT_EQ(result.text("/guest/memory_encryption"), "Intel TDX");
  EXPECT_GT(result.bytes("/guest/unaccepted_bytes"), kGiB) << result;
  EXPECT_GT(result.number("/guest/mem_total_bytes"), k37GiB) << result;
  EXPECT_LT(result.bytes("/guest/lost_bytes"), 64 * kMiB) << result;
  EXPECT_LT(result.bytes("/host/backed_bytes"), 2 * kGiB) << result;
  EXPECT_GE(result.bytes("/convert/to_shared_bytes"), kSmallSwiotlb) << "for devices";
  expect_sums_to_agree(result);
  expect_a_clean_guest(result);
}

TEST(Linux612, SharesAsMuchMemoryWithDevicesAsItTakesByItself) {
  // 131072 buffers of 2 KiB: what a TD of this size takes when its command line says nothing.
  const Boot result = linux_boot({"--kernel", "debian-6.12", "--append", "swiotlb=131072"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_GE(result.bytes("/convert/to_shared_bytes"), kOwnSwiotlb) << result;
  EXPECT_GT(result.number("/guest/mem_total_bytes") + kOwnSwiotlb, k37GiB) << result;
  expect_sums_to_agree(result);
  expect_a_clean_guest(result);
}

TEST(Linux612, AcceptsEverythingAtOnceWhenAskedTo) {
  const Boot result = linux_boot({"--kernel", "debian-6.12", "--accept", "eager"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_EQ(result.bytes("/guest/unaccepted_bytes"), 0U) << result;
  EXPECT_NEAR(result.number("/accept/bytes"), result.number("/lazy_bytes"), kBlock) << result;
  expect_sums_to_agree(result);
  expect_a_clean_guest(result);
}

TEST(Linux612, LeavesALittleMemoryUnacceptedInASmallVm) {
  // q35 puts 1 GiB of 3 above 4 GiB.
  const Boot result = linux_boot({"--kernel", "debian-6.12", "--memory", "3G"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_EQ(result.bytes("/lazy_bytes"), kGiB) << result;
  EXPECT_GT(result.bytes("/guest/unaccepted_bytes"), 256 * kMiB) << result;
  expect_sums_to_agree(result);
  expect_a_clean_guest(result);
}

TEST(Linux612, RunsWithoutATableWhenNothingIsAboveFourGibibytes) {
  const Boot result = linux_boot({"--kernel", "debian-6.12", "--memory", "2G"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_EQ(result.bytes("/lazy_bytes"), 0U) << result;
  EXPECT_EQ(result.bytes("/guest/unaccepted_bytes"), 0U) << result;
  EXPECT_EQ(result.bytes("/accept/calls/2m"), 0U) << result;
  EXPECT_TRUE(result.console_has("Memory Encryption Features active: Intel TDX")) << result;
  EXPECT_GT(result.bytes("/guest/mem_total_bytes"), 1500 * kMiB) << result;
  // Shared memory that becomes private again is accepted, in 4 KiB pages; nothing else is.
  EXPECT_LE(result.bytes("/accept/bytes"), result.bytes("/convert/to_private_bytes")) << result;
  expect_a_clean_guest(result);
}

TEST(Linux612, FallsBackToSmallPagesOnAHostThatBacksWithThem) {
  const Boot result = linux_boot({"--kernel", "debian-6.12", "--backing", "4k"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_GT(result.bytes("/accept/size_mismatch"), 0U) << result;
  EXPECT_EQ(result.bytes("/accept/calls/2m"), 0U) << result;
  EXPECT_EQ(result.bytes("/accept/calls/4k"), result.bytes("/accept/size_mismatch") * 512)
      << "512 calls for each refusal\n"
      << result;
  EXPECT_EQ(result.bytes("/events/dropped"), 0U) << result;
  expect_sums_to_agree(result);
  expect_a_clean_guest(result);
}

TEST(Linux612, BootsOnThePlainMachineToo) {
  const Boot result = linux_boot({"--kernel", "debian-6.12", "--platform", "none"});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  EXPECT_TRUE(result.at("/guest/memory_encryption").is_null()) << result;
  EXPECT_GT(result.number("/guest/mem_total_bytes"), k37GiB) << result;
  EXPECT_EQ(result.bytes("/accept/bytes"), 0U);
}

TEST(Linux612, BootsTenTimesWithItsAddressesRandomised) {
  for (int i = 0; i < 10; ++i) {
    SCOPED_TRACE(testing::Message() << "boot " << i);
    const Boot result = linux_boot({"--kernel", "debian-6.12"});
    ACCEDE_SKIP_WITHOUT_KERNEL(result);
    EXPECT_FALSE(result.console_has("nokaslr")) << result;
    expect_sums_to_agree(result);
    expect_a_clean_guest(result);
    if (testing::Test::HasFailure()) {
      return;
    }
  }
}

TEST(Linux612, LeavesAnEventLogThatAccountsForEveryAcceptedByte) {
  const Scratch scratch;
  const std::string file = scratch / "events";
  const Boot result = linux_boot({"--kernel", "debian-6.12", "--events", file});
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  std::ifstream stream{file, std::ios::binary};
  const std::string raw{std::istreambuf_iterator<char>{stream}, std::istreambuf_iterator<char>{}};
  const auto sections = cli::parse_event_file(std::as_bytes(std::span{raw}));
  ASSERT_TRUE(sections.has_value()) << sections.error();
  ASSERT_EQ(sections->size(), 1U);
  std::uint64_t accepted = 0;
  std::uint64_t shared = 0;
  std::vector<std::uint64_t> phases;
  for (const emulator::Event& event : sections->front().events) {
    const std::uint64_t bytes = std::uint64_t{event.pages} * 4096;
    accepted += event.kind == emulator::EventKind::kAccept ? bytes : 0;
    shared += event.kind == emulator::EventKind::kConvertShared ? bytes : 0;
    if (event.kind == emulator::EventKind::kPhase) {
      phases.push_back(event.detail);
    }
  }
  // The log is read at the end, the counters belong to the guest at rest: the guest may have
  // accepted a block between.
  EXPECT_GE(accepted, result.bytes("/accept/bytes"));
  EXPECT_LE(accepted, result.bytes("/accept/bytes") + 16 * kMiB);
  EXPECT_GE(shared, result.bytes("/convert/to_shared_bytes"));
  EXPECT_EQ(result.bytes("/events/dropped"), 0U);
  EXPECT_EQ(phases, (std::vector<std::uint64_t>{1, 2})) << "loader, kernel";
}

}  // namespace
}  // namespace accede::test
