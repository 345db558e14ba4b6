#include "accede/guest/table_carrier.hpp"

#include "accede/abi/linux_unaccepted.hpp"
#include "accede/abi/setup_data.hpp"
#include "tests/guest/early_fixture.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <string_view>
#include <vector>

namespace accede::guest {
namespace {

using test::MapAndTable;
using test::pa;
using test::range_of;
using test::TestRam;
using testing::Eq;
using testing::Optional;

namespace setup = abi::setup_data;

constexpr TablePlace kOld{.table = PhysAddr{0x10008}, .bound = 64_B};
constexpr TablePlace kNew{.table = PhysAddr{0x20010}, .bound = 4_KiB};

/// 4 MiB of which the second MiB may be read, and a page apart.
class TableCarrierTest : public testing::Test {
 protected:
  static constexpr PhysAddr kHead{0x100000};

  template <class T>
  void put(PhysAddr at, const T& value) {
    std::memcpy(ram.bytes(*PhysRange::make(at, Bytes{sizeof(T)})).data(), &value, sizeof(T));
  }
  void put_node(PhysAddr at, PhysAddr next, std::uint32_t type, std::uint32_t bytes) {
    put(at, setup::Header{.next = next.value(), .type = type, .bytes = bytes});
  }
  std::span<std::byte> bytes(PhysAddr at, std::size_t size) {
    return ram.bytes(*PhysRange::make(at, Bytes{size}));
  }
  /// Our node at `at` before `next`, naming a table that may be read.
  void put_our_node(PhysAddr at, PhysAddr next, TablePlace place = kReadableTable) {
    ASSERT_TRUE(publish_in_setup_data(bytes(at, kSetupDataNodeBytes), next, place));
  }

  static constexpr TablePlace kReadableTable{.table = PhysAddr{0x180008}, .bound = 512_B};

