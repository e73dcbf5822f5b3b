"""Activation layers, PReLU, constraints and label smoothing, as a user meets them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunn
from gpunn import constraints, layers, losses
from gpunn.backends.select import simulator_status
from gpunn.checkpoints import files as checkpoints
from gpunn.errors import (
    ArgumentError,
    ArgumentTypeError,
    CheckpointError,
    ShapeError,
    UnknownNameError,
)
from gpunn.models import saving
from gpunn.optimizers import SGD, Adam, Optimizer
from gpunn.plan.layout import region_layout

needs_compiler = pytest.mark.skipif(
    not simulator_status().usable, reason="needs a C++ compiler: the simulator cannot be used"
)
SIMULATOR = pytest.param("simulator", marks=needs_compiler)
ROWS, CLASSES = 45, 3


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    return rng.normal(size=(ROWS, 4, 3)).astype(np.float32), rng.integers(CLASSES, size=ROWS)


def stack() -> list[Any]:
    """All of the layers and constraints; norms that are out of bounds from the start."""
    return [
        layers.Rescaling(1.5, input_shape=(4, 3)),
        layers.PReLU("glorot_normal", alpha_constraint=constraints.NonNeg()),
        layers.Flatten(),
        layers.Dense(9, kernel_constraint=constraints.MaxNorm(0.6)),
        layers.LeakyReLU(),
        layers.Dense(8, kernel_constraint="unit_norm", bias_constraint="non_neg"),
        layers.PReLU(alpha_constraint="max_norm", alpha_regularizer="l2"),
        layers.Dropout(0.2),
        layers.Dense(7, kernel_constraint=constraints.MinMaxNorm(0.4, 0.9, 0.5)),
        layers.ELU(0.7),
        layers.Dense(CLASSES, bias_regularizer="l1", kernel_constraint="non_neg"),
        layers.Softmax(),
    ]


def dense_stack() -> list[Any]:
    """Constrained dense layers alone: plain SGD updates them in place."""
    return [
        layers.Flatten(input_shape=(4, 3)),
        layers.Dense(7, kernel_constraint=constraints.MaxNorm(0.6), bias_constraint="non_neg"),
        layers.ReLU(),
        layers.Dense(CLASSES, kernel_constraint="unit_norm"),
        layers.Softmax(),
    ]


def compiled(
    device: str,
    optimizer: Optimizer,
    precision: str = "float32",
    made: Callable[[], list[Any]] = stack,
    smoothing: float = 0.1,
) -> gpunn.Model:
    model = gpunn.Sequential(made())
    loss = losses.SparseCategoricalCrossentropy(label_smoothing=smoothing)
    model.compile(optimizer, loss, ["accuracy"], device=device, precision=precision, seed=3)
    return model


def fitted(model: gpunn.Model, epochs: int = 4) -> gpunn.Model:
    model.fit(*data(), batch_size=16, epochs=epochs, verbose=0)  # the last batch has 13 rows
    return model


def assert_constrained(model: gpunn.Model) -> None:
    """What `stack` asks for holds; the norms that are to be on their way are not checked."""
    tolerance = 1e-6  # a norm ends short of its bound, by 1e-7
    alpha, first, _, second, bias, alpha2, _, _, last, _ = model.get_weights()
    assert alpha.min() >= 0 and last.min() >= 0 and bias.min() >= 0
    assert (last == 0).any()  # some have met the bound
    norms = np.linalg.norm(first, axis=0)
    assert norms.max() == pytest.approx(0.6, rel=tolerance)
    np.testing.assert_allclose(np.linalg.norm(second, axis=0), 1, rtol=tolerance)
    assert np.linalg.norm(alpha2) <= 2


# The same training everywhere


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(
    "optimizer", [SGD(0.1), SGD(0.1, momentum=0.9), Adam(0.01)], ids=("sgd", "momentum", "adam")
)
@pytest.mark.parametrize("device", ["cpu", SIMULATOR])
def test_training_is_the_same_on_every_device(
    device: str, optimizer: Optimizer, precision: str
) -> None:
    reference, other = (
        fitted(compiled(name, optimizer, precision)) for name in ("reference", device)
    )
    # A dozen steps, each a few roundings apart.
    tolerance = 2e-5 if precision == "float32" else 1e-12
    assert_constrained(other)
    for theirs, mine in zip(reference.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(
        other.predict(data()[0]), reference.predict(data()[0]), rtol=0, atol=tolerance
    )


@needs_compiler
@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_training_with_rounded_products(precision: str) -> None:
    rounded = fitted(compiled("simulator", Adam(0.01), precision))
    assert_constrained(rounded)
    exact = fitted(compiled("simulator", Adam(0.01)))
    # Operands rounded to 8 bits (bfloat16); the outputs are probabilities.
    np.testing.assert_allclose(rounded.predict(data()[0]), exact.predict(data()[0]), atol=0.1)


@pytest.mark.parametrize("device", ["reference", "cpu", SIMULATOR])
def test_constraints_follow_an_update_in_place(device: str) -> None:
    """Plain SGD keeps no gradients; with a limit that is never reached it does."""
    straight = compiled(device, SGD(0.1), "float64", dense_stack)
    around = compiled(device, SGD(0.1, clipvalue=1e30), "float64", dense_stack)
    assert "gradients" not in straight.plan(16).regions
    assert "gradients" in around.plan(16).regions
    for one, other in zip(
        fitted(straight).get_weights(), fitted(around).get_weights(), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)
    kernel, bias, last, _ = straight.get_weights()
    assert bias.min() >= 0
    assert np.linalg.norm(kernel, axis=0).max() <= 0.6
    np.testing.assert_allclose(np.linalg.norm(last, axis=0), 1, rtol=1e-6)


@pytest.mark.parametrize("device", ["reference", "cpu", SIMULATOR])
def test_a_constraint_holds_where_a_norm_overflows(device: str) -> None:
    """It becomes 0, as in Keras, or, where sums are exact, the norm that is allowed."""
    model = gpunn.Sequential(
        [gpunn.Input((2,)), layers.Dense(2, use_bias=False, kernel_constraint="max_norm")]
    )
    model.compile(SGD(1e-30), "mse", device=device, seed=0)
    model.set_weights([np.array([[3e19, 1], [3e19, 5]])])
    model.fit(np.full((4, 2), 1e-30), np.zeros((4, 2)), epochs=1, verbose=0)
    (kernel,) = model.get_weights()
    assert np.isfinite(kernel).all()
    exploded, other = np.linalg.norm(kernel, axis=0)
    assert exploded == pytest.approx(2 if device == "reference" else 0, rel=1e-6)
    assert other == pytest.approx(2, rel=1e-6)


@pytest.mark.parametrize("device", ["reference", "cpu", SIMULATOR])
def test_constraints_leave_what_lies_between_weights(device: str) -> None:
    model = compiled(device, Adam(0.01))
    trainer = gpunn.Trainer(model, *data(), batch_size=16)
    for _ in range(3):
        trainer.step()
    buffers = [b for b in trainer.bound.plan.buffers.values() if b.region == "parameters"]
    flat = trainer.bound.read("parameters")
    between = np.ones(flat.shape, dtype=bool)
    offsets = region_layout(buffers, "parameters").offsets
    for buffer in buffers:
        if buffer.name != "parameters":
            start = offsets[buffer.name] // flat.itemsize
            between[start : start + buffer.size] = False
            assert flat[start : start + buffer.size].any()
    assert between.sum() > 100
    assert not flat[between].any()


# The plan


def test_activation_layers_join_the_dense_layer_before_them() -> None:
    made = compiled("reference", Adam(), made=dense_stack).plan(16)
    written = compiled(
        "reference",
        Adam(),
        made=lambda: [
            layers.Flatten(input_shape=(4, 3)),
            layers.Dense(7, "relu"),
            layers.Dense(CLASSES, "softmax"),
        ],
    ).plan(16)
    ops, plain = ([step.op for step in plan.programs["train"]] for plan in (made, written))
    assert [op for op in ops if op not in ("norm_constraint", "non_negative")] == plain
    assert ops.count("norm_constraint") == 2 and ops.count("non_negative") == 1


def test_the_plan_and_the_summary_list_them() -> None:
    model = compiled("reference", Adam())
    lines = model.plan(16).describe().splitlines()
    rows = [line.split() for line in lines if "prelu" in line or "constraint" in line]
    found = {(row[1], row[2]) for row in rows if len(row) > 2}
    assert ("prelu", "activations/p_re_lu") in found
    assert ("norm_constraint", "parameters/dense/kernel") in found
    printed: list[str] = []
    model.summary(printed.append)
    text = "\n".join(printed)
    assert "p_re_lu (PReLU)" in text and "leaky_re_lu (LeakyReLU)" in text
    weights = 12 + (12 * 9 + 9) + (9 * 8 + 8) + 8 + (8 * 7 + 7) + (7 * 3 + 3)
    assert f"Trainable params: {weights}" in text


# Files


def test_saved_loaded_and_resumed(tmp_path: Path) -> None:
    whole = fitted(compiled("cpu", Adam(0.01)), epochs=4)
    save = gpunn.callbacks.Checkpoints(tmp_path / "run", save_every=1)
    halfway = compiled("cpu", Adam(0.01))
    halfway.fit(*data(), batch_size=16, epochs=2, verbose=0, callbacks=[save])
    resumed = compiled("cpu", Adam(0.01))
    resumed.fit(*data(), batch_size=16, epochs=4, verbose=0, resume=tmp_path / "run")
    resumed.save(tmp_path / "model.h5")
    loaded = gpunn.load_model(tmp_path / "model.h5", device="cpu")
    assert loaded.get_config() == whole.get_config()
    for model in (resumed, loaded):
        for one, other in zip(model.get_weights(), whole.get_weights(), strict=True):
            assert one.tobytes() == other.tobytes()
    # The constraints are there and at work.
    trained = fitted(loaded, epochs=1)
    assert_constrained(trained)


NEW_FIELDS = {"input_shape", "bias_regularizer", "kernel_constraint", "bias_constraint"}


def without_new_fields(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration as it was before these fields were known."""
    for node in config["nodes"]:
        fields = node["layer"]["config"]
        node["layer"]["config"] = {k: v for k, v in fields.items() if k not in NEW_FIELDS}
    for output in config["compile"]["outputs"]:
        del output["loss"]["config"]["label_smoothing"]
    return config


