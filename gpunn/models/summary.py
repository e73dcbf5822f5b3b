"""A model as a table of its layers."""

from __future__ import annotations

from collections.abc import Collection

from gpunn.specs.graph import Graph
from gpunn.specs.layers import InputLayer


def summary_table(
    graph: Graph, name: str, frozen: Collection[str] = (), *, inputs_listed: bool
) -> str:
    """Return a table of layers with their output shapes and numbers of weights.

    Parameters
    ----------
    graph : Graph
    name : str
        Of the model.
    frozen : collection of str
        Names of layers that are not trained.
    inputs_listed : bool
        Whether inputs are lines of the table and a column says what each layer reads; a stack
        of layers needs neither.
    """
    counts: dict[str, int] = {}
    for variable in graph.variables:
        counts[variable.layer] = counts.get(variable.layer, 0) + variable.size
    rows = [("Layer (type)", "Output shape", "Param #", "Connected to")]
    for node in graph.nodes:
        if not inputs_listed and isinstance(node.layer, InputLayer):
            continue
        first_call = node.name == node.layer_name
        count = counts.get(node.layer_name, 0) if first_call else 0
        kind = f"{node.name} ({type(node.layer).__name__})"
        shape = f"({', '.join(['None', *map(str, node.shape)])})"
        sources = ", ".join(graph.nodes[i].name for i in node.inputs)
        rows.append((kind, shape, f"{count:,}", sources))
    if not inputs_listed:
        rows = [(*row[:3], "") for row in rows]
    widths = [max(len(row[i]) for row in rows) + 2 for i in range(4)]
    lines = [
        (f"{row[0]:<{widths[0]}}{row[1]:<{widths[1]}}{row[2]:>{widths[2]}}  {row[3]}").rstrip()
        for row in rows
    ]
    rule = "─" * max(map(len, lines))
    trained = (v.size for v in graph.variables if v.trainable and v.layer not in frozen)
    trainable = sum(trained)
    total = graph.parameter_count()
    lines = [
        f'Model: "{name}"',
        rule,
        lines[0],
        rule,
        *lines[1:],
        rule,
        f"Total params: {total:,}",
        f"Trainable params: {trainable:,}",
        f"Non-trainable params: {total - trainable:,}",
    ]
    return "\n".join(lines)
