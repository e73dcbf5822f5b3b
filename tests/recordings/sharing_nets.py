"""Models that share layers and freeze them, written once for Keras and for gpunn.

Each function of `WIRINGS` gets a `Recorder` of one of the libraries, builds models with it, trains
them in turns and has it keep what the weights, losses and predictions are. Keras's answers are
recorded, gpunn's are compared with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sharing_recorder import Recorder

SGD = ("SGD", {"learning_rate": 0.1})
MOMENTUM = ("SGD", {"learning_rate": 0.05, "momentum": 0.9})
NESTEROV = ("SGD", {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True})
ADAM = ("Adam", {"learning_rate": 0.02})
RMSPROP = ("RMSprop", {"learning_rate": 0.01})


# Autoencoders


def autoencoder_first(r: Recorder) -> None:
    """The autoencoder is trained; then its encoder, then its decoder."""
    x, codes = r.draw(16, 6), r.draw(16, 3)
    encoder = r.sequential(6, [r.dense(5), r.dense(3, None)])
    decoder = r.sequential(3, [r.dense(5), r.dense(6, None)])
    autoencoder = r.keras.Sequential([encoder, decoder])
    r.start(encoder, decoder)
    r.compile(ADAM, autoencoder, encoder, decoder)
    r.fit("a", autoencoder, x, x)
    r.note("a", encoder, decoder, autoencoder)
    r.predict("a/encoder", encoder, x)
    r.fit("b", encoder, x, codes)
    r.note("b", encoder, decoder, autoencoder)
    r.predict("b/autoencoder", autoencoder, x)
    r.fit("c", decoder, codes, x)
    r.fit("d", autoencoder, x, x)
    r.note("d", encoder, decoder, autoencoder)
    r.evaluate("d", autoencoder, x, x)


def encoder_first(r: Recorder) -> None:
    """The encoder is trained alone; then the autoencoder is made of it by calls, and trained."""
    x, codes = r.draw(16, 6), r.draw(16, 3)
    inputs = r.keras.Input((6,))
    encoder = r.keras.Model(inputs, r.dense(3, None)(r.dense(5)(inputs)))
    r.start(encoder)
    r.compile(SGD, encoder)
    r.fit("a", encoder, x, codes)
    inputs = r.keras.Input((3,))
    decoder = r.keras.Model(inputs, r.dense(6, None)(inputs))
    r.start(decoder)
    inputs = r.keras.Input((6,))
    autoencoder = r.keras.Model(inputs, decoder(encoder(inputs)))
    r.compile(ADAM, autoencoder, decoder)
    r.note("a", encoder, decoder, autoencoder)
    r.fit("b", autoencoder, x, x)
    r.note("b", encoder, decoder, autoencoder)
    r.predict("b/encoder", encoder, x)
    r.predict("b/decoder", decoder, codes)


def in_turns(optimizer: Any) -> Callable[[Recorder], None]:
    def wiring(r: Recorder) -> None:
        """A front, a back and both of them are trained in turns, each with its own slots."""
        x, middle, y = r.draw(16, 5), r.draw(16, 4), r.draw(16, 2)
        front = r.sequential(5, [r.dense(6), r.dense(4)])
        back = r.sequential(4, [r.dense(3), r.dense(2, None)])
        both = r.keras.Sequential([front, back])
        r.start(front, back)
        r.compile(optimizer, front, back, both)
        for turn in range(2):
            r.fit(f"{turn}/both", both, x, y)
            r.fit(f"{turn}/front", front, x, middle, epochs=1)
            r.note(f"{turn}/front", front, both)
            r.fit(f"{turn}/back", back, middle, y)
            r.evaluate(f"{turn}/both", both, x, y)
            r.note(f"{turn}/back", back, both)

    return wiring


# Parts of models


def extractors(r: Recorder) -> None:
    """What a hidden layer puts out, of models made before and after training."""
    x, y = r.draw(16, 5), r.draw(16, 2)
    model = r.sequential(5, [r.dense(6), r.dense(4, name="h"), r.dense(2, None)])
    before = r.keras.Model(model.inputs, model.get_layer("h").output)
    r.start(model)
    r.compile(MOMENTUM, model, before)
    r.predict("start", before, x)
    r.fit("a", model, x, y)
    after = r.keras.Model(model.inputs, model.get_layer("h").output)
    r.compile(SGD, after)
    r.predict("a/before", before, x)
    r.predict("a/after", after, x)
    r.fit("b", after, x, r.draw(16, 4))
    r.fit("c", model, x, y)
    r.note("c", model, before, after)


def new_head(r: Recorder) -> None:
    """A second head on the output of a trained model, and one on its hidden layer."""
    x, y, z = r.draw(16, 5), r.draw(16, 2), r.draw(16, 3)
    inputs = r.keras.Input((5,))
    model = r.keras.Model(inputs, r.dense(2, None)(r.dense(4, name="h")(inputs)))
    r.start(model)
    r.compile(ADAM, model)
    r.fit("a", model, x, y)
    head, second = r.dense(3, None), r.dense(3, None)
    on_output = r.keras.Model(model.input, head(model.output))
    on_hidden = r.keras.Model(model.input, second(model.get_layer("h").output))
    r.start(on_output, on_hidden)
    r.compile(ADAM, on_output, on_hidden)
    r.fit("b", on_output, x, z)
    r.fit("c", on_hidden, x, z)
    r.fit("d", model, x, y)
    r.note("d", model, on_output, on_hidden)
    r.predict("d", on_output, x)


def fine_tuning(r: Recorder) -> None:
    """A head is trained on a frozen base; then all, compiled with a smaller learning rate."""
    x, y, z = r.draw(16, 5), r.draw(16, 2), r.draw(16, 3)
    base = r.sequential(5, [r.dense(6), r.dense(4)])
    first = r.keras.Sequential([base, r.dense(2, None)])
    r.start(first)
    r.compile(ADAM, first)
    r.fit("a", first, x, y)
    head = r.dense(3, None)
    second = r.keras.Sequential([base, head])
    r.start(second)
    base.trainable = False
    r.compile(ADAM, second)
    r.fit("b", second, x, z)
    r.note("b", second, first)
    base.trainable = True
    r.compile(("Adam", {"learning_rate": 0.002}), second)
    r.fit("c", second, x, z)
    r.note("c", second, first)
    r.evaluate("c/first", first, x, y)
    r.evaluate("c/second", second, x, z)


# One layer used several times


def siamese(r: Recorder) -> None:
    """One layer reads two inputs; a model of it alone is trained in between."""
    left, right, y, code = r.draw(16, 5), r.draw(16, 5), r.draw(16, 1), r.draw(16, 4)
    a, b = r.keras.Input((5,), name="left"), r.keras.Input((5,), name="right")
    embedding = r.dense(4)
    joined = r.layers.Concatenate()([embedding(a), embedding(b)])
    model = r.keras.Model([a, b], r.dense(1, None)(joined))
    alone = r.keras.Model(a, embedding(a))
    r.start(model)
    r.compile(ADAM, model, alone)
    r.fit("a", model, [left, right], y)
    r.fit("b", alone, left, code)
    r.fit("c", model, [left, right], y)
    r.note("c", model, alone)
    r.predict("c", alone, right)
    r.evaluate("c", model, [left, right], y)


def twice_in_a_row(r: Recorder) -> None:
    """A layer that reads its own output, also in a model that uses it once."""
    x, y, z = r.draw(16, 4), r.draw(16, 2), r.draw(16, 4)
    layer = r.dense(4)
    inputs = r.keras.Input((4,))
    model = r.keras.Model(inputs, r.dense(2, None)(layer(layer(inputs))))
    once = r.sequential(4, [layer])
    r.start(model)
    r.compile(MOMENTUM, model, once)
    r.fit("a", model, x, y)
    r.fit("b", once, x, z)
    r.fit("c", model, x, y)
    r.note("c", model, once)
    r.predict("c", model, x)


def model_in_model_in_model(r: Recorder) -> None:
    """Three levels; each is trained."""
    x, y, z, v = r.draw(16, 5), r.draw(16, 4), r.draw(16, 3), r.draw(16, 2)
    inner = r.sequential(5, [r.dense(6), r.dense(4, None)])
    inputs = r.keras.Input((5,))
    middle = r.keras.Model(inputs, r.dense(3)(inner(inputs)))
    outer = r.keras.Sequential([middle, r.dense(2, None)])
    r.start(outer)
    r.compile(ADAM, inner, middle, outer)
    r.fit("a", inner, x, y)
    r.fit("b", middle, x, z)
    r.fit("c", outer, x, v)
    r.fit("d", inner, x, y)
    r.note("d", inner, middle, outer)
    r.predict("d", outer, x)


# Layers that are frozen


def gan(r: Recorder) -> None:
    """The loop of a GAN: the discriminator is trained, then frozen while the generator is."""
    generator = r.sequential(3, [r.dense(6), r.dense(4, None)])
    discriminator = r.sequential(4, [r.dense(5), r.dense(1, "sigmoid")])
    both = r.keras.Sequential([generator, discriminator])
    r.start(generator, discriminator)
    r.compile(RMSPROP, generator)
    r.compile(RMSPROP, discriminator, loss="binary_crossentropy")
    discriminator.trainable = False
    r.compile(RMSPROP, both, loss="binary_crossentropy")
    for step in range(4):
        fake = generator.predict(r.draw(8, 3), verbose=0)
        rows = np.concatenate([fake, r.draw(8, 4)])
        discriminator.trainable = True
        discriminator.train_on_batch(rows, np.repeat([[0.0], [1.0]], 8, axis=0))
        r.note(f"{step}/discriminator", discriminator)
        discriminator.trainable = False
        both.train_on_batch(r.draw(8, 3), np.ones((8, 1)))
        r.note(f"{step}/gan", generator, discriminator)
    noise = r.draw(8, 3)
    r.predict("end", both, noise)
    r.evaluate("end", both, noise, np.ones((8, 1)))


def frozen_normalization(r: Recorder) -> None:
    """A frozen BatchNormalization uses and keeps its moving statistics in training."""
    x, y = r.draw(16, 5), r.draw(16, 2)
    norm, below, above = r.layers.BatchNormalization(), r.dense(4), r.dense(2, None)
    model = r.sequential(5, [below, norm, above])
    r.start(model)
    r.start_layer(model.layers[-2])
    model.layers[-2].trainable = False
    r.compile(ADAM, model)
    r.fit("a", model, x, y)
    r.note("a", model)
    r.predict("a", model, x)
    model.layers[-2].trainable = True
    r.compile(ADAM, model)
    r.fit("b", model, x, y)
    r.note("b", model)
    r.evaluate("b", model, x, y)


def frozen_normalization_shared(r: Recorder) -> None:
    """A model with a frozen part trains beside one that has the same layers."""
    x, y, z = r.draw(16, 5), r.draw(16, 2), r.draw(16, 3)
    norm = r.layers.BatchNormalization()
    base = r.sequential(5, [r.dense(4), norm])
    first = r.keras.Sequential([base, r.dense(2, None)])
    r.start(first)
    r.start_layer(base.layers[-1])
    r.compile(MOMENTUM, first, base)
    r.fit("a", first, x, y)
    base.trainable = False
    second = r.keras.Sequential([base, r.dense(3), r.dense(3, None)])
    r.start(second)
    r.start_layer(base.layers[-1])
    r.compile(MOMENTUM, second)
    r.fit("b", second, x, z)
    r.note("b", second, first)
    r.evaluate("b", first, x, y)


def frozen_middle(**arguments: Any) -> Callable[[Recorder], None]:
    def wiring(r: Recorder) -> None:
        """A frozen layer between trained ones: its penalty does not count, its norm stays."""
        x, y = r.draw(16, 5), r.draw(16, 2)
        made = [{name: value(r.keras) for name, value in arguments.items()} for _ in range(3)]
        model = r.sequential(
            5, [r.dense(6, **made[0]), r.dense(4, **made[1]), r.dense(2, None, **made[2])]
        )
        r.start(model)
        r.compile(ADAM, model)
        r.evaluate("start", model, x, y)
        model.layers[-2].trainable = False
        r.compile(ADAM, model)
        r.evaluate("frozen", model, x, y)
        r.fit("a", model, x, y)
        r.note("a", model)
        r.evaluate("a", model, x, y)
        model.layers[-2].trainable = True
        r.compile(ADAM, model)
        r.evaluate("b", model, x, y)
        r.fit("b", model, x, y)
        r.note("b", model)
        r.predict("b", model, x)

    return wiring


def frozen_ends(r: Recorder) -> None:
    """Only the middle is trained; then only the last layer, in a model that is frozen."""
    x, y = r.draw(16, 5), r.draw(16, 2)
    model = r.sequential(5, [r.dense(6), r.dense(4), r.dense(2, None)])
    r.start(model)
    model.layers[0].trainable = model.layers[-1].trainable = False
    r.compile(NESTEROV, model)
    r.fit("a", model, x, y)
    r.note("a", model)
    model.layers[-1].trainable = True
    model.layers[-2].trainable = False
    r.compile(NESTEROV, model)
    r.fit("b", model, x, y)
    r.note("b", model)
    r.predict("b", model, x)


WIRINGS: dict[str, Callable[[Recorder], None]] = {
    "autoencoder_first": autoencoder_first,
    "encoder_first": encoder_first,
    "in_turns_sgd": in_turns(SGD),
    "in_turns_momentum": in_turns(MOMENTUM),
    "in_turns_adam": in_turns(ADAM),
    "extractors": extractors,
    "new_head": new_head,
    "fine_tuning": fine_tuning,
    "siamese": siamese,
    "twice_in_a_row": twice_in_a_row,
    "model_in_model_in_model": model_in_model_in_model,
    "gan": gan,
    "frozen_normalization": frozen_normalization,
    "frozen_normalization_shared": frozen_normalization_shared,
    "frozen_middle": frozen_middle(),
    "frozen_middle_l2": frozen_middle(kernel_regularizer=lambda k: k.regularizers.L2(0.05)),
    "frozen_middle_max_norm": frozen_middle(kernel_constraint=lambda k: k.constraints.MaxNorm(0.6)),
    "frozen_ends": frozen_ends,
}
