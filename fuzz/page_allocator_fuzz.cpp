// Plays the fuzzer's bytes as requests to a page allocator and on a naive set of pages.
#include "tests/guest/allocator_actions.hpp"

#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

void stop_if(const std::string& problem) {
  if (!problem.empty()) {
    std::fprintf(stderr, "%s\n", problem.c_str());
    std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace test = accede::guest::test;
  test::ActionBytes bytes{{data, size}};
  test::AllocatorActions actions{bytes};
  while (!bytes.empty()) {
    stop_if(actions.step(bytes));
  }
  stop_if(actions.finish());
  return 0;
}
