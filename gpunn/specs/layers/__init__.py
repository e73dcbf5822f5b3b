"""Layers as specs: small frozen objects that know shapes and weights, but hold no arrays.

How to add one is in CONTRIBUTING.md.
"""

from typing import Any

from gpunn.specs.layers.activation import ACTIVATION_LAYERS as ACTIVATION_LAYERS
from gpunn.specs.layers.activation import (
    ELU,
    Activation,
    Lambda,
    LeakyReLU,
    PReLU,
    ReLU,
    Softmax,
)
from gpunn.specs.layers.base import Layer
from gpunn.specs.layers.base import layers as layers
from gpunn.specs.layers.core import (
    Add,
    Average,
    Concatenate,
    Dense,
    Dropout,
    Flatten,
    Input,
    InputLayer,
    Multiply,
    Rescaling,
    add,
    average,
    concatenate,
    multiply,
)
from gpunn.specs.layers.normalization import BatchNormalization, LayerNormalization, Normalization

__all__ = [
    "Activation",
    "Add",
    "Average",
    "BatchNormalization",
    "Concatenate",
    "Dense",
    "Dropout",
    "ELU",
    "Flatten",
    "Input",
    "InputLayer",
    "Lambda",
    "Layer",
    "LayerNormalization",
    "LeakyReLU",
    "Multiply",
    "Normalization",
    "PReLU",
    "ReLU",
    "Rescaling",
    "Softmax",
    "add",
    "average",
    "concatenate",
    "multiply",
]

_UNSUPPORTED = (
    ("convolutions", ("Conv", "SeparableConv", "DepthwiseConv", "UpSampling", "ZeroPadding")),
    ("pooling", ("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool")),
    ("recurrent layers", ("LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", "TimeDistributed")),
    ("attention", ("Attention", "MultiHeadAttention", "AdditiveAttention")),
    ("embeddings and text", ("Embedding", "TextVectorization", "StringLookup", "Hashing")),
)


def __getattr__(name: str) -> Any:
    for kind, prefixes in _UNSUPPORTED:
        if name.startswith(prefixes):
            raise AttributeError(
                f"gpunn has no layer {name}: it trains multilayer perceptrons and has no {kind}."
            )
    known = ", ".join(sorted(c.__name__ for c in layers.classes()))
    raise AttributeError(f"gpunn.layers has no {name!r}; its layers are {known}.")
