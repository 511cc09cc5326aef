#!/usr/bin/env bash
# The work of an hour on a GPU, from a bare copy of the tree: see gpu.py.
#   benchmarks/gpu.sh [correct|speed|train|all] [--seconds N] [--device cpu --tiny] ...
set -u
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH="$here/../src:$here:$here/../tests${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
export CUBLAS_WORKSPACE_CONFIG="${CUBLAS_WORKSPACE_CONFIG:-:4096:8}" # products that repeat bit for bit
exec "${PYTHON:-python3}" "$here/gpu.py" "$@"
