"""The public names of `gpunn.data.keras_datasets`, under the name of ``keras.datasets``."""

from gpunn.data.keras_datasets import *
from gpunn.data.keras_datasets import __all__ as __all__
