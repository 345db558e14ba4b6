// Page state change lists through the page protocol.
#include "tests/host/ghcb_fixture.hpp"

#include <numeric>

namespace accede::host::test {
namespace {

using Log = std::vector<std::string>;

constexpr std::uint64_t k4K = 4096;
constexpr std::uint64_t k2M = 2ULL << 20;

std::uint64_t small(std::uint64_t gpa, PageOp op = PageOp::kPrivate) {
  return PscEntry::make(PhysAddr{gpa}, PageSize::k4K, op);
}
std::uint64_t large(std::uint64_t gpa, PageOp op = PageOp::kPrivate) {
  return PscEntry::make(PhysAddr{gpa}, PageSize::k2M, op);
}

/// A guest whose list lies at `offset` of the shared buffer.
class ListVm : public GhcbVm {
 public:
  explicit ListVm(std::vector<std::uint64_t> entries = {}, std::uint64_t offset = 0)
      : offset_{offset} {
    put(0, PscHeader::make(0, static_cast<std::uint16_t>(entries.size() - 1)));
    for (std::size_t i = 0; i < entries.size(); ++i) {
      put(i + 1, entries[i]);
    }
  }
  void put(std::size_t word, std::uint64_t value) { std::memcpy(at(word), &value, sizeof(value)); }
  [[nodiscard]] std::uint64_t word(std::size_t index) {
    std::uint64_t value = 0;
    std::memcpy(&value, at(index), sizeof(value));
    return value;
  }
  [[nodiscard]] std::uint64_t cur() { return PscHeader::CurEntry::get(word(0)); }

  PscResult change() {
    ask(ExitCode::kPageStateChange).with(ValidBit::kSwScratch, kScratch + offset_);
    const auto [info1, info2] = answer();
    EXPECT_EQ(info1, 0U);
    return static_cast<PscResult>(info2);
  }

