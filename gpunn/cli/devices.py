"""``gpunn devices``."""

from __future__ import annotations


def devices() -> None:
    """List the devices, and say what is missing where one cannot be used."""
    from gpunn.backends.select import device_statuses, select_backend

    for status in device_statuses():
        print(f"{status.device:<10} {'usable' if status.usable else 'no':<7} {status.detail}")
    chosen, reason = select_backend("auto")
    print(f"auto takes {chosen.name}: {reason}")
    if chosen.name.startswith("cuda"):
        print(chosen.describe())  # with the table of tuned products
