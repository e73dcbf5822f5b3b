"""Fail if pytest skipped a test for a reason that is not on the list.

usage: check_skips.py PYTEST_OUTPUT ALLOWED_REASONS
"""

import re
import sys
from pathlib import Path


def main(output: str, allowed: str) -> int:
    lines = Path(allowed).read_text().splitlines()
    reasons = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    unexpected = []
    for line in Path(output).read_text().splitlines():
        match = re.match(r"SKIPPED \[\d+\] (\S+?): (.*)", line)
        if match and match[2].strip() not in reasons:
            unexpected.append(line)
    for line in unexpected:
        print(f"skip with a reason that is not in {allowed}: {line}")
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