 private:
  std::byte* at(std::size_t word) {
    return reinterpret_cast<std::byte*>(&page()) + 0x800 + offset_ + 8 * word;
  }
  std::uint64_t offset_;
};

TEST(GhcbList, TheWordsAfterwardsAreThoseOfKvm) {
  ListVm vm{{large(0x12200000), small(0x12345000, PageOp::kShared)}};
  EXPECT_EQ(vm.change(), PscResult::kOk);
  EXPECT_EQ(vm.word(0), 0x00010002U);
  EXPECT_EQ(vm.word(1), 0x0110000012200200U);
  EXPECT_EQ(vm.word(2), 0x0020000012345001U);
  EXPECT_EQ(vm.host.log, (Log{"private 2M 12200000-12400000", "shared 4K 12345000-12346000"}));
}

TEST(GhcbList, NeighboursOfOneSizeAndOperationAreOneChange) {
  ListVm vm{{large(k2M), large(2 * k2M), small(3 * k2M), small(3 * k2M + k4K),
             small(3 * k2M + 2 * k4K, PageOp::kShared), small(3 * k2M + 4 * k4K, PageOp::kShared)}};
  EXPECT_EQ(vm.change(), PscResult::kOk);
  EXPECT_EQ(vm.host.log, (Log{"private 2M 200000-600000", "private 4K 600000-602000",
                              "shared 4K 602000-603000", "shared 4K 604000-605000"}));
  EXPECT_EQ(vm.cur(), 6U);
}

TEST(GhcbList, AFullListIsOneChange) {
  std::vector<std::uint64_t> entries;
  for (std::uint64_t i = 0; i < 253; ++i) {
    entries.push_back(large(i * k2M));
  }
  ListVm vm{entries};
  EXPECT_EQ(vm.change(), PscResult::kOk);
  EXPECT_EQ(vm.host.log, Log{"private 2M 0-1fa00000"});
  EXPECT_EQ(vm.cur(), 253U);
  EXPECT_EQ(PscEntry::CurPage::get(vm.word(253)), 512U);
}

TEST(GhcbList, EveryEndBeyondTheLastEntryIsABadHeader) {
  ListVm vm{{small(k4K)}};
  for (unsigned end = 253; end < 0x10000; ++end) {
    const std::uint64_t header = PscHeader::make(0, static_cast<std::uint16_t>(end));
    vm.put(0, header);
    ASSERT_EQ(vm.change(), PscResult::kBadHeader) << end;
    ASSERT_EQ(vm.word(0), header);
    ASSERT_EQ(vm.host.mistakes.at(0).kind, GhcbMistakeKind::kListHeader);
  }
  EXPECT_EQ(vm.word(1), small(k4K));
  EXPECT_TRUE(vm.host.log.empty());
}

TEST(GhcbList, AListFurtherBackInTheBufferHasRoomForLess) {
  for (const std::uint64_t offset : {8ULL, 16ULL, 2016ULL}) {
    const std::uint64_t room = (2032 - 8 - offset) / 8;
    ListVm vm{{small(k4K)}, offset};
    vm.put(0, PscHeader::make(static_cast<std::uint16_t>(room), static_cast<std::uint16_t>(room)));
    EXPECT_EQ(vm.change(), PscResult::kBadHeader) << offset;
    vm.put(0, PscHeader::make(0, 0));
    EXPECT_EQ(vm.change(), PscResult::kOk) << offset;
    EXPECT_EQ(vm.host.log, Log{"private 4K 1000-2000"});
  }
}

TEST(GhcbList, AListWithRoomForTheHeaderOnlyIsABadHeaderAndWithoutItBadScratch) {
  ListVm vm{{small(k4K)}};
  vm.page().shared_buffer[253] = 0;
  vm.ask(ExitCode::kPageStateChange).with(ValidBit::kSwScratch, kGhcb + 0xFE8);
  EXPECT_EQ(vm.answer().second, static_cast<std::uint64_t>(PscResult::kBadHeader));
  vm.ask(ExitCode::kPageStateChange).with(ValidBit::kSwScratch, kGhcb + 0xFE9);
  EXPECT_EQ(vm.answer(), GhcbVm::malformed(MalformedReason::kBadScratch));
}

TEST(GhcbList, AListNeedNotBeAligned) {
  ListVm vm{{large(k2M), small(3 * k2M)}, 3};
  EXPECT_EQ(vm.change(), PscResult::kOk);
  EXPECT_EQ(vm.host.log, (Log{"private 2M 200000-400000", "private 4K 600000-601000"}));
  EXPECT_EQ(vm.word(0), 0x00010002U);
  EXPECT_EQ(vm.word(2), small(3 * k2M) | 1);
}

TEST(GhcbList, AHeaderBehindItsEndHasNothingToDo) {
  ListVm vm{{small(k4K)}};
  for (const std::uint16_t cur : {std::uint16_t{1}, std::uint16_t{253}, std::uint16_t{0xFFFF}}) {
    vm.put(0, PscHeader::make(cur, 0));
    EXPECT_EQ(vm.change(), PscResult::kOk);
    EXPECT_EQ(vm.cur(), cur);
    EXPECT_TRUE(vm.host.log.empty());
  }
}

TEST(GhcbList, ReservedBitsComeBackAsTheyWere) {
  ListVm vm{{small(k4K) | 0xFEULL << 56}};
  vm.put(0, PscHeader::make(0, 0) | 0xABCD'0000'0000'0000);
  EXPECT_EQ(vm.change(), PscResult::kOk);
  EXPECT_EQ(vm.word(0), 0xABCD'0000'0000'0001U);
  EXPECT_EQ(vm.word(1), small(k4K) | 0xFEULL << 56 | 1);
}

TEST(GhcbList, EveryBadEntryStopsTheListThere) {
  std::vector<std::uint64_t> bad{large(k2M) | k4K, large(k2M) + 511 * k4K};
  for (std::uint64_t done = 513; done < 4096; ++done) {
    bad.push_back(large(k2M) | done);
  }
  for (std::uint64_t done = 2; done < 4096; ++done) {
    bad.push_back(small(k2M) | done);
  }
  for (const std::uint64_t entry : bad) {
    ListVm vm{{small(k4K), entry, small(5 * k4K)}};
    ASSERT_EQ(vm.change(), PscResult::kBadEntry) << entry;
    ASSERT_EQ(vm.host.log, Log{"private 4K 1000-2000"});
    ASSERT_EQ(vm.cur(), 1U);
    ASSERT_EQ(vm.word(1), small(k4K) | 1);
    ASSERT_EQ(vm.word(2), entry);
    ASSERT_EQ(vm.host.mistakes.size(), 1U);
    ASSERT_EQ(vm.host.mistakes[0].kind, GhcbMistakeKind::kListEntry);
    ASSERT_EQ(vm.host.mistakes[0].entry, 1U);
    ASSERT_EQ(vm.host.mistakes[0].value, entry);
  }
}

TEST(GhcbList, AnEntryIsCheckedEvenWhenItsOperationDoesNotExist) {
  ListVm vm{{large(k2M, static_cast<PageOp>(9)) | k4K}};
  EXPECT_EQ(vm.change(), PscResult::kBadEntry);
}

TEST(GhcbList, OtherOperationsCountAsDone) {
  for (unsigned op = 0; op < 16; ++op) {
    if (op == 1 || op == 2) {
      continue;
    }
    ListVm vm{{large(k2M, static_cast<PageOp>(op)), small(k4K)}};
    EXPECT_EQ(vm.change(), PscResult::kOk);
    EXPECT_EQ(vm.host.log, Log{"private 4K 1000-2000"});
    EXPECT_EQ(PscEntry::CurPage::get(vm.word(1)), 512U);
    EXPECT_EQ(vm.host.mistakes.size(), op == 3 || op == 4 ? 0U : 1U) << op;
  }
}

TEST(GhcbList, DoneEntriesAreSkipped) {
  ListVm vm{{small(k4K) | 1, large(k2M) | 512, small(2 * k4K)}};
  EXPECT_EQ(vm.change(), PscResult::kOk);
  EXPECT_EQ(vm.host.log, Log{"private 4K 2000-3000"});
  EXPECT_EQ(vm.cur(), 3U);
}

TEST(GhcbList, TheRestOfAPartlyDoneEntryIs4KPages) {
  for (const std::uint64_t done : {1ULL, 255ULL, 511ULL}) {
    ListVm vm{{large(k2M) | done, large(2 * k2M)}};
    EXPECT_EQ(vm.change(), PscResult::kOk);
    EXPECT_EQ(vm.host.log, (Log{text("private 4K ", k2M + done * k4K, "-", 2 * k2M),
                                "private 2M 400000-600000"}));
    EXPECT_EQ(vm.word(1), large(k2M) | 512);
  }
}

TEST(GhcbList, TheRestOfAPartlyDoneEntryIsJoinedByItsSmallNeighbour) {
  ListVm vm{{large(k2M) | 3, small(2 * k2M), small(2 * k2M + k4K)}};
  EXPECT_EQ(vm.change(), PscResult::kOk);
  EXPECT_EQ(vm.host.log, Log{"private 4K 203000-402000"});
}

TEST(GhcbList, APartlyDoneNeighbourIsAChangeOfItsOwn) {
  ListVm vm{{large(k2M), large(2 * k2M) | 5}};
  EXPECT_EQ(vm.change(), PscResult::kOk);
  EXPECT_EQ(vm.host.log, (Log{"private 2M 200000-400000", "private 4K 405000-600000"}));
}

TEST(GhcbList, ARefusalSaysHowFarTheHostCame) {
  ListVm vm{{small(k4K), small(2 * k4K), large(k2M), large(2 * k2M), small(9 * k4K)}};
  vm.host.on_page_state = [](const GhcbPageState& change) {
    return change.size == PageSize::k2M
               ? GhcbPageStateAnswer{.done = PageCount{700}, .refused = true}
               : GhcbPageStateAnswer::all();
  };
  EXPECT_EQ(vm.change(), PscResult::kGeneric);
  EXPECT_EQ(vm.cur(), 3U);
  EXPECT_EQ(vm.word(3), large(k2M) | 512);
  EXPECT_EQ(vm.word(4), large(2 * k2M) | 188);
  EXPECT_EQ(vm.word(5), small(9 * k4K));
}

TEST(GhcbList, ARefusalOfEverythingLeavesTheEntries) {
  ListVm vm{{small(k4K), small(2 * k4K)}};
  vm.host.on_page_state = [](const auto&) { return GhcbPageStateAnswer{.refused = true}; };
  EXPECT_EQ(vm.change(), PscResult::kGeneric);
  EXPECT_EQ(vm.word(0), PscHeader::make(0, 1));
  EXPECT_EQ(vm.word(1), small(k4K));
}

TEST(GhcbList, APauseAtEveryPageIsResumedThere) {
  const std::vector<std::uint64_t> entries{large(k2M), large(2 * k2M), small(3 * k2M),
                                           small(3 * k2M + k4K)};
  constexpr std::uint64_t kAll = 2 * 512 + 2;
  for (std::uint64_t stop = 0; stop < kAll; ++stop) {
    ListVm vm{entries};
    std::vector<std::uint64_t> converted;
    std::uint64_t budget = stop;
    vm.host.on_page_state = [&](const GhcbPageState& change) {
      const std::uint64_t wanted = change.range.size() / 4_KiB;
      const std::uint64_t done = std::min(wanted, budget);
      budget -= done;
      for (std::uint64_t i = 0; i < done; ++i) {
        converted.push_back(change.range.begin().value() + i * k4K);
      }
      return GhcbPageStateAnswer{.done = PageCount{done}};
    };
    ASSERT_EQ(vm.change(), PscResult::kOk);
    ASSERT_EQ(converted.size(), stop);
    const std::uint64_t index = stop < 1024 ? stop / 512 : 2 + (stop - 1024);
    ASSERT_EQ(vm.cur(), index) << stop;
    ASSERT_EQ(PscEntry::CurPage::get(vm.word(1 + index)), stop < 1024 ? stop % 512 : 0) << stop;
    budget = kAll;
    ASSERT_EQ(vm.change(), PscResult::kOk);
    ASSERT_EQ(vm.cur(), 4U);
    ASSERT_EQ(converted.size(), kAll);
    for (std::uint64_t i = 0; i < kAll; ++i) {
      ASSERT_EQ(converted[i], k2M + i * k4K) << stop;
    }
  }
}

TEST(GhcbList, TheListCanBeResumedAtEveryEntry) {
  std::vector<std::uint64_t> entries;
  for (std::uint64_t i = 0; i < 253; ++i) {
    entries.push_back(small(2 * i * k4K));
  }
  for (std::uint16_t first = 0; first < 253; ++first) {
    ListVm vm{entries};
    vm.put(0, PscHeader::make(first, 252));
    ASSERT_EQ(vm.change(), PscResult::kOk);
    ASSERT_EQ(vm.host.log.size(), 253U - first);
    ASSERT_EQ(vm.host.log[0], text("private 4K ", 2 * first * k4K, "-", (2 * first + 1) * k4K));
    ASSERT_EQ(vm.cur(), 253U);
  }
}

TEST(GhcbList, AHostThatClaimsMoreThanWasAskedForDidAll) {
  ListVm vm{{small(k4K), small(5 * k4K)}};
  vm.host.on_page_state = [](const auto&) { return GhcbPageStateAnswer{.done = PageCount{~0ULL}}; };
  EXPECT_EQ(vm.change(), PscResult::kOk);
  EXPECT_EQ(vm.host.log.size(), 2U);
}

TEST(GhcbList, AListThatTheGuestRewritesMeanwhileIsDoneOnceAsItWas) {
  ListVm vm{{small(k4K), small(3 * k4K), small(5 * k4K)}};
  vm.host.on_call = [&vm] {
    vm.put(0, PscHeader::make(0, 252));
    for (std::size_t i = 1; i < 254; ++i) {
      vm.put(i, large(k2M * i, PageOp::kShared));
    }
  };
  EXPECT_EQ(vm.change(), PscResult::kOk);
  EXPECT_EQ(vm.host.log,
            (Log{"private 4K 1000-2000", "private 4K 3000-4000", "private 4K 5000-6000"}));
  EXPECT_EQ(vm.cur(), 3U);
  EXPECT_EQ(vm.word(3), small(5 * k4K) | 1) << "what comes back is what was done";
}

TEST(GhcbList, ThePageAtTheEndOfTheAddressSpaceIsHandedOn) {
  ListVm vm{{large((1ULL << 52) - k2M)}};
  EXPECT_EQ(vm.change(), PscResult::kOk);
  EXPECT_EQ(vm.host.log, Log{"private 2M fffffffe00000-10000000000000"});
}

}  // namespace
}  // namespace accede::host::test
