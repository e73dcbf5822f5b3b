"""The public names of `gpunn.compat.keras_backend`, under the name of ``keras.backend``."""

from gpunn.compat.keras_backend import *
from gpunn.compat.keras_backend import __all__ as __all__
