"""``tf.contrib``: its fully connected layer alone."""

from gpunn.compat.symbolic.contrib import layers

__all__ = ["layers"]
