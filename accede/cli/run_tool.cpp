#include "accede/cli/run_tool.hpp"

#include "accede/cli/child_process.hpp"
#include "accede/cli/unique_fd.hpp"

#include <fcntl.h>
#include <poll.h>
#include <array>
#include <cerrno>
#include <cstring>

namespace accede::cli {
namespace {

constexpr std::size_t kMaxOutput = 16U << 20;

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

Pipe make_pipe() {
  int ends[2] = {-1, -1};
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return {};
  }
  return {.read = UniqueFd{ends[0]}, .write = UniqueFd{ends[1]}};
}

/// Reads once; closes the pipe at its end.
void collect(UniqueFd& pipe, std::string& text) {
  std::array<char, 4096> buffer{};
  const ssize_t count = read(pipe.get(), buffer.data(), buffer.size());
  if (count > 0 && text.size() < kMaxOutput) {
    text.append(buffer.data(), static_cast<std::size_t>(count));
  } else if (count == 0 || (count < 0 && errno != EINTR && errno != EAGAIN)) {
    pipe.reset();
  }
}

}  // namespace

std::expected<ToolOutput, Failure> run_tool(const std::vector<std::string>& arguments,
                                            const std::string& directory, SignalWatch& signals) {
  Pipe out = make_pipe();
  Pipe err = make_pipe();
  auto child = ChildProcess::start({.arguments = arguments,
                                    .stdout_fd = out.write.get(),
                                    .stderr_fd = err.write.get(),
                                    .inherited = {},
                                    .directory = directory});
  if (!child) {
    return std::unexpected{child.error()};
  }
  out.write.reset();
  err.write.reset();
  ToolOutput output;
  while (out.read.get() >= 0 || err.read.get() >= 0) {
    std::array<pollfd, 3> fds{
        {{out.read.get(), POLLIN, 0}, {err.read.get(), POLLIN, 0}, {signals.fd(), POLLIN, 0}}};
    poll(fds.data(), fds.size(), -1);
    if (const auto signal = signals.ending_signal()) {
      return std::unexpected{interrupted(*signal)};
    }
    if (fds[0].revents != 0) {
      collect(out.read, output.out);
    }
    if (fds[1].revents != 0) {
      collect(err.read, output.err);
    }
  }
  output.status = child->wait();
  return output;
}

}  // namespace accede::cli
