"""Arrays that lie on a device, in and out of the MLP estimators; see `test_device_arrays`."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import scale
from test_device_arrays import Device, DeviceArray, device

import gpunn
from gpunn import DNNClassifier, MLPClassifier, MLPRegressor
from gpunn.backends.select import Selection

assert device  # a fixture

IRIS, FLOWERS = scale(load_iris().data), load_iris().target
NAMES = load_iris().target_names[FLOWERS]
SETTINGS: dict[str, Any] = {"random_state": 0, "max_iter": 5}


@pytest.fixture(autouse=True)
def _few_iterations() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


@pytest.fixture
def on_device(device: Device, monkeypatch: pytest.MonkeyPatch) -> Device:
    def selected(name: str = "auto", **kwargs: Any) -> Any:
        return Selection(device, "")

    monkeypatch.setattr("gpunn.estimators.mlp_base.select_backend", selected)
    monkeypatch.setattr(DeviceArray, "ravel", lambda a: DeviceArray(a.inner.ravel()), raising=False)
    return device


def test_arrays_on_the_device_stay_there(on_device: Device) -> None:
    x = IRIS.astype(np.float32)
    settings = SETTINGS | {"device": "cuda"}
    for y in (FLOWERS, FLOWERS == 1):
        expected = MLPClassifier(**settings).fit(x, y)
        on_device.uploads.clear()
        model = MLPClassifier(**settings).fit(DeviceArray(x), y)
        assert not any(array.shape == x.shape for array in on_device.uploads)
        np.testing.assert_array_equal(model.coefs_[0], expected.coefs_[0])
        DeviceArray.fetched = 0
        found = model.predict(DeviceArray(x))
        assert isinstance(found, DeviceArray)
        assert DeviceArray.fetched == 0
        np.testing.assert_array_equal(found.inner, expected.predict(x))
    named = MLPClassifier(**settings).fit(DeviceArray(x), NAMES)
    assert named.predict(DeviceArray(x)).dtype.kind == "U"
    regressor = MLPRegressor(**settings).fit(DeviceArray(x), DeviceArray(FLOWERS))
    assert isinstance(regressor.predict(DeviceArray(x)), DeviceArray)
    assert isinstance(regressor.predict(x), np.ndarray)
    dnn = DNNClassifier([5], steps=3, device="cuda").fit(DeviceArray(x), FLOWERS)
    assert isinstance(dnn.predict(DeviceArray(x)), DeviceArray)


def test_early_stopping_on_the_device(on_device: Device) -> None:
    x = IRIS.astype(np.float32)
    settings = SETTINGS | {"device": "cuda", "early_stopping": True}
    expected = MLPClassifier(**settings).fit(x, FLOWERS)
    model = MLPClassifier(**settings).fit(DeviceArray(x), FLOWERS)
    np.testing.assert_array_equal(model.coefs_[0], expected.coefs_[0])
    assert model.validation_scores_ == expected.validation_scores_


def test_wrong_arrays_on_the_device(on_device: Device) -> None:
    x = IRIS.astype(np.float32)
    model = MLPClassifier(**(SETTINGS | {"device": "cuda"}))
    with pytest.raises(gpunn.errors.ShapeError, match=r"\(rows, features\), got shape \(600,\)"):
        model.fit(DeviceArray(x.ravel()), FLOWERS)
    with pytest.raises(gpunn.errors.ShapeError, match="y: expected 150 rows"):
        model.fit(DeviceArray(x), FLOWERS[:-1])
    model.fit(DeviceArray(x), FLOWERS)
    with pytest.raises(gpunn.errors.ShapeError, match="expecting 4 features"):
        model.predict(DeviceArray(x[:, :2]))
