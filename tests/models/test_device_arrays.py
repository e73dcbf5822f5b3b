"""Arrays of other libraries, in and out of a model, without a GPU.

`DeviceArray` stands in for CuPy's: it computes where it lies, and will not become a NumPy array
unless asked to. `Device` is a backend that takes such arrays for its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gpunn
from gpunn import Input, Model, Sequential, layers
from gpunn.backends.cuda.backend import CudaBackend
from gpunn.backends.interface import host_array, is_foreign, is_on_cuda
from gpunn.backends.reference.backend import NumpyReference
from gpunn.backends.select import Selection
from gpunn.errors import ArgumentError, ArgumentTypeError, DeviceError, GpunnError, UnknownNameError
from gpunn.models import compilable

Dense = layers.Dense
SPARSE = "sparse_categorical_crossentropy"
CUDA, METAL = (2, 0), (8, 0)
RNG = np.random.default_rng(0)
X = RNG.normal(0.0, 1.0, (60, 4)).astype(np.float32)
Y = (np.arange(60) % 3).astype(np.int32)
WEIGHTS = RNG.uniform(0.5, 1.5, 60).astype(np.float32)
ONE_HOT = np.eye(3, dtype=np.float32)[Y]


def unwrapped(value: Any) -> Any:
    return value.inner if isinstance(value, DeviceArray) else value


def wrapped(value: Any) -> Any:
    return DeviceArray(np.asarray(value)) if isinstance(value, np.ndarray | np.generic) else value


class DeviceArray(np.lib.mixins.NDArrayOperatorsMixin):
    """What an array in a GPU's memory can do, and no more."""

    fetched = 0
    usable = False  # CuPy's functions want the array's device to be the current one

    def __init__(self, inner: np.ndarray) -> None:
        self.inner = inner

    def get(self) -> np.ndarray:
        DeviceArray.fetched += 1
        return self.inner.copy()

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA

    def __dlpack__(self, **kwargs: Any) -> Any:
        raise BufferError("not on this device")

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return dict(self.inner.__array_interface__)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        assert DeviceArray.usable
        if method != "__call__" or any(isinstance(x, np.ndarray) and x.ndim for x in inputs):
            raise TypeError("Unsupported type numpy.ndarray")
        return wrapped(ufunc(*map(unwrapped, inputs), **kwargs))

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func is not np.ones_like:
            return NotImplemented
        assert DeviceArray.usable
        return wrapped(func(*map(unwrapped, args), **kwargs))

    def __getattr__(self, name: str) -> Any:
        if name in ("shape", "dtype", "ndim", "size", "nbytes", "flags"):
            return getattr(self.inner, name)
        if name in ("sum", "min", "max", "argmax", "any", "astype", "copy", "reshape", "view"):
            assert DeviceArray.usable or name in ("reshape", "view")
            return lambda *args, **kwargs: wrapped(getattr(self.inner, name)(*args, **kwargs))
        raise AttributeError(name)

    def item(self) -> Any:
        return self.inner.item()

    def __bool__(self) -> bool:
        return bool(self.inner)

    def __int__(self) -> int:
        return int(self.inner)

    def __float__(self) -> float:
        return float(self.inner)

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, key: Any) -> DeviceArray:
        return DeviceArray(np.asarray(self.inner[unwrapped(key)]))

    def __setitem__(self, key: Any, value: Any) -> None:
        self.inner[unwrapped(key)] = unwrapped(value)


class Device(NumpyReference):
    """A backend whose arrays are `DeviceArray` to the user."""

    name, arrays = "device", "cupy"

    def __init__(self) -> None:
        self.uploads: list[np.ndarray] = []
        self.read: list[np.ndarray] = []

    def adopt(self, value: Any) -> Any:
        if isinstance(value, DeviceArray):
            return value
        return DeviceArray(value.tensor) if is_on_cuda(value) else host_array(value)

    @contextmanager
    def current(self) -> Iterator[None]:
        DeviceArray.usable = True
        yield
        DeviceArray.usable = False

    def upload(self, array: Any) -> Any:
        if isinstance(array, DeviceArray):
            assert array.flags.c_contiguous
            self.read.append(array.inner)
            return array.inner
        self.uploads.append(array)
        return super().upload(array)

    def write(self, array: Any, values: Any) -> None:
        super().write(array, unwrapped(values))

    def release(self, array: Any) -> Any:
        return DeviceArray(array)