def test_a_file_from_before_is_loaded_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def before() -> list[Any]:
        return [layers.Dense(5, "relu"), layers.Dense(CLASSES, "softmax")]

    def model() -> gpunn.Model:
        return compiled("cpu", Adam(0.01), made=before, smoothing=0.0)

    x, y = data()
    x = x.reshape(ROWS, -1)
    whole, halfway, resumed = model(), model(), model()
    whole.fit(x, y, 16, epochs=3, verbose=0)
    save = gpunn.callbacks.Checkpoints(tmp_path, save_every=1)
    model_config = saving.model_config
    with monkeypatch.context() as patch:
        patch.setattr(saving, "model_config", lambda model: without_new_fields(model_config(model)))
        halfway.fit(x, y, 16, epochs=2, verbose=0, callbacks=[save])
    written = json.dumps(checkpoints.read_config(checkpoints.resolve(tmp_path)))
    assert "units" in written and not any(name in written for name in NEW_FIELDS)
    assert gpunn.load_model(tmp_path, device="cpu").get_config() == halfway.get_config()
    resumed.fit(x, y, 16, epochs=3, verbose=0, resume=tmp_path)
    for one, other in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        assert one.tobytes() == other.tobytes()
    other = compiled("cpu", Adam(0.01), made=before, smoothing=0.2)
    with pytest.raises(CheckpointError, match="other loss or metrics"):
        other.fit(x, y, 16, epochs=3, verbose=0, resume=tmp_path)


