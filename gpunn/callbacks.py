"""The public names of `gpunn.training.callbacks`, under the name of ``keras.callbacks``."""

from gpunn.training.callbacks import *
from gpunn.training.callbacks import __all__ as __all__
from gpunn.training.callbacks import __getattr__ as __getattr__
