"""The lower level's sessions: feeds, variables, files, and every mistake one can make."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gpunn
from gpunn import errors
from gpunn import symbolic as tf
from gpunn.checkpoints import files as checkpoints
from gpunn.checkpoints.files import Checkpoint, Expected
from gpunn.compat.symbolic import programs
from gpunn.training import session as training_session

rng = np.random.default_rng(8)
X_DATA = rng.normal(size=(40, 5)).astype(np.float32)
Y_DATA = (X_DATA[:, 0] > 0) * 1 + (X_DATA[:, 1] > 0)


@pytest.fixture(autouse=True)
def fresh_graph() -> Iterator[None]:
    tf.reset_default_graph()
    yield
    tf.reset_default_graph()


def build(optimizer: Any = None, hidden: int = 7, name: str = "hidden") -> SimpleNamespace:
    X = tf.placeholder(tf.float32, shape=(None, 5), name="X")
    y = tf.placeholder(tf.int64, shape=(None,), name="y")
    layer = tf.layers.dense(X, hidden, activation=tf.nn.relu, name=name)
    logits = tf.layers.dense(layer, 3, name="outputs")
    xentropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
    loss = tf.reduce_mean(xentropy, name="loss")
    optimizer = optimizer or tf.train.GradientDescentOptimizer(0.1)
    step = tf.Variable(0, trainable=False, name="global_step")
    op = optimizer.minimize(loss, global_step=step)
    correct = tf.nn.in_top_k(logits, y, 1)
    accuracy = tf.reduce_mean(tf.cast(correct, tf.float32), name="accuracy")
    return SimpleNamespace(
        X=X, y=y, logits=logits, xentropy=xentropy, correct=correct, loss=loss, op=op, step=step,
        accuracy=accuracy, init=tf.global_variables_initializer(),
        feed={X: X_DATA, y: Y_DATA},
    )  # fmt: skip


def values(sess: Any) -> list[Any]:
    return sess.run(tf.trainable_variables())


# Runs


def test_batches_of_other_sizes_build_no_new_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    net, built, bound = build(), [], []
    plan_builder = programs.build_plan
    with tf.Session(device="cpu", seed=0) as sess:
        net.init.run()
        for module in (programs, training_session):
            monkeypatch.setattr(
                module, "build_plan", lambda *a, **k: built.append(k) or plan_builder(*a, **k)
            )
        backend = sess.selection.backend
        bind = backend.bind
        monkeypatch.setattr(backend, "bind", lambda *a: bound.append(a) or bind(*a))
        for _ in range(3):
            for rows in (slice(0, 16), slice(16, 32), slice(32, 40)):
                sess.run(net.op, {net.X: X_DATA[rows], net.y: Y_DATA[rows]})
        assert len(built) == 1
        calls = len(built[0]["programs"]) and len(bound)
        for size in (16, 8):
            sess.run(net.op, {net.X: X_DATA[:size], net.y: Y_DATA[:size]})
        assert len(built) == 1 and len(bound) == calls  # bound once for each number of rows
        for size in (20, 5, 20):
            net.accuracy.eval({net.X: X_DATA[:size], net.y: Y_DATA[:size]})
        assert len(built) == 2
        sess.run(net.op, net.feed)  # larger than any before
        assert len(built) == 3


def test_a_larger_batch_goes_on_with_the_same_optimizer_state() -> None:
    net, results = build(tf.train.AdamOptimizer(0.05)), []
    for first in (8, 40):
        with tf.Session(device="cpu", seed=0) as sess:
            net.init.run()
            if first == 40:  # a plan that is large enough from the start
                sess.run(net.op, net.feed)
                net.init.run()
            for size in (8, 3, 40, 8):
                sess.run(net.op, {net.X: X_DATA[:size], net.y: Y_DATA[:size]})
            assert net.step.eval() == 4
            results.append(values(sess))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("device", ["cpu", "simulator"])
def test_many_rows_are_evaluated_like_few(device: str) -> None:
    net = build()
    x = rng.normal(size=(2500, 5))
    y = rng.integers(0, 3, 2500)
    with tf.Session(device=device, seed=0) as sess:
        net.init.run()
        fetches = [net.loss, net.accuracy, net.logits]
        loss, accuracy, logits = sess.run(fetches, {net.X: x, net.y: y})
        parts = [
            sess.run(fetches, {net.X: x[i : i + 500], net.y: part})
            for i, part in zip(range(0, 2500, 500), np.split(y, 5), strict=True)
        ]
    assert loss == pytest.approx(np.mean([part[0] for part in parts]), rel=1e-6)
    assert accuracy == pytest.approx(np.mean([part[1] for part in parts]))
    np.testing.assert_allclose(logits, np.concatenate([p[2] for p in parts]), rtol=1e-5, atol=1e-6)


def test_evaluating_trains_nothing() -> None:
    net = build(tf.train.AdamOptimizer())
    with tf.Session(device="cpu", seed=0) as sess:
        net.init.run()
        before = values(sess)
        for _ in range(3):
            sess.run([net.loss, net.accuracy, net.logits], net.feed)
        assert net.step.eval() == 0
        for one, other in zip(before, values(sess), strict=True):
            np.testing.assert_array_equal(one, other)
    assert not sess.training


def test_fetches_come_back_in_their_structure() -> None:
    net = build()
    with tf.Session(device="cpu", seed=0) as sess:
        net.init.run()
        result = sess.run({"a": [net.loss, (net.op, net.X)], "b": net.logits}, net.feed)
        assert list(result) == ["a", "b"] and isinstance(result["a"][1], tuple)
        assert isinstance(result["a"][0], float) and result["a"][1][0] is None
        assert result["a"][1][1] is X_DATA and result["b"].shape == (40, 3)
        assert sess.run([]) == []
        first = net.logits.eval({net.X: X_DATA[:1]})
        assert first.shape == (1, 3)


def test_what_is_fetched_with_a_training_operation_is_of_before_its_step() -> None:
    net = build()
    with tf.Session(device="cpu", seed=0) as sess:
        net.init.run()
        before = sess.run([net.loss, net.accuracy, net.logits], net.feed)
        *along, _ = sess.run([net.loss, net.accuracy, net.logits, net.op], net.feed)
        after = net.loss.eval(net.feed)
    assert along[:2] == pytest.approx(before[:2])
    np.testing.assert_array_equal(along[2], before[2])
    assert after < before[0]


def test_two_training_operations_keep_their_own_state() -> None:
    net = build(tf.train.MomentumOptimizer(0.1, 0.9))
    other = tf.train.AdamOptimizer(0.01).minimize(net.loss)
    with tf.Session(device="cpu", seed=0) as sess:
        net.init.run()
        sess.run([net.op, other], net.feed)
        sess.run(net.op, net.feed)
        assert net.step.eval() == 2
        assert {op.name: t.steps for op, t in sess.training.items()} == {"Momentum": 2, "Adam": 1}


# Learning rates and dropout


def test_a_learning_rate_is_fed() -> None:
    rate = tf.placeholder(tf.float32, shape=(), name="rate")
    net = build(tf.train.GradientDescentOptimizer(rate))
    with tf.Session(device="cpu", seed=0, threads=1) as sess:
        net.init.run()
        before = values(sess)
        sess.run(net.op, net.feed | {rate: 0.0})
        still = values(sess)
        sess.run(net.op, net.feed | {rate: 0.2})
        once = values(sess)
        for a, b in zip(before, still, strict=True):
            np.testing.assert_array_equal(a, b)
        net.init.run()
        sess.run(net.op, net.feed | {rate: 0.1})
        half = values(sess)
        for a, b, c in zip(before, once, half, strict=True):
            np.testing.assert_allclose(b - a, 2 * (c - a), rtol=1e-3, atol=1e-6)
        with pytest.raises(errors.ArgumentError, match=r"lacks placeholder 'rate'"):
            sess.run(net.op, net.feed)
        with pytest.raises(errors.ArgumentError, match=r"'rate' must be a number at least 0"):
            sess.run(net.op, net.feed | {rate: -1.0})


def test_exponential_decay_follows_the_steps() -> None:
    X = tf.placeholder(tf.float32, (None, 1), "X")
    t = tf.placeholder(tf.float32, (None, 1), "t")
    w = tf.Variable([[0.0]])
    loss = tf.reduce_mean(tf.square(tf.matmul(X, w) - t))
    step = tf.Variable(0, trainable=False)
    rate = tf.train.exponential_decay(0.1, step, decay_steps=2, decay_rate=0.25, staircase=True)
    op = tf.train.GradientDescentOptimizer(rate).minimize(loss, global_step=step)
    with tf.Session(device="cpu") as sess:
        tf.global_variables_initializer().run()
        before, moved = 0.0, []
        for _ in range(5):
            sess.run(op, {X: [[1.0]], t: [[1e4]]})
            gradient = 2 * (before - 1e4)
            moved.append((before - w.eval().item()) / gradient)
            before = w.eval().item()
        assert step.eval() == 5
    np.testing.assert_allclose(moved, [0.1, 0.1, 0.025, 0.025, 0.00625], rtol=1e-4)


def test_dropout_acts_in_training_alone_and_its_flag_is_checked() -> None:
    X = tf.placeholder(tf.float32, (None, 5), "X")
    training = tf.placeholder_with_default(False, shape=(), name="training")
    dropped = tf.layers.dropout(X, 0.5, training=training)
    logits = tf.layers.dense(tf.nn.dropout(dropped, keep_prob=0.8), 1)
    t = tf.placeholder(tf.float32, (None, 1), "t")
    loss = tf.reduce_mean(tf.square(logits - t))
    op = tf.train.GradientDescentOptimizer(0.0).minimize(loss)
    feed = {X: X_DATA, t: X_DATA[:, :1]}
    with tf.Session(device="cpu", seed=4) as sess:
        tf.global_variables_initializer().run()
        still = {loss.eval(feed) for _ in range(3)}
        assert len(still) == 1
        along = {sess.run([op, loss], feed | {training: True})[1] for _ in range(3)}
        assert len(along) == 3
        with pytest.raises(errors.DataError, match=r"'training': dropout acts .* feed True"):
            sess.run(op, feed)
        with pytest.raises(errors.DataError, match=r"'training': dropout acts .* feed False"):
            loss.eval(feed | {training: True})
        with pytest.raises(errors.ArgumentTypeError, match="'training' must be True or False"):
            sess.run(op, feed | {training: 1})


# Variables and names


def test_initial_values_are_those_of_the_seed() -> None:
    shape = (300, 40)
    tf.set_random_seed(11)
    W = tf.Variable(tf.truncated_normal(shape, mean=1.0, stddev=0.1))
    U = tf.Variable(tf.random_uniform(shape, -2, 3))
    V = tf.Variable(tf.random_normal(shape, stddev=2.0, seed=5))
    G = tf.get_variable("G", shape)
    array = tf.Variable(np.arange(6.0).reshape(2, 3))
    full = tf.get_variable("full", (2, 2), initializer=tf.constant_initializer(0.5))
    runs = []
    for seed in (None, 11, 12):
        with tf.Session(device="cpu", seed=seed) as sess:
            tf.global_variables_initializer().run()
            runs.append(sess.run([W, U, V, G, array, full]))
    w, u, v, g, a, f = runs[0]
    assert np.abs(w - 1).max() <= 0.2 and w.std() == pytest.approx(0.088, rel=0.02)
    assert -2 <= u.min() < -1.99 and 2.99 < u.max() <= 3
    assert v.std() == pytest.approx(2, rel=0.03) and g.max() <= np.sqrt(6 / 340)
    np.testing.assert_array_equal(a, np.arange(6).reshape(2, 3))
    assert (f == 0.5).all() and f.dtype == np.float32
    for one, other, third in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, other)
        assert (one == third).all() == (one is v or one is a or one is f)


def test_variables_are_read_and_set() -> None:
    net = build()
    kernel = tf.get_default_graph().get_tensor_by_name("hidden/kernel:0")
    with tf.Session(device="cpu", seed=0) as sess:
        net.init.run()
        new = rng.normal(size=(5, 7))
        kernel.load(new, sess)
        np.testing.assert_array_equal(kernel.eval(), new.astype(np.float32))
        assign = kernel.assign(2 * new)
        sess.run(assign)
        np.testing.assert_array_equal(sess.run(kernel), (2 * new).astype(np.float32))
        with pytest.raises(errors.ShapeError, match=r"'hidden/kernel' has shape \(5, 7\), not"):
            kernel.load(new.T)
        with pytest.raises(errors.DataError, match="NaN or infinity"):
            kernel.load(new * np.nan)
        with pytest.raises(errors.ArgumentError, match="'global_step' counts steps"):
            net.step.load(3)
        net.init.run()
        assert (kernel.eval() != new).any()


def test_names_have_their_scopes_and_are_unique() -> None:
    names = []
    for _ in range(2):
        with tf.name_scope("dnn"), tf.name_scope("hidden"):
            names.append(tf.Variable(tf.zeros([2]), name="b").name)
            names.append(tf.Variable(tf.zeros([2]), name="b").name)
    assert names == ["dnn/hidden/b", "dnn/hidden/b_1", "dnn_1/hidden/b", "dnn_1/hidden/b_1"]
    assert [v.name for v in tf.global_variables()] == names
    with pytest.raises(errors.UnknownNameError, match="did you mean 'dnn/hidden/b'"):
        tf.get_default_graph().get_tensor_by_name("dnn/hiden/b")


def test_graphs_are_kept_apart() -> None:
    graph = tf.Graph()
    with graph.as_default():
        inner = build()
        with pytest.raises(errors.ArgumentError, match=r"within `with graph.as_default"):
            tf.reset_default_graph()
    outer = build()
    assert inner.X.graph is graph and outer.X.graph is tf.get_default_graph() is not graph
    with tf.Session(device="cpu", graph=graph) as sess:
        assert tf.get_default_graph() is graph
        inner.init.run()
        assert inner.accuracy.eval(inner.feed) >= 0
        with pytest.raises(errors.ArgumentError, match="'loss' is of another graph"):
            sess.run(outer.loss, inner.feed)
        with pytest.raises(errors.ArgumentTypeError, match="'X' of another graph"):
            sess.run(inner.loss, outer.feed)
    with pytest.raises(errors.ArgumentError, match="of different graphs"):
        tf.add(inner.logits, outer.logits)


# Files


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_restored_run_goes_on_bit_for_bit(tmp_path: Path, precision: str) -> None:
    net = build(tf.train.AdamOptimizer(0.05))
    saver = tf.train.Saver()
    with tf.Session(device="cpu", seed=0, precision=precision) as sess:
        net.init.run()
        for _ in range(3):
            sess.run(net.op, net.feed)
        path = saver.save(sess, tmp_path / "net.ckpt", global_step=net.step)
        assert Path(path).name == "net.ckpt-3"
        for _ in range(3):
            sess.run(net.op, net.feed)
        straight = values(sess)
    with tf.Session(device="cpu", seed=0, precision=precision) as sess:
        saver.restore(sess, path)
        assert net.step.eval() == 3
        again = saver.save(sess, tmp_path / "again.ckpt")
        assert Path(again).read_bytes() == Path(path).read_bytes()
        for _ in range(3):
            sess.run(net.op, net.feed)
        for one, other in zip(straight, values(sess), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_file_is_a_model_of_gpunn_and_the_other_way_round(tmp_path: Path) -> None:
    net = build()
    with tf.Session(device="cpu", seed=0) as sess:
        net.init.run()
        path = tf.train.Saver().save(sess, tmp_path / "net.ckpt")
        logits = net.logits.eval(net.feed)
        model = tf.as_model(net.X, net.logits)
    np.testing.assert_array_equal(gpunn.load_model(path, device="cpu").predict(X_DATA), logits)
    model.compile(loss=gpunn.losses.SparseCategoricalCrossentropy(True), device="cpu", seed=0)
    np.testing.assert_array_equal(model.predict(X_DATA), logits)
    model.fit(X_DATA, Y_DATA, epochs=1, verbose=0)
    model.save(tmp_path / "model.h5")
    with tf.Session(device="cpu") as sess:
        tf.train.Saver().restore(sess, tmp_path / "model.h5")
        np.testing.assert_array_equal(net.logits.eval(net.feed), model.predict(X_DATA))


def test_weights_alone_are_saved_and_restored(tmp_path: Path) -> None:
    net = build(tf.train.AdamOptimizer())
    saver = tf.train.Saver(tf.trainable_variables())
    with tf.Session(device="cpu", seed=0) as sess:
        net.init.run()
        sess.run(net.op, net.feed)
        whole = tf.train.Saver().save(sess, tmp_path / "whole.ckpt")
        weights = values(sess)
        saver.save(sess, tmp_path / "weights.ckpt")
    for file in (whole, tmp_path / "weights.ckpt"):
        with tf.Session(device="cpu", seed=0) as sess:
            saver.restore(sess, file)
            assert net.step.eval() == 0
            for one, other in zip(weights, values(sess), strict=True):
                np.testing.assert_array_equal(one, other)


def test_files_of_other_networks_are_refused(tmp_path: Path) -> None:
    net = build(tf.train.AdamOptimizer())
    with tf.Session(device="cpu", seed=0) as sess:
        net.init.run()
        sess.run(net.op, net.feed)
        path = tf.train.Saver().save(sess, tmp_path / "net.ckpt")
    for change, words in (
        ({"hidden": 9}, r"'hidden/kernel' has shape \[5, 7\] there, and \[5, 9\] in this graph"),
        ({"name": "first"}, r"has no variable 'first/kernel'; it has hidden/kernel"),
        (
            {"optimizer": tf.train.Optimizer("sgd", name="Adam")},
            r"was trained by Adam in 'Adam', this graph has SGD",
        ),
    ):
        tf.reset_default_graph()
        build(**change)
        with tf.Session(device="cpu") as sess:
            with pytest.raises(errors.CheckpointError, match=words):
                tf.train.Saver().restore(sess, path)
            with pytest.raises(errors.NotBuiltError):
                values(sess)
            with pytest.raises(errors.CheckpointError, match="There is no checkpoint"):
                tf.train.Saver().restore(sess, tmp_path / "none.ckpt")
    # It was trained by one operation; a graph may not take up half of what two have left.
    tf.reset_default_graph()
    net = build(tf.train.AdamOptimizer())
    other = tf.train.MomentumOptimizer(0.1, 0.9).minimize(net.loss)
    with tf.Session(device="cpu", seed=0) as sess:
        net.init.run()
        sess.run([net.op, other], net.feed)
        both = tf.train.Saver().save(sess, tmp_path / "both.ckpt")
        sess.run([net.op, other], net.feed)
        tf.train.Saver().restore(sess, both)
        assert {op.name: t.steps for op, t in sess.training.items()} == {"Adam": 1, "Momentum": 1}
    tf.reset_default_graph()
    build(tf.train.AdamOptimizer())
    with (
        tf.Session(device="cpu") as sess,
        pytest.raises(errors.CheckpointError, match="trained by 'Momentum' too"),
    ):
        tf.train.Saver().restore(sess, both)
    # A graph that only predicts takes the weights of one that trains.
    tf.reset_default_graph()
    X = tf.placeholder(tf.float32, (None, 5), "X")
    logits = tf.layers.dense(tf.layers.dense(X, 7, tf.nn.relu, name="hidden"), 3, name="outputs")
    with tf.Session(device="cpu") as sess:
        tf.train.Saver().restore(sess, path)
        assert logits.eval({X: X_DATA}).shape == (40, 3)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("symbolic", []),
        ("variables", [1]),
        ("variables", {"hidden/kernel": 3}),
        ("training", [2]),
        ("training", {"Adam": 3}),
        ("training", {"Adam": {"steps": -1, "slots": ["momentum", "velocity"]}}),
        ("training", {"Adam": {"steps": 1, "slots": "all"}}),
        ("training", {"Adam": {"steps": 1, "slots": ["momentum", "velocity"]}}),
    ],
)
def test_a_damaged_file_changes_nothing(tmp_path: Path, part: str, value: Any) -> None:
    net = build(tf.train.AdamOptimizer())
    with tf.Session(device="cpu", seed=0) as sess:
        net.init.run()
        path = tf.train.Saver().save(sess, tmp_path / "net.ckpt")
        good = checkpoints.read(path, lambda config: Expected(_signature(sess)))
        config = good.model_config
        (config if part == "symbolic" else config["symbolic"])[part] = value
        checkpoints.write(path, Checkpoint(config, good.weights))
        sess.run(net.op, net.feed)
        before = values(sess)
        with pytest.raises(errors.CheckpointError):
            tf.train.Saver().restore(sess, path)
        assert net.step.eval() == 1
        for one, other in zip(before, values(sess), strict=True):
            np.testing.assert_array_equal(one, other)


def _signature(sess: Any) -> dict[str, Any]:
    return {v.path: (v.shape, "float32") for v in sess.session.graph.variables}


def test_a_broken_network_is_not_saved(tmp_path: Path) -> None:
    net = build(tf.train.GradientDescentOptimizer(1e30))
    path = tmp_path / "net.ckpt"
    with tf.Session(device="cpu", seed=0) as sess:
        net.init.run()
        tf.train.Saver().save(sess, path)
        good = path.read_bytes()
        with np.errstate(all="ignore"):
            for _ in range(4):
                sess.run(net.op, net.feed)
        assert not np.isfinite(net.loss.eval(net.feed))
        with pytest.raises(errors.TrainingError, match="holds NaN or infinity"):
            tf.train.Saver().save(sess, path)
    assert path.read_bytes() == good


# Mistakes


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda n: {n.y: None}, r"placeholder 'y': expected numbers"),
        (lambda n: {n.X: X_DATA[:, :4]}, r"'X': expected shape \(None, 5\), got \(40, 4\)"),
        (lambda n: {n.X: X_DATA[0]}, r"'X': expected shape \(None, 5\), got \(5,\); for a single"),
        (lambda n: {n.X: X_DATA[:0], n.y: []}, r"placeholder 'X': is empty"),
        (lambda n: {n.X: X_DATA.astype(str)}, r"placeholder 'X': expected numbers"),
        (lambda n: {n.X: X_DATA * np.inf}, r"placeholder 'X': contains NaN or infinity"),
        (lambda n: {n.X: [[1.0] * 5, [2.0]]}, r"placeholder 'X': rows have different lengths"),
        (lambda n: {n.X: X_DATA[:39]}, r"placeholder 'y': has 40 rows, but placeholder 'X' has 39"),
        (lambda n: {n.y: Y_DATA + 1}, r"placeholder 'y': labels must be from 0 to 2"),
        (lambda n: {n.y: Y_DATA - 1}, r"placeholder 'y': labels must be from 0 to 2"),
        (lambda n: {n.y: Y_DATA + 0.5}, r"placeholder 'y': expected whole class numbers"),
        (lambda n: {n.y: np.eye(3)[Y_DATA]}, r"'y': expected shape \(None,\), got \(40, 3\)"),
        (lambda n: {"X": X_DATA}, r"keys must be placeholders .* not a str"),
        (lambda n: {n.logits: X_DATA}, r"keys must be placeholders .* not 'outputs/BiasAdd', a"),
    ],
)
def test_feeds_are_checked(change: Any, words: str) -> None:
    net = build()
    with tf.Session(device="cpu", seed=0) as sess:
        net.init.run()
        sess.run([net.op, net.loss], net.feed)
        before = values(sess)
        for fetch in (net.op, net.loss):
            with pytest.raises((errors.ArgumentError, errors.ArgumentTypeError), match=words):
                sess.run(fetch, net.feed | change(net))
        for one, other in zip(before, values(sess), strict=True):
            np.testing.assert_array_equal(one, other)


class Foreign:
    """An array of another library."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


