"""Record what Keras 3 computes, as an independent truth for gpunn's tests.

Usage, in an environment of its own (gpunn itself needs neither Keras nor JAX)::

    python3.11 -m venv keras-venv
    keras-venv/bin/pip install keras jax jaxlib numpy
    keras-venv/bin/python tests/recordings/record_keras.py

writes ``keras_recordings.npz`` next to this file. Everything is computed in float64 on the CPU
(JAX backend) from inputs that NumPy draws from fixed seeds. On JAX, Keras' dtype promotion turns
float64 into float32 inside some operations (`keras.ops.mean`, `cos` and `floor` among them), even
where the dtype of the result says float64; this script sets that one table entry to what it is on
Keras' TensorFlow backend, so that float64 stays float64.

The file loads with ``allow_pickle=False``; structured values (constructor arguments) are JSON in
0-d string arrays. ``README.md`` next to this file lists the keys.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

os.environ["KERAS_BACKEND"] = "jax"
os.environ["JAX_ENABLE_X64"] = "1"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import jax
import keras
import numpy as np
from keras.src.backend.common import dtypes
from keras.src.initializers import random_initializers

dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
keras.config.set_floatx("float64")

OUTPUT = Path(__file__).resolve().parent / "keras_recordings.npz"
MAX_BYTES = 600_000

Arrays = dict[str, np.ndarray]

# --------------------------------------------------------------------------------------
# Cases: name -> (Keras class, constructor arguments)
# --------------------------------------------------------------------------------------

SCHEDULES: dict[str, tuple[str, dict[str, Any]]] = {
    "exponential_decay": (
        "ExponentialDecay",
        {"initial_learning_rate": 0.05, "decay_steps": 10, "decay_rate": 0.6},
    ),
    "exponential_decay_staircase": (
        "ExponentialDecay",
        {"initial_learning_rate": 0.05, "decay_steps": 5, "decay_rate": 0.6, "staircase": True},
    ),
    "piecewise_constant_decay": (
        "PiecewiseConstantDecay",
        {"boundaries": [3, 8, 30], "values": [0.05, 0.02, 0.08, 0.005]},
    ),
    "cosine_decay": (
        "CosineDecay",
        {"initial_learning_rate": 0.05, "decay_steps": 50},
    ),
    "cosine_decay_alpha": (
        "CosineDecay",
        {"initial_learning_rate": 0.05, "decay_steps": 12, "alpha": 0.1},
    ),
    "cosine_decay_warmup": (
        "CosineDecay",
        {
            "initial_learning_rate": 0.002,
            "decay_steps": 30,
            "alpha": 0.05,
            "warmup_target": 0.06,
            "warmup_steps": 6,
        },
    ),
    # warmup_steps without a warmup_target: Keras ignores them.
    "cosine_decay_warmup_steps_only": (
        "CosineDecay",
        {"initial_learning_rate": 0.05, "decay_steps": 30, "warmup_steps": 6},
    ),
    "polynomial_decay": (
        "PolynomialDecay",
        {
            "initial_learning_rate": 0.05,
            "decay_steps": 40,
            "end_learning_rate": 0.004,
            "power": 2.0,
        },
    ),
    "polynomial_decay_defaults": (
        "PolynomialDecay",
        {"initial_learning_rate": 0.05, "decay_steps": 10},
    ),
    "polynomial_decay_cycle": (
        "PolynomialDecay",
        {
            "initial_learning_rate": 0.05,
            "decay_steps": 5,
            "end_learning_rate": 0.004,
            "power": 1.5,
            "cycle": True,
        },
    ),
    "inverse_time_decay": (
        "InverseTimeDecay",
        {"initial_learning_rate": 0.05, "decay_steps": 4, "decay_rate": 0.5},
    ),
    "inverse_time_decay_staircase": (
        "InverseTimeDecay",
        {"initial_learning_rate": 0.05, "decay_steps": 4, "decay_rate": 0.5, "staircase": True},
    ),
    "cosine_decay_restarts": (
        "CosineDecayRestarts",
        {
            "initial_learning_rate": 0.05,
            "first_decay_steps": 5,
            "t_mul": 2.0,
            "m_mul": 0.8,
            "alpha": 0.05,
        },
    ),
    "cosine_decay_restarts_even": (
        "CosineDecayRestarts",
        {"initial_learning_rate": 0.05, "first_decay_steps": 5, "t_mul": 1.0, "m_mul": 0.9},
    ),
}

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"class": "SGD", "args": {"learning_rate": 0.1}},
    "sgd_momentum": {"class": "SGD", "args": {"learning_rate": 0.1, "momentum": 0.9}},
    "sgd_nesterov": {
        "class": "SGD",
        "args": {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True},
    },
    "adagrad": {"class": "Adagrad", "args": {"learning_rate": 0.1}},
    "rmsprop": {"class": "RMSprop", "args": {"learning_rate": 0.02}},
    "rmsprop_momentum": {"class": "RMSprop", "args": {"learning_rate": 0.02, "momentum": 0.7}},
    "rmsprop_centered": {
        "class": "RMSprop",
        "args": {"learning_rate": 0.02, "rho": 0.8, "centered": True},
    },
    "adam": {"class": "Adam", "args": {"learning_rate": 0.05}},
    "adam_epsilon": {
        "class": "Adam",
        "args": {"learning_rate": 0.05, "beta_1": 0.8, "beta_2": 0.95, "epsilon": 0.01},
    },
    "adam_amsgrad": {
        "class": "Adam",
        "args": {"learning_rate": 0.05, "beta_2": 0.7, "amsgrad": True},
    },
    "adamw": {"class": "AdamW", "args": {"learning_rate": 0.05, "weight_decay": 0.3}},
    "adamw_exclude_bias": {
        "class": "AdamW",
        "args": {"learning_rate": 0.05, "weight_decay": 0.3},
        "exclude_from_weight_decay": {"var_names": ["bias"]},
    },
    "adam_clipvalue": {
        "class": "Adam",
        "args": {"learning_rate": 0.05, "epsilon": 0.01, "clipvalue": 0.1},
    },
    "sgd_clipvalue": {"class": "SGD", "args": {"learning_rate": 0.1, "clipvalue": 0.1}},
    "sgd_clipnorm": {"class": "SGD", "args": {"learning_rate": 0.1, "clipnorm": 0.8}},
    "sgd_global_clipnorm": {"class": "SGD", "args": {"learning_rate": 0.1, "global_clipnorm": 2.0}},
    "sgd_weight_decay": {"class": "SGD", "args": {"learning_rate": 0.1, "weight_decay": 0.3}},
    "sgd_nesterov_weight_decay_clipnorm": {
        "class": "SGD",
        "args": {
            "learning_rate": 0.1,
            "momentum": 0.9,
            "nesterov": True,
            "weight_decay": 0.3,
            "clipnorm": 0.8,
        },
    },
    "adamw_cosine_decay_alpha": {
        "class": "AdamW",
        "args": {"learning_rate": {"schedule": "cosine_decay_alpha"}, "weight_decay": 0.3},
    },
    **{
        f"adam_{name}": {"class": "Adam", "args": {"learning_rate": {"schedule": name}}}
        for name in SCHEDULES
    },
}

ACTIVATIONS = (
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "softplus",
    "gelu",
    "silu",
    "linear",
)
KINKED = {"relu", "leaky_relu", "elu", "selu"}

# --------------------------------------------------------------------------------------
# Helpers
# --------------------------------------------------------------------------------------


def as_json(value: Any) -> np.ndarray:
    """`value` as JSON in a 0-d string array (loads without pickle)."""
    return np.array(json.dumps(value, sort_keys=True))


def as_float64(value: Any) -> np.ndarray:
    """`value` as a float64 array; fails if Keras computed in anything narrower."""
    array = np.asarray(value)
    assert array.dtype == np.float64, array.dtype
    assert np.isfinite(array).all()
    return array


def check_precision() -> None:
    """Keras must not narrow float64 inside its operations (see the module's docstring)."""
    tiny = 2.0**-40
    assert float(keras.ops.mean(np.array([1.0, 1.0 + 2.0 * tiny]))) == 1.0 + tiny
    assert float(keras.ops.cos(np.float64(0.1))) == float(jax.numpy.cos(0.1))
    assert float(keras.ops.floor(np.float64(3.0 - tiny))) == 2.0


def make_schedule(name: str) -> keras.optimizers.schedules.LearningRateSchedule:
    """The schedule of case `name`."""
    cls, args = SCHEDULES[name]
    return getattr(keras.optimizers.schedules, cls)(**args)


def make_optimizer(case: dict[str, Any]) -> keras.optimizers.Optimizer:
    """The optimizer that a case of `OPTIMIZERS` describes."""
    args = dict(case["args"])
    if isinstance(args["learning_rate"], dict):
        args["learning_rate"] = make_schedule(args["learning_rate"]["schedule"])
    optimizer = getattr(keras.optimizers, case["class"])(**args)
    if "exclude_from_weight_decay" in case:
        optimizer.exclude_from_weight_decay(**case["exclude_from_weight_decay"])
    return optimizer


def described(case: dict[str, Any]) -> dict[str, Any]:
    """`case` with a schedule's name replaced by its class and arguments."""
    args = dict(case["args"])
    if isinstance(args["learning_rate"], dict):
        cls, schedule_args = SCHEDULES[args["learning_rate"]["schedule"]]
        args["learning_rate"] = {"class": cls, "args": schedule_args}
    return {**case, "args": args}


WEIGHT_NAMES = ("kernel0", "bias0", "kernel1", "bias1")


def draw_weights(rng: np.random.Generator, sizes: tuple[int, int, int]) -> list[np.ndarray]:
    """Weights of a net of two dense layers, biases away from zero."""
    weights = []
    for fan_in, fan_out in pairwise(sizes):
        weights.append(rng.normal(0.0, 1.0 / np.sqrt(fan_in), (fan_in, fan_out)))
        weights.append(rng.normal(0.0, 0.3, fan_out))
    return weights


# --------------------------------------------------------------------------------------
# Recordings
# --------------------------------------------------------------------------------------


def record_optimizers() -> Arrays:
    """12 steps of each optimizer on a net 7 -> tanh 5 -> 3 with the MSE loss."""
    rng = np.random.default_rng(101)
    x = rng.normal(0.0, 1.0, (24, 7))
    y = rng.normal(0.0, 2.0, (24, 3))
    initial = draw_weights(rng, (7, 5, 3))
    out: Arrays = {"optimizer_data/x": x, "optimizer_data/y": y}
    for name, case in OPTIMIZERS.items():
        model = keras.Sequential(
            [keras.Input((7,)), keras.layers.Dense(5, "tanh"), keras.layers.Dense(3)]
        )
        model.set_weights(initial)
        optimizer = make_optimizer(case)
        model.compile(optimizer=optimizer, loss="mean_squared_error")
        losses, rates = [], []
        history = [model.get_weights()]
        for step in range(12):
            start = 8 * (step % 3)
            rates.append(np.float64(optimizer.learning_rate))
            # The loss at the weights before the step (train_on_batch resets the metrics).
            losses.append(model.train_on_batch(x[start : start + 8], y[start : start + 8]))
            history.append(model.get_weights())
        prefix = f"optimizer/{name}"
        out[f"{prefix}/config"] = as_json(described(case))
        out[f"{prefix}/loss"] = as_float64(losses)
        out[f"{prefix}/learning_rate"] = as_float64(rates)
        for i, weight in enumerate(WEIGHT_NAMES):
            out[f"{prefix}/{weight}"] = as_float64([weights[i] for weights in history])
    check_optimizers(out)
    return out


def check_optimizers(out: Arrays) -> None:
    """Each option of a case must change the steps, or the recording would test nothing."""
    pairs = [
        ("sgd_momentum", "sgd"),
        ("sgd_nesterov", "sgd_momentum"),
        ("rmsprop_momentum", "rmsprop"),
        ("adamw", "adam"),
        ("adamw_exclude_bias", "adamw"),
        ("sgd_clipvalue", "sgd"),
        ("sgd_clipnorm", "sgd"),
        ("sgd_global_clipnorm", "sgd"),
        ("sgd_weight_decay", "sgd"),
    ]
    for changed, base in pairs:
        difference = max(
            np.abs(out[f"optimizer/{changed}/{w}"] - out[f"optimizer/{base}/{w}"]).max()
            for w in WEIGHT_NAMES
        )
        assert difference > 1e-3, (changed, base, difference)


def record_defaults() -> Arrays:
    """Default constructor arguments of the optimizers."""
    out: Arrays = {}
    for name in ("SGD", "Adagrad", "RMSprop", "Adam", "AdamW"):
        config = getattr(keras.optimizers, name)().get_config()
        del config["name"]  # a running number
        out[f"defaults/{name}"] = as_json(config)
    return out


def loss_cases(
    rng: np.random.Generator,
) -> dict[str, tuple[dict[str, Any], np.ndarray, np.ndarray]]:
    """name -> (case, predictions or logits, targets).

    No error of the mean absolute error is exactly zero: its derivative there is the backend's
    (JAX takes +1 for that of |x| at 0, TensorFlow and PyTorch 0), not Keras'.
    """
    n, k = 16, 5
    labels = rng.integers(0, k, n)
    one_hot = np.eye(k)[labels]
    soft = rng.dirichlet(np.full(k, 0.7), n)
    logits = rng.normal(0.0, 2.0, (n, k))
    extreme = rng.choice([-1000.0, -100.0, 0.5, 100.0, 1000.0], (n, k))
    logits_1 = rng.normal(0.0, 2.0, (n, 1))
    extreme_1 = np.tile([-1000.0, -100.0, 100.0, 1000.0], n // 4)[:, None]
    logits_4 = rng.normal(0.0, 2.0, (n, 4))
    extreme_4 = rng.choice([-1000.0, -100.0, 0.5, 100.0, 1000.0], (n, 4))
    binary_1 = np.repeat([0.0, 1.0], n // 2)[:, None]
    binary_4 = rng.integers(0, 2, (n, 4)).astype(np.float64)
    values = rng.normal(0.0, 1.0, (n, 3))
    targets = rng.normal(0.0, 1.0, (n, 3))
    extreme_3 = rng.choice([-1000.0, -100.0, 100.0, 1000.0], (n, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    # Certain predictions, right and wrong: Keras clips probabilities to [1e-7, 1 - 1e-7].
    probabilities[:2] = np.eye(k)[[labels[0], (labels[1] + 1) % k]]
    chances_1 = 1.0 / (1.0 + np.exp(-logits_1))
    chances_1[[0, 1, -2, -1], 0] = [0.0, 1.0, 0.0, 1.0]

    sparse = {"class": "SparseCategoricalCrossentropy", "args": {"from_logits": True}}
    categorical = {"class": "CategoricalCrossentropy", "args": {"from_logits": True}}
    binary = {"class": "BinaryCrossentropy", "args": {"from_logits": True}}
    mse: dict[str, Any] = {"class": "MeanSquaredError", "args": {}}
    mae: dict[str, Any] = {"class": "MeanAbsoluteError", "args": {}}
    huber = {"class": "Huber", "args": {"delta": 1.0}}
    huber_small = {"class": "Huber", "args": {"delta": 0.3}}
    cases = {
        "sparse_categorical_crossentropy": (sparse, logits, labels),
        "sparse_categorical_crossentropy_extreme": (sparse, extreme, labels),
        "categorical_crossentropy": (categorical, logits, one_hot),
        "categorical_crossentropy_extreme": (categorical, extreme, one_hot),
        "categorical_crossentropy_soft": (categorical, logits, soft),
        "categorical_crossentropy_soft_extreme": (categorical, extreme, soft),
        "binary_crossentropy": (binary, logits_1, binary_1),
        "binary_crossentropy_extreme": (binary, extreme_1, binary_1),
        "binary_crossentropy_multilabel": (binary, logits_4, binary_4),
        "binary_crossentropy_multilabel_extreme": (binary, extreme_4, binary_4),
        # From probabilities (from_logits=False), as after a softmax or sigmoid layer.
        "sparse_categorical_crossentropy_probabilities": (
            {"class": "SparseCategoricalCrossentropy", "args": {}},
            probabilities,
            labels,
        ),
        "categorical_crossentropy_probabilities": (
            {"class": "CategoricalCrossentropy", "args": {}},
            probabilities,
            soft,
        ),
        "binary_crossentropy_probabilities": (
            {"class": "BinaryCrossentropy", "args": {}},
            chances_1,
            binary_1,
        ),
    }
    for name, case in {
        "mean_squared_error": mse,
        "mean_absolute_error": mae,
        "huber": huber,
        "huber_delta_0.3": huber_small,
    }.items():
        cases[name] = (case, values, targets)
        cases[f"{name}_extreme"] = (case, extreme_3, targets)
    return cases


def record_losses() -> Arrays:
    """Loss values (default reduction) and gradients, without and with sample weights."""
    rng = np.random.default_rng(202)
    weights = rng.uniform(0.1, 3.0, 16)
    weights[3] = 0.0
    out: Arrays = {}
    for name, (case, predictions, targets) in loss_cases(rng).items():
        loss = getattr(keras.losses, case["class"])(**case["args"])
        for suffix, sample_weight in {"": None, "_weighted": weights}.items():

            def value(
                p: jax.Array,
                loss: keras.losses.Loss = loss,
                targets: np.ndarray = targets,
                sample_weight: np.ndarray | None = sample_weight,
            ) -> jax.Array:
                return loss(targets, p, sample_weight=sample_weight)

            p = jax.numpy.asarray(predictions)
            prefix = f"loss/{name}{suffix}"
            out[f"{prefix}/config"] = as_json(case)
            out[f"{prefix}/predictions"] = predictions
            out[f"{prefix}/targets"] = targets
            if sample_weight is not None:
                out[f"{prefix}/sample_weight"] = sample_weight
            out[f"{prefix}/value"] = as_float64(value(p))
            out[f"{prefix}/gradient"] = as_float64(jax.grad(value)(p))
    return out


def record_schedules() -> Arrays:
    """Learning rates at steps 0..59."""
    out: Arrays = {}
    for name, (cls, args) in SCHEDULES.items():
        schedule = make_schedule(name)
        out[f"schedule/{name}/config"] = as_json({"class": cls, "args": args})
        out[f"schedule/{name}/values"] = as_float64([schedule(step) for step in range(60)])
    return out


def record_activations() -> Arrays:
    """Values and derivatives of the activations."""
    grid = np.linspace(-8.0, 8.0, 65)
    extreme = np.array([-100.0, -50.0, 50.0, 100.0])
    out: Arrays = {}
    for name in ACTIVATIONS:
        x = np.concatenate([grid, extreme])
        if name in KINKED:
            x[x == 0.0] = 1e-3
        fn: Callable[[Any], Any] = keras.activations.get(name)
        out[f"activation/{name}/x"] = x
        out[f"activation/{name}/y"] = as_float64(fn(x))
        out[f"activation/{name}/dydx"] = as_float64(jax.vmap(jax.grad(fn))(x))
    rng = np.random.default_rng(303)
    rows = rng.normal(0.0, 2.0, (10, 5))
    rows[-2] = [100.0, -100.0, 50.0, -50.0, 99.0]
    rows[-1] = [-100.0, -100.0, -100.0, -100.0, -100.0]
    out["activation/softmax/x"] = rows
    out["activation/softmax/y"] = as_float64(keras.activations.softmax(rows))
    # dydx[r, i, j] = d y[r, i] / d x[r, j]
    jacobian = jax.vmap(jax.jacrev(keras.activations.softmax))
    out["activation/softmax/dydx"] = as_float64(jacobian(rows))
    return out


def record_fit() -> Arrays:
    """What fit, evaluate and predict report, ragged last batch included."""
    rng = np.random.default_rng(404)
    x, x_val = rng.normal(0.0, 1.0, (20, 6)), rng.normal(0.0, 1.0, (7, 6))
    teacher = rng.normal(0.0, 1.0, (6, 3))
    data = {
        "x": x,
        "y": (x @ teacher + rng.normal(0.0, 1.0, (20, 3))).argmax(axis=1),
        "sample_weight": rng.uniform(0.2, 3.0, 20),
        "x_val": x_val,
        "y_val": (x_val @ teacher + rng.normal(0.0, 1.0, (7, 3))).argmax(axis=1),
        "val_sample_weight": rng.uniform(0.2, 3.0, 7),
    }
    initial = draw_weights(rng, (6, 4, 3))
    y, weight = data["y"], data["sample_weight"]
    class_weight = {0: 1.0, 1: 2.5, 2: 0.4}
    validation = (x_val, data["y_val"])
    weighted_validation = (*validation, data["val_sample_weight"])
    cases: dict[str, dict[str, Any]] = {
        "regularized_weighted": {"l1": 0.003, "l2": 0.01, "sample_weight": True},
        "plain": {},
        "class_weight": {"class_weight": class_weight},
        "weighted_validation": {"sample_weight": True, "validation_sample_weight": True},
    }
    out: Arrays = {f"fit_data/{name}": array for name, array in data.items()}
    for name, case in cases.items():

        def regularizer(case: dict[str, Any] = case) -> keras.Regularizer | None:
            return keras.regularizers.L1L2(case["l1"], case["l2"]) if "l1" in case else None

        model = keras.Sequential(
            [
                keras.Input((6,)),
                keras.layers.Dense(4, "relu", kernel_regularizer=regularizer()),
                keras.layers.Dense(3, "softmax", kernel_regularizer=regularizer()),
            ]
        )
        model.set_weights(initial)
        model.compile(
            optimizer=keras.optimizers.SGD(0.1),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
            weighted_metrics=[keras.metrics.SparseCategoricalAccuracy("weighted_accuracy")],
        )
        history = model.fit(
            x,
            y,
            batch_size=8,
            epochs=3,
            shuffle=False,
            verbose=0,
            sample_weight=weight if case.get("sample_weight") else None,
            class_weight=case.get("class_weight"),
            validation_data=(
                weighted_validation if case.get("validation_sample_weight") else validation
            ),
        )
        prefix = f"fit/{name}"
        out[f"{prefix}/config"] = as_json(
            {**case, "learning_rate": 0.1, "batch_size": 8, "epochs": 3}
        )
        for key, values in history.history.items():
            out[f"{prefix}/history/{key}"] = as_float64(values)
        for i, weight_name in enumerate(WEIGHT_NAMES):
            out[f"{prefix}/initial/{weight_name}"] = initial[i]
            out[f"{prefix}/final/{weight_name}"] = as_float64(model.get_weights()[i])
        for suffix, sample_weight in {"": None, "_weighted": weight}.items():
            result = model.evaluate(
                x, y, batch_size=8, verbose=0, sample_weight=sample_weight, return_dict=True
            )
            for key, value in result.items():
                out[f"{prefix}/evaluate{suffix}/{key}"] = as_float64(np.float64(value))
        out[f"{prefix}/predict"] = as_float64(model.predict(x_val, batch_size=3, verbose=0))
    return out


def record_initializers() -> Arrays:
    """The limits or deviations that Keras asks its generator for, and what a large draw gives.

    `limit` or `stddev` is the argument that Keras hands to the uniform or truncated normal
    generator; the truncated normal cuts at two of that `stddev`, so it yields less.
    """
    shape, draws = (200, 100), 50
    cases: dict[str, tuple[str, dict[str, Any]]] = {
        "glorot_uniform": ("GlorotUniform", {}),
        "glorot_normal": ("GlorotNormal", {}),
        "he_uniform": ("HeUniform", {}),
        "he_normal": ("HeNormal", {}),
        "lecun_uniform": ("LecunUniform", {}),
        "lecun_normal": ("LecunNormal", {}),
        "truncated_normal": ("TruncatedNormal", {"stddev": 0.05}),
    }
    generators = random_initializers.random
    out: Arrays = {}
    for name, (cls, args) in cases.items():
        initializer = getattr(keras.initializers, cls)
        uniform = mock.Mock(wraps=generators.uniform)
        truncated = mock.Mock(wraps=generators.truncated_normal)
        with (
            mock.patch.object(generators, "uniform", uniform),
            mock.patch.object(generators, "truncated_normal", truncated),
        ):
            sample = np.stack([initializer(**args, seed=s)(shape) for s in range(draws)])
        as_float64(sample)
        prefix = f"initializer/{name}"
        out[f"{prefix}/config"] = as_json({"class": cls, "args": args})
        out[f"{prefix}/shape"] = np.array(shape)
        if uniform.called:
            out[f"{prefix}/limit"] = as_float64(np.float64(uniform.call_args.kwargs["maxval"]))
        else:
            out[f"{prefix}/stddev"] = as_float64(np.float64(truncated.call_args.kwargs["stddev"]))
        out[f"{prefix}/empirical_mean"] = sample.mean()
        out[f"{prefix}/empirical_std"] = sample.std()
        out[f"{prefix}/empirical_max_abs"] = np.abs(sample).max()
    return out


def record_norm() -> Arrays:
    """Normalization (one constant column) and Rescaling."""
    rng = np.random.default_rng(505)
    x = rng.normal([3.0, -40.0, 0.0, 0.01], [2.0, 10.0, 1.0, 0.001], (50, 4))
    x[:, 2] = 2.5  # exactly the mean of its column, in float32 too
    x_new = x[:5] + rng.normal(0.0, 1.0, (5, 4))
    layer = keras.layers.Normalization()
    layer.adapt(x)
    pixels = rng.integers(0, 256, (6, 4)).astype(np.float64)
    args = {"scale": 1.0 / 255.0, "offset": -0.5}
    return {
        "norm/normalization/x": x,
        "norm/normalization/mean": as_float64(layer.mean),
        "norm/normalization/variance": as_float64(layer.variance),
        "norm/normalization/y": as_float64(layer(x)),
        "norm/normalization/x_new": x_new,
        "norm/normalization/y_new": as_float64(layer(x_new)),
        "norm/rescaling/config": as_json({"class": "Rescaling", "args": args}),
        "norm/rescaling/x": pixels,
        "norm/rescaling/y": as_float64(keras.layers.Rescaling(**args)(pixels)),
    }


def main() -> None:
    """Record everything and write `keras_recordings.npz`."""
    check_precision()
    arrays: Arrays = {
        "versions": np.array(
            [f"{m.__name__} {m.__version__}" for m in (keras, jax, np)] + ["float64"]
        ),
        **record_optimizers(),
        **record_defaults(),
        **record_losses(),
        **record_schedules(),
        **record_activations(),
        **record_fit(),
        **record_initializers(),
        **record_norm(),
    }
    np.savez_compressed(OUTPUT, **arrays)
    size = OUTPUT.stat().st_size
    assert size < MAX_BYTES, f"{OUTPUT.name} has grown to {size} bytes"
    with np.load(OUTPUT, allow_pickle=False) as stored:
        for key, array in arrays.items():
            np.testing.assert_array_equal(stored[key], array)
    print(f"{OUTPUT}: {len(arrays)} arrays, {size} bytes, {', '.join(arrays['versions'])}")


if __name__ == "__main__":
    main()
