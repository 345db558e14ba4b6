#include "bench/check_alloc.hpp"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace accede::bench {

namespace {

/// Instructions of a whole run of ourselves, as callgrind counts them.
std::optional<double> instructions(const std::string& itself, const char* kind, unsigned times) {
  const std::string command =
      text("valgrind --tool=callgrind --callgrind-out-file=/dev/null '%s' --replay=%s:%u 2>&1",
           itself.c_str(), kind, times);
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe{popen(command.c_str(), "r"), pclose};
  std::array<char, 512> line{};
  std::optional<double> collected;
  while (pipe && std::fgets(line.data(), line.size(), pipe.get()) != nullptr) {
    if (const char* found = std::strstr(line.data(), "Collected : ")) {
      collected = std::strtod(found + 12, nullptr);
    }
  }
  return collected;
}

/// Instructions of one replay alone: of two minus of one.
std::optional<double> replay_instructions(const std::string& itself, const char* kind) {
  const auto two = instructions(itself, kind, 2);
  const auto one = instructions(itself, kind, 1);
  if (!two || !one) {
    return std::nullopt;
  }
  return *two - *one;
}

template <class Policy>
double replay_ms(DrainedVm<Policy>& vm) {
  const std::uint64_t begin = now_ns();
  for (int i = 0; i < 20; ++i) {
    vm.replay();
  }
  return static_cast<double>(now_ns() - begin) / 20e6;
}

template <class Policy>
void replay_with(unsigned times) {
  DrainedVm<Policy> vm;
  for (unsigned i = 0; i < times; ++i) {
    vm.replay();
  }
}

}  // namespace

bool replay(std::string_view kind, unsigned times) {
  if (kind == "plain") {
    replay_with<guest::NoAcceptance>(times);
  } else if (kind == "drained") {
    replay_with<guest::Lazy>(times);
  } else {
    return false;
  }
  return true;
}

void check_alloc(Verdicts& verdicts, const CheckSettings& settings) {
  const auto plain = replay_instructions(settings.itself, "plain");
  const auto drained = replay_instructions(settings.itself, "drained");
  if (!plain || !drained) {
    verdicts.judge(false, "Alloc: callgrind did not count (is valgrind installed?)");
  } else {
    verdicts.at_most(text("Alloc: %.0f instructions drained, %.0f plain; ratio", *drained, *plain),
                     *drained / *plain, 1.03);
  }
  DrainedVm<guest::NoAcceptance> plain_vm;
  DrainedVm<guest::Lazy> drained_vm;
  std::vector<double> plain_ms;
  std::vector<double> drained_ms;
  for (unsigned i = 0; i < settings.scale.repetitions; ++i) {
    plain_ms.push_back(replay_ms(plain_vm));
    drained_ms.push_back(replay_ms(drained_vm));
  }
  verdicts.note(text("Alloc: %.3f ms drained, %.3f ms plain for the trace", median(drained_ms),
                     median(plain_ms)));
  verdicts.judge(drained_vm.takes_new_memory(),
                 "Alloc: after the drained run the same allocator takes new unaccepted memory and "
                 "accepts it");
}

}  // namespace accede::bench
