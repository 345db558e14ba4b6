# shellcheck shell=bash
# Which packages accede needs, and installing what is missing. Sourced by run.sh and test.sh.
#
#   accede_packages GROUP...    makes sure that the packages of the groups are there; where they
#                               cannot be installed it prints their names and exits 3
#
# A package counts as there when what we use of it is there, however it came. The names are those of
# Debian 12, Debian 13 and Ubuntu 24.04, where they are the same.
# ACCEDE_INSTALL=no forbids installing.

# group  package              the command or the files that we use (any of them is enough)
accede_package_table() {
  cat <<'TABLE'
build    cmake                cmake
build    ninja-build          ninja
build    g++                  g++
build    binutils             objcopy
build    cpio                 cpio
build    python3              python3
build    gnu-efi              /usr/lib/crt0-efi-x86_64.o /usr/lib/*/crt0-efi-x86_64.o /usr/lib/*/gnuefi/crt0-efi-x86_64.o
build    libgtest-dev         /usr/include/gtest/gtest.h
build    libgmock-dev         /usr/include/gmock/gmock.h
build    libbenchmark-dev     /usr/include/benchmark/benchmark.h
build    libcli11-dev         /usr/include/CLI/CLI.hpp
build    nlohmann-json3-dev   /usr/include/nlohmann/json.hpp
build    libarchive-dev       /usr/include/archive.h
build    libelf-dev           /usr/include/libelf.h
run      qemu-system-x86      qemu-system-x86_64
run      ovmf                 /usr/share/OVMF/OVMF_CODE*.fd /usr/share/ovmf/OVMF.fd
run      ca-certificates      /etc/ssl/certs/ca-certificates.crt
clang    clang-19             clang++-19
clang    clang-format-19      clang-format-19
clang    libclang-rt-19-dev   /usr/lib/llvm-19/lib/clang/19*/lib/linux/libclang_rt.fuzzer-x86_64.a
disk     systemd-boot-efi     /usr/lib/systemd/boot/efi/linuxx64.efi.stub
disk     mtools               mformat
disk     fdisk                sfdisk /usr/sbin/sfdisk
TABLE
}

# Without these a part of the checks is skipped, with a line that says so.
accede_optional_groups="clang disk"

accede_is_there() {
  local probe
  for probe in "$@"; do
    case $probe in
      /*) [ -e "$probe" ] && return 0 ;;
      *) command -v "$probe" >/dev/null 2>&1 && return 0 ;;
    esac
  done
  return 1
}

# Prints the missing packages of the groups, one a line.
accede_missing() {
  local group package probes wanted=" $* "
  accede_package_table | while read -r group package probes; do
    # shellcheck disable=SC2086 # the probes are patterns
    case $wanted in
      *" $group "*) accede_is_there $probes || echo "$package" ;;
    esac
  done
}

# Runs apt-get as root; fails when that is not possible.
accede_apt_get() {
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null 2>&1 || return 1
    if sudo -n true 2>/dev/null; then
      as_root=(sudo -n)
    elif [ -t 0 ] && [ -z "${CI:-}" ]; then
      as_root=(sudo)
    else
      return 1
    fi
  fi
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y \
    -o Dpkg::Use-Pty=0 -o Acquire::Retries=3 "$@" </dev/null >&2
}

accede_has_candidate() {
  [[ $(LC_ALL=C apt-cache policy "$1" 2>/dev/null) == *"Candidate: "[0-9]* ]]
}

# Installs what it can of the named packages.
accede_install() {
  local package offered=()
  [ "${ACCEDE_INSTALL:-yes}" != no ] || return 1
  command -v apt-get >/dev/null 2>&1 || return 1
  echo "installing: $*" >&2
  accede_apt_get update || true
  for package in "$@"; do
    accede_has_candidate "$package" && offered+=("$package")
  done
  [ ${#offered[@]} -gt 0 ] || return 1
  accede_apt_get install --no-install-recommends "${offered[@]}"
}

# The command fetches kernels by name: apt must know which there are.
accede_know_kernels() {
  command -v apt-cache >/dev/null 2>&1 && [ "${ACCEDE_INSTALL:-yes}" != no ] || return 0
  [ -n "$(apt-cache search --names-only '^linux-image-' 2>/dev/null)" ] ||
    accede_apt_get update || true
}

accede_packages() {
  local group required=() missing
  for group in "$@"; do
    case " $accede_optional_groups " in
      *" $group "*) ;;
      *) required+=("$group") ;;
    esac
  done
  missing=$(accede_missing "$@" | tr '\n' ' ')
  if [ -z "$missing" ]; then
    accede_know_kernels
    return 0
  fi
  # shellcheck disable=SC2086 # a list of words
  accede_install $missing || true
  missing=$(accede_missing "${required[@]}" | tr '\n' ' ')
  if [ -n "$missing" ]; then
    echo "missing packages, and they cannot be installed here: ${missing% }" >&2
    echo "install them as root: apt-get install ${missing% }" >&2
    exit 3
  fi
  missing=$(accede_missing "$@" | tr '\n' ' ')
  [ -z "$missing" ] || echo "not available here, what needs them is skipped: ${missing% }" >&2
}
