#include "accede/cli/inspect_command.hpp"

#include "accede/cli/failure.hpp"
#include "accede/cli/file_text.hpp"
#include "accede/cli/inspect_files.hpp"
#include "accede/cli/inspect_output.hpp"
#include "accede/cli/line_splitter.hpp"
#include "accede/inspect/claims.hpp"
#include "accede/inspect/inspect.hpp"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <condition_variable>
#include <exception>
#include <expected>
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
};

/// What a file said.
struct Answer {
  InspectedFile file;
  std::string json = {};   ///< a line; empty: nothing new to say of it
  std::string text = {};   ///< the same for a person; empty for an error
  std::string error = {};  ///< goes on from the file's name
  bool image = false;      ///< has tags, none perhaps
  Tags tags = {};
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
  if (options.boot) {
    return std::unexpected{usage("--boot: not yet")};
  }
  if (options.claimed && options.resume) {
    return std::unexpected{
        usage("--claimed and --resume: a catalogue is of images, not of claims")};
  }
  if (options.paths.empty()) {
    return std::unexpected{usage("which file? (accede inspect --help)")};
  }
  Plan plan{.json = options.json};
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

Answer inspect_file(const FileToInspect& wanted, const Plan& plan) {
  Answer answer{.file = describe_file(wanted.path)};
  const auto bytes = read_bytes(wanted.path, kMostFile);
  if (!bytes) {
    return failed(std::move(answer.file), "cannot be read: " + bytes.error());
  }
  const auto report = inspect::inspect(*bytes);
  if (!report) {
    const bool pass_over = !wanted.named && !report.error().recognised;
    return pass_over ? answer : failed(std::move(answer.file), report.error().message);
  }
  std::optional<inspect::ClaimCheck> claims;
  if (!plan.claimed.empty()) {
    claims = inspect::check_claims(*report, plan.claimed);
  }
  answer.image = true;
  answer.tags = inspect::tags_of(*report);
  answer.json = json_line(inspection_json(answer.file, *report, claims));
  answer.text = inspection_text(answer.file, *report, claims);
  return answer;
}

/// An answer that a catalogue has.
Answer remembered(InspectedFile file, const nlohmann::json& line) {
  Answer answer{.file = std::move(file)};
  if (const auto error = line.find("error"); error != line.end() && error->is_string()) {
    answer.error = error->get<std::string>();
  }
  if (const auto tags = line.find("tags"); tags != line.end() && tags->is_array()) {
    answer.image = true;
    for (const auto& tag : *tags) {
      if (tag.is_string()) {
        answer.tags.push_back(tag.get<std::string>());
      }
    }
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
    if (known != nullptr) {
      return remembered(std::move(file), *known);
    }
    try {
      return inspect_file(wanted, plan_);
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
  int code = kExitDone;
  for (const std::string& tag : plan.required) {
    if (answer.image && std::ranges::find(answer.tags, tag) == answer.tags.end()) {
      err << "accede inspect: " << name << " is not known to be " << tag << "\n";
      code = kExitTestedFailed;
    }
  }
  return code;
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
  Workers workers{*plan, catalogue ? &*catalogue : nullptr};
  int code = kExitDone;
  for (std::size_t i = 0; i < plan->files.size(); ++i) {
    const Answer answer = workers.take(i);
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
