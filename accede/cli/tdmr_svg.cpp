// `accede tdmr --svg`: a bar for each TDMR, to scale within itself.
#include "accede/cli/size_text.hpp"
#include "accede/cli/tdmr_answer.hpp"

#include <algorithm>
#include <array>
#include <sstream>

namespace accede::cli {
namespace {

constexpr int kBarLeft = 20;
constexpr int kBarWidth = 960;
constexpr int kRowHeight = 64;
constexpr int kHeadHeight = 60;
/// Narrower than this, metadata and holes would not be seen.
constexpr double kLeastWidth = 1.5;

struct Look {
  const char* colour;
  const char* words;
};
constexpr std::array<Look, 4> kLooks{{{"#4c9f70", "TD memory"},
                                      {"#3465a4", "PAMT"},
                                      {"#bbbbbb", "not usable"},
                                      {"#cc4444", "RAM given up"}}};

const Look& look(StretchKind kind) {
  return kLooks.at(static_cast<std::size_t>(kind));
}

void draw_legend(std::ostream& out) {
  int x = kBarLeft;
  for (const Look& entry : kLooks) {
    out << "<rect x=\"" << x << "\" y=\"34\" width=\"14\" height=\"14\" fill=\"" << entry.colour
        << "\"/><text x=\"" << x + 20 << "\" y=\"46\">" << entry.words << "</text>\n";
    x += 150;
  }
}

void draw_tdmr(const host::TdmrPlan& plan, std::size_t index, std::ostream& out) {
  const host::PlannedTdmr& tdmr = plan.tdmrs[index];
  const int top = kHeadHeight + static_cast<int>(index) * kRowHeight;
  out << "<text x=\"" << kBarLeft << "\" y=\"" << top + 14 << "\">TDMR " << index << ": "
      << range_text(tdmr.range) << ", " << format_size(tdmr.range.size()) << ", node "
      << static_cast<std::uint32_t>(tdmr.node) << ", " << tdmr.area_count << " reserved</text>\n";
  const double scale = kBarWidth / static_cast<double>(tdmr.range.size().value());
  for (const Stretch& stretch : stretches_of(tdmr, plan)) {
    const auto offset = static_cast<double>((stretch.range.begin() - tdmr.range.begin()).value());
    const double width =
        std::max(static_cast<double>(stretch.range.size().value()) * scale, kLeastWidth);
    const double x = std::min(offset * scale, kBarWidth - width);
    out << "<rect x=\"" << format_fixed(kBarLeft + x, 2) << "\" y=\"" << top + 20 << "\" width=\""
        << format_fixed(width, 2) << "\" height=\"28\" fill=\"" << look(stretch.kind).colour
        << "\"><title>" << look(stretch.kind).words << " " << range_text(stretch.range) << ", "
        << format_size(stretch.range.size()) << "</title></rect>\n";
  }
}

}  // namespace

std::string tdmr_svg(const TdmrAnswer& answer) {
  const auto tdmrs = answer.plan.tdmrs;
  const int height = kHeadHeight + static_cast<int>(tdmrs.size()) * kRowHeight + 10;
  std::ostringstream out;
  out << "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
      << "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" << 2 * kBarLeft + kBarWidth
      << "\" height=\"" << height
      << "\" font-family=\"sans-serif\" font-size=\"13\">\n"
         "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
      << "<text x=\"" << kBarLeft << "\" y=\"20\" font-weight=\"bold\">"
      << count_text(tdmrs.size(), "TDMR", "TDMRs") << ", "
      << count_text(answer.plan.areas, "reserved area", "reserved areas") << ", "
      << format_size(answer.plan.pamt) << " PAMT</text>\n";
  draw_legend(out);
  for (std::size_t index = 0; index < tdmrs.size(); ++index) {
    draw_tdmr(answer.plan, index, out);
  }
  out << "</svg>\n";
  return out.str();
}

}  // namespace accede::cli
