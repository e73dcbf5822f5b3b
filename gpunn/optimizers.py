"""The public names of `gpunn.specs.optimizers`."""

from gpunn.specs.optimizers import *
from gpunn.specs.optimizers import __getattr__ as __getattr__
