"""Texts written for Keras run with the import swapped, and show the reader what Keras shows.

``tests/recordings/run_keras_chapter.py`` has run the texts under Keras 3 and recorded what each
cell shows: names, shapes, numbers of weights, keys of the history, whether the loss fell.
"""

from __future__ import annotations

import importlib.util
import json
import traceback
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

import gpunn

DATA = Path(__file__).parents[1] / "recordings"
_spec = importlib.util.spec_from_file_location("run_keras_chapter", DATA / "run_keras_chapter.py")
assert _spec is not None and _spec.loader is not None
chapter = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(chapter)

KERAS = json.loads(chapter.RECORDED.read_text(encoding="utf-8"))
CELLS = [(text, cell) for text, path in chapter.texts().items() for cell in chapter.cells(path)]
# Where gpunn shows something else than Keras: (text, cell, expression) -> what gpunn shows.
# Keras's Normalization has a third weight, a count of the batches that it was adapted to.
OTHERWISE: dict[tuple[str, str, str], Any] = {
    ("regression", "its summary", "model.count_params()"): 5617,
    ("regression", "its summary", "model.summary()"): {"Trainable": 5601, "Non-trainable": 16},
    ("regression", "its summary", "[tuple(w.shape) for w in model.get_weights()]"): [
        *([8], [8]),
        *([8, 50], [50], [50, 50], [50], [50, 50], [50], [50, 1], [1]),
    ],
}


@lru_cache(maxsize=1)
def run(text: str) -> dict[str, Any]:
    """Run a text; return what each cell shows, or the error that it ends with."""
    path = chapter.texts()[text]
    namespace: dict[str, Any] = {"__name__": "__main__"}
    shown: dict[str, Any] = {}
    with chapter.stand_ins(gpunn):
        warnings.simplefilter("error")
        for cell, code in chapter.cells(path, "gpunn").items():
            try:
                shown[cell] = chapter.run_cell(code, namespace, str(path))
            except Exception:
                shown[cell] = traceback.format_exc(limit=-4)
    return shown


@pytest.mark.parametrize(("text", "cell"), CELLS, ids=[f"{t}: {c}" for t, c in CELLS])
def test_cell(text: str, cell: str) -> None:
    shown = run(text)[cell]
    if isinstance(shown, str):
        pytest.fail(shown, pytrace=False)
    if text in KERAS:
        expected = [
            [source, OTHERWISE.get((text, cell, source), value)]
            for source, value in KERAS[text][cell]
        ]
        assert shown == expected


def test_every_recorded_cell_is_still_in_a_text() -> None:
    recorded = {(text, cell) for text in KERAS.keys() - {"versions"} for cell in KERAS[text]}
    assert recorded <= set(CELLS)
    left_out = {text for text, _ in set(CELLS) - recorded}
    assert all(
        chapter.texts()[text].read_text().startswith(chapter.NOT_IN_KERAS) for text in left_out
    )
