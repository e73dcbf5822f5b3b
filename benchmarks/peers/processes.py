"""Peers in processes of their own: started, told to run a round, ended."""

from __future__ import annotations

import importlib.util
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from gpunn.errors import GpunnError

SCRIPT = Path(__file__).with_name("worker.py")
MODULES: dict[str, tuple[str, ...]] = {
    "torch": ("torch",),
    "torch.compile": ("torch",),
    "torch.autotune": ("torch",),
    "torch.graphs": ("torch",),
    "jax": ("jax",),
}
MODULES |= {"sklearn": ("sklearn",), "keras": ("keras", "jax"), "numpy": ("numpy",)}
PACKAGES = {"sklearn": "scikit-learn"}  # by module, where the name is another
ANSWER_SECONDS = 900.0


class PeerError(GpunnError, RuntimeError):
    """A peer died, failed or did not answer."""


def missing_packages(name: str, python: str | None) -> list[str]:
    """Return the packages that peer `name` lacks in `python` (default: this one)."""
    wanted = MODULES[name]
    if python is None:
        found = [importlib.util.find_spec(module) is not None for module in wanted]
    else:
        code = "import importlib.util as u, sys; print(*[int(u.find_spec(m) is not None) "
        code += "for m in sys.argv[1:]])"
        command = [python, "-c", code, *wanted]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise PeerError(f"{python} cannot be run: {done.stderr.strip()[-300:]}")
        found = [word == "1" for word in done.stdout.split()]
    lacking = [module for module, there in zip(wanted, found, strict=True) if not there]
    return [PACKAGES.get(module, module) for module in lacking]


class PeerRefusalError(PeerError):
    """A peer says that it cannot do what it is asked for; it goes on waiting for commands."""


class PeerProcess:
    """A peer that waits for commands.

    Parameters
    ----------
    name : str
        As `worker.py` takes it.
    threads : int
        Set in its environment before it imports anything, and by it where it can.
    python : str, optional
    command : list of str, optional
        What to start in place of `worker.py`.
    environment : dict, optional
        Variables to set besides.

    Attributes
    ----------
    patience : float or None
        Seconds to wait for an answer; None is a quarter of an hour.
    """

    def __init__(
        self,
        name: str,
        threads: int,
        python: str | None = None,
        command: list[str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.patience: float | None = None
        command = command or [python or sys.executable, str(SCRIPT), name, str(threads)]
        limits = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM")
        variables = os.environ | {f"{limit}_NUM_THREADS": str(threads) for limit in limits}
        if python is not None:
            variables.pop("PYTHONPATH", None)  # it is for this Python
        variables |= {"TF_CPP_MIN_LOG_LEVEL": "3"} | dict(environment or {})
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, closed by close()
        # A session of its own: Ctrl-C is for the parent, which ends the workers in order.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=variables,
            encoding="utf-8",
            start_new_session=os.name == "posix",
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._answers.put(line)
        self._answers.put("")

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Give a command and wait for its answer.

        Raises
        ------
        PeerRefusalError
            The peer says why it cannot.
        PeerError
            It has died, or does not answer.
        """
        assert self._process.stdin is not None
        patience = ANSWER_SECONDS if self.patience is None else self.patience
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=patience)
        except queue.Empty:
            raise PeerError(f"no answer to {do!r} in {patience:.0f} s") from None
        except OSError:
            line = ""
        if not line:
            raise PeerError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if not answer.pop("ok"):
            raise PeerRefusalError(answer["error"])
        return answer

    def _last_words(self) -> str:
        code = self._process.wait(10)
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"died with exit code {code}" + (f": {lines[-1][:300]}" if lines else "")

    def close(self) -> None:
        """End the process."""
        process = self._process
        if process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._errors.close()


class Company:
    """The peers on one device, and what the report says about them.

    Parameters
    ----------
    notes : dict
        By name: versions, or why it is not there.
    start : callable
        ``start(name, threads, python)`` returns a `PeerProcess`.
    """

    def __init__(
        self, notes: dict[str, Any], start: Callable[[str, int, str | None], Any] = PeerProcess
    ) -> None:
        self.notes, self._start = notes, start
        self._peers: dict[str, Any] = {}

    @property
    def names(self) -> list[str]:
        """Those that wait for commands."""
        return list(self._peers)

    def start(self, name: str, threads: int, python: str | None, **arguments: Any) -> None:
        """Start a peer, or note what it lacks."""
        if lacking := missing_packages(name, python):
            command = f"pip install {' '.join(lacking)}"
            self.notes[name] = {"state": "missing", "detail": command}
            return
        note = self.notes[name] = {"state": "measured"}
        self._peers[name] = self._start(name, threads, python)
        if answer := self.ask(name, "start", threads=threads, **arguments):
            note |= answer
        elif name in self._peers:
            note["state"] = "refused"
            self._peers.pop(name).close()

    def ask(self, name: str, do: str, /, **arguments: Any) -> dict[str, Any] | None:
        """Ask a peer; where that fails, note why and return None."""
        peer = self._peers.get(name)
        if peer is None:
            return None
        try:
            answer: dict[str, Any] = peer.ask(do, **arguments)
        except PeerRefusalError as error:
            refused = self.notes[name].setdefault("refused", [])
            if str(error) not in refused:
                refused.append(str(error))
            return None
        except PeerError as error:
            self.notes[name] |= {"state": "failed", "detail": str(error)}
            self._peers.pop(name).close()
            return None
        return answer

    def close(self) -> None:
        """End all processes."""
        while self._peers:
            self._peers.popitem()[1].close()
