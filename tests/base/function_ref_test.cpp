#include "accede/base/function_ref.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <type_traits>
#include <utility>

namespace accede {
namespace {

int call(FunctionRef<int(int)> function, int value) {
  return function(value);
}

int twice(int value) {
  return 2 * value;
}

TEST(FunctionRef, CallsALambdaWithCaptures) {
  int calls = 0;
  EXPECT_EQ(call(
                [&](int value) {
                  ++calls;
                  return value + 1;
                },
                41),
            42);
  EXPECT_EQ(calls, 1);
}

TEST(FunctionRef, RefersToTheCallableInsteadOfCopyingIt) {
  auto counter = [count = 0](int) mutable { return ++count; };
  const FunctionRef<int(int)> reference{counter};
  EXPECT_EQ(reference(0), 1);
  EXPECT_EQ(reference(0), 2);
  EXPECT_EQ(counter(0), 3);
}

TEST(FunctionRef, CopiesReferToTheSameCallable) {
  auto counter = [count = 0](int) mutable { return ++count; };
  const FunctionRef<int(int)> first{counter};
  const FunctionRef<int(int)> second{first};  // NOLINT(performance-unnecessary-copy-initialization)
  EXPECT_EQ(first(0), 1);
  EXPECT_EQ(second(0), 2);
}

TEST(FunctionRef, CallsThroughAFunctionPointer) {
  EXPECT_EQ(call(&twice, 21), 42);
}

TEST(FunctionRef, CallsAConstCallable) {
  const auto add = [](int value) { return value + 1; };
  EXPECT_EQ(call(add, 1), 2);
}

TEST(FunctionRef, ConvertsTheResult) {
  const auto narrow = [] { return 'a'; };
  EXPECT_EQ(FunctionRef<int()>{narrow}(), 97);
}

TEST(FunctionRef, DropsTheResultWhenNobodyWantsIt) {
  int calls = 0;
  const auto count = [&] { return ++calls; };
  FunctionRef<void()>{count}();
  EXPECT_EQ(calls, 1);
}

TEST(FunctionRef, PassesReferencesAndMovesValues) {
  int target = 0;
  const auto assign = [](int& to, std::unique_ptr<int> from) { to = *from; };
  FunctionRef<void(int&, std::unique_ptr<int>)>{assign}(target, std::make_unique<int>(7));
  EXPECT_EQ(target, 7);
}

TEST(FunctionRef, IsTwoWordsAndTakesOnlyWhatItCanCall) {
  static_assert(sizeof(FunctionRef<void()>) == 2 * sizeof(void*));
  static_assert(std::is_trivially_copyable_v<FunctionRef<void()>>);
  static_assert(!std::is_constructible_v<FunctionRef<void()>, int>);
  const auto needs_argument = [](int) {};
  static_assert(!std::is_constructible_v<FunctionRef<void()>, decltype(needs_argument)&>);
}

TEST(FunctionRef, TakesAFunction) {
  const FunctionRef<int(int)> call = twice;
  EXPECT_EQ(call(21), 42);
}

TEST(FunctionRef, TakesAPointerToAFunction) {
  int (*const pointer)(int) = twice;
  const FunctionRef<int(int)> call = pointer;
  EXPECT_EQ(call(4), 8);
}

}  // namespace
}  // namespace accede