  TestRam ram{4_MiB};
  std::array<PhysRange, 2> ranges{range_of(3_MiB, 3_MiB + 4_KiB), range_of(1_MiB, 2_MiB)};
  ReadableMemory memory{.window = ram.window(), .ranges = ranges};
  alignas(8) std::array<std::byte, kEfiEntryBytes * 4> slots{};
  alignas(8) std::array<std::byte, sizeof(HandOver)> object{};
};

CarrierErrorKind kind_of(const FindResult& result) {
  return result.error().kind;
}

// --- EFI ---

TEST_F(TableCarrierTest, EfiFindsWhatWasPublishedBehindOtherEntries) {
  std::fill(slots.begin(), slots.begin() + kEfiEntryBytes, std::byte{0xAB});
  ASSERT_EQ(publish_in_efi(slots, 1, PhysAddr{0x180008}), 2U);
  EXPECT_THAT(find_in_efi(std::span{slots}.first(kEfiEntryBytes), memory).value(),
              Eq(std::nullopt));
  const auto found = find_in_efi(std::span{slots}.first(2 * kEfiEntryBytes), memory);
  EXPECT_THAT(found.value(),
              Optional(TablePlace{.table = PhysAddr{0x180008}, .bound = 1_MiB - 0x80008_B}));
}

TEST_F(TableCarrierTest, EfiUsesTheGuidThatLinuxLooksFor) {
  ASSERT_EQ(publish_in_efi(slots, 0, PhysAddr{0x180008}), 1U);
  EXPECT_EQ(std::memcmp(slots.data(), abi::linux_unaccepted::kTableGuidBytes.data(), 16), 0);
  EXPECT_EQ(std::memcmp(slots.data() + 16, "\x08\x00\x18\x00\x00\x00\x00\x00", 8), 0);
}

TEST_F(TableCarrierTest, EfiPublishingAgainReplacesTheEntry) {
  ASSERT_EQ(publish_in_efi(slots, 0, PhysAddr{0x180008}), 1U);
  ASSERT_EQ(publish_in_efi(slots, 1, PhysAddr{0x190008}), 1U);
  EXPECT_EQ(find_in_efi(std::span{slots}.first(kEfiEntryBytes), memory).value()->table,
            PhysAddr{0x190008});
}

TEST_F(TableCarrierTest, EfiNamesWhatIsWrongWithTheArray) {
  using enum CarrierErrorKind;
  EXPECT_EQ(publish_in_efi(slots, 4, PhysAddr{8}).error(),
            (CarrierError{.kind = kNoFreeSlot, .offset = 4 * kEfiEntryBytes}));
  EXPECT_EQ(publish_in_efi(slots, 5, PhysAddr{8}).error().kind, kTruncated);
  EXPECT_EQ(publish_in_efi(slots, 0, PhysAddr{0}).error().kind, kBadTable);
  EXPECT_EQ(publish_in_efi(slots, 0, PhysAddr{4}).error().kind, kBadTable);
  EXPECT_EQ(publish_in_efi(std::span{slots}.subspan(4), 0, PhysAddr{8}).error().kind, kUnaligned);
  EXPECT_EQ(find_in_efi(std::span{slots}.first(25), memory).error(),
            (CarrierError{.kind = kTruncated, .offset = kEfiEntryBytes}));
  ASSERT_TRUE(publish_in_efi(slots, 0, PhysAddr{0x180008}));
  std::copy_n(slots.begin(), kEfiEntryBytes, slots.begin() + 2 * kEfiEntryBytes);
  EXPECT_EQ(find_in_efi(slots, memory).error(),
            (CarrierError{.kind = kDuplicate, .offset = 2 * kEfiEntryBytes}));
  EXPECT_EQ(publish_in_efi(slots, 3, PhysAddr{8}).error().kind, kDuplicate);
}

TEST_F(TableCarrierTest, EfiNamesAPointerThatLeadsNowhere) {
  using enum CarrierErrorKind;
  for (const auto& [pointer, kind] : {std::pair{PhysAddr{0xFFF8}, kNotReadable},
                                      {PhysAddr{0x1FFFF0}, kNotReadable},
                                      {PhysAddr{0x200000}, kNotReadable},
                                      {PhysAddr{0xFFFFFFFFFFFFFFF8}, kNotReadable}}) {
    slots = {};
    ASSERT_TRUE(publish_in_efi(slots, 0, pointer));
    EXPECT_EQ(find_in_efi(slots, memory).error(), (CarrierError{.kind = kind, .offset = 16}));
  }
  slots[16] = std::byte{1};
  EXPECT_EQ(find_in_efi(slots, memory).error(), (CarrierError{.kind = kBadTable, .offset = 16}));
  std::fill(slots.begin() + 16, slots.begin() + 24, std::byte{0});
  EXPECT_EQ(kind_of(find_in_efi(slots, memory)), kBadTable);
}

// --- HandOver ---

TEST_F(TableCarrierTest, HandOverRoundTrips) {
  ASSERT_TRUE(publish_hand_over(object, kNew));
  EXPECT_EQ(parse_hand_over(object), kNew);
  EXPECT_EQ(std::memcmp(object.data(), "ACCEDEHO", 8), 0);
}

TEST_F(TableCarrierTest, HandOverMayBeLongerAndMoreBytesMayFollow) {
  ASSERT_TRUE(publish_hand_over(bytes(kHead, 64), kReadableTable));
  EXPECT_EQ(find_in_hand_over(kHead, memory), kReadableTable);
  const PhysAddr last{0x200000 - sizeof(HandOver)};
  ASSERT_TRUE(publish_hand_over(bytes(last, sizeof(HandOver)), kReadableTable));
  EXPECT_EQ(find_in_hand_over(last, memory), kReadableTable);
}

TEST_F(TableCarrierTest, HandOverSeesEveryFlippedBit) {
  for (std::size_t bit = 0; bit < object.size() * 8; ++bit) {
    ASSERT_TRUE(publish_hand_over(object, kNew));
    object[bit / 8] ^= std::byte{1} << (bit % 8);
    EXPECT_FALSE(parse_hand_over(object)) << bit;
  }
}

TEST_F(TableCarrierTest, HandOverNamesWhatIsWrong) {
  using enum CarrierErrorKind;
  const auto error_with = [&](std::size_t offset, std::uint32_t value) {
    EXPECT_TRUE(publish_hand_over(object, kNew));
    std::memcpy(object.data() + offset, &value, sizeof(value));
    return parse_hand_over(object).error();
  };
  EXPECT_EQ(error_with(4, 0), (CarrierError{.kind = kBadMagic, .offset = 0}));
  EXPECT_EQ(error_with(8, 2), (CarrierError{.kind = kBadVersion, .offset = 8}));
  EXPECT_EQ(error_with(12, 39), (CarrierError{.kind = kBadLength, .offset = 12}));
  EXPECT_EQ(error_with(12, 41), (CarrierError{.kind = kBadLength, .offset = 12}));
  EXPECT_EQ(error_with(12, ~0U), (CarrierError{.kind = kBadLength, .offset = 12}));
  EXPECT_EQ(error_with(16, 8), (CarrierError{.kind = kBadChecksum, .offset = 32}));
  EXPECT_EQ(parse_hand_over(std::span{object}.first(39)).error(),
            (CarrierError{.kind = kTruncated, .offset = 0}));
}

TEST_F(TableCarrierTest, HandOverIsNotWrittenForAnImpossibleTable) {
  using enum CarrierErrorKind;
  const auto error_of = [&](PhysAddr table, Bytes bound) {
    return publish_hand_over(object, {.table = table, .bound = bound}).error();
  };
  EXPECT_EQ(error_of(PhysAddr{0}, 64_B), (CarrierError{.kind = kBadTable, .offset = 16}));
  EXPECT_EQ(error_of(PhysAddr{4}, 64_B), (CarrierError{.kind = kBadTable, .offset = 16}));
  EXPECT_EQ(error_of(PhysAddr{8}, 23_B), (CarrierError{.kind = kBadTable, .offset = 24}));
  EXPECT_EQ(error_of(PhysAddr{0xFFFFFFFFFFFFFFF8}, 64_B),
            (CarrierError{.kind = kWraps, .offset = 24}));
  EXPECT_EQ(publish_hand_over(std::span{object}.first(32), kNew).error().kind, kTruncated);
  std::array<std::byte, 64> big{};
  const std::size_t odd = reinterpret_cast<std::uintptr_t>(big.data()) % 8 == 0 ? 4 : 0;
  EXPECT_EQ(publish_hand_over(std::span{big}.subspan(odd, 48), kNew).error().kind, kUnaligned);
  EXPECT_TRUE(std::ranges::all_of(object, [](std::byte b) { return b == std::byte{0}; }));
}

TEST_F(TableCarrierTest, HandOverOutsideReadableMemoryIsNotRead) {
  using enum CarrierErrorKind;
  for (const PhysAddr where : {PhysAddr{0}, PhysAddr{0x200000}, PhysAddr{~std::uint64_t{0}}}) {
    EXPECT_EQ(find_in_hand_over(where, memory).error(),
              (CarrierError{.kind = kNotReadable, .offset = 0, .at = where}));
  }
  EXPECT_EQ(find_in_hand_over(PhysAddr{0x200000 - 8}, memory).error().kind, kTruncated);
  for (const TablePlace place : {kOld, TablePlace{.table = PhysAddr{0x180008}, .bound = 1_MiB}}) {
    ASSERT_TRUE(publish_hand_over(bytes(kHead, 40), place));
    EXPECT_EQ(find_in_hand_over(kHead, memory).error(),
              (CarrierError{.kind = kNotReadable, .offset = 16, .at = kHead + 16_B}));
  }
}

// --- setup_data ---

TEST_F(TableCarrierTest, SetupDataFindsOurNodeAnywhereInTheChain) {
  const PhysAddr second = kHead + 0x1234_B;  // nodes of others need no alignment
  const PhysAddr third{0x300000};
  put_node(kHead, second, 1, 20);
  put_node(second, third, 0x80000001, 8);
  put_our_node(third, PhysAddr{0});
  EXPECT_THAT(find_in_setup_data(kHead, memory).value(), Optional(kReadableTable));
  put_node(second, PhysAddr{0}, 9, 0);
  EXPECT_THAT(find_in_setup_data(kHead, memory).value(), Eq(std::nullopt));
  EXPECT_THAT(find_in_setup_data(PhysAddr{0}, memory).value(), Eq(std::nullopt));
}

TEST_F(TableCarrierTest, SetupDataTypeIsNotOneOfLinuxs) {
  const auto ours = static_cast<std::uint32_t>(setup::Type::kAccede);
  EXPECT_GT(ours, 0xFFFFU);
  EXPECT_EQ(ours >> 31, 0U);
  EXPECT_EQ(std::memcmp(&ours, "ACCD", 4), 0);
}

TEST_F(TableCarrierTest, SetupDataEndsAtEveryKindOfLoop) {
  for (unsigned length = 1; length <= 40; ++length) {
    for (unsigned back_to = 0; back_to < length; ++back_to) {
      for (unsigned i = 0; i < length; ++i) {
        put_node(kHead + 16_B * i, kHead + 16_B * (i + 1 == length ? back_to : i + 1), 1, 0);
      }
      EXPECT_EQ(kind_of(find_in_setup_data(kHead, memory)), CarrierErrorKind::kLoop);
    }
  }
}

TEST_F(TableCarrierTest, SetupDataLoopThroughOurNodeIsALoop) {
  put_our_node(kHead, kHead + 64_B);
  put_node(kHead + 64_B, kHead, 1, 0);
  EXPECT_EQ(kind_of(find_in_setup_data(kHead, memory)), CarrierErrorKind::kLoop);
}

TEST_F(TableCarrierTest, SetupDataChainsAreBounded) {
  for (unsigned i = 0; i < kMostSetupDataNodes; ++i) {
    put_node(kHead + 16_B * i, kHead + 16_B * (i + 1), 1, 0);
  }
  const PhysAddr end = kHead + 16_B * kMostSetupDataNodes;
  put_node(end, PhysAddr{0}, 1, 0);
  EXPECT_EQ(find_in_setup_data(kHead, memory).error(),
            (CarrierError{.kind = CarrierErrorKind::kTooLong, .offset = 0, .at = end}));
  EXPECT_TRUE(find_in_setup_data(kHead + 16_B, memory));
}

TEST_F(TableCarrierTest, SetupDataNamesTheNodeThatLeadsOutOfMemory) {
  using enum CarrierErrorKind;
  const PhysAddr wild{~std::uint64_t{0} - 3};
  for (const auto& [next, kind] : {std::pair{PhysAddr{0x200000}, kNotReadable},
                                   {PhysAddr{0x1FFFF8}, kNotReadable},
                                   {PhysAddr{1}, kNotReadable},
                                   {wild, kWraps}}) {
    put_node(kHead, next, 1, 0);
    EXPECT_EQ(find_in_setup_data(kHead, memory).error(),
              (CarrierError{.kind = kind, .offset = 0, .at = next}));
  }
  put_node(kHead, PhysAddr{0}, 1, 0xFFFFFFFF);
  EXPECT_EQ(find_in_setup_data(kHead, memory).error(),
            (CarrierError{.kind = kNotReadable, .offset = 12, .at = kHead + 12_B}));
  put_node(kHead, PhysAddr{0}, 1, 0xFFFF1);
  EXPECT_EQ(kind_of(find_in_setup_data(kHead, memory)), kNotReadable);
  put_node(kHead, PhysAddr{0}, 1, 0xFFFF0);
  EXPECT_TRUE(find_in_setup_data(kHead, memory));
}

TEST_F(TableCarrierTest, SetupDataLengthThatWrapsTheAddressSpaceIsAnError) {
  // The last page of the address space, mapped to the first of the buffer.
  const PhysAddr top{0xFFFFFFFFFFFFF000};
  const PhysRange readable = *PhysRange::make(top, 0xFFF_B);
  const ReadableMemory at_top{
      .window =
          PhysWindow{reinterpret_cast<std::uintptr_t>(ram.bytes(range_of(0_B, 4_KiB)).data()) -
                     top.value()},
      .ranges = {&readable, 1}};
  put_node(PhysAddr{0x800}, PhysAddr{0}, 1, 0x1000);
  EXPECT_EQ(find_in_setup_data(top + 0x800_B, at_top).error(),
            (CarrierError{.kind = CarrierErrorKind::kWraps, .offset = 12, .at = top + 0x80C_B}));
}

TEST_F(TableCarrierTest, SetupDataNamesADamagedNodeOfOurs) {
  using enum CarrierErrorKind;
  put_our_node(kHead, PhysAddr{0});
  put(kHead + 40_B, ~std::uint64_t{0});
  EXPECT_EQ(find_in_setup_data(kHead, memory).error(),
            (CarrierError{.kind = kBadChecksum, .offset = 48, .at = kHead + 48_B}));
  put_our_node(kHead, PhysAddr{0}, kOld);
  EXPECT_EQ(find_in_setup_data(kHead, memory).error(),
            (CarrierError{.kind = kNotReadable, .offset = 32, .at = kHead + 32_B}));
  put_our_node(kHead, PhysAddr{0});
  put(kHead + 12_B, std::uint32_t{39});
  EXPECT_EQ(kind_of(find_in_setup_data(kHead, memory)), kTruncated);
  put_our_node(kHead, kHead + 128_B);
  put_our_node(kHead + 128_B, PhysAddr{0});
  EXPECT_EQ(find_in_setup_data(kHead, memory).error(),
            (CarrierError{.kind = kDuplicate, .offset = 8, .at = kHead + 136_B}));
}

TEST_F(TableCarrierTest, SetupDataNodeNeedsRoomAndAlignment) {
  using enum CarrierErrorKind;
  EXPECT_EQ(publish_in_setup_data(bytes(kHead, 55), PhysAddr{0}, kNew).error().kind, kTruncated);
  EXPECT_EQ(publish_in_setup_data(bytes(kHead + 4_B, 64), PhysAddr{0}, kNew).error().kind,
            kUnaligned);
  EXPECT_EQ(publish_in_setup_data(bytes(kHead, 56), PhysAddr{0}, {}).error().kind, kBadTable);
}

// --- Every intermediate state ---

/// Memory that shows itself to a reader before the first store and after each.
template <class Look>
class RecordingMemory {
 public:
  RecordingMemory(std::span<std::byte> memory, Look look) : memory_{memory}, look_{look} {
    look_();
  }

