"""The public names of `gpunn.specs.schedules`."""

from gpunn.specs.schedules import *
