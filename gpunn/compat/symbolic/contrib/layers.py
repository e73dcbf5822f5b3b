"""``tf.contrib.layers``."""

from gpunn.compat.symbolic.layers import flatten, fully_connected

__all__ = ["flatten", "fully_connected"]
