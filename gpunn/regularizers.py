"""The public names of `gpunn.specs.regularizers`."""

from gpunn.specs.regularizers import *
