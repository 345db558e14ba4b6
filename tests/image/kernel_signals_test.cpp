#include "accede/image/kernel_signals.hpp"

#include "tests/image/made_up_image.hpp"
#include "tests/image/made_up_kernel.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

namespace accede::image {
namespace {

using namespace std::string_literals;

/// Noise with `text` at `offset`.
std::vector<std::byte> kernel_with(const std::string& text, std::size_t offset) {
  auto kernel = test::noise(0x1000);
  std::memcpy(kernel.data() + offset, text.data(), text.size());
  return kernel;
}

std::size_t count(const KernelSignals& signals) {
  std::size_t found = 0;
  for (std::size_t i = 0; i < kKernelSignalCount; ++i) {
    found += signals[static_cast<KernelSignal>(i)].has_value() ? 1U : 0U;
  }
  return found;
}

void expect_alone(const std::string& text, KernelSignal signal) {
  const auto signals = find_kernel_signals(kernel_with(text, 0x123));
  EXPECT_EQ(signals[signal], 0x123U) << text;
  EXPECT_EQ(count(signals), 1U) << text;
}

TEST(KernelSignals, AreFoundWhereTheyAre) {
  using enum KernelSignal;
  expect_alone("Linux version 6.12", kBanner);
  expect_alone("nr_free_pages\0"s, kFreePagesCounter);
  expect_alone("Kernel command line: %s", kCommandLine);
  expect_alone("tdx: Guest detected\n", kTdxGuest);
  expect_alone("IntelTDX    ", kTdxSignature);
  expect_alone("TDX: Failed to accept memory", kTdxAccept);
  expect_alone("\1c SEV\0"s, kSev);
  expect_alone("Secure Encrypted Virtualization (SEV) active", kSevOld);
  expect_alone("SNP guest platform device initialized.", kSnpDevice);
  expect_alone("nr_unaccepted\0"s, kUnacceptedCounter);
  expect_alone("Unaccepted:     ", kUnacceptedMeminfo);
  expect_alone("kexec_core: Starting new kernel", kKexec);
  expect_alone("IKCFG_ST\x1F\x8B", kConfig);
}

TEST(KernelSignals, SnpAndEsAreNotPlainSev) {
  expect_alone("\1c SEV-ES\0"s, KernelSignal::kSevEs);
  expect_alone("\1c SEV-SNP\0"s, KernelSignal::kSnp);
}

TEST(KernelSignals, TheTableIsFoundByItsGuid) {
  const std::string guid{reinterpret_cast<const char*>(test::kTableGuid.data()), 16};
  const auto signals = find_kernel_signals(kernel_with(guid, 0x200));
  EXPECT_EQ(signals[KernelSignal::kUnacceptedTable], 0x200U);
}

TEST(KernelSignals, LookAlikesAreNone) {
  for (const std::string& text :
       {"__mptcp_unaccepted_force_close"s, "accept_memory"s, "nr_unaccepted_"s, "IntelTDX"s}) {
    EXPECT_EQ(count(find_kernel_signals(kernel_with(text, 0x123))), 0U) << text;
  }
}

TEST(KernelSignals, TheFirstOfSeveralCounts) {
  auto kernel = kernel_with("Linux version ", 0x100);
  std::memcpy(kernel.data() + 0x50, "Linux version ", 14);
  EXPECT_EQ(find_kernel_signals(kernel)[KernelSignal::kBanner], 0x50U);
}

TEST(KernelSignals, AreNotInWhatIsCutOff) {
  const auto kernel = kernel_with("Linux version ", 0x100);
  for (std::size_t size = 0; size < 0x100 + 14; ++size) {
    EXPECT_EQ(count(find_kernel_signals(std::span{kernel}.first(size))), 0U);
  }
}

TEST(KernelSignals, EachHasATextOfItsOwn) {
  std::set<std::string_view> texts;
  for (std::size_t i = 0; i < kKernelSignalCount; ++i) {
    texts.insert(to_string(static_cast<KernelSignal>(i)));
  }
  EXPECT_EQ(texts.size(), kKernelSignalCount);
  EXPECT_FALSE(texts.contains(to_string(static_cast<KernelSignal>(0xFF))));
}

/// Programs with the search in them are no kernels.
TEST(KernelSignals, TheSearchDoesNotFindItself) {
  std::ifstream file{ACCEDE_IMAGE_LIBRARY, std::ios::binary};
  const std::string library{std::istreambuf_iterator<char>{file}, {}};
  ASSERT_FALSE(library.empty());
  const auto signals = find_kernel_signals(std::as_bytes(std::span{library}));
  EXPECT_EQ(count(signals), 0U);
}

}  // namespace
}  // namespace accede::image
