"""Mistakes anyone makes, each with an error that names the argument and what would be right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunn
from gpunn import Input, Model, Sequential, callbacks, layers, losses, metrics, optimizers
from gpunn import initializers as init
from gpunn import schedules as sched
from gpunn.backends import select
from gpunn.errors import (
    ArgumentError,
    ArgumentTypeError,
    CheckpointError,
    DataError,
    DeviceError,
    GpunnError,
    NotBuiltError,
    PlanError,
    ShapeError,
    UnknownNameError,
)

Dense = layers.Dense
X = np.random.default_rng(0).normal(0.0, 1.0, (20, 4))
Y = np.arange(20) % 3
ONE_HOT = np.eye(3)[Y]
SPARSE = "sparse_categorical_crossentropy"


def with_value(value: float) -> np.ndarray:
    """X with `value` in row 3, column 1."""
    x = X.copy()
    x[3, 1] = value
    return x


NAN, INF, HUGE = map(with_value, (np.nan, np.inf, 1e300))
Y_NAN, Y_HUGE = (np.where(np.arange(20) == 7, value, 0.5) for value in (np.nan, 1e300))


def model(
    loss: Any = SPARSE, activation: str | None = "softmax", units: int = 3, **kwargs: Any
) -> Sequential:
    made = Sequential([Input((4,)), Dense(5, "relu", name="first"), Dense(units, activation)])
    made.compile(kwargs.pop("optimizer", "sgd"), loss, **({"device": "reference"} | kwargs))
    return made


def regression(units: int = 1, loss: str = "mse") -> Sequential:
    return model(loss, None, units)


def stack(*rest: Any, loss: Any = None, metrics: Any = None) -> Sequential:
    """Compile layers after an input of 4 features."""
    made = Sequential([Input((4,)), *rest])
    made.compile("sgd", loss, metrics, device="reference")
    return made


def fit(x: Any = X, y: Any = Y, **kwargs: Any) -> Any:
    return model().fit(x, y, **({"verbose": 0, "batch_size": 5} | kwargs))


def two() -> Model:
    a, b = Input((3,), name="a"), Input((2,), name="b")
    hidden = Dense(4, name="h")(a)
    joined = layers.Concatenate()([hidden, b])
    return Model([a, b], [Dense(1, name="main")(joined), Dense(1, name="aux")(hidden)])


def two_compiled(loss: Any = "mse", metrics: Any = None, loss_weights: Any = None) -> Model:
    made = two()
    made.compile("sgd", loss, metrics, loss_weights=loss_weights, device="reference")
    return made


XX, YY = [np.zeros((10, 3)), np.zeros((10, 2))], [np.zeros(10), np.zeros(10)]


def deferred() -> Sequential:
    made = Sequential([Dense(5, "relu"), Dense(3, "softmax")])
    made.compile("sgd", SPARSE, device="reference")
    return made


def adapted(features: int) -> Any:
    layer = layers.Normalization(name="norm")
    layer.adapt(np.random.default_rng(0).normal(0.0, 1.0, (9, features)))
    return layer


def adapted_late() -> Any:
    layer = layers.Normalization(name="norm")
    made = Sequential([Input((3,)), layer, Dense(1)])
    layer.adapt(X)
    return made.predict(X[:, :3])


def add_twice() -> None:
    made = Sequential([Input((4,)), Dense(3, name="same")])
    made.add(Dense(2, name="same"))


def shared_layer() -> Model:
    a, b, shared = Input((3,)), Input((4,)), Dense(3, name="shared")
    return Model([a, b], [shared(a), shared(b)])


def unused_input() -> Model:
    x = Input((3,))
    return Model([Input((3,), name="unused"), x], Dense(1)(x))


def not_an_input() -> Model:
    hidden = Dense(3)(Input((4,)))
    return Model(hidden, Dense(1)(hidden))


def twice_in_a_list() -> Sequential:
    layer = Dense(3, name="d")
    return Sequential([layer, layer])


Case = tuple[Callable[[], Any], type[GpunnError], str]

# What is done, the error's class, and what its message must say, in order, between the "...".
CASES: dict[str, Case] = {
    # x
    "x, features": (
        lambda: fit(X[:, :3]),
        ShapeError,
        "x: expected shape (rows, 4) ... got (20, 3)",
    ),
    "x, no batch axis": (lambda: fit(X[0]), ShapeError, "x: ... (rows, 4) ... x[np.newaxis]"),
    "x, an axis too many": (lambda: fit(X[:, None]), ShapeError, "x: ... got (20, 1, 4)"),
    "x, one column missing": (
        lambda: stack_one().fit(np.arange(5.0), Y[:5]),
        ShapeError,
        "x: expected shape (rows, 1) ... got (5,); use x[:, np.newaxis]",
    ),
    "x, text": (lambda: fit(X.astype(str)), ArgumentTypeError, "x: expected numbers"),
    "x, objects": (lambda: fit(X.astype(object)), ArgumentTypeError, "x: ... type object"),
    "x, complex": (lambda: fit(X + 1j), ArgumentTypeError, "x: ... complex128"),
    "x, None": (lambda: fit(None), ArgumentTypeError, "x: expected numbers"),
    "x, ragged": (lambda: fit([[1, 2, 3, 4], [1, 2]]), DataError, "x: rows have different lengths"),
    "x, empty": (lambda: fit(X[:0], Y[:0]), DataError, "x: is empty (0 rows)"),
    "x, NaN": (lambda: fit(NAN), DataError, "x: contains NaN ... nan in row 3, column 1"),
    "x, infinity": (lambda: fit(INF), DataError, "x: ... infinity ... inf in row 3, column 1"),
    "x, too large for float32": (
        lambda: fit(HUGE),
        DataError,
        "x: 1e+300 in row 3, column 1 is too large for float32 ... precision='float64'",
    ),
    "x, a dict of other names": (
        lambda: fit({"pixels": X}),
        ArgumentError,
        "x: ... not ['pixels']",
    ),
    "x, two arrays for one input": (lambda: fit([X, X]), ShapeError, "x: expected shape (rows, 4)"),
    "x, first use, one axis": (
        lambda: deferred().fit([1, 2], [0, 1]),
        ShapeError,
        "x: expected shape (rows, features), got (2,)",
    ),
    "x, first use, ragged": (
        lambda: deferred().fit([[1, 2], [1]], [0, 1]),
        DataError,
        "x: rows have different lengths",
    ),
    # y
    "y, missing": (lambda: fit(y=None), ArgumentTypeError, "y: is missing"),
    "y, too few": (
        lambda: fit(y=Y[:7]),
        ShapeError,
        "y: expected 20 rows, as many as x has, got 7",
    ),
    "y, a single value": (lambda: fit(y=1), ShapeError, "y: expected 20 rows ... a single value"),
    "y, one-hot for class numbers": (
        lambda: fit(y=ONE_HOT),
        ShapeError,
        "y: expected class numbers ... (20, 3) ... use the loss categorical_crossentropy",
    ),
    "y, class numbers for one-hot": (
        lambda: model("categorical_crossentropy").fit(X, Y),
        ShapeError,
        "y: expected shape (20, 3), got (20,) ... sparse_categorical_crossentropy",
    ),
    "y, one-hot of other classes": (
        lambda: model("categorical_crossentropy").fit(X, np.eye(4)[Y]),
        ShapeError,
        "y: expected shape (20, 3), got (20, 4)",
    ),
    "y, label too large": (
        lambda: fit(y=Y + 1),
        DataError,
        "y: labels must be from 0 to 2 ... got labels from 1 to 3",
    ),
    "y, label negative": (lambda: fit(y=Y - 1), DataError, "y: ... from 0 to 2 ... from -1 to 1"),
    "y, fractions": (lambda: fit(y=Y + 0.5), DataError, "y: expected whole class numbers"),
    "y, label NaN": (lambda: fit(y=Y_NAN), DataError, "y: contains NaN ... row 7"),
    "y, text": (lambda: fit(y=Y.astype(str)), ArgumentTypeError, "y: expected numbers"),
    "y, probabilities above 1": (
        lambda: model("categorical_crossentropy").fit(X, 2 * ONE_HOT),
        DataError,
        "y: CategoricalCrossentropy expects targets between 0 and 1 ... from 0 to 2",
    ),
    "y, three classes for one sigmoid": (
        lambda: model("binary_crossentropy", "sigmoid", 1).fit(X, Y),
        DataError,
        "y: BinaryCrossentropy expects targets between 0 and 1 ... from 0 to 2",
    ),
    "y, NaN in regression": (
        lambda: regression().fit(X, Y_NAN),
        DataError,
        "y: contains NaN ... row 7, column 0",
    ),
    "y, too large for float32": (
        lambda: regression().fit(X, Y_HUGE),
        DataError,
        "y: 1e+300 in row 7, column 0 is too large for float32",
    ),
    "y, columns in regression": (
        lambda: regression(2).fit(X, X[:, :3]),
        ShapeError,
        "y: expected shape (20, 2), got (20, 3)",
    ),
    "y, transposed": (
        lambda: regression().fit(X, Y[None]),
        ShapeError,
        "y: expected 20 rows ... got 1",
    ),
    # sample_weight and class_weight
    "sample_weight, too few": (
        lambda: fit(sample_weight=np.ones(3)),
        ShapeError,
        "sample_weight: expected shape (20,), got (3,)",
    ),
    "sample_weight, a column": (
        lambda: fit(sample_weight=np.ones((20, 1))),
        ShapeError,
        "sample_weight: expected shape (20,), got (20, 1)",
    ),
    "sample_weight, a number": (
        lambda: fit(sample_weight=2.0),
        ShapeError,
        "sample_weight: ... ()",
    ),
    "sample_weight, negative": (
        lambda: fit(sample_weight=-np.ones(20)),
        DataError,
        "sample_weight: weights must not be negative, got -1",
    ),
    "sample_weight, NaN": (
        lambda: fit(sample_weight=np.full(20, np.nan)),
        DataError,
        "sample_weight: contains NaN",
    ),
    "sample_weight, too large for float32": (
        lambda: fit(sample_weight=np.full(20, 1e300)),
        DataError,
        "sample_weight: 1e+300 ... too large for float32",
    ),
    "sample_weight, a dict": (
        lambda: fit(sample_weight={0: 1.0}),
        ArgumentTypeError,
        "sample_weight: expected numbers",
    ),
    "class_weight, a list": (
        lambda: fit(class_weight=[1, 2, 3]),
        ArgumentTypeError,
        "class_weight must be a dict from class number to weight",
    ),
    "class_weight, unknown class": (
        lambda: fit(class_weight={5: 1.0}),
        ArgumentError,
        "class_weight: there is no class 5 ... from 0 to 2",
    ),
    "class_weight, class by name": (
        lambda: fit(class_weight={"cat": 1.0}),
        ArgumentError,
        "class_weight: there is no class 'cat'",
    ),
    "class_weight, negative": (
        lambda: fit(class_weight={1: -2.0}),
        ArgumentError,
        "class_weight: the weight of class 1 ... at least 0, not -2.0",
    ),
    "class_weight, NaN": (
        lambda: fit(class_weight={1: np.nan}),
        ArgumentError,
        "class_weight: the weight of class 1 ... not nan",
    ),
    "class_weight, text": (
        lambda: fit(class_weight={1: "2"}),
        ArgumentTypeError,
        "class_weight: the weight of class 1 must be a number ... not '2'",
    ),
    "class_weight, and sample_weight": (
        lambda: fit(class_weight={1: 2.0}, sample_weight=np.ones(20)),
        ArgumentError,
        "class_weight or sample_weight, not both",
    ),
    "class_weight, y of three axes": (
        lambda: fit(y=np.zeros((20, 2, 2)), class_weight={1: 2.0}),
        ShapeError,
        "class_weight: ... (20, 2, 2)",
    ),
    "class_weight, two outputs": (
        lambda: two_compiled().fit(XX, YY, class_weight={0: 1.0}),
        ArgumentError,
        "class_weight works with one output",
    ),
    # Validation
    "validation_data, an array": (
        lambda: fit(validation_data=X),
        ArgumentTypeError,
        "validation_data must be (x, y) or (x, y, sample_weight)",
    ),
    "validation_data, x only": (
        lambda: fit(validation_data=(X,)),
        ArgumentTypeError,
        "validation_data must be (x, y)",
    ),
    "validation_data, no y": (
        lambda: fit(validation_data=(X, None)),
        ArgumentTypeError,
        "validation y: is missing",
    ),
    "validation_data, features": (
        lambda: fit(validation_data=(X[:, :2], Y)),
        ShapeError,
        "validation x: expected shape (rows, 4) ... got (20, 2)",
    ),
    "validation_data, rows": (
        lambda: fit(validation_data=(X, Y[:3])),
        ShapeError,
        "validation y: expected 20 rows ... got 3",
    ),
    "validation_data, labels": (
        lambda: fit(validation_data=(X, Y + 5)),
        DataError,
        "validation y: labels must be from 0 to 2",
    ),
    "validation_data, NaN": (
        lambda: fit(validation_data=(NAN, Y)),
        DataError,
        "validation x: ... NaN",
    ),
    "validation_data, empty": (
        lambda: fit(validation_data=(X[:0], Y[:0])),
        DataError,
        "validation x: is empty",
    ),
    "validation_data, weights": (
        lambda: fit(validation_data=(X, Y, np.ones(2))),
        ShapeError,
        "validation sample_weight: expected shape (20,), got (2,)",
    ),
    "validation_split, 1": (
        lambda: fit(validation_split=1.0),
        ArgumentError,
        "validation_split must be above 0 and below 1, not 1.0",
    ),
    "validation_split, negative": (
        lambda: fit(validation_split=-0.1),
        ArgumentError,
        "validation_split must be ... not -0.1",
    ),
    "validation_split, text": (
        lambda: fit(validation_split="0.1"),
        ArgumentError,
        "validation_split must be ... not '0.1'",
    ),
    "validation_split, nothing left": (
        lambda: fit(X[:2], Y[:2], validation_split=0.9),
        ArgumentError,
        "validation_split 0.9 of 2 rows leaves nothing to train on",
    ),
    "validation_split, nothing held out": (
        lambda: fit(X[:2], Y[:2], validation_split=1e-17),
        ArgumentError,
        "validation_split 1e-17 of 2 rows leaves nothing to validate on",
    ),
    "validation_split, and data": (
        lambda: fit(validation_split=0.1, validation_data=(X, Y)),
        ArgumentError,
        "validation_split or validation_data, not both",
    ),
    # The other arguments of fit
    "batch_size, above the rows": (
        lambda: fit(batch_size=21),
        ArgumentError,
        "batch_size 21 is larger than the data (20 rows); use at most 20",
    ),
    "batch_size, 0": (lambda: fit(batch_size=0), ArgumentError, "batch_size ... at least 1, not 0"),
    "batch_size, fraction": (
        lambda: fit(batch_size=2.5),
        ArgumentTypeError,
        "batch_size ... not 2.5",
    ),
    "batch_size, text": (lambda: fit(batch_size="8"), ArgumentTypeError, "batch_size ... not '8'"),
    "batch_size, NaN": (
        lambda: fit(batch_size=np.nan),
        ArgumentTypeError,
        "batch_size ... not nan",
    ),
    "epochs, negative": (lambda: fit(epochs=-1), ArgumentError, "epochs ... at least 0, not -1"),
    "epochs, fraction": (lambda: fit(epochs=1.5), ArgumentError, "epochs ... not 1.5"),
    "epochs, text": (lambda: fit(epochs="3"), ArgumentError, "epochs ... not '3'"),
    "epochs, None without steps": (lambda: fit(epochs=None), ArgumentError, "epochs ... not None"),
    "steps, 0": (lambda: fit(steps=0), ArgumentError, "steps ... at least 1, not 0"),
    "verbose, 7": (
        lambda: fit(verbose=7),
        ArgumentError,
        "verbose must be 0, 1, 2 or 'auto', not 7",
    ),
    "callbacks, not a callback": (lambda: fit(callbacks=[3]), ArgumentError, "callbacks ... not 3"),
    "callbacks, a class": (
        lambda: fit(callbacks=[callbacks.History]),
        ArgumentError,
        "callbacks must be gpunn.callbacks.Callback objects, not <class",
    ),
    "LambdaCallback, unknown hook": (
        lambda: callbacks.LambdaCallback(on_epoch_ended=print),
        ArgumentError,
        "there is no hook 'on_epoch_ended'; known: ... on_epoch_end",
    ),
    # evaluate and predict
    "predict, no batch axis": (lambda: model().predict(X[0]), ShapeError, "x: ... x[np.newaxis]"),
    "predict, features": (lambda: model().predict(X[:, :2]), ShapeError, "x: ... got (20, 2)"),
    "predict, empty": (lambda: model().predict(X[:0]), DataError, "x: is empty"),
    "predict, NaN": (lambda: model().predict(NAN), DataError, "x: contains NaN"),
    "evaluate, rows": (lambda: model().evaluate(X, Y[:2]), ShapeError, "y: expected 20 rows"),
    "evaluate, no y": (lambda: model().evaluate(X, None), ArgumentTypeError, "y: is missing"),
    # Unknown names
    "activation": (
        lambda: Dense(3, "rellu"),
        UnknownNameError,
        "Unknown activation 'rellu'; did you mean 'relu'? Known: elu",
    ),
    "optimizer": (
        lambda: model(optimizer="addam"),
        UnknownNameError,
        "Unknown optimizer 'addam'; did you mean 'adam'?",
    ),
    "loss": (
        lambda: model("sparse_catgorical_crossentropy"),
        UnknownNameError,
        "Unknown loss ... did you mean 'sparse_categorical_crossentropy'?",
    ),
    "metric": (
        lambda: model(metrics=["acuracy"]),
        UnknownNameError,
        "Unknown metric 'acuracy'; did you mean 'accuracy'?",
    ),
    "initializer": (
        lambda: Dense(3, kernel_initializer="he_norml"),
        UnknownNameError,
        "Unknown initializer 'he_norml'; did you mean 'he_normal'?",
    ),
    "regularizer": (
        lambda: Dense(3, kernel_regularizer="l3"),
        UnknownNameError,
        "Unknown regularizer 'l3' ... Known: l1, ... l2",
    ),
    "device": (
        lambda: model(device="cudaa"),
        UnknownNameError,
        "Unknown device 'cudaa'; did you mean 'cuda'? Known: auto, cpu",
    ),
    "device, not a name": (lambda: model(device=0), ArgumentTypeError, "device must be a name"),
    "precision": (
        lambda: model(precision="flaot32"),
        UnknownNameError,
        "Unknown precision 'flaot32'; did you mean 'float32'?",
    ),
    "precision, not on this device": (
        lambda: model(precision="tf32"),
        PlanError,
        "Device 'reference' does not compute in tf32; use precision='float32', or for tf32 "
        "device='cuda' with a GPU of compute capability 8.0 or later, or device='simulator'",
    ),
    "layer": (
        lambda: model().get_layer("fist"),
        UnknownNameError,
        "Unknown layer 'fist'; did you mean 'first'?",
    ),
    "layer, index": (lambda: model().get_layer(index=9), ArgumentError, "no layer 9; there are 2"),
    "activation, a number": (
        lambda: Dense(3, 1.5),
        ArgumentTypeError,
        "An activation is given by name, such as 'relu', or as a function, not as float",
    ),
    "activation, NumPy's": (
        lambda: Dense(3, np.tanh),
        ArgumentTypeError,
        "The activation 'tanh' ... np.tanh does not know symbols; use gpunn.ops (ops.tanh)",
    ),
    "loss, a number": (
        lambda: model(1.5),
        ArgumentTypeError,
        "A loss is given as a name or a Loss object",
    ),
    "loss, NumPy's": (
        lambda: model(np.mean),
        ArgumentTypeError,
        "The loss 'mean' ... np.mean does not know symbols; use gpunn.ops (ops.mean)",
    ),
    "optimizer, a number": (
        lambda: model(optimizer=0.1),
        ArgumentTypeError,
        "An optimizer is given as a name or an Optimizer object, not as float: 0.1",
    ),
    "metric, a number": (lambda: model(metrics=[3]), ArgumentTypeError, "A metric is given as"),
    "initializer, None": (lambda: Dense(3, kernel_initializer=None), ArgumentError, "'zeros'"),
    "regularizer, a number": (
        lambda: Dense(3, kernel_regularizer=0.01),
        ArgumentTypeError,
        "A regularizer is given as a name ... 0.01",
    ),
    # Arguments of specs
    "units, 0": (lambda: Dense(0), ArgumentError, "Dense: units must be at least 1, not 0"),
    "units, negative": (lambda: Dense(-1), ArgumentError, "Dense: units ... not -1"),
    "units, fraction": (lambda: Dense(1.5), ArgumentTypeError, "Dense: units ... whole ... 1.5"),
    "units, NaN": (lambda: Dense(np.nan), ArgumentTypeError, "Dense: units ... not nan"),
    "units, infinite": (lambda: Dense(np.inf), ArgumentTypeError, "Dense: units ... not inf"),
    "units, text": (lambda: Dense("10"), ArgumentTypeError, "Dense: units ... not '10'"),
    "units, None": (lambda: Dense(None), ArgumentTypeError, "Dense: units ... not None"),
    "units, True": (lambda: Dense(True), ArgumentTypeError, "Dense: units ... not True"),
    "rate, 1": (
        lambda: layers.Dropout(1.0),
        ArgumentError,
        "Dropout: rate must be a number at least 0 and below 1, not 1.0",
    ),
    "rate, negative": (lambda: layers.Dropout(-0.1), ArgumentError, "Dropout: rate ... not -0.1"),
    "rate, per cent": (lambda: layers.Dropout(50), ArgumentError, "Dropout: rate ... not 50"),
    "name, a slash": (lambda: Dense(3, name="a/b"), ArgumentError, "Dense: name ... not 'a/b'"),
    "shape, with the batch axis": (
        lambda: Input((None, 4)),
        ArgumentError,
        "Input: shape (None, 4) ... leave out the batch axis",
    ),
    "shape, 0": (lambda: Input((0,)), ArgumentError, "Input: shape must be at least 1, not 0"),
    "shape, text": (lambda: Input("4"), ArgumentTypeError, "Input: shape ... not '4'"),
    "axis of Concatenate": (
        lambda: layers.Concatenate(axis=0),
        ArgumentError,
        "Concatenate: axis must be -1 (the last one), not 0",
    ),
    "learning_rate, negative": (
        lambda: optimizers.SGD(-1),
        ArgumentError,
        "learning_rate must be a number at least 0, not -1",
    ),
    "learning_rate, NaN": (lambda: optimizers.Adam(np.nan), ArgumentError, "learning_rate ... nan"),
    "learning_rate, text": (
        lambda: optimizers.SGD("0.1"),
        ArgumentTypeError,
        "learning_rate must be a number or a schedule from gpunn.schedules, not '0.1'",
    ),
    "learning_rate, None": (
        lambda: optimizers.SGD(None),
        ArgumentTypeError,
        "learning_rate must be a number or a schedule",
    ),
    "momentum": (lambda: optimizers.SGD(momentum=1.5), ArgumentError, "SGD: momentum ... 1.5"),
    "beta_1": (lambda: optimizers.Adam(beta_1=1.0), ArgumentError, "Adam: beta_1 ... below 1"),
    "two ways to clip": (
        lambda: optimizers.SGD(clipnorm=1.0, clipvalue=1.0),
        ArgumentError,
        "SGD: only one of clipvalue, clipnorm",
    ),
    "clipnorm, 0": (lambda: optimizers.SGD(clipnorm=0), ArgumentError, "clipnorm ... above 0"),
    "decay_steps": (
        lambda: sched.ExponentialDecay(0.1, 0, 0.5),
        ArgumentError,
        "ExponentialDecay: decay_steps must be at least 1, not 0",
    ),
    "alpha": (
        lambda: sched.CosineDecay(0.1, 10, alpha="a"),
        ArgumentTypeError,
        "CosineDecay: alpha must be a number",
    ),
    "boundaries": (
        lambda: sched.PiecewiseConstantDecay([3, 1], [0.1, 0.1, 0.1]),
        ArgumentError,
        "PiecewiseConstantDecay: boundaries must increase",
    ),
    "values": (
        lambda: sched.PiecewiseConstantDecay([1], [0.1]),
        ArgumentError,
        "PiecewiseConstantDecay: values must have one entry more than boundaries",
    ),
    "delta": (lambda: losses.Huber(0), ArgumentError, "Huber: delta must be a number above 0"),
    "l2": (lambda: gpunn.regularizers.L2(-1), ArgumentError, "l2 must be ... at least 0, not -1"),
    "stddev": (lambda: init.RandomNormal(stddev=-1), ArgumentError, "RandomNormal: stddev ... -1"),
    "minval above maxval": (
        lambda: init.RandomUniform(1, -1),
        ArgumentError,
        "RandomUniform: maxval",
    ),
    "constant": (lambda: init.Constant("a"), ArgumentTypeError, "Constant: value ... not 'a'"),
    "mode": (
        lambda: init.VarianceScaling(mode="fan_on"),
        UnknownNameError,
        "mode of VarianceScaling 'fan_on'; did you mean 'fan_in'?",
    ),
    "k": (
        lambda: metrics.TopKCategoricalAccuracy(k=0),
        ArgumentError,
        "k must be at least 1, not 0",
    ),
    "threshold": (
        lambda: metrics.BinaryAccuracy(threshold=1.0),
        ArgumentError,
        "BinaryAccuracy: threshold ... below 1",
    ),
    "negative_slope": (
        lambda: gpunn.activations.ActivationFunction("leaky_relu", -1),
        ArgumentError,
        "'leaky_relu': negative_slope ... at least 0, not -1",
    ),
    # Not yet
    "fit, not compiled": (
        lambda: Sequential([Input((4,)), Dense(3)]).fit(X, Y),
        NotBuiltError,
        "not compiled; call model.compile(...) first",
    ),
    "evaluate, not compiled": (
        lambda: Sequential([Input((4,)), Dense(3)]).evaluate(X, Y),
        NotBuiltError,
        "not compiled",
    ),
    "Trainer, not compiled": (
        lambda: gpunn.Trainer(Sequential([Input((4,)), Dense(3)]), X, Y),
        NotBuiltError,
        "not compiled",
    ),
    "summary, not built": (
        lambda: Sequential([Dense(3)]).summary(),
        NotBuiltError,
        "not built: its input shape is not known ... gpunn.Input(shape)",
    ),
    "get_weights, not built": (
        lambda: Sequential([Dense(3)]).get_weights(),
        NotBuiltError,
        "shape",
    ),
    "fit, no layers": (lambda: empty().fit(X, Y), NotBuiltError, "has no layers"),
    "fit, no loss": (
        lambda: stack(Dense(3)).fit(X, Y),
        ArgumentError,
        "fit needs a loss; give compile one, such as loss='mse'",
    ),
    "evaluate, no loss": (lambda: stack(Dense(3)).evaluate(X, Y), ArgumentError, "need a loss"),
    "Normalization, not adapted": (
        lambda: stack(layers.Normalization(), Dense(1), loss="mse").fit(X, Y),
        NotBuiltError,
        "'normalization' ... call its adapt(x_train) first",
    ),
    # Loss and output
    "softmax missing": (
        lambda: stack(Dense(3, name="out"), loss=SPARSE),
        PlanError,
        "'out' does not end with softmax ... activation='softmax' ... from_logits=True",
    ),
    "softmax missing, one-hot": (
        lambda: stack(Dense(3), loss="categorical_crossentropy"),
        PlanError,
        "does not end with softmax",
    ),
    "softmax missing, first use": (lambda: softmax_missing_late(), PlanError, "end with softmax"),
    "sigmoid missing": (
        lambda: stack(Dense(1), loss="binary_crossentropy"),
        PlanError,
        "does not end with sigmoid ... activation='sigmoid'",
    ),
    "softmax of one output": (
        lambda: stack(Dense(1, "softmax"), loss=SPARSE),
        PlanError,
        "at least two outputs ... use a sigmoid and BinaryCrossentropy",
    ),
    "softmax before logits": (
        lambda: stack(Dense(3, "softmax"), loss=losses.CategoricalCrossentropy(from_logits=True)),
        PlanError,
        "from_logits=True) takes logits, but output 'dense' ends with softmax",
    ),
    "no gradient": (
        lambda: stack(Dense(3, "step"), Dense(1), loss="mse"),
        PlanError,
        "'step', which has no useful gradient",
    ),
    "error metric of class numbers": (
        lambda: model(metrics=["mae"]),
        PlanError,
        "'mae' ... does not work on class numbers; use 'accuracy'",
    ),
    "classes of one output": (
        lambda: stack(Dense(1), loss="mse", metrics=["categorical_accuracy"]),
        PlanError,
        "at least two outputs; use 'binary_accuracy'",
    ),
    "metric twice": (
        lambda: stack(Dense(1), loss="mse", metrics=["mae", "mae"]),
        ArgumentError,
        "metrics: ... two figures named 'mae'",
    ),
    "metric named loss": (
        lambda: stack(Dense(1), loss="mse", metrics=[metrics.MeanAbsoluteError(name="loss")]),
        ArgumentError,
        "metrics: ... two figures named 'loss'",
    ),
    "losses for one output": (
        lambda: stack(Dense(1), loss=["mse", "mae"]),
        ArgumentError,
        "loss: expected 1 entries, one for each of ['dense'], got 2",
    ),
    "seed": (lambda: model(seed=-1), ArgumentError, "seed ... from 0 to 2**64 - 1, not -1"),
    "threads": (lambda: model(threads=0), ArgumentError, "threads ... at least 1, not 0"),
    # Layers put together
    "same name": (
        lambda: Sequential([Input((4,)), Dense(3, name="same"), Dense(2, name="same")]),
        ArgumentError,
        "Two layers are named 'same'",
    ),
    "same name, by add": (add_twice, ArgumentError, "Two layers are named 'same'"),
    "one layer twice": (twice_in_a_list, ArgumentError, "'d' (Dense) is in the list twice"),
    "layer on arrays": (
        lambda: Dense(3, name="d")(X),
        ArgumentTypeError,
        "'d' (Dense) is called on symbolic inputs ... not on ndarray ... use model.predict",
    ),
    "Dense on images": (
        lambda: Sequential([Input((28, 28), name="image"), Dense(3, name="d")]),
        ShapeError,
        "'d' (Dense) ... Flatten layer ... 'image' (InputLayer) gives (28, 28)",
    ),
    "Add of two shapes": (
        lambda: layers.Add(name="sum")([Dense(n, name=f"d{n}")(Input((4,))) for n in (3, 2)]),
        ShapeError,
        "'sum' (Add) expects inputs of one shape; "
        "Layer 'd3' (Dense) gives (3,) and Layer 'd2' (Dense) gives (2,)",
    ),
    "Add of one": (lambda: layers.Add()(Input((3,))), ShapeError, "a list of at least two inputs"),
    "Concatenate of images": (
        lambda: layers.Concatenate()([Input((3, 3), name="image"), Input((3,), name="row")]),
        ShapeError,
        "Flatten ... 'image' (InputLayer) gives (3, 3) and Layer 'row' (InputLayer) gives (3,)",
    ),
    "Dense of two": (lambda: Dense(3)([Input((3,))] * 2), ShapeError, "takes one input, not 2"),
    "shared between shapes": (
        shared_layer,
        ShapeError,
        "'shared' (Dense) is shared ... kernel would be (3, 3) and (4, 3)",
    ),
    "Model, no inputs": (lambda: Model(outputs=Input((3,))), ArgumentError, "inputs and outputs"),
    "Model, unused input": (unused_input, ArgumentError, "'unused' (InputLayer) ... not used"),
    "Model, input not listed": (
        lambda: Model(Input((3,)), Dense(1)(Input((3,), name="other"))),
        ArgumentError,
        "depends on Layer 'other' (InputLayer) with shape (3,) ... not among the model's inputs",
    ),
    "Model, hidden layer as input": (not_an_input, ArgumentError, "must come from gpunn.Input"),
    "Model, arrays": (
        lambda: Model(X, X),
        ArgumentTypeError,
        "inputs: expected what gpunn.Input or a layer returned, got ndarray",
    ),
    "Sequential, a name": (
        lambda: Sequential(["dense"]),
        ArgumentTypeError,
        "a layer, got 'dense'",
    ),
    "Sequential, a class": (
        lambda: Sequential([Dense]),
        ArgumentTypeError,
        "expected a layer, got",
    ),
    "Sequential, no list": (lambda: Sequential(Dense(3)), ArgumentTypeError, "must be a list"),
    "Sequential, input later": (
        lambda: Sequential([Dense(3), Input((3,))]),
        ArgumentError,
        "an Input can only come first",
    ),
    "add, after compile": (
        lambda: model().add(Dense(1)),
        ArgumentError,
        "add layers before compile",
    ),
    "pop, empty": (lambda: Sequential().pop(), ArgumentError, "pop: the model has no layers"),
    "Normalization, other features": (
        lambda: Sequential([Input((3,), name="row"), adapted(4)]),
        ShapeError,
        "'norm' (Normalization) has statistics for 4 features; Layer 'row' (InputLayer) gives (3,)",
    ),
    "Normalization, adapted to other features": (
        adapted_late,
        ShapeError,
        "'norm' (Normalization) was adapted to 4 features, but its input has 3",
    ),
    "adapt, one axis": (
        lambda: layers.Normalization().adapt(X[0]),
        DataError,
        "Normalization.adapt: data must have shape (n, ..., features)",
    ),
    "adapt, NaN": (
        lambda: layers.Normalization().adapt(NAN),
        DataError,
        "adapt: data contains NaN",
    ),
    "mean without variance": (
        lambda: layers.Normalization(mean=[1.0]),
        ArgumentError,
        "Normalization: give both mean and variance",
    ),
    # Weights
    "set_weights, too few": (
        lambda: model().set_weights([X]),
        ArgumentError,
        "set_weights: expected 4 arrays, got 1",
    ),
    "set_weights, shape": (
        lambda: model().get_layer("first").set_weights([np.zeros((4, 6)), np.zeros(5)]),
        ShapeError,
        "set_weights of layer 'first': first/kernel has shape (4, 5), got (4, 6)",
    ),
    "set_weights, text": (
        lambda: model().get_layer("first").set_weights(["a", np.zeros(5)]),
        ArgumentTypeError,
        "set_weights of layer 'first': first/kernel: expected numbers",
    ),
    # Several inputs and outputs
    "two inputs, one array": (
        lambda: two_compiled().fit(XX[0], YY),
        ArgumentError,
        "x: expected a list of 2 arrays, one for each of ['a', 'b']",
    ),
    "two inputs, one key": (
        lambda: two_compiled().fit({"a": XX[0]}, YY),
        ArgumentError,
        "x: expected a dict with the keys ['a', 'b'], not ['a']",
    ),
    "two inputs, other rows": (
        lambda: two_compiled().fit([XX[0], XX[1][:5]], YY),
        ShapeError,
        "x['b']: expected 10 rows like the other inputs, got 5",
    ),
    "two inputs, exchanged": (
        lambda: two_compiled().fit(XX[::-1], YY),
        ShapeError,
        "x['a']: expected shape (rows, 3) for input 'a', got (10, 2)",
    ),
    "two outputs, one array": (
        lambda: two_compiled().fit(XX, YY[0]),
        ArgumentError,
        "y: expected a list of 2 arrays, one for each of ['main', 'aux']",
    ),
    "two outputs, other key": (
        lambda: two_compiled().fit(XX, {"main": YY[0], "axu": YY[1]}),
        ArgumentError,
        "y: expected a dict with the keys ['main', 'aux'], not ['main', 'axu']",
    ),
    "two outputs, one weight": (
        lambda: two_compiled().fit(XX, YY, sample_weight=[np.ones(10)]),
        ArgumentError,
        "sample_weight: expected a list of 2 arrays",
    ),
    "loss of an unknown output": (
        lambda: two_compiled({"mian": "mse"}),
        UnknownNameError,
        "output in loss 'mian'; did you mean 'main'?",
    ),
    "metrics of an unknown output": (
        lambda: two_compiled(metrics={"mian": ["mae"]}),
        UnknownNameError,
        "output in metrics 'mian'; did you mean 'main'?",
    ),
    "losses, three": (
        lambda: two_compiled(["mse"] * 3),
        ArgumentError,
        "loss: expected 2 entries, one for each of ['main', 'aux'], got 3",
    ),
    "loss_weights, one": (
        lambda: two_compiled(loss_weights=[1.0]),
        ArgumentError,
        "loss_weights: expected 2 entries",
    ),
    "loss_weights, text": (
        lambda: two_compiled(loss_weights=["a", 1]),
        ArgumentTypeError,
        "loss_weights of output 'main' must be a number, not 'a'",
    ),
}


def stack_one() -> Sequential:
    made = Sequential([Input((1,)), Dense(1)])
    made.compile("sgd", "mse", device="reference")
    return made


def empty() -> Sequential:
    made = Sequential()
    made.compile("sgd", "mse", device="reference")
    return made


def softmax_missing_late() -> None:
    made = Sequential([Dense(3)])
    made.compile("sgd", SPARSE, device="reference")
    made.fit(X, Y, verbose=0)


@pytest.mark.parametrize("name", CASES)
def test_mistake_is_named(name: str) -> None:
    act, kind, message = CASES[name]
    with pytest.raises(kind) as caught:
        act()
    assert type(caught.value) is kind
    said, at = str(caught.value), 0
    # Shapes are written "(n, ..., features)" too.
    for part in message.replace("(n, ..., ", "(n, @, ").split("..."):
        wanted = part.strip().replace("@", "...")
        assert wanted in said[at:], f"{wanted!r} is not in {said[at:]!r}"
        at = said.index(wanted, at) + len(wanted)
    # One line, in full sentences, that does not print the data.
    assert "\n" not in said
    assert len(said) < 500
    assert said.endswith((".", "?"))


@pytest.mark.parametrize("built_in", [ValueError, TypeError, RuntimeError])
def test_errors_are_the_built_in_ones_too(built_in: type[Exception]) -> None:
    act = {
        ValueError: lambda: fit(X[:, :3]),
        TypeError: lambda: Dense("10"),
        RuntimeError: lambda: Sequential([Dense(3)]).summary(),
    }[built_in]
    with pytest.raises(built_in):
        act()


def test_device_that_is_not_there_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = select.DeviceStatus("cpu", False, "numba cannot be imported; pip install numba")
    monkeypatch.setattr(select, "cpu_status", lambda: missing)
    with pytest.raises(DeviceError) as caught:
        model(device="cpu")
    assert str(caught.value) == (
        "device 'cpu' cannot be used: numba cannot be imported; pip install numba."
    )


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_precision_that_auto_has_no_device_for(
    monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    missing = select.DeviceStatus("cuda", False, "an NVIDIA GPU, but no CuPy: pip install it")
    monkeypatch.setattr(select, "cuda_status", lambda: missing)
    with pytest.raises(PlanError) as caught:
        model(device="auto", precision=precision)
    assert str(caught.value) == (
        "device='auto' took cpu (an NVIDIA GPU, but no CuPy: pip install it), which does not "
        f"compute in {precision}; use precision='float32', or for {precision} device='cuda' with a "
        "GPU of compute capability 8.0 or later, or device='simulator'."
    )


def test_values_too_large_for_float32_fit_float64() -> None:
    """HUGE is refused (above) because it would become infinite in float32, not for its size."""
    made = stack(Dense(1))
    made.compile("sgd", "mse", device="reference", precision="float64")
    assert np.isfinite(made.predict(HUGE)).all()


def test_large_finite_values_are_not_taken_for_infinite() -> None:
    """Their sum overflows float32, the values do not."""
    made = stack(Dense(1, kernel_initializer="zeros"))
    np.testing.assert_array_equal(made.predict(np.full((5, 4), 3e38)), 0)


def test_failed_call_leaves_the_model_usable() -> None:
    made = model(seed=1)
    before = made.get_weights()
    for x, y in ((X[:, :3], Y), (NAN, Y), (X, Y + 1)):
        with pytest.raises(ArgumentError):
            made.fit(x, y)
    for weights, kept in zip(made.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weights, kept)
    assert len(made.fit(X, Y, verbose=0).epoch) == 1


@pytest.mark.parametrize(
    "mistake", [{"device": "cud"}, {"loss": "nonsense"}, {"loss": "binary_crossentropy"}]
)
def test_failed_compile_leaves_the_model_as_it_was(mistake: dict[str, Any]) -> None:
    made = model(seed=1)
    made.fit(X, Y, verbose=0)
    steps = gpunn.Trainer(made, X, Y, batch_size=5).step_count
    assert steps > 0
    settings = {"optimizer": "adam", "loss": "sparse_categorical_crossentropy", "seed": 2}
    with pytest.raises(ValueError):
        made.compile(**(settings | mistake))
    assert made.seed == 1
    assert gpunn.Trainer(made, X, Y, batch_size=5).step_count == steps


def test_adapted_to_other_features_is_said_every_time() -> None:
    layer = layers.Normalization()
    made = Sequential([Input((4,)), layer, Dense(1)])
    layer.adapt(np.arange(12.0).reshape(6, 2))
    for _ in range(2):
        with pytest.raises(ShapeError, match="adapted to 2 features"):
            made.predict(X)


def test_what_would_share_a_name_in_the_plan_is_refused() -> None:
    inputs = Input((4,))
    shared = Dense(4, name="a")
    twice = shared(shared(inputs))
    with pytest.raises(ArgumentError, match="another call of layer 'a'"):
        gpunn.Model(inputs, Dense(4, name="a_call2")(twice))
    with pytest.raises(ArgumentError, match="same output twice"):
        gpunn.Model(inputs, [twice, twice])
    with pytest.raises(ArgumentError, match="same input twice"):
        gpunn.Model([inputs, inputs], twice)


@pytest.mark.parametrize("x", [5, None, "text"])
def test_what_has_no_rows_cannot_be_split(x: Any) -> None:
    with pytest.raises((ArgumentError, ArgumentTypeError), match=r"^x: expected"):
        model(seed=1).fit(x, Y, validation_split=0.2, verbose=0)


def test_failed_add_leaves_the_model_as_it_was() -> None:
    made = Sequential([Input((4,)), Dense(3, name="same")])
    with pytest.raises(ArgumentError):
        made.add(Dense(2, name="same"))
    made.add(Dense(2, name="other"))
    assert [layer.name for layer in made.layers] == ["same", "other"]


def test_failed_set_weights_sets_none() -> None:
    made = model(seed=1)
    before = made.get_weights()
    with pytest.raises(ShapeError):
        made.set_weights([np.zeros((4, 5)), np.zeros(5), np.zeros((5, 3)), np.zeros(4)])
    for weights, kept in zip(made.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weights, kept)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    missing, text, saved = (tmp_path / name for name in ("none.h5", "text.h5", "model.h5"))
    text.write_text("not a model\n" * 100)
    model().save(saved)
    with pytest.raises(CheckpointError, match=r"no checkpoint .*none\.h5"):
        gpunn.load_model(missing)
    with pytest.raises(CheckpointError, match=r"text\.h5: it is not an HDF5 file"):
        gpunn.load_model(text)
    with pytest.raises(CheckpointError, match=r"\(5, 3\), its configuration calls .* \(5, 4\)"):
        model(units=4).load_weights(saved)
    with pytest.raises(ArgumentError, match=r"model\.h5 exists; pass overwrite=True"):
        model().save(saved, overwrite=False)


def test_model_that_cannot_be_compiled_here(tmp_path: Path) -> None:
    """What was asked for is named; the file is not said to be broken."""
    saved = model().save(tmp_path / "model.h5")
    for asked, kind, message in (
        ({"device": "cud"}, UnknownNameError, "^Unknown device 'cud'; did you mean 'cuda'"),
        ({"device": "cuda:99"}, DeviceError, "^device 'cuda:99' cannot be used"),
        ({"device": "cpu", "precision": "tf32"}, PlanError, "^Device 'cpu' does not compute in"),
        ({"precision": "flaot32"}, UnknownNameError, "^Unknown precision 'flaot32'; did you mean"),
        ({"precision": ""}, UnknownNameError, "^Unknown precision ''"),
    ):
        with pytest.raises(kind, match=message):
            gpunn.load_model(saved, **asked)


@pytest.mark.parametrize("damage", [None, [], {"precision": 7}, {"precision": "tf16"}])
def test_model_whose_precision_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Any
) -> None:
    made = model()
    config = made.get_config() | {"compile": damage}
    monkeypatch.setattr(made, "_config", lambda: config)
    saved = made.save(tmp_path / "model.h5")
    with pytest.raises(CheckpointError, match=r"precision .* is unknown"):
        gpunn.load_model(saved)


def test_a_net_too_large_for_any_memory() -> None:
    layers = [gpunn.Input((784,)), gpunn.layers.Dense(10**11, name="huge")]
    with pytest.raises(gpunn.errors.ShapeError, match=r"'huge'.*kernel of shape .* would have"):
        gpunn.Sequential(layers)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Conv2D", "no layer Conv2D: it trains multilayer perceptrons and does no convolutions"),
        ("LSTM", "does no recurrent layers"),
        ("Embedding", "does no embeddings"),
        ("Dens", "has no 'Dens'; its layers are .*Dense"),
    ],
)
def test_a_layer_that_gpunn_does_not_have_is_refused_by_name(name: str, words: str) -> None:
    with pytest.raises(AttributeError, match=words):
        getattr(layers, name)
    assert not hasattr(layers, name)
