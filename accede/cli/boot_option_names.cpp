// The words of the options, as the command line, the configuration and the JSON have them.
#include "accede/cli/boot_options.hpp"

namespace accede::cli {

std::string_view name(Platform platform) {
  switch (platform) {
    case Platform::kTdx:
      return "tdx";
    case Platform::kSnp:
      return "snp";
    case Platform::kNone:
      return "none";
  }
  return "none";
}

std::string_view name(AcceptMode mode) {
  switch (mode) {
    case AcceptMode::kLazy:
      return "lazy";
    case AcceptMode::kEager:
      return "eager";
    case AcceptMode::kBackground:
      return "background";
  }
  return "lazy";
}

std::string_view name(FirmwareKind kind) {
  switch (kind) {
    case FirmwareKind::kNever:
      return "never";
    case FirmwareKind::kAcceptAll:
      return "accept-all";
    case FirmwareKind::kHandshake:
      return "handshake";
  }
  return "never";
}

std::string name(FirmwareAccept accept) {
  switch (accept.scope) {
    case firmware::AcceptanceScope::kEverything:
      return "all";
    case firmware::AcceptanceScope::kBelow4G:
      return "below-4g";
    case firmware::AcceptanceScope::kAtLeast:
      return "min:" + std::to_string(accept.at_least.value());
  }
  return "below-4g";
}

std::string_view name(LoaderKind kind) {
  return kind == LoaderKind::kStub ? "stub" : "accede";
}

std::string_view name(UnacceptedTouch touch) {
  return touch == UnacceptedTouch::kStop ? "stop" : "exception";
}

}  // namespace accede::cli