# What is given, and what is refused


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("max_norm", constraints.MaxNorm(2)),
        ("MaxNorm", constraints.MaxNorm()),
        (constraints.UnitNorm, constraints.UnitNorm(axis=0)),
        (constraints.min_max_norm(0.5, 2), constraints.MinMaxNorm(0.5, 2.0, 1.0)),
        ({"class_name": "NonNeg", "config": {}}, constraints.NonNeg()),
        (None, None),
    ],
)
def test_constraints_are_given_in_many_ways(given: Any, wanted: Any) -> None:
    assert constraints.get(given) == wanted
    assert layers.Dense(2, kernel_constraint=given).kernel_constraint == wanted


@pytest.mark.parametrize(
    "first",
    [
        lambda: layers.Rescaling(2.0, input_shape=(6,)),
        lambda: layers.Activation("tanh", input_shape=(6,)),
        lambda: layers.Dropout(0.2, input_shape=[6]),
        lambda: layers.LeakyReLU(input_shape=6),
        lambda: layers.ELU(input_shape=(6,)),
        lambda: layers.ReLU(input_shape=(6,)),
        lambda: layers.Softmax(input_shape=(6,)),
        lambda: layers.PReLU(input_shape=(6,)),
        lambda: layers.Dense(6, input_dim=6),
    ],
)
def test_the_first_layer_says_what_comes_in(first: Callable[[], Any]) -> None:
    model = gpunn.Sequential([first(), layers.Dense(2)])
    assert model.built
    assert model.predict(np.ones((3, 6), np.float32)).shape == (3, 2)