  void operator()(std::size_t offset, std::uint64_t word) {
    std::memcpy(memory_.subspan(offset, 8).data(), &word, 8);
    ++stores;
    look_();
  }

  unsigned stores = 0;

 private:
  std::span<std::byte> memory_;
  Look look_;
};

TEST_F(TableCarrierTest, History_AReaderOfTheHandOverFindsTheOldTableNothingOrTheNewOne) {
  ASSERT_TRUE(publish_hand_over(object, kOld));
  std::vector<std::optional<TablePlace>> seen;
  RecordingMemory recorder{std::span{object}, [&] {
                             const auto place = parse_hand_over(object);
                             seen.push_back(place ? std::optional{*place} : std::nullopt);
                           }};
  ASSERT_TRUE(publish_hand_over(object.size(), kNew, recorder));
  ASSERT_EQ(seen.size(), recorder.stores + 1);
  EXPECT_EQ(seen.front(), kOld);
  EXPECT_EQ(seen.back(), kNew);
  EXPECT_TRUE(std::all_of(seen.begin() + 1, seen.end() - 1, [](auto place) { return !place; }));
}

TEST_F(TableCarrierTest, History_AReaderOfTheArrayFindsTheTableOrNothing) {
  // Whatever lay in the free slot before, and whether the reader has the old count or the new one.
  for (const std::byte old : {std::byte{0}, std::byte{0xFF}, std::byte{0x3C}}) {
    std::fill(slots.begin(), slots.end(), old);
    const auto look = [&] {
      EXPECT_THAT(find_in_efi(std::span{slots}.first(kEfiEntryBytes), memory).value(),
                  Eq(std::nullopt));
      const auto later = find_in_efi(std::span{slots}.first(2 * kEfiEntryBytes), memory);
      ASSERT_TRUE(later);
      EXPECT_TRUE(!*later || (*later)->table == PhysAddr{0x180008});
    };
    RecordingMemory recorder{std::span{slots}, look};
    EXPECT_EQ(publish_in_efi(slots, 1, PhysAddr{0x180008}, recorder), 2U);
    EXPECT_EQ(recorder.stores, 3U);
  }
}

TEST_F(TableCarrierTest, History_ReplacingTheEntryIsOneStore) {
  ASSERT_TRUE(publish_in_efi(slots, 0, PhysAddr{0x180008}));
  RecordingMemory recorder{std::span{slots}, [] {}};
  EXPECT_EQ(publish_in_efi(slots, 1, PhysAddr{0x190008}, recorder), 1U);
  EXPECT_EQ(recorder.stores, 1U);
}

TEST_F(TableCarrierTest, History_TheChainIsWholeWhileANodeIsPutBeforeIt) {
  put_node(kHead, PhysAddr{0}, 9, 16);
  const PhysAddr ours = kHead + 256_B;
  PhysAddr head = kHead;
  const auto look = [&] {
    EXPECT_THAT(find_in_setup_data(head, memory).value(), Eq(std::nullopt));
  };
  RecordingMemory recorder{bytes(ours, kSetupDataNodeBytes), look};
  ASSERT_TRUE(publish_in_setup_data(kSetupDataNodeBytes, kHead, kReadableTable, recorder));
  head = ours;  // one store
  EXPECT_THAT(find_in_setup_data(head, memory).value(), Optional(kReadableTable));
  put_node(kHead, PhysAddr{8}, 9, 16);
  EXPECT_EQ(find_in_setup_data(head, memory).error().at, PhysAddr{8}) << "the old chain follows";
}

// --- Attaching ---

TEST_F(TableCarrierTest, WhatWasFoundAttaches) {
  MapAndTable machine{{{.range = range_of(16_MiB, 64_MiB), .kind = MemoryKind::kUnaccepted}},
                      ram,
                      kReadableTable.table};
  ASSERT_TRUE(publish_in_efi(slots, 0, machine.table.where()));
  ASSERT_TRUE(publish_hand_over(object, place_of(machine.table)));
  for (const TablePlace place :
       {find_in_efi(slots, memory).value().value(), parse_hand_over(object).value()}) {
    UnacceptedTable next;
    ASSERT_TRUE(attach(next, place, ram.window(), {}));
    EXPECT_EQ(next.unaccepted(), 48_MiB);
    EXPECT_EQ(next.where(), kReadableTable.table);
  }
  UnacceptedTable next;
  put(kReadableTable.table, std::uint32_t{2});
  EXPECT_EQ(attach(next, place_of(machine.table), ram.window(), {}).error().kind,
            TableErrorKind::kMalformed);
}

TEST(CarrierErrorText, EveryErrorHasOneLine) {
  std::set<std::string_view> texts;
  for (unsigned kind = 0; kind <= static_cast<unsigned>(CarrierErrorKind::kBadTable); ++kind) {
    const auto text = to_string(static_cast<CarrierErrorKind>(kind));
    EXPECT_EQ(text.find('\n'), std::string_view::npos);
    texts.insert(text);
  }
  EXPECT_EQ(texts.size(), static_cast<std::size_t>(CarrierErrorKind::kBadTable) + 1);
  EXPECT_FALSE(texts.contains(to_string(static_cast<CarrierErrorKind>(99))));
}

}  // namespace
}  // namespace accede::guest
