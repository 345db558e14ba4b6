// The initramfs of a kexec run, read back as Linux and as libarchive read it.
#include "accede/cli/boot_archive.hpp"
#include "accede/cli/file_text.hpp"
#include "accede/cli/temp_dir.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <expected>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace accede::cli {
namespace {

namespace fs = std::filesystem;
using ::testing::StartsWith;

struct Entry {
  std::string name;
  mode_t type;
  mode_t permissions;
  la_int64_t owner;
  std::string content;
};

/// The entries of the archive that is all of `bytes`; empty when it is none.
std::vector<Entry> entries_of(const std::string& bytes) {
  const std::unique_ptr<archive, int (*)(archive*)> reader{archive_read_new(), archive_read_free};
  archive_read_support_format_cpio(reader.get());
  EXPECT_EQ(archive_read_open_memory(reader.get(), bytes.data(), bytes.size()), ARCHIVE_OK);
  std::vector<Entry> entries;
  archive_entry* entry = nullptr;
  while (archive_read_next_header(reader.get(), &entry) == ARCHIVE_OK) {
    std::string content(static_cast<std::size_t>(archive_entry_size(entry)), '\0');
    EXPECT_EQ(archive_read_data(reader.get(), content.data(), content.size()),
              static_cast<la_ssize_t>(content.size()));
    entries.push_back({archive_entry_pathname(entry), archive_entry_filetype(entry),
                       archive_entry_perm(entry), archive_entry_uid(entry), std::move(content)});
  }
  EXPECT_EQ(archive_format(reader.get()), ARCHIVE_FORMAT_CPIO_SVR4_NOCRC);
  return entries;
}

/// Where Linux finds the next archive behind the first `size` bytes: it skips zeros, and what
/// follows has to begin at a multiple of 4. 0: nowhere.
std::size_t next_archive(const std::string& bytes, std::size_t size) {
  const std::size_t begin = bytes.find_first_not_of('\0', size);
  const bool found =
      begin != std::string::npos && begin % 4 == 0 && bytes.compare(begin, 6, "070701") == 0;
  return found ? begin : 0;
}

class BootArchive : public ::testing::Test {
 protected:
  fs::path file(const std::string& name, const std::string& content) {
    const fs::path path = directory_->path() / name;
    EXPECT_TRUE(write_text(path, content));
    return path;
  }

  static std::string content(const fs::path& path) {
    std::ifstream stream{path, std::ios::binary};
    return {std::istreambuf_iterator<char>{stream}, {}};
  }

  [[nodiscard]] std::string written(const fs::path& init, const fs::path& kernel) const {
    const auto done = write_boot_archive(init, kernel, to_);
    EXPECT_TRUE(done) << done.error().message;
    return content(to_);
  }