class Tensor:
    """An array that only DLPack hands over."""

    def __init__(self, tensor: np.ndarray, device: tuple[int, int] | None = None) -> None:
        self.tensor, self.device = tensor, device
        self.copies = 0

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device or self.tensor.__dlpack_device__()

    def __dlpack__(self, *, dl_device: Any = None, copy: bool | None = None, **kwargs: Any) -> Any:
        if self.device is not None:
            if dl_device != (1, 0) or not copy:
                raise BufferError("not on this device")
            self.copies += 1
        return self.tensor.__dlpack__(dl_device=dl_device, copy=copy, **kwargs)


class Recorded(Tensor):
    """As PyTorch's tensors that require gradients: they refuse."""

    def __dlpack__(self, **kwargs: Any) -> Any:
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")


class Sharded(Tensor):
    """As JAX's arrays over several devices: of no device, but convertible."""

    def __dlpack_device__(self) -> tuple[int, int]:
        raise BufferError("__dlpack__ only supported for unsharded arrays.")

    __dlpack__ = __dlpack_device__

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.tensor


class Convertible:
    """An array that only `__array__` hands over, as pandas has them."""

    def __init__(self, tensor: np.ndarray) -> None:
        self.tensor, self.shape = tensor, tensor.shape

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.tensor.astype(dtype) if dtype is not None else self.tensor

    def __len__(self) -> int:
        return len(self.tensor)


class Interface:
    """An array that only the CUDA array interface hands over."""

    def __init__(self, tensor: np.ndarray) -> None:
        self.tensor = tensor

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return dict(self.tensor.__array_interface__)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """A device that models compiled with device="cuda" compute on."""
    backend, select = Device(), compilable.select_backend

    def selected(name: str = "auto", **kwargs: Any) -> Selection:
        return Selection(backend, "") if name in ("auto", "cuda") else select(name, **kwargs)

    monkeypatch.setattr(compilable, "select_backend", selected)
    DeviceArray.fetched, DeviceArray.usable = 0, False
    yield backend


def model(device: str = "cuda", loss: str = SPARSE, built: bool = True, **kwargs: Any) -> Any:
    made = Sequential([*([Input((4,))] if built else []), Dense(5, "relu"), Dense(3, "softmax")])
    made.compile("sgd", loss, ["accuracy"], device=device, seed=1, **kwargs)
    return made


def two(device: str = "cuda") -> Model:
    a, b = Input((3,), name="a"), Input((2,), name="b")
    hidden = Dense(4, name="h")(a)
    made = Model(
        [a, b], [Dense(1, name="main")(layers.Concatenate()([hidden, b])), Dense(2)(hidden)]
    )
    made.compile("sgd", "mse", device=device, seed=1)
    return made


def fit(made: Any, x: Any, y: Any, **kwargs: Any) -> list[np.ndarray]:
    made.fit(x, y, **({"batch_size": 16, "epochs": 2, "verbose": 0} | kwargs))
    return made.get_weights()


def same(left: list[np.ndarray], right: list[np.ndarray]) -> bool:
    return all(map(np.array_equal, left, right))


# On the device


def test_arrays_on_the_device_stay_there(device: Device) -> None:
    expected = fit(model(), X, Y, sample_weight=WEIGHTS)
    device.uploads.clear()
    x, y, weights = map(DeviceArray, (X, Y, WEIGHTS))
    assert same(fit(model(), x, y, sample_weight=weights), expected)
    assert DeviceArray.fetched == 0
    for given in (X, Y, WEIGHTS):
        assert sum(np.shares_memory(given, read) for read in device.read) == 1
    assert not any(len(array) == len(X) and array.ndim == 2 for array in device.uploads)


