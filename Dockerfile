# tunit with its demo and its studio; for a CPU or for an NVIDIA GPU by the wheels of torch that TORCH_INDEX names.
# docs/containers.md says how to build and run it.
ARG PYTHON=3.13.5-slim-bookworm

FROM python:${PYTHON} AS build
# gcc compiles the C code that makes training on a CPU fast; the final image does not contain it.
# Debian keeps only the newest version of a package, so naming one would break the build later.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/tunit
ENV PATH=/opt/tunit/bin:$PATH
ARG TORCH=2.13.0
ARG TORCH_INDEX=
# The release is pinned. hadolint takes the address after --index-url for a second package without a version.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} "torch==${TORCH}"
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY src src
# This folder is installed; pyproject.toml says which releases of other packages it accepts.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ".[studio,video,onnx,hub]"

FROM python:${PYTHON}
# The run-time library of OpenMP, for the compiled operators.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home tunit \
    && install --directory --owner=tunit --group=tunit /work /work/runs
COPY --from=build /opt/tunit /opt/tunit
ENV PATH=/opt/tunit/bin:$PATH PYTHONUNBUFFERED=1
USER 1000:1000
WORKDIR /work
EXPOSE 8765
ENTRYPOINT ["tunit"]
CMD ["studio", "runs", "--host", "0.0.0.0"]
