#!/usr/bin/env bash
# The whole pipeline as jobs, each after the success of the one before it; run it in the project's folder:
#   slurm/pipeline.sh RUN [--seeds 0-4] [option of `onesearch pipeline`]...
# With --seeds every stage is an array, a task a seed, on one log: the runs are RUN/seed-0 and so on.
# If a stage fails, what comes after it is cancelled. Submit again: finished stages are skipped, a broken one goes on.
# What the cluster is like: slurm/site.example.sh. Options of sbatch for all jobs: ONESEARCH_SBATCH.
set -euo pipefail

if [ "$#" -lt 1 ] || [[ "$1" == -* ]]; then
    echo "usage: slurm/pipeline.sh RUN [--seeds 0-4] [option of onesearch pipeline]..." >&2
    exit 2
fi
run=$1
shift
seeds=
if [ "${1:-}" = --seeds ]; then
    seeds=${2:?"--seeds needs numbers, such as 0-4 or 0,7"}
    shift 2
fi
source slurm/submit.bash

# Assigned first: `set -e` does not see a failure inside the list of a loop.
stages=$(onesearch_here pipeline --run "$run" "$@" --stages true)
outputs="$run/slurm"
mkdir -p "$outputs"

while read -r stage uses; do
    [[ "$uses" =~ ^(cpu|one|all)$ ]] || continue # what a container says of itself
    # The log is nobody's seed: one job. Task by task after that: each seed goes at its own pace.
    array=()
    [ -z "$seeds" ] || [ "$uses" = cpu ] || array=(--array="$seeds")
    submit "$stage" "$uses" "${array[@]}" slurm/stage.sbatch "$run" "$stage" "$@"
done <<< "$stages"

if [[ " $* " != *" --until"* ]]; then
    array=()
    [ -z "$seeds" ] || array=(--array="$seeds")
    folder="$run${seeds:+/seed-{\}}"
    submit compare cpu "${array[@]}" slurm/command.sbatch compare --run "$folder" -- report --run "$folder"
fi
tell_how_to_follow "slurm/pipeline.sh $(printf '%q ' "$run" ${seeds:+--seeds "$seeds"} "$@")"
