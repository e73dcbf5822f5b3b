"""gpunn against recordings of Keras 3 in float64 (``tests/recordings/README.md`` lists them).

Not recorded against, because gpunn does not have them: CosineDecayRestarts,
PolynomialDecay(cycle=True), exclude_from_weight_decay, weighted_metrics. The cross entropies of
given probabilities (``*_probabilities``) cannot be asked for either: gpunn computes every cross
entropy from logits.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunn
from gpunn.specs.losses import losses
from gpunn.specs.optimizers import optimizers
from gpunn.specs.schedules import schedules

KERAS = dict(
    np.load(Path(__file__).parents[1] / "recordings" / "keras_recordings.npz", allow_pickle=False)
)
DEVICES = ("reference", "cpu")
WEIGHTS = ("kernel0", "bias0", "kernel1", "bias1")
# What gpunn lacks; see the docstring.
NO_SCHEDULE = {"polynomial_decay_cycle", "cosine_decay_restarts", "cosine_decay_restarts_even"}
NO_OPTIMIZER = {"adamw_exclude_bias", *(f"adam_{name}" for name in NO_SCHEDULE)}
# One rounding of float64 is 1.1e-16; a dozen steps of a small net, sums in another order and
# Adam's division by a small square root grow that to about 1e-13 here. Any other formula, or one
# constant in float32 (6e-8), is far beyond this.
RTOL, ATOL = 1e-10, 1e-12


def cases(kind: str, without: set[str] | None = None) -> list[str]:
    """Names of the recorded cases of a kind."""
    names = dict.fromkeys(key.split("/")[1] for key in KERAS if key.startswith(f"{kind}/"))
    assert names.keys() >= (without or set())  # a case that is left out must be there
    return [name for name in names if name not in (without or set())]


def recorded(prefix: str) -> dict[str, np.ndarray]:
    """The arrays under `prefix`, and the config as a dict."""
    found = {
        key.removeprefix(prefix + "/"): value
        for key, value in KERAS.items()
        if key.startswith(prefix + "/")
    }
    assert found
    return {k: json.loads(str(v)) if k == "config" else v for k, v in found.items()}


def schedule(config: dict[str, Any]) -> Any:
    return getattr(gpunn.schedules, config["class"])(**config["args"])


def optimizer(config: dict[str, Any]) -> Any:
    arguments = dict(config["args"])
    if isinstance(arguments["learning_rate"], dict):
        arguments["learning_rate"] = schedule(arguments["learning_rate"])
    return getattr(gpunn.optimizers, config["class"])(**arguments)


# Optimizers


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", cases("optimizer", NO_OPTIMIZER))
def test_optimizer_takes_keras_steps(name: str, device: str) -> None:
    case = recorded(f"optimizer/{name}")
    model = gpunn.Sequential(
        [gpunn.Input((7,)), gpunn.layers.Dense(5, "tanh"), gpunn.layers.Dense(3)]
    )
    model.compile(optimizer(case["config"]), "mse", device=device, precision="float64", seed=0)
    model.set_weights([case[weight][0] for weight in WEIGHTS])
    x, y = KERAS["optimizer_data/x"], KERAS["optimizer_data/y"]
    trainer = gpunn.Trainer(model, x, y, batch_size=8, shuffle=False)
    for step in range(12):
        assert trainer.learning_rate == pytest.approx(case["learning_rate"][step], rel=1e-13)
        before = trainer.logs()["loss"] * (step % 3) if step % 3 else 0.0
        loss = trainer.step()["loss"] * (step % 3 + 1) - before
        # The difference of two means over the epoch: a digit is lost.
        assert loss == pytest.approx(case["loss"][step], rel=1e-9)
        for weight, values in zip(WEIGHTS, model.get_weights(), strict=True):
            np.testing.assert_allclose(
                values, case[weight][step + 1], RTOL, ATOL, err_msg=f"{weight} after step {step}"
            )


@pytest.mark.parametrize("name", cases("defaults"))
def test_optimizer_defaults_are_keras(name: str) -> None:
    keras = json.loads(str(KERAS[f"defaults/{name}"]))
    # Keras has these for optimizer features that gpunn does not have; all are off.
    for missing in (
        "use_ema",
        "ema_momentum",
        "ema_overwrite_frequency",
        "loss_scale_factor",
        "gradient_accumulation_steps",
    ):
        del keras[missing]
    spec = getattr(gpunn.optimizers, name)()
    own = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    own["learning_rate"] = spec.schedule(0)
    del own["name"]  # the class's in Keras, and not recorded
    assert own == keras


@pytest.mark.parametrize("name", ["sgd", "adagrad", "rmsprop", "adam", "adamw"])
def test_optimizer_by_name_has_the_defaults(name: str) -> None:
    by_name = gpunn.optimizers.get(name)
    assert by_name.op == {"adamw": "adam"}.get(name, name)
    assert by_name == type(by_name)()


# Schedules


@pytest.mark.parametrize("name", cases("schedule", NO_SCHEDULE))
def test_schedule_follows_keras(name: str) -> None:
    case = recorded(f"schedule/{name}")
    spec = schedule(case["config"])
    values = [spec(step) for step in range(60)]
    # A power or a cosine in float64; the cosine's end is 0 only to rounding.
    np.testing.assert_allclose(values, case["values"], rtol=1e-13, atol=1e-17)


def test_no_schedule_that_gpunn_has_is_unrecorded() -> None:
    known = {recorded(f"schedule/{name}")["config"]["class"] for name in cases("schedule")}
    # Constant is in every optimizer's recording; OneCycle is PyTorch's.
    assert set(schedules._classes) <= known | {"Constant", "OneCycle"}


# Losses

LOSSES = [name for name in cases("loss") if "_probabilities" not in name]


def loss_model(case: dict[str, Any], device: str, rate: float = 1.0) -> Any:
    """An identity layer with the loss: the model's output is its input."""
    columns = case["predictions"].shape[1]
    loss = getattr(gpunn.losses, case["config"]["class"])(**case["config"]["args"])
    model = gpunn.Sequential([gpunn.Input((columns,)), gpunn.layers.Dense(columns)])
    model.compile(gpunn.optimizers.SGD(rate), loss, device=device, precision="float64", seed=0)
    model.set_weights([np.eye(columns), np.zeros(columns)])
    return model


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", LOSSES)
def test_loss_value_is_keras(name: str, device: str) -> None:
    case = recorded(f"loss/{name}")
    model = loss_model(case, device)
    value = model.evaluate(
        case["predictions"], case["targets"], sample_weight=case.get("sample_weight"), verbose=0
    )
    # atol: a loss may be 0 up to the rounding of logits of size 1000 (1000 * 1.1e-16).
    assert value == pytest.approx(float(case["value"]), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", LOSSES)
def test_loss_gradient_is_keras(name: str, device: str) -> None:
    case = recorded(f"loss/{name}")
    x, y, weights = case["predictions"], case["targets"], case.get("sample_weight")
    rows, columns = x.shape
    # y = x W + b, with W = 1 and b = 0: after one step of SGD at rate 1 the kernel has changed by
    # -x'g and the bias by -sum(g). One-hot inputs that are added to x single out each row of g:
    # the input of row r is [x_r, e_r], and the weights of e_r end as -g_r.
    loss = getattr(gpunn.losses, case["config"]["class"])(**case["config"]["args"])
    model = gpunn.Sequential(
        [gpunn.Input((columns + rows,)), gpunn.layers.Dense(columns, use_bias=False)]
    )
    model.compile(gpunn.optimizers.SGD(1.0), loss, device=device, precision="float64", seed=0)
    model.set_weights([np.concatenate([np.eye(columns), np.zeros((rows, columns))])])
    inputs = np.concatenate([x, np.eye(rows)], axis=1)
    model.fit(inputs, y, batch_size=rows, sample_weight=weights, shuffle=False, verbose=0)
    gradient = -model.get_weights()[0][columns:]
    # atol: 0 in one form is the difference of two numbers of size 1/16 in the other.
    np.testing.assert_allclose(gradient, case["gradient"], rtol=1e-12, atol=1e-16)


def test_no_loss_is_unrecorded() -> None:
    own = {"ExpressionLoss"}  # functions of the user's
    assert set(losses._classes) - own == {recorded(f"loss/{n}")["config"]["class"] for n in LOSSES}


@pytest.mark.parametrize(
    ("alias", "config"),
    [
        ("sparse_categorical_crossentropy", gpunn.losses.SparseCategoricalCrossentropy()),
        ("categorical_crossentropy", gpunn.losses.CategoricalCrossentropy()),
        ("binary_crossentropy", gpunn.losses.BinaryCrossentropy()),
        ("mse", gpunn.losses.MeanSquaredError()),
        ("mean_squared_error", gpunn.losses.MeanSquaredError()),
        ("mae", gpunn.losses.MeanAbsoluteError()),
        ("mean_absolute_error", gpunn.losses.MeanAbsoluteError()),
        ("huber", gpunn.losses.Huber(delta=1.0)),
        ("MeanSquaredError", gpunn.losses.MeanSquaredError()),
    ],
)
def test_loss_names_are_keras(alias: str, config: Any) -> None:
    assert gpunn.losses.get(alias) == config


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("name", "activation"),
    [
        ("sparse_categorical_crossentropy", "softmax"),
        ("categorical_crossentropy_soft", "softmax"),
        ("binary_crossentropy", "sigmoid"),
        ("binary_crossentropy_multilabel", "sigmoid"),
    ],
)
@pytest.mark.parametrize("suffix", ["", "_weighted"])
def test_probability_outputs_equal_logits(
    name: str, activation: str, suffix: str, device: str
) -> None:
    """The same loss with from_logits=False behind a softmax or sigmoid; also where separate."""
    case = recorded(f"loss/{name}{suffix}")
    columns = case["predictions"].shape[1]
    for head in (
        [gpunn.layers.Dense(columns, activation)],
        [gpunn.layers.Dense(columns), gpunn.layers.Activation(activation)],
    ):
        model = gpunn.Sequential([gpunn.Input((columns,)), *head])
        loss = getattr(gpunn.losses, case["config"]["class"])()
        model.compile("sgd", loss, device=device, precision="float64", seed=0)
        model.set_weights([np.eye(columns), np.zeros(columns)])
        value = model.evaluate(
            case["predictions"], case["targets"], sample_weight=case.get("sample_weight")
        )
        assert value == pytest.approx(float(case["value"]), rel=1e-12)


