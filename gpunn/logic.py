"""Logical computations with neurons, as McCulloch and Pitts imagined them in 1943.

A neuron has inputs that are on or off and fires when enough of them are on, by default at least
two. An input may be connected more than once, and a connection may inhibit: while that input is
on, the neuron does not fire at all. Networks of such neurons can compute any logical proposition.

>>> from gpunn import logic
>>> logic.AND(True, False)
False
>>> print(logic.XOR.truth_table())
A  B  C
0  0  0
0  1  1
1  0  1
1  1  0

Source: W. S. McCulloch and W. Pitts, "A Logical Calculus of the Ideas Immanent in Nervous
Activity", Bulletin of Mathematical Biophysics 5 (1943).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpunn.errors import ArgumentError, ArgumentTypeError, DataError, ShapeError, UnknownNameError

Array = np.ndarray[Any, Any]

__all__ = ["AND", "AND_NOT", "IDENTITY", "NOT", "OR", "XOR", "Net", "Neuron", "TruthTable"]

MAX_INPUTS = 20  # of a truth table: about a million rows


@dataclass(frozen=True)
class Neuron:
    """A neuron that fires when at least `threshold` of its connections are active.

    Parameters
    ----------
    excitatory : sequence of str, or str
        Names of the inputs; one that is named twice has two connections.
    inhibitory : sequence of str, or str, optional
        Inputs of which a single active one keeps the neuron from firing.
    threshold : int, default=2
        At least 0; with 0 a neuron always fires unless it is inhibited.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        `threshold` is negative or not an int, or the inputs are not names.

    Examples
    --------
    >>> Neuron("AB")  # A AND B
    Neuron(excitatory=('A', 'B'), inhibitory=(), threshold=2)
    """

    excitatory: Sequence[str]
    inhibitory: Sequence[str] = ()
    threshold: int = 2

    def __post_init__(self) -> None:
        for name in ("excitatory", "inhibitory"):
            object.__setattr__(self, name, _names(f"Neuron: {name}", getattr(self, name)))
        threshold = self.threshold
        if isinstance(threshold, bool) or not isinstance(threshold, int | np.integer):
            raise ArgumentTypeError(f"Neuron: threshold must be an int, not {threshold!r}.")
        if threshold < 0:
            raise ArgumentError(f"Neuron: threshold must be at least 0, not {threshold}.")

    def fires(self, signals: Mapping[str, Array]) -> Array:
        """Return when the neuron fires.

        Parameters
        ----------
        signals : mapping of str to bool ndarray
            The inputs by name, of one shape.

        Returns
        -------
        bool ndarray
            Of the shape of the inputs.
        """
        shape = np.shape(next(iter(signals.values())))
        active = np.zeros(shape, dtype=np.int64)
        silent = np.zeros(shape, dtype=np.bool_)
        for name in self.excitatory:
            active = active + signals[name]
        for name in self.inhibitory:
            silent = silent | signals[name]
        return (active >= self.threshold) & ~silent


class Net:
    """A network of neurons without loops; neurons read inputs and earlier neurons.

    Parameters
    ----------
    inputs : sequence of str, or str
        Names of the inputs, ``"AB"`` for A and B.
    neurons : dict of str to Neuron
        In the order in which they are computed. The last is the output.
    constants : sequence of str, or str, optional
        Inputs that are always on; no arguments are passed for them.

    Raises
    ------
    ArgumentError, ArgumentTypeError, UnknownNameError
        There is no input or no neuron, a name occurs twice, or a neuron reads what is not computed
        before it.

    Examples
    --------
    >>> nand = Net("AB", {"both": Neuron("AB"), "C": Neuron("TT", ["both"])}, constants="T")
    >>> nand(1, 1)
    0
    """

    def __init__(
        self,
        inputs: Sequence[str],
        neurons: Mapping[str, Neuron],
        constants: Sequence[str] = (),
    ) -> None:
        self.inputs = _names("Net: inputs", inputs)
        self.constants = _names("Net: constants", constants)
        self.neurons = dict(neurons)
        if not self.inputs or not self.neurons:
            raise ArgumentError("Net: there must be at least one input and one neuron.")
        names = [*self.inputs, *self.constants, *self.neurons]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ArgumentError(f"Net: names must differ; {', '.join(twice)} occurs twice.")
        known = [*self.inputs, *self.constants]
        for name, neuron in self.neurons.items():
            if not isinstance(neuron, Neuron):
                raise ArgumentTypeError(f"Net: {name} must be a Neuron, not {neuron!r}.")
            for source in (*neuron.excitatory, *neuron.inhibitory):
                if source not in known:
                    raise UnknownNameError(f"input of neuron {name}", source, known)
            known.append(name)

    def signals(self, *inputs: Any) -> dict[str, Any]:
        """Return the inputs and the outputs of all neurons.

        Parameters
        ----------
        *inputs : bool, 0 or 1, or arrays of them
            One for each input of the network. Arrays are broadcast against each other.

        Returns
        -------
        dict of str to bool, int or ndarray
            By name; bools if the inputs are bools, arrays if any input is one.

        Raises
        ------
        ArgumentTypeError, DataError, ShapeError
            The number of inputs is wrong, one is neither on nor off, or the shapes do not
            broadcast.
        """
        if len(inputs) != len(self.inputs):
            raise ShapeError(
                f"The network has {len(self.inputs)} inputs ({', '.join(self.inputs)}), but "
                f"{len(inputs)} were given."
            )
        arrays = [_on_off(name, value) for name, value in zip(self.inputs, inputs, strict=True)]
        try:
            given = np.broadcast_arrays(*arrays)
        except ValueError as error:
            shapes = ", ".join(str(array.shape) for array in arrays)
            raise ShapeError(f"Inputs of shapes {shapes} cannot be broadcast together.") from error
        on = {name: array.astype(np.bool_) for name, array in zip(self.inputs, given, strict=True)}
        on |= {name: np.ones(given[0].shape, dtype=np.bool_) for name in self.constants}
        for name, neuron in self.neurons.items():
            on[name] = neuron.fires(on)

        dtype = np.result_type(*arrays)
        results = {name: np.asarray(array, dtype) for name, array in on.items()}
        if any(isinstance(value, np.ndarray | list | tuple) for value in inputs):
            return results
        return {name: array.item() for name, array in results.items()}

    def __call__(self, *inputs: Any) -> Any:
        """Return the output of the last neuron; see `signals`."""
        return self.signals(*inputs)[[*self.neurons][-1]]

    def truth_table(self, every_neuron: bool = False) -> TruthTable:
        """Return the outputs for all inputs, in binary counting order.

        Parameters
        ----------
        every_neuron : bool, default=False
            Whether to include the neurons between inputs and output.

        Returns
        -------
        TruthTable
            A row for each combination of inputs.

        Raises
        ------
        ArgumentError
            The network has more than 20 inputs.
        """
        count = len(self.inputs)
        if count > MAX_INPUTS:
            raise ArgumentError(
                f"A truth table has at most {MAX_INPUTS} inputs; the network has {count}."
            )
        rows = np.arange(2**count)
        inputs = [(rows >> (count - 1 - i)) & 1 for i in range(count)]
        signals = self.signals(*inputs)
        neurons = [*self.neurons] if every_neuron else [[*self.neurons][-1]]
        names = (*self.inputs, *neurons)
        return TruthTable(names, np.stack([signals[name] for name in names], axis=1))


@dataclass(frozen=True, eq=False)
class TruthTable:
    """Inputs and outputs of a network; ``print`` shows it.

    Parameters
    ----------
    names : tuple of str
        Names of the columns.
    values : int ndarray, shape (2**inputs, columns)
        0 and 1.
    """

    names: tuple[str, ...]
    values: Array

    def __str__(self) -> str:
        lines = ["  ".join(self.names)]
        for row in self.values:
            cells = (str(v).rjust(len(n)) for n, v in zip(self.names, row, strict=True))
            lines.append("  ".join(cells))
        return "\n".join(lines)


def _names(argument: str, value: Any) -> tuple[str, ...]:
    names = tuple(value) if isinstance(value, Sequence) else None
    if names is None or not all(isinstance(name, str) and name for name in names):
        raise ArgumentTypeError(f"{argument} must be names, such as 'AB' or ['A', 'B'].")
    return names


def _on_off(name: str, value: Any) -> Array:
    array = np.asarray(value)
    if array.dtype.kind not in "bui":
        raise ArgumentTypeError(
            f"Input {name} must be bool, 0 or 1, or an array of them, not {value!r}."
        )
    if array.dtype.kind != "b" and not np.isin(array, (0, 1)).all():
        raise DataError(f"Input {name} must be 0 or 1, not {value!r}.")
    return array


IDENTITY = Net("A", {"C": Neuron("AA")})
AND = Net("AB", {"C": Neuron("AB")})
OR = Net("AB", {"C": Neuron("AABB")})
AND_NOT = Net("AB", {"C": Neuron("AA", "B")})
# A AND NOT B, where A is always on.
NOT = Net("B", {"C": Neuron("AA", "B")}, constants="A")
XOR = Net(
    "AB",
    {"either": Neuron("AABB"), "both": Neuron("AB"), "C": Neuron(["either", "either"], ["both"])},
)
