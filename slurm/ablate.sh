#!/usr/bin/env bash
# A study of `onesearch ablate` as jobs, an array a variant and a task a seed; run it in the project's folder:
#   slurm/ablate.sh RUN STUDY [--seeds 0-4] [option of `onesearch ablate`, such as --recipe]...
# RUN is a run whose earlier stages are finished. The first variant is trained first, since others may be measured by its
# steps; then all the others at once; the table comes last. A trial is one process on one device.
set -euo pipefail

if [ "$#" -lt 2 ] || [[ "$1$2" == *--* ]]; then
    echo "usage: slurm/ablate.sh RUN STUDY [--seeds 0-4] [option of onesearch ablate]..." >&2
    exit 2
fi
run=$1
study=${2%/}
shift 2
seeds=0
if [ "${1:-}" = --seeds ]; then
    seeds=${2:?"--seeds needs numbers, such as 0-4 or 0,7"}
    shift 2
fi
source slurm/submit.bash

outputs="$run/slurm/$(basename "$study")"
mkdir -p "$outputs"
LC_COLLATE=C # the order of Python's `sorted`
variants=("$study"/*/)
first=
trained=()
for folder in "${variants[@]}"; do
    variant=$(basename "$folder")
    after=(${first:+"$first"}) # all the others wait for the first one alone
    submit "$variant" one --array="$seeds" slurm/command.sbatch \
        ablate --run "$run" --study "$study" "$@" --only "[$variant]" --seeds "[{}]" --table false
    trained+=("${jobs[-1]}")
    first=${first:-${jobs[-1]}}
done
after=("${trained[@]}")
submit table cpu slurm/command.sbatch ablate --run "$run" --study "$study" "$@" --seeds "[$(numbers "$seeds")]"
tell_how_to_follow "slurm/ablate.sh $(printf '%q ' "$run" "$study" --seeds "$seeds" "$@")"
