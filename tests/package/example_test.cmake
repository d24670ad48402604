# Installs the library into a folder of the build, builds examples/ against that, runs it.
# -DBINARY_DIR= -DSOURCE_DIR= -DGENERATOR=
set(prefix ${BINARY_DIR}/package-test/prefix)
set(build ${BINARY_DIR}/package-test/build)
file(REMOVE_RECURSE ${BINARY_DIR}/package-test)

function(step)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE code)
  if(code)
    message(FATAL_ERROR "failed (${code}): ${ARGN}")
  endif()
endfunction()

step(${CMAKE_COMMAND} --install ${BINARY_DIR} --prefix ${prefix})
step(${CMAKE_COMMAND} -S ${SOURCE_DIR}/examples/compare_methods -B ${build} -G ${GENERATOR}
     -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH=${prefix})
step(${CMAKE_COMMAND} --build ${build})
file(GLOB models ${SOURCE_DIR}/models/*)
list(GET models 0 model)
step(${build}/compare_methods ${model} "The grass is green. The sky is")