def test_feeds_may_be_of_any_kind_of_numbers() -> None:
    net = build()
    whole = np.round(X_DATA * 10)
    kinds = (np.float32, np.float64, np.float16, np.int64, np.int8)
    with tf.Session(device="cpu", seed=0) as sess:
        net.init.run()
        expected = sess.run([net.loss, net.logits], {net.X: whole, net.y: Y_DATA})
        fed = [(whole.astype(kind), Y_DATA.astype(kind)) for kind in kinds]
        fed += [(whole.tolist(), Y_DATA.tolist()), (Foreign(whole), Foreign(Y_DATA))]
        fed += [(np.asfortranarray(whole), Y_DATA[::1].astype(np.uint8))]
        for x, y in fed:
            loss, logits = sess.run([net.loss, net.logits], {net.X: x, net.y: y})
            assert loss == expected[0]
            np.testing.assert_array_equal(logits, expected[1])
        images = np.abs(whole).astype(np.uint8)
        np.testing.assert_array_equal(
            net.logits.eval({net.X: images}), net.logits.eval({net.X: images.astype(np.float32)})
        )


def test_missing_feeds_are_named() -> None:
    net = build()
    with tf.Session(device="cpu", seed=0) as sess:
        net.init.run()
        for missing in (net.X, net.y):
            fed = {key: value for key, value in net.feed.items() if key is not missing}
            words = f"lacks placeholder '{missing.name}'"
            with pytest.raises(errors.ArgumentError, match=words):
                sess.run(net.op, fed)
        with pytest.raises(errors.ArgumentTypeError, match="feed_dict must be a dict"):
            sess.run(net.op, [X_DATA, Y_DATA])
        assert net.logits.eval({net.X: X_DATA}).shape == (40, 3)  # needs no labels


