"""Nets whose gradients are checked: each kind of layer and loss, and the ways to wire them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpunn import activations, losses, ops, regularizers
from gpunn.layers import (
    ELU,
    Activation,
    Add,
    Average,
    BatchNormalization,
    Concatenate,
    Dense,
    Dropout,
    Flatten,
    Input,
    Lambda,
    LayerNormalization,
    LeakyReLU,
    Multiply,
    Normalization,
    PReLU,
    ReLU,
    Rescaling,
    Softmax,
)
from gpunn.plan.spec import OutputSpec
from gpunn.specs.layers.base import SymbolicTensor

Array = np.ndarray[Any, Any]
Tensors = SymbolicTensor | Sequence[SymbolicTensor]


@dataclass(frozen=True)
class Net:
    """A net to check: layers, one loss per output, the type of its data."""

    inputs: list[SymbolicTensor]
    outputs: list[SymbolicTensor]
    specs: tuple[OutputSpec, ...]
    input_dtype: str = "float64"


NETS: dict[str, Callable[[], Net]] = {}


def case(name: str) -> Callable[[Callable[[], Net]], Callable[[], Net]]:
    def add(build: Callable[[], Net]) -> Callable[[], Net]:
        assert name not in NETS
        NETS[name] = build
        return build

    return add


def net(inputs: Tensors, outputs: Tensors, loss: Any = None, **options: Any) -> Net:
    """Wire a net; `loss` is one for each output, mse by default."""
    ins = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    outs = list(outputs) if isinstance(outputs, list | tuple) else [outputs]
    given = loss if isinstance(loss, list) else [loss] * len(outs)
    specs = tuple(
        spec if isinstance(spec, OutputSpec) else OutputSpec(losses.get(spec or "mse"))
        for spec in given
    )
    return Net(ins, outs, specs, **options)


# Nets: activations

TRAINABLE = [
    activations.ActivationFunction(name)
    for name in (
        "linear",
        "relu",
        "leaky_relu",
        "elu",
        "selu",
        "sigmoid",
        "tanh",
        "softplus",
        "gelu",
        "silu",
        "softmax",
    )
]
TRAINABLE += [
    activations.ActivationFunction("leaky_relu", 0.01),
    activations.ActivationFunction("elu", 0.6),
]


def _activation_nets(function: activations.ActivationFunction) -> None:
    label = function.name + (f"{function.parameter:g}" if function.parameter else "")

    @case(f"dense-{label}")
    def dense() -> Net:
        x = Input((3,))
        hidden = Dense(4, activation=function)(Dense(4, activation=function)(x))
        return net(x, Dense(2, activation=function)(hidden))

    @case(f"activation-{label}")
    def layer() -> Net:
        """As a layer: joined to a dense layer, after an input, and on its own in a fan-out."""
        x = Input((3,))
        first = Dense(4)(x)
        joined = Activation(function)(Dense(4, use_bias=False)(first))
        alone = Activation(function)(first)
        after_input = Dense(4)(Activation(function)(x))
        return net(x, Dense(2)(Add()([joined, alone, after_input])))

    @case(f"dropout-{label}")
    def dropout() -> Net:
        x = Input((3,))
        hidden = Dropout(0.3)(Dense(6, activation=function)(x))
        hidden = Dropout(0.4)(Dense(6, activation=function)(hidden))
        return net(x, Dense(2)(hidden))


for _function in TRAINABLE:
    _activation_nets(_function)


# Nets: losses

LOSSES: dict[str, tuple[losses.Loss, str | None, int]] = {
    "sparse": (losses.SparseCategoricalCrossentropy(), "softmax", 4),
    "sparse-logits": (losses.SparseCategoricalCrossentropy(from_logits=True), None, 4),
    "categorical": (losses.CategoricalCrossentropy(), "softmax", 4),
    "categorical-logits": (losses.CategoricalCrossentropy(from_logits=True), None, 4),
    "binary": (losses.BinaryCrossentropy(), "sigmoid", 1),
    "binary-logits": (losses.BinaryCrossentropy(from_logits=True), None, 1),
    "multilabel": (losses.BinaryCrossentropy(), "sigmoid", 3),
    "multilabel-logits": (losses.BinaryCrossentropy(from_logits=True), None, 3),
    "sparse-smooth": (losses.SparseCategoricalCrossentropy(label_smoothing=0.2), "softmax", 4),
    "categorical-smooth": (losses.CategoricalCrossentropy(label_smoothing=0.6), "softmax", 3),
    "multilabel-smooth": (losses.BinaryCrossentropy(label_smoothing=0.3), "sigmoid", 3),
    "mse": (losses.MeanSquaredError(), None, 3),
    "mse-sigmoid": (losses.MeanSquaredError(), "sigmoid", 1),
    "mae": (losses.MeanAbsoluteError(), None, 3),
    "huber": (losses.Huber(), None, 3),
    "huber0.5": (losses.Huber(0.5), None, 2),
}


def _loss_nets(label: str, loss: losses.Loss, head: str | None, units: int) -> None:
    for weighted in (False, True):

        @case(f"loss-{label}" + "-weights" * weighted)
        def plain(weighted: bool = weighted) -> Net:
            x = Input((3,))
            hidden = Dense(4, activation="tanh")(x)
            spec = OutputSpec(loss, loss_weight=1.7 if weighted else 1.0, weighted=weighted)
            return net(x, Dense(units, activation=head)(hidden), [spec])

    if head is not None:

        @case(f"loss-{label}-activation-layer")
        def layer() -> Net:
            x = Input((3,))
            z = Dense(units)(Dense(4, activation="tanh")(x))
            return net(x, Activation(head)(z), [OutputSpec(loss)])

        @case(f"loss-{label}-head-read-twice")
        def read_twice() -> Net:
            """The head's activation feeds a second output: logits get two contributions."""
            x = Input((3,))
            first = Dense(units, activation=head)(Dense(4, activation="tanh")(x))
            second = Dense(2)(first)
            return net(x, [first, second], [OutputSpec(loss), OutputSpec(losses.Huber())])


