"""Models that share layers or have frozen ones, written once for Keras and for gpunn.

Each function of `WIRINGS` takes a `Library`, trains, and returns arrays by name. Weights, data and
batches come from seeded generators, so that both libraries should return the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Arrays = dict[str, Any]
X = np.random.default_rng(1).normal(size=(24, 6))
Y = np.random.default_rng(2).normal(size=(24, 2))
Z = np.random.default_rng(3).normal(size=(24, 3))
LABELS = (X[:, :1] > 0).astype("float64")


class Library:
    """Keras, or gpunn in its place, with how a model is compiled in float64 there.

    Parameters
    ----------
    keras : module
    **options
        For `Model.compile`.
    """

    def __init__(self, keras: Any, **options: Any) -> None:
        self.keras, self.layers, self.options = keras, keras.layers, options

    def compiled(
        self, model: Any, optimizer: str = "sgd", loss: str = "mse", rate: Any = None
    ) -> Any:
        kinds = self.keras.optimizers
        made = {
            "sgd": lambda: kinds.SGD(0.1 if rate is None else rate),
            "momentum": lambda: kinds.SGD(0.05, momentum=0.9),
            "adam": lambda: kinds.Adam(0.02),
            "rmsprop": lambda: kinds.RMSprop(0.01),
        }[optimizer]()
        model.compile(optimizer=made, loss=loss, **self.options)
        return model

    def fit(self, model: Any, x: Any, y: Any, epochs: int = 2) -> Any:
        model.fit(x, y, epochs=epochs, batch_size=8, shuffle=False, verbose=0)
        return model

    def dense(self, units: int, activation: Any = None, name: Any = None, **options: Any) -> Any:
        return self.layers.Dense(units, activation=activation, name=name, **options)


def draw(model: Any, seed: int = 0) -> Any:
    """Set kernels to random values, and vectors, variances among them, to positive ones."""
    rng = np.random.default_rng(seed)
    drawn = (rng.normal(0.0, 0.4, w.shape) for w in model.get_weights())
    model.set_weights([w if w.ndim == 2 else np.abs(w) + 0.1 for w in drawn])
    return model


def weights(name: str, model: Any) -> Arrays:
    return {f"{name}/{i}": w for i, w in enumerate(model.get_weights())}


def autoencoder(k: Library, optimizer: str = "sgd") -> Arrays:
    """Train the whole, look at its halves; train a half, look at the whole."""
    inputs = k.keras.Input((6,))
    code = k.dense(3, "tanh", "code")(inputs)
    whole = k.keras.Model(inputs, k.dense(6, name="decoded")(code))
    encoder = k.keras.Model(inputs, code)
    k.fit(k.compiled(draw(whole), optimizer), X, X)
    out = {"encoded": encoder.predict(X, verbose=0)} | weights("whole", whole)
    k.fit(k.compiled(encoder, optimizer), X, Z)
    return out | weights("after", whole) | {"decoded": whole.predict(X, verbose=0)}


def in_turns(k: Library, optimizer: str = "sgd") -> Arrays:
    """Two stacks and the stack of both, trained in turns by optimizers of their own."""
    front = draw(k.keras.Sequential([k.keras.Input((6,)), k.dense(3, "tanh")]), 1)
    back = draw(k.keras.Sequential([k.keras.Input((3,)), k.dense(2)]), 2)
    both = k.keras.Sequential([front, back])
    for model in (front, back, both):
        k.compiled(model, optimizer)
    out: Arrays = {}
    for turn in range(3):
        k.fit(both, X, Y, 1)
        k.fit(front, X, Z, 1)
        k.fit(back, Z, Y, 1)
        out |= {f"turn{turn}": both.predict(X, verbose=0)}
    return out | weights("both", both)


def extractor(k: Library) -> Arrays:
    """The outputs of an inner layer, by models made before and after training."""
    inputs = k.keras.Input((6,))
    hidden = k.dense(4, "relu", "hidden")(inputs)
    model = draw(k.keras.Model(inputs, k.dense(2)(hidden)))
    before = k.keras.Model(model.input, model.get_layer("hidden").output)
    out = {"at first": before.predict(X, verbose=0)}
    k.fit(k.compiled(model), X, Y)
    after = k.keras.Model(model.input, model.get_layer("hidden").output)
    return out | {"before": before.predict(X, verbose=0), "after": after.predict(X, verbose=0)}


def new_head(k: Library) -> Arrays:
    """A head on the output of a model, from the Input that the model was made of."""
    inputs = k.keras.Input((6,))
    base = k.keras.Model(inputs, k.dense(3, "tanh")(inputs))
    top = draw(k.keras.Model(inputs, k.dense(2)(base.output)))
    k.fit(k.compiled(top), X, Y)
    return weights("top", top) | weights("base", base)


def transfer(k: Library, optimizer: str = "adam") -> Arrays:
    """A head on a frozen base; then all of it, at a smaller rate."""
    base = k.keras.Sequential([k.keras.Input((6,)), k.dense(4, "relu"), k.dense(3, "tanh")])
    base.trainable = False
    model = draw(k.keras.Sequential([k.keras.Input((6,)), base, k.dense(2)]))
    k.fit(k.compiled(model, optimizer), X, Y)
    out = weights("frozen", model)
    base.trainable = True
    k.fit(k.compiled(model, "sgd", rate=0.01), X, Y)
    return out | weights("unfrozen", model)


def siamese(k: Library) -> Arrays:
    """One layer called on two inputs."""
    one, other = k.keras.Input((6,)), k.keras.Input((6,))
    shared = k.dense(3, "tanh")
    joined = k.layers.Concatenate()([shared(one), shared(other)])
    model = draw(k.keras.Model([one, other], k.dense(2)(joined)))
    k.fit(k.compiled(model, "momentum"), [X, X[::-1]], Y)
    return weights("model", model)


def twice(k: Library) -> Arrays:
    """One layer called on its own output, frozen and not."""
    inputs = k.keras.Input((6,))
    layer = k.dense(6, "tanh")
    model = draw(k.keras.Model(inputs, k.dense(2)(layer(layer(inputs)))))
    k.fit(k.compiled(model), X, Y)
    out = weights("trained", model)
    layer.trainable = False
    k.fit(k.compiled(model), X, Y)
    return out | weights("frozen", model)


def nested(k: Library) -> Arrays:
    """A model in a model in a model; the innermost layer is frozen within the second."""
    inner = k.keras.Sequential([k.keras.Input((6,)), k.dense(4, "tanh"), k.dense(4, "relu")])
    middle = k.keras.Sequential([k.keras.Input((6,)), inner, k.dense(3, "tanh")])
    outer = draw(k.keras.Sequential([k.keras.Input((6,)), middle, k.dense(2)]))
    k.fit(k.compiled(outer, "adam"), X, Y)
    out = weights("outer", outer)
    inner.layers[0].trainable = False
    k.fit(k.compiled(middle, "momentum"), X, Z)
    return out | weights("middle", middle) | {"outer": outer.predict(X, verbose=0)}


def gan(k: Library) -> Arrays:
    """The discriminator is frozen within the GAN and trained on its own, in turns."""
    loss = "binary_crossentropy"
    generator = k.keras.Sequential([k.keras.Input((3,)), k.dense(4, "relu"), k.dense(6)])
    k.compiled(draw(generator, 1))
    stack = [k.keras.Input((6,)), k.dense(4, "relu"), k.dense(1, "sigmoid")]
    discriminator = k.compiled(draw(k.keras.Sequential(stack), 2), "rmsprop", loss)
    discriminator.trainable = False
    whole = k.compiled(k.keras.Sequential([generator, discriminator]), "rmsprop", loss)
    out: Arrays = {}
    for turn in range(3):
        rows = slice(8 * turn, 8 * turn + 8)
        mixed = np.concatenate([generator.predict(Z[rows], verbose=0), X[rows]])
        discriminator.trainable = True
        discriminator.train_on_batch(mixed, np.repeat([[0.0], [1.0]], 8, axis=0))
        discriminator.trainable = False
        whole.train_on_batch(Z[rows], np.ones((8, 1)))
        out |= weights(f"generator{turn}", generator)
        out |= weights(f"discriminator{turn}", discriminator)
    return out


def frozen_normalization(k: Library) -> Arrays:
    """Batch normalization by moving statistics in training, with layers below and above."""
    stack = [k.keras.Input((6,)), k.dense(4), k.layers.BatchNormalization(name="norm")]
    stack += [k.layers.Activation("relu"), k.dense(2)]
    model = draw(k.keras.Sequential(stack))
    model.get_layer("norm").trainable = False
    k.fit(k.compiled(model, "momentum"), X, Y)
    out = weights("frozen", model) | {"loss": model.evaluate(X, Y, verbose=0)}
    model.get_layer("norm").trainable = True
    k.fit(k.compiled(model), X, Y)
    return out | weights("trained", model)


def frozen_middle(k: Library, optimizer: str = "adam") -> Arrays:
    """A frozen layer between trained ones: no penalty, no constraint."""
    kinds: Arrays = {
        "kernel_regularizer": k.keras.regularizers.L2(0.1),
        "kernel_constraint": k.keras.constraints.MaxNorm(0.5),
    }
    stack = [k.keras.Input((6,)), k.dense(5, "tanh", **kinds)]
    stack += [k.dense(4, "tanh", "middle", **kinds), k.dense(2, **kinds)]
    model = draw(k.keras.Sequential(stack))
    model.get_layer("middle").trainable = False
    k.fit(k.compiled(model, optimizer), X, Y)
    return weights("model", model) | {"loss": model.evaluate(X, Y, verbose=0)}


def by(wiring: Any, optimizer: str) -> Callable[[Library], Arrays]:
    return lambda k: wiring(k, optimizer)


WIRINGS: dict[str, Callable[[Library], Arrays]] = {
    **{f"autoencoder, {name}": by(autoencoder, name) for name in ("sgd", "momentum", "adam")},
    **{f"in turns, {name}": by(in_turns, name) for name in ("sgd", "momentum", "adam")},
    "extractor": extractor,
    "new head": new_head,
    **{f"transfer, {name}": by(transfer, name) for name in ("sgd", "adam")},
    "siamese": siamese,
    "twice": twice,
    "nested": nested,
    "gan": gan,
    "frozen normalization": frozen_normalization,
    **{f"frozen middle, {name}": by(frozen_middle, name) for name in ("sgd", "momentum", "adam")},
}
