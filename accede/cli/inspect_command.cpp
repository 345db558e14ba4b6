#include "accede/cli/inspect_command.hpp"

#include "accede/cli/failure.hpp"
#include "accede/cli/file_text.hpp"
#include "accede/cli/inspect_boot_run.hpp"
#include "accede/cli/inspect_files.hpp"
#include "accede/cli/inspect_output.hpp"
#include "accede/cli/json_fields.hpp"
#include "accede/cli/line_splitter.hpp"
#include "accede/inspect/claims.hpp"
#include "accede/inspect/inspect.hpp"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <condition_variable>
#include <exception>
#include <expected>
#include <iterator>
#include <mutex>
#include <span>
#include <thread>
#include <utility>

namespace accede::cli {
namespace {

using Tags = std::vector<std::string>;

/// Most of a file: a vmlinux with all its debug information is about this large.
constexpr std::uintmax_t kMostFile = 1ULL << 30;
constexpr unsigned kMostJobs = 1024;

/// The options, checked.
struct Plan {
  std::vector<FileToInspect> files = {};
  Tags claimed = {};   ///< empty: none to check
  Tags required = {};  ///< of every image
  unsigned jobs = 1;
  bool json = false;
  bool boot = false;
};

/// What a file says, or an earlier run said of it.
struct Answer {
  InspectedFile file;
  std::string json = {};   ///< a line; empty: nothing new to say of it
  std::string text = {};   ///< the same for a person; empty for an error
  std::string error = {};  ///< goes on from the file's name
  bool image = false;      ///< has tags, none perhaps
  Tags tags = {};          ///< what holds, as far as anybody knows
  /// What a new image says; its lines are not written yet.
  std::optional<inspect::Report> report = {};
  int boot_code = kExitDone;  ///< exit code of its boots
};

std::expected<Tags, Failure> check_tags(const std::string& option, const std::string& list) {
  auto tags = inspect::parse_tags(list);
  if (!tags) {
    return std::unexpected{usage(option + " '" + list + "': '" + tags.error() +
                                 "' is not a tag (for example TDX_CAPABLE,SEV_SNP_CAPABLE)")};
  }
  return *std::move(tags);
}

std::expected<unsigned, Failure> check_jobs(const std::optional<std::string>& text) {
  if (!text) {
    return std::max(1U, std::thread::hardware_concurrency());
  }
  unsigned jobs = 0;
  const char* const end = text->data() + text->size();
  const auto [rest, error] = std::from_chars(text->data(), end, jobs);
  if (error != std::errc{} || rest != end || jobs == 0 || jobs > kMostJobs) {
    return std::unexpected{usage("--jobs '" + *text + "': a number from 1 to 1024")};
  }
  return jobs;
}

std::expected<Plan, Failure> check(const InspectOptions& options) {
  if (!options.boot && (options.platform || options.timeout)) {
    return std::unexpected{usage("--platform and --timeout: only with --boot")};
  }
  if (options.claimed && options.resume) {
    return std::unexpected{
        usage("--claimed and --resume: a catalogue is of images, not of claims")};
  }
  if (options.paths.empty()) {
    return std::unexpected{usage("which file? (accede inspect --help)")};
  }
  Plan plan{.json = options.json, .boot = options.boot};
  if (options.claimed) {
    auto tags = check_tags("--claimed", *options.claimed);
    if (!tags) {
      return std::unexpected{tags.error()};
    }
    plan.claimed = *std::move(tags);
  }
  if (options.require) {
    auto tags = check_tags("--require", *options.require);
    if (!tags) {
      return std::unexpected{tags.error()};
    }
    plan.required = *std::move(tags);
  }
  const auto jobs = check_jobs(options.jobs);
  if (!jobs) {
    return std::unexpected{jobs.error()};
  }
  plan.jobs = *jobs;
  auto files = find_files(options.paths);
  if (!files) {
    return std::unexpected{files.error()};
  }
  plan.files = *std::move(files);
  return plan;
}

Answer failed(InspectedFile file, std::string message) {
  Answer answer{.file = std::move(file)};
  answer.error = std::move(message);
  answer.json = json_line(inspection_error_json(answer.file, answer.error));
  return answer;
}

/// A disk is far larger than what is read of it: its first bytes tell.
std::expected<std::optional<inspect::Report>, std::string> inspect_disk(const InspectedFile& file) {
  const auto head = read_head(file.path, inspect::kDiskHead);
  if (!head) {
    return std::nullopt;  // whoever reads all of it says why
  }
  const auto disk = inspect::recognise_disk(*head, file.bytes);
  if (!disk) {
    return std::unexpected{disk.error()};
  }
  return *disk ? std::optional{inspect::report_of_disk(**disk)} : std::nullopt;
}

Answer inspect_file(const FileToInspect& wanted) {
  Answer answer{.file = describe_file(wanted.path)};
  auto disk = inspect_disk(answer.file);
  if (!disk) {
    return failed(std::move(answer.file), disk.error());
  }
  if (*disk) {
    answer.report = *std::move(disk);
    return answer;
  }
  const auto bytes = read_bytes(wanted.path, kMostFile);
  if (!bytes) {
    return failed(std::move(answer.file), "cannot be read: " + bytes.error());
  }
  auto report = inspect::inspect(*bytes);
  if (!report) {
    const bool pass_over = !wanted.named && !report.error().recognised;
    return pass_over ? answer : failed(std::move(answer.file), report.error().message);
  }
  answer.report = *std::move(report);
  return answer;
}

/// Writes the lines of a new image. `booted`: nullptr when that was not asked for.
void describe(Answer& answer, const Plan& plan, const BootedImage* booted) {
  const inspect::Report& report = *answer.report;
  const inspect::Report known = booted == nullptr ? report : with_boots(report, *booted);
  std::optional<inspect::ClaimCheck> claims;
  if (!plan.claimed.empty()) {
    claims = inspect::check_claims(known, plan.claimed);
  }
  answer.image = true;
  answer.tags = inspect::tags_of(known);
  answer.json = json_line(inspection_json(answer.file, report, claims, booted));
  answer.text = inspection_text(answer.file, report, claims, booted);
  if (booted != nullptr) {
    answer.boot_code = exit_code(*booted);
  }
}

Tags words_of(const nlohmann::json& line, const char* field) {
  Tags words;
  if (const auto list = line.find(field); list != line.end() && list->is_array()) {
    for (const auto& word : *list) {
      if (word.is_string()) {
        words.push_back(word.get<std::string>());
      }
    }
  }
  return words;
}

/// What the boots of an image in a catalogue add to its answer.
void remember_boot(Answer& answer, const nlohmann::json& boot) {
  const Tags refuted = words_of(boot, "refuted");
  std::erase_if(answer.tags, [&](const std::string& tag) {
    return std::ranges::find(refuted, tag) != refuted.end();
  });
  std::ranges::copy(words_of(boot, "tags"), std::back_inserter(answer.tags));
  const auto code = number_field(boot, "exit_code").value_or(kExitDone);
  answer.boot_code = static_cast<int>(std::min<std::uint64_t>(code, kExitTimedOut));
}

/// An answer that a catalogue has.
Answer remembered(InspectedFile file, const nlohmann::json& line) {
  Answer answer{.file = std::move(file)};
  if (const auto error = line.find("error"); error != line.end() && error->is_string()) {
    answer.error = error->get<std::string>();
  }
  answer.image = line.contains("tags");
  answer.tags = words_of(line, "tags");
  if (const auto boot = line.find("boot"); boot != line.end() && boot->is_object()) {
    remember_boot(answer, *boot);
  }
  return answer;
}

/// The files of a plan, inspected by several threads and taken in order.
class Workers {
 public:
  Workers(const Plan& plan, const Catalogue* catalogue)
      : plan_{plan}, catalogue_{catalogue}, answers_(plan.files.size()) {
    const std::size_t count = std::min<std::size_t>(plan.jobs, plan.files.size());
    for (std::size_t i = 0; i < count; ++i) {
      threads_.emplace_back([this] { work(); });
    }
  }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;
  /// Files that nobody has begun are left.
  ~Workers() { next_ = plan_.files.size(); }

