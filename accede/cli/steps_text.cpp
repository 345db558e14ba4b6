#include "accede/cli/steps_text.hpp"

#include "accede/cli/size_text.hpp"
#include "accede/cli/step_flow.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace accede::cli {

std::vector<Step> steps_of(const RunResult& result) {
  return StepFlow{result}.take();
}

std::string steps_text(const RunResult& result) {
  struct Line {
    std::string who, what, bytes, seconds;
  };
  std::vector<Line> lines;
  Line widest;
  for (Step& step : steps_of(result)) {
    lines.push_back({std::move(step.who), std::move(step.what),
                     step.bytes ? format_size(*step.bytes) : "-", format_seconds(step.seconds)});
    for (std::string Line::* cell : {&Line::who, &Line::what, &Line::bytes, &Line::seconds}) {
      const std::size_t width = std::max((widest.*cell).size(), (lines.back().*cell).size());
      (widest.*cell).resize(width, ' ');
    }
  }
  const auto blanks = [](const std::string& room, const std::string& cell) {
    return std::string(2 + room.size() - cell.size(), ' ');
  };
  std::string text;
  for (const Line& line : lines) {
    text += line.who + blanks(widest.who, line.who) + line.what + blanks(widest.what, line.what) +
            std::string(widest.bytes.size() - line.bytes.size(), ' ') + line.bytes +
            blanks(widest.seconds, line.seconds) + line.seconds + "\n";
  }
  return text;
}

}  // namespace accede::cli