def test_what_cannot_be_run_says_so() -> None:
    net = build()
    with pytest.raises(errors.ArgumentError, match=r"'loss'.eval\(\): there is no session"):
        net.loss.eval(net.feed)
    with tf.Session(device="cpu", seed=0) as sess:
        with pytest.raises(errors.NotBuiltError, match="global_variables_initializer"):
            sess.run(net.loss, net.feed)
        net.init.run()
        for fetch in (net.xentropy, net.correct):
            with pytest.raises(errors.ArgumentTypeError, match="fetch its mean"):
                sess.run([net.op, fetch], net.feed)
        assert net.step.eval() == 0  # what is wrong is found before anything is run
        for fetch in (3, "loss", None):
            with pytest.raises(errors.ArgumentTypeError, match="fetches must be tensors"):
                sess.run([fetch])
        late = tf.layers.dense(net.logits, 2, name="late")
        with pytest.raises(errors.ArgumentError, match=r"of 'late' are newer"):
            late.eval(net.feed)
        with pytest.raises(errors.NotBuiltError, match=r"'late/kernel' is newer"):
            sess.run(tf.global_variables())
        net.init.run()
        assert late.eval(net.feed).shape == (40, 2)
        tf.layers.dense(late, 2, name="later")
        with pytest.raises(errors.NotBuiltError, match="'later/kernel' is newer"):
            tf.train.Saver().save(sess, "never.ckpt")
    with pytest.raises(errors.NotBuiltError, match="closed"):
        sess.run(net.loss, net.feed)
    with pytest.raises(errors.UnknownNameError, match="device"):
        tf.Session(device="tpu")
    with pytest.raises(errors.PlanError, match="tf32"):
        tf.Session(device="cpu", precision="tf32")


