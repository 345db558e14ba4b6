#include "accede/efi/kernel/fault_report.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace accede::efi::kernel {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr std::uint64_t kPresentWritable = 3;
constexpr std::uint64_t kLarge = 0x80;

std::string text_of(const FaultText& text) {
  return std::string{text.view()};
}

/// A table for the 4 GiB from 4 GiB on; the first 6 MiB are accepted.
class FaultReportTest : public testing::Test {
 protected:
  FaultReportTest() {
    const auto map = guest::MemoryMap::from_regions(regions_);
    EXPECT_TRUE(map);
    const auto layout = guest::UnacceptedTable::plan(*map);
    EXPECT_TRUE(layout && *layout);
    storage_.resize((*layout)->table.value() / 8);
    EXPECT_TRUE(table_.build(*map, **layout, std::as_writable_bytes(std::span{storage_}),
                             PhysAddr{0x1000}, {},
                             [](PhysRange) { return guest::PlatformResult{}; }));
    table_.mark_accepted(*PhysRange::make(PhysAddr{4_GiB .value()}, 6_MiB));
    frame_.rip = 0x7E28'1234;
    frame_.rax = 0xAAAA'1111;
    frame_.r15 = 0xFFFF'5555;
  }

  [[nodiscard]] FaultFacts facts() const {
    return {.frame = frame_,
            .cr0 = 0x80010033,
            .cr2 = cr2_,
            .cr3 = 0x1000,
            .cr4 = 0x668,
            .private_mask = private_mask_,
            .image = *PhysRange::make(PhysAddr{0x7E28'0000}, PhysAddr{0x7E29'0000}),
            .table = &table_,
            .ve = ve_};
  }
  void pending_page(std::uint64_t gpa) {
    frame_.vector = kVirtualizationVector;
    ve_ = abi::tdx::VeInfo{
        .exit_reason = 48, .exit_qualification = 1, .gla = 0, .gpa = gpa, .instruction = 0};
  }
  void not_validated(std::uint64_t address) {
    frame_.vector = kVmmCommunicationVector;
    frame_.error = 0x404;
    cr2_ = address;
  }
  [[nodiscard]] std::string report() {
    std::string text;
    write_fault_report(
        facts(),
        [this](PhysAddr at) {
          const auto found = memory_.find(at.value());
          return found == memory_.end() ? 0 : found->second;
        },
        [&](std::string_view piece) { text += piece; });
    return text;
  }

  std::vector<guest::MemoryRegion> regions_{
      {*PhysRange::make(PhysAddr{4_GiB .value()}, 4_GiB), guest::MemoryKind::kUnaccepted, 0}};
  std::vector<std::uint64_t> storage_;
  guest::UnacceptedTable table_;
  TrapFrame frame_{};
  std::uint64_t cr2_ = 0;
  std::uint64_t private_mask_ = 0;
  std::optional<abi::tdx::VeInfo> ve_;
  std::map<std::uint64_t, std::uint64_t> memory_;
};

TEST(ExceptionName, IsKnownForEveryVectorThatHasOne) {
  EXPECT_EQ(exception_name(0), "#DE divide error");
  EXPECT_EQ(exception_name(8), "#DF double fault");
  EXPECT_EQ(exception_name(14), "#PF page fault");
  EXPECT_EQ(exception_name(20), "#VE virtualization exception");
  EXPECT_EQ(exception_name(15), "reserved exception");
  EXPECT_EQ(exception_name(32), "reserved exception");
  EXPECT_EQ(exception_name(~0ULL), "reserved exception");
}

TEST(ErrorCode, OfAPageFaultIsSpelledOut) {
  EXPECT_EQ(text_of(describe_error(14, 0)), "read, not present, supervisor");
  EXPECT_EQ(text_of(describe_error(14, 0b00011)), "write, present, supervisor");
  EXPECT_EQ(text_of(describe_error(14, 0b10001)), "fetch, present, supervisor");
  EXPECT_EQ(text_of(describe_error(14, 0b00110)), "write, not present, user");
  EXPECT_EQ(text_of(describe_error(14, 0b01001)), "read, present, supervisor, reserved bit set");
}

TEST(ErrorCode, OfASegmentNamesItsTable) {
  EXPECT_EQ(text_of(describe_error(13, 0x10)), "selector 0x10 of the GDT");
  EXPECT_EQ(text_of(describe_error(13, 0x102)), "selector 0x100 of the IDT");
  EXPECT_EQ(text_of(describe_error(11, 0x15)), "selector 0x10 of the LDT, external event");
}

