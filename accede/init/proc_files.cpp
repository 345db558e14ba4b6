#include "accede/init/proc_files.hpp"

#include <fcntl.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <limits>

namespace accede::init {
namespace {

// Words that the next kernel does not get as they are.
constexpr std::string_view kKexecWord = "accede.kexec=";
constexpr std::string_view kGenerationWord = "accede.generation=";

std::optional<std::uint64_t> parse_number(std::string_view text, int base) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc{} || end != text.data() + text.size()) {
    return std::nullopt;
  }
  return value;
}

/// `123`, `123K`, `12M`, `4G`, `1T` in bytes.
std::optional<std::uint64_t> parse_size(std::string_view text) {
  constexpr std::string_view kSuffixes = "KMGT";
  unsigned shift = 0;
  if (!text.empty()) {
    const std::size_t suffix = kSuffixes.find(text.back());
    if (suffix != std::string_view::npos) {
      shift = static_cast<unsigned>(10 * (suffix + 1));
      text.remove_suffix(1);
    }
  }
  const auto value = parse_number(text, 10);
  if (!value || *value > (std::numeric_limits<std::uint64_t>::max() >> shift)) {
    return std::nullopt;
  }
  return *value << shift;
}

bool apply_exit(std::string_view value, Request& request) {
  using enum Request::Exit;
  constexpr std::array<std::pair<std::string_view, Request::Exit>, 4> kExits{
      {{"poweroff", kPowerOff}, {"reboot", kReboot}, {"hang", kHang}, {"panic", kPanic}}};
  const auto found =
      std::ranges::find(kExits, value, &std::pair<std::string_view, Request::Exit>::first);
  if (found == kExits.end()) {
    return false;
  }
  request.exit = found->second;
  return true;
}

bool apply_touch(std::string_view value, Request& request) {
  request.touch_all = value == "all";
  const auto size = request.touch_all ? std::optional<std::uint64_t>{0} : parse_size(value);
  request.touch_bytes = size.value_or(0);
  return size.has_value();
}

bool apply_kexec(std::string_view value, Request& request) {
  request.kexec = value == "1";
  return request.kexec || value == "0";
}

bool apply_generation(std::string_view value, Request& request) {
  constexpr std::uint64_t kMost = 1'000'000;
  const auto generation = parse_number(value, 10);
  if (!generation || *generation == 0 || *generation > kMost) {
    return false;
  }
  request.generation = static_cast<unsigned>(*generation);
  return true;
}

/// False for an `accede.` word that means nothing here; true for understood and for foreign words.
bool apply_word(std::string_view word, Request& request) {
  constexpr std::string_view kTouch = "accede.touch=";
  constexpr std::string_view kExit = "accede.exit=";
  if (word.starts_with(kTouch)) {
    return apply_touch(word.substr(kTouch.size()), request);
  }
  if (word.starts_with(kExit)) {
    return apply_exit(word.substr(kExit.size()), request);
  }
  if (word.starts_with(kKexecWord)) {
    return apply_kexec(word.substr(kKexecWord.size()), request);
  }
  if (word.starts_with(kGenerationWord)) {
    return apply_generation(word.substr(kGenerationWord.size()), request);
  }
  return !word.starts_with("accede.");
}

}  // namespace

std::string_view read_file(const char* path) {
  static std::array<char, kMaxFile> contents;
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return {};
  }
  std::size_t size = 0;
  while (size < contents.size()) {
    const ssize_t done = read(fd, contents.data() + size, contents.size() - size);
    if (done <= 0) {
      break;
    }
    size += static_cast<std::size_t>(done);
  }
  close(fd);
  return {contents.data(), size};
}

std::string_view take_line(std::string_view& text) {
  const std::string_view line = text.substr(0, text.find('\n'));
  text.remove_prefix(std::min(line.size() + 1, text.size()));
  return line;
}

std::string_view take_word(std::string_view& text) {
  constexpr std::string_view kBlank = " \t\n";
  text.remove_prefix(std::min(text.find_first_not_of(kBlank), text.size()));
  const std::string_view word = text.substr(0, text.find_first_of(kBlank));
  text.remove_prefix(word.size());
  return word;
}

std::optional<Figure> parse_figure(std::string_view line) {
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) {
    return std::nullopt;
  }
  std::string_view rest = line.substr(colon + 1);
  const auto kibibytes = parse_number(take_word(rest), 10);
  if (!kibibytes || take_word(rest) != "kB") {
    return std::nullopt;
  }
  return Figure{.name = line.substr(0, colon), .bytes = *kibibytes * 1024};
}

MemoryState read_memory_state() {
  MemoryState state;
  std::string_view text = read_file("/proc/meminfo");
  while (!text.empty()) {
    const auto figure = parse_figure(take_line(text));
    if (!figure) {
      continue;
    }
    if (figure->name == "MemTotal") {
      state.total = figure->bytes;
    } else if (figure->name == "MemAvailable") {
      state.available = figure->bytes;
    } else if (figure->name == "Unaccepted") {
      state.unaccepted = figure->bytes;
    }
  }
  return state;
}

std::uint64_t read_system_ram() {
  std::uint64_t total = 0;
  std::string_view text = read_file("/proc/iomem");
  while (!text.empty()) {
    const std::string_view line = take_line(text);
    const std::size_t dash = line.find('-');
    const std::size_t blank = line.find(' ');
    if (!line.ends_with(" : System RAM") || dash == std::string_view::npos || blank < dash) {
      continue;
    }
    const auto first = parse_number(line.substr(0, dash), 16);
    const auto last = parse_number(line.substr(dash + 1, blank - dash - 1), 16);
    if (first && last && *first < *last) {
      total += *last - *first + 1;
    }
  }
  return total;
}

Request parse_request(std::string_view command_line) {
  Request request;
  while (!command_line.empty()) {
    apply_word(take_word(command_line), request);
  }
  return request;
}

std::string_view unknown_request(std::string_view command_line) {
  while (!command_line.empty()) {
    const std::string_view word = take_word(command_line);
    Request ignored;
    if (!apply_word(word, ignored)) {
      return word;
    }
  }
  return {};
}

void write_next_command_line(CommandLine& next, std::string_view current, unsigned generation) {
  while (!current.empty()) {
    const std::string_view word = take_word(current);
    if (!word.empty() && !word.starts_with(kKexecWord) && !word.starts_with(kGenerationWord)) {
      next.text(word).text(" ");
    }
  }
  next.text(kGenerationWord).number(generation);
}

}  // namespace accede::init
