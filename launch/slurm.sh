#!/bin/bash
# Train on a Slurm cluster: a task for each GPU, on as many nodes as are asked for.
#
#     CONFIG=configs/adni.py sbatch launch/slurm.sh --config.optim.batch=16
#
# Two minutes before the end of its time, and when it is preempted, the tasks get SIGTERM:
# the run saves and exits with 143, and the job is queued again and goes on. It is queued
# again, too, when a task was lost (134, or 137 if it was killed), and while a lost task still
# holds the run's folder (75). Any other exit code, such as 2 for a mistake in the
# configuration, ends the job.

# Change these:
#SBATCH --job-name=mdvit
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
# Leave these:
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log

CONFIG=${CONFIG:-configs/adni.py}
PYTHON=${PYTHON:-python}

# The GNU C library keeps what each thread has freed, in eight arenas a core; with one a core
# a run is as fast and does not grow over days (docs/performance.md).
export MALLOC_ARENA_MAX=${MALLOC_ARENA_MAX:-${SLURM_CPUS_PER_TASK:-8}}

trap : TERM # a preemption may signal this script too; it must wait for the tasks
# When a task fails the others end by themselves. If Slurm ended them, by SIGTERM, a mistake
# would look like a preemption.
srun --kill-on-bad-exit=0 --cpus-per-task="$SLURM_CPUS_PER_TASK" \
    "$PYTHON" train.py --config "$CONFIG" "$@"
code=$? # the highest of all tasks
case $code in
75 | 134 | 137 | 143) # at most 100 times: what only one task refuses is a lost one to the others
    if [ "${SLURM_RESTART_COUNT:-0}" -lt 100 ]; then
        scontrol requeue "$SLURM_JOB_ID"
    fi
    ;;
esac
exit "$code"
