#!/usr/bin/env bash
# Makes docs/results.md: needle and RULER under all methods, and FastKV's TSP layer and rate, on the
# bundled model. It goes on where it was stopped.
# usage: scripts/results.sh [--limit N] [--context N,...] [--ablation-context N] [--needle-context N,...]
#                           [--depths N,...] [--jobs N] [--out DIR] [--doc FILE] [--program FILE]
#                           [--summary-only] [-- options of fastkv eval]
# --jobs: so many processes share the samples; several GPUs take them in turn.
# --summary-only: make the document of the answers that are there.
# What the results mean is written by hand, in discussion.md beside the pictures.
set -euo pipefail
cd "$(dirname "$0")/.."

limit=50
context=4096,8192,16384,32768
ablation_context=8192
needle_context=4000,8000,16000
depths=0,10,20,30,40,50,60,70,80,90,100
out=results
doc=docs/results.md
program=build/fastkv
jobs=1
summary_only=
while [ $# -gt 0 ]; do
  case "$1" in
    --summary-only) summary_only=1; shift; continue ;;
    --limit) limit=$2 ;;
    --context) context=$2 ;;
    --ablation-context) ablation_context=$2 ;;
    --needle-context) needle_context=$2 ;;
    --depths) depths=$2 ;;
    --jobs) jobs=$2 ;;
    --out) out=$2 ;;
    --doc) doc=$2 ;;
    --program) program=$2 ;;
    --) shift; break ;;
    *) sed -n '2,9s/^# //p' "$0" >&2; exit 2 ;;
  esac
  shift 2
done
more=("$@")
[ "$jobs" -ge 1 ] || { echo "--jobs needs a number above 0, not $jobs" >&2; exit 2; }
[ -x "$program" ] || { echo "there is no program $program; build it, or name one by --program" >&2; exit 2; }

tasks=niah_single_1,niah_single_2,niah_single_3,niah_multikey_1,niah_multikey_2,niah_multikey_3
tasks+=,niah_multivalue,niah_multiquery,vt

gpus=$(nvidia-smi -L 2>/dev/null | wc -l || true)
# evaluate NAME BENCHMARK OPTION...: into $out/NAME
evaluate() {
  local name=$1 benchmark=$2 job
  shift 2
  local run=("$program" eval "$benchmark" --out "$out/$name")
  if [ -n "$summary_only" ]; then
    "${run[@]}" --merge "$out/$name" >"$out/$name.log"
  elif [ "$jobs" -eq 1 ]; then
    "${run[@]}" "$@" ${more[@]+"${more[@]}"} >"$out/$name.log"
  else
    local started=()
    for ((job = 1; job <= jobs; ++job)); do
      if [ "$gpus" -gt 1 ]; then export CUDA_VISIBLE_DEVICES=$((job % gpus)); fi
      "${run[@]}" --shard "$job/$jobs" "$@" ${more[@]+"${more[@]}"} >"$out/$name.$job.log" 2>&1 &
      started+=($!)
    done
    for job in "${started[@]}"; do wait "$job" || { cat "$out/$name".*.log >&2; exit 1; }; done
    "${run[@]}" --merge "$out/$name" >"$out/$name.log"
  fi
  echo "$out/$name"
}
# section FILE HEADING: what stands below a heading of a summary, without the heading
section() {
  awk -v heading="## $2" '$0 == heading {on = 1; next} /^## / {on = 0} on' "$1"
}
# setting FILE: the table at the top of a summary
setting() {
  awk '/^## / {exit} /^\|/' "$1"
}
# picture FILE: copies it beside the document and prints its name there
picture() {
  cp "$1" "$pictures/$2"
  echo "$(basename "$pictures")/$2"
}

mkdir -p "$out"
evaluate needle needle --method all --retain 0.1,0.2 --context "$needle_context" --depths "$depths" \
  --needle "One of the special magic numbers for old-dog is: 4711123." --answer 4711123 \
  --question "What is the special magic number for old-dog mentioned in the provided text?"
evaluate ruler ruler --method all --retain 0.1,0.2 --context "$context" --task "$tasks" --limit "$limit"
evaluate tsp-layer ruler --method fastkv --retain 0.1 --tsp-layer 1,2,3,4,5,6,7,8,9,10,11 \
  --context "$ablation_context" --task "$tasks" --limit "$limit"
evaluate tsp-rate ruler --method fastkv --retain 0.1 --tsp-rate 0.1,0.2,0.3,0.5,1 \
  --context "$ablation_context" --task "$tasks" --limit "$limit"

pictures=${doc%.md}
mkdir -p "$pictures"
{
  cat <<TEXT
# Results on the bundled model

Made by \`scripts/results.sh\`; [evaluation.md](evaluation.md) says what is measured and how. The prompts' text is
the project's own, so scores are not comparable with published ones. The model was trained for such questions, partly
under SnapKV's and FastKV's selection ([its card](../models/needle-v2-14m/README.md)): it shows that the engine
works and how methods differ on this model, not which one is best.

$(cat "$pictures/discussion.md" 2>/dev/null || true)

$(setting "$out/ruler/ruler.md")

## Needle in a haystack

A number hidden at depths of $depths % in lengths of $needle_context tokens.

$(section "$out/needle/needle.md" Scores)

TEXT
  for file in "$out"/needle/needle.*.svg; do
    name=$(basename "$file")
    echo "![${name%.svg}]($(picture "$file" "$name"))"
  done
  cat <<TEXT

## RULER

Eight needle tasks and variable tracking, up to $limit samples of each task and length.

$(section "$out/ruler/ruler.md" Scores)
TEXT
  if [ -e "$out/ruler/ruler.contexts.svg" ]; then
    echo
    echo "![Score against context]($(picture "$out/ruler/ruler.contexts.svg" ruler.contexts.svg))"
  fi
  cat <<TEXT

### Budget reached

$(section "$out/ruler/ruler.md" "Budget reached")

## FastKV: the TSP layer

10 % kept, 20 % of the tokens go on after the layer.

$(section "$out/tsp-layer/ruler.md" Scores)

$(section "$out/tsp-layer/ruler.md" "Time and memory")

## FastKV: the TSP rate

10 % kept.

$(section "$out/tsp-rate/ruler.md" Scores)

$(section "$out/tsp-rate/ruler.md" "Time and memory")
TEXT
} | cat -s >"$doc"
echo "wrote $doc"
