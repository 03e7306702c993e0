"""Register a cohort by the jobs of a Slurm cluster, each with eight workers of Dask.

    pip install 'mdvit-jax[cluster]' dask-jobqueue
    python launch/batch_slurm.py --bids /data/study --to mni152 --output /data/aligned

The options are those of mdvit batch. PBS, SGE, LSF and others have a class of their own
in dask-jobqueue, with the same arguments. All jobs need to see the files.
"""

import sys

from dask_jobqueue import SLURMCluster

from mdvit_jax.cli.main import main

if __name__ == "__main__":
    with SLURMCluster(
        cores=8,
        processes=8,  # one pair each at a time
        memory="24GB",
        walltime="04:00:00",
        job_script_prologue=["export NPROC=1"],  # threads of XLA in each
        # They leave before Slurm ends them, and not all at once.
        worker_extra_args=["--lifetime", "3h30m", "--lifetime-stagger", "15m"],
    ) as cluster:
        cluster.scale(jobs=8)
        address = cluster.scheduler_address
        sys.exit(main(["batch", "--scheduler", address, *sys.argv[1:]]))
