"""Models and weights in files, and the devices and precisions they come back in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from op_runs import needs_compiler
from small_models import (
    AUX,
    DEEP,
    LABELS,
    MAIN,
    SETTINGS,
    WIDE,
    X,
    assert_equal,
    classifier,
    differ,
    wide_and_deep,
)

import gpunn
import gpunn as keras
from gpunn import layers
from gpunn.backends import select
from gpunn.backends.reference.backend import NumpyReference
from gpunn.errors import CheckpointError, PlanError
from gpunn.models import saving


def test_saved_model_comes_back_whole(tmp_path: Path) -> None:
    model = gpunn.Sequential(
        [
            gpunn.Input((4,)),
            layers.Dense(5, "elu", kernel_initializer="he_normal", kernel_regularizer="l2"),
            layers.Dropout(0.2),
            layers.Dense(3, "softmax"),
        ],
        name="mine",
    )
    schedule = gpunn.schedules.ExponentialDecay(0.01, 10, 0.9)
    model.compile(
        gpunn.optimizers.AdamW(schedule, weight_decay=0.01, clipnorm=1.0),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        **SETTINGS,
    )
    model.fit(X, LABELS, verbose=0)
    path = model.save(tmp_path / "model.h5")
    loaded = keras.models.load_model(path, device="reference")
    assert type(loaded) is gpunn.Sequential
    assert loaded.name == "mine"
    assert loaded.get_config() == model.get_config()
    assert loaded.optimizer == model.optimizer
    assert_equal(loaded.get_weights(), model.get_weights())
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    assert loaded.evaluate(X, LABELS) == model.evaluate(X, LABELS)
    before = loaded.get_weights()
    loaded.fit(X, LABELS, verbose=0)
    assert differ(loaded.get_weights(), before)


def test_saved_functional_model_comes_back_whole(tmp_path: Path) -> None:
    model = wide_and_deep()
    model.compile(
        "sgd", ["mse", "mae"], loss_weights=[2.0, 1.0], metrics=["mae", "mse"], **SETTINGS
    )
    path = model.save(tmp_path / "model.h5")
    loaded = gpunn.load_model(path, device="reference")
    assert_equal(loaded.predict([WIDE, DEEP]), model.predict([WIDE, DEEP]))
    figures = [m.evaluate([WIDE, DEEP], [MAIN, AUX], return_dict=True) for m in (loaded, model)]
    assert figures[0] == figures[1]


def test_float64_model_is_saved_in_float64_before_it_is_trained(tmp_path: Path) -> None:
    model = classifier(precision="float64")
    assert {w.dtype for w in model.get_weights()} == {np.dtype(np.float64)}
    loaded = gpunn.load_model(model.save(tmp_path / "model.h5"), device="reference")
    assert_equal(loaded.predict(X), model.predict(X))


def test_saved_normalization_keeps_its_statistics(tmp_path: Path) -> None:
    layer = layers.Normalization()
    layer.adapt(5 * X + 3)
    model = gpunn.Sequential([gpunn.Input((4,)), layer, layers.Dense(2)])
    model.compile("sgd", "mse", **SETTINGS)
    loaded = gpunn.load_model(model.save(tmp_path / "model.h5"), device="reference")
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def normalized(data: Any = None) -> gpunn.Sequential:
    normalization = layers.Normalization()
    if data is not None:
        normalization.adapt(data)
    return gpunn.Sequential([gpunn.Input((4,)), normalization, layers.Dense(2)])


def test_statistics_that_are_set_outlast_those_learned_before(tmp_path: Path) -> None:
    first, second = normalized(X), normalized(3 * X + 1)
    second.set_weights(first.get_weights())
    np.testing.assert_array_equal(second.predict(X), first.predict(X))
    first.set_weights([w + 1 for w in first.get_weights()])
    first.save(tmp_path / "model.h5")
    loaded = gpunn.load_model(tmp_path / "model.h5")
    np.testing.assert_array_equal(loaded.predict(X), first.predict(X))
    never_adapted = normalized()
    never_adapted.load_weights(tmp_path / "model.h5")
    np.testing.assert_array_equal(never_adapted.predict(X), first.predict(X))
    # Learning anew counts again.
    second.layers[0].spec.adapt(5 * X)
    np.testing.assert_allclose(second.get_weights()[1], (5 * X).var(axis=0), rtol=1e-6)


def test_numpy_numbers_in_a_model_can_be_saved(tmp_path: Path) -> None:
    scale = layers.Rescaling(np.float32(0.1))
    model = gpunn.Sequential([gpunn.Input((4,)), scale, layers.Dense(1)])
    boundaries = np.array([5, 9])
    rate = gpunn.schedules.PiecewiseConstantDecay(boundaries, [0.1, 0.01, 0.001])
    optimizer = gpunn.optimizers.SGD(rate, momentum=np.float32(0.9))
    model.compile(optimizer, gpunn.losses.Huber(np.float64(2.0)), **SETTINGS)
    model.save(tmp_path / "model.h5")
    loaded = gpunn.load_model(tmp_path / "model.h5", device="reference")
    assert loaded.get_config() == model.get_config()
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def test_model_saved_without_compile_loads_without(tmp_path: Path) -> None:
    model = gpunn.Sequential([gpunn.Input((4,)), layers.Dense(2)])
    loaded = gpunn.load_model(model.save(tmp_path / "model.h5"))
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    with pytest.raises(gpunn.errors.NotBuiltError, match="not compiled"):
        loaded.fit(X, X[:, :2])


def saved_in(precision: str, folder: Path) -> tuple[Path, gpunn.Sequential]:
    """A model as saved where the device computes in `precision`; and it in float32."""
    model = classifier()
    changed = classifier()
    changed._compiled = dataclasses.replace(changed.compiled, precision=precision)
    return changed.save(folder / "model.h5"), model


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = select.DeviceStatus("cuda", False, "no NVIDIA GPU found")
    monkeypatch.setattr(select, "cuda_status", lambda: missing)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_model_from_a_gpu_is_used_without_one(tmp_path: Path, no_gpu: None, precision: str) -> None:
    path, model = saved_in(precision, tmp_path)
    with pytest.warns(RuntimeWarning) as caught:
        loaded = gpunn.load_model(path)
    (warning,) = caught
    assert warning.filename == __file__
    assert str(warning.message) == (
        f"{path} was saved with precision={precision!r}, but cpu, which device='auto' took, does "
        "not compute in it: the model computes in float32, the type of its weights."
    )
    assert loaded.compiled.precision == "float32"
    assert_equal(loaded.get_weights(), model.get_weights())
    np.testing.assert_allclose(loaded.predict(X), model.predict(X), rtol=1e-5)
    assert loaded.evaluate(X, LABELS) == pytest.approx(model.evaluate(X, LABELS), rel=1e-5)


def test_device_that_is_named_keeps_the_saved_precision_or_refuses(tmp_path: Path) -> None:
    path, model = saved_in("tf32", tmp_path)
    for device in ("cpu", "reference"):
        with pytest.raises(PlanError) as caught:
            gpunn.load_model(path, device=device)
        assert str(caught.value) == (
            f"{path} was saved with precision='tf32'. Device {device!r} does not compute in tf32; "
            "use precision='float32', or for tf32 device='cuda' with a GPU of compute capability "
            "8.0 or later, or device='simulator'."
        )
    loaded = gpunn.load_model(path, device="reference", precision="float32")
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def test_precision_that_is_given_is_kept_to(tmp_path: Path, no_gpu: None) -> None:
    path, model = saved_in("tf32", tmp_path)
    with pytest.raises(PlanError, match=r"device='auto' took cpu .*does not compute in bfloat16"):
        gpunn.load_model(path, precision="bfloat16")
    # No warning: filterwarnings makes it an error.
    for precision in ("float32", "float64"):
        loaded = gpunn.load_model(path, precision=precision)
        assert loaded.compiled.precision == precision
        assert {w.dtype.name for w in loaded.get_weights()} == {precision}
        np.testing.assert_allclose(loaded.predict(X), model.predict(X), rtol=1e-5)
    assert gpunn.load_model(path, compile=False)._compiled is None


def test_float64_model_is_loaded_in_float32_if_asked_for(tmp_path: Path) -> None:
    model = classifier(precision="float64")
    path = model.save(tmp_path / "model.h5")
    assert gpunn.load_model(path, device="reference").compiled.precision == "float64"
    loaded = gpunn.load_model(path, device="reference", precision="float32")
    assert {w.dtype.name for w in loaded.get_weights()} == {"float32"}
    np.testing.assert_allclose(loaded.predict(X), model.predict(X), rtol=1e-5)


class OldGPU(NumpyReference):
    """Has the kernels for tf32, and not the tensor cores."""

    name = "cuda:0"
    precisions = ("float32", "tf32", "bfloat16", "float64")

    def check(self, steps: Iterable[Any], precision: str, models: int) -> None:
        if precision in ("tf32", "bfloat16"):
            raise PlanError(f"precision {precision!r} needs compute capability 8.0 or later.")


def test_model_from_a_newer_gpu_is_used_on_an_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, model = saved_in("tf32", tmp_path)
    old = select.Selection(OldGPU(), "a GPU that can be used")
    monkeypatch.setattr(saving, "select_backend", lambda device: old)
    with pytest.warns(RuntimeWarning, match="but cuda:0, which device='auto' took, does not"):
        loaded = gpunn.load_model(path)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    with pytest.raises(PlanError, match=r"precision='tf32'\. precision 'tf32' needs compute"):
        gpunn.load_model(path, device="cuda")


@needs_compiler
@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_precision_is_kept_where_the_device_computes_in_it(tmp_path: Path, precision: str) -> None:
    model = classifier(device="simulator", precision=precision)
    path = model.save(tmp_path / "model.h5")
    loaded = gpunn.load_model(path, device="simulator")
    assert loaded.get_config() == model.get_config()
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    exact = gpunn.load_model(path, device="simulator", precision="float32")
    assert differ(exact.predict(X), loaded.predict(X))
    np.testing.assert_allclose(exact.predict(X), loaded.predict(X), rtol=0.05)


def test_training_is_not_resumed_in_another_precision(tmp_path: Path) -> None:
    model, other = classifier(), classifier(precision="float64")
    save = gpunn.callbacks.Checkpoints(tmp_path, save_every=1)
    model.fit(X, LABELS, verbose=0, callbacks=[save])
    with pytest.raises(CheckpointError, match=r"other precision \(float32, not float64\) than"):
        other.fit(X, LABELS, epochs=2, verbose=0, resume=tmp_path)


@pytest.mark.parametrize("precision", ["float32", "float64", "tf32", "bfloat16"])
def test_plan_of_a_saved_model_needs_no_device_that_computes_in_it(
    tmp_path: Path, precision: str
) -> None:
    model = classifier()
    if precision != "float64":
        path = saved_in(precision, tmp_path)[0]
    else:
        path = classifier(precision=precision).save(tmp_path / "model.h5")
    loaded = saving.load_for_inspection(path)
    assert loaded.plan(8).describe().startswith(f"batch size 8, {precision}\n")
    assert loaded.count_params() == model.count_params()
    if precision in ("tf32", "bfloat16"):
        with pytest.raises(PlanError, match=f"does not compute in {precision}"):
            loaded.predict(X)


def test_weights_alone_are_saved_and_loaded(tmp_path: Path) -> None:
    model, other = classifier(), classifier(seed=99)
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    assert differ(model.get_weights(), other.get_weights())
    other.load_weights(path)
    assert_equal(model.get_weights(), other.get_weights())
