#!/usr/bin/env bash
# Sources are formatted as .clang-format says. Other versions of clang-format lay out differently, so
# the test is skipped (exit 77) without version 14.
set -euo pipefail
cd "$(dirname "$0")/../.."
tool=$(command -v clang-format-14 || command -v clang-format || true)
if [ -z "$tool" ] || ! "$tool" --version | grep -q 'version 14\.'; then
  echo "skipped: no clang-format 14"
  exit 77
fi
find apps bench examples fuzz include src tests \( -name '*.h' -o -name '*.cc' -o -name '*.cu' \) -print0 |
  xargs -0 "$tool" --dry-run -Werror
