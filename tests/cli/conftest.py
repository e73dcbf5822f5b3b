"""Fixtures for tests of the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from gpunn.cli.app import main


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Run a command that must succeed; return the JSON object that it writes, a single line."""

    def run(*arguments: str) -> dict[str, Any]:
        capsys.readouterr()
        code = main([*arguments, "--json", "--quiet"])
        shown = capsys.readouterr()
        assert (code, shown.err) == (0, "")
        (line,) = shown.out.splitlines()
        return json.loads(line)

    return run


@pytest.fixture
def mistake(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must fail with exit code 2; return its message, one line or two."""

    def run(*arguments: str) -> str:
        capsys.readouterr()
        code = main(arguments)
        shown = capsys.readouterr()
        assert (code, shown.out) == (2, "")
        message = shown.err.removesuffix("\n")
        assert message.startswith("gpunn: error: ")
        assert message.count("\n") <= 1
        return message

    return run
