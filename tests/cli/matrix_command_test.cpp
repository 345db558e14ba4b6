// `accede matrix` as a command: its options, and its way through boots that end in every manner.
#include "accede/cli/matrix_command.hpp"

#include "tests/cli/process_fixture.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <tuple>
#include <vector>

namespace accede::cli {
namespace {

using test::Answer;
using test::ProcessTest;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Json = nlohmann::json;

std::string refusal(const RawMatrixOptions& raw) {
  const auto options = check_matrix_options(raw);
  EXPECT_FALSE(options);
  if (options) {
    return "";
  }
  EXPECT_EQ(options.error().exit_code, kExitUsage);
  return options.error().message;
}

TEST(MatrixOptions, AreBothPlatformsAndTwoKernelsByDefault) {
  const auto options = check_matrix_options({});
  ASSERT_TRUE(options);
  ASSERT_EQ(options->platforms.size(), 2U);
  EXPECT_EQ(options->platforms[0].platform, Platform::kTdx);
  EXPECT_EQ(options->platforms[1].platform, Platform::kSnp);
  for (const BootOptions& boot : options->platforms) {
    EXPECT_EQ(boot.memory, Bytes{4ULL << 30});
    EXPECT_THAT(boot.kernels, ElementsAre("debian-6.1", "debian-6.12"));
    EXPECT_THAT(boot.modes, ElementsAre(AcceptMode::kLazy));
    EXPECT_FALSE(boot.accept_cost);
  }
  EXPECT_FALSE(options->json);
}

TEST(MatrixOptions, AreTakenForEachPlatform) {
  const auto options = check_matrix_options({.platform = "snp,tdx",
                                             .memory = "12G",
                                             .kernels = "old,new",
                                             .accept_cost = "1400us",
                                             .timeout = "7",
                                             .json = true});
  ASSERT_TRUE(options);
  ASSERT_EQ(options->platforms.size(), 2U);
  EXPECT_EQ(options->platforms[0].platform, Platform::kSnp);
  for (const BootOptions& boot : options->platforms) {
    EXPECT_EQ(boot.memory, Bytes{12ULL << 30});
    EXPECT_THAT(boot.kernels, ElementsAre("old", "new"));
    EXPECT_EQ(boot.accept_cost, std::chrono::microseconds{1400});
    EXPECT_EQ(boot.timeout, std::chrono::seconds{7});
  }
  EXPECT_TRUE(options->json);
}

TEST(MatrixOptions, RefusePlatformsWithoutMemoryToAccept) {
  EXPECT_EQ(refusal({.platform = "none"}), "--platform 'none': expected tdx, snp");
  EXPECT_EQ(refusal({.platform = ""}), "--platform '': expected tdx, snp");
  EXPECT_THAT(refusal({.platform = "tdx,snp,tdx"}), HasSubstr("tdx is there twice"));
}

TEST(MatrixOptions, RefuseAVmThatHasNothingAboveFourGib) {
  EXPECT_THAT(refusal({.memory = "2G"}), AllOf(HasSubstr("--memory 2G"), HasSubstr("3 GiB")));
  EXPECT_TRUE(check_matrix_options({.memory = "3G"}));
}

TEST(MatrixOptions, RefuseAnythingButTwoKernels) {
  for (const char* const kernels : {"", "a", "a,", ",", "a,b,c"}) {
    EXPECT_THAT(refusal({.kernels = kernels}), HasSubstr("expected two files or names"));
  }
  EXPECT_THAT(refusal({.kernels = "debian-6.1,guest"}), HasSubstr("the matrix boots Linux"));
}

TEST(MatrixOptions, AreRefusedAsThoseOfABootAre) {
  EXPECT_THAT(refusal({.memory = "7X"}), HasSubstr("--memory '7X'"));
  EXPECT_THAT(refusal({.timeout = "0"}), HasSubstr("--timeout '0'"));
  EXPECT_THAT(refusal({.accept_cost = "soon"}), HasSubstr("--accept-cost 'soon'"));
}

class MatrixProcessTest : public ProcessTest {
 protected:
  void SetUp() override {
    ProcessTest::SetUp();
    command_ = "matrix";
  }

