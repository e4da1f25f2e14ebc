#!/usr/bin/env bash
# Every stage as a job of its own, each after the success of the one before it; run it in the project's folder:
#   slurm/pipeline.sh RUN [option of `onesearch pipeline`]...
# If a stage fails, those after it are cancelled. Submit again: finished stages are skipped.
set -euo pipefail

if [ "$#" -lt 1 ]; then
    echo "usage: slurm/pipeline.sh RUN [option of onesearch pipeline]..." >&2
    exit 2
fi
run=$1
shift
export PATH="$PWD/.venv/bin:$PATH"

# Assigned first: `set -e` does not see a failure inside the list of a loop.
stages=$(python -c 'from onesearch.pipeline import STEPS; print(*(step.name for step in STEPS))')
after=()
for stage in $stages; do
    job=$(sbatch --parsable --kill-on-invalid-dep=yes --job-name="onesearch-$stage" "${after[@]}" \
        slurm/stage.sbatch "$run" "$stage" "$@")
    job=${job%%;*} # "id;cluster" where there are several clusters
    echo "$stage: job $job"
    after=(--dependency="afterok:$job")
done
