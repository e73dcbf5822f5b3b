"""The public names of `gpunn.compat.symbolic`: the words of TensorFlow 1."""

from gpunn.compat.symbolic import *
from gpunn.compat.symbolic import __all__ as __all__
from gpunn.compat.symbolic import __getattr__ as __getattr__