TEST(ErrorCode, OfAVmmCommunicationNamesTheExit) {
  EXPECT_EQ(text_of(describe_error(29, 0x404)), "memory not validated");
  EXPECT_EQ(text_of(describe_error(29, 0x72)), "CPUID (exit code 0x72)");
  EXPECT_EQ(text_of(describe_error(29, 0x7B)), "IOIO (exit code 0x7b)");
  EXPECT_EQ(text_of(describe_error(29, 0x400)), "MMIO (exit code 0x400)");
  EXPECT_EQ(text_of(describe_error(29, 0x403)), "unknown (exit code 0x403)");
}

TEST(ErrorCode, SaysNothingWhereThereIsNone) {
  EXPECT_EQ(text_of(describe_error(13, 0)), "");
  EXPECT_EQ(text_of(describe_error(6, 0)), "");
}

TEST(PageTableWalk, GoesDownToA4KibPage) {
  const std::map<std::uint64_t, std::uint64_t> memory{
      {0x1000, 0x2000 | kPresentWritable},
      {0x2000 + 8, 0x3000 | kPresentWritable},
      {0x3000 + 2 * 8, 0x4000 | kPresentWritable},
      {0x4000 + 3 * 8, 0x55'5000 | kPresentWritable | kLarge}};  // there the bit is PAT
  const std::uint64_t address = (1ULL << 30) + 2 * 0x20'0000 + 3 * 0x1000 + 0x123;
  const PageWalk walk =
      walk_page_tables(0x1018, address, 0, [&](PhysAddr at) { return memory.at(at.value()); });
  EXPECT_EQ(walk.count, 4U);
  EXPECT_EQ(walk.target, PhysAddr{0x55'5123});
}

TEST(PageTableWalk, EndsAtALargePage) {
  const std::map<std::uint64_t, std::uint64_t> memory{
      {0x1000, 0x2000 | kPresentWritable}, {0x2000 + 8, (3ULL << 30) | kPresentWritable | kLarge}};
  const PageWalk walk = walk_page_tables(0x1000, (1ULL << 30) + 0x1234'5678, 0,
                                         [&](PhysAddr at) { return memory.at(at.value()); });
  EXPECT_EQ(walk.count, 2U);
  EXPECT_EQ(walk.target, PhysAddr{(3ULL << 30) + 0x1234'5678});
}

TEST(PageTableWalk, EndsAtTheFirstAbsentEntry) {
  const PageWalk walk = walk_page_tables(0x1000, 0x1234, 0, [](PhysAddr) { return 0ULL; });
  EXPECT_EQ(walk.count, 1U);
  EXPECT_EQ(walk.steps[0].level, 4U);
  EXPECT_FALSE(walk.target);
}

TEST(PageTableWalk, ReadsNothingForAnAddressThatIsNotCanonical) {
  unsigned reads = 0;
  const auto count_reads = [&](PhysAddr) {
    ++reads;
    return 0ULL;
  };
  EXPECT_EQ(walk_page_tables(0x1000, 1ULL << 63, 0, count_reads).count, 0U);
  EXPECT_EQ(reads, 0U);
}

TEST(PageTableWalk, LeavesTheEncryptionBitOut) {
  constexpr std::uint64_t kMask = 1ULL << 51;
  const std::map<std::uint64_t, std::uint64_t> memory{{0x1000, kMask | 0x2000 | kPresentWritable},
                                                      {0x2000, kMask | kPresentWritable | kLarge}};
  const PageWalk walk = walk_page_tables(0x1000 | kMask, 0x42, kMask,
                                         [&](PhysAddr at) { return memory.at(at.value()); });
  EXPECT_EQ(walk.target, PhysAddr{0x42});
}

TEST_F(FaultReportTest, TellsThePageState) {
  EXPECT_EQ(text_of(describe_page(&table_, PhysAddr{4_GiB .value()})),
            "accepted (unit 0 of 2048 KiB)");
  EXPECT_EQ(text_of(describe_page(&table_, PhysAddr{4_GiB .value()} + 6_MiB)),
            "unaccepted (unit 3 of 2048 KiB)");
  EXPECT_EQ(text_of(describe_page(&table_, PhysAddr{0x1000})),
            "outside the unaccepted table (it covers 0x100000000 to 0x200000000)");
  EXPECT_EQ(text_of(describe_page(&table_, PhysAddr{~0ULL})),
            "outside the unaccepted table (it covers 0x100000000 to 0x200000000)");
}

TEST_F(FaultReportTest, SaysWhenThereIsNoTable) {
  const guest::UnacceptedTable empty;
  EXPECT_EQ(text_of(describe_page(nullptr, PhysAddr{0})), "no table says whether it is accepted");
  EXPECT_EQ(text_of(describe_page(&empty, PhysAddr{0})), "no table says whether it is accepted");
}

TEST_F(FaultReportTest, NamesATouchOfUnacceptedMemory) {
  pending_page(0x1'4000'2000);
  EXPECT_EQ(text_of(fault_message(facts())),
            "touched unaccepted memory at GPA 0x140002000 at RIP 0x7e281234 (image + 0x1234)");
  EXPECT_THAT(report(), HasSubstr("page at 0x140002000: unaccepted (unit 512 of 2048 KiB)\n"));
}

TEST_F(FaultReportTest, DoesNotBlameTheKernelForAPageThatItAccepted) {
  pending_page(0x1'0000'2000);
  EXPECT_EQ(text_of(fault_message(facts())),
            "EPT violation at GPA 0x100002000, accepted (unit 0 of 2048 KiB) at RIP 0x7e281234 "
            "(image + 0x1234)");
}

TEST_F(FaultReportTest, NamesTheInstructionBehindAnotherVe) {
  pending_page(0);
  ve_->exit_reason = 10;
  EXPECT_EQ(text_of(fault_message(facts())), "#VE for CPUID at RIP 0x7e281234 (image + 0x1234)");
  EXPECT_THAT(report(), Not(HasSubstr("page at")));
}

TEST_F(FaultReportTest, NamesATouchOfMemoryThatIsNotValidated) {
  not_validated(0x1'4000'2000);
  EXPECT_EQ(text_of(fault_message(facts())),
            "touched unaccepted memory at GPA 0x140002000 at RIP 0x7e281234 (image + 0x1234)");
  const std::string text = report();
  EXPECT_THAT(text, HasSubstr("accede-guest: #VC VMM communication: memory not validated\n"));
  EXPECT_THAT(text, HasSubstr("page at 0x140002000: unaccepted (unit 512 of 2048 KiB)\n"));
}

TEST_F(FaultReportTest, SaysWhenMemoryThatWasAcceptedIsNotValidated) {
  not_validated(0x1'0000'2000);
  EXPECT_EQ(text_of(fault_message(facts())),
            "touched memory that is not validated at GPA 0x100002000, accepted (unit 0 of 2048 "
            "KiB) at RIP 0x7e281234 (image + 0x1234)");
}

TEST_F(FaultReportTest, NamesTheExitBehindAnotherVc) {
  not_validated(0x1'4000'2000);
  frame_.error = 0x72;
  EXPECT_EQ(text_of(fault_message(facts())),
            "#VC for CPUID (exit code 0x72) at RIP 0x7e281234 (image + 0x1234)");
  EXPECT_THAT(report(), Not(HasSubstr("page at")));
}

TEST_F(FaultReportTest, ShowsWhichPagesOfAWalkArePrivate) {
  private_mask_ = 1ULL << 47;
  not_validated(0x1'4000'2000);
  memory_ = {{0x1000, 0x2000 | private_mask_ | kPresentWritable},
             {0x2000 + 5 * 8, (5ULL << 30) | kPresentWritable | kLarge}};
  EXPECT_THAT(report(),
              HasSubstr("    PML4 [0] 0x0000800000002003 writable, executable, private\n"
                        "    PDPT [5] 0x0000000140000083 writable, executable, shared\n"));
}

TEST_F(FaultReportTest, SaysWhenTheModuleTellsNothing) {
  frame_.vector = kVirtualizationVector;
  EXPECT_THAT(report(), HasSubstr("#VE without information from the TDX module\n"));
}

TEST_F(FaultReportTest, ShowsTheWalkOfAPageFault) {
  frame_.vector = kPageFaultVector;
  frame_.error = 2;
  cr2_ = 8;
  memory_ = {{0x1000, 0x2000 | kPresentWritable}, {0x2000, 0}};
  EXPECT_EQ(
      text_of(fault_message(facts())),
      "#PF write, not present, supervisor, at address 0x8 at RIP 0x7e281234 (image + 0x1234)");
  const std::string text = report();
  EXPECT_THAT(text, HasSubstr("accede-guest: #PF page fault: write, not present, supervisor\n"));
  EXPECT_THAT(text, HasSubstr("    PML4 [0] 0x0000000000002003 writable, executable\n"
                              "    PDPT [0] 0x0000000000000000 not present\n"));
  EXPECT_THAT(text, HasSubstr("page at 0x8: outside the unaccepted table"));
}

TEST_F(FaultReportTest, ShowsRegistersAndDoesNotClaimAnImageForARipElsewhere) {
  frame_.vector = 6;
  frame_.rip = 0x10;
  EXPECT_EQ(text_of(fault_message(facts())), "#UD invalid opcode at RIP 0x10");
  const std::string text = report();
  EXPECT_THAT(text, HasSubstr("rax 0x00000000aaaa1111"));
  EXPECT_THAT(text, HasSubstr("r15 0x00000000ffff5555"));
  EXPECT_THAT(text, HasSubstr("cr4 0x0000000000000668"));
  EXPECT_THAT(text, Not(HasSubstr("page tables")));
}

}  // namespace
}  // namespace accede::efi::kernel
