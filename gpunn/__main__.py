"""``python -m gpunn``: the command line."""

import sys

from gpunn.cli import main

sys.exit(main())
