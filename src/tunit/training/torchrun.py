"""torchrun, but with tunit's exit codes. torchrun's own exit code is 1 after every failure.

  python -m tunit.training.torchrun --nnodes 4 --nproc-per-node 8 ... -m tunit train ...

All options are torchrun's. The exit code is 0 on success. After a failure, the process that failed first decides: 130
if it ended by Ctrl-C, 143 if by SIGTERM, 2 in all other cases, also if it was killed. A script that starts a training
again only after certain exit codes needs this module.

The torchrun of a machine that was lost can be started again, and join the others: torchrun must then choose a new
store for each start of the processes. By itself it keeps the first one, whose address a new torchrun is not told.
"""

import os
import sys
from collections.abc import Sequence

from tunit.errors import EndedInOtherProcesses, TrainingError
from tunit.printing import remark
from tunit.training.processes import environment, run_torchrun, silent_logs

NEW_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"  # environment variable that torchrun reads
REMEDY = "go on from the last checkpoint with `tunit train --resume RUN`, or let --max-restarts N do so"


def main(words: Sequence[str] | None = None) -> int:
    """Run torchrun. Returns the exit code, as described above."""
    try:
        with environment({NEW_STORE: os.environ.get(NEW_STORE) or "1"}), silent_logs():
            run_torchrun(sys.argv[1:] if words is None else words, REMEDY)
    except EndedInOtherProcesses as ended:
        return ended.exit_code
    except TrainingError as died:
        remark(died)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
