// Plays the fuzzer's bytes as calls on a SecureEpt and on a naive reference, with little storage.
#include "tests/host/sept_actions.hpp"

#include <cstdio>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace test = accede::host::test;
  test::ByteSource bytes{{data, size}};
  const std::uint64_t tables = 1 + bytes.below(16);
  test::SeptActions actions{accede::Bytes{4096} * tables, bytes.below(2) != 0};
  while (!bytes.empty()) {
    const std::string problem = actions.step(bytes);
    if (!problem.empty()) {
      std::fprintf(stderr, "%s\n", problem.c_str());
      std::abort();
    }
  }
  return 0;
}
