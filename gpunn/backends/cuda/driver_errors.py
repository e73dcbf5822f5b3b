"""What CUDA reports, in words that say what to do."""

from __future__ import annotations

from gpunn.errors import DeviceError

OUT_OF_MEMORY = 2
BUSY = 46
NO_SUCH_DEVICE = (100, 101)
# After these nothing more runs in the process: memory errors of a kernel, traps, a kernel that
# ran too long, an assertion, a fault of the hardware.
LOST = (214, 220, 226, 700, 702, 710, 714, 715, 716, 717, 718, 719, 721)


def status(error: BaseException) -> int | None:
    """Return the status of an error that CUDA reported through CuPy, None if it is no such."""
    value = getattr(error, "status", None)
    return value if isinstance(error, RuntimeError) and isinstance(value, int) else None


def device_error(device: str, doing: str, error: Exception) -> DeviceError:
    """Return the error to raise in place of one of CUDA's."""
    if isinstance(error, DeviceError):
        return error
    # The statuses of cuBLAS and NVRTC are numbers of their own.
    code = status(error) if type(error).__name__.startswith("CUDA") else None
    said = f"{device}: {doing} failed: {error}"
    if code in LOST:
        return DeviceError(
            f"{said}. The kernel at fault may be any of those called before. Nothing more runs on "
            "the GPU in this process: restart it. `compute-sanitizer python ...` (CUDA toolkit) "
            "names the kernel and the address."
        )
    if code == OUT_OF_MEMORY:
        return DeviceError(f"{said}. Use a smaller batch_size or a smaller model.")
    if code == BUSY:
        return DeviceError(f"{said}. Another process may hold the GPU; see nvidia-smi.")
    if code in NO_SUCH_DEVICE:
        return DeviceError(f"{said}. `gpunn devices` lists those there are.")
    return DeviceError(f"{said}.")


def memory_error(device: str, nbytes: int, free: int, total: int) -> DeviceError:
    """Return the error of an allocation that does not fit."""
    return DeviceError(
        f"{device}: {nbytes:,} bytes of memory were asked for; {free:,} of {total:,} are free. Use "
        "a smaller batch_size or a smaller model."
    )