  [[nodiscard]] std::string kernels() const {
    return path("kernel").string() + "," + path("kernel").string();
  }

  /// The matrix of one platform with a VM that always does the same.
  Answer play_all(const std::string& scene, std::vector<std::string> arguments = {}) {
    environment_["ACCEDE_FAKE"] = scene;
    arguments.insert(arguments.begin(), {"--platform", "snp", "--kernels", kernels()});
    return wait(start(std::move(arguments)));
  }
};

TEST_F(MatrixProcessTest, BootsEveryCellOnce) {
  const Answer answer = play_all("userspace", {"--json"});
  EXPECT_EQ(answer.exit_code, kExitDone) << answer.err;
  EXPECT_THAT(answer.err, IsEmpty());
  const Json json = Json::parse(answer.out);
  std::set<std::tuple<std::string, std::string, std::string>> places;
  for (const Json& cell : json["cells"]) {
    places.emplace(cell["platform"], cell["firmware"], cell["kernel_kind"]);
    EXPECT_EQ(cell["outcome"], "fast boot");
  }
  EXPECT_EQ(json["cells"].size(), 9U);
  EXPECT_EQ(places.size(), 9U);
  EXPECT_EQ(json["scarce"].size(), 1U);
  expect_nothing_left();
}

TEST_F(MatrixProcessTest, APredictionThatDoesNotHoldIsReportedAndNoFailure) {
  const Answer answer = play_all("userspace");
  EXPECT_EQ(answer.exit_code, kExitDone);
  EXPECT_THAT(answer.out, AllOf(HasSubstr("fast boot (!)"), HasSubstr("DIFFERS")));
}

TEST_F(MatrixProcessTest, ABootThatFailsIsACellAndTheMatrixGoesOn) {
  for (const auto& [scene, outcome] :
       {std::pair{"panic", "panic"}, {"launcher-error", "launcher-error"}}) {
    const Answer answer = play_all(scene, {"--json"});
    EXPECT_EQ(answer.exit_code, kExitTestedFailed) << answer.err;
    const Json json = Json::parse(answer.out);
    EXPECT_EQ(json["cells"].size(), 9U);
    for (const Json& cell : json["cells"]) {
      EXPECT_EQ(cell["outcome"], outcome);
      EXPECT_EQ(cell["holds"], false);
    }
    expect_nothing_left();
  }
}

TEST_F(MatrixProcessTest, EndsWhenQemuCannotRunAtAll) {
  const Answer answer = play_all("exit");
  EXPECT_EQ(answer.exit_code, kExitMissing);
  EXPECT_THAT(answer.err, HasSubstr("accede matrix: QEMU could not run the VM"));
  EXPECT_THAT(answer.out, IsEmpty());
  expect_nothing_left();
}

TEST_F(MatrixProcessTest, BadKernelsAreOneLineBeforeAnythingBoots) {
  put_image("program", test::efi_program());
  for (const std::string& other :
       {std::string{"no-such-kernel"}, path("init").string(), path("program").string()}) {
    const Answer answer = wait(start({"--kernels", path("kernel").string() + "," + other}));
    EXPECT_EQ(answer.exit_code, kExitUsage) << other;
    EXPECT_EQ(std::ranges::count(answer.err, '\n'), 1) << answer.err;
    EXPECT_THAT(answer.err, HasSubstr(other));
    EXPECT_FALSE(test::fs::exists(path("pid")));
  }
}

TEST_F(MatrixProcessTest, ASignalEndsItWithNothingLeft) {
  environment_["ACCEDE_FAKE"] = "hang";
  const pid_t pid = start({"--kernels", kernels(), "--json"});
  const pid_t vm = qemu_pid();
  kill(pid, SIGINT);
  const Answer answer = wait(pid);
  EXPECT_EQ(answer.exit_code, 128 + SIGINT);
  EXPECT_EQ(answer.err, "accede matrix: interrupted\n");
  EXPECT_THAT(answer.out, IsEmpty());
  EXPECT_TRUE(test::gone_soon(vm));
  expect_nothing_left();
}

}  // namespace
}  // namespace accede::cli
