#include "accede/guest/tdx_platform.hpp"

namespace accede::guest {

Answer answer_of(std::uint64_t rax) {
  using abi::tdx::Status;
  switch (abi::tdx::code_of(rax)) {
    case Status::kSuccess:
      return Answer::kAccepted;
    case Status::kPageAlreadyAccepted:
      return Answer::kAlreadyAccepted;
    case Status::kPageSizeMismatch:
      return Answer::kSizeMismatch;
    case Status::kOperandBusy:
      return Answer::kBusy;
    default:
      return Answer::kInvalid;
  }
}

std::string_view to_string(TdxError error) {
  switch (error) {
    case TdxError::kInfoRefused:
      return "the TDX module refused TDG.VP.INFO"sv;
    case TdxError::kBadGpaWidth:
      return "the TDX module gave a guest address width other than 48 and 52"sv;
  }
  return "unknown TDX error"sv;
}

template class BasicTdxPlatform<HardwareTdcall>;

}  // namespace accede::guest