# Activations


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", [n for n in cases("activation") if n != "softmax"])
def test_activation_and_derivative_are_keras(name: str, device: str) -> None:
    """As a formula, and as a layer: the derivative from one step of SGD."""
    case = recorded(f"activation/{name}")
    x, y, dydx = case["x"], case["y"], case["dydx"]
    function = getattr(gpunn.activations, name)
    # Two formulas of one function; gelu and softplus near their tails lose a few digits of a
    # difference with 1, hence atol.
    np.testing.assert_allclose(function(x), y, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(function.derivative(x), dydx, rtol=1e-12, atol=1e-15)

    # One input row per value: input e_r, kernel row r is the value itself. With the loss MSE and
    # the target y - 1/2 the derivative of the loss by the output is (2 / rows) / 2 = 1 / rows.
    rows = len(x)
    model = gpunn.Sequential([gpunn.Input((rows,)), gpunn.layers.Dense(1, name, use_bias=False)])
    model.compile(gpunn.optimizers.SGD(1.0), "mse", device=device, precision="float64", seed=0)
    model.set_weights([x[:, np.newaxis]])
    np.testing.assert_allclose(model.predict(np.eye(rows))[:, 0], y, rtol=1e-12, atol=1e-15)
    model.fit(np.eye(rows), y - 0.5, batch_size=rows, shuffle=False, verbose=0)
    slope = (x - model.get_weights()[0][:, 0]) * rows
    # The step is found as a difference from weights of up to 100 (1.4e-14), times 69 rows, and
    # the target y - 1/2 rounds likewise.
    np.testing.assert_allclose(slope, dydx, rtol=1e-9, atol=2e-12)


@pytest.mark.parametrize("device", DEVICES)
def test_softmax_and_its_derivative_are_keras(device: str) -> None:
    case = recorded("activation/softmax")
    x, y, jacobian = case["x"], case["y"], case["dydx"]
    np.testing.assert_allclose(gpunn.activations.softmax(x), y, rtol=1e-12, atol=1e-300)
    rows, columns = x.shape
    # With the loss MSE the softmax is a layer of its own, with its own backward pass.
    rng = np.random.default_rng(0)
    direction = rng.normal(0.0, 1.0, (rows, columns))
    model = gpunn.Sequential(
        [gpunn.Input((rows,)), gpunn.layers.Dense(columns, "softmax", use_bias=False)]
    )
    model.compile(gpunn.optimizers.SGD(1.0), "mse", device=device, precision="float64", seed=0)
    model.set_weights([x])
    np.testing.assert_allclose(model.predict(np.eye(rows)), y, rtol=1e-12, atol=1e-300)
    model.fit(np.eye(rows), y - direction, batch_size=rows, shuffle=False, verbose=0)
    gradient = (x - model.get_weights()[0]) * rows * columns / 2
    wanted = np.einsum("ri,rij->rj", direction, jacobian)
    # As above: differences from weights of up to 100, times 25.
    np.testing.assert_allclose(gradient, wanted, rtol=1e-9, atol=2e-12)


# fit, evaluate, predict


def fit_model(case: dict[str, Any], device: str, regularized: bool) -> Any:
    config = case["config"]
    regularizer = gpunn.regularizers.L1L2(config["l1"], config["l2"]) if regularized else None
    model = gpunn.Sequential(
        [
            gpunn.Input((6,)),
            gpunn.layers.Dense(4, "relu", kernel_regularizer=regularizer),
            gpunn.layers.Dense(3, "softmax", kernel_regularizer=regularizer),
        ]
    )
    model.compile(
        optimizer=gpunn.optimizers.SGD(config["learning_rate"]),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        device=device,
        precision="float64",
        seed=0,
    )
    model.set_weights([case[f"initial/{weight}"] for weight in WEIGHTS])
    return model


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", cases("fit"))
def test_fit_evaluate_and_predict_are_keras(name: str, device: str) -> None:
    """20 rows in batches of 8: the last is ragged, and so are 7 rows of validation."""
    case, data = recorded(f"fit/{name}"), recorded("fit_data")
    config = case["config"]
    model = fit_model(case, device, "l1" in config)
    validation = (data["x_val"], data["y_val"])
    if config.get("validation_sample_weight"):
        validation += (data["val_sample_weight"],)
    class_weight = config.get("class_weight")
    history = model.fit(
        data["x"],
        data["y"],
        batch_size=config["batch_size"],
        epochs=config["epochs"],
        shuffle=False,
        verbose=0,
        sample_weight=data["sample_weight"] if config.get("sample_weight") else None,
        # JSON has made strings of the class numbers.
        class_weight=class_weight and {int(label): w for label, w in class_weight.items()},
        validation_data=validation,
    )
    wanted = {
        key.removeprefix("history/"): list(values)
        for key, values in case.items()
        # gpunn has no weighted_metrics.
        if key.startswith("history/") and "weighted_accuracy" not in key
    }
    assert history.history.keys() == wanted.keys()
    for key, values in wanted.items():
        np.testing.assert_allclose(history.history[key], values, rtol=1e-12, err_msg=key)
    for weight, values in zip(WEIGHTS, model.get_weights(), strict=True):
        np.testing.assert_allclose(values, case[f"final/{weight}"], RTOL, ATOL, err_msg=weight)
    for suffix, sample_weight in (("", None), ("_weighted", data["sample_weight"])):
        figures = model.evaluate(
            data["x"], data["y"], batch_size=8, sample_weight=sample_weight, return_dict=True
        )
        assert figures == {
            key: pytest.approx(float(case[f"evaluate{suffix}/{key}"]), rel=1e-12)
            for key in ("loss", "accuracy")
        }
    np.testing.assert_allclose(
        model.predict(data["x_val"], batch_size=3), case["predict"], rtol=1e-11
    )


# Normalization and Rescaling


@pytest.mark.parametrize("device", DEVICES)
def test_normalization_is_keras(device: str) -> None:
    """A constant column too: its deviation of 0 is replaced by Keras's epsilon."""
    case = recorded("norm/normalization")
    layer = gpunn.layers.Normalization()
    layer.adapt(case["x"])
    np.testing.assert_allclose(layer.mean, case["mean"].ravel(), rtol=1e-13)
    # The constant column's variance is exactly 0.
    np.testing.assert_allclose(layer.variance, case["variance"].ravel(), rtol=1e-12)
    model = gpunn.Sequential([gpunn.Input((4,)), layer, gpunn.layers.Dense(4)])
    model.compile("sgd", "mse", device=device, precision="float64", seed=0)
    model.get_layer("dense").set_weights([np.eye(4), np.zeros(4)])
    # (x - mean) of a column around -40 with deviation 10, or 0.01 with 0.001: 10 * 1.1e-16 * 40.
    for inputs, outputs in (("x", "y"), ("x_new", "y_new")):
        np.testing.assert_allclose(
            model.predict(case[inputs]), case[outputs], rtol=1e-11, atol=1e-13
        )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ["float64", "uint8"])
