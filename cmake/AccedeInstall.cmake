# What `cmake --install` gives a kernel, a VMM or a tool: the libraries in both variants, their
# headers under the path that they are included by, a CMake package and pkg-config files.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(installed_rooms base abi guest firmware image host)
set(installed_targets "")
foreach(room ${installed_rooms})
  install(DIRECTORY accede/${room} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/accede
    FILES_MATCHING PATTERN "*.hpp" PATTERN "*.h")
  foreach(variant "" _freestanding)
    if(TARGET accede_${room}${variant})
      list(APPEND installed_targets accede_${room}${variant})
    endif()
  endforeach()
endforeach()
if(TARGET accede_host_linux)
  list(APPEND installed_targets accede_host_linux)
endif()
install(TARGETS ${installed_targets} EXPORT accede-targets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT accede-targets NAMESPACE accede::
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/accede)
file(WRITE ${CMAKE_BINARY_DIR}/accede-config.cmake
  "include(\"\${CMAKE_CURRENT_LIST_DIR}/accede-targets.cmake\")\n")
write_basic_package_version_file(${CMAKE_BINARY_DIR}/accede-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/accede-config.cmake
  ${CMAKE_BINARY_DIR}/accede-config-version.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/accede)

# pkg-config: `accede-guest` and `accede-host` for kernels and firmware (freestanding).
foreach(room guest host)
  file(WRITE ${CMAKE_BINARY_DIR}/accede-${room}.pc
"prefix=\${pcfiledir}/../..
Name: accede-${room}
Description: ${PROJECT_DESCRIPTION}: the freestanding ${room} library
Version: ${PROJECT_VERSION}
Cflags: -I\${prefix}/${CMAKE_INSTALL_INCLUDEDIR} -std=c++23
Libs: -L\${prefix}/${CMAKE_INSTALL_LIBDIR} -laccede_${room}_freestanding
")
  install(FILES ${CMAKE_BINARY_DIR}/accede-${room}.pc
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()
