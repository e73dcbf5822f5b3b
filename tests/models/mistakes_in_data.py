"""Mistakes in data and in the arguments of fit, evaluate and predict."""

from __future__ import annotations

import numpy as np
from mistake_models import (
    HUGE,
    INF,
    NAN,
    ONE_HOT,
    XX,
    Y_HUGE,
    Y_NAN,
    YY,
    Case,
    X,
    Y,
    deferred,
    fit,
    model,
    regression,
    stack_one,
    two_compiled,
)

from gpunn import callbacks
from gpunn.errors import ArgumentError, ArgumentTypeError, DataError, ShapeError

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
}
