"""The machine and the versions that a figure was measured with: as ``gpunn bench`` says it."""

from gpunn.bench.machine import describe_machine

__all__ = ["describe_machine"]
