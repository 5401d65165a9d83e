# What every job script does first: the site's settings, the programs, the number of processes, the rendezvous.
# It leaves `inside` (words before a command), `one` and `per_gpu` (options of srun).
# shellcheck shell=bash disable=SC2034
scripts=${CACL_SCRIPTS:-$SLURM_SUBMIT_DIR/slurm}
# shellcheck source=slurm/site.sh
source "${CACL_SITE:-$scripts/site.sh}"

gpus=${SLURM_GPUS_PER_NODE:-${SLURM_GPUS_ON_NODE:-0}}
gpus=${gpus##*:} # a100:4 is four
ranks=$((gpus > 0 ? gpus : CACL_CPU_RANKS))
cpus=$((SLURM_CPUS_ON_NODE / ranks))
cpus=$((cpus > 0 ? cpus : 1))

common=(--kill-on-bad-exit=1 --open-mode=append)
if [ "$gpus" -gt 0 ]; then common+=("--gpus-per-node=$gpus"); fi
one=("${common[@]}" --nodes=1 --ntasks=1 --cpus-per-task="$SLURM_CPUS_ON_NODE")
per_node=("${common[@]}" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_ON_NODE")
per_gpu=("${common[@]}" --ntasks=$((SLURM_JOB_NUM_NODES * ranks)) --ntasks-per-node="$ranks" --cpus-per-task="$cpus")

inside=()
if [ -n "$CACL_IMAGE" ]; then
    inside=(apptainer exec --bind "$CACL_BIND")
    if [ "$gpus" -gt 0 ]; then inside+=(--nv); fi
    inside+=("$CACL_IMAGE")
else
    export PATH="$CACL_VENV/bin:$PATH"
fi

MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
export MASTER_ADDR MASTER_PORT
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$cpus}

# Back into the queue goes a run that was interrupted (it leaves the file `requeue`), and one that failed after it had
# come to a new checkpoint: a lost node often shows as a failed rank first. What fails where it failed before stays
# failed, and a job that somebody cancelled is no longer RUNNING here and stays cancelled.
requeue_if_asked() { # RUN STATUS CHECKPOINTS-BEFORE
    local count=${SLURM_RESTART_COUNT:-0}
    if [ ! -e "$1/requeue" ] && { [ "$2" -eq 0 ] || [ "$(checkpoints "$1")" = "$3" ]; }; then return; fi
    if ! scontrol show job "$SLURM_JOB_ID" | grep -q JobState=RUNNING; then return; fi
    if [ "$count" -ge "$CACL_MAX_REQUEUES" ]; then
        echo "$1: back in the queue $count times, as often as CACL_MAX_REQUEUES says: submit it again to go on" >&2
        exit 1
    fi
    scontrol requeue "$SLURM_JOB_ID"
}

checkpoints() { # RUN   the names of its checkpoints
    if [ -d "$1/checkpoints" ]; then ls "$1/checkpoints"; fi
}

# `ray symmetric-run` ends with 0 where Ray does not start; what it runs takes the file `starting` away.
check_ray_started() { # SWEEP
    if [ -e "$1/starting" ]; then
        echo "$1: Ray did not start, its reason stands above: submit the sweep again" >&2
        exit 1
    fi
}
