# How the project's parts are built: one object library per folder of src/, one static library of
# all of them, one test program per folder of tests/.

set(FASTKV_WARNINGS -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  list(APPEND FASTKV_WARNINGS -Wno-restrict)  # false alarms of GCC 12 on std::string, GCC bug 105651
endif()
if(FASTKV_WERROR)
  list(APPEND FASTKV_WARNINGS -Werror)
endif()
if(FASTKV_SANITIZE)
  add_compile_options(
    "$<$<COMPILE_LANGUAGE:CXX>:-fsanitize=address,undefined;-fno-sanitize-recover=all;-fno-omit-frame-pointer>")
  add_link_options(-fsanitize=address,undefined)
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    list(APPEND FASTKV_WARNINGS -Wno-maybe-uninitialized)  # false alarms on std::regex, GCC bug 105616
  endif()
endif()

# CUDA where it is found and wanted. Files named *cuda* and *.cu are left out without it;
# without_cuda.cc takes their place.
set(FASTKV_CUDA_FOUND OFF)
if(FASTKV_CUDA)
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_ARCHITECTURES OFF)  # FASTKV_CUDA_FLAGS names them: sm_90a is not known to older CMake
    enable_language(CUDA)
    find_package(CUDAToolkit REQUIRED)
    set(FASTKV_CUDA_FOUND ON)
    if(NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
      # CMake 3.25 does not know that nvcc 12 and later have C++20.
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
    endif()
    set(FASTKV_CUDA_FLAGS --expt-relaxed-constexpr --Werror=all-warnings -Xcompiler=-Wall,-Wextra)
    foreach(architecture ${FASTKV_CUDA_ARCHITECTURES})
      list(APPEND FASTKV_CUDA_FLAGS -gencode=arch=compute_${architecture},code=sm_${architecture})
    endforeach()
    # Devices that are newer than all of these compile the first one's PTX when they start.
    list(GET FASTKV_CUDA_ARCHITECTURES 0 lowest)
    list(APPEND FASTKV_CUDA_FLAGS -gencode=arch=compute_${lowest},code=compute_${lowest})
  else()
    message(STATUS "No nvcc was found: building without CUDA")
  endif()
endif()

# fastkv_module(NAME [USES module...] [DEPENDS target...]): src/NAME/*.cc (and *.cu) as fastkv_NAME.
function(fastkv_module name)
  cmake_parse_arguments(arg "" "" "USES;DEPENDS" ${ARGN})
  set(folder ${PROJECT_SOURCE_DIR}/src/${name})
  file(GLOB sources CONFIGURE_DEPENDS ${folder}/*.cc)
  file(GLOB cuda_sources CONFIGURE_DEPENDS ${folder}/*cuda*.cc ${folder}/*.cu)
  list(REMOVE_ITEM sources ${cuda_sources})
  list(REMOVE_ITEM cuda_sources ${folder}/without_cuda.cc)
  if(FASTKV_CUDA_FOUND)
    list(APPEND sources ${cuda_sources})
  elseif(EXISTS ${folder}/without_cuda.cc)
    list(APPEND sources ${folder}/without_cuda.cc)
  endif()
  set(target fastkv_${name})
  if(NOT sources)
    add_library(${target} INTERFACE)
    return()
  endif()
  add_library(${target} OBJECT ${sources})
  target_include_directories(${target} PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:${FASTKV_WARNINGS}>
                                           $<$<COMPILE_LANGUAGE:CUDA>:${FASTKV_CUDA_FLAGS}>)
  target_link_libraries(${target} PUBLIC ${arg_DEPENDS})
  # This passes on include folders and libraries; objects are linked where a program names them.
  foreach(used ${arg_USES})
    target_link_libraries(${target} PUBLIC fastkv_${used})
  endforeach()
endfunction()

# fastkv_code_version(FILE): defines FASTKV_CODE_VERSION for that source file, the project's version
# and, in a git repository, the commit.
function(fastkv_code_version file)
  find_package(Git QUIET)
  set(version ${PROJECT_VERSION})
  if(Git_FOUND AND EXISTS ${PROJECT_SOURCE_DIR}/.git)
    execute_process(COMMAND ${GIT_EXECUTABLE} -C ${PROJECT_SOURCE_DIR} describe --always --dirty --tags
                    OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed ERROR_QUIET)
    if(NOT failed)
      string(APPEND version "+${commit}")
    endif()
    if(EXISTS ${PROJECT_SOURCE_DIR}/.git/logs/HEAD)  # a commit runs CMake again
      set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/.git/logs/HEAD)
    endif()
  endif()
  set_source_files_properties(${file} PROPERTIES COMPILE_DEFINITIONS FASTKV_CODE_VERSION="${version}")
endfunction()

# fastkv_library(MODULES module... DEPENDS target...): the static library `fastkv` made of those
# modules, and its CMake package.
function(fastkv_library)
  cmake_parse_arguments(arg "" "" "MODULES;DEPENDS" ${ARGN})
  add_library(fastkv STATIC)
  add_library(fastkv::fastkv ALIAS fastkv)
  target_include_directories(
    fastkv PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_compile_features(fastkv PUBLIC cxx_std_20)
  foreach(module ${arg_MODULES})
    # Their objects only: the modules themselves are not installed.
    target_sources(fastkv PRIVATE $<TARGET_OBJECTS:fastkv_${module}>)
  endforeach()
  target_link_libraries(fastkv PRIVATE ${arg_DEPENDS})

  include(CMakePackageConfigHelpers)
  set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/fastkv)
  configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/fastkv-config.cmake.in
                                ${PROJECT_BINARY_DIR}/fastkv-config.cmake INSTALL_DESTINATION ${package_dir})
  write_basic_package_version_file(${PROJECT_BINARY_DIR}/fastkv-config-version.cmake
                                   COMPATIBILITY SameMinorVersion)
  install(TARGETS fastkv EXPORT fastkv ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(EXPORT fastkv NAMESPACE fastkv:: DESTINATION ${package_dir} FILE fastkv-targets.cmake)
  install(FILES ${PROJECT_BINARY_DIR}/fastkv-config.cmake ${PROJECT_BINARY_DIR}/fastkv-config-version.cmake
                ${PROJECT_SOURCE_DIR}/cmake/FindDNNL.cmake DESTINATION ${package_dir})
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/fastkv DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
endfunction()

# fastkv_tests(NAME USES module... [DEPENDS target...]): tests/NAME/*_test.cc as one program,
# each test case known to ctest.
function(fastkv_tests name)
  cmake_parse_arguments(arg "" "" "USES;DEPENDS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/${name}/*_test.cc)
  if(NOT sources)
    return()
  endif()
  set(target test_${name})
  add_executable(${target} ${sources})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_compile_options(${target} PRIVATE ${FASTKV_WARNINGS})
  target_compile_definitions(${target} PRIVATE FASTKV_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
                                               FASTKV_BINARY_DIR="${PROJECT_BINARY_DIR}")
  foreach(used ${arg_USES})
    target_link_libraries(${target} PRIVATE fastkv_${used})
  endforeach()
  target_link_libraries(${target} PRIVATE ${arg_DEPENDS} GTest::gtest_main)
  gtest_discover_tests(${target} TEST_PREFIX ${name}/ DISCOVERY_TIMEOUT 60)
endfunction()
