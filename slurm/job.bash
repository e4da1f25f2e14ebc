# What every job does: the site's settings, its container, signals, and going on. `*.sbatch` source it in the project's
# folder; slurm/pipeline.sh does so for the first of these.
# shellcheck shell=bash

# Settings, from the environment or else from slurm/site.sh; slurm/site.example.sh says what each is.
# shellcheck source=slurm/site.example.sh
[ ! -f slurm/site.sh ] || source slurm/site.sh
read -ra container <<< "${ONESEARCH_CONTAINER:-}"
read -ra srun_options <<< "${ONESEARCH_SRUN:-}"
export PATH="$PWD/.venv/bin:$PATH"

SAVED=75 # sysexits' EX_TEMPFAIL: what the training process exits with once it has saved, to be started again
asked=        # the signal that asked for the end of this job
running=      # the `srun` that it waits for
repeating=    # what hands that signal on to it
saved_before= # what `saved` said at the start

# The shell alone is signalled before the time limit (`--signal=B:`), not the steps: a step that is just importing, or that
# prepares the log and has nothing to save, would die of it, and only the shell knows that this was no fault.
# srun hands the signal to all processes of its tasks, but drops one that comes before it has started them: hence again.
ask_for_the_end() {
    asked=$1
    echo "$(date +%T) SIG$1: asked to end, once what there is has been saved" >&2
    if [ "$1" = USR1 ] && [ -n "$running" ]; then
        local step=$running
        (while kill -USR1 "$step"; do sleep 15; done) &> /dev/null &
        repeating=$!
    fi
}
trap 'ask_for_the_end USR1' USR1
# At preemption SLURM sends SIGTERM to all processes of the job: the tasks have it already.
trap 'ask_for_the_end TERM' TERM

# A command in the background, since bash looks at its traps only between commands; a signal also ends `wait`.
attended() {
    [ -z "$asked" ] || return $SAVED
    "$@" &
    running=$!
    local code=0
    while :; do
        wait "$running" && code=0 || code=$?
        kill -0 "$running" 2> /dev/null || break
    done
    if [ -n "$asked" ]; then # the signal may have ended `wait` just before the command ended: the shell keeps its code
        wait "$running" && code=0 || code=$?
    fi
    running=
    [ -z "$repeating" ] || kill "$repeating" 2> /dev/null || true
    return "$code"
}

# Without --kill-on-bad-exit the other tasks of a dead one wait for it until the time limit.
step() {
    attended srun --kill-on-bad-exit=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" "${srun_options[@]}" "$@"
}

# onesearch VERB ... as one process.
one() {
    local single=()
    case $1 in fit | predict) single=(--trainer.num_nodes 1 --trainer.devices 1) ;; esac
    SLURM_NTASKS_PER_NODE=1 step --nodes=1 --ntasks=1 "${container[@]}" onesearch "$@" "${single[@]}"
}

# onesearch VERB ... once a task of the job: Lightning finds its rank, and where the first one is, in SLURM's variables.
all() {
    step "${container[@]}" onesearch "$@" \
        --trainer.num_nodes "${SLURM_NNODES:-1}" --trainer.devices "${SLURM_NTASKS_PER_NODE:-1}"
}

# The name of this job, not of all of its array: `scontrol requeue` with the array's id would start every task again.
this_job() {
    echo "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
}

# Whether a command that ended with this code is to be started again.
goes_on() {
    local code=$1
    [ "$code" != 0 ] || return 1
    if [ "$code" = $SAVED ] || [ -n "$asked" ]; then
        return 0
    fi
    # Killed: out of memory, a lost GPU, somebody's hand. Whatever kills it again and again before it saves would do so for
    # ever; where something was saved since the start, it gets further.
    [ "$code" -gt 128 ] && [ "$(saved)" != "$saved_before" ]
}

# What stands in the folder of checkpoints, with times; it changes when something is saved.
saved() {
    stat --dereference --format '%n %y %s' "${checkpoints:-/nowhere}"/* 2> /dev/null || true
}

# End the job with a code. One that goes on waits in the queue again, under its own id, so that what depends on it waits too.
leave() {
    local code=$1
    if ! goes_on "$code"; then
        exit "$code"
    fi
    if [ "${SLURM_RESTART_COUNT:-0}" -ge "${ONESEARCH_MAX_RESTARTS:-100}" ]; then
        echo "started again ${SLURM_RESTART_COUNT} times: enough. ONESEARCH_MAX_RESTARTS says how often" >&2
        exit "$code"
    fi
    # Preempted, it is in the queue already; cancelled by its owner, a requeue would bring it back to life.
    local state
    state=$(squeue --noheader --jobs "$(this_job)" --format %T) || state=unknown
    if [ "$state" = RUNNING ]; then
        echo "$(date +%T) exit code $code: goes on from the last checkpoint, job $(this_job) back into the queue"
        scontrol requeue "$(this_job)" || state=unknown
    fi
    [ "$state" != unknown ] || echo "SLURM took it not back: submit again to go on from the last checkpoint" >&2
    exit "$code"
}
