"""The lower level: graphs that are built first and run later, as in plain TensorFlow 1."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gpunn
from gpunn import symbolic as tf

DEVICES = ("reference", "cpu", "simulator")
ROWS, INPUTS, CLASSES = 53, 6, 4
rng = np.random.default_rng(5)
DATA = rng.normal(size=(ROWS, INPUTS)).astype(np.float32)
LABELS = (DATA[:, 0] > 0) * 2 + (DATA[:, 1] > 0)
ONE_HOT = np.eye(CLASSES, dtype=np.float32)[LABELS]


@pytest.fixture(autouse=True)
def fresh_graph() -> Iterator[None]:
    tf.reset_default_graph()
    yield
    tf.reset_default_graph()


def neuron_layer(inputs: Any, n_neurons: int, name: str, activation: Any = None) -> Any:
    with tf.name_scope(name):
        n_inputs = int(inputs.get_shape()[1])
        init = tf.truncated_normal((n_inputs, n_neurons), stddev=2 / np.sqrt(n_inputs))
        W = tf.Variable(init, name="kernel")
        b = tf.Variable(tf.zeros([n_neurons]), name="bias")
        Z = tf.matmul(inputs, W) + b
        return Z if activation is None else activation(Z)


def build(optimizer: Any = None, hidden: int = 16, dropout: float = 0.0) -> SimpleNamespace:
    """Build the text's network."""
    X = tf.placeholder(tf.float32, shape=(None, INPUTS), name="X")
    y = tf.placeholder(tf.int64, shape=(None), name="y")
    with tf.name_scope("dnn"):
        hidden1 = neuron_layer(X, hidden, "hidden1", tf.nn.relu)
        if dropout:
            hidden1 = tf.layers.dropout(hidden1, dropout)
        hidden2 = neuron_layer(hidden1, 8, "hidden2", tf.nn.relu)
        logits = neuron_layer(hidden2, CLASSES, "outputs")
    with tf.name_scope("loss"):
        xentropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
        loss = tf.reduce_mean(xentropy, name="loss")
    with tf.name_scope("train"):
        optimizer = optimizer or tf.train.GradientDescentOptimizer(0.1)
        training_op = optimizer.minimize(loss)
    with tf.name_scope("eval"):
        correct = tf.nn.in_top_k(logits, y, 1)
        accuracy = tf.reduce_mean(tf.cast(correct, tf.float32))
    return SimpleNamespace(
        X=X, y=y, logits=logits, xentropy=xentropy, loss=loss, training_op=training_op,
        correct=correct, accuracy=accuracy, init=tf.global_variables_initializer(),
        saver=tf.train.Saver(),
    )  # fmt: skip


def batches(net: SimpleNamespace, size: int = 10) -> Iterator[dict[Any, Any]]:
    for start in range(0, ROWS, size):
        rows = slice(start, start + size)
        yield {net.X: DATA[rows], net.y: LABELS[rows]}


def weights(sess: Any) -> list[Any]:
    return sess.run(tf.trainable_variables())


# The text's program


@pytest.mark.parametrize("device", DEVICES)
def test_the_program_of_the_text(device: str, tmp_path: Path) -> None:
    net = build()
    epochs = 3 if device == "simulator" else 60
    with tf.Session(device=device, seed=1) as sess:
        net.init.run()
        before = net.loss.eval(feed_dict={net.X: DATA, net.y: LABELS})
        for _ in range(epochs):
            for feed in batches(net):
                assert sess.run(net.training_op, feed_dict=feed) is None
        after = sess.run(net.loss, feed_dict={net.X: DATA, net.y: LABELS})
        accuracy = net.accuracy.eval(feed_dict={net.X: DATA, net.y: LABELS})
        save_path = net.saver.save(sess, str(tmp_path / "my_model_final.ckpt"))
        Z = net.logits.eval(feed_dict={net.X: DATA})
    assert after < before
    assert device == "simulator" or accuracy > 0.9
    assert accuracy == np.mean(Z.argmax(axis=1) == LABELS)
    with tf.Session(device=device) as sess:
        net.saver.restore(sess, save_path)
        np.testing.assert_array_equal(net.logits.eval(feed_dict={net.X: DATA}), Z)


