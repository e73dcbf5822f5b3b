"""Mistakes in names and in the arguments of layers, optimizers, losses and their like."""

from __future__ import annotations

import numpy as np
from mistake_models import Case, Dense, model

import gpunn
from gpunn import Input, layers, losses, metrics, optimizers
from gpunn import initializers as init
from gpunn import schedules as sched
from gpunn.errors import ArgumentError, ArgumentTypeError, PlanError, UnknownNameError

CASES: dict[str, Case] = {
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
        "An activation must be a name, such as 'relu', or a function, not float",
    ),
    "activation, NumPy's": (
        lambda: Dense(3, np.tanh),
        ArgumentTypeError,
        "The activation 'tanh' ... np.tanh does not support symbols; use gpunn.ops (ops.tanh)",
    ),
    "loss, a number": (
        lambda: model(1.5),
        ArgumentTypeError,
        "A loss must be a name or a Loss object",
    ),
    "loss, NumPy's": (
        lambda: model(np.mean),
        ArgumentTypeError,
        "The loss 'mean' ... np.mean does not support symbols; use gpunn.ops (ops.mean)",
    ),
    "optimizer, a number": (
        lambda: model(optimizer=0.1),
        ArgumentTypeError,
        "An optimizer must be a name or an Optimizer object, not float: 0.1",
    ),
    "metric, a number": (lambda: model(metrics=[3]), ArgumentTypeError, "A metric must be a name"),
    "initializer, None": (lambda: Dense(3, kernel_initializer=None), ArgumentError, "'zeros'"),
    "regularizer, a number": (
        lambda: Dense(3, kernel_regularizer=0.01),
        ArgumentTypeError,
        "A regularizer must be a name ... 0.01",
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
        "Input: shape (None, 4) ... must not include the batch axis",
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
}
