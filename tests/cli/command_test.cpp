#include "accede/cli/command.hpp"

#include "accede/cli/failure.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

namespace accede::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

struct Answer {
  int exit_code;
  std::string out;
  std::string err;
};

Answer ask(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "accede");
  std::ostringstream out;
  std::ostringstream err;
  const int code = run_command(static_cast<int>(arguments.size()), arguments.data(), out, err);
  return {.exit_code = code, .out = out.str(), .err = err.str()};
}

TEST(Command, PrintsItsVersion) {
  const Answer answer = ask({"--version"});
  EXPECT_EQ(answer.exit_code, kExitDone);
  EXPECT_THAT(answer.out, StartsWith("accede "));
  EXPECT_THAT(answer.err, IsEmpty());
}

TEST(Command, HelpHasExamples) {
  for (const std::vector<const char*>& arguments :
       {std::vector<const char*>{"--help"}, std::vector<const char*>{"boot", "--help"}}) {
    const Answer answer = ask(arguments);
    EXPECT_EQ(answer.exit_code, kExitDone);
    EXPECT_THAT(answer.out, HasSubstr("Examples:\n  accede boot"));
    EXPECT_THAT(answer.err, IsEmpty());
  }
}

TEST(Command, LaterCommandsAnswerNotYet) {
  for (const char* const name : {"report"}) {
    const Answer answer = ask({name, "argument", "--option"});
    EXPECT_EQ(answer.exit_code, kExitUsage);
    EXPECT_EQ(answer.err, "accede " + std::string{name} + ": not yet\n");
  }
}

TEST(Command, UsageErrorsAreOneLineOnStandardError) {
  for (const std::vector<const char*>& arguments : {
           std::vector<const char*>{},
           {"bogus"},
           {"--bogus"},
           {"boot", "--bogus"},
           {"boot", "--memory"},
           {"boot", "--json=perhaps"},
           {"boot", "stray"},
           {"boot", "--memory", "1M"},
           {"boot", "--platform", "sgx"},
           {"boot", "--platform", "snp", "--firmware", "sometimes"},
           {"boot", "--sept-ve-disable", "off"},
           {"boot", "--strict"},
           {"boot", "--strict=cpuid,io"},
           {"boot", "--memory", "4G", "--memory", "5G"},
       }) {
    const Answer answer = ask(arguments);
    EXPECT_EQ(answer.exit_code, kExitUsage) << answer.err;
    EXPECT_EQ(std::ranges::count(answer.err, '\n'), 1) << answer.err;
    EXPECT_THAT(answer.out, IsEmpty());
  }
}

TEST(Command, TakesGnuStyleValues) {
  EXPECT_THAT(ask({"boot", "--memory=7X"}).err, HasSubstr("--memory '7X'"));
  EXPECT_THAT(ask({"boot", "--memory", "7X"}).err, HasSubstr("--memory '7X'"));
}

}  // namespace
}  // namespace accede::cli
