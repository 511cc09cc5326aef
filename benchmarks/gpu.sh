#!/usr/bin/env bash
# The work of an hour on a GPU, from a bare copy of the tree: see gpu.py.
#   benchmarks/gpu.sh [correct|speed|train|all] [--seconds N] [--device cpu --tiny] ...
# From the environment:
#   PYTHON              the Python to use [python3]
#   OUT                 folder for results, if --out is not given
#   TUNIT_GPU_SECONDS   seconds for the whole call, if --seconds is not given
#   TUNIT_TEST_GOLDEN   folder of the golden values [golden, beside TUNIT_TEST_DATA]; without them, `correct` says so
#   TUNIT_TEST_DATA     folder with grocery10, pictures in a folder per kind [shared/data]; without it, `train` has only
#                       creatures
# Neither folder is in the repository: copy them to the machine with the GPU, and set the variables there.
set -u
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH="$here/../src:$here:$here/../tests${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
export CUBLAS_WORKSPACE_CONFIG="${CUBLAS_WORKSPACE_CONFIG:-:4096:8}" # products that repeat bit for bit
exec "${PYTHON:-python3}" "$here/gpu.py" "$@"