def test_numpy_arrays_are_uploaded_once_per_fit(device: Device) -> None:
    held = X[:20].copy(), Y[:20].copy()
    fit(model(), X, Y, epochs=3, validation_data=held)
    for given in (X, Y, *held):
        assert sum(np.shares_memory(array, given) for array in device.uploads) == 1


LAID_OUT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "float64": lambda x: x.astype(np.float64),
    "float16": lambda x: x.astype(np.float16),
    "int64": lambda x: (10 * x).astype(np.int64),
    "uint8": lambda x: np.abs(100 * x).astype(np.uint8),
    "bool": lambda x: x > 0,
    "column-major": np.asfortranarray,
    "every other": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "reversed": lambda x: np.ascontiguousarray(x[::-1])[::-1],
}


@pytest.mark.parametrize("layout", LAID_OUT)
@pytest.mark.parametrize("wrap", [DeviceArray, Tensor, Convertible])
def test_types_and_layouts(layout: str, wrap: Any, device: Device) -> None:
    x = LAID_OUT[layout](X)
    expected = fit(model("reference"), x, Y)
    assert same(fit(model(), wrap(x), wrap(Y.astype(np.int64))), expected)
    assert same(fit(model("reference"), wrap(x), wrap(Y)), expected)


def test_columns_of_tables(device: Device) -> None:
    table = np.stack([Y, WEIGHTS, Y], axis=1, dtype=np.float32, casting="unsafe")
    y, classes, weights = table[:, 0], table[:, 2].astype(np.int32), table[:, 1]
    classes = np.stack([classes, classes], axis=1)[:, 0]
    for targets in (y, classes):
        expected = fit(model("reference"), X, targets, sample_weight=weights)
        for wrap in (DeviceArray, Tensor):
            assert same(fit(model(), X, wrap(targets), sample_weight=wrap(weights)), expected)


