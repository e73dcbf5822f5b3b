"""Fail if pytest skipped a test for a reason that is not on the list.

usage: check_skips.py PYTEST_OUTPUT ALLOWED_REASONS

PYTEST_OUTPUT is what `pytest -ra` has written, with or without pytest-xdist: a line for each
reason and place, ``SKIPPED [count] file:line: reason``, and the counts in the last line.
"""

import re
import sys
from pathlib import Path


def main(output: str, allowed: str) -> int:
    lines = Path(allowed).read_text().splitlines()
    reasons = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    text = Path(output).read_text()
    skips = re.findall(r"^SKIPPED \[(\d+)\] (\S+?): (.*)$", text, re.MULTILINE)
    unexpected = [skip for skip in skips if skip[2].strip() not in reasons]
    for _, place, reason in unexpected:
        print(f"skip with a reason that is not in {allowed}: {place}: {reason}")
    totals = re.findall(r"^.*\b\d+ passed.*$", text, re.MULTILINE)
    if not totals:
        print(f"{output} has no line with counts: is it what pytest has written?")
        return 1
    counted = re.search(r"\b(\d+) skipped", totals[-1])
    listed, total = sum(int(count) for count, *_ in skips), int(counted[1]) if counted else 0
    if listed != total:
        print(f"{total} tests were skipped, the reasons are those of {listed}: -ra lists all")
    return 1 if unexpected or listed != total else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
