"""The perceptron's training loop, compiled by numba: one call for each pass over the data.

Every operation has the type and the place in the order that it has in scikit-learn's stochastic
gradient descent, so that weights come out equal bit for bit: sums go from the first feature to the
last in float64, products are in the type of the data. Nothing here checks its arguments.

Weights are kept as ``scale * weights``, so that an l2 penalty costs one product for a sample and
not one for each weight (Bottou 2012, "Stochastic gradient descent tricks").
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpunn.backends.cpu.loops.compile import threaded

NO_PENALTY, L1, L2, ELASTICNET = 0, 1, 2, 3

# Places in the state, a float64 array that goes from pass to pass: the intercept; the scale of the
# weights; the squared l2 norm and the l1 norm of the scaled weights; the l1 penalty that each
# weight could have had so far.
INTERCEPT, SCALE, SQUARED_NORM, L1_NORM, PENALTY = range(5)
STATE_SIZE = 5

_A, _B, _C = np.uint32(13), np.uint32(17), np.uint32(5)
_MASK = np.uint32(0x7FFFFFFF)


@threaded
def shuffle(order: Any, seed: Any) -> None:
    """Shuffle `order` in place (Fisher-Yates), by a 32-bit xorshift generator.

    Parameters
    ----------
    order : int32 array, shape (n_samples,)
    seed : uint32
        Marsaglia (2003), "Xorshift RNGs", Journal of Statistical Software 8(14); 0, where the
        generator would stay, stands for 1.
    """
    word = np.uint32(seed)
    if word == 0:
        word = np.uint32(1)
    for i in range(order.size - 1):
        word = np.uint32(word ^ np.uint32(word << _A))
        word = np.uint32(word ^ np.uint32(word >> _B))
        word = np.uint32(word ^ np.uint32(word << _C))
        j = i + np.int64(word & _MASK) % (order.size - i)
        order[i], order[j] = order[j], order[i]


@threaded
def _reset_scale(weights: Any, state: Any) -> None:
    factor = weights.dtype.type(state[SCALE])
    for k in range(weights.size):
        weights[k] *= factor
    state[SCALE] = 1.0


@threaded
def _add(weights: Any, values: Any, columns: Any, factor: Any, state: Any) -> None:
    scale = type(factor)(state[SCALE])
    step = np.float64(factor / scale)
    # Of the weights touched, which for sparse rows are not all: the objective that stops the
    # training counts these alone.
    squares = 0.0
    sizes = 0.0
    for j in range(values.size):
        k = columns[j]
        weights[k] += np.float64(values[j]) * step
        squares += weights[k] * weights[k]
        sizes += abs(np.float64(weights[k]))
    state[SQUARED_NORM] = squares * np.float64(scale * scale)
    state[L1_NORM] = sizes * np.float64(scale)


@threaded
def _truncate(weights: Any, values: Any, columns: Any, given: Any, state: Any) -> None:
    """Give the weights of a row the l1 penalty they are owed, up to 0 and not beyond.

    The cumulative penalty of Tsuruoka, Tsujii and Ananiadou (2009), "Stochastic gradient descent
    training for l1-regularized log-linear models with cumulative penalty"; `given` is what each
    weight has had.
    """
    scale = state[SCALE]
    owed = state[PENALTY]
    for j in range(values.size):
        k = columns[j]
        before = np.float64(weights[k])
        if scale * before > 0.0:
            weights[k] = max(0.0, before - (owed + np.float64(given[k])) / scale)
        elif scale * before < 0.0:
            weights[k] = min(0.0, before + (owed - np.float64(given[k])) / scale)
        given[k] += scale * (np.float64(weights[k]) - before)


@threaded
def run_pass(
    data: Any,
    columns: Any,
    starts: Any,
    order: Any,
    held_out: Any,
    targets: Any,
    sample_weights: Any,
    weights: Any,
    given: Any,
    state: Any,
    penalty: int,
    alpha: float,
    l1_ratio: float,
    eta: float,
    fit_intercept: bool,
    intercept_decay: float,
    positive_weight: Any,
    negative_weight: Any,
    smallest_scale: float,
    watched: bool,
) -> tuple[float, float]:
    """Show every sample once; where the unit is wrong, move its weights (Rosenblatt's rule).

    A sample on the boundary counts as wrong, for either class: weights that are 0 would otherwise
    never move.

    Parameters
    ----------
    data : float array, shape (number of values,)
        The rows one after the other. Types of other arrays follow from its type, T.
    columns : int32 array
        Feature of each value; of one row's values if `starts` is empty (dense data).
    starts : int32 array, shape (n_samples + 1,) or (0,)
        Where each sparse row starts.
    order : int32 array, shape (n_samples,)
    held_out : bool array, shape (n_samples,)
        Samples for validation.
    targets, sample_weights : T array, shape (n_samples,)
        Targets are 1 and -1.
    weights, given : T array, shape (n_features,)
        `given`: l1 penalty that each weight has had; empty without one.
    state : float64 array, shape (STATE_SIZE,)
    penalty : int
        NO_PENALTY, L1, L2 or ELASTICNET, with the factors `alpha` and `l1_ratio`.
    eta : float
        Learning rate.
    positive_weight, negative_weight : T
        Weights of the two classes.
    smallest_scale : float
        Below, the scale is multiplied into the weights.
    watched : bool
        Whether loss and objective are wanted.

    Returns
    -------
    loss, objective : float
        Sums over the samples, each before it moved the weights; 0 if not `watched`.
    """
    loss_sum = 0.0
    objective_sum = 0.0
    decay = max(0.0, 1.0 - (1.0 - l1_ratio) * eta * alpha)
    narrow_decay = type(positive_weight)(decay)
    squared_decay = np.float64(narrow_decay * narrow_decay)
    for place in range(order.size):
        i = np.int64(order[place])
        if held_out[i]:
            continue
        if starts.size:
            values = data[starts[i] : starts[i + 1]]
            features = columns[starts[i] : starts[i + 1]]
        else:
            values = data[i * weights.size : (i + 1) * weights.size]
            features = columns

        product = 0.0
        for j in range(values.size):
            product += weights[features[j]] * values[j]
        # Rounded to the data's type, the intercept then added in float64.
        product = np.float64(type(positive_weight)(product * state[SCALE]))
        z = product + state[INTERCEPT]
        target = np.float64(targets[i])
        margin = z * target
        wrong = margin <= 0.0

        if watched:
            loss = -margin if wrong else 0.0
            loss_sum += loss
            objective_sum += loss
            if penalty != NO_PENALTY:
                norm = type(positive_weight)(math.sqrt(state[SQUARED_NORM]))
                squared = np.float64(norm * norm)
                size = np.float64(type(positive_weight)(state[L1_NORM]))
                objective_sum += alpha * ((1.0 - l1_ratio) * 0.5 * squared + l1_ratio * size)

        if penalty >= L2:
            state[SCALE] *= np.float64(narrow_decay)
            state[SQUARED_NORM] *= squared_decay
            state[L1_NORM] *= np.float64(abs(narrow_decay))
            if state[SCALE] < smallest_scale:
                _reset_scale(weights, state)

        if wrong:
            factor = positive_weight if target > 0 else negative_weight
            update = eta * target * np.float64(factor * sample_weights[i])
            if update != 0.0:
                _add(weights, values, features, type(positive_weight)(update), state)
                if fit_intercept:
                    state[INTERCEPT] += update * intercept_decay

        if penalty in (L1, ELASTICNET):
            state[PENALTY] += l1_ratio * eta * alpha
            _truncate(weights, values, features, given, state)
    return loss_sum, objective_sum


@threaded
def finish(weights: Any, state: Any) -> None:
    """Multiply the scale into the weights."""
    _reset_scale(weights, state)
