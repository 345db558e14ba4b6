#include "tests/boot/probe_run.hpp"

#include <gtest/gtest.h>

namespace accede::test {

Boot probe(const std::string& scenarios, std::vector<std::string> options) {
  options.insert(options.end(),
                 {"--kernel", probe_path(), "--append", "probe=" + scenarios, "--timeout", "60"});
  return boot(options);
}

Boot survive(const std::string& scenarios, const std::vector<std::string>& options) {
  Boot result = probe(scenarios, options);
  EXPECT_EQ(result.exit_code, 0) << result;
  EXPECT_EQ(result.text("/outcome"), "ready") << result;
  EXPECT_TRUE(result.at("/fault").is_null()) << result;
  EXPECT_TRUE(result.console_has("probe: all good")) << result;
  return result;
}

Boot break_rule(const std::string& scenario, const std::string& kind,
                const std::vector<std::string>& options) {
  Boot result = probe(scenario, options);
  EXPECT_EQ(result.exit_code, 1) << result;
  EXPECT_EQ(result.text("/outcome"), kind == "guest-termination" ? "panic" : "guest-fault")
      << result;
  EXPECT_EQ(result.text("/fault/kind"), kind) << result;
  EXPECT_FALSE(result.text("/fault/message").empty()) << result;
  EXPECT_FALSE(result.console_has("all good")) << result;
  std::size_t fatal = 0;
  for (const Json& violation : result.at("/violations")) {
    if (violation.at("fatal") == true) {
      ++fatal;
      EXPECT_EQ(violation.at("kind"), kind);
      EXPECT_EQ(violation.at("gpa"), result.at("/fault/gpa"));
      EXPECT_EQ(violation.at("rip"), result.at("/fault/rip"));
    }
  }
  EXPECT_EQ(fatal, 1U) << result.at("/violations");
  return result;
}

std::uint64_t address(const Boot& boot, const std::string& path) {
  const Json value = boot.at(path);
  EXPECT_TRUE(value.is_string()) << path << " is " << value << "\n" << boot;
  return value.is_string() ? std::stoull(value.get<std::string>(), nullptr, 16) : 0;
}

}  // namespace accede::test
