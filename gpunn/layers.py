"""The public names of `gpunn.specs.layers`."""

from gpunn.specs.layers import *
from gpunn.specs.layers import __all__ as __all__
from gpunn.specs.layers import __getattr__ as __getattr__
