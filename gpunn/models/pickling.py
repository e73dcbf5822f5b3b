"""What a pickled or copied model keeps.

Its layers, how it was compiled, its weights, its seed, and of its training the history, the
optimizer's state and a learning rate that was set; so `fit` goes on where it stopped, as that of a
model does that `gpunn.load_model` read (the history is not in files). Left behind
is what belongs to a process: the device with its memory and the plans bound to it, which are made
anew when first needed, and the models that layers were taken from.

As ever with pickles: loading one executes what is in it. `Model.save` and `gpunn.load_model` are
for files from elsewhere.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gpunn.backends.select import select_backend
from gpunn.models.compiling import check_precision
from gpunn.specs.optimizers import CompiledOptimizer

if TYPE_CHECKING:
    from gpunn.models.compilable import Compilable


def state_of(model: Compilable) -> dict[str, Any]:
    """Return a model's attributes, those of its process left out."""
    # A seed that is not drawn yet is drawn now: first weights are the original's.
    state = dict(vars(model)) | {"_seed": model.seed}
    for name in ("_session", "_symbolic", "_bound", "_optimizer"):
        state.pop(name, None)
    if model._graph is not None:
        # Weights of other models' layers have been taken over by now.
        state["_graph"] = replace(model._graph, origins={})
    session = model._session
    if session is not None:
        state["_values"], state["_resumed"] = session.weights(), model._progress()
    if model._compiled is not None:
        state["_compiled"] = replace(model._compiled, selection=None)  # type: ignore[arg-type]
        optimizer = model.optimizer
        state["_rate"] = vars(optimizer)["override"], vars(optimizer)["iterations"]
    return state


def restore(model: Compilable, state: dict[str, Any]) -> None:
    """Take back what `state_of` returned; the device is looked for anew."""
    state = dict(state)
    rate = state.pop("_rate", None)
    vars(model).update(state, _session=None)
    compiled = model._compiled
    if compiled is None:
        return
    selection = select_backend(compiled.device, threads=compiled.threads)
    check_precision(selection, compiled.device, compiled.precision)
    model._compiled = replace(compiled, selection=selection)
    model._optimizer = (model._compiled, CompiledOptimizer(compiled.optimizer, *rate))
