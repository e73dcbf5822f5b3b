"""A stand-in for nvmath.bindings.cublasLt, beside that for CuPy: the library on host memory.

It computes what the descriptors say, column by column as the library reads memory, so that a wrong
transpose, size or leading dimension shows. What may not be asked during a capture is refused.
"""

from __future__ import annotations

import ctypes
import enum
import itertools
import threading
from types import SimpleNamespace
from typing import Any

import fake_cupy
import numpy as np

from gpunn.backends.cuda.simulator.driver import rounded

# Values of the C header.
TYPES: dict[int, Any] = {0: np.float32, 1: np.float64, 14: np.uint16}
COMPUTE = {68: "float32", 70: "float64", 75: "bfloat16", 77: "tf32"}
INPLACE = 1  # a reduction scheme
WORKSPACE = 1 << 20  # what the kernels of this library need


class CublasLtError(Exception):
    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"status {status} (CUBLAS_STATUS)")


class MatmulDescAttribute(enum.IntEnum):
    TRANSA = 3
    TRANSB = 4


class MatmulPreferenceAttribute(enum.IntEnum):
    MAX_WORKSPACE_BYTES = 1
    REDUCTION_SCHEME_MASK = 3
    MIN_ALIGNMENT_A_BYTES = 5
    MIN_ALIGNMENT_B_BYTES = 6
    MIN_ALIGNMENT_C_BYTES = 7
    MIN_ALIGNMENT_D_BYTES = 8


DESCRIPTION: dict[int, Any] = dict.fromkeys(MatmulDescAttribute, np.int32)
PREFERENCE: dict[int, Any] = dict.fromkeys(MatmulPreferenceAttribute, np.uint32)
PREFERENCE[MatmulPreferenceAttribute.MAX_WORKSPACE_BYTES] = np.uint64


class HeuristicResult:
    """As in the library: the kernel comes first."""

    def __init__(self) -> None:
        kernel = ("kernel", np.uint64, (8,))
        fields = [kernel, ("size", np.uint64), ("state", np.int32), ("rest", np.int32, (5,))]
        self.data = np.full(1, 255, np.uint8).repeat(96).view(fields)

    @property
    def ptr(self) -> int:
        return self.data.ctypes.data

    @property
    def state(self) -> int:
        return int(self.data["state"][0])


