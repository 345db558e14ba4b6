# The three ways code is compiled here:
#   accede_add_library      a library; FREESTANDING ones are compiled twice, hosted (for tests and
#                           the command) and freestanding (for kernels, firmware, the emulator);
#                           FREESTANDING_ONLY what nothing hosted links
#   accede_add_efi_program  a UEFI application made of freestanding code
#   accede_add_flat_image   a position independent flat binary (the resident emulator)

# Warnings are errors with the compilers that the project is tested with. A newer one may know
# warnings that nobody has seen yet; it shall not keep a user from building.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
  set(werror_default OFF)
else()
  set(werror_default ON)
endif()
option(ACCEDE_WERROR "Treat warnings as errors" ${werror_default})
set(ACCEDE_WARNINGS -Wall -Wextra -Wconversion -Wshadow)
if(ACCEDE_WERROR)
  list(APPEND ACCEDE_WARNINGS -Werror)
endif()

# What a kernel may use: no runtime, no vector registers, no red zone. -mpopcnt keeps g++ from
# calling __popcountdi2.
set(ACCEDE_FREESTANDING_FLAGS
  -ffreestanding -fno-exceptions -fno-rtti -fno-threadsafe-statics -fno-stack-protector
  -fno-asynchronous-unwind-tables -fvisibility=hidden -fpie
  -mno-red-zone -mno-sse -mno-mmx -msoft-float -mpopcnt -fcf-protection=none)

if(ACCEDE_SANITIZE)
  set(ACCEDE_SANITIZE_FLAGS -fsanitize=${ACCEDE_SANITIZE} -fno-sanitize-recover=all
      -fno-omit-frame-pointer)
endif()

function(accede_common target)
  target_include_directories(${target} PUBLIC
    $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}> $<INSTALL_INTERFACE:include>)
  target_compile_options(${target} PRIVATE ${ACCEDE_WARNINGS})
endfunction()

# Hosted compilation: warnings and the preset's sanitizers.
function(accede_hosted target)
  accede_common(${target})
  target_compile_options(${target} PRIVATE ${ACCEDE_SANITIZE_FLAGS})
  target_link_options(${target} PRIVATE ${ACCEDE_SANITIZE_FLAGS})
endfunction()

# Half of the time a freestanding file takes to compile goes into standard headers: they are
# compiled once for each set of options. That hides what a file forgets to include: the presets
# `freestanding`, which scripts/check builds, do without. (The command gains nothing by this: what
# includes nlohmann/json takes as long to load.)
option(ACCEDE_PRECOMPILE "Compile the standard headers once for many files" ON)
set(ACCEDE_FREESTANDING_HEADERS
  <algorithm> <array> <atomic> <bit> <compare> <concepts> <cstddef> <cstdint> <expected> <limits>
  <optional> <span> <string_view> <type_traits> <utility>)

# accede_precompile(TARGET NAME header...): the target uses the headers that NAME compiled once, with
# the target's own options; the first to ask makes NAME.
function(accede_precompile target name)
  if(NOT ACCEDE_PRECOMPILE)
    return()
  endif()
  if(NOT TARGET ${name})
    if(NOT EXISTS ${CMAKE_BINARY_DIR}/${name}.cpp)
      file(TOUCH ${CMAKE_BINARY_DIR}/${name}.cpp)
    endif()
    add_library(${name} OBJECT ${CMAKE_BINARY_DIR}/${name}.cpp)
    get_target_property(options ${target} COMPILE_OPTIONS)
    target_compile_options(${name} PRIVATE ${options})
    target_precompile_headers(${name} PRIVATE ${ARGN})
  endif()
  target_precompile_headers(${target} REUSE_FROM ${name})
endfunction()

# accede_add_library(NAME [FREESTANDING | FREESTANDING_ONLY] [SOURCES ...] [DEPENDS name ...])
# Without sources: a header-only library.
function(accede_add_library name)
  cmake_parse_arguments(ARG "FREESTANDING;FREESTANDING_ONLY" "" "SOURCES;DEPENDS" ${ARGN})
  if(NOT ARG_SOURCES)
    foreach(variant "" _freestanding)
      set(depends ${ARG_DEPENDS})
      list(TRANSFORM depends PREPEND accede_)
      list(TRANSFORM depends APPEND "${variant}")
      add_library(accede_${name}${variant} INTERFACE)
      target_include_directories(accede_${name}${variant} INTERFACE
        $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}> $<INSTALL_INTERFACE:include>)
      set_target_properties(accede_${name}${variant} PROPERTIES EXPORT_NAME ${name}${variant})
      target_link_libraries(accede_${name}${variant} INTERFACE ${depends})
    endforeach()
    add_library(accede::${name} ALIAS accede_${name})
    return()
  endif()
  if(ACCEDE_HOSTED AND NOT ARG_FREESTANDING_ONLY)
    add_library(accede_${name} STATIC ${ARG_SOURCES})
    accede_hosted(accede_${name})
    if(ACCEDE_SANITIZE MATCHES "address" AND NOT ARG_FREESTANDING)
      # What is only hosted waits for others: it takes longer to compile than to run.
      target_compile_options(accede_${name} PRIVATE -O0)
    endif()
    if(ARG_FREESTANDING)
      accede_precompile(accede_${name} accede_library_headers ${ACCEDE_FREESTANDING_HEADERS})
    endif()
    set(hosted_depends ${ARG_DEPENDS})
    list(TRANSFORM hosted_depends PREPEND accede_)
    target_link_libraries(accede_${name} PUBLIC ${hosted_depends})
    set_target_properties(accede_${name} PROPERTIES EXPORT_NAME ${name})
    add_library(accede::${name} ALIAS accede_${name})
  endif()
  if(ARG_FREESTANDING OR ARG_FREESTANDING_ONLY)
    add_library(accede_${name}_freestanding STATIC ${ARG_SOURCES})
    set_target_properties(accede_${name}_freestanding PROPERTIES EXPORT_NAME ${name}_freestanding)
    accede_common(accede_${name}_freestanding)
    target_compile_options(accede_${name}_freestanding PRIVATE ${ACCEDE_FREESTANDING_FLAGS})
    accede_precompile(accede_${name}_freestanding accede_freestanding_headers
      ${ACCEDE_FREESTANDING_HEADERS})
    set(free_depends ${ARG_DEPENDS})
    list(TRANSFORM free_depends PREPEND accede_)
    list(TRANSFORM free_depends APPEND _freestanding)
    target_link_libraries(accede_${name}_freestanding PUBLIC ${free_depends})
  endif()
