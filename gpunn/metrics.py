"""The public names of `gpunn.specs.metrics`."""

from gpunn.specs.metrics import *
from gpunn.specs.metrics import __getattr__ as __getattr__
