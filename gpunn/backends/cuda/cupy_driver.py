"""Kernels on an NVIDIA GPU, launched through the driver calls that CuPy exposes.

All work goes to one stream of the driver's own. It does not wait for CuPy's current stream, the
user's, by itself: `upload` and `write` make it wait for what the user has queued there, and
`release` makes the user's stream wait for ours.

Graphs are captured on a second stream, to which nothing but the capturing thread's launches goes:
what another thread launches, copies or waits for meanwhile is not caught up in them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from gpunn.backends.cuda import cublaslt, dependent_launch, nvrtc
from gpunn.backends.cuda.cupy_context import status
from gpunn.backends.cuda.cupy_memory import CupyMemory
from gpunn.backends.cuda.driver import KernelSource, Launch, LibraryProduct
from gpunn.backends.interface import Call
from gpunn.errors import DeviceError

DEFAULT_SHARED = 48 << 10  # bytes of shared memory that a kernel may use without asking
INVALID_CONTEXT = 201  # the driver's status in a thread that has no context yet
STREAM = 8  # place of the stream among the arguments of a launch


class LoadedKernels:
    """What is loaded on one device, for all drivers of the process.

    Attributes
    ----------
    modules, functions : dict
    shared : dict of int to int
        By function, the bytes of shared memory that it may use where these are more than usual.
    """

    def __init__(self) -> None:
        self.modules: dict[KernelSource, Any] = {}
        self.functions: dict[tuple[KernelSource, str], Any] = {}
        self.shared: dict[int, int] = {}


LOADED: dict[int, LoadedKernels] = {}


class CupyDriver(CupyMemory):
    """A GPU.

    Where CUDA's current device is another one, it is so again after each call. CUDA then opens a
    context on that one too, which takes some hundred MB of its memory; a process that uses one GPU
    of several should see no other: ``CUDA_VISIBLE_DEVICES=1`` with ``cuda:0``.

    Parameters
    ----------
    index : int
        CUDA's number of the device.

    Raises
    ------
    DeviceError
        The device cannot be used.
    """

    def __init__(self, index: int = 0) -> None:
        super().__init__(index)
        self._loaded = LOADED.setdefault(index, LoadedKernels())
        self._library: Any = None  # cuBLASLt, when it is first asked for
        self._capture_lock = threading.Lock()
        self._capture_stream: Any = None
        self._captured = 0  # launches in the graph that is being captured
        self._dependent: dependent_launch.DependentLauncher | None = None

    # Kernels

    def _function(self, source: KernelSource, symbol: str) -> Any:
        loaded = self._loaded
        if (source, symbol) not in loaded.functions:
            if source not in loaded.modules:
                contents = nvrtc.load(self._compiler(), source, self.limits.architecture)
                with self._activate(f"loading kernels/{source.file}"):
                    module = self._cuda.function.Module()
                    module.load(contents)
                loaded.modules[source] = module
            with self._activate(f"loading kernel {symbol} of kernels/{source.file}"):
                # This also puts the kernel on the device; left to the first launch, it could
                # not be captured.
                function = loaded.modules[source].get_function(symbol)
            loaded.functions[source, symbol] = function
        return loaded.functions[source, symbol]

    def _compiler(self) -> Any:
        try:
            compiler = self._cuda.nvrtc
            compiler.getVersion()  # loads the library
        except Exception as error:
            major = self._runtime.runtimeGetVersion() // 1000
            raise DeviceError(
                f"{self.name}: NVRTC, the compiler for kernels, cannot be loaded "
                f"({' '.join(str(error).split())}); pip install 'gpunn[cuda{major}]' adds it."
            ) from error
        return compiler

    @property
    def dependent_launches(self) -> bool:
        return self._dependent is not None

    @dependent_launches.setter
    def dependent_launches(self, wanted: bool) -> None:
        architecture = self.limits.architecture
        made = dependent_launch.launcher(self.name, architecture, self._cuda) if wanted else None
        self._dependent = made

    def prepare(self, launch: Launch) -> Call:
        doing = f"kernel {launch.symbol} of kernels/{launch.source.file}"
        dependent = self._dependent if dependent_launch.applies(launch) else None
        source = dependent_launch.waiting(launch.source) if dependent else launch.source
        function = self._function(source, launch.symbol)
        self._check_resources(launch, function.ptr, doing)
        slots, addresses = pack(launch.arguments)
        geometry = (*launch.grid, *launch.block, launch.shared, self._stream.ptr)
        arguments: tuple[Any, ...] = (function.ptr, *geometry, addresses.ctypes.data)
        if launch.cooperative:
            launch_kernel: Any = self._cuda.driver.launchCooperativeKernel
        else:
            launch_kernel = dependent or self._cuda.driver.launchKernel
            arguments += (0,)
        current_device, index, context = self._runtime.getDevice, self.index, self._context
        kept = (launch, function, slots, addresses)

        def call(kept: object = kept) -> None:
            if context.capturing and context.capturing == threading.get_ident():
                stream = self._capture_stream.ptr
                launch_kernel(*arguments[:STREAM], stream, *arguments[STREAM + 1 :])
                self._captured += 1
                return
            try:
                if current_device() == index:
                    launch_kernel(*arguments)
                else:
                    with self._device:
                        launch_kernel(*arguments)
            except Exception as error:
                self._launch_again(error, lambda: launch_kernel(*arguments), doing)
            self.launches += 1

        return call

    def _launch_again(self, error: Exception, launch: Callable[[], Any], doing: str) -> None:
        """Launch in a thread that is new to CUDA; raise where that was not what was wrong."""
        if status(error) != INVALID_CONTEXT:
            self._context.raise_error(error, doing)
        with self._activate(doing):
            launch()

    def _check_resources(self, launch: Launch, function: int, doing: str) -> None:
        """See to it that the launch fits the device."""
        driver, limits = self._cuda.driver, self.limits
        if launch.shared > limits.shared_memory:
            raise DeviceError(
                f"{self.name}: {doing} needs {launch.shared:,} bytes of shared memory a block; "
                f"this GPU has {limits.shared_memory:,}."
            )
        with self._activate(doing):
            if launch.shared > self._loaded.shared.get(function, DEFAULT_SHARED):
                attribute = driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                driver.funcSetAttribute(function, attribute, launch.shared)
                self._loaded.shared[function] = launch.shared
            if not launch.cooperative:
                return
            threads, blocks = int(np.prod(launch.block)), int(np.prod(launch.grid))
            most = limits.multiprocessors * driver.occupancyMaxActiveBlocksPerMultiprocessor(
                function, threads, launch.shared
            )
            if blocks > most:
                raise DeviceError(
                    f"{self.name}: {doing} needs {blocks} blocks that run at once; this GPU runs "
                    f"{most}."
                )

    # Products

    def prepare_product(self, product: LibraryProduct) -> Call:
        if not product.result.size:
            return lambda: None
        if not product.left.size:
            return self._zeroing(product.result)
        self.check_library()
        with self._activate("preparing a product by cuBLASLt"):
            multiply = self._library.prepare(product)
        return self._streamed(multiply, "a product by cuBLASLt")

    def _zeroing(self, array: Any) -> Call:
        """Return what a product over nothing is: zeros."""
        clear, address, nbytes = self._runtime.memsetAsync, array.data.ptr, array.nbytes

        def multiply(stream: int, kept: object = array) -> None:
            clear(address, 0, nbytes, stream)

        return self._streamed(multiply, "a product over nothing")

    def _streamed(self, multiply: Callable[[int], None], doing: str) -> Call:
        """Return the call of what takes a stream: ours, or the one that is being captured."""
        context = self._context

        def call() -> None:
            if context.capturing and context.capturing == threading.get_ident():
                multiply(self._capture_stream.ptr)
                self._captured += 1
                return
            with self._activate(doing):
                multiply(self._stream.ptr)
            self.launches += 1

        return call

    def check_library(self) -> None:
        if self._library is None:
            bindings = cublaslt.load(self.name, self._runtime.runtimeGetVersion() // 1000)
            workspace = self.allocate(cublaslt.workspace_bytes(self.limits), zeroed=False)
            with self._activate("opening cuBLASLt"):
                self._library = cublaslt.CublasLt(bindings, workspace)

    # Time

    def seconds(self, call: Call) -> float:
        first, last = self._cuda.Event(), self._cuda.Event()
        with self._activate("timing a call"):
            first.record(self._stream)
        call()
        with self._activate("timing a call"):
            last.record(self._stream)
            last.synchronize()
            return float(self._cuda.get_elapsed_time(first, last)) / 1e3

    # Graphs

    def capture(self, calls: Sequence[Call]) -> Call:
        calls = tuple(calls)
        with self._capture_lock, self._activate("capturing a CUDA graph"):
            if self._capture_stream is None:
                self._capture_stream = self._cuda.Stream(non_blocking=True)
            graph, count = self._graph_of(calls, self._capture_stream)
            graph.upload(self._stream)  # or the first launch would have to
        current_device, index, stream = self._runtime.getDevice, self.index, self._stream

        # A graph keeps no array alive; the calls do.
        def call(kept: object = calls) -> None:
            try:
                if current_device() == index:
                    graph.launch(stream)
                else:
                    with self._device:
                        graph.launch(stream)
            except Exception as error:
                self._context.raise_error(error, "a CUDA graph")
            self.launches += count
            self.replays += 1

        return call

    def _graph_of(self, calls: Sequence[Call], stream: Any) -> tuple[Any, int]:
        """Return the graph of `calls` and how many launches it holds."""
        # Relaxed: the collector may free another library's memory in the middle of it, which the
        # stricter modes take for a mistake. Our own calls that wait or allocate are refused.
        stream.begin_capture(self._runtime.streamCaptureModeRelaxed)
        self._captured, self._context.capturing = 0, threading.get_ident()
        try:
            for call in calls:
                call()
        except BaseException:
            with suppress(Exception):  # it says that the capture is void
                stream.end_capture()
            raise
        finally:
            self._context.capturing = 0
        return stream.end_capture(), self._captured


def pack(arguments: Sequence[Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the values of a kernel's arguments, 8 bytes each, and their addresses."""
    slots = np.zeros(max(1, len(arguments)), dtype=np.uint64)
    for i, argument in enumerate(arguments):
        if isinstance(argument, np.generic) and argument.nbytes <= slots.itemsize:
            slots[i : i + 1].view(np.uint8)[: argument.nbytes] = list(argument.tobytes())
        elif argument is not None:
            try:
                slots[i] = argument.data.ptr
            except AttributeError:
                raise TypeError(
                    f"argument {i} of a kernel must be a device array, None or a NumPy scalar of "
                    f"at most 8 bytes, not {argument!r}"
                ) from None
    addresses = slots.ctypes.data + slots.itemsize * np.arange(len(slots), dtype=np.uint64)
    return slots, addresses
