"""What a pickled or copied model keeps.

Its layers, how it was compiled, its weights, its seed, and of its training the history, the
optimizer's state and a learning rate that was set; so `fit` goes on where it stopped, as that of a
model does that `gpunn.load_model` read (the history is not in files). Left behind
is what belongs to a process: the device with its memory and the plans bound to it, which are made
anew when first needed. Models that share layers and are pickled or copied as one object, a list or
a dict say, share them afterwards, too.

As ever with pickles: loading one executes what is in it. `Model.save` and `gpunn.load_model` are
for files from elsewhere.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gpunn.backends.select import select_backend
from gpunn.models.compiling import check_precision


def state_of(model: Any) -> dict[str, Any]:
    """Return a model's attributes, those of its process left out."""
    # A seed that is not drawn yet is drawn now: first weights are the original's.
    state = dict(vars(model)) | {"_seed": model.seed}
    for name in ("_session", "_symbolic", "_bound", "_optimizer", "_known_weights"):
        state.pop(name, None)
    if model.built:
        model._push_adapted()
        state["_weights"] = [
            (model.graph.layers[name], weights.read_all(), set(weights.drawn), weights.adapted)
            for name, weights in model._layer_weights.items()
        ]
    state["_state"] = replace(model._state, slots=model._slots())
    if model._compiled is not None:
        state["_compiled"] = replace(model._compiled, selection=None)
    return state


def restore(model: Any, state: dict[str, Any]) -> None:
    """Take back what `state_of` returned; the device is looked for anew."""
    state = dict(state)
    saved = state.pop("_weights", ())
    vars(model).update(state, _session=None)
    if model.built:
        by_layer = {id(layer): name for name, layer in model.graph.layers.items()}
        for layer, values, drawn, adapted in saved:
            # Another model of the same pickle that has the layer may have brought them already.
            weights = model._layer_weights[by_layer[id(layer)]]
            if not weights.values and weights.holder is None:
                weights.set(values)
                weights.drawn, weights.adapted = set(drawn), adapted
    compiled = model._compiled
    if compiled is None:
        return
    selection = select_backend(compiled.device, threads=compiled.threads)
    check_precision(selection, compiled.device, compiled.precision)
    model._compiled = replace(compiled, selection=selection)
