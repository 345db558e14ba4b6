// Runs `accede tdmr` within the test, with files of its own.
#pragma once

#include "accede/cli/command.hpp"
#include "accede/cli/file_text.hpp"
#include "accede/cli/temp_dir.hpp"

#include <gtest/gtest.h>

#include <expected>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace accede::cli::test {

struct TdmrRun {
  int exit_code;
  std::string out;
  std::string err;

  [[nodiscard]] nlohmann::json json() const { return nlohmann::json::parse(out, nullptr, false); }
};

/// One socket: 2 GiB below 4 GiB with a hole in it, 62 GiB above.
inline constexpr std::string_view kOneSocketCmrs =
    R"([{"base":"0x100000","size":"0x6ff00000"},{"base":"0x100000000","size":"0xf80000000"}])";
inline constexpr std::string_view kOneSocketIomem =
    "00001000-0009ffff : System RAM\n"
    "00100000-5fffffff : System RAM\n"
    "60000000-60ffffff : Reserved\n"
    "61000000-6fffffff : System RAM\n"
    "70000000-7fffffff : Reserved\n"
    "100000000-107fffffff : System RAM\n";

class TdmrCommandTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(directory_);
    file("cmrs", kOneSocketCmrs);
    file("memory", kOneSocketIomem);
  }

  [[nodiscard]] std::string path(std::string_view name) const {
    return (directory_->path() / name).string();
  }

  /// Creates or replaces a file; its path.
  std::string file(std::string_view name, std::string_view text) const {
    EXPECT_TRUE(write_text(path(name), text));
    return path(name);
  }

  [[nodiscard]] static TdmrRun run_tdmr(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"accede", "tdmr"});
    std::vector<const char*> pointers;
    for (const std::string& argument : arguments) {
      pointers.push_back(argument.c_str());
    }
    std::ostringstream out;
    std::ostringstream err;
    const int code = run_command(static_cast<int>(pointers.size()), pointers.data(), out, err);
    return {.exit_code = code, .out = out.str(), .err = err.str()};
  }

  /// With the files `cmrs` and `memory`.
  [[nodiscard]] TdmrRun plan(std::vector<std::string> arguments = {}) const {
    arguments.insert(arguments.begin(), {"--cmr", path("cmrs"), "--memory", path("memory")});
    return run_tdmr(std::move(arguments));
  }

 private:
  std::expected<TempDir, Failure> directory_ =
      TempDir::make(TempDir::default_parent(), "tdmr-test-");
};

}  // namespace accede::cli::test