def test_devices_agree() -> None:
    net, results = build(tf.train.AdamOptimizer(0.01), dropout=0.25), []
    for device in DEVICES:
        with tf.Session(device=device, seed=3) as sess:
            net.init.run()
            losses = [sess.run([net.training_op, net.loss], feed)[1] for feed in batches(net)]
            results.append((losses, net.logits.eval({net.X: DATA})))
    for losses, logits in results[1:]:
        # Three layers of float32 products that add up in another order.
        np.testing.assert_allclose(losses, results[0][0], rtol=2e-6)
        np.testing.assert_allclose(logits, results[0][1], rtol=2e-5, atol=2e-6)


# The same as the layers above


def sequential(optimizer: Any, dropout: float = 0.0, seed: int = 7) -> gpunn.Sequential:
    scaled = gpunn.initializers.TruncatedNormal(stddev=2, scale_by_fan_in=True)
    dense = gpunn.layers.Dense
    hidden = dense(16, "relu", kernel_initializer=scaled, name="dnn.hidden1")
    model = gpunn.Sequential(
        [
            gpunn.Input((INPUTS,)),
            hidden,
            *([gpunn.layers.Dropout(dropout)] if dropout else []),
            dense(8, "relu", kernel_initializer=scaled, name="dnn.hidden2"),
            dense(CLASSES, kernel_initializer=scaled, name="dnn.outputs"),
        ]
    )
    loss = gpunn.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, ["accuracy"], device="cpu", seed=seed)
    return model


decay = gpunn.schedules.ExponentialDecay(0.2, 3, 0.5)


@pytest.mark.parametrize(
    ("lower", "spec", "dropout"),
    [
        (lambda: tf.train.GradientDescentOptimizer(0.1), gpunn.optimizers.SGD(0.1), 0.0),
        (lambda: tf.train.GradientDescentOptimizer(0.1), gpunn.optimizers.SGD(0.1), 0.5),
        (
            lambda: tf.train.MomentumOptimizer(0.1, 0.9, use_nesterov=True),
            gpunn.optimizers.SGD(0.1, 0.9, True),
            0.0,
        ),
        (lambda: tf.train.AdamOptimizer(), gpunn.optimizers.Adam(0.001, epsilon=1e-8), 0.3),
        (lambda: tf.train.AdagradOptimizer(0.1), gpunn.optimizers.Adagrad(0.1, 0.1, 0.0), 0.0),
        (
            lambda: tf.train.RMSPropOptimizer(0.01, momentum=0.5),
            gpunn.optimizers.RMSprop(0.01, 0.9, 0.5, 1e-10),
            0.0,
        ),
        (
            lambda: tf.train.Optimizer(gpunn.optimizers.AdamW(0.01, clipnorm=1.0)),
            gpunn.optimizers.AdamW(0.01, clipnorm=1.0),
            0.0,
        ),
        (lambda: tf.train.Optimizer(gpunn.optimizers.SGD(decay)), gpunn.optimizers.SGD(decay), 0.0),
    ],
    ids=["sgd", "dropout", "momentum", "adam", "adagrad", "rmsprop", "adamw", "schedule"],
)
def test_trains_bit_for_bit_as_the_same_sequential_model(
    lower: Any, spec: Any, dropout: float
) -> None:
    net = build(lower(), dropout=dropout)
    model = sequential(spec, dropout)
    with tf.Session(device="cpu", seed=7) as sess:
        net.init.run()
        for mine, theirs in zip(weights(sess), model.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, theirs)
        trainer = gpunn.Trainer(model, DATA, LABELS, batch_size=10, shuffle=False)
        for _ in range(2):
            trainer.epoch()
            for feed in batches(net):
                sess.run(net.training_op, feed)
        for mine, theirs in zip(weights(sess), model.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, theirs)
        figures = sess.run([net.loss, net.accuracy], {net.X: DATA, net.y: LABELS})
        assert figures == model.evaluate(DATA, LABELS)
        np.testing.assert_array_equal(net.logits.eval({net.X: DATA}), model.predict(DATA))


