#!/usr/bin/env bash
# Renews the documents that the program prints itself.
# usage: scripts/make_docs.sh [PROGRAM]
set -euo pipefail
cd "$(dirname "$0")/.."
program=${1:-build/fastkv}
{
  cat <<'HEAD'
# Methods and their options

Printed by `fastkv methods --markdown` (scripts/make_docs.sh). Defaults that depend on the model are those
for LLaMA-3.1-8B; `fastkv methods --model DIR` shows those of a checkpoint.

HEAD
  "$program" methods --markdown
} >docs/methods.md
