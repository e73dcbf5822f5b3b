"""The public names of `gpunn.specs.constraints`."""

from gpunn.specs.constraints import *
