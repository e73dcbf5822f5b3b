"""Compilation where nothing can be cached: a read-only installation without a home folder."""

from __future__ import annotations

from typing import Any

import numba
import pytest

from gpunn.backends.cpu.loops import compile as numba_compile


def double(x: float) -> float:
    return 2 * x


def test_where_nothing_can_be_cached_functions_are_compiled_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bool] = []

    def njit(cache: bool = False, **options: Any) -> Any:
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function 'double': no locator available")
        return numba.njit(**options)

    monkeypatch.setattr(numba_compile, "njit", njit)
    assert numba_compile.compiled(double, error_model="numpy")(1.5) == 3.0
    assert asked == [True, False]
