#include "tests/boot/accede_run.hpp"

#include "accede/cli/host_tools.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <ostream>
#include <sstream>
#include <thread>

namespace accede::test {

namespace fs = std::filesystem;
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kPoll = std::chrono::milliseconds{20};

std::string read_text(const fs::path& path) {
  std::ifstream file{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{file}, std::istreambuf_iterator<char>{}};
}

/// Calls `holds` until it does or the time is over.
template <class Condition>
bool wait_until(Condition holds, Seconds most) {
  const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(most);
  while (!holds()) {
    if (Clock::now() >= end) {
      return false;
    }
    std::this_thread::sleep_for(kPoll);
  }
  return true;
}

/// The fields of /proc/PID/stat behind the command's name, which may hold anything.
std::vector<std::string> stat_fields(pid_t pid) {
  const std::string text = read_text("/proc/" + std::to_string(pid) + "/stat");
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) {
    return {};
  }
  std::istringstream rest{text.substr(name_end + 1)};
  return {std::istream_iterator<std::string>{rest}, std::istream_iterator<std::string>{}};
}

// Indexes into stat_fields.
constexpr std::size_t kState = 0;
constexpr std::size_t kParent = 1;
constexpr std::size_t kUserTime = 11;
constexpr std::size_t kSystemTime = 12;

/// Only calls that are allowed between fork and exec.
[[noreturn]] void become(char* const* arguments, const char* out, const char* err, pid_t parent) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) {
    _exit(126);
  }
  dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
  dup2(open(out, O_WRONLY | O_CREAT | O_TRUNC, 0600), STDOUT_FILENO);
  dup2(open(err, O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
  execv(arguments[0], arguments);
  _exit(127);
}

}  // namespace

Scratch::Scratch() {
  const char* const parent = std::getenv("TMPDIR");
  std::string name = std::string{parent != nullptr ? parent : "/tmp"} + "/accede-test-XXXXXX";
  if (mkdtemp(name.data()) == nullptr) {
    throw std::runtime_error{"cannot make " + name + ": " + std::strerror(errno)};
  }
  path_ = name;
}

Scratch::~Scratch() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

AccedeBoot::AccedeBoot(const std::vector<std::string>& options, const std::string& command) {
  fs::create_directory(scratch_ / "tmp");
  std::vector<std::string> words{ACCEDE_COMMAND, command};
  words.insert(words.end(), options.begin(), options.end());
  words.emplace_back("--json");
  if (command == "boot") {
    words.insert(words.end(), {"--console", scratch_ / "console"});
  }
  std::vector<char*> arguments;
  for (std::string& word : words) {
    arguments.push_back(word.data());
  }
  arguments.push_back(nullptr);
  const std::string out = scratch_ / "out";
  const std::string err = scratch_ / "err";
  // The child inherits the environment; nothing else here uses TMPDIR meanwhile.
  const char* const old = std::getenv("TMPDIR");
  const std::optional<std::string> kept =
      old != nullptr ? std::optional<std::string>{old} : std::nullopt;
  setenv("TMPDIR", (scratch_ / "tmp").c_str(), 1);
  const pid_t parent = getpid();
  pid_ = fork();
  if (pid_ == 0) {
    become(arguments.data(), out.c_str(), err.c_str(), parent);
  }
  kept ? setenv("TMPDIR", kept->c_str(), 1) : unsetenv("TMPDIR");
  if (pid_ < 0) {
    throw std::runtime_error{std::string{"fork: "} + std::strerror(errno)};
  }
  setpgid(pid_, pid_);
}

AccedeBoot::~AccedeBoot() {
  if (!exit_code_) {
    wait(Seconds{0});
  }
}

bool AccedeBoot::poll_exit() {
  int status = 0;
  if (!exit_code_ && waitpid(pid_, &status, WNOHANG) == pid_) {
    exit_code_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }
  return exit_code_.has_value();
}

bool AccedeBoot::wait(Seconds most) {
  if (wait_until([this] { return poll_exit(); }, most)) {
    return true;
  }
  // The command kills its VM when it is asked to end; SIGKILL takes the VM along as well.
  signal_group(SIGTERM);
  if (!wait_until([this] { return poll_exit(); }, Seconds{5})) {
    const std::optional<pid_t> vm = qemu();
    signal_group(SIGKILL);
    if (vm) {
      kill(*vm, SIGKILL);
    }
    static_cast<void>(wait_until([this] { return poll_exit(); }, Seconds{5}));
  }
  exit_code_ = exit_code_.value_or(-1);
  return false;
}

void AccedeBoot::signal_group(int signal) const {
  kill(-pid_, signal);
}

bool AccedeBoot::wait_for_console(const std::string& text, Seconds most) const {
  return wait_until([&] { return console().find(text) != std::string::npos; }, most);
}

std::string AccedeBoot::output() const {
  return read_text(scratch_ / "out");
}
std::string AccedeBoot::errors() const {
  return read_text(scratch_ / "err");
}
std::string AccedeBoot::console() const {
  return read_text(scratch_ / "console");
}

std::optional<pid_t> AccedeBoot::qemu() const {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator{"/proc", error}) {
    const std::string name = entry.path().filename();
    pid_t pid = 0;
    const auto [end, bad] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (bad != std::errc{} || end != name.data() + name.size()) {
      continue;
    }
    const std::vector<std::string> fields = stat_fields(pid);
    if (fields.size() > kParent && fields[kParent] == std::to_string(pid_) &&
        read_text(entry.path() / "comm").starts_with("qemu-")) {
      return pid;
    }
  }
  return std::nullopt;
}