def test_the_ways_to_write_a_layer_are_one() -> None:
    X = tf.placeholder(tf.float32, (None, INPUTS))
    kernel, bias = rng.normal(size=(INPUTS, 5)), rng.normal(size=5)
    W, b = tf.Variable(kernel), tf.Variable(bias)
    layers = tf.layers.dense(
        X, 5, tf.nn.tanh, kernel_initializer=tf.constant_initializer(kernel),
        bias_initializer=tf.constant(bias),
    )  # fmt: skip
    connected = tf.contrib.layers.fully_connected(
        X, 5, tf.nn.tanh, tf.constant_initializer(kernel), tf.constant_initializer(bias), "fc"
    )
    with tf.variable_scope("own"):
        own = tf.get_variable("W", initializer=kernel)
        shared = tf.get_variable("b", initializer=bias)
    tensors = [
        tf.nn.tanh(tf.matmul(X, W) + b),
        tf.nn.tanh(tf.nn.bias_add(X @ own, shared)),
        layers,
        connected,
    ]
    with tf.Session(device="cpu") as sess:
        tf.global_variables_initializer().run()
        first, *others = sess.run(tensors, {X: DATA})
    np.testing.assert_allclose(first, np.tanh(DATA @ kernel + bias), rtol=1e-5, atol=1e-6)
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_a_network_with_two_inputs_joins_and_shared_weights() -> None:
    a = tf.placeholder(tf.float32, (None, 3), "a")
    images = tf.placeholder(tf.uint8, (None, 2, 2), "images")
    flat = tf.reshape(tf.cast(images, tf.float32), [-1, 4]) / 255.0
    W, b = tf.Variable(rng.normal(size=(3, 4))), tf.Variable(tf.ones([4]))
    once = tf.nn.relu(tf.matmul(a, W) + b)
    twice = tf.matmul(tf.matmul(a, tf.Variable(np.eye(3))) * 2.0 - 1.0, W) + b
    joined = tf.concat([once, flat + twice], axis=1)
    with tf.Session(device="cpu") as sess:
        tf.global_variables_initializer().run()
        pixels = rng.integers(0, 256, (7, 2, 2)).astype(np.uint8)
        feed = {a: DATA[:7, :3], images: pixels}
        result, kernel = sess.run([joined, W], feed)
        with pytest.raises(gpunn.errors.ArgumentTypeError, match=r"'images': is declared uint8"):
            joined.eval({a: DATA[:7, :3], images: pixels / 255})
    first = np.maximum(DATA[:7, :3] @ kernel + 1, 0)
    second = (DATA[:7, :3] * 2 - 1) @ kernel + 1 + pixels.reshape(7, 4) / 255
    np.testing.assert_allclose(result, np.hstack([first, second]), rtol=1e-5, atol=1e-5)


# Losses and metrics against NumPy, float64


def _softmax_xentropy(z: Any, t: Any) -> Any:
    z = z - z.max(axis=1, keepdims=True)
    return -(t * (z - np.log(np.exp(z).sum(axis=1, keepdims=True)))).sum(axis=1)


def _sigmoid_xentropy(z: Any, t: Any) -> Any:
    p = 1 / (1 + np.exp(-z))
    return -(t * np.log(p) + (1 - t) * np.log(1 - p))


def _huber(z: Any, t: Any) -> Any:
    e = np.abs(z - t)
    return np.where(e <= 0.5, e * e / 2, 0.5 * e - 0.125)


LOSSES: dict[str, tuple[Any, Any]] = {
    "one-hot": (
        lambda z, t: tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits_v2(labels=t, logits=z)),
        _softmax_xentropy,
    ),
    "sigmoid": (
        lambda z, t: tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=t, logits=z)),
        _sigmoid_xentropy,
    ),
    "squared": (lambda z, t: tf.reduce_mean(tf.square(z - t)), lambda z, t: (z - t) ** 2),
    "squared difference": (
        lambda z, t: tf.reduce_mean(tf.squared_difference(t, z)),
        lambda z, t: (z - t) ** 2,
    ),
    "absolute": (lambda z, t: tf.reduce_mean(tf.abs(t - z)), lambda z, t: np.abs(z - t)),
    "huber": (lambda z, t: tf.losses.huber_loss(t, z, delta=0.5), _huber),
}


