"""Mistakes with the lower level: what Python, NumPy and users ask of tensors without values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from gpunn import ops
from gpunn import symbolic as tf
from gpunn.errors import ArgumentError, ArgumentTypeError, GpunnError

X = np.random.default_rng(0).normal(0.0, 1.0, (20, 4)).astype(np.float32)


@pytest.fixture(autouse=True)
def graph() -> Iterator[None]:
    tf.reset_default_graph()
    yield
    tf.reset_default_graph()


def rows() -> Any:
    return tf.layers.dense(tf.placeholder(tf.float32, (None, 4), name="X"), 2, name="out")


def loss() -> Any:
    targets = tf.placeholder(tf.float32, (None, 2))
    return tf.reduce_mean(tf.square(rows() - targets))


def get_twice() -> None:
    for _ in range(2):
        tf.get_variable("kernel", shape=(3, 3))


Case = tuple[Callable[[], Any], type[GpunnError], str]
NO_VALUE = "has no value while the graph is built"
CASES: dict[str, Case] = {
    "compared": (lambda: loss() > 3, ArgumentTypeError, NO_VALUE),
    "float": (lambda: float(loss()), ArgumentTypeError, NO_VALUE),
    "indexed": (lambda: rows()[0], ArgumentTypeError, NO_VALUE),
    "len": (lambda: len(rows()), ArgumentTypeError, NO_VALUE),
    "NumPy's function": (lambda: np.exp(rows()), ArgumentTypeError, "NumPy's functions do not"),
    "array + tensor": (lambda: np.ones((1, 2)) + rows(), ArgumentTypeError, "add: is not supp"),
    "array @ tensor": (lambda: X @ rows(), ArgumentTypeError, "matmul: the second factor must"),
    "1 / tensor": (lambda: 1 / rows(), ArgumentTypeError, "divide: is not supported"),
    "power": (lambda: rows() ** 3, ArgumentTypeError, "exponent 2 alone"),
    "session of no graph": (lambda: tf.Session("grpc://"), ArgumentTypeError, "must be a tf.Graph"),
    "save without a session": (
        lambda: tf.train.Saver().save(None, "a.ckpt"),
        ArgumentTypeError,
        "Saver.save: the first argument must be the session, not None",
    ),
    "restore without a session": (
        lambda: tf.train.Saver().restore("a.ckpt", "a.ckpt"),
        ArgumentTypeError,
        "Saver.restore: the first argument must be the session",
    ),
    "constant in place of a placeholder": (
        lambda: tf.matmul(tf.constant(X, name="X"), tf.Variable(tf.zeros((4, 1)))),
        ArgumentTypeError,
        "matmul: cannot be used on a InitialValue",
    ),
    "variable twice": (get_twice, ArgumentError, "there is a 'kernel' already"),
    "activation of nothing": (
        lambda: tf.layers.dense(tf.placeholder(tf.float32, (None, 4)), 2, lambda z: None),
        ArgumentTypeError,
        "is a return missing?",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_mistake_is_named(name: str) -> None:
    act, kind, message = CASES[name]
    with pytest.raises(kind) as caught:
        act()
    assert message in str(caught.value)


def test_numbers_of_numpy_keep_their_operators() -> None:
    out = rows()
    twice, moved = np.float32(2) * out, np.float64(1) - out
    with tf.Session(seed=1) as sess:
        tf.global_variables_initializer().run()
        plain, doubled, rest = sess.run([out, twice, moved], {_placeholder(out): X})
    np.testing.assert_allclose(doubled, 2 * plain, rtol=1e-6)
    np.testing.assert_allclose(rest, 1 - plain, rtol=1e-6)


def _placeholder(tensor: Any) -> Any:
    return tensor.graph.operations["X"]


def test_square_and_absolute_by_operators() -> None:
    out = rows()
    targets = tf.placeholder(tf.float32, (None, 2))
    squared = tf.reduce_mean((out - targets) ** 2)
    absolute = tf.reduce_mean(abs(out - targets))
    y = np.ones((20, 2), np.float32)
    with tf.Session(seed=1) as sess:
        tf.global_variables_initializer().run()
        feeds = {_placeholder(out): X, targets: y}
        got, mse, mae = sess.run([out, squared, absolute], feeds)
    assert mse == pytest.approx(np.mean((got - y) ** 2), rel=1e-5)
    assert mae == pytest.approx(np.mean(np.abs(got - y)), rel=1e-5)


@pytest.mark.parametrize(
    "function",
    [lambda z: ops.maximum(0.01 * z, z), lambda z: tf.nn.leaky_relu(z, 0.01)],
    ids=["with gpunn.ops", "with tf.nn"],
)
def test_activation_of_the_users(function: Callable[[Any], Any]) -> None:
    x = tf.placeholder(tf.float32, (None, 4))
    hidden = tf.layers.dense(x, 3, activation=function, name="hidden")
    names = set(tf.get_default_graph()._layers)
    with tf.Session(seed=1) as sess:
        tf.global_variables_initializer().run()
        kernel, bias = (sess.run(v) for v in tf.trainable_variables())
        z = X @ kernel + bias
        np.testing.assert_allclose(hidden.eval({x: X}), np.where(z > 0, z, 0.01 * z), atol=1e-6)
    assert sum(name.startswith("hidden.") for name in names) == 1  # none is named in vain