for _label, _entry in LOSSES.items():
    _loss_nets(_label, *_entry)


# Nets: structure


@case("deep")
def _deep() -> Net:
    x = Input((4,))
    hidden = x
    for units, name in ((5, "relu"), (3, "tanh"), (4, "gelu"), (3, "elu"), (5, None)):
        hidden = Dense(units, activation=name)(hidden)
    return net(x, Dense(3, activation="softmax")(hidden), "sparse_categorical_crossentropy")


@case("one-layer")
def _one_layer() -> Net:
    x = Input((4,))
    return net(x, Dense(1)(x))


@case("no-bias")
def _no_bias() -> Net:
    x = Input((3,))
    hidden = Dense(4, activation="tanh", use_bias=False)(x)
    return net(x, Dense(2, use_bias=False)(Dense(4, activation="relu", use_bias=False)(hidden)))


@case("flatten-uint8-rescaling")
def _flatten() -> Net:
    x = Input((2, 3))
    hidden = Dense(4, activation="relu")(Flatten()(Rescaling(1 / 255, -0.5)(x)))
    return net(x, Dense(2)(hidden), input_dtype="uint8")


@case("flatten-mid-graph")
def _flatten_mid() -> Net:
    x = Input((3,))
    hidden = Flatten()(Dense(4, activation="tanh")(x))
    return net(x, Dense(2)(Flatten()(hidden)))


@case("normalization-input")
def _normalization_input() -> Net:
    x = Input((3,))
    return net(x, Dense(2)(Dense(4, activation="tanh")(Normalization()(x))))


@case("rescaling-then-normalization-uint8")
def _both_uint8() -> Net:
    x = Input((2, 3))
    hidden = Flatten()(Normalization()(Rescaling(0.5, 0.25)(Rescaling(1 / 64, -1.0)(x))))
    return net(x, Dense(2)(Dense(4, activation="tanh")(hidden)), input_dtype="uint8")


@case("affine-mid-graph")
def _affine_mid() -> Net:
    x = Input((3,))
    hidden = Rescaling(0.3, -0.1)(Dense(4, activation="tanh")(x))
    hidden = Normalization()(Dense(4, activation="tanh")(hidden))
    hidden = Rescaling(-1.5)(Dense(4, activation="tanh")(hidden))
    return net(x, Rescaling(2.0, 1.0)(Normalization()(Dense(2)(hidden))))


@case("normalization-twice-and-fan-out")
def _normalization_fan_out() -> Net:
    x = Input((4,))
    normalized = Normalization()(x)
    twice = Rescaling(0.5)(Normalization()(normalized))
    return net(x, Add()([Dense(3)(normalized), Dense(3)(twice), Dense(3)(x)]))


@case("dropout-standalone")
def _dropout_standalone() -> Net:
    x = Input((6,))
    hidden = Dropout(0.3)(Dense(6)(Dropout(0.25)(x)))
    branch = Dropout(0.5)(hidden)  # hidden is read twice
    twice = Dropout(0.2)(Dropout(0.4)(Dense(6)(branch)))
    return net(x, Dense(2)(Add()([hidden, twice])))


