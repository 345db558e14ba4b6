// A non-owning reference to a callable, for callbacks in code that has no heap.
#pragma once

#include <concepts>
#include <type_traits>
#include <utility>

namespace accede {

template <class Signature>
class FunctionRef;

/// Refers to a callable that outlives it: a parameter type, never a member of something that is
/// stored. Two words; calling it is one indirect call.
template <class R, class... Args>
class FunctionRef<R(Args...)> {
 public:
  template <class F>
    requires(!std::same_as<std::remove_cvref_t<F>, FunctionRef> &&
             std::is_invocable_r_v<R, F&, Args...>)
  constexpr FunctionRef(F&& callable)  // NOLINT(google-explicit-constructor): a parameter type
      : object_{const_cast<void*>(static_cast<const void*>(__builtin_addressof(callable)))},
        call_{[](void* object, Args... args) -> R {
          auto& target = *static_cast<std::remove_reference_t<F>*>(object);
          if constexpr (std::is_void_v<R>) {
            static_cast<void>(target(std::forward<Args>(args)...));
          } else {
            return target(std::forward<Args>(args)...);
          }
        }} {}

  constexpr R operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

}  // namespace accede
