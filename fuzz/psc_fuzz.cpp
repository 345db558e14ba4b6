// Plays the fuzzer's bytes as page state change lists of several vCPUs, answered in bulk.
#include "tests/host/psc_actions.hpp"

#include <cstdio>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace test = accede::host::test;
  test::ByteSource bytes{{data, size}};
  test::PscActions actions;
  while (!bytes.empty()) {
    const std::string problem = actions.step(bytes);
    if (!problem.empty()) {
      std::fprintf(stderr, "%s\n", problem.c_str());
      std::abort();
    }
  }
  return 0;
}
