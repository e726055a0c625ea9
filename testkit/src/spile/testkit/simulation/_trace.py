"""What happened in a simulation, step by step, and its hash."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable

_KEPT = 400


class Trace:
    """
    Everything that can be observed from outside, in order, with its virtual time.

    Two runs are the same when their hashes are. Note no ids that are made at random and no
    addresses, or no two runs will be.

    Args:
        clock: Virtual seconds.

    Attributes:
        tail: The last 400 lines, for people.
        steps: How many there were.
        counts: Steps by what they were; faults by `fault` and their kind.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.tail: deque[str] = deque(maxlen=_KEPT)
        self.steps = 0
        self.counts: Counter[str] = Counter()
        self._clock = clock
        self._hash = hashlib.sha256()
        self._closed = False

    @property
    def digest(self) -> str:
        """SHA-256 of all steps so far, in hexadecimal."""
        return self._hash.hexdigest()

    def note(self, what: str, *facts: object) -> None:
        """Add a step."""
        if self._closed:
            return
        line = f"{self._clock():.6f} {what} {' '.join(map(str, facts))}"
        self.tail.append(line)
        self.steps += 1
        self.counts[f"fault {facts[0]}" if what == "fault" else what] += 1
        self._hash.update(line.encode() + b"\n")

    def close(self) -> None:
        """Note nothing any more."""
        self._closed = True
