// Kernels of the distribution. They are not part of the sources: the tests use what
// `accede boot` and the boot tests left in the cache, and skip what is not there.
#include "accede/cli/kernel_cache.hpp"
#include "accede/image/bzimage.hpp"
#include "accede/image/unaccepted_support.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace accede::image {
namespace {

namespace fs = std::filesystem;

std::vector<std::byte> read_file(const fs::path& path) {
  std::vector<std::byte> bytes(fs::file_size(path));
  std::ifstream{path, std::ios::binary}.read(reinterpret_cast<char*>(bytes.data()),
                                             static_cast<std::streamsize>(bytes.size()));
  return bytes;
}

/// A kernel of the series `series` ("6.1"), and what is known of it.
class RealKernel : public testing::Test {
 protected:
  /// Skips the test when the cache has no such kernel.
  void load(const std::string& series) {
    std::error_code error;
    const fs::path cache = cli::kernel_cache_directory();
    for (const auto& entry : fs::directory_iterator{cache, error}) {
      if (entry.path().filename().string().starts_with("linux-image-" + series + ".") &&
          fs::is_regular_file(entry.path() / "vmlinuz")) {
        file_ = read_file(entry.path() / "vmlinuz");
        return;
      }
    }
    GTEST_SKIP() << "no kernel " << series << " in " << cache << "; `accede boot --kernel "
                 << series << "` fetches one";
  }

  [[nodiscard]] std::span<const std::byte> file() const { return file_; }
  /// Everything but the first headers and the compressed payload.
  [[nodiscard]] std::vector<std::byte> bare() const {
    const auto payload = BzImage::parse(file_)->payload();
    const auto at = payload.data() - file_.data();
    std::vector<std::byte> bytes(file_.begin() + 0x1000, file_.begin() + at);
    bytes.insert(bytes.end(), file_.begin() + at + static_cast<std::ptrdiff_t>(payload.size()),
                 file_.end());
    return bytes;
  }

 private:
  std::vector<std::byte> file_;
};

class Linux61 : public RealKernel {
  void SetUp() override { load("6.1"); }
};
class Linux612 : public RealKernel {
  void SetUp() override { load("6.12"); }
};

void expect_verdict(std::span<const std::byte> image, Knows verdict) {
  const auto support = find_unaccepted_support(image);
  EXPECT_EQ(to_string(support.accepts), to_string(verdict));
  EXPECT_EQ(to_string(support.handshake), to_string(verdict));
  EXPECT_EQ(to_string(support.accepts_on_tdx()), to_string(verdict));
  EXPECT_EQ(to_string(support.accepts_on_snp()), to_string(verdict));
}

TEST_F(Linux61, IsASoundImage) {
  const auto image = BzImage::parse(file());
  ASSERT_TRUE(image);
  EXPECT_TRUE(image->version_text().starts_with("6.1."));
  EXPECT_TRUE(image->relocatable());
  EXPECT_TRUE(image->loadable_above_4g());
  EXPECT_GT(image->payload().size(), 1'000'000U);
}

TEST_F(Linux61, DoesNotAccept) {
  expect_verdict(file(), Knows::kNo);
}

TEST_F(Linux61, DoesNotAcceptWithoutItsHeaders) {
  expect_verdict(file().subspan(0x1000), Knows::kNo);
}

TEST_F(Linux61, AsLoadImagePlacesItDoesNotAccept) {
  std::vector<std::byte> placed{file().begin(), file().end()};
  placed.resize(placed.size() + 0x45000);  // .bss
  expect_verdict(placed, Knows::kNo);
}

TEST_F(Linux61, HalfOfItIsUnknown) {
  expect_verdict(file().first(file().size() / 2), Knows::kUnknown);
  expect_verdict(file().subspan(0x1000, file().size() / 2), Knows::kUnknown);
}

TEST_F(Linux612, IsASoundImage) {
  const auto image = BzImage::parse(file());
  ASSERT_TRUE(image);
  EXPECT_TRUE(image->version_text().starts_with("6.12."));
  EXPECT_GT(image->payload().size(), 1'000'000U);
}

TEST_F(Linux612, AcceptsAndShakesHands) {
  expect_verdict(file(), Knows::kYes);
}

TEST_F(Linux612, AcceptsWithoutItsHeaders) {
  expect_verdict(file().subspan(0x1000), Knows::kYes);
}

TEST_F(Linux612, HasEverySignal) {
  const auto support = find_unaccepted_support(file());
  for (const auto& offset :
       {support.table_reader, support.acceptor, support.table_guid, support.handshake_text,
        support.handshake_guid, support.tdx_accept, support.table_builder, support.sev_snp}) {
    ASSERT_TRUE(offset);
    EXPECT_LT(*offset, file().size());
  }
}

/// Wherever it is cut off, at either end, it is never taken for one that does not accept.
TEST_F(Linux612, NoPartOfItIsANo) {
  const auto whole = bare();
  expect_verdict(whole, Knows::kYes);
  constexpr std::size_t kStep = 499;
  for (std::size_t cut = 0; cut < whole.size(); cut += kStep) {
    for (const auto part : {std::span{whole}.first(cut), std::span{whole}.subspan(cut)}) {
      const auto support = find_unaccepted_support(part);
      ASSERT_NE(support.accepts, Knows::kNo) << cut;
      ASSERT_NE(support.handshake, Knows::kNo) << cut;
    }
  }
}

}  // namespace
}  // namespace accede::image
