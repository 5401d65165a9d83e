# cacl without a GPU: pack, label, evaluate, small trainings.
#   docker build -f docker/cpu.Dockerfile -t cacl:cpu .
#   docker run --rm -v "$PWD:/work" --shm-size 4g cacl:cpu cacl train RECIPE
# BASE is any image with Python 3.11 to 3.13 and its venv module. EXTRAS are extras of pyproject.toml. PyTorch's own index of
# CPU wheels makes the image much smaller:  --build-arg PIP_EXTRA_INDEX_URL=...
ARG BASE=python:3.13-slim-trixie

FROM ${BASE} AS build
ARG EXTRAS=demo,ray,s3
ARG PIP_EXTRA_INDEX_URL=
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
RUN useradd --create-home --uid 1000 cacl
COPY --from=build /opt/cacl /opt/cacl
ENV PATH=/opt/cacl/bin:$PATH PYTHONUNBUFFERED=1
USER 1000
WORKDIR /work
HEALTHCHECK --interval=10m --timeout=2m CMD ["cacl", "doctor"]
CMD ["cacl", "--help"]
