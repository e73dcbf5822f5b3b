"""The public names of `gpunn.specs.losses`."""

from gpunn.specs.losses import *
from gpunn.specs.losses import __getattr__ as __getattr__
