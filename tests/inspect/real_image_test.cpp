// Kernels and firmware of the distribution. They are not part of the sources: the tests use what is
// in the command's cache and what the package ovmf installed, and skip what is not there.
#include "accede/cli/kernel_cache.hpp"
#include "accede/inspect/claims.hpp"
#include "accede/inspect/inspect.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace accede::inspect {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;

std::vector<std::byte> read_file(const fs::path& path) {
  std::vector<std::byte> bytes(fs::file_size(path));
  std::ifstream{path, std::ios::binary}.read(reinterpret_cast<char*>(bytes.data()),
                                             static_cast<std::streamsize>(bytes.size()));
  return bytes;
}

/// Kernels of `series` in the cache.
std::vector<fs::path> cached_kernels(const std::string& series) {
  std::vector<fs::path> kernels;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator{cli::kernel_cache_directory(), error}) {
    if (entry.path().filename().string().starts_with("linux-image-" + series + ".") &&
        fs::is_regular_file(entry.path() / "vmlinuz")) {
      kernels.push_back(entry.path() / "vmlinuz");
    }
  }
  return kernels;
}

TEST(RealImages, Linux61) {
  const auto kernels = cached_kernels("6.1");
  if (kernels.empty()) {
    GTEST_SKIP() << "no kernel 6.1; `accede boot --kernel debian-6.1` fetches one";
  }
  for (const auto& kernel : kernels) {
    const auto report = inspect(read_file(kernel));
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_THAT(tags_of(*report), ElementsAre("KERNEL_6_1", "SEV_CAPABLE", "SEV_SNP_CAPABLE",
                                              "UEFI_COMPATIBLE", "X86_64"));
    EXPECT_EQ((*report)[Feature::kHandshake].value, image::Knows::kNo);
    EXPECT_TRUE(report->verdict.never.starts_with("needs accept-all"));
    // Those that xz packs (generic, rt) are not unpacked to the end.
    EXPECT_EQ(report->notes.empty(), report->compression != "xz");
  }
}

TEST(RealImages, Linux612) {
  const auto kernels = cached_kernels("6.12");
  if (kernels.empty()) {
    GTEST_SKIP() << "no kernel 6.12; `accede boot --kernel debian-6.12` fetches one";
  }
  for (const auto& kernel : kernels) {
    const auto report = inspect(read_file(kernel));
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_THAT(tags_of(*report),
                ElementsAre("KERNEL_6_12", "SEV_CAPABLE", "SEV_SNP_CAPABLE", "TDX_CAPABLE",
                            "UEFI_COMPATIBLE", "UNACCEPTED_MEMORY", "X86_64"));
    for (const Feature feature : {Feature::kUnacceptedMemoryTdx, Feature::kUnacceptedMemorySnp,
                                  Feature::kHandshake, Feature::kKexec, Feature::kKexecTarget}) {
      EXPECT_TRUE(report->has(feature)) << to_string(feature);
    }
    EXPECT_EQ(report->verdict.never, "safe with lazy firmware");
  }
}

TEST(RealImages, EveryFileOfOvmf) {
  int seen = 0;
  for (const char* const directory : {"/usr/share/ovmf", "/usr/share/OVMF"}) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator{directory, error}) {
      if (entry.path().extension() != ".fd") {
        continue;
      }
      ++seen;
      const auto report = inspect(read_file(entry.path()));
      ASSERT_TRUE(report) << entry.path() << " " << report.error().message;
      EXPECT_EQ(report->kind, ImageKind::kOvmf);
      const bool variables = entry.path().filename().string().find("VARS") != std::string::npos;
      EXPECT_EQ(report->verdict.never == "no firmware code", variables) << entry.path();
      // Whatever else it can do: no OVMF has a handshake for TDX.
      EXPECT_EQ(report->verdict.handshake.find("TDX"), std::string::npos) << entry.path();
    }
  }
  if (seen == 0) {
    GTEST_SKIP() << "no firmware; the package is ovmf";
  }
}

}  // namespace
}  // namespace accede::inspect
