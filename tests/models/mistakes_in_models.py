"""Mistakes in what a model is put together of, and in when it is used."""

from __future__ import annotations

import numpy as np
from mistake_models import (
    NAN,
    SPARSE,
    XX,
    YY,
    Case,
    Dense,
    X,
    Y,
    adapted,
    adapted_late,
    add_twice,
    empty,
    model,
    not_an_input,
    shared_layer,
    softmax_missing_late,
    stack,
    twice_in_a_list,
    two_compiled,
    unused_input,
)

import gpunn
from gpunn import Input, Model, Sequential, layers, losses, metrics
from gpunn.errors import (
    ArgumentError,
    ArgumentTypeError,
    DataError,
    NotBuiltError,
    PlanError,
    ShapeError,
    UnknownNameError,
)

CASES: dict[str, Case] = {
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
        "'d' (Dense) must be called on symbolic tensors ... not on ndarray ... use model.predict",
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
    "Average of one": (
        lambda: layers.Average()([Input((3,))]),
        ShapeError,
        "a list of at least two inputs",
    ),
    "Multiply of two shapes": (
        lambda: layers.Multiply(name="gate")([Dense(n, name=f"d{n}")(Input((4,))) for n in (3, 2)]),
        ShapeError,
        "'gate' (Multiply) expects inputs of one shape; ",
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