  std::expected<TempDir, Failure> directory_ =
      TempDir::make(TempDir::default_parent(), "boot-archive-test-");
  fs::path to_ = directory_->path() / "initrd";
};

TEST_F(BootArchive, HoldsTheKernelAndTheInitramfs) {
  const std::string init = "0707 as good as an archive";
  const std::string kernel(100'001, 'k');
  const std::string bytes = written(file("init.cpio", init), file("vmlinuz", kernel));
  EXPECT_THAT(bytes, StartsWith(init));
  const std::vector<Entry> entries = entries_of(bytes.substr(next_archive(bytes, init.size())));
  ASSERT_EQ(entries.size(), 3U);
  EXPECT_EQ(entries[0].name, "boot");
  EXPECT_EQ(entries[0].type, static_cast<mode_t>(AE_IFDIR));
  EXPECT_EQ(entries[0].permissions, 0755U);
  EXPECT_EQ(entries[1].name, "boot/vmlinuz");
  EXPECT_EQ(entries[1].type, static_cast<mode_t>(AE_IFREG));
  EXPECT_EQ(entries[1].content, kernel);
  EXPECT_EQ(entries[2].name, "boot/initrd");
  EXPECT_EQ(entries[2].permissions, 0644U);
  EXPECT_EQ(entries[2].owner, 0);
  EXPECT_EQ(entries[2].content, init);
}

TEST_F(BootArchive, BeginsWhereLinuxLooksWhateverTheSizeOfTheFirst) {
  const fs::path kernel = file("vmlinuz", "kernel");
  for (std::size_t size = 0; size < 9; ++size) {
    const std::string init(size, 'i');
    const std::string bytes = written(file("init.cpio", init), kernel);
    const std::size_t begin = next_archive(bytes, size);
    EXPECT_LT(begin - size, 4U) << size;
    EXPECT_EQ(entries_of(bytes.substr(begin)).size(), 3U) << size;
  }
}

TEST_F(BootArchive, IsTheSameEveryTime) {
  const fs::path init = file("init.cpio", "init");
  const fs::path kernel = file("vmlinuz", "kernel");
  const std::string first = written(init, kernel);
  fs::last_write_time(kernel, fs::file_time_type::clock::now() - std::chrono::hours{1});
  EXPECT_EQ(written(init, kernel), first);
}

TEST_F(BootArchive, IsReadByCpio) {
  if (std::system("command -v cpio >/dev/null") != 0) {
    GTEST_SKIP() << "cpio is not installed";
  }
  const std::string bytes = written(file("init.cpio", "init"), file("vmlinuz", "kernel"));
  const fs::path second = file("second.cpio", bytes.substr(next_archive(bytes, 4)));
  const fs::path list = directory_->path() / "list";
  const std::string command =
      "cpio --quiet -t <'" + second.string() + "' >'" + list.string() + "' 2>&1";
  EXPECT_EQ(std::system(command.c_str()), 0);
  EXPECT_EQ(content(list), "boot\nboot/vmlinuz\nboot/initrd\n");
}

TEST_F(BootArchive, ReplacesWhatIsThere) {
  file("initrd", std::string(10'000, 'x'));
  const std::string bytes = written(file("init.cpio", "init"), file("vmlinuz", "kernel"));
  EXPECT_LT(bytes.size(), 10'000U);
}

TEST_F(BootArchive, NamesTheFileThatCannotBeRead) {
  const fs::path good = file("good", "content");
  const fs::path missing_file = directory_->path() / "missing";
  for (const auto& [init, kernel] :
       {std::pair{missing_file, good}, std::pair{good, missing_file}}) {
    const auto done = write_boot_archive(init, kernel, to_);
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().message, missing_file.string() + ": No such file or directory");
    EXPECT_EQ(done.error().exit_code, kExitUsage);
  }
  const auto done = write_boot_archive(good, directory_->path(), to_);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().message, directory_->path().string() + ": is a directory");
  EXPECT_FALSE(fs::exists(to_));
}

TEST_F(BootArchive, NamesTheFileThatCannotBeMade) {
  const fs::path good = file("good", "content");
  const fs::path to = directory_->path() / "missing" / "initrd";
  const auto done = write_boot_archive(good, good, to);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().message, "cannot write " + to.string() + ": No such file or directory");
}

TEST_F(BootArchive, SaysThatTheDiskIsFull) {
  // The first is too large for what is written in front of the archive; the others fail inside.
  for (const auto& [init_size, kernel_size] :
       {std::pair{1U << 20, 10U}, std::pair{0U, 1U << 20}, std::pair{0U, 10U}}) {
    const fs::path init = file("init.cpio", std::string(init_size, 'i'));
    const fs::path kernel = file("vmlinuz", std::string(kernel_size, 'k'));
    const auto done = write_boot_archive(init, kernel, "/dev/full");
    ASSERT_FALSE(done) << init_size << " " << kernel_size;
    EXPECT_EQ(done.error().message, "cannot write /dev/full: No space left on device");
    EXPECT_EQ(done.error().exit_code, kExitMissing);
    EXPECT_TRUE(fs::exists("/dev/full"));
  }
}

/// While it lives this process can write no file beyond `size`.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t size) : handler_{std::signal(SIGXFSZ, SIG_IGN)} {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{.rlim_cur = size, .rlim_max = before_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

TEST_F(BootArchive, LeavesNoHalfFileBehind) {
  const fs::path init = file("init.cpio", "init");
  const fs::path kernel = file("vmlinuz", std::string(100'000, 'k'));
  const FileSizeLimit limit{50'000};
  const auto done = write_boot_archive(init, kernel, to_);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().message, "cannot write " + to_.string() + ": File too large");
  EXPECT_FALSE(fs::exists(to_));
}

}  // namespace
}  // namespace accede::cli