std::vector<std::string> AccedeBoot::left_behind() const {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator{scratch_ / "tmp"}) {
    names.push_back(entry.path().filename());
  }
  return names;
}

Json Boot::at(const std::string& path) const {
  const Json::json_pointer pointer{path};
  return json.is_object() && json.contains(pointer) ? json.at(pointer) : Json{};
}

std::uint64_t Boot::bytes(const std::string& path) const {
  const Json value = at(path);
  EXPECT_TRUE(value.is_number_unsigned()) << path << " is " << value << "\n" << *this;
  return value.is_number_unsigned() ? value.get<std::uint64_t>() : 0;
}

double Boot::number(const std::string& path) const {
  const Json value = at(path);
  EXPECT_TRUE(value.is_number()) << path << " is " << value << "\n" << *this;
  return value.is_number() ? value.get<double>() : 0;
}

std::string Boot::text(const std::string& path) const {
  const Json value = at(path);
  return value.is_string() ? value.get<std::string>() : value.dump();
}

bool Boot::console_has(const std::string& text) const {
  return console.find(text) != std::string::npos;
}

std::vector<Json> Boot::violations(const std::string& kind) const {
  std::vector<Json> found;
  const Json list = at("/violations");
  std::ranges::copy_if(list, std::back_inserter(found),
                       [&](const Json& violation) { return violation.at("kind") == kind; });
  return found;
}

std::ostream& operator<<(std::ostream& out, const Boot& boot) {
  out << "exit code " << boot.exit_code << (boot.ended ? "" : ", killed by the test's time-out")
      << ", outcome " << boot.at("/outcome") << ", message " << boot.at("/message") << "\nfault "
      << boot.at("/fault") << "\nwarnings " << boot.at("/warnings") << "\n"
      << boot.errors << "last lines of the console:\n";
  constexpr int kLines = 25;
  std::size_t begin = boot.console.size();
  for (int i = 0; i <= kLines && begin != std::string::npos && begin != 0; ++i) {
    begin = boot.console.rfind('\n', begin - 1);
  }
  std::istringstream tail{boot.console.substr(begin == std::string::npos ? 0 : begin)};
  constexpr std::size_t kMostOfALine = 200;  // the init's reports are long
  for (std::string line; std::getline(tail, line);) {
    std::erase_if(line, [](char c) { return c < 0x20 || c == 0x7F; });
    out << line.substr(0, kMostOfALine) << "\n";
  }
  return out;
}

namespace {

Boot finish(AccedeBoot& process, Seconds most) {
  Boot result;
  result.ended = process.wait(most);
  result.exit_code = process.exit_code();
  result.json = Json::parse(process.output(), nullptr, false);
  if (result.json.is_discarded()) {
    result.json = nullptr;
  }
  result.errors = process.errors();
  result.console = process.console();
  EXPECT_TRUE(result.ended) << result;
  EXPECT_TRUE(process.left_behind().empty()) << process.left_behind().front();
  return result;
}

}  // namespace

Boot boot(const std::vector<std::string>& options, Seconds most) {
  AccedeBoot process{options};
  return finish(process, most);
}

Boot matrix(const std::vector<std::string>& options, Seconds most) {
  AccedeBoot process{options, "matrix"};
  return finish(process, most);
}

std::vector<Boot> boot_several(const std::vector<std::string>& options, Seconds most) {
  AccedeBoot process{options};
  const Boot all = finish(process, most);
  if (missing_kernel(all)) {
    return {all};
  }
  std::vector<Boot> runs;
  for (const Json& run : all.at("/runs")) {
    runs.push_back(all);
    runs.back().json = run;
  }
  EXPECT_FALSE(runs.empty()) << all;
  return runs;
}

std::optional<std::string> missing_kernel(const Boot& boot) {
  if (boot.exit_code == 3 && boot.errors.find("offers no package") != std::string::npos) {
    return boot.errors;
  }
  return std::nullopt;
}

std::optional<std::string> too_large(std::uint64_t bytes) {
  constexpr std::uint64_t kForTheRest = kGiB / 2;
  const std::optional<std::uint64_t> available = cli::host_available_bytes();
  if (available && *available < bytes + kForTheRest) {
    return "needs " + std::to_string(bytes / kMiB) + " MiB of memory, this host has " +
           std::to_string(*available / kMiB) + " MiB available";
  }
  return std::nullopt;
}

bool is_running(pid_t pid) {
  const std::vector<std::string> fields = stat_fields(pid);
  return !fields.empty() && fields[kState] != "Z" && fields[kState] != "X";
}

std::optional<Seconds> cpu_time(pid_t pid) {
  const std::vector<std::string> fields = stat_fields(pid);
  if (fields.size() <= kSystemTime) {
    return std::nullopt;
  }
  const double ticks = std::stod(fields[kUserTime]) + std::stod(fields[kSystemTime]);
  return Seconds{ticks / static_cast<double>(sysconf(_SC_CLK_TCK))};
}

std::string probe_path() {
  return ACCEDE_PROBE;
}

}  // namespace accede::test
