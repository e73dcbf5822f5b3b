"""``tf.contrib``: its fully connected layer alone."""

from gpunn.symbolic.contrib import layers

__all__ = ["layers"]
