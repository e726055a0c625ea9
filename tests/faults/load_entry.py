"""The load with something changed, as a process: `python load_entry.py MODE... -- ARGUMENTS`."""

from __future__ import annotations

import sys
import time

from spile.testkit.load import main


class _Skewed:
    """Stands in for the module `time` where records are stamped."""

    def __init__(self, seconds: float) -> None:
        self.monotonic = time.monotonic
        self._seconds = seconds

    def time(self) -> float:
        return time.time() + self._seconds


def skew(seconds: float) -> None:
    """Let the wall clock of the publisher be wrong by so much."""
    from spile.adapters.kafka import _pump  # noqa: PLC0415 - only this mode looks inside

    _pump.time = _Skewed(seconds)


if __name__ == "__main__":
    split = sys.argv.index("--")
    for mode in sys.argv[1:split]:
        name, *numbers = mode.split(":")
        globals()[name.replace("-", "_")](*map(float, numbers))
    sys.exit(main(sys.argv[split + 1 :]))