def test_rescaling_is_keras(dtype: str, device: str) -> None:
    case = recorded("norm/rescaling")
    model = gpunn.Sequential(
        [
            gpunn.Input((4,)),
            gpunn.layers.Rescaling(**case["config"]["args"]),
            gpunn.layers.Dense(4),
        ]
    )
    model.compile("sgd", "mse", device=device, precision="float64", seed=0)
    model.get_layer("dense").set_weights([np.eye(4), np.zeros(4)])
    # The offset cancels some of the pixels.
    np.testing.assert_allclose(model.predict(case["x"].astype(dtype)), case["y"], atol=1e-15)


# Initializers


@pytest.mark.parametrize("name", cases("initializer"))
def test_initializer_has_keras_distribution(name: str) -> None:
    case = recorded(f"initializer/{name}")
    spec = getattr(gpunn.initializers, case["config"]["class"])(**case["config"]["args"])
    shape = tuple(case["shape"])
    draws = np.stack([spec(shape, "float64", seed=seed) for seed in range(5)])
    assert draws.shape == (5, *shape)
    deviation = float(case["empirical_std"])
    # A mean of n = 100,000 draws has deviation std / sqrt(n), Keras's own million a third of
    # that; the deviation of an estimated std is at most std / sqrt(2 n). Five of each.
    assert abs(draws.mean()) < 5 * deviation * (1 / 1e5 + 1 / 1e6) ** 0.5
    assert draws.std() == pytest.approx(deviation, rel=5 * (1 / 2e5 + 1 / 2e6) ** 0.5)
    # The truncated normal is cut off at two of Keras's stddev.
    bound = float(case["limit"]) if "limit" in case else 2 * float(case["stddev"])
    # 100,000 draws come within 0.1 % of the end of a uniform one; the truncated normal's density
    # at its end is 0.057 per deviation, so that 1 % of the range holds some 200 draws.
    assert bound * 0.99 < np.abs(draws).max() <= bound


