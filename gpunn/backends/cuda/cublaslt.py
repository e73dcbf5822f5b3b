"""Matrix products by NVIDIA's library, cuBLASLt, through the bindings of nvmath-python.

CuPy's cuBLAS refuses streams that are being captured, since it may allocate. cuBLASLt allocates
nothing: its workspace is ours, which kernel it takes is asked when a product is prepared, and what
is left is a launch on the stream that it is given. So its products can be part of CUDA graphs.

Precisions: float32 computes in IEEE float32 (``CUBLAS_COMPUTE_32F``: no TF32, and no emulation
unless the environment asks for it, ``CUBLAS_EMULATE_SINGLE_PRECISION``), float64 in float64. With
"tf32" and "bfloat16" the library may round the float32 factors for the tensor cores
(``CUBLAS_COMPUTE_32F_FAST_TF32``, ``_FAST_16BF``), and adds up in float32; how it rounds is its own
affair. Ways of adding up the parts of a reduction in the result's own place are excluded, and all
products of a device follow one another, so that a product gives the same bits every time (on the
same model of GPU, by the same version of the library).

``bindings`` stands for the module ``nvmath.bindings.cublasLt``, or for anything with the same
functions.
"""

from __future__ import annotations

import importlib
import threading
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gpunn.backends.cuda.driver import LibraryError, LibraryProduct, Limits
from gpunn.errors import DeviceError

BINDINGS = "nvmath.bindings.cublasLt"
# cudaDataType_t, cublasComputeType_t, cublasOperation_t, cublasLtReductionScheme_t
REAL_32F, REAL_64F, REAL_16BF = 0, 1, 14
COMPUTE_32F, COMPUTE_32F_FAST_16BF, COMPUTE_32F_FAST_TF32, COMPUTE_64F = 68, 75, 77, 70
TRANSPOSE = {False: 0, True: 1}
IN_WORKSPACE = 2 | 4  # partial sums of the compute type, or of the result's
COMPUTE = {
    "float32": COMPUTE_32F,
    "float64": COMPUTE_64F,
    "tf32": COMPUTE_32F_FAST_TF32,
    "bfloat16": COMPUTE_32F_FAST_16BF,
}
TYPES = {"float32": REAL_32F, "float64": REAL_64F, "uint16": REAL_16BF}
NOT_SUPPORTED = 15  # cublasStatus_t
ALIGNMENT = 256  # the most that the library makes use of


def workspace_bytes(limits: Limits) -> int:
    """Return the bytes of workspace: NVIDIA recommends 32 MiB from Hopper on, and had 4 before."""
    return (32 if limits.architecture >= 90 else 4) << 20


def load(device: str, cuda: int) -> Any:
    """Return the bindings, the library behind them found.

    Parameters
    ----------
    device : str
        Whose name errors begin with.
    cuda : int
        CUDA's major version, which decides what is to be installed.

    Raises
    ------
    LibraryError
        They are not installed, or the library is not found; the message says what adds it.
    """
    advice = f"pip install 'gpunn[cublas{cuda}]' adds it, and products='own' does without."
    try:
        bindings = importlib.import_module(BINDINGS)
    except Exception as error:  # not only ImportError: versions that do not fit fail in many ways
        raise LibraryError(
            f"{device}: products by cuBLASLt need nvmath-python, which cannot be imported "
            f"({_one_line(error)}); {advice}"
        ) from error
    try:
        bindings.get_version()  # loads the library
    except Exception as error:
        raise LibraryError(
            f"{device}: cuBLASLt cannot be loaded ({_one_line(error)}); {advice}"
        ) from error
    return bindings


def _one_line(error: Exception) -> str:
    return " ".join(str(error).partition(". You can set ")[0].split())[:120]


class Matrix(NamedTuple):
    """A matrix as the library sees it: by columns.

    What lies in memory row by row is, read by columns, the transpose.
    """

    type: int
    rows: int
    columns: int
    leading: int


def _matrix(array: Any) -> Matrix:
    rows, columns = array.shape
    return Matrix(TYPES[array.dtype.name], columns, rows, columns)


class CublasLt:
    """cuBLASLt on the current device.

    Parameters
    ----------
    bindings : module
    workspace : array of uint8
        On the device. Products use it one after the other, so one serves all.

    Raises
    ------
    LibraryError
        The library does not start.
    """

    def __init__(self, bindings: Any, workspace: Any) -> None:
        self._bindings, self._workspace = bindings, workspace
        try:
            self._handle = bindings.create()
        except bindings.cuBLASLtError as error:
            raise LibraryError(f"cuBLASLt does not start: {_one_line(error)}.") from error
        weakref.finalize(self, bindings.destroy, self._handle).atexit = False
        # A product may be several kernels, which hand on values in the workspace: those of
        # another thread's product must not come between them.
        self.lock = threading.Lock()

    def prepare(self, product: LibraryProduct) -> Callable[[int], None]:
        """Choose a kernel; return what launches it on a stream, whose address it is given.

        It allocates nothing, waits for nothing and keeps the arrays alive. The device must be the
        current one, here and there.

        Raises
        ------
        LibraryError
            The library has no kernel for it.
        """
        try:
            return _Multiplication(self._bindings, self._handle, self._workspace, product, self)
        except self._bindings.cuBLASLtError as error:
            raise LibraryError(
                f"cuBLASLt has no product in {product.kind} for factors of shape "
                f"{tuple(product.left.shape)} and {tuple(product.right.shape)} "
                f"({_one_line(error)}); use products='own'."
            ) from error


