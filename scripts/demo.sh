#!/usr/bin/env bash
# The main job on a fresh machine: installs what is missing, builds, hides facts in a long text and
# asks the bundled model for one of them under every method.
# usage: scripts/demo.sh [--tokens N] [--seed N] [further options of `fastkv demo`]
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/lib.sh
install_missing "${packages[@]}"
CMAKE_OPTIONS="-DFASTKV_BUILD_TESTS=OFF" configure_and_build build fastkv_cli
exec build/fastkv demo "$@"
