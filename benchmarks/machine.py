"""The machine and the versions that a figure was measured with: as ``gpunn bench`` says it."""

from typing import Any

from gpunn.cli.bench.machine import describe_machine

__all__ = ["describe_machine", "in_words"]


def in_words(machine: dict[str, Any]) -> str:
    """Return what `describe_machine` returned as a line for a reader."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"{machine['processor']}, {machine['cores']} cores; {versions}; {machine['date']}"
