"""Rosenblatt's perceptron on iris flowers, and where it fails.

python examples/perceptron.py pictures
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_iris

import gpunn

iris = load_iris()
x = iris.data[:, [2, 3]]  # petal length and width, in cm
setosa = iris.target == 0

model = gpunn.Perceptron(random_state=42).fit(x, setosa)
print(f"a flower with petals of 2 cm by 0.5 cm is a setosa: {model.predict([[2, 0.5]])[0]}")
print(f"weights {model.coef_[0]}, bias {model.intercept_[0]}, accuracy {model.score(x, setosa)}")

# The parts of a linear threshold unit: a weighted sum, then a step function.
z = model.decision_function(x[::50])
print("z", z, "heaviside", gpunn.activations.step(z), "sign", gpunn.activations.sign(z))

# Three classes take three units over the same two inputs. A straight line parts setosa from the
# others and no other species: the other two units never settle.
three = gpunn.Perceptron(random_state=42).fit(x, iris.target)
units = gpunn.activations.step(three.decision_function(x))
for name, right in zip(
    iris.target_names, ((units.T > 0) == np.eye(3)[:, iris.target]), strict=True
):
    print(f"the unit for {name} is right in {right.mean():.0%} of flowers")

# XOR is beyond a single layer, however long it learns; a hidden layer is enough.
corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
xor = np.array([0, 1, 1, 0])
single = gpunn.Perceptron(tol=None, max_iter=1000).fit(corners, xor)
print(f"XOR, perceptron: {single.predict(corners)}, right {single.score(corners, xor):.0%}")
mlp = gpunn.Sequential(
    [
        gpunn.Input((2,)),
        gpunn.layers.Dense(8, activation="tanh"),
        gpunn.layers.Dense(1, activation="sigmoid"),
    ]
)
mlp.compile(gpunn.optimizers.Adam(0.05), "binary_crossentropy", seed=3)
mlp.fit(corners, xor[:, None].astype(np.float32), batch_size=4, epochs=200, verbose=0)
print(f"XOR, MLP: {(mlp.predict(corners, verbose=0).ravel() > 0.5).astype(int)}")

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "pictures")
try:
    import matplotlib.pyplot as plt
except ImportError:
    print("for a picture of the decision boundary: pip install matplotlib")
else:
    figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    across, up = np.meshgrid(np.linspace(0, 7.2, 400), np.linspace(0, 2.8, 400))
    z = model.decision_function(np.column_stack([across.ravel(), up.ravel()])).reshape(up.shape)
    ax.contourf(across, up, z > 0, levels=[-0.5, 0.5, 1.5], colors=["#fde9cf", "#d7e8f5"])
    ax.contour(across, up, z, levels=[0], colors="black")
    ax.scatter(*x[setosa].T, color="#0072B2", edgecolor="white", label="setosa")
    ax.scatter(*x[~setosa].T, color="#D55E00", marker="s", edgecolor="white", label="others")
    ax.set(xlabel="petal length (cm)", ylabel="petal width (cm)", title="Is it a setosa?")
    ax.legend(loc="lower right")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "perceptron.png"
    figure.savefig(file, dpi=100)
    print(file)
