// Plays the fuzzer's bytes as SEAMCALLs on the model of the TDX module and on a naive reference.
#include "tests/host/seam_actions.hpp"

#include <cstdio>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace test = accede::host::test;
  test::ByteSource bytes{{data, size}};
  test::SeamActions actions;
  while (!bytes.empty()) {
    const std::string problem = actions.step(bytes);
    if (!problem.empty()) {
      std::fprintf(stderr, "%s\n", problem.c_str());
      std::abort();
    }
  }
  return 0;
}
