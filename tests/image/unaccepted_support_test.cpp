#include "accede/image/unaccepted_support.hpp"
#include "tests/image/made_up_kernel.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>

namespace accede::image {
namespace {

using namespace test;

TEST(UnacceptedSupport, KernelThatAcceptsAndSaysSo) {
  expect_verdict(new_kernel().file(), Knows::kYes, Knows::kYes);
}

TEST(UnacceptedSupport, KernelThatAcceptsNothing) {
  expect_verdict(old_kernel().file(), Knows::kNo, Knows::kNo);
}

TEST(UnacceptedSupport, KernelThatAcceptsWithoutTheHandshake) {
  MadeUpImage image = old_kernel();
  add_acceptance(image);
  expect_verdict(image.file(), Knows::kYes, Knows::kNo);
}

TEST(UnacceptedSupport, TellsWhereTheSignalsAre) {
  const UnacceptedSupport support = find_unaccepted_support(new_kernel().file());
  EXPECT_EQ(support.table_guid, kTableGuidAt);
  EXPECT_EQ(support.handshake_guid, kHandshakeGuidAt);
  EXPECT_EQ(support.table_reader, kTextsAt + 2 * kTextsApart);
  EXPECT_EQ(support.acceptor, kTextsAt + 3 * kTextsApart);
  EXPECT_EQ(support.tdx_accept, kTextsAt + 4 * kTextsApart);
  EXPECT_EQ(support.table_builder, kTextsAt + 5 * kTextsApart + kBuilder.find("Failed"));
  EXPECT_EQ(support.handshake_text, kTextsAt + 6 * kTextsApart + kHandshake.find("Memory"));
  EXPECT_EQ(support.sev_snp, kTextsAt + 11 * kTextsApart + kSnp.find("SEV-SNP"));
}

TEST(UnacceptedSupport, TellsTheFirstPlaceOfASignal) {
  MadeUpImage image = new_kernel();
  image.put(kFree, kReader);
  image.put(kFree + 0x100, kTableGuid);
  const UnacceptedSupport support = find_unaccepted_support(image.file());
  EXPECT_EQ(support.table_reader, kTextsAt + 2 * kTextsApart);
  EXPECT_EQ(support.table_guid, kTableGuidAt);
}

TEST(UnacceptedSupport, FindsASignalInTheLastBytes) {
  MadeUpImage image = old_kernel();
  constexpr std::string_view kText = "TDX: Failed to accept memory";
  image.put(MadeUpImage::kEnd - kText.size(), kText);
  EXPECT_EQ(find_unaccepted_support(image.file()).tdx_accept, MadeUpImage::kEnd - kText.size());
  auto cut = without_first(image.file(), 0x1000);
  cut.pop_back();
  EXPECT_EQ(find_unaccepted_support(cut).tdx_accept, std::nullopt);
}

TEST(UnacceptedSupport, WithoutTheFirstHeadersTheVerdictIsTheSame) {
  expect_verdict(without_first(new_kernel().file(), 0x210), Knows::kYes, Knows::kYes);
  expect_verdict(without_first(old_kernel().file(), 0x210), Knows::kNo, Knows::kNo);
}

/// What one platform needs may be missing from a kernel that accepts on the other.
TEST(UnacceptedSupport, PlatformIsUnknownWithoutItsOwnText) {
  MadeUpImage image = new_kernel();
  UnacceptedSupport support = find_unaccepted_support(image.file());
  EXPECT_EQ(support.accepts_on_tdx(), Knows::kYes);
  EXPECT_EQ(support.accepts_on_snp(), Knows::kYes);
  blot(image, kTextsAt + 4 * kTextsApart, kTdx.size());
  support = find_unaccepted_support(image.file());
  EXPECT_EQ(support.accepts, Knows::kYes);
  EXPECT_EQ(support.accepts_on_tdx(), Knows::kUnknown);
  blot(image, kTextsAt + 11 * kTextsApart, kSnp.size());
  EXPECT_EQ(find_unaccepted_support(image.file()).accepts_on_snp(), Knows::kUnknown);
  support = find_unaccepted_support(old_kernel().file());
  EXPECT_EQ(support.accepts_on_tdx(), Knows::kNo);
  EXPECT_EQ(support.accepts_on_snp(), Knows::kNo);
}

struct Part {
  const char* name;
  std::size_t offset;
  std::size_t size;
};
constexpr std::array<Part, 3> kNeeded{{
    {"table GUID", kTableGuidAt, 16},
    {"table reader", kTextsAt + 2 * kTextsApart, kReader.size()},
    {"acceptor", kTextsAt + 3 * kTextsApart, kAcceptor.size()},
}};

TEST(UnacceptedSupport, WithoutOneOfTheThreeItIsUnknown) {
  for (const Part& part : kNeeded) {
    SCOPED_TRACE(part.name);
    MadeUpImage image = new_kernel();
    blot(image, part.offset, part.size);
    expect_verdict(image.file(), Knows::kUnknown, Knows::kUnknown);
  }
}

TEST(UnacceptedSupport, AnySingleSignalInAnOldKernelIsUnknown) {
  for (const auto& [name, text] : {std::pair{"reader", kReader},
                                   {"acceptor", kAcceptor},
                                   {"TDX", kTdx},
                                   {"builder", kBuilder},
                                   {"handshake", kHandshake}}) {
    SCOPED_TRACE(name);
    MadeUpImage image = old_kernel();
    image.put(kFree, text);
    expect_verdict(image.file(), Knows::kUnknown, Knows::kUnknown);
  }
  for (const auto& guid : {kTableGuid, kHandshakeGuid}) {
    MadeUpImage image = old_kernel();
    image.put(kFree, guid);
    expect_verdict(image.file(), Knows::kUnknown, Knows::kUnknown);
  }
}

TEST(UnacceptedSupport, HandshakeAloneContradictsItself) {
  MadeUpImage image = old_kernel();
  add_handshake(image);
  expect_verdict(image.file(), Knows::kUnknown, Knows::kUnknown);
}

TEST(UnacceptedSupport, HalfAHandshakeIsUnknown) {
  MadeUpImage image = new_kernel();
  blot(image, kHandshakeGuidAt, 16);
  expect_verdict(image.file(), Knows::kYes, Knows::kUnknown);
  image = new_kernel();
  blot(image, kTextsAt + 6 * kTextsApart, kHandshake.size());
  expect_verdict(image.file(), Knows::kYes, Knows::kUnknown);
}

TEST(UnacceptedSupport, HalfAHandshakeGuidAloneIsUnknown) {
  for (const std::size_t half : {0U, 8U}) {
    MadeUpImage image = old_kernel();
    add_acceptance(image);
    image.put(kHandshakeGuidAt, std::span{kHandshakeGuid}.subspan(half, 8));
    expect_verdict(image.file(), Knows::kYes, Knows::kUnknown);
  }
}

constexpr std::array<std::size_t, 5> kLandmarkSlots{0, 1, 8, 9, 10};

TEST(UnacceptedSupport, WithoutALandmarkThereIsNoNo) {
  for (std::size_t i = 0; i < kLandmarks.size(); ++i) {
    SCOPED_TRACE(kLandmarks[i]);
    const std::size_t offset = kTextsAt + kLandmarkSlots[i] * kTextsApart;
    MadeUpImage image = old_kernel();
    blot(image, offset, kLandmarks[i].size());
    expect_verdict(image.file(), Knows::kUnknown, Knows::kUnknown);
    image = new_kernel();
    blot(image, offset, kLandmarks[i].size());
    expect_verdict(image.file(), Knows::kYes, Knows::kYes);
    expect_verdict(without_first(image.file(), 0x210), Knows::kUnknown, Knows::kUnknown);
    image = old_kernel();
    add_acceptance(image);
    blot(image, offset, kLandmarks[i].size());
    expect_verdict(image.file(), Knows::kYes, Knows::kUnknown);
  }
}

TEST(UnacceptedSupport, TwoKernelsInOneImageAreUnknown) {
  const auto first = new_kernel().file();
  const auto second = old_kernel().file();
  auto both = without_first(first, 0x210);
  both.insert(both.end(), second.begin(), second.end());
  expect_verdict(both, Knows::kUnknown, Knows::kUnknown);
}

TEST(UnacceptedSupport, WhatLiesBehindADeclaredKernelDoesNotCount) {
  auto old_one = old_kernel().file();
  const auto new_one = new_kernel().file();
  old_one.insert(old_one.end(), new_one.begin(), new_one.end());
  expect_verdict(old_one, Knows::kNo, Knows::kNo);
}

TEST(UnacceptedSupport, WhatLiesInADeclaredPayloadDoesNotCount) {
  MadeUpImage image = old_kernel();
  image.put(MadeUpImage::kPayload, kReader);
  image.put(MadeUpImage::kPayloadEnd - kTableGuid.size(), kTableGuid);
  expect_verdict(image.file(), Knows::kNo, Knows::kNo);
  expect_verdict(without_first(image.file(), 0x210), Knows::kUnknown, Knows::kUnknown);
}

TEST(UnacceptedSupport, PayloadThatTheHeaderDoesNotTellIsSearched) {
  MadeUpImage image = old_kernel();
  image.header.payload_offset = 0;
  image.header.payload_length = 0;
  image.put(MadeUpImage::kPayload, kReader);
  EXPECT_EQ(find_unaccepted_support(image.file()).table_reader, MadeUpImage::kPayload);
}

TEST(UnacceptedSupport, UnsoundHeaderIsNeverANo) {
  MadeUpImage image = old_kernel();
  image.header.xloadflags = 0;
  expect_verdict(image.file(), Knows::kUnknown, Knows::kUnknown);
  auto cut = old_kernel().file();
  cut.pop_back();
  expect_verdict(cut, Knows::kUnknown, Knows::kUnknown);
}

TEST(UnacceptedSupport, NoPrefixOfAKernelThatAcceptsIsANo) {
  for (const auto& file : {new_kernel().file(), without_first(new_kernel().file(), 0x210)}) {
    for (std::size_t size = 0; size < file.size(); size += 7) {
      const auto support = find_unaccepted_support(std::span{file}.first(size));
      ASSERT_NE(support.accepts, Knows::kNo) << size;
      ASSERT_NE(support.handshake, Knows::kNo) << size;
    }
  }
}

TEST(UnacceptedSupport, ForeignImagesAreUnknown) {
  auto elf = test::noise(0x4000);
  std::ranges::copy(std::as_bytes(std::span{std::string_view{"\x7F"
                                                             "ELF\x02\x01\x01"}}),
                    elf.begin());
  expect_verdict(elf, Knows::kUnknown, Knows::kUnknown);
  auto arm = test::noise(0x4000);
  std::ranges::copy(std::as_bytes(std::span{std::string_view{"ARMd"}}), arm.begin() + 0x38);
  expect_verdict(arm, Knows::kUnknown, Knows::kUnknown);
  auto pe = test::noise(0x4000);
  std::ranges::copy(std::as_bytes(std::span{std::string_view{"MZ"}}), pe.begin());
  expect_verdict(pe, Knows::kUnknown, Knows::kUnknown);
  expect_verdict({}, Knows::kUnknown, Knows::kUnknown);
}

/// An Arm64 kernel has the stub's texts, acceptance or not, but never the decompressor's.
TEST(UnacceptedSupport, StubOfAnotherArchitectureIsUnknown) {
  MadeUpImage image;
  image.header.header = 0;
  image.put(kTextsAt, kLandmarks[2]);
  image.put(kTextsAt + 2 * kTextsApart, kLandmarks[3]);
  image.put(kTextsAt + 4 * kTextsApart, kLandmarks[4]);
  expect_verdict(image.file(), Knows::kUnknown, Knows::kUnknown);
}

/// A loader that has this library linked in is not taken for a kernel.
TEST(UnacceptedSupport, TheSearchDoesNotFindItself) {
  std::ifstream stream{ACCEDE_IMAGE_LIBRARY, std::ios::binary};
  const std::string text{std::istreambuf_iterator<char>{stream}, {}};
  ASSERT_GT(text.size(), 1000U);
  const auto support = find_unaccepted_support(std::as_bytes(std::span{text}));
  EXPECT_EQ(support.accepts, Knows::kUnknown);
  EXPECT_EQ(support.table_reader, std::nullopt);
  EXPECT_EQ(support.acceptor, std::nullopt);
  EXPECT_EQ(support.table_guid, std::nullopt);
  EXPECT_EQ(support.handshake_text, std::nullopt);
  EXPECT_EQ(support.handshake_guid, std::nullopt);
  EXPECT_EQ(support.tdx_accept, std::nullopt);
  EXPECT_EQ(support.table_builder, std::nullopt);
  EXPECT_EQ(support.sev_snp, std::nullopt);
}

TEST(Knows, HasAWordForEachValue) {
  EXPECT_EQ(to_string(Knows::kUnknown), "unknown");
  EXPECT_EQ(to_string(Knows::kYes), "yes");
  EXPECT_EQ(to_string(Knows::kNo), "no");
}

}  // namespace
}  // namespace accede::image