endfunction()

# accede_add_flat_image(NAME SCRIPT linker-script SOURCES ... DEPENDS name ...)
# Output: ${CMAKE_BINARY_DIR}/NAME.bin
function(accede_add_flat_image name)
  cmake_parse_arguments(ARG "" "SCRIPT" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  accede_common(${name})
  set_target_properties(${name} PROPERTIES LINK_DEPENDS ${ARG_SCRIPT})
  target_compile_options(${name} PRIVATE ${ACCEDE_FREESTANDING_FLAGS})
  accede_precompile(${name} accede_freestanding_headers ${ACCEDE_FREESTANDING_HEADERS})
  list(TRANSFORM ARG_DEPENDS PREPEND accede_)
  list(TRANSFORM ARG_DEPENDS APPEND _freestanding)
  target_link_libraries(${name} PRIVATE ${ARG_DEPENDS})
  target_link_options(${name} PRIVATE -nostdlib -static-pie -Wl,--no-dynamic-linker
    -Wl,-T,${ARG_SCRIPT} -Wl,-z,norelro -Wl,-z,text -Wl,--build-id=none -Wl,--no-warn-rwx-segments
    -Wl,--orphan-handling=error)
  add_custom_command(TARGET ${name} POST_BUILD
    COMMAND ${ACCEDE_OBJCOPY} -O binary $<TARGET_FILE:${name}> ${CMAKE_BINARY_DIR}/${name}.bin
    BYPRODUCTS ${CMAKE_BINARY_DIR}/${name}.bin
    VERBATIM)
endfunction()

# accede_add_efi_program(NAME OUTPUT file SOURCES ... DEPENDS name ...)
# Output: ${ACCEDE_ARTIFACT_DIR}/OUTPUT. gnu-efi gives only the start-up code (crt0 and its
# self-relocation) and the linker script.
function(accede_add_efi_program name)
  cmake_parse_arguments(ARG "" "OUTPUT" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  accede_common(${name})
  target_compile_options(${name} PRIVATE ${ACCEDE_FREESTANDING_FLAGS} -fpic -fshort-wchar)
  accede_precompile(${name} accede_efi_headers ${ACCEDE_FREESTANDING_HEADERS})
  list(TRANSFORM ARG_DEPENDS PREPEND accede_)
  list(TRANSFORM ARG_DEPENDS APPEND _freestanding)
  target_link_libraries(${name} PRIVATE ${ARG_DEPENDS})
  target_link_options(${name} PRIVATE -nostdlib -shared -Wl,-Bsymbolic -Wl,-z,defs
    -Wl,-z,norelro -Wl,--build-id=none -Wl,--no-warn-rwx-segments
    -Wl,-T,${ACCEDE_EFI_LDS} ${ACCEDE_EFI_CRT0} -Wl,--defsym=_entry=efi_main)  # gnu-efi >= 3.0.18 calls _entry
  target_link_libraries(${name} PRIVATE ${ACCEDE_GNUEFI})
  get_filename_component(directory ${ACCEDE_ARTIFACT_DIR}/${ARG_OUTPUT} DIRECTORY)
  add_custom_command(TARGET ${name} POST_BUILD
    COMMAND ${CMAKE_COMMAND} -E make_directory ${directory}
    COMMAND ${ACCEDE_OBJCOPY} -j .text -j .sdata -j .data -j .dynamic -j .dynsym -j .rel -j .rela
      -j .rel.* -j .rela.* -j .reloc -j .rodata --target efi-app-x86_64
      $<TARGET_FILE:${name}> ${ACCEDE_ARTIFACT_DIR}/${ARG_OUTPUT}
    BYPRODUCTS ${ACCEDE_ARTIFACT_DIR}/${ARG_OUTPUT}
    VERBATIM)
endfunction()

if(ACCEDE_EFI)
  # GNU's: LLVM's does not write the EFI format.
  find_program(ACCEDE_OBJCOPY NAMES x86_64-linux-gnu-objcopy objcopy REQUIRED)
  find_file(ACCEDE_EFI_CRT0 crt0-efi-x86_64.o PATHS /usr/lib /usr/lib64/gnuefi
    PATH_SUFFIXES x86_64-linux-gnu x86_64-linux-gnu/gnuefi NO_CMAKE_FIND_ROOT_PATH REQUIRED)
  find_library(ACCEDE_GNUEFI libgnuefi.a PATHS /usr/lib /usr/lib64/gnuefi
    PATH_SUFFIXES x86_64-linux-gnu x86_64-linux-gnu/gnuefi NO_CMAKE_FIND_ROOT_PATH REQUIRED)
  find_file(ACCEDE_EFI_LDS elf_x86_64_efi.lds PATHS /usr/lib /usr/lib64/gnuefi
    PATH_SUFFIXES x86_64-linux-gnu x86_64-linux-gnu/gnuefi NO_CMAKE_FIND_ROOT_PATH REQUIRED)
endif()