MISTAKES: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "the old name of LeakyReLU's slope": (
        lambda: layers.LeakyReLU(alpha=0.1),
        ArgumentTypeError,
        "LeakyReLU: use negative_slope instead of alpha",
    ),
    "a slope below 0": (
        lambda: layers.LeakyReLU(-0.1),
        ArgumentError,
        r"LeakyReLU: negative_slope must be .* at least 0.*, not -0.1",
    ),
    "ELU": (lambda: layers.ELU(alpha="x"), ArgumentTypeError, "ELU: alpha must be a number"),
    "max_value": (lambda: layers.ReLU(6), ArgumentError, "ReLU: max_value must be None, not 6"),
    "threshold": (
        lambda: layers.ReLU(threshold=1),
        ArgumentError,
        "ReLU: threshold must be 0, not 1",
    ),
    "axis of Softmax": (lambda: layers.Softmax(axis=0), ArgumentError, r"must be -1 .*, not 0"),
    "Softmax of images": (
        lambda: compiled(
            "reference",
            SGD(),
            made=lambda: [layers.Softmax(input_shape=(2, 3)), *dense_stack()[:1]],
        ).plan(4),
        ValueError,
        "softmax expects one axis",
    ),
    "shared axes": (
        lambda: layers.PReLU(shared_axes=[1]),
        ArgumentError,
        r"PReLU: shared_axes must be None.*not \[1\]",
    ),
    "a PReLU of numbers": (
        lambda: layers.PReLU()(gpunn.Input(())),
        ShapeError,
        r"PReLU.* expects at least one axis.*gives \(\)",
    ),
    "alpha's start": (
        lambda: layers.PReLU("zeross"),
        UnknownNameError,
        "Unknown initializer 'zeross'; did you mean 'zeros'",
    ),
    "what Keras has": (
        lambda: layers.Dense(4, lora_rank=2),
        TypeError,
        "Dense: Keras's argument 'lora_rank' is not supported; omit it",
    ),
    "activity_regularizer": (
        lambda: layers.Dense(4, activity_regularizer="l2"),
        ArgumentTypeError,
        "Keras's argument 'activity_regularizer' is not supported",
    ),
    "what nobody has": (
        lambda: layers.Dense(4, activaton="relu"),
        ArgumentTypeError,
        "Dense has no argument 'activaton'; it takes activation, bias_constraint",
    ),
    "two input shapes": (
        lambda: layers.Dense(4, input_dim=3, input_shape=(3,)),
        ArgumentError,
        "give input_shape or input_dim, not both",
    ),
    "input_dim": (
        lambda: layers.Dense(4, input_dim=(3,)),
        ArgumentTypeError,
        r"Dense: input_dim must be a whole number, not \(3,\)",
    ),
    "a constraint's name": (
        lambda: layers.Dense(4, kernel_constraint="maxnorm"),
        UnknownNameError,
        "Unknown constraint 'maxnorm'; did you mean 'max_norm'",
    ),
    "a constraint as a number": (
        lambda: layers.Dense(4, bias_constraint=2),
        ArgumentTypeError,
        "A constraint must be a name",
    ),
    "axis": (
        lambda: constraints.MaxNorm(2, axis=1),
        ArgumentError,
        "MaxNorm: axis must be 0.*, not 1",
    ),
    "axes": (lambda: constraints.UnitNorm([0]), ArgumentError, r"UnitNorm: axis .*not \[0\]"),
    "bounds": (
        lambda: constraints.MinMaxNorm(2, 1),
        ArgumentError,
        "MinMaxNorm: max_value must be a number at least 2.0, not 1",
    ),
    "rate": (lambda: constraints.MinMaxNorm(rate=2), ArgumentError, "rate must be .*, not 2"),
    "smoothing of 1": (
        lambda: losses.CategoricalCrossentropy(label_smoothing=1),
        ArgumentError,
        "CategoricalCrossentropy: label_smoothing must be .* below 1, not 1",
    ),
    "smoothing below 0": (
        lambda: losses.BinaryCrossentropy(label_smoothing=-0.1),
        ArgumentError,
        "BinaryCrossentropy: label_smoothing must be .*, not -0.1",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_explained(name: str) -> None:
    make, error, message = MISTAKES[name]
    with pytest.raises(error, match=message):
        make()
