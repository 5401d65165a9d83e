# cacl on NVIDIA GPUs: everything, DALI and DeepSpeed included.
#   docker build -f docker/cuda.Dockerfile -t cacl:cuda .
#   docker run --rm --gpus all --ipc host -v "$PWD:/work" cacl:cuda cacl train RECIPE --nproc-per-node 8
# PyTorch's wheels bring CUDA, cuDNN and NCCL along, so BASE needs Python 3.11 to 3.13 with its venv module and no CUDA; the
# machine needs NVIDIA's driver and container toolkit. gcc is for Triton, which compiles kernels as it runs.
ARG BASE=python:3.13-slim-trixie

FROM ${BASE} AS build
ARG EXTRAS=user
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/cacl/bin:$PATH
WORKDIR /source
RUN python3 -m venv /opt/cacl
COPY . .
RUN pip install --constraint "constraints/$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])').txt" ".[${EXTRAS}]"

FROM ${BASE}
ARG REVISION=unknown
LABEL org.opencontainers.image.title="cacl" \
      org.opencontainers.image.description="Class-aware contrastive learning for sound source localization" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}"
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 cacl
COPY --from=build /opt/cacl /opt/cacl
ENV PATH=/opt/cacl/bin:$PATH PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility,video
USER 1000
WORKDIR /work
HEALTHCHECK --interval=10m --timeout=2m CMD ["cacl", "doctor"]
CMD ["cacl", "--help"]