@case("dropout-rate-0-and-after-concatenate")
def _dropout_joined() -> Net:
    x = Input((4,))
    joined = Concatenate()([Dropout(0.0)(Dense(3)(x)), Dropout(0.3)(Dense(4)(x))])
    return net(x, Dense(2)(Dropout(0.4)(joined)))


@case("dropout-between-dense-and-activation")
def _dropout_then_activation() -> Net:
    x = Input((4,))
    hidden = Activation("tanh")(Dropout(0.3)(Dense(6)(x)))
    return net(x, Dense(2)(Activation("sigmoid")(Activation("relu")(Dense(4)(hidden)))))


@case("dropout-output")
def _dropout_output() -> Net:
    x = Input((4,))
    return net(x, Dropout(0.4)(Dense(3, activation="tanh")(x)))


@case("wide-and-deep")
def _wide_and_deep() -> Net:
    wide, deep = Input((2,), name="wide"), Input((3,), name="deep")
    normalized = Normalization()(deep)
    hidden = Dense(4, activation="relu")(Dense(4, activation="relu")(normalized))
    joined = Concatenate()([Normalization()(wide), hidden])
    main, auxiliary = Dense(1, name="main")(joined), Dense(1, name="auxiliary")(hidden)
    specs = [
        OutputSpec(losses.MeanSquaredError(), loss_weight=0.9, weighted=True),
        OutputSpec(losses.Huber(), loss_weight=0.1),
    ]
    return net([wide, deep], [main, auxiliary], specs)


@case("three-outputs-of-one-layer")
def _three_outputs() -> Net:
    x = Input((4,))
    hidden = Dense(5, activation="selu")(x)
    outputs = [
        Dense(3, activation="softmax")(hidden),
        Dense(2, activation="sigmoid")(hidden),
        Dense(1)(hidden),
    ]
    specs = [
        OutputSpec(losses.SparseCategoricalCrossentropy(), loss_weight=0.5),
        OutputSpec(losses.BinaryCrossentropy(), loss_weight=2.0, weighted=True),
        OutputSpec(losses.MeanAbsoluteError(), loss_weight=0.3),
    ]
    return net(x, outputs, specs)


@case("hidden-layer-is-an-output")
def _hidden_output() -> Net:
    x = Input((4,))
    hidden = Dense(3, activation="relu")(x)
    activated = Activation("tanh")(hidden)
    return net(x, [Dense(2)(activated), hidden, activated])


@case("outputs-that-would-be-fused-away")
def _kept_outputs() -> Net:
    """What the user sees keeps its value, whatever follows it."""
    x = Input((4,))
    scaled = Rescaling(0.5, name="scaled")(x)
    linear = Dense(3)(Rescaling(2.0, 1.0)(scaled))
    activated = Activation("tanh")(linear)
    return net(x, [scaled, linear, activated, Dense(2)(Dropout(0.4)(activated))])


@case("output-is-an-input")
def _output_is_input() -> Net:
    x = Input((3,))
    return net(x, [Dense(2)(x), x])


@case("add-one-input-thrice")
def _add_twice() -> Net:
    x = Input((3,))
    hidden = Dense(4, activation="tanh")(x)
    return net(x, Dense(2)(Add()([hidden, hidden, hidden])))


@case("add-chain")
def _add_chain() -> Net:
    x = Input((3,))
    a = Dense(4, activation="tanh")(x)
    b = Add()([a, Dense(4, activation="relu")(a)])
    c = Add()([b, a, Dense(4)(b)])
    return net(x, Add()([c, b]))


@case("add-then-activation")
def _add_activation() -> Net:
    x = Input((3,))
    added = Add()([Dense(4)(x), Dense(4)(x)])
    return net(x, Dense(2)(Dropout(0.2)(Activation("softplus")(added))))


@case("average")
def _average() -> Net:
    """Three inputs, one of them twice and one without a gradient; a mean that is read twice."""
    x = Input((3,))
    a, b = Dense(3, activation="tanh")(x), Dense(3)(x)
    mean = Average()([a, b, a, x])
    return net(x, Dense(2)(Average()([mean, Activation("tanh")(mean)])))


@case("multiply")
def _multiply() -> Net:
    """Four factors, one of them twice and one without a gradient; a product that is read twice."""
    x = Input((3,))
    a, b = Dense(3, activation="tanh")(x), Dense(3)(x)
    product = Multiply()([a, b, a, x])
    return net(x, Dense(2)(Multiply()([Dropout(0.2)(product), Add()([product, b])])))


