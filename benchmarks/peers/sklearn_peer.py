"""scikit-learn: `MLPClassifier.partial_fit`, which is an epoch over the rows it is given."""

from __future__ import annotations

from typing import Any


class Peer:
    """See the package's docstring."""

    def __init__(
        self, images: Any, labels: Any, weights: list[Any], threads: int, device: str
    ) -> None:
        # The number of threads is set by the environment, before NumPy is imported.
        import sklearn
        from sklearn.neural_network import MLPClassifier

        if device != "cpu":
            raise ValueError("scikit-learn has no MLPClassifier for the GPU")
        self.make = MLPClassifier
        self.images, self.labels, self.weights = images, labels, weights
        self.versions = {"scikit-learn": str(sklearn.__version__)}

    def setup(
        self, batch_size: int, optimizer: str, rate: float, dropout: float, precision: str
    ) -> None:
        """Make the classifier and give it the weights."""
        import numpy as np

        if dropout:
            raise ValueError("scikit-learn's MLPClassifier has no dropout")
        if precision not in ("float32", "float64"):
            raise ValueError(f"scikit-learn does not compute in {precision}")
        self.images = self.images.astype(precision, copy=False)
        hidden = tuple(len(bias) for bias in self.weights[1:-1:2])
        self.net = self.make(
            hidden,
            activation="relu",
            solver="adam" if optimizer == "adam" else "sgd",
            alpha=0.0,
            batch_size=batch_size,
            learning_rate_init=rate,
            momentum=0.9 if optimizer == "momentum" else 0.0,
            nesterovs_momentum=False,
            epsilon=1e-7,
            random_state=0,
        )
        classes = np.arange(len(self.weights[-1]))
        # The first call makes the arrays, and takes a step; weights and optimizer come after it.
        self.net.set_params(batch_size=1).partial_fit(
            self.images[:1], self.labels[:1], classes=classes
        )
        self.net.set_params(batch_size=batch_size)
        dtype = self.net.coefs_[0].dtype
        self.net.coefs_ = [kernel.astype(dtype) for kernel in self.weights[::2]]
        self.net.intercepts_ = [bias.astype(dtype) for bias in self.weights[1::2]]
        self._restart_optimizer()

    def _restart_optimizer(self) -> None:
        # As `fit` begins: the optimizer is made anew on the next call.
        self.net.t_, self.net.n_iter_ = 0, 0
        self.net.loss_curve_, self.net._no_improvement_count = [], 0
        parameters = self.net.coefs_ + self.net.intercepts_
        old = self.net._optimizer
        options = {"learning_rate_init": self.net.learning_rate_init}
        if self.net.solver == "adam":
            options |= {"beta_1": 0.9, "beta_2": 0.999, "epsilon": self.net.epsilon}
        else:
            options |= {"momentum": self.net.momentum, "nesterov": False}
        self.net._optimizer = type(old)(parameters, **options)

    def epoch(self, steps: int, shuffle: bool) -> float:
        """Train `steps` steps; return the mean loss."""
        rows = steps * self.net.batch_size
        self.net.shuffle = shuffle
        self.net.partial_fit(self.images[:rows], self.labels[:rows])
        return float(self.net.loss_)

    def predict(self, rows: int, start: int = 0) -> Any:
        """Return probabilities."""
        return self.net.predict_proba(self.images[start : start + rows])
