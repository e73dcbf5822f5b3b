"""A diagram of a model's layers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gpunn.errors import ArgumentError, ArgumentTypeError, NotBuiltError, UnknownNameError
from gpunn.plots.common import COLOURS, QUIET, pyplot
from gpunn.specs.graph import Graph, Node
from gpunn.specs.layers import InputLayer
from gpunn.specs.registry import check_number

FORMATS = ("pdf", "png", "svg")
DIRECTIONS = ("LR", "TB")
# Keras's arguments for Graphviz, with their defaults.
FIXED = {"splines": "ortho", "layer_range": None}
KEYWORDS = ("show_shapes", "show_layer_names", "rankdir", "dpi", "show_layer_activations")
LINE, GAP = 0.17, 0.34  # inches: height of a line of text, distance between boxes
CHARACTER = 0.075
FACES = {"InputLayer": "#f2f2f2", "Dense": "#d6e6f4"}


def plot_model(
    model: Any,
    to_file: str | os.PathLike[str] | None = "model.png",
    show_shapes: bool = True,
    show_dtype: bool = False,
    show_layer_names: bool = True,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: float = 100,
    show_layer_activations: bool = True,
    show_trainable: bool = False,
    **others: Any,
) -> Any:
    """Draw the layers of a model as boxes, and write the figure to a file.

    The arguments are Keras's, but more is shown by default.

    Parameters
    ----------
    model : Model
        A model whose input shape is known.
    to_file : path-like or None, default "model.png"
        A .png, .svg or .pdf file; None writes none.
    show_shapes : bool, default True
        Write the shape of each layer's output; None stands for the number of rows.
    show_dtype : bool, default False
        Keras's; only the default is supported.
    show_layer_names : bool, default True
        Write the names of the layers above their classes.
    rankdir : {"TB", "LR"}
        From top to bottom or from left to right.
    expand_nested : bool, default False
        Ignored, as models are not nested.
    dpi : float, default 100
        Dots per inch of a .png file.
    show_layer_activations : bool, default True
        Write the names of activations other than "linear".
    show_trainable : bool, default False
        Keras's; only the default is supported.
    **others : object
        Keras's `splines` and `layer_range`; only their defaults are supported.

    Returns
    -------
    matplotlib Figure
        The diagram.

    Raises
    ------
    NotBuiltError
        The input shape is not known yet.
    ArgumentError, ArgumentTypeError, UnknownNameError
        `model` is not a model, the file's extension or `rankdir` is not known, or an argument is
        not supported.

    Notes
    -----
    Layers are placed in ranks by their longest path from the inputs (Sugiyama, Tagawa and Toda,
    1981); arrows that span several ranks get a place of their own in each, so that they pass
    between the boxes.
    """
    if not hasattr(type(model), "graph"):
        raise ArgumentTypeError(f"model must be a gpunn model, not {model!r}.")
    for name, value in {"show_dtype": show_dtype, "show_trainable": show_trainable}.items():
        if value:
            raise ArgumentError(f"plot_model: {name} is not supported; leave it out.")
    for name, value in others.items():
        if name not in FIXED:
            raise UnknownNameError("argument of plot_model", name, KEYWORDS)
        if value != FIXED[name]:
            raise ArgumentError(
                f"plot_model: {name} is not supported; leave it out, or at {FIXED[name]!r}."
            )
    check_number("plot_model", "dpi", dpi, above=0)
    if not (to_file is None or isinstance(to_file, str | os.PathLike)):
        raise ArgumentTypeError(f"to_file must be a path or None, not {to_file!r}.")
    if rankdir not in DIRECTIONS:
        raise UnknownNameError("rankdir", rankdir, DIRECTIONS)
    if to_file is not None and Path(to_file).suffix.lstrip(".").lower() not in FORMATS:
        raise ArgumentError(f"to_file must end in .png, .svg or .pdf, not {str(to_file)!r}.")
    if not model.built:
        raise NotBuiltError("model is not built: its input shape is not known; give it an Input.")
    pyplot()
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
    from matplotlib.path import Path as Line

    graph = model.graph
    weighted = {variable.layer for variable in graph.variables}
    shown = (show_shapes, show_layer_names, show_layer_activations)
    texts = [_text(node, *shown) for node in graph.nodes]
    wide = CHARACTER * max(len(line) for text in texts for line in text.split("\n")) + 0.25
    high = LINE * (texts[0].count("\n") + 1) + 0.16
    ranks = _ranks(graph)
    down = rankdir == "TB"
    across, along = (wide, high) if down else (high, wide)
    places: dict[Any, tuple[float, float]] = {}
    breadth = max(map(len, ranks)) * (across + GAP)
    for depth, rank in enumerate(ranks):
        for i, item in enumerate(rank):
            aside = breadth / 2 + (i - (len(rank) - 1) / 2) * (across + GAP)
            ahead = (depth + 0.5) * (along + GAP)
            places[item] = (aside, -ahead) if down else (ahead, -aside)
    length = len(ranks) * (along + GAP)
    size = (breadth, length) if down else (length, breadth)
    figure = Figure(figsize=size, dpi=dpi)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, size[0]), ylim=(-size[1], 0))
    axes.set_axis_off()
    for i, node in enumerate(graph.nodes):
        for source in node.inputs:
            depths = [d for d, rank in enumerate(ranks) if (source, i, d) in rank]
            points = [_edge(places[source], along, down, 1)]
            for d in depths:
                passing = places[source, i, d]
                points += [_edge(passing, along, down, -1), _edge(passing, along, down, 1)]
            points.append(_edge(places[i], along, down, -1))
            arrow = FancyArrowPatch(
                path=Line(points), arrowstyle="-|>", mutation_scale=10, color="#555555", lw=1
            )
            axes.add_patch(arrow)
    for i, node in enumerate(graph.nodes):
        x, y = places[i]
        kind = type(node.layer).__name__
        box = FancyBboxPatch(
            (x - wide / 2, y - high / 2),
            wide,
            high,
            boxstyle="round,pad=0,rounding_size=0.06",
            facecolor=FACES.get(kind, "white"),
            edgecolor=COLOURS[0] if node.layer_name in weighted else QUIET,
        )
        axes.add_patch(box)
        axes.text(x, y, texts[i], ha="center", va="center", fontsize=9, parse_math=False)
    if to_file is not None:
        figure.savefig(to_file, dpi=dpi)
    return figure


def _edge(place: tuple[float, float], along: float, down: bool, side: int) -> tuple[float, float]:
    """Return the midpoint of the edge of a box where arrows leave (1) or arrive (-1)."""
    x, y = place
    return (x, y - side * along / 2) if down else (x + side * along / 2, y)


def _text(node: Node, show_shapes: bool, show_name: bool, show_activation: bool) -> str:
    kind = type(node.layer).__name__
    activation = getattr(getattr(node.layer, "activation", None), "name", "linear")
    kind = "Input" if isinstance(node.layer, InputLayer) else kind
    with_activation = show_activation and activation != "linear"
    lines = [node.name] * show_name + [f"{kind}, {activation}" if with_activation else kind]
    if show_shapes:
        lines.append(f"({', '.join(['None', *map(str, node.shape)])})")
    return "\n".join(lines)


def _ranks(graph: Graph) -> list[list[Any]]:
    """Return the nodes by rank, and (source, target, rank) for each rank that an arrow passes."""
    depth: list[int] = []
    for node in graph.nodes:
        depth.append(max((depth[i] + 1 for i in node.inputs), default=0))
    ranks: list[list[Any]] = [[] for _ in range(max(depth) + 1)]
    sources: dict[Any, list[Any]] = {}
    for i, node in enumerate(graph.nodes):
        ranks[depth[i]].append(i)
        sources[i] = []
        for source in node.inputs:
            before: Any = source
            for d in range(depth[source] + 1, depth[i]):
                passing = (source, i, d)
                ranks[d].append(passing)
                sources[passing] = [before]
                before = passing
            sources[i].append(before)
    # Each node close to its sources, as far as the others allow.
    at: dict[Any, float] = {}
    for rank in ranks:
        rank.sort(key=lambda item: sum(at[s] for s in sources[item]) / (len(sources[item]) or 1))
        at |= {item: i - (len(rank) - 1) / 2 for i, item in enumerate(rank)}
    return ranks