@case("concatenate-fan-out")
def _concatenate() -> Net:
    x = Input((3,))
    a, b = Dense(2, activation="tanh")(x), Dense(3, activation="relu")(x)
    joined = Concatenate()([a, x, b, a])
    both = Add()([Dense(2)(joined), a])
    return net(x, Concatenate()([both, Dense(1)(joined)]))


@case("shared-dense")
def _shared() -> Net:
    a, b = Input((3,)), Input((3,))
    shared = Dense(4, activation="tanh")
    return net([a, b], Dense(2)(Concatenate()([shared(a), shared(b)])))


@case("shared-dense-in-a-row")
def _shared_row() -> Net:
    x = Input((4,))
    shared = Dense(4, activation="gelu", kernel_regularizer=regularizers.L2(0.05))
    hidden = x
    for _ in range(4):
        hidden = shared(hidden)
    return net(x, Add()([hidden, shared(x)]))


@case("shared-linear-dense-with-dropout")
def _shared_linear() -> Net:
    x = Input((4,))
    shared = Dense(4)
    dropped = Dropout(0.3)(shared(Dropout(0.3)(shared(x))))
    return net(x, Dense(2)(Add()([dropped, shared(dropped)])))


@case("shared-activation-layer")
def _shared_activation() -> Net:
    x = Input((3,))
    tanh = Activation("tanh")
    return net(x, Dense(2)(tanh(Dense(4)(tanh(Dense(4)(x))))))


@case("activation-layers")
def _activation_layers() -> Net:
    """Joined to a dense layer, and on their own behind one that another layer reads, too."""
    x = Input((3,))
    first = Dense(4)(x)
    kinds = (LeakyReLU, ELU, ReLU, Softmax)
    layers = [kind()(Dense(4)(first)) for kind in kinds] + [kind()(first) for kind in kinds]
    return net(x, ReLU(negative_slope=0.4)(Dense(2)(Add()(layers))))


@case("prelu")
def _prelu() -> Net:
    """Behind a dense layer, an input, a dropout; where the loss is, and two in a row."""
    x = Input((2, 3))
    hidden = Dense(5)(Flatten()(PReLU()(Rescaling(0.7, 0.2)(x))))
    hidden = Dropout(0.3)(PReLU(alpha_regularizer=regularizers.L1L2(0.02, 0.03))(hidden))
    return net(x, PReLU()(PReLU()(Dense(4)(hidden))))


@case("prelu-fan-out")
def _prelu_fan_out() -> Net:
    x = Input((4,))
    first = Dense(4)(x)
    curved = PReLU()(first)
    return net(x, [Dense(2)(Add()([curved, first])), Activation("tanh")(curved)])


@case("shared-prelu")
def _shared_prelu() -> Net:
    x = Input((4,))
    shared = PReLU()
    hidden = shared(Dense(4)(shared(x)))
    return net(x, Add()([shared(hidden), hidden]))


@case("regularized-bias")
def _regularized_bias() -> Net:
    x = Input((3,))
    hidden = Dense(4, activation="tanh", bias_regularizer=regularizers.L1L2(0.05, 0.1))(x)
    return net(x, Dense(2)(hidden))


@case("softmax-hidden-fan-out")
def _softmax_hidden() -> Net:
    x = Input((3,))
    attention = Dense(4, activation="softmax")(x)
    return net(x, Dense(2)(Add()([attention, Dense(4)(attention)])))


@case("regularizers")
def _regularizers() -> Net:
    x = Input((3,))
    hidden = Dense(4, activation="tanh", kernel_regularizer=regularizers.L1(0.05))(x)
    hidden = Dense(4, activation="relu", kernel_regularizer=regularizers.L2(0.1))(hidden)
    both = Dense(2, kernel_regularizer=regularizers.L1L2(0.02, 0.03))
    spec = OutputSpec(losses.MeanSquaredError(), loss_weight=0.5, weighted=True)
    return net(x, both(hidden), [spec])


@case("output-without-a-loss")
def _unreached() -> Net:
    x = Input((3,))
    hidden = Dense(4, activation="tanh")(x)
    return net(
        x,
        [Dense(2)(hidden), Dense(3)(Dense(3, activation="relu")(hidden))],
        [OutputSpec(losses.MeanSquaredError()), OutputSpec()],
    )


