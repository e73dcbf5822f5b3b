"""The public names of `gpunn.compat.keras_utils`, under the name of ``keras.utils``."""

from gpunn.compat.keras_utils import *
from gpunn.compat.keras_utils import __all__ as __all__