def _parts() -> dict[str, Any]:
    X = tf.placeholder(tf.float32, (None, 5), "X")
    y = tf.placeholder(tf.int64, (None,), "y")
    t = tf.placeholder(tf.float32, (None, 3), "t")
    W, b = tf.Variable(tf.ones((5, 3)), name="W"), tf.Variable(tf.zeros([3]), name="b")
    Z = tf.matmul(X, W) + b
    loss = tf.losses.sparse_softmax_cross_entropy(y, Z)
    return {"X": X, "y": y, "t": t, "W": W, "b": b, "Z": Z, "loss": loss, "tf": tf, "np": np}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("tf.matmul(Z, Z)", "second factor must be a tf.Variable"),
        ("tf.matmul(W, W)", "products of two tensors are not supported"),
        ("tf.matmul(X, b)", r"'b' has shape \(3,\)"),
        ("tf.matmul(Z, W)", r"'add' of shape \(None, 3\) has 3 columns, but 'W' .* has 5 rows"),
        ("tf.matmul(X, W) + tf.Variable([1.0, 2.0, 3.0])", "'W' is used with bias 'b', and now"),
        ("tf.nn.relu(tf.matmul(X, W))", "'W' is used with bias 'b', and now without bias"),
        ("tf.matmul(X, tf.Variable(tf.ones((5, 3)))) + b", "'b' is the bias of another layer"),
        ("tf.matmul(X, tf.Variable(tf.ones((5, 2)))) + b", r"'b' must have shape \(2,\)"),
        ("Z + b", "can be added to the product"),
        ("W + b", "is not supported for 'W'"),
        ("W * 2", "is not supported for 'W'"),
        ("Z * Z", "is not supported for 'add'"),
        ("tf.nn.relu(W)", "relu: cannot be used on 'W'"),
        ("tf.nn.relu(X_DATA)", "relu: cannot be used on a ndarray"),
        ("Z + X", r"add: 'add' has shape \(None, 3\), 'X' \(None, 5\)"),
        ("Z + loss", "add: is not supported"),
        ("loss + 1", "add: is not supported"),
        ("Z / 0", "must not be 0"),
        ("tf.nn.relu(y)", "'y' goes into the network, so its shape must be known"),
        ("tf.nn.relu(tf.placeholder(tf.int32, (None, 5)))", "must be tf.float32"),
        ("tf.nn.relu(tf.placeholder(tf.float32))", "must be known but for the batch"),
        ("tf.placeholder(tf.float32).get_shape()", "is not known"),
        ("tf.placeholder('text')", "dtype 'text' is not a type"),
        ("tf.placeholder(tf.float32, (None, -1))", "has -1 in it"),
        ("tf.placeholder(tf.float32, (None, 2), 'a b')", "name must be letters"),
        ("tf.placeholder_with_default(np.ones(3), (3,))", "supported for single values"),
        ("tf.losses.sparse_softmax_cross_entropy(t, Z)", "'t' is float32; make it tf.int64"),
        ("tf.losses.sparse_softmax_cross_entropy(Z, Z)", "labels must be a placeholder"),
        ("tf.losses.sparse_softmax_cross_entropy(y, tf.nn.softmax(Z))", "takes logits, but"),
        ("tf.losses.softmax_cross_entropy(y, Z)", "'y' is int64; make it tf.float32"),
        ("tf.losses.softmax_cross_entropy(X, Z)", r"must have the shape of 'add', \(None, 3\)"),
        ("tf.losses.sigmoid_cross_entropy(t, tf.nn.sigmoid(Z))", "is the result of sigmoid"),
        ("tf.square(Z)", "supported for predictions - y alone"),
        ("Z - tf.layers.dense(X, 3)", "one side must be a placeholder"),
        ("tf.reduce_mean(Z)", "cannot be taken of 'add'"),
        ("tf.nn.in_top_k(Z, t, 1)", "must be class numbers"),
        ("tf.nn.in_top_k(Z, y, 0)", "k must be at least 1"),
        ("tf.equal(Z, y)", "compares tf.argmax"),
        ("tf.argmax(Z, 0)", "axis must be 1"),
        ("tf.cast(y, tf.float32)", "cannot become float32"),
        ("tf.concat([Z], 1)", "at least two tensors"),
        ("tf.reshape(X, (-1, 4))", r"can become \(-1, 5\) alone"),
        ("tf.layers.dropout(Z, 0.5, training=True)", "training=True is fixed"),
        ("tf.nn.dropout(Z, keep_prob=tf.placeholder(tf.float32))", "keep_prob must be a number"),
        ("tf.nn.dropout(Z)", "give keep_prob or rate"),
        ("tf.Variable(Z)", "not the tensor 'add'"),
        ("tf.Variable(tf.zeros((None, 3)))", "must be known, without None"),
        ("tf.Variable(tf.zeros([3]), trainable=False)", "for a count of steps alone"),
        ("tf.Variable([np.nan])", "contain NaN"),
        ("tf.get_variable('V')", "needs a shape"),
        ("tf.train.AdamOptimizer().minimize(Z)", "loss must be one number for the batch"),
        (
            "tf.train.AdamOptimizer().minimize(tf.reduce_mean(tf.nn.in_top_k(Z, y, 1)))",
            "is a metric",
        ),
        (
            "tf.train.AdamOptimizer().minimize(loss + tf.losses.mean_squared_error(t, Z))",
            "has two losses of 'add'",
        ),
        ("tf.train.AdamOptimizer().minimize(loss, var_list=[W])", "var_list is not supported"),
        ("tf.train.AdamOptimizer().minimize(loss, global_step=W)", "trainable=False"),
        ("tf.train.AdamOptimizer(t)", "a placeholder of one float"),
        ("tf.train.AdamOptimizer(-1)", "learning_rate must be a number at least 0"),
        (
            "tf.train.AdamOptimizer(tf.train.exponential_decay(0.1, "
            "tf.Variable(0, trainable=False), 10, 0.5)).minimize(loss)",
            "decays with a global_step",
        ),
        ("tf.train.Saver([W])", "must be all of tf.trainable_variables"),
        ("W.assign(Z)", "must be an array"),
        ("bool(loss)", "has no value while the graph is built"),
        ("list(Z)", "cannot be iterated over"),
        ("np.exp(Z)", "."),
        ("np.asarray(Z)", "is no array"),
        ("tf.set_random_seed(-1)", "seed"),
    ],
)
def test_what_is_not_supported_says_what_is(code: str, words: str) -> None:
    known = _parts() | {"X_DATA": X_DATA}
    with pytest.raises((errors.ArgumentError, TypeError), match=words):
        eval(code, known)