@pytest.mark.parametrize("name", cases("initializer"))
def test_initializer_name_stands_for_its_default(name: str) -> None:
    spec = getattr(gpunn.initializers, recorded(f"initializer/{name}")["config"]["class"])()
    assert gpunn.initializers.get(name) == spec


def test_initial_weights_depend_on_seed_and_variable() -> None:
    def weights(seed: int) -> list[np.ndarray]:
        model = gpunn.Sequential([gpunn.Input((9,)), *(gpunn.layers.Dense(9) for _ in range(3))])
        model.compile("sgd", "mse", seed=seed, device="reference")
        return model.get_weights()

    first, again, other = weights(1), weights(1), weights(2)
    kernels = first[::2] + other[::2]
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    for i, kernel in enumerate(kernels):
        assert np.unique(kernel).size == 81
        for earlier in kernels[:i]:
            assert not np.isin(kernel, earlier).any()
    for bias in first[1::2]:
        np.testing.assert_array_equal(bias, 0)


def test_dense_default_initializers_are_keras() -> None:
    layer = gpunn.layers.Dense(3)
    assert layer.kernel_initializer == gpunn.initializers.get("glorot_uniform")
    assert layer.bias_initializer == gpunn.initializers.Zeros()


def test_every_optimizer_is_recorded() -> None:
    known = {recorded(f"optimizer/{name}")["config"]["class"] for name in cases("optimizer")}
    assert set(optimizers._classes) == known
