"""`python -m tunit` is the command line."""

import sys

from tunit.cli import main

sys.exit(main())
