"""``python -m gpunn``: the command line."""

import sys

from gpunn.cli.app import main

sys.exit(main())