class _Multiplication:
    """One product, its descriptors and the kernel that was chosen."""

    def __init__(
        self, bindings: Any, handle: int, workspace: Any, product: LibraryProduct, owner: CublasLt
    ) -> None:
        self._bindings, self._lock = bindings, owner.lock
        self._kept = product, workspace, owner
        self._descriptors: list[tuple[Callable[[int], None], int]] = []
        weakref.finalize(self, _destroy, self._descriptors).atexit = False
        # The library computes result.T = right.T @ left.T: the same memory, read by columns.
        first, second, result = product.right, product.left, product.result
        operation = self._operation(product)
        a, b, d = (self._layout(_matrix(array)) for array in (first, second, result))
        pointers = [int(array.data.ptr) for array in (first, second, result)]
        self._kernel = self._choose(handle, (operation, a, b, d, d), pointers, workspace.nbytes)
        self._one = np.ones(1, result.dtype)
        self._zero = np.zeros(1, result.dtype)
        one, zero, kernel = self._one.ctypes.data, self._zero.ctypes.data, self._kernel.ptr
        at_a, at_b, at_d = pointers
        self._arguments = (
            *(handle, operation, one, at_a, a, at_b, b, zero, at_d, d, at_d, d),
            *(kernel, int(workspace.data.ptr), int(workspace.nbytes)),
        )

    def __call__(self, stream: int) -> None:
        try:
            with self._lock:
                self._bindings.matmul(*self._arguments, stream)
        except self._bindings.cuBLASLtError as error:
            raise DeviceError(f"a product by cuBLASLt failed: {_one_line(error)}.") from error

    def _operation(self, product: LibraryProduct) -> int:
        bindings = self._bindings
        half = product.left.dtype == np.uint16  # rounded before: nothing is left to do
        compute = COMPUTE_32F if half else COMPUTE[product.kind]
        scale = TYPES[product.result.dtype.name]
        operation: int = bindings.matmul_desc_create(compute, scale)
        self._descriptors.append((bindings.matmul_desc_destroy, operation))
        names = bindings.MatmulDescAttribute
        for name, flag in (
            (names.TRANSA, product.transpose_right),
            (names.TRANSB, product.transpose_left),
        ):
            _set(bindings.matmul_desc_set_attribute, operation, name, np.int32(TRANSPOSE[flag]))
        return operation

    def _layout(self, matrix: Matrix) -> int:
        layout: int = self._bindings.matrix_layout_create(*matrix)
        self._descriptors.append((self._bindings.matrix_layout_destroy, layout))
        return layout

    def _choose(
        self, handle: int, described: tuple[int, ...], pointers: list[int], nbytes: int
    ) -> Any:
        """Return the kernel that the library thinks the best."""
        bindings = self._bindings
        names = bindings.MatmulPreferenceAttribute
        preference = bindings.matmul_preference_create()
        try:
            aligned = [np.uint32(min(ALIGNMENT, pointer & -pointer)) for pointer in pointers]
            for name, value in (
                (names.MAX_WORKSPACE_BYTES, np.uint64(nbytes)),
                (names.REDUCTION_SCHEME_MASK, np.uint32(IN_WORKSPACE)),
                (names.MIN_ALIGNMENT_A_BYTES, aligned[0]),
                (names.MIN_ALIGNMENT_B_BYTES, aligned[1]),
                (names.MIN_ALIGNMENT_C_BYTES, aligned[2]),
                (names.MIN_ALIGNMENT_D_BYTES, aligned[2]),
            ):
                _set(bindings.matmul_preference_set_attribute, preference, name, value)
            # Its first field is the kernel, so its address is the kernel's.
            found, count = bindings.MatmulHeuristicResult(), np.zeros(1, np.int32)
            where = (1, found.ptr, count.ctypes.data)
            bindings.matmul_algo_get_heuristic(handle, *described, preference, *where)
        finally:
            bindings.matmul_preference_destroy(preference)
        if not count[0] or found.state:
            raise bindings.cuBLASLtError(found.state if count[0] else NOT_SUPPORTED)
        return found


def _set(setter: Callable[..., None], target: int, name: int, value: np.generic) -> None:
    held = np.array([value])
    setter(target, int(name), held.ctypes.data, held.nbytes)


def _destroy(descriptors: list[tuple[Callable[[int], None], int]]) -> None:
    while descriptors:
        destroy, descriptor = descriptors.pop()
        destroy(descriptor)
