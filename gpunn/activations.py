"""The public names of `gpunn.specs.activations`."""

from gpunn.specs.activations import *
