"""The public names of `gpunn.specs.expressions.functions`, under the name of ``keras.ops``."""

from gpunn.specs.expressions.functions import *
from gpunn.specs.expressions.functions import __all__ as __all__
from gpunn.specs.expressions.functions import __getattr__ as __getattr__
