"""Mistakes anyone makes, each with an error that names the argument and what would be right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mistakes_in_data
import mistakes_in_models
import mistakes_in_specs
import numpy as np
import pytest
from mistake_models import HUGE, NAN, Case, Dense, X, Y, fit, model, stack

import gpunn
from gpunn import Input, Sequential, layers
from gpunn.backends import select
from gpunn.errors import (
    ArgumentError,
    ArgumentTypeError,
    CheckpointError,
    DeviceError,
    PlanError,
    ShapeError,
    UnknownNameError,
)

CASES: dict[str, Case] = {}
for module in (mistakes_in_data, mistakes_in_specs, mistakes_in_models):
    assert not CASES.keys() & module.CASES.keys()
    CASES |= module.CASES


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
    with pytest.raises(
        CheckpointError, match=r"\(5, 3\), but its configuration requires .* \(5, 4\)"
    ):
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
        ("Conv2D", "no layer Conv2D: it trains multilayer perceptrons and has no convolutions"),
        ("LSTM", "has no recurrent layers"),
        ("Embedding", "has no embeddings"),
        ("Dens", "has no 'Dens'; its layers are .*Dense"),
    ],
)
def test_a_layer_that_gpunn_does_not_have_is_refused_by_name(name: str, words: str) -> None:
    with pytest.raises(AttributeError, match=words):
        getattr(layers, name)
    assert not hasattr(layers, name)