  /// Waits for the answer about file `index`. Once for each.
  [[nodiscard]] Answer take(std::size_t index) {
    std::unique_lock lock{mutex_};
    ready_.wait(lock, [&] { return answers_[index].has_value(); });
    return *std::exchange(answers_[index], std::nullopt);
  }

 private:
  void work() {
    for (;;) {
      const std::size_t index = next_.fetch_add(1);
      if (index >= plan_.files.size()) {
        return;
      }
      Answer answer = answer_for(plan_.files[index]);
      const std::lock_guard lock{mutex_};
      answers_[index] = std::move(answer);
      ready_.notify_all();
    }
  }

  [[nodiscard]] Answer answer_for(const FileToInspect& wanted) const {
    InspectedFile file = describe_file(wanted.path);
    const nlohmann::json* const known = catalogue_ == nullptr ? nullptr : catalogue_->find(file);
    if (known != nullptr && (!plan_.boot || known->contains("boot") || known->contains("error"))) {
      return remembered(std::move(file), *known);
    }
    try {
      return inspect_file(wanted);
    } catch (const std::exception& error) {
      return failed(std::move(file), std::string{"cannot be inspected: "} + error.what());
    }
  }

  const Plan& plan_;
  const Catalogue* catalogue_;
  std::atomic<std::size_t> next_ = 0;
  std::mutex mutex_;
  std::condition_variable ready_;
  std::vector<std::optional<Answer>> answers_;
  std::vector<std::jthread> threads_;
};

/// Writes an answer and says what it means for the exit code.
int report(const Answer& answer, const Plan& plan, std::ostream& out, std::ostream& err) {
  out << (plan.json ? answer.json : answer.text) << std::flush;
  const std::string name = printable(answer.file.path);
  if (!answer.error.empty()) {
    err << "accede inspect: " << name << " " << printable(answer.error) << "\n";
    return kExitUsage;
  }
  int code = answer.boot_code;
  for (const std::string& tag : plan.required) {
    if (answer.image && std::ranges::find(answer.tags, tag) == answer.tags.end()) {
      err << "accede inspect: " << name << " is not known to be " << tag << "\n";
      code = std::max<int>(code, kExitTestedFailed);
    }
  }
  return code;
}

/// Boots what can be booted, and writes the lines of a new image.
std::expected<void, Failure> complete(Answer& answer, const Plan& plan, ImageBooter* booter) {
  if (!answer.report) {
    return {};
  }
  if (booter == nullptr) {
    describe(answer, plan, nullptr);
    return {};
  }
  // What one file does to its boot must not end the others.
  try {
    const auto booted = booter->boot(answer.file.path, *answer.report);
    if (!booted) {
      return std::unexpected{booted.error()};
    }
    describe(answer, plan, &*booted);
  } catch (const std::exception& error) {
    answer = failed(std::move(answer.file), std::string{"cannot be booted: "} + error.what());
  }
  return {};
}

}  // namespace

int inspect_command(const InspectOptions& options, std::ostream& out, std::ostream& err) {
  const auto fail = [&](const Failure& failure) {
    err << "accede inspect: " << failure.message << "\n";
    return failure.exit_code;
  };
  const auto plan = check(options);
  if (!plan) {
    return fail(plan.error());
  }
  std::optional<Catalogue> catalogue;
  if (options.resume) {
    auto opened = Catalogue::open(*options.resume);
    if (!opened) {
      return fail(opened.error());
    }
    catalogue = *std::move(opened);
  }
  // Before there are threads: all of them leave signals to it.
  std::optional<SignalWatch> signals;
  std::optional<ImageBooter> booter;
  if (options.boot) {
    auto made = ImageBooter::make(options.platform, options.timeout, signals.emplace());
    if (!made) {
      return fail(made.error());
    }
    booter = *std::move(made);
  }
  Workers workers{*plan, catalogue ? &*catalogue : nullptr};
  int code = kExitDone;
  for (std::size_t i = 0; i < plan->files.size(); ++i) {
    Answer answer = workers.take(i);
    if (const auto done = complete(answer, *plan, booter ? &*booter : nullptr); !done) {
      return fail(done.error());
    }
    code = std::max(code, report(answer, *plan, out, err));
    if (catalogue && !answer.json.empty()) {
      if (const auto written = catalogue->append(answer.json); !written) {
        return fail(written.error());
      }
    }
  }
  return code;
}

}  // namespace accede::cli
