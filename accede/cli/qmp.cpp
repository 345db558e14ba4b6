#include "accede/cli/qmp.hpp"

#include "accede/cli/json_fields.hpp"

namespace accede::cli {

QmpMessage parse_qmp(std::string_view line) {
  const auto object = parse_object(line);
  if (!object) {
    return QmpOther{};
  }
  if (object->contains("QMP")) {
    return QmpGreeting{};
  }
  const std::uint64_t id = number_field(*object, "id").value_or(0);
  if (object->contains("return")) {
    return QmpDone{id};
  }
  if (object->contains("error")) {
    return QmpError{.id = id, .message = text_field(object_field(*object, "error"), "desc")};
  }
  if (text_field(*object, "event") == "SHUTDOWN") {
    return QmpShutdown{text_field(object_field(*object, "data"), "reason")};
  }
  return QmpOther{};
}

std::string qmp_capabilities() {
  return R"({"execute":"qmp_capabilities","id":0})"
         "\n";
}

std::string qmp_save_memory(std::uint64_t id, PhysAddr begin, Bytes size, const std::string& file) {
  const nlohmann::json command{
      {"execute", "pmemsave"},
      {"arguments", {{"val", begin.value()}, {"size", size.value()}, {"filename", file}}},
      {"id", id}};
  return command.dump() + "\n";
}

}  // namespace accede::cli
