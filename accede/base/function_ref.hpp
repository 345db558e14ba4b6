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
  constexpr FunctionRef(F&& callable) {  // NOLINT(google-explicit-constructor): a parameter type
    using Target = std::remove_reference_t<F>;
    if constexpr (std::is_function_v<Target>) {
      target_.function = reinterpret_cast<void (*)()>(&callable);
      call_ = [](Pointer target, Args... args) -> R {
        return invoke(*reinterpret_cast<Target*>(target.function), std::forward<Args>(args)...);
      };
    } else {
      target_.object = const_cast<void*>(static_cast<const void*>(__builtin_addressof(callable)));
      call_ = [](Pointer target, Args... args) -> R {
        return invoke(*static_cast<Target*>(target.object), std::forward<Args>(args)...);
      };
    }
  }

  constexpr R operator()(Args... args) const { return call_(target_, std::forward<Args>(args)...); }

 private:
  /// A function is no object: its address has a type of its own.
  union Pointer {
    void* object;
    void (*function)();
  };

  template <class Target>
  static constexpr R invoke(Target& target, Args... args) {
    if constexpr (std::is_void_v<R>) {
      static_cast<void>(target(std::forward<Args>(args)...));
    } else {
      return target(std::forward<Args>(args)...);
    }
  }

  Pointer target_{.object = nullptr};
  R (*call_)(Pointer, Args...) = nullptr;
};

}  // namespace accede
