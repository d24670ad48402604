#!/usr/bin/env bash
# Runs every `build/fastkv ...` command of the README's sh blocks with the program given, as it stands
# there, and checks that the files and links it names exist.
# usage: readme_test.sh PROGRAM
set -euo pipefail
program=$(realpath "$1")
cd "$(dirname "$0")/../.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

commands=$(awk '/^```sh/ {on=1; next} /^```/ {on=0} on' README.md | sed -e ':a' -e '/\\$/N; s/\\\n *//; ta' | grep -E '^build/fastkv|\| build/fastkv' | grep -v '# slow' || true)
count=0
while IFS= read -r line; do
  [ -n "$line" ] || continue
  echo "+ $line"
  (cd "$scratch" && ln -sf "$OLDPWD/models" "$OLDPWD/tests" "$OLDPWD/README.md" . && bash -euo pipefail -c "${line//build\/fastkv/$program}" >out.txt 2>&1 </dev/null) ||
    { cat "$scratch/out.txt"; echo "README command failed: $line"; exit 1; }
  count=$((count + 1))
done <<<"$commands"
[ "$count" -ge 5 ] || { echo "only $count commands found in README.md; expected at least 5"; exit 1; }

# docs/methods.md is printed by the program.
"$program" methods --markdown | diff - <(tail -n +6 docs/methods.md) ||
  { echo "docs/methods.md is out of date; renew it with scripts/make_docs.sh"; exit 1; }

grep -oE '\]\([^)#]+\)' README.md docs/*.md | sed -E 's/^([^:]*):\]\((.*)\)$/\1 \2/' | while read -r file link; do
  case "$link" in http*) continue ;; esac
  [ -e "$(dirname "$file")/$link" ] || { echo "$file links to $link, which is not there"; exit 1; }
done
echo "$count commands ran"
