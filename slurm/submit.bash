# How jobs are submitted, each after the one before it; slurm/pipeline.sh and slurm/ablate.sh source it.
# shellcheck shell=bash
source slurm/job.bash
trap - USR1 TERM # those of a job
read -ra sbatch_options <<< "${ONESEARCH_SBATCH:-}"
: "${ONESEARCH_NODES:=1}" "${ONESEARCH_GPUS:=0}" "${ONESEARCH_CPUS:=4}"
: "${ONESEARCH_TASKS:=$((ONESEARCH_GPUS > 0 ? ONESEARCH_GPUS : 1))}"
# The jobs read the site's file again, perhaps after it was changed: they take on what was decided here.
export ONESEARCH_CONTAINER="${ONESEARCH_CONTAINER:-}" ONESEARCH_SRUN="${ONESEARCH_SRUN:-}"

jobs=()  # ids of what was submitted
after=() # of what the next one waits for
declare -A is_array

# onesearch on this machine, the login node; in a container of Pyxis only srun can start it.
onesearch_here() {
    if [ "${#srun_options[@]}" -gt 0 ]; then
        srun --nodes=1 --ntasks=1 "${srun_options[@]}" "${container[@]}" onesearch "$@"
    else
        "${container[@]}" onesearch "$@"
    fi
}

# submit NAME cpu|one|all [--array=TASKS] SCRIPT [argument]...: after the success of the jobs in `after`, which it becomes.
submit() {
    local name=$1 uses=$2
    shift 2
    local options=(--parsable --kill-on-invalid-dep=yes --job-name="onesearch-$name" --cpus-per-task="$ONESEARCH_CPUS")
    local nodes=1 tasks=1 gpus=$((ONESEARCH_GPUS > 0 ? 1 : 0)) array=0
    case $uses in
        cpu)
            gpus=0
            [ -z "${ONESEARCH_CPU_PARTITION:-}" ] || options+=(--partition="$ONESEARCH_CPU_PARTITION")
            ;;
        all) nodes=$ONESEARCH_NODES tasks=$ONESEARCH_TASKS gpus=$ONESEARCH_GPUS ;;
    esac
    options+=(--nodes="$nodes" --ntasks-per-node="$tasks")
    [ "$gpus" = 0 ] || options+=(--gpus-per-node="$gpus")
    if [[ "${1:-}" == --array=* ]]; then
        array=1
        options+=(--output="${outputs:?}/$name-%a.out")
    else
        options+=(--output="${outputs:?}/$name.out")
    fi
    local job conditions=()
    for job in "${after[@]}"; do
        case $array${is_array[$job]} in
            11) conditions+=("aftercorr:$job") ;; # a task after the same task
            *) conditions+=("afterok:$job") ;;
        esac
    done
    [ "${#conditions[@]}" -eq 0 ] || options+=(--dependency="$(IFS=, && echo "${conditions[*]}")")
    if ! job=$(sbatch "${options[@]}" "${sbatch_options[@]}" "$@"); then
        echo "$name was refused, see above; what was submitted before it is cancelled" >&2
        [ "${#jobs[@]}" -eq 0 ] || scancel "${jobs[@]}"
        exit 1
    fi
    jobs+=("${job%%;*}") # "id;cluster" where there are several clusters
    after=("${jobs[-1]}")
    is_array[${jobs[-1]}]=$array
    echo "$name: job ${jobs[-1]}"
}

# numbers 0-2,7: 0,1,2,7
numbers() {
    local part all=()
    for part in ${1//,/ }; do
        mapfile -t -O "${#all[@]}" all < <(seq "${part%-*}" "${part#*-}")
    done
    (IFS=, && echo "${all[*]}")
}

tell_how_to_follow() {
    local ids
    ids=$(IFS=, && echo "${jobs[*]}")
    cat << END

follow:  squeue --jobs $ids
         tail -F $outputs/*.out
cancel:  scancel ${jobs[*]}
go on:   $1
         finished stages are skipped, a broken one goes on from its last checkpoint
END
}
