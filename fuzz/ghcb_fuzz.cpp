// Plays the fuzzer's bytes as exits of a hostile guest to a host that answers anything.
#include "tests/host/ghcb_actions.hpp"

#include <cstdio>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace test = accede::host::test;
  test::ByteSource bytes{{data, size}};
  test::GhcbActions actions{bytes.below(8) != 0};
  while (!bytes.empty()) {
    const std::string problem = actions.step(bytes);
    if (!problem.empty()) {
      std::fprintf(stderr, "%s\n", problem.c_str());
      std::abort();
    }
  }
  return 0;
}
