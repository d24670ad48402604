#!/usr/bin/env bash
# Builds everything and runs all tests; installs what is missing.
# usage: scripts/test.sh [options of ctest, e.g. -R engine]
# FASTKV_TEST_DATA names a folder with third-party test data; tests that need it are skipped
# with a line where it is absent.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/lib.sh
install_missing "${packages[@]}" "${test_packages[@]}"
CMAKE_OPTIONS="-DFASTKV_BUILD_TESTS=ON ${CMAKE_OPTIONS:-}" configure_and_build "${BUILD_DIR:-build}" all
# Several programs with as many threads as there are cores get in each other's way less if
# waiting threads sleep.
export OMP_WAIT_POLICY=passive
exec ctest --test-dir "${BUILD_DIR:-build}" --output-on-failure --parallel "$(nproc)" "$@"