@case("output-without-a-loss-regularized")
def _unreached_regularized() -> Net:
    x = Input((3,))
    hidden = Dense(4, activation="tanh")(x)
    lost = Dense(3, kernel_regularizer=regularizers.L1L2(0.1, 0.2))(hidden)
    return net(x, [Dense(2)(hidden), lost], [OutputSpec(losses.MeanSquaredError()), OutputSpec()])


# Nets: batch and layer normalization

NORMALIZATIONS = {"batch": BatchNormalization, "layer": LayerNormalization}


def _normalization_nets(kind: str) -> None:
    """No dense layer before them has a bias: batch normalization would make its gradient 0."""
    layer = NORMALIZATIONS[kind]

    @case(f"{kind}-normalization")
    def hidden() -> Net:
        x, linear = Input((3,)), Dense(4, use_bias=False)
        first = Activation("relu")(layer()(Dense(6, use_bias=False)(x)))
        second = Dense(5, activation="tanh")(Dropout(0.2)(first))
        return net(x, Dense(2)(layer(scale=False)(linear(layer(center=False)(second)))))

    @case(f"{kind}-normalization-of-inputs")
    def of_inputs() -> Net:
        """Nobody wants the gradient of what the first ones read."""
        x, y = Input((4,)), Input((3,))
        plain = layer(center=False, scale=False)
        return net([x, y], Dense(2)(Concatenate()([layer()(x), plain(y), Dense(3)(plain(y))])))

    @case(f"{kind}-normalization-fan-out")
    def fan_out() -> Net:
        x = Input((3,))
        hidden = Dense(4, use_bias=False)(x)
        normal = layer(epsilon=0.1, center=False)(hidden)
        joined = Add()([hidden, Dense(4, use_bias=False)(normal), normal])
        return net(x, [Dense(2)(layer(center=False, scale=False)(joined)), layer()(joined)])

    @case(f"{kind}-normalization-shared")
    def shared() -> Net:
        x, y = Input((4,)), Input((4,))
        both = layer(
            gamma_regularizer=regularizers.L1L2(0.02, 0.03), beta_regularizer=regularizers.L2(0.05)
        )
        hidden = both(Dense(4, activation="tanh")(both(x)))
        slope = activations.ActivationFunction("leaky_relu", 0.3)
        last = Activation(slope)(both(y))
        return net([x, y], Dense(2)(Concatenate()([hidden, Activation("tanh")(last)])))

    @case(f"{kind}-normalization-of-classes")
    def of_classes() -> Net:
        x = Input((3,))
        logits = layer()(Dense(3, use_bias=False)(x))
        return net(x, Activation("softmax")(logits), "sparse_categorical_crossentropy")


for _kind in NORMALIZATIONS:
    _normalization_nets(_kind)


# Functions of the user's


def _bump(z: Any) -> Any:
    return z * ops.exp(-ops.square(z) / 2) + ops.where(z > 0.3, 0.2 * z - 0.06, 0.0)


def _pinball(y_true: Any, y_pred: Any) -> Any:
    error = y_true - y_pred
    return ops.mean(ops.maximum(0.8 * error, -0.2 * error), axis=-1)


def _log_cosh(y_true: Any, y_pred: Any) -> Any:
    return ops.log(ops.cosh(y_pred - y_true))


def _pinball_elementwise(y_true: Array, y_pred: Array) -> Array:
    return np.maximum(0.8 * (y_true - y_pred), 0.2 * (y_pred - y_true))


OWN_LOSSES = {"_pinball": _pinball_elementwise, "_log_cosh": _log_cosh}


@case("own-activations")
def _own_activations() -> Net:
    x = Input((3,))
    hidden = Dropout(0.3)(Dense(4, activation=_bump)(x))
    hidden = Activation(_bump)(Dense(3)(hidden))
    return net(x, Dense(2)(Lambda(lambda z: z**3 - 1)(Add()([hidden, Dense(3)(x)]))))


@case("own-activation-of-an-output")
def _own_output() -> Net:
    x = Input((3,))
    return net(x, Dense(2, activation=_bump)(Dense(4, activation="relu")(x)), _log_cosh)


@case("own-losses")
def _own_losses() -> Net:
    x = Input((3,))
    hidden = Dense(4, activation="tanh")(x)
    both = [Dense(2)(hidden), Dense(1, activation="sigmoid")(hidden)]
    pinball = OutputSpec(losses.get(_pinball), weighted=True, loss_weight=0.6)
    return net(x, both, [pinball, OutputSpec(losses.get(_log_cosh))])
