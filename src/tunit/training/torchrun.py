"""torchrun, but with tunit's exit codes. torchrun's own exit code is 1 after every failure.

  python -m tunit.training.torchrun --nnodes 4 --nproc-per-node 8 ... -m tunit train ...

All options are torchrun's. The exit code is 0 on success. After a failure, the process that failed first decides: 130
if it ended by Ctrl-C, 143 if by SIGTERM, 2 in all other cases, also if it was killed. A script that starts a training
again only after certain exit codes needs this module.
"""

import sys
from collections.abc import Sequence

from tunit.errors import EndedInOtherProcesses, TrainingError
from tunit.printing import remark
from tunit.training.processes import run_torchrun, silent_logs

REMEDY = "go on from the last checkpoint with `tunit train --resume RUN`, or let --max-restarts N do so"


def main(words: Sequence[str] | None = None) -> int:
    """Run torchrun. Returns the exit code, as described above."""
    try:
        with silent_logs():
            run_torchrun(sys.argv[1:] if words is None else words, REMEDY)
    except EndedInOtherProcesses as ended:
        return ended.exit_code
    except TrainingError as died:
        remark(died)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
