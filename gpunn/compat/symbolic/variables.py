"""Variables and the values that they start from."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpunn.compat.symbolic.graph import (
    Operation,
    Tensor,
    TensorGraph,
    check_shape,
    get_default_graph,
)
from gpunn.errors import ArgumentError, ArgumentTypeError, DataError, ShapeError
from gpunn.specs import initializers
from gpunn.specs.graph import MAX_VALUES
from gpunn.specs.initializers import Initializer

Array = np.ndarray[Any, Any]


class InitialValue:
    """A shape and how to fill it, or an array: what a `Variable` starts from.

    Attributes
    ----------
    shape : tuple of int
    initializer : Initializer or None
        None where there is an array.
    array : ndarray or None
    seed : int or None
        Of its own; by default the session's.
    """

    def __init__(
        self,
        owner: str,
        shape: Any,
        initializer: Initializer | None,
        array: Array | None = None,
        seed: int | None = None,
    ) -> None:
        sizes = check_shape(owner, shape)
        if any(size is None for size in sizes):
            raise ArgumentError(f"{owner}: shape {tuple(sizes)} must be known, without None.")
        self.shape: tuple[int, ...] = tuple(size for size in sizes if size is not None)
        if math.prod(self.shape) > MAX_VALUES:
            raise ShapeError(f"{owner}: shape {self.shape} has more than {MAX_VALUES:,} values.")
        self.initializer, self.array, self.seed = initializer, array, seed

    def get_shape(self) -> tuple[int, ...]:
        """Return the shape."""
        return self.shape

    def draw(self, seed: int, index: int) -> Array:
        """Return the values, float64, for a session of this seed."""
        if self.array is not None:
            return self.array
        assert self.initializer is not None
        seed = seed if self.seed is None else self.seed
        return self.initializer(self.shape, "float64", seed=seed, index=index)


def truncated_normal(
    shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: int | None = None
) -> InitialValue:
    """Normal values, drawn again where they are over two standard deviations off the mean."""
    spec = initializers.TruncatedNormal(mean, stddev)
    return InitialValue("truncated_normal", shape, spec, seed=_seed(seed))


def random_normal(
    shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: int | None = None
) -> InitialValue:
    """Normal values."""
    spec = initializers.RandomNormal(mean, stddev)
    return InitialValue("random_normal", shape, spec, seed=_seed(seed))


def random_uniform(
    shape: Any, minval: float = 0.0, maxval: float = 1.0, dtype: Any = None, seed: int | None = None
) -> InitialValue:
    """Uniform values between `minval` and `maxval`."""
    spec = initializers.RandomUniform(minval, maxval)
    return InitialValue("random_uniform", shape, spec, seed=_seed(seed))


def zeros(shape: Any, dtype: Any = None) -> InitialValue:
    """Zeros."""
    return InitialValue("zeros", shape, initializers.Zeros())


def ones(shape: Any, dtype: Any = None) -> InitialValue:
    """Ones."""
    return InitialValue("ones", shape, initializers.Ones())


def constant(
    value: Any, dtype: Any = None, shape: Any = None, name: str | None = None
) -> InitialValue:
    """Values of an array, or one number in a given `shape`, for a `Variable` to start from."""
    array = _array("constant", value)
    if shape is not None:
        sizes = InitialValue("constant", shape, initializers.Zeros()).shape
        if array.ndim and array.shape != sizes:
            raise ShapeError(f"constant: value has shape {array.shape}, not {sizes}.")
        array = np.broadcast_to(array, sizes).copy()
    return InitialValue("constant", array.shape, None, array)


def _seed(seed: int | None) -> int | None:
    from gpunn.models.compiling import check_seed

    return None if seed is None else check_seed(seed)


def _array(owner: str, value: Any) -> Array:
    from gpunn.data.batches import as_array

    array = as_array(value, owner).astype(np.float64)
    if not np.isfinite(array).all():
        raise DataError(f"{owner}: the values contain NaN or infinity.")
    return array


class Variable(Tensor):
    """A kernel of shape (inputs, outputs) or a bias of shape (outputs,), learned in training.

    Parameters
    ----------
    initial_value : InitialValue, array or number
        `truncated_normal`, `zeros` and so on, or the values themselves.
    trainable : bool, default True
        False is for a count of steps alone: ``tf.Variable(0, trainable=False)``.
    name : str, default "Variable"
    dtype : dtype, optional
        Taken for compatibility: weights have the type of the session's precision.

    Notes
    -----
    A variable becomes part of a layer where it is used: ``tf.matmul(X, W) + b``. The order of the
    layers' variables is that in which they are used.
    """

    def __init__(
        self,
        initial_value: Any,
        trainable: bool = True,
        name: str = "Variable",
        dtype: Any = None,
        *,
        graph: TensorGraph | None = None,
    ) -> None:
        if isinstance(initial_value, Tensor):
            raise ArgumentTypeError(
                f"Variable: the initial value must be an array or one of truncated_normal, "
                f"random_normal, random_uniform, zeros, ones and constant, not the tensor "
                f"{initial_value.name!r}."
            )
        if not isinstance(initial_value, InitialValue):
            array = _array("Variable", initial_value)
            initial_value = InitialValue("Variable", array.shape, None, array)
        self.trainable = bool(trainable)
        shape = initial_value.shape
        if not self.trainable and shape:
            raise ArgumentError(
                f"Variable {name!r}: trainable=False is supported for a count of steps alone, as "
                f"in tf.Variable(0, trainable=False, name='global_step'); not for shape {shape}."
            )
        graph = graph or get_default_graph()
        dtype = np.float32 if self.trainable else np.int64
        super().__init__(name, check_shape("Variable", shape), dtype, graph)
        self.initial_value: InitialValue = initial_value
        # Drawn by its place in the graph, so that other variables' draws do not depend on it.
        self.index = len(graph.variables)
        graph.variables.append(self)
        # Set where it becomes a kernel or bias: "layer/kernel".
        self.path: str | None = None
        self.product: Any = None

    def load(self, value: Any, session: Any = None) -> None:
        """Set the value in `session`, or in the one of the ``with`` block around."""
        from gpunn.compat.symbolic.session import session_for

        session_for(session, f"{self.name!r}.load()").load(self, value)

    def assign(self, value: Any) -> Assign:
        """Return an operation that sets the value when it is run."""
        if isinstance(value, Tensor):
            raise ArgumentTypeError(
                f"{self.name!r}.assign: the value must be an array, not the tensor "
                f"{value.name!r}; operations on variables are not supported."
            )
        return Assign(self, value)


class Assign(Operation):
    """Sets a variable to given values; see `Variable.assign`."""

    def __init__(self, variable: Variable, value: Any) -> None:
        super().__init__(f"{variable.name.rpartition('/')[2]}_assign", variable.graph)
        self.variable, self.value = variable, value


class InitializeVariables(Operation):
    """Draws the initial values of all variables; see `global_variables_initializer`."""


def global_variables_initializer() -> InitializeVariables:
    """Return the operation that gives all variables of the default graph their first values.

    Running it again starts training over: weights, optimizers' slots and step counts.
    """
    return InitializeVariables("init")


def global_variables() -> list[Variable]:
    """Return the default graph's variables, in the order in which they were made."""
    return list(get_default_graph().variables)


