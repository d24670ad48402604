#!/usr/bin/env bash
# Builds everything with CUDA and runs all tests that need a CUDA device; prints how many passed.
# usage: scripts/test_gpu.sh [--sanitize]   (--sanitize: also compute-sanitizer's memcheck and
#        racecheck over the fixtures, which takes some minutes)
# BUILD_DIR names a build folder (default build); SKIP_BUILD=1 takes what is there.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/lib.sh
build=${BUILD_DIR:-build}
if [ -z "${SKIP_BUILD:-}" ]; then
  install_missing "${packages[@]}" "${test_packages[@]}"
  CMAKE_OPTIONS="-DFASTKV_BUILD_TESTS=ON ${CMAKE_OPTIONS:-}" configure_and_build "$build" test_ops test_engine
fi
tests=${TEST_DIR:-$build/tests}
export OMP_WAIT_POLICY=passive
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
failed=0
run() { # NAME COMMAND...
  local name=$1
  shift
  "$@" >"$logs/$name" 2>&1 || { failed=1; grep -E "Failure|FAILED|Actual|ERROR" "$logs/$name" | head -40 || true; }
  echo "$name: $(grep -Eo '\[  PASSED  \] [0-9]+ tests?' "$logs/$name" | tail -1 || true) \
$(grep -E 'ERROR SUMMARY|RACECHECK SUMMARY' "$logs/$name" | tail -1 || true)"
}
"$tests/test_ops" --gtest_list_tests | grep -q cuda || { echo "There is no CUDA device here." >&2; exit 2; }
run operations "$tests/test_ops" --gtest_filter='*cuda*:Cuda*'
run engine "$tests/test_engine" --gtest_filter='*cuda*:Session*:Models*:DeviceAgreement*'
if [ "${1:-}" = --sanitize ]; then
  for tool in memcheck racecheck; do
    run "$tool-operations" compute-sanitizer --tool "$tool" --error-exitcode 3 \
      "$tests/test_ops" --gtest_filter='Cuda*Decoding*:Cuda*Prompts*:Cuda*ColumnSums*:*TopK*cuda*:*Rows*cuda*:*Draw*cuda*'
    run "$tool-fixtures" compute-sanitizer --tool "$tool" --error-exitcode 3 \
      "$tests/test_engine" --gtest_filter='*cuda_tiny_llama_1*:*cuda_tiny_ministral_2*'
  done
fi
grep -h "share\|answers are" "$logs"/engine || true
total=$(grep -hEo '\[  PASSED  \] [0-9]+' "$logs"/* | grep -Eo '[0-9]+$' | paste -sd+ -)
echo "passed: $((total)); $([ $failed = 0 ] && echo "none failed" || echo "SOME FAILED")"
exit $failed
