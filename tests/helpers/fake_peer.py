"""A peer that answers at once, in place of a process with another framework."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class FakePeer:
    """Takes two seconds for a round; notes what it is asked."""

    def __init__(
        self,
        name: str,
        threads: int,
        python: str | None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.environment = name, dict(environment or {})
        self.asked: list[str] = []
        self.closed = False

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        self.asked.append(do)
        return {
            "start": {"versions": {"fake": "1.0"}, "start_seconds": 1.0},
            "setup": {"warm_up_seconds": 3.0},
            "round": {"seconds": 2.0, "loss": 0.5},
            "check": {"loss": 0.7},
            "predict": {"seconds": 4.0},
            "fit": {"seconds": 6.0, "loss": 0.1},
            "reach": {"seconds": [1.0, 2.0, 3.0], "accuracies": [0.9, 0.985]},
            "peak": {"bytes": 7_000_000},
        }[do]

    def close(self) -> None:
        self.closed = True
