#!/bin/bash
# Train on a Slurm cluster: a task for each GPU, on as many nodes as are asked for.
#
#     CONFIG=configs/adni.py sbatch launch/slurm.sh --config.optim.batch=16
#
# Two minutes before its time is over, and when it is preempted, the tasks get SIGTERM:
# the run saves and exits with 143, and the job is queued again and goes on.

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

trap : TERM # a preemption may tell this script too, which is to wait for the tasks
# A task that fails ends the others, which would wait for it.
srun --kill-on-bad-exit=1 "$PYTHON" train.py --config "$CONFIG" "$@"
code=$?
if [ "$code" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
