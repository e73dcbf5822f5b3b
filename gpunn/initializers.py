"""The public names of `gpunn.specs.initializers`."""

from gpunn.specs.initializers import *
