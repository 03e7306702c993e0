# mdvit_jax as a BIDS App, on CPUs:
#
#     docker build -t mdvit .
#     docker run --rm -v /data:/data mdvit /data/bids /data/derivatives/mdvit participant
#
# Any other command: docker run --rm -v /data:/data --entrypoint mdvit mdvit register …
# Apptainer makes its image from this one: apptainer build mdvit.sif docker-daemon:mdvit:latest
FROM python:3.12-slim

# The package, JAX for CPUs, and the MNI152 brain, which nilearn brings.
WORKDIR /opt/mdvit_jax
COPY pyproject.toml README.md LICENSE ./
COPY mdvit_jax mdvit_jax
# pyproject.toml has the versions:
# hadolint ignore=DL3013
RUN pip install --no-cache-dir '.[register,cluster]'

# Whoever runs it, also somebody without a home: compiled programs and fonts go here.
ENV XDG_CACHE_HOME=/tmp/cache MPLCONFIGDIR=/tmp/cache/matplotlib

WORKDIR /tmp
ENTRYPOINT ["mdvit", "bids-app"]
CMD ["--help"]
