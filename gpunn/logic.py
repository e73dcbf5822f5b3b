"""Logical computations with neurons, as McCulloch and Pitts imagined them in 1943.

A neuron has inputs that are on or off and fires when enough of them are on, here at least two. An
input may be connected more than once, and a connection may inhibit: while that input is on, the
neuron does not fire at all. Nets of such neurons compute every logical proposition.

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

MOST_INPUTS = 20  # of a truth table: about a million rows


@dataclass(frozen=True)
class Neuron:
    """A neuron that fires when at least `threshold` of its connections are active.

    Parameters
    ----------
    excitatory : sequence of str, or str
        The inputs, by name; one that is named twice has two connections.
    inhibitory : sequence of str, or str, optional
        Inputs of which a single active one keeps the neuron silent.
    threshold : int, default=2
        0 makes a neuron that always fires unless it is inhibited.

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
        """Return when it fires, from bool arrays of one shape, by the names of its inputs."""
        shape = np.shape(next(iter(signals.values())))
        active = np.zeros(shape, dtype=np.int64)
        silent = np.zeros(shape, dtype=np.bool_)
        for name in self.excitatory:
            active = active + signals[name]
        for name in self.inhibitory:
            silent = silent | signals[name]
        return (active >= self.threshold) & ~silent


class Net:
    """A net of neurons without loops: inputs, and neurons that read inputs and earlier neurons.

    Parameters
    ----------
    inputs : sequence of str, or str
        Names of the inputs, ``"AB"`` for A and B.
    neurons : dict from str to Neuron
        In the order in which they are computed. The last is the output.
    constants : sequence of str, or str, optional
        Inputs that are on all the time; no arguments are given for them.

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
            raise ArgumentError("Net: there must be an input and a neuron at least.")
        names = [*self.inputs, *self.constants, *self.neurons]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ArgumentError(f"Net: names must differ; {', '.join(twice)} is there twice.")
        known = [*self.inputs, *self.constants]
        for name, neuron in self.neurons.items():
            if not isinstance(neuron, Neuron):
                raise ArgumentTypeError(f"Net: {name} must be a Neuron, not {neuron!r}.")
            for source in (*neuron.excitatory, *neuron.inhibitory):
                if source not in known:
                    raise UnknownNameError(f"input of neuron {name}", source, known)
            known.append(name)

    def signals(self, *inputs: Any) -> dict[str, Any]:
        """Return the inputs and what every neuron puts out, by name.

        Parameters
        ----------
        *inputs : bool, 0 or 1, or arrays of them
            One for each input of the net. Arrays are broadcast against each other.

        Returns
        -------
        dict from str to bool, int or array
            As the inputs are: bools for bools, an array if any of them is one.
        """
        if len(inputs) != len(self.inputs):
            raise ShapeError(
                f"The net has {len(self.inputs)} inputs ({', '.join(self.inputs)}), but "
                f"{len(inputs)} were given."
            )
        arrays = [_on_off(name, value) for name, value in zip(self.inputs, inputs, strict=True)]
        try:
            given = np.broadcast_arrays(*arrays)
        except ValueError as error:
            shapes = ", ".join(str(array.shape) for array in arrays)
            raise ShapeError(f"Inputs of shapes {shapes} do not fit together.") from error
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
        """Return what the last neuron puts out; see `signals`."""
        return self.signals(*inputs)[[*self.neurons][-1]]

    def truth_table(self, every_neuron: bool = False) -> TruthTable:
        """Return the outputs for all inputs, in the order of counting in binary.

        Parameters
        ----------
        every_neuron : bool, default=False
            Whether to show the neurons between inputs and output as well.
        """
        count = len(self.inputs)
        if count > MOST_INPUTS:
            raise ArgumentError(
                f"A truth table has at most {MOST_INPUTS} inputs; the net has {count}."
            )
        rows = np.arange(2**count)
        inputs = [(rows >> (count - 1 - i)) & 1 for i in range(count)]
        signals = self.signals(*inputs)
        neurons = [*self.neurons] if every_neuron else [[*self.neurons][-1]]
        names = (*self.inputs, *neurons)
        return TruthTable(names, np.stack([signals[name] for name in names], axis=1))


@dataclass(frozen=True, eq=False)
class TruthTable:
    """Inputs and outputs of a net; ``print`` shows it.

    Parameters
    ----------
    names : tuple of str
        Of the columns.
    values : int array of shape (2**inputs, columns)
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
# A AND NOT B, where A is on all the time.
NOT = Net("B", {"C": Neuron("AA", "B")}, constants="A")
# One or the other, but not both.
XOR = Net(
    "AB",
    {"either": Neuron("AABB"), "both": Neuron("AB"), "C": Neuron(["either", "either"], ["both"])},
)