@pytest.mark.parametrize("device", ["reference", "cpu"])
@pytest.mark.parametrize("kind", [*LOSSES, "sparse"])
def test_losses_and_their_gradients_are_those_of_numpy(kind: str, device: str) -> None:
    X = tf.placeholder(tf.float32, (None, INPUTS), "X")
    kernel = rng.normal(size=(INPUTS, CLASSES))
    W = tf.Variable(kernel, name="W")
    logits = tf.matmul(X, W)
    if kind == "sparse":
        t = tf.placeholder(tf.int32, (None,), "t")
        loss, truth = tf.losses.sparse_softmax_cross_entropy(t, logits), _softmax_xentropy
    else:
        t = tf.placeholder(tf.float32, (None, CLASSES), "t")
        make, truth = LOSSES[kind]
        loss = make(logits, t)
    op = tf.train.GradientDescentOptimizer(1.0).minimize(0.5 * loss)
    x, feed = DATA.astype(np.float64), {X: DATA, t: LABELS if kind == "sparse" else ONE_HOT}

    def expected(w: Any) -> Any:
        return truth(x @ w, ONE_HOT.astype(np.float64)).mean()

    with tf.Session(device=device, precision="float64") as sess:
        tf.global_variables_initializer().run()
        assert loss.eval(feed) == pytest.approx(expected(kernel), rel=1e-12)
        sess.run(op, feed)
        gradient = (kernel - W.eval()) / 0.5
    for i, j in ((0, 0), (3, 2), (5, 3)):
        step = np.zeros_like(kernel)
        step[i, j] = 1e-6
        slope = (expected(kernel + step) - expected(kernel - step)) / 2e-6
        # Central differences: truncation of 1e-12, rounding of 1e-16 / 1e-6.
        assert gradient[i, j] == pytest.approx(slope, rel=1e-6, abs=1e-8)


def test_metrics_are_those_of_numpy() -> None:
    net = build()
    t = tf.placeholder(tf.float32, (None, CLASSES), "t")
    means = {
        "top1": net.accuracy,
        "top2": tf.reduce_mean(tf.cast(tf.nn.in_top_k(net.logits, net.y, 2), tf.float32)),
        "equal": tf.reduce_mean(tf.cast(tf.equal(net.y, tf.argmax(net.logits, 1)), tf.float32)),
        "one-hot": tf.reduce_mean(tf.cast(tf.equal(tf.argmax(net.logits), tf.argmax(t)), "f4")),
        "proba": tf.reduce_mean(tf.nn.in_top_k(tf.nn.softmax(net.logits), net.y, 1)),
    }
    with tf.Session(device="cpu", seed=0) as sess:
        net.init.run()
        feed = {net.X: DATA, net.y: LABELS, t: ONE_HOT}
        figures, z, chosen, proba = sess.run(
            (means, net.logits, tf.argmax(net.logits, 1), tf.nn.softmax(net.logits)), feed
        )
    top = np.mean(z.argmax(axis=1) == LABELS)
    second = np.mean([label in row.argsort()[-2:] for row, label in zip(z, LABELS, strict=True)])
    assert figures == {"top1": top, "top2": second, "equal": top, "one-hot": top, "proba": top}
    np.testing.assert_array_equal(chosen, z.argmax(axis=1))
    np.testing.assert_allclose(proba, np.exp(z) / np.exp(z).sum(1, keepdims=True), rtol=1e-5)


def test_two_losses_of_two_outputs_are_weighed() -> None:
    X = tf.placeholder(tf.float32, (None, INPUTS), "X")
    t = tf.placeholder(tf.float32, (None, 1), "t")
    y = tf.placeholder(tf.int64, (None,), "y")
    hidden = tf.layers.dense(X, 8, tf.nn.elu, name="hidden")
    value, logits = tf.layers.dense(hidden, 1, name="value"), tf.layers.dense(hidden, CLASSES)
    mse = tf.losses.mean_squared_error(t, value)
    xentropy = tf.losses.sparse_softmax_cross_entropy(y, logits)
    total = tf.add_n([0.25 * mse, xentropy])
    op = tf.train.AdamOptimizer(0.01).minimize(total)
    feed = {X: DATA, t: DATA[:, :1], y: LABELS}
    with tf.Session(device="cpu", seed=0) as sess:
        tf.global_variables_initializer().run()
        before = sess.run([total, mse, xentropy], feed)
        _, *along = sess.run([op, total, mse, xentropy], feed)
        for _ in range(50):
            sess.run(op, feed)
        after = sess.run([total, mse, xentropy], feed)
    assert before[0] == pytest.approx(0.25 * before[1] + before[2])
    assert along == pytest.approx(before)
    assert all(late < early for late, early in zip(after, before, strict=True))


def test_an_autoencoder_has_its_input_as_target() -> None:
    X = tf.placeholder(tf.float32, (None, INPUTS), "X")
    outputs = tf.layers.dense(tf.layers.dense(X, 3, name="code"), INPUTS, name="outputs")
    loss = tf.reduce_mean(tf.square(outputs - X))
    op = tf.train.AdamOptimizer(0.05).minimize(loss)
    with tf.Session(device="cpu", seed=0) as sess:
        tf.global_variables_initializer().run()
        before = loss.eval({X: DATA})
        for _ in range(100):
            sess.run(op, {X: DATA})
        assert loss.eval({X: DATA}) < 0.6 * before
