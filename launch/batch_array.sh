#!/bin/bash
# Register a cohort by a plain job array of Slurm, without Dask: each job takes its part.
#
#     pairs="--bids /data/study --to mni152 --output /data/aligned"
#     job=$(sbatch --parsable launch/batch_array.sh $pairs)
#     sbatch --dependency=afterany:$job --wrap "mdvit batch --merge --output /data/aligned"
#
# A job that was ended goes on where it was when the array is submitted again. After the
# merge, the same options without --part do what is missing.

#SBATCH --job-name=mdvit-batch
#SBATCH --array=1-100
#SBATCH --cpus-per-task=1
#SBATCH --mem=3G
#SBATCH --time=04:00:00
#SBATCH --output=%x-%A-%a.log

export NPROC=1 # threads of XLA
mdvit batch "$@" --part "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
