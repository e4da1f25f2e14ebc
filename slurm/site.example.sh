# What your cluster is like: copy this to slurm/site.sh, which git ignores, and keep the lines you need.
# Whatever is set in the environment when you submit wins.
# shellcheck shell=bash

# Whose hours, which queue, how long: sbatch itself reads SBATCH_* (`man sbatch`, "INPUT ENVIRONMENT VARIABLES").
# A job that reaches its time limit saves and goes on by itself, so short limits do no harm, and start sooner.
#export SBATCH_ACCOUNT="${SBATCH_ACCOUNT:-my-project}"
#export SBATCH_PARTITION="${SBATCH_PARTITION:-gpu}"
#export SBATCH_TIMELIMIT="${SBATCH_TIMELIMIT:-4:00:00}"
# How many seconds before the limit to save: 120 unless told otherwise. B: is needed.
#export SBATCH_SIGNAL="${SBATCH_SIGNAL:-B:USR1@300}"

# How much: nodes, GPUs of each (0: train on CPUs), tasks of each (one a GPU unless told otherwise), CPUs of each task.
#: "${ONESEARCH_NODES:=2}" "${ONESEARCH_GPUS:=8}" "${ONESEARCH_CPUS:=8}"
# Where what needs no GPU runs: the log, the comparison, the report.
#: "${ONESEARCH_CPU_PARTITION:=cpu}"
# How often a job may go back into the queue.
#: "${ONESEARCH_MAX_RESTARTS:=100}"

# Where Python is: .venv of this folder unless a container is named.
# Apptainer:
#: "${ONESEARCH_CONTAINER:=apptainer exec --nv --bind $PWD --pwd $PWD onesearch.sif}"
# Pyxis and Enroot: options of srun.
#: "${ONESEARCH_SRUN:=--container-image=$PWD/onesearch.sqsh --container-mounts=$PWD --container-workdir=$PWD}"

# W&B: without a key, or where nodes cannot reach the internet, runs are kept for `wandb sync`.
#export WANDB_MODE="${WANDB_MODE:-offline}"
# Modules, proxies, NCCL:
#module load cuda
#export NCCL_SOCKET_IFNAME=ib0
