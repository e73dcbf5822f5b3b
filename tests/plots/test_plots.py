"""Pictures: the data that is drawn, where it is drawn, and what is refused."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

import gpunn
from gpunn.errors import (
    ArgumentError,
    ArgumentTypeError,
    DataError,
    NotBuiltError,
    ShapeError,
    UnknownNameError,
)
from gpunn.plots import (
    ActivationDisplay,
    ConfusionMatrixDisplay,
    LearningCurveDisplay,
    MisclassifiedDisplay,
    WeightsDisplay,
)

CURVES = {"loss": [3.0, 2.0, 1.5], "accuracy": [0.1, 0.5, 0.6], "val_loss": [2.5, 2.0, 1.9]}


@pytest.fixture(autouse=True)
def figures() -> Iterator[Any]:
    """Draw without a screen; every figure must also render."""
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    yield plt
    for number in plt.get_fignums():
        plt.figure(number).canvas.draw()
    plt.close("all")


def classifier(classes: int = 3, shape: tuple[int, ...] = (2, 3), **head: Any) -> gpunn.Model:
    """Return a model whose outputs are the softmax of the first pixels of an image."""
    layers = gpunn.layers
    head = {"activation": "softmax"} | head
    model = gpunn.Sequential(
        [
            gpunn.Input(shape),
            layers.Flatten(),
            layers.Dense(4, name="hidden"),
            layers.Dense(classes, name="outputs", **head),
        ]
    )
    kernel = np.zeros((int(np.prod(shape)), 4))
    kernel[:4, :4] = np.eye(4)
    model.set_weights([kernel, np.zeros(4), np.eye(4, classes), np.zeros(classes)])
    return model


def logits_as_images(*logits: list[float]) -> np.ndarray:
    images = np.zeros((len(logits), 6), np.float32)
    images[:, :3] = logits
    return images.reshape(-1, 2, 3)


# True classes 0, 1, 2, 1; predicted 0, 0, 0, 2: three mistakes, the third row the surest of them.
IMAGES = logits_as_images([2, 0, 0], [1, 0, 0], [4, 0, 0], [0, 0, 2])
LABELS = np.array([0, 1, 2, 1])


# Learning curves


def test_a_learning_curve_has_a_panel_for_each_metric() -> None:
    display = LearningCurveDisplay.from_history(CURVES)
    assert [axes.get_title("left") for axes in display.ax_] == ["loss", "accuracy"]
    assert set(display.lines_) == set(CURVES)
    for name, line in display.lines_.items():
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
        np.testing.assert_array_equal(line.get_ydata(), CURVES[name])
    labels = [text.get_text() for text in display.ax_[0].get_legend().get_texts()]
    assert labels == ["training", "validation"]
    assert display.ax_[0].get_xlabel() == "epoch"
    assert {axes.figure for axes in display.ax_} == {display.figure_}


def test_a_learning_curve_of_a_fit(figures: Any) -> None:
    model = classifier()
    model.compile("sgd", "sparse_categorical_crossentropy", ["accuracy"], device="cpu", seed=1)
    history = model.fit(
        IMAGES, LABELS, epochs=2, validation_data=(IMAGES, LABELS), verbose=0, batch_size=2
    )
    for given in (history, model.history, model, history.history):
        display = LearningCurveDisplay.from_history(given)
        drawn = {name: list(line.get_ydata()) for name, line in display.lines_.items()}
        assert drawn == history.history
        assert list(display.lines_["loss"].get_xdata()) == [1, 2]


def test_a_figure_of_some_epochs_has_points_there() -> None:
    class Seldom(gpunn.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch % 5 == 1:
                logs["f1"] = epoch / 100

    model = classifier()
    model.compile("sgd", "sparse_categorical_crossentropy", device="cpu", seed=1)
    history = model.fit(IMAGES, LABELS, epochs=14, verbose=0, batch_size=2, callbacks=[Seldom()])
    for given in (history, model):
        lines = LearningCurveDisplay.from_history(given).lines_
        assert lines["f1"].get_xydata().tolist() == [[2, 0.01], [7, 0.06], [12, 0.11]]
        assert lines["f1"].get_marker() == "o" and lines["loss"].get_marker() == ""
    with pytest.raises(ShapeError, match="'f1' has 3 values for 14 epochs"):
        LearningCurveDisplay.from_history({"loss": [1.0] * 14, "f1": [0.01, 0.06, 0.11]})


def test_one_metric_is_drawn_into_the_axes_given(figures: Any) -> None:
    figure, axes = figures.subplots()
    display = LearningCurveDisplay.from_history(CURVES, metrics="loss", ax=axes)
    assert display.ax_.tolist() == [axes]
    assert display.figure_ is figure
    assert len(axes.lines) == 2


def test_panels_take_an_array_of_axes_or_share_one(figures: Any) -> None:
    _, several = figures.subplots(2, 1)
    display = LearningCurveDisplay.from_history(CURVES, ax=several)
    assert display.ax_.tolist() == several.tolist()
    for layout in (None, "constrained"):
        figure, (left, right) = figures.subplots(1, 2, layout=layout)
        place = left.get_position()
        display = LearningCurveDisplay.from_history(CURVES, ax=left)
        assert display.figure_ is figure
        assert len(figure.axes) == 4
        for axes in display.ax_:
            assert place.x0 <= axes.get_position().x0 < axes.get_position().x1 <= place.x1 + 1e-9
        assert not right.lines
    free = figures.figure().add_axes((0.1, 0.2, 0.5, 0.5))
    first, second = LearningCurveDisplay.from_history(CURVES, ax=free).ax_
    assert first.get_position().x0 == pytest.approx(0.1)
    assert second.get_position().x1 == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("history", "error", "message"),
    [
        ({}, DataError, "history has no epochs"),
        ({"loss": []}, DataError, "history has no epochs"),
        ({"loss": [1.0], "accuracy": [1.0, 2.0]}, ShapeError, "'accuracy' has 2 values for 1"),
        ([1.0, 2.0], ArgumentTypeError, "history must be what fit returned"),
        (classifier(), DataError, "history: the model has not been trained yet"),
    ],
)
def test_a_history_that_is_none(history: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        LearningCurveDisplay.from_history(history)


def test_axes_and_metrics_that_do_not_fit(figures: Any) -> None:
    with pytest.raises(UnknownNameError, match="metrics 'los'; did you mean 'loss'"):
        LearningCurveDisplay.from_history(CURVES, metrics=["los"])
    with pytest.raises(ArgumentTypeError, match="ax must be a matplotlib Axes"):
        LearningCurveDisplay.from_history(CURVES, ax="left")
    with pytest.raises(ShapeError, match="ax has 3 Axes, but there are 2 panels"):
        LearningCurveDisplay.from_history(CURVES, ax=figures.subplots(3)[1])


# Activation functions


def test_activations_and_derivatives() -> None:
    display = ActivationDisplay.from_names(["step", "sigmoid", "tanh", "relu"])
    left, right = display.ax_
    drawn = {line.get_label(): line.get_xydata().T for line in left.lines}
    z, relu = drawn["relu"]
    np.testing.assert_allclose(relu, np.maximum(z, 0))
    np.testing.assert_allclose(drawn["tanh"][1], np.tanh(z))
    np.testing.assert_allclose(drawn["step"][1], z >= 0)
    assert (z[0], z[-1]) == (-5, 5)
    slopes = {line.get_label(): line.get_ydata() for line in right.lines}
    np.testing.assert_allclose(slopes["tanh"], 1 - np.tanh(z) ** 2, atol=1e-12)
    sigmoid = 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(slopes["sigmoid"], sigmoid * (1 - sigmoid), atol=1e-12)
    assert not slopes["step"].any()
    crosses = [line for line in right.lines if line.get_marker() == "x"]
    assert [line.get_xydata().tolist() for line in crosses] == [[[0, 0]]]
    legend = [text.get_text() for text in left.get_legend().get_texts()]
    assert legend == ["step", "sigmoid", "tanh", "relu"]


def test_activations_by_spec() -> None:
    leaky = gpunn.activations.ActivationFunction("leaky_relu", 0.01)
    display = ActivationDisplay.from_names(["leaky_relu", leaky, "swish"], limits=(-1, 1))
    assert display.names == ["leaky_relu", "leaky_relu(0.01)", "silu"]
    np.testing.assert_allclose(display.values[:2, 0], [-0.2, -0.01])
    assert display.ax_[0].get_xlim() == (-1, 1)
    assert ActivationDisplay.from_names("elu").names == ["elu"]


def test_activations_without_a_curve() -> None:
    with pytest.raises(ArgumentError, match="names: 'softmax' is a function of all outputs"):
        ActivationDisplay.from_names(["relu", "softmax"])
    with pytest.raises(UnknownNameError, match="did you mean 'relu'"):
        ActivationDisplay.from_names(["relo"])
    with pytest.raises(ArgumentError, match="names is empty"):
        ActivationDisplay.from_names([])
    with pytest.raises(ArgumentError, match="limits must be finite, the smaller first"):
        ActivationDisplay.from_names(["relu"], limits=(1, -1))
    with pytest.raises(ArgumentTypeError, match="limits must be two numbers"):
        ActivationDisplay.from_names(["relu"], limits=5)  # type: ignore[arg-type]


# Confusion matrices


@pytest.mark.parametrize("normalize", [None, "true", "pred", "all"])
def test_the_confusion_matrix_is_that_of_scikit_learn(normalize: str | None) -> None:
    from sklearn.metrics import confusion_matrix

    rng = np.random.default_rng(3)
    true, predicted = rng.integers(0, 5, 100), rng.integers(0, 5, 100)
    display = ConfusionMatrixDisplay.from_predictions(true, predicted, normalize=normalize)
    expected = confusion_matrix(true, predicted, normalize=normalize)
    np.testing.assert_allclose(display.confusion_matrix, expected)
    np.testing.assert_allclose(display.im_.get_array(), expected)
    written = np.vectorize(lambda text: float(text.get_text()))(display.text_)
    np.testing.assert_allclose(written, expected, atol=0.005)
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == (
        "predicted class",
        "true class",
    )


def test_predictions_may_be_probabilities_numbers_or_texts() -> None:
    probabilities = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1]])
    display = ConfusionMatrixDisplay.from_predictions([0, 0], probabilities)
    assert display.confusion_matrix.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]
    display = ConfusionMatrixDisplay.from_predictions(["ham", "spam"], ["ham", "ham"])
    assert display.confusion_matrix.tolist() == [[1, 0], [1, 0]]
    assert [text.get_text() for text in display.ax_.get_xticklabels()] == ["ham", "spam"]
    display = ConfusionMatrixDisplay.from_predictions([2, 7], [2, 2], labels=[7, 2])
    assert display.confusion_matrix.tolist() == [[0, 1], [0, 1]]
    assert display.display_labels == ["7", "2"]
    display = ConfusionMatrixDisplay.from_predictions([1], [1], display_labels=["no", "yes"])
    assert display.confusion_matrix.tolist() == [[0, 0], [0, 1]]


def test_many_classes_have_a_colour_bar_in_place_of_numbers() -> None:
    numbers = np.arange(40)
    display = ConfusionMatrixDisplay.from_predictions(numbers, numbers)
    assert display.text_ is None
    assert len(display.figure_.axes) == 2
    assert len(display.ax_.get_xticks()) <= 12


def test_the_confusion_matrix_of_a_model(figures: Any) -> None:
    _, axes = figures.subplots()
    display = ConfusionMatrixDisplay.from_model(
        classifier(), IMAGES, LABELS, display_labels=["a", "b", "c"], ax=axes
    )
    assert display.confusion_matrix.tolist() == [[1, 0, 0], [1, 0, 1], [1, 0, 0]]
    assert display.ax_ is axes
    one_hot = ConfusionMatrixDisplay.from_model(classifier(), IMAGES, np.eye(3)[LABELS])
    assert one_hot.confusion_matrix.tolist() == display.confusion_matrix.tolist()


def test_two_classes_with_one_output() -> None:
    model = classifier(1, activation="sigmoid")
    images = logits_as_images([2, 0, 0], [-2, 0, 0], [3, 0, 0])
    display = ConfusionMatrixDisplay.from_model(model, images, [1, 0, 0])
    assert display.confusion_matrix.tolist() == [[1, 1], [0, 1]]
    model = classifier(1, activation=None)
    loss = gpunn.losses.BinaryCrossentropy(from_logits=True)
    model.compile("sgd", loss, device="cpu")
    display = ConfusionMatrixDisplay.from_model(model, images, [1, 0, 0])
    assert display.confusion_matrix.tolist() == [[1, 1], [0, 1]]


@pytest.mark.parametrize(
    ("true", "predicted", "options", "error", "message"),
    [
        ([0, 1], [0], {}, ShapeError, "y_pred has 1 rows, but y_true has 2"),
        ([0, 1], [0.2, 0.7], {}, DataError, "y_pred must be classes, not numbers such as 0.2"),
        ([0, 3], np.eye(3)[[0, 1]], {}, DataError, "y_true has class 3; there are 3 classes"),
        ([0, 1], [0, 1], {"labels": [0]}, DataError, "y_true has class 1, which is not among"),
        ([0, 1], [0, 2], {"display_labels": ["a", "b"]}, DataError, "y_pred has class 2"),
        ([0, 1], [0, 1], {"normalize": "row"}, UnknownNameError, "Unknown normalize 'row'"),
        ([[0, 1]], [0, 1], {}, ShapeError, "y_true has shape"),
        ([], [], {}, DataError, "y_true has no rows"),
    ],
)
def test_predictions_that_do_not_fit(
    true: Any, predicted: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ConfusionMatrixDisplay.from_predictions(true, predicted, **options)


def test_models_and_matrices_that_do_not_fit() -> None:
    with pytest.raises(DataError, match="y has class 3; there are 3 classes, from 0 to 2"):
        ConfusionMatrixDisplay.from_model(classifier(), IMAGES, [0, 1, 2, 3])
    with pytest.raises(ShapeError, match="y has 3 rows, but x has 4"):
        ConfusionMatrixDisplay.from_model(classifier(), IMAGES, [0, 1, 2])
    with pytest.raises(ArgumentError, match="model must be a classifier"):
        ConfusionMatrixDisplay.from_model(classifier(activation=None), IMAGES, LABELS)
    regression = classifier(1, activation="sigmoid")
    regression.compile("sgd", "mse", device="cpu")
    with pytest.raises(ArgumentError, match="model must be a classifier"):
        ConfusionMatrixDisplay.from_model(regression, IMAGES, LABELS)
    with pytest.raises(ShapeError, match="display_labels must be 3 strings"):
        ConfusionMatrixDisplay.from_model(classifier(), IMAGES, LABELS, display_labels=["a"])
    with pytest.raises(ShapeError, match=re.escape("confusion_matrix has shape (2, 3)")):
        ConfusionMatrixDisplay(np.zeros((2, 3)))


# Mistaken images


def test_mistakes_are_drawn_most_confident_first() -> None:
    display = MisclassifiedDisplay.from_model(
        classifier(), IMAGES, LABELS, display_labels=["ant", "bee", "cat"]
    )
    assert display.indices.tolist() == [2, 3, 1]
    for axes, index in zip(display.ax_, display.indices, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), IMAGES[index])
        assert axes.images[0].get_clim() == (0, 4)
    sure = np.exp(4) / (np.exp(4) + 2)
    assert display.ax_[0].get_title() == f"pred. ant ({sure:.0%})\ntrue cat"
    assert display.figure_.get_suptitle() == "3 mistakes in 4 images"
    first = MisclassifiedDisplay.from_model(classifier(), IMAGES, LABELS, max_images=1)
    assert len(first.ax_) == 1
    assert first.figure_.get_suptitle() == "3 mistakes in 4 images, the surest"


def test_mistakes_in_rows_of_pixels_and_in_colours() -> None:
    rows = IMAGES.reshape(4, 6)
    display = MisclassifiedDisplay.from_model(
        classifier(shape=(6,)), rows, LABELS, image_shape=(2, 3)
    )
    np.testing.assert_array_equal(display.images, IMAGES)
    colours = np.random.default_rng(1).integers(0, 256, (2, 2, 2, 3), dtype=np.uint8)
    drawn = MisclassifiedDisplay(colours, [0, 1], [1, 0], [0.5, 0.6]).plot()
    np.testing.assert_array_equal(drawn.ax_[0].images[0].get_array(), colours[1])
    np.testing.assert_array_equal(
        MisclassifiedDisplay(IMAGES[..., None], LABELS, LABELS, np.ones(4)).images, IMAGES
    )


def test_no_mistakes_are_said_to_be_none() -> None:
    display = MisclassifiedDisplay.from_model(classifier(), IMAGES[:1], LABELS[:1])
    assert [text.get_text() for text in display.ax_[0].texts] == ["no mistakes in 1 image"]


def test_images_that_do_not_fit() -> None:
    flat, model = IMAGES.reshape(4, 6), classifier(shape=(6,))
    with pytest.raises(ShapeError, match=r"images has shape \(4, 6\).*give image_shape="):
        MisclassifiedDisplay.from_model(model, flat, LABELS)
    with pytest.raises(ShapeError, match=r"image_shape \(2, 2\) has 4 pixels.* have 6"):
        MisclassifiedDisplay.from_model(model, flat, LABELS, image_shape=(2, 2))
    with pytest.raises(ShapeError, match="labels has 3 rows, but images has 4"):
        MisclassifiedDisplay.from_model(classifier(), IMAGES, LABELS[:3])
    with pytest.raises(DataError, match="labels has class -1"):
        MisclassifiedDisplay.from_model(classifier(), IMAGES, -LABELS)
    with pytest.raises(ArgumentError, match="max_images must be a whole number"):
        MisclassifiedDisplay.from_model(classifier(), IMAGES, LABELS, max_images=0)


# Weights


def test_weights_as_images_on_one_scale_around_zero() -> None:
    model = classifier()
    kernel = np.random.default_rng(4).normal(size=(6, 4)).astype(np.float32)
    model.get_layer("hidden").set_weights([kernel, np.zeros(4)])
    display = WeightsDisplay.from_model(model)
    assert len(display.ax_) == 4
    for unit, axes in enumerate(display.ax_):
        (image,) = axes.images
        np.testing.assert_array_equal(image.get_array(), kernel[:, unit].reshape(2, 3))
        low, high = image.get_clim()
        assert -low == high > 0
        assert (low, high) == display.ax_[0].images[0].get_clim()
        assert axes.get_title() == f"unit {unit}"
    some = WeightsDisplay.from_model(model, "hidden", max_units=3)
    assert len(some.ax_) == 3
    assert some.figure_.get_suptitle() == "the first 3 of 4 units"


def test_weights_of_another_layer(figures: Any) -> None:
    figure, axes = figures.subplots()
    display = WeightsDisplay.from_model(classifier(), "outputs", (2, 2), ax=axes)
    assert display.figure_ is figure
    np.testing.assert_array_equal(display.images, np.eye(4, 3).T.reshape(3, 2, 2))
    by_position = WeightsDisplay.from_model(classifier(), -1, (2, 2))
    np.testing.assert_array_equal(by_position.images, display.images)
    zeros = WeightsDisplay(np.zeros((4, 1)), (2, 2)).plot()
    assert zeros.ax_[0].images[0].get_clim() == (-1, 1)


def test_weights_that_are_no_images() -> None:
    with pytest.raises(ArgumentError, match="image_shape must be given: the layer has 4 inputs"):
        WeightsDisplay.from_model(classifier(), "outputs")
    with pytest.raises(ArgumentError, match="image_shape must be given: the layer has 6 inputs"):
        WeightsDisplay.from_model(classifier(shape=(6,)))
    with pytest.raises(ShapeError, match=r"image_shape \(2, 2\) has 4 pixels.* has 6 inputs"):
        WeightsDisplay.from_model(classifier(), image_shape=(2, 2))
    with pytest.raises(ShapeError, match=r"image_shape must be \(height, width\), not 6"):
        WeightsDisplay.from_model(classifier(), image_shape=6)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"layer: 'flatten' \(Flatten\) has no kernel"):
        WeightsDisplay.from_model(classifier(), "flatten")
    with pytest.raises(UnknownNameError, match="did you mean 'hidden'"):
        WeightsDisplay.from_model(classifier(), "hiden")
    with pytest.raises(ArgumentTypeError, match="layer must be a name or an index"):
        WeightsDisplay.from_model(classifier(), 1.5)  # type: ignore[arg-type]


# Models


def wide_and_deep() -> gpunn.Model:
    layers = gpunn.layers
    inputs = gpunn.Input((8,), name="inputs")
    first = layers.Dense(30, activation="relu", name="first")(inputs)
    second = layers.Dense(20, activation="relu", name="second")(first)
    both = layers.Concatenate(name="both")([inputs, second])
    return gpunn.Model(inputs, layers.Dense(1, name="output")(both))


@pytest.mark.parametrize("rankdir", ["TB", "LR"])
def test_a_model_is_drawn_in_its_direction(tmp_path: Path, rankdir: str) -> None:
    figure = gpunn.utils.plot_model(wide_and_deep(), tmp_path / "model.png", rankdir=rankdir)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == [
        "inputs\nInput\n(None, 8)",
        "first\nDense, relu\n(None, 30)",
        "second\nDense, relu\n(None, 20)",
        "both\nConcatenate\n(None, 28)",
        "output\nDense\n(None, 1)",
    ]
    x, y = np.transpose([text.get_position() for text in axes.texts])
    ahead = -y if rankdir == "TB" else x
    assert (np.diff(ahead) > 0).all()
    arrows = [patch for patch in axes.patches if hasattr(patch, "set_arrowstyle")]
    boxes = [patch for patch in axes.patches if patch not in arrows]
    assert (len(arrows), len(boxes)) == (5, 5)
    # The arrow past two layers does not run through their boxes.
    for arrow in arrows:
        line = arrow.get_path().interpolated(50).vertices
        for box in boxes:
            (left, bottom), (right, top) = box.get_bbox().get_points()
            inside = (line > (left + 0.03, bottom + 0.03)) & (line < (right - 0.03, top - 0.03))
            assert not inside.all(axis=1).any()
    assert (tmp_path / "model.png").read_bytes().startswith(b"\x89PNG")


def test_a_model_as_svg_without_shapes(tmp_path: Path) -> None:
    figure = gpunn.utils.plot_model(classifier(), tmp_path / "model.svg", show_shapes=False)
    assert "<svg" in (tmp_path / "model.svg").read_text()
    names = [text.get_text().split("\n") for text in figure.axes[0].texts]
    assert names[-1] == ["outputs", "Dense, softmax"]
    gpunn.utils.plot_model(classifier(), None)
    assert len(list(tmp_path.iterdir())) == 1


def test_models_that_cannot_be_drawn() -> None:
    with pytest.raises(UnknownNameError, match="Unknown rankdir 'BT'"):
        gpunn.utils.plot_model(classifier(), None, rankdir="BT")
    with pytest.raises(ArgumentError, match="to_file must end in"):
        gpunn.utils.plot_model(classifier(), "model.gif")
    with pytest.raises(NotBuiltError, match="model is not built"):
        gpunn.utils.plot_model(gpunn.Sequential([gpunn.layers.Dense(1)]), None)
    with pytest.raises(ArgumentTypeError, match="model must be a gpunn model, not 3"):
        gpunn.utils.plot_model(3)
    with pytest.raises(ArgumentTypeError, match="to_file must be a path or None, not 3"):
        gpunn.utils.plot_model(classifier(), 3)
    for dpi, error in (("high", ArgumentTypeError), (0, ArgumentError)):
        with pytest.raises(error, match="plot_model: dpi must be a number above 0"):
            gpunn.utils.plot_model(classifier(), None, dpi=dpi)


def test_keras_arguments_of_plot_model() -> None:
    model = classifier()
    # In Keras's order, with the values that Keras has for them by default.
    keras = (False, False, False, "TB", False, 200, False, False)
    figure = gpunn.utils.plot_model(model, None, *keras, splines="ortho", layer_range=None)
    assert [text.get_text() for text in figure.axes[0].texts][-1] == "Dense"
    assert figure.dpi == 200
    figure = gpunn.utils.plot_model(model, None, show_layer_names=False, expand_nested=True)
    assert [text.get_text() for text in figure.axes[0].texts][-1] == "Dense, softmax\n(None, 3)"
    for name, value in (("show_dtype", True), ("show_trainable", True), ("splines", "curved")):
        with pytest.raises(ArgumentError, match=f"plot_model: {name} is not supported; leave it"):
            gpunn.utils.plot_model(model, None, **{name: value})
    with pytest.raises(UnknownNameError, match="Unknown argument of plot_model 'show_shape'"):
        gpunn.utils.plot_model(model, None, show_shape=True)


# matplotlib


def test_without_matplotlib_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    monkeypatch.delattr(matplotlib, "pyplot")
    with pytest.raises(ImportError, match="pip install matplotlib"):
        ActivationDisplay.from_names(["relu"])


def test_plot_returns_the_display_and_draws_again() -> None:
    for display in (
        ActivationDisplay.from_names(["relu"]),
        LearningCurveDisplay.from_history(CURVES),
        ConfusionMatrixDisplay.from_predictions([0, 1], [0, 1]),
        MisclassifiedDisplay.from_model(classifier(), IMAGES, LABELS),
        WeightsDisplay.from_model(classifier()),
    ):
        before = display.figure_
        assert display.plot() is display
        assert display.figure_ is not before