def trainable_variables() -> list[Variable]:
    """Return the default graph's variables but for counts of steps."""
    return [v for v in get_default_graph().variables if v.trainable]


def get_variable(
    name: str, shape: Any = None, dtype: Any = None, initializer: Any = None, trainable: bool = True
) -> Variable:
    """Return a new variable named within the scopes around; without an initializer Glorot's.

    Parameters
    ----------
    name : str
    shape : tuple of int
        May be left out where `initializer` is an array or an `InitialValue`.
    initializer : Initializer, str, InitialValue or array, optional
        Such as `truncated_normal_initializer` or ``"he_normal"``.
    """
    if get_default_graph().has(name):
        raise ArgumentError(
            f"get_variable: there is a {name!r} already; use what the first call returned, or "
            f"another name."
        )
    if isinstance(initializer, InitialValue) or hasattr(initializer, "__array__"):
        return Variable(initializer, trainable, name)
    spec = initializers.get("glorot_uniform" if initializer is None else initializer)
    if shape is None:
        raise ArgumentError(f"get_variable {name!r}: needs a shape.")
    return Variable(InitialValue("get_variable", shape, spec), trainable, name)


def truncated_normal_initializer(mean: float = 0.0, stddev: float = 1.0) -> Initializer:
    """Return the spec of `truncated_normal`, for `get_variable` and layers."""
    return initializers.TruncatedNormal(mean, stddev)


def random_normal_initializer(mean: float = 0.0, stddev: float = 1.0) -> Initializer:
    """Return the spec of `random_normal`, for `get_variable` and layers."""
    return initializers.RandomNormal(mean, stddev)


def random_uniform_initializer(minval: float = 0.0, maxval: float = 1.0) -> Initializer:
    """Return the spec of `random_uniform`, for `get_variable` and layers."""
    return initializers.RandomUniform(minval, maxval)


def constant_initializer(value: Any = 0.0) -> Any:
    """Return the spec of one number everywhere, or of an array, for `get_variable` and layers."""
    return constant(value) if np.ndim(value) else initializers.Constant(value)


zeros_initializer, ones_initializer = initializers.Zeros, initializers.Ones
