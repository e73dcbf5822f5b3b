"""Logic from neurons: McCulloch and Pitts' nets of 1943, and an MLP that computes XOR.

python examples/logical_neurons.py
"""

import numpy as np

import gpunn
from gpunn import logic

# A neuron fires when at least two of its connections are active. An input may be connected twice;
# an inhibiting input silences the neuron.
nets = {
    "C = A": logic.IDENTITY,
    "C = A and B": logic.AND,
    "C = A or B": logic.OR,
    "C = A and not B": logic.AND_NOT,
    "C = not B": logic.NOT,
    "C = A xor B, a net of three neurons": logic.XOR,
}
for title, net in nets.items():
    print(f"{title}\n{net.truth_table(every_neuron=True)}\n")

# Nets are made of neurons by name: C fires where two of three agree.
majority = logic.Net("XYZ", {"C": logic.Neuron("XYZ")})
print(f"majority of three\n{majority.truth_table()}\n")

# XOR again, as a multilayer perceptron of threshold units with weights set by hand: the first
# hidden unit is AND, the second OR, the output OR and not AND.
model = gpunn.Sequential(
    [
        gpunn.Input((2,)),
        gpunn.layers.Dense(2, activation="step", name="hidden"),
        gpunn.layers.Dense(1, activation="step", name="output"),
    ]
)
model.set_weights(
    [
        np.array([[1, 1], [1, 1]]),
        np.array([-1.5, -0.5]),
        np.array([[-1], [1]]),
        np.array([-0.5]),
    ]
)
x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
outputs = model.predict(x, verbose=0).ravel().astype(int)
for row, output in zip(x.astype(int), outputs, strict=True):
    print(f"MLP: {row[0]} xor {row[1]} = {output}")
assert np.array_equal(outputs, logic.XOR(*x.astype(int).T))
