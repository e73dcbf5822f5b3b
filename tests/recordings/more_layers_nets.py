"""Nets of PReLU and of activation layers, made by Keras to record them and by gpunn to compare."""

from __future__ import annotations

from typing import Any

# Steps of training that are recorded.
STEPS = 6


def layer_nets(keras: Any) -> dict[str, list[Any]]:
    """Return the layers of each net, made by `keras` (or gpunn)."""
    layers = keras.layers
    return {
        "prelu": [keras.Input((7,)), layers.Dense(5), layers.PReLU(), layers.Dense(3)],
        "prelu_two_axes": [
            keras.Input((4, 3)),
            layers.PReLU(alpha_regularizer="l2", alpha_constraint="max_norm"),
            layers.Flatten(),
            layers.Dense(6),
            layers.PReLU(),
            layers.Dense(3),
        ],
        "activations": [
            keras.Input((7,)),
            layers.Dense(6),
            layers.LeakyReLU(),
            layers.Dense(6),
            layers.ELU(),
            layers.Dense(6),
            layers.ReLU(),
            layers.Dense(6),
            layers.ReLU(negative_slope=0.1),
            layers.Dense(6),
            layers.ELU(alpha=0.4),
            layers.Dense(3),
            layers.Softmax(),
        ],
        "regularized_bias": [
            keras.Input((7,)),
            layers.Dense(5, "tanh", bias_regularizer=keras.regularizers.L1L2(0.02, 0.03)),
            layers.Dense(3),
        ],
    }


def named_layers(keras: Any) -> list[Any]:
    """Return one layer of each kind, which are to have Keras's names."""
    layers = keras.layers
    kinds = (layers.LeakyReLU, layers.ELU, layers.ReLU, layers.Softmax, layers.PReLU)
    return [kind() for kind in kinds]


def constrained_net(keras: Any, kind: str, arguments: dict[str, Any]) -> list[Any]:
    """Return a net 7 -> tanh 5 -> 3, whose kernels and second bias are constrained."""
    first, second, third = (getattr(keras.constraints, kind)(**arguments) for _ in range(3))
    return [
        keras.Input((7,)),
        keras.layers.Dense(5, "tanh", kernel_constraint=first),
        keras.layers.Dense(3, kernel_constraint=second, bias_constraint=third),
    ]
