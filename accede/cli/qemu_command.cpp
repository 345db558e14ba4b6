#include "accede/cli/qemu_command.hpp"

#include "accede/abi/fw_cfg.hpp"
#include "accede/cli/size_text.hpp"
#include "accede/emulator/report_layout.hpp"

#include <nlohmann/json.hpp>

namespace accede::cli {
namespace {

// Every choice here was measured under TCG on two cores:
//   vendor      Linux takes itself for a TD only on a GenuineIntel processor, and looks for SEV
//               only on an AuthenticAMD one; SVM is there on both
//   la57        the emulator walks four levels of page tables
//   phys-bits   room for 500 GiB and the bit that tells shared from private
//   erms        without it Linux clears pages with `rep stosq`, which TCG runs eight times faster
//               than `rep stosb`: the first touch of a page takes half the time
std::string processor(Platform platform) {
  const char* const vendor = platform == Platform::kSnp ? "AuthenticAMD" : "GenuineIntel";
  return std::string{"max,la57=off,vendor="} + vendor + ",phys-bits=48,erms=off";
}

// Devices that only cost time: the firmware and the kernel look for each.
constexpr const char* kMachine =
    "q35,memory-backend=ram,sata=off,smbus=off,i8042=off,vmport=off,smm=off";

/// QEMU's option syntax doubles commas inside a value.
std::string escape(const std::string& value) {
  std::string text;
  for (const char c : value) {
    text += c == ',' ? ",," : std::string{c};
  }
  return text;
}

/// A directory as a read-only FAT disk. virtio-blk: OVMF boots from it and distribution kernels
/// have its driver as a module, so that they do not spend time on it.
std::vector<std::string> disk_arguments(const std::filesystem::path& directory) {
  const nlohmann::json node{{"driver", "raw"},
                            {"node-name", "esp"},
                            {"read-only", true},
                            {"file",
                             {{"driver", "vvfat"},
                              {"dir", directory.string()},
                              {"fat-type", 16},
                              {"label", "ACCEDE"},
                              {"read-only", true}}}};
  return {"-blockdev", node.dump(), "-device", "virtio-blk-pci,drive=esp,bootindex=0"};
}

/// QEMU opens the file for reading only and keeps what the guest writes in a file without a name.
/// No other file is opened, whatever the image says. Without IOMMU_PLATFORM a confidential guest
/// does not use a virtio device.
std::vector<std::string> user_disk_arguments(const VmDisk& disk) {
  nlohmann::json node{{"driver", std::string{to_string(disk.format)}},
                      {"file", {{"driver", "file"}, {"filename", disk.file.string()}}}};
  if (disk.format == inspect::DiskFormat::kQcow2) {
    node["backing"] = nullptr;
  }
  return {"-drive", "if=none,id=disk,snapshot=on,file=" + escape("json:" + node.dump()), "-device",
          "virtio-blk-pci,drive=disk,bootindex=1,disable-legacy=on,iommu_platform=on"};
}

std::vector<std::string> firmware_arguments(const Firmware& firmware) {
  if (!firmware.variables) {
    return {"-bios", firmware.code.string()};
  }
  const std::string flash = "if=pflash,format=raw,unit=";
  return {"-drive", flash + "0,readonly=on,file=" + escape(firmware.code.string()), "-drive",
          flash + "1,file=" + escape(firmware.variables->string())};
}

std::string channel(const char* id, int fd) {
  return std::string{"socket,id="} + id + ",fd=" + std::to_string(fd);
}

}  // namespace

std::vector<std::string> qemu_arguments(const std::string& program, const VmSetup& setup) {
  const std::string memory = std::to_string(setup.memory.value() >> 20) + "M";
  std::vector<std::string> arguments{program};
  const auto add = [&arguments](const std::vector<std::string>& more) {
    arguments.insert(arguments.end(), more.begin(), more.end());
  };
  add({"-nodefaults", "-no-user-config", "-display", "none", "-net", "none"});
  add({"-no-reboot", "-no-shutdown"});
  add({"-machine", kMachine, "-accel", "tcg", "-cpu", processor(setup.platform), "-smp", "1"});
  // reserve=off: a VM larger than this host, as long as it does not use all of it.
  add({"-object", "memory-backend-ram,id=ram,reserve=off,size=" + memory, "-m", memory});
  add(firmware_arguments(setup.firmware));
  add(disk_arguments(setup.partition));
  if (setup.force_accept) {
    add({"-fw_cfg", "name=" + std::string{abi::fw_cfg::kForceAcceptFile} + ",string=1"});
  }
  if (setup.disk) {
    add(user_disk_arguments(*setup.disk));
  }
  add({"-chardev", channel("console", setup.channels.console), "-serial", "chardev:console"});
  add({"-chardev", channel("report", setup.channels.report), "-device",
       "isa-debugcon,chardev=report,iobase=" + format_hex(emulator::kReportPort)});
  add({"-chardev", channel("control", setup.channels.control), "-mon",
       "chardev=control,mode=control"});
  return arguments;
}

}  // namespace accede::cli