@pytest.mark.parametrize("name", ["while_loop", "gradients", "reduce_sum", "Print"])
def test_what_there_is_not_is_named(name: str) -> None:
    with pytest.raises(AttributeError, match=rf"has no '{name}'. It builds multilayer perceptrons"):
        getattr(tf, name)


def test_weight_decay_touches_no_other_weights() -> None:
    net = build(tf.train.Optimizer("adamw"))
    tf.layers.dense(net.X, 4, name="unused")
    with tf.Session(device="cpu", seed=0) as sess:
        net.init.run()
        with pytest.raises(errors.ArgumentError, match="would also shrink 'unused/kernel'"):
            sess.run(net.op, net.feed)


def test_a_loss_without_variables_is_an_error() -> None:
    X = tf.placeholder(tf.float32, (None, 3), "X")
    t = tf.placeholder(tf.float32, (None, 3), "t")
    loss = tf.reduce_mean(tf.square(tf.nn.relu(X) - t))
    op = tf.train.AdamOptimizer().minimize(loss)
    with tf.Session(device="cpu") as sess:
        feed = {X: X_DATA[:, :3], t: X_DATA[:, :3]}
        assert sess.run(loss, feed) == pytest.approx(np.mean(np.minimum(X_DATA[:, :3], 0) ** 2))
        with pytest.raises(errors.ArgumentError, match="depends on no variable"):
            sess.run(op, feed)
