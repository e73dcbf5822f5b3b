"""McCulloch and Pitts' neurons: truth tables, kinds of input, mistakes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpunn import logic
from gpunn.errors import ArgumentError, ArgumentTypeError, DataError, ShapeError, UnknownNameError
from gpunn.logic import Net, Neuron

# What each net should say, in Python's own logic.
PROPOSITIONS: dict[str, tuple[Net, Callable[..., bool]]] = {
    "identity": (logic.IDENTITY, lambda a: a),
    "and": (logic.AND, lambda a, b: a and b),
    "or": (logic.OR, lambda a, b: a or b),
    "and not": (logic.AND_NOT, lambda a, b: a and not b),
    "not": (logic.NOT, lambda b: not b),
    "xor": (logic.XOR, lambda a, b: a != b),
}


@pytest.mark.parametrize("name", PROPOSITIONS)
def test_a_net_computes_its_proposition_on_bools_ints_and_arrays(name: str) -> None:
    net, proposition = PROPOSITIONS[name]
    rows = list(product([False, True], repeat=len(net.inputs)))
    expected = [proposition(*row) for row in rows]
    for row, value in zip(rows, expected, strict=True):
        assert net(*row) is value
        result = net(*(int(signal) for signal in row))
        assert type(result) is int
        assert result == int(value)
    for dtype in (np.bool_, np.uint8, np.int64):
        result = net(*np.array(rows, dtype).T)
        assert result.dtype == dtype
        np.testing.assert_array_equal(result, expected)
    table = net.truth_table()
    np.testing.assert_array_equal(table.values[:, :-1], rows)
    np.testing.assert_array_equal(table.values[:, -1], expected)


def test_the_neurons_of_the_book_need_two_signals() -> None:
    neuron = logic.AND.neurons["C"]
    assert neuron.threshold == 2
    one = np.array([True])
    assert not neuron.fires({"A": one, "B": ~one})
    assert neuron.fires({"A": one, "B": one})
    # A single connection from A would not be enough for the identity.
    assert Net("A", {"C": Neuron("A")})(True) is False


@given(
    threshold=st.integers(0, 5),
    connections=st.lists(st.sampled_from("ABC"), max_size=6),
    inhibitors=st.lists(st.sampled_from("ABC"), max_size=2),
    values=st.fixed_dictionaries(dict.fromkeys("ABC", st.booleans())),
)
def test_a_neuron_counts_active_connections_and_any_inhibitor_silences_it(
    threshold: int, connections: list[str], inhibitors: list[str], values: dict[str, bool]
) -> None:
    net = Net("ABC", {"D": Neuron(connections, inhibitors, threshold)})
    enough = sum(values[name] for name in connections) >= threshold
    assert net(values["A"], values["B"], values["C"]) == (
        enough and not any(values[name] for name in inhibitors)
    )


def test_inputs_are_broadcast_and_the_neurons_between_can_be_seen() -> None:
    signals = logic.XOR.signals(np.array([[0], [1]]), np.array([0, 1]))
    assert {name: signals[name].tolist() for name in ("either", "both", "C")} == {
        "either": [[0, 1], [1, 1]],
        "both": [[0, 0], [0, 1]],
        "C": [[0, 1], [1, 0]],
    }


def test_a_truth_table_prints() -> None:
    assert str(logic.XOR.truth_table(every_neuron=True)).splitlines() == [
        "A  B  either  both  C",
        "0  0       0     0  0",
        "0  1       1     0  1",
        "1  0       1     0  1",
        "1  1       1     1  0",
    ]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Neuron([1, 2]), ArgumentTypeError, "excitatory must be names"),
        (lambda: Neuron("A", inhibitory=3), ArgumentTypeError, "inhibitory must be names"),
        (lambda: Neuron("A", threshold=1.5), ArgumentTypeError, "threshold must be an int"),
        (lambda: Neuron("A", threshold=-1), ArgumentError, "threshold must be at least 0"),
        (lambda: Net("", {"C": Neuron("A")}), ArgumentError, "at least one input and one neuron"),
        (lambda: Net("AB", {"C": logic.AND}), ArgumentTypeError, "C must be a Neuron, not <"),
        (lambda: Net("AB", {"A": Neuron("AB")}), ArgumentError, "A occurs twice"),
        (
            lambda: Net("AB", {"C": Neuron("AD"), "D": Neuron("AB")}),
            UnknownNameError,
            "Unknown input of neuron C 'D'",
        ),
        (lambda: logic.AND(1), ShapeError, "2 inputs .A, B., but 1"),
        (lambda: logic.AND(1, 2), DataError, "Input B must be 0 or 1, not 2"),
        (lambda: logic.AND(0.5, 1), ArgumentTypeError, "Input A must be bool, 0 or 1"),
        (lambda: logic.AND([0, 1], [0, 1, 1]), ShapeError, r"\(2,\), \(3,\) cannot be broadcast"),
        (
            lambda: Net([f"x{i}" for i in range(21)], {"C": Neuron(["x0"])}).truth_table(),
            ArgumentError,
            "at most 20 inputs; the network has 21",
        ),
    ],
)
def test_mistakes_are_named(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