class Library:
    """The functions of the bindings; `live` are the objects that were not destroyed.

    Attributes
    ----------
    asked : list
        A dict for every question for a kernel: compute type, layouts, preferences.
    launched : list of (stream, compute type)
    refuses : set of str
        Precisions that it has no kernels for.
    """

    cuBLASLtError = CublasLtError
    MatmulDescAttribute = MatmulDescAttribute
    MatmulPreferenceAttribute = MatmulPreferenceAttribute
    MatmulHeuristicResult = HeuristicResult

    def __init__(self) -> None:
        self.live: dict[int, Any] = {}
        self.asked: list[dict[str, Any]] = []
        self.launched: list[tuple[int, int]] = []
        self.refuses: set[str] = set()
        self.kernels: dict[int, tuple[int, ...]] = {}
        self._numbers = itertools.count(7)

    def _new(self, thing: Any) -> int:
        number = next(self._numbers)
        self.live[number] = thing
        return number

    def _destroy(self, number: int) -> None:
        del self.live[number]

    def get_version(self) -> int:
        return 130000

    def create(self) -> int:
        not_while_capturing()
        return self._new("handle")

    destroy = matmul_desc_destroy = matrix_layout_destroy = matmul_preference_destroy = _destroy

    def matmul_desc_create(self, compute: int, scale: int) -> int:
        assert TYPES[scale] == (np.float64 if compute == 70 else np.float32)
        assert compute in COMPUTE
        return self._new(SimpleNamespace(compute=compute, scale=scale, values={}))

    def matrix_layout_create(self, kind: int, rows: int, columns: int, leading: int) -> int:
        assert rows > 0 and columns > 0 and leading >= rows  # by columns, as it is unless told
        return self._new(SimpleNamespace(type=kind, rows=rows, columns=columns, leading=leading))

    def matmul_preference_create(self) -> int:
        return self._new(SimpleNamespace(values={}))

    def matmul_desc_set_attribute(self, number: int, name: int, at: int, size: int) -> None:
        self.live[number].values[name] = _value(DESCRIPTION[MatmulDescAttribute(name)], at, size)

    def matmul_preference_set_attribute(self, number: int, name: int, at: int, size: int) -> None:
        dtype = PREFERENCE[MatmulPreferenceAttribute(name)]
        self.live[number].values[name] = _value(dtype, at, size)

    def matmul_algo_get_heuristic(
        self, handle: int, operation: int, a: int, b: int, c: int, d: int, preference: int,
        wanted: int, results: int, count: int,
    ) -> None:  # fmt: skip
        not_while_capturing()
        assert self.live[handle] == "handle" and wanted == 1
        described, chosen = self.live[operation], self.live[preference].values
        precision = COMPUTE[described.compute]
        self.asked.append(
            {
                "precision": precision,
                "layouts": tuple(vars(self.live[layout]) for layout in (a, b, d)),
                "preferences": {MatmulPreferenceAttribute(k).name: v for k, v in chosen.items()},
            }
        )
        assert not chosen[MatmulPreferenceAttribute.REDUCTION_SCHEME_MASK] & INPLACE
        found = ctypes.c_int32.from_address(count)
        found.value = 0
        if precision in self.refuses:
            raise CublasLtError(15)
        if chosen[MatmulPreferenceAttribute.MAX_WORKSPACE_BYTES] < WORKSPACE:
            return
        number = self._new((operation, a, b, c, d, dict(chosen)))
        self.kernels[number] = self.live.pop(number)
        ctypes.c_uint64.from_address(results).value = number
        ctypes.c_int32.from_address(results + 72).value = 0
        found.value = 1

    def matmul(
        self, handle: int, operation: int, one: int, a: int, a_layout: int, b: int, b_layout: int,
        zero: int, c: int, c_layout: int, d: int, d_layout: int, kernel: int, workspace: int,
        workspace_bytes: int, stream: int,
    ) -> None:  # fmt: skip
        number = ctypes.c_uint64.from_address(kernel).value
        layouts = (a_layout, b_layout, c_layout, d_layout)
        *asked, chosen = self.kernels[number]  # by the library, for these descriptors
        assert (operation, *layouts) == tuple(asked) and self.live[handle] == "handle"
        names = MatmulPreferenceAttribute
        assert WORKSPACE <= chosen[names.MAX_WORKSPACE_BYTES] <= workspace_bytes
        for pointer, name in ((a, names.MIN_ALIGNMENT_A_BYTES), (b, names.MIN_ALIGNMENT_B_BYTES),
                              (d, names.MIN_ALIGNMENT_D_BYTES)):  # fmt: skip
            assert pointer % chosen[name] == 0
        described = self.live[operation]
        scale = TYPES[described.scale]
        assert _value(scale, one) == 1 and _value(scale, zero) == 0
        assert (c, c_layout) == (d, d_layout)
        assert fake_cupy.STREAMS[stream].device == fake_cupy.STATE.device
        first, second, result = (
            _matrix(pointer, self.live[layout])
            for pointer, layout in ((a, a_layout), (b, b_layout), (d, d_layout))
        )
        flags = (described.values[MatmulDescAttribute.TRANSA],
                 described.values[MatmulDescAttribute.TRANSB])  # fmt: skip
        room = _bytes(workspace, workspace_bytes)

        def multiply() -> None:
            factors = [
                rounded(np.ascontiguousarray(matrix), COMPUTE[described.compute])
                for matrix in (first, second)
            ]
            left, right = (f.T if flag else f for f, flag in zip(factors, flags, strict=True))
            room[:WORKSPACE:4096] = 1
            result[...] = left @ right

        fake_cupy.STREAMS[stream].push(multiply)
        self.launched.append((stream, described.compute))


def not_while_capturing() -> None:
    for stream in fake_cupy.STREAMS.values():
        mine = stream.captured is not None and stream.capturer == threading.get_ident()
        assert not mine, "not to be asked during a capture"


def _value(dtype: Any, address: int, size: int | None = None) -> Any:
    assert size in (None, np.dtype(dtype).itemsize)
    return np.frombuffer(_bytes(address, np.dtype(dtype).itemsize), dtype)[0].item()


def _bytes(address: int, nbytes: int) -> np.ndarray:
    return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address))


def _matrix(address: int, layout: Any) -> np.ndarray:
    """Return the matrix of a layout: element (i, j) lies at i + j * leading."""
    dtype = np.dtype(TYPES[layout.type])
    flat = _bytes(address, layout.leading * layout.columns * dtype.itemsize).view(dtype)
    return flat.reshape(layout.columns, layout.leading)[:, : layout.rows].T