USES: dict[str, Callable[[Any, Callable[[Any], Any]], Any]] = {
    "split": lambda m, a: fit(m, a(X), a(Y), validation_split=0.25),
    "split, weights": lambda m, a: fit(
        m, a(X), a(Y), validation_split=0.25, sample_weight=a(WEIGHTS)
    ),
    "validation": lambda m, a: fit(m, X, Y, validation_data=(a(X), a(Y), a(WEIGHTS))),
    "class weights": lambda m, a: fit(m, a(X), a(Y), class_weight={0: 2.0, 1: 0.5}),
    "class weights, float labels": lambda m, a: fit(
        m, a(X), a(Y[:, None].astype(np.float64)), class_weight={0: 2.0}
    ),
    "only y": lambda m, a: fit(m, X, a(Y)),
    "only x": lambda m, a: fit(m, a(X), list(Y)),
    "in a list": lambda m, a: fit(m, [a(X)], [a(Y)]),
    "evaluate": lambda m, a: m.evaluate(a(X), a(Y), sample_weight=a(WEIGHTS)),
    "predict": lambda m, a: m.predict(a(X)),
    "predict, few": lambda m, a: m.predict(a(X[:3])),
    "predict, one": lambda m, a: m.predict(a(X)[:1] if a is DeviceArray else a(X[:1])),
    "call": lambda m, a: m(a(X)),
    "trainer": lambda m, a: gpunn.Trainer(m, a(X), a(Y), batch_size=16).epoch()["loss"],
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("wrap", [DeviceArray, Tensor, Convertible])
def test_wherever_data_goes_in(use: str, wrap: Any, device: Device) -> None:
    expected = USES[use](model("reference"), np.asarray)
    found = USES[use](model(), wrap)
    assert DeviceArray.fetched == 0
    np.testing.assert_equal(found, expected)
    np.testing.assert_equal(USES[use](model("reference"), wrap), expected)


def test_one_hot_class_weights(device: Device) -> None:
    def weights(backend: str, wrap: Any) -> list[np.ndarray]:
        made = model(backend, "categorical_crossentropy")
        return fit(made, wrap(X), wrap(ONE_HOT), class_weight={0: 2.0, 2: 0.0})

    assert same(weights("cuda", DeviceArray), weights("reference", np.asarray))
    assert DeviceArray.fetched == 0


@pytest.mark.parametrize("backend", ["cuda", "reference"])
@pytest.mark.parametrize("form", [list, tuple, dict])
def test_several_inputs_and_outputs(form: Any, backend: str, device: Device) -> None:
    a, b, y, z = X[:, :3], X[:, 2:], X[:, 0], X[:, 1:3]

    def given(wrap: Any) -> tuple[Any, Any]:
        x, targets = [wrap(a), wrap(b)], [wrap(y), wrap(z)]
        if form is dict:
            names = made.graph.output_names()
            return dict(zip("ab", x, strict=True)), dict(zip(names, targets, strict=True))
        return form(x), form(targets)

    made = two("reference")
    x, targets = given(np.asarray)
    expected = fit(made, x, targets, sample_weight=[WEIGHTS, WEIGHTS], validation_split=0.2)
    outputs = made.predict(x)
    for wrap in (DeviceArray, Tensor):
        made = two(backend)
        x, targets = given(wrap)
        weights = [wrap(WEIGHTS), wrap(WEIGHTS)]
        found = fit(made, x, targets, sample_weight=weights, validation_split=0.2)
        assert same(found, expected)
        assert same(made.predict(x), outputs)


def test_a_model_is_built_from_them(device: Device) -> None:
    for backend in ("cuda", "reference"):
        for wrap in (DeviceArray, Tensor):
            assert fit(model(backend, built=False), wrap(X), wrap(Y))[0].shape == (4, 5)
            made = model(backend, built=False)
            assert len(made.evaluate(wrap(X), wrap(Y))) == 2
            made = Sequential([Dense(2)])
            made.compile(device=backend)
            assert made.predict([wrap(X)]).shape == (60, 2)
            assert Sequential([Dense(2)]).predict(wrap(X)).shape == (60, 2)


def test_a_model_that_is_not_compiled(device: Device) -> None:
    made = Sequential([Input((4,)), Dense(2)])
    found = made.predict(DeviceArray(X), output="cupy")
    assert DeviceArray.fetched == 0
    assert np.array_equal(found.get(), made.predict(X))


def test_set_weights(device: Device) -> None:
    source, weights = model("reference"), model("reference").get_weights()
    for backend in ("cuda", "reference"):
        made = model(backend)
        made.set_weights([DeviceArray(2 * w) for w in weights])
        assert same(made.get_weights(), [2 * w for w in weights])
        made.predict(X)
        made.layers[0].set_weights([Tensor(w) for w in source.layers[0].get_weights()])
        assert same(made.get_weights()[:2], weights[:2])


# Mistakes: the same message wherever the array is


def changed(array: np.ndarray, value: float, dtype: Any = np.float64) -> np.ndarray:
    array = array.astype(dtype)
    array[7, ...] = array[7, ...] if array.ndim > 1 else value
    if array.ndim > 1:
        array[7, 2] = value
    return array


MISTAKES: dict[str, Callable[[Any, Callable[[Any], Any]], Any]] = {
    "x, NaN": lambda m, a: fit(m, a(changed(X, np.nan)), a(Y)),
    "x, infinity": lambda m, a: fit(m, a(changed(X, -np.inf)), a(Y)),
    "x, NaN float32": lambda m, a: m.predict(a(changed(X, np.nan, np.float32))),
    "x, too large": lambda m, a: fit(m, a(changed(X, 1e300)), a(Y)),
    "x, late NaN": lambda m, a: m.predict(a(changed(np.tile(X, (1200, 1)), np.nan)[::-1])),
    "x, features": lambda m, a: fit(m, a(X[:, :3]), a(Y)),
    "x, one sample": lambda m, a: fit(m, a(X[0]), a(Y)),
    "x, empty": lambda m, a: fit(m, a(X[:0]), a(Y[:0])),
    "x, complex": lambda m, a: fit(m, a(X + 1j), a(Y)),
    "y, too few": lambda m, a: fit(m, a(X), a(Y[:7])),
    "y, a single value": lambda m, a: fit(m, a(X), a(np.asarray(1))),
    "y, too large": lambda m, a: fit(m, a(X), a(Y + 1)),
    "y, negative": lambda m, a: fit(m, a(X), a(Y - 1)),
    "y, unsigned": lambda m, a: fit(m, a(X), a(Y.astype(np.uint64) + 2**63)),
    "y, float": lambda m, a: fit(m, a(X), a(Y + 1.0)),
    "y, fractions": lambda m, a: fit(m, a(X), a(Y + 0.5)),
    "y, NaN": lambda m, a: fit(m, a(X), a(changed(Y, np.nan))),
    "y, one-hot": lambda m, a: fit(m, a(X), a(ONE_HOT)),
    "y, above 1": lambda m, a: fit(
        model(m.compiled.device, "categorical_crossentropy"), a(X), a(2 * ONE_HOT)
    ),
    "y, class numbers": lambda m, a: fit(
        model(m.compiled.device, "categorical_crossentropy"), a(X), a(Y)
    ),
    "validation": lambda m, a: fit(m, X, Y, validation_data=(a(X), a(Y - 1))),
    "sample_weight, negative": lambda m, a: fit(m, a(X), a(Y), sample_weight=a(-WEIGHTS)),
    "sample_weight, NaN": lambda m, a: fit(m, a(X), a(Y), sample_weight=a(WEIGHTS * np.nan)),
    "sample_weight, shape": lambda m, a: fit(m, a(X), a(Y), sample_weight=a(X)),
    "class_weight, y": lambda m, a: fit(m, a(X), a(X[None]), class_weight={0: 1.0}),
    "split, value": lambda m, a: fit(m, a(X), a(np.asarray(2)), validation_split=0.5),
    "split, rows": lambda m, a: fit(m, a(X[:1]), a(Y[:1]), validation_split=0.5),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake: str, device: Device) -> None:
    def message(backend: str, wrap: Any) -> tuple[type, str]:
        with pytest.raises(GpunnError) as caught:
            MISTAKES[mistake](model(backend), wrap)
        return caught.type, str(caught.value)

    expected = message("reference", np.asarray)
    assert message("cuda", DeviceArray) == expected
    assert DeviceArray.fetched == 0
    for wrap in (DeviceArray, Tensor):
        assert message("reference", wrap) == expected


def test_a_list_of_device_arrays_is_no_array(device: Device) -> None:
    for backend in ("cuda", "reference"):
        with pytest.raises(ArgumentTypeError, match=r"^x: "):
            fit(model(backend), [DeviceArray(row) for row in X], Y)


# On the host


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_tensors_on_the_host_are_not_copied(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read_only = X.copy()
    read_only.flags.writeable = False
    expected = fit(model(backend), X, Y)
    for x in (X, read_only):
        made = model(backend)
        assert np.shares_memory(made.prepare(Tensor(x)).inputs[0], x)
        assert np.shares_memory(made.prepare(Convertible(x)).inputs[0], x)
        assert np.shares_memory(made.prepare(X, Tensor(Y)).targets[0], Y)
        assert same(fit(made, Tensor(x), Tensor(Y)), expected)


def test_tensors_on_a_device_come_to_the_host_once() -> None:
    expected = fit(model("reference"), X, Y, class_weight={0: 2.0}, validation_split=0.25)
    x, y = Tensor(X, CUDA), Tensor(Y, METAL)
    found = fit(model("reference"), x, y, class_weight={0: 2.0}, validation_split=0.25)
    assert same(found, expected)
    assert (x.copies, y.copies) == (1, 1)
    DeviceArray.fetched = 0
    fit(model("reference", built=False), DeviceArray(X), Y, validation_split=0.25)
    assert DeviceArray.fetched == 1


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (Recorded(X), r"Recorded .*require gradient, use tensor.detach\(\)"),
        (Recorded(X, CUDA), r"require gradient"),
        (Interface(X), r"Interface"),
    ],
    ids=["host", "device", "no CuPy"],
)
def test_what_cannot_be_brought_to_the_host(
    x: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    with pytest.raises(ArgumentTypeError, match=rf"^x: cannot bring an array .*{reason}"):
        model("reference").predict(x)
    with pytest.raises(ArgumentTypeError, match=r"^validation x: cannot bring"):
        fit(model("reference"), X, Y, validation_data=(x, Y))


def test_cupy_brings_what_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    cupy = SimpleNamespace(asarray=lambda x: DeviceArray(x.tensor))
    monkeypatch.setitem(__import__("sys").modules, "cupy", cupy)
    assert np.array_equal(model("reference").predict(Interface(X)), model("reference").predict(X))


def test_where_arrays_are() -> None:
    for value in (X, [1, 2], 3.0, None, "text", Convertible(X), np.float32(1)):
        assert not is_foreign(value) and not is_on_cuda(value)
        assert host_array(value) is value
    assert is_foreign(Tensor(X)) and not is_on_cuda(Tensor(X))
    for array in (Tensor(X, CUDA), Tensor(X, (13, 0)), Interface(X), DeviceArray(X)):
        assert is_foreign(array) and is_on_cuda(array)
    assert not is_on_cuda(Tensor(X, METAL)) and not is_on_cuda(Sharded(X))
    assert host_array(Sharded(X)) is X
    keyed = Sharded(X)
    keyed.get = lambda key=None: key  # type: ignore[attr-defined]
    assert host_array(keyed) is X


def test_what_a_device_refuses(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(value: Any) -> Any:
        raise value

    monkeypatch.setattr(device, "adopt", refuse)
    with pytest.raises(ArgumentTypeError, match=r"^x: use detach"):
        model().predict(BufferError("use detach"))
    with pytest.raises(DeviceError, match=r"^no memory"):
        model().predict(DeviceError("no memory"))


def test_the_cuda_backend_leaves_it_to_the_driver() -> None:
    driver = SimpleNamespace(
        name="cuda",
        arrays="cupy",
        timed=False,
        allocate=lambda nbytes: np.zeros(nbytes, np.uint8),
        adopt=lambda value: ("adopted", value),
        release=lambda array: ("released", array),
        current=lambda: nullcontext("here"),
    )
    backend = CudaBackend(driver)  # type: ignore[arg-type]
    assert backend.arrays == "cupy"
    assert backend.adopt(1) == ("adopted", 1)
    assert backend.release(2) == ("released", 2)
    with backend.current() as place:
        assert place == "here"


# Out of a model


@pytest.mark.parametrize("rows", [1, 3, 60, 3000])
@pytest.mark.parametrize("wrap", [DeviceArray, np.asarray])
def test_predict_leaves_outputs_on_the_device(rows: int, wrap: Any, device: Device) -> None:
    made, x = model(), np.resize(X, (rows, 4))
    expected = made.predict(x)
    found = made.predict(wrap(x), output="cupy")
    assert isinstance(found, DeviceArray)
    assert DeviceArray.fetched == 0
    made.predict(np.zeros_like(x), output="cupy")  # each has memory of its own
    assert found.dtype == np.float32
    assert np.array_equal(found.get(), expected)


def test_predict_leaves_several_outputs_on_the_device(device: Device) -> None:
    a, x = Input((4,)), DeviceArray(X)
    made = Model(a, [Dense(6)(a), Dense(1)(a)])
    made.compile(device="cuda", precision="float64")
    expected = made.predict(X)
    found = made.predict(x, output="cupy")
    assert [array.shape for array in found] == [(60, 6), (60, 1)]
    assert all(isinstance(array, DeviceArray) for array in found)
    assert same([array.get() for array in found], expected)


def test_predict_refuses_outputs_that_there_are_not(device: Device) -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown output 'cuda'.*Known: cupy, numpy"):
        model().predict(X, output="cuda")
    with pytest.raises(ArgumentError, match=r"output='cupy' needs device='cuda'; .* reference"):
        model("reference").predict(X, output="cupy")
    assert isinstance(model().predict(DeviceArray(X), output="numpy"), np.ndarray)
