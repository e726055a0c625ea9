"""How many requests a responder has in hand, and what became of the others."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Final

from spile.adapters.requesting._metrics import RESPONSES, RESPONSES_RUNNING

_OUTCOMES: Final = (
    "completed",
    "failed",
    "expired",
    "repeated",
    "unreadable",
    "unanswered",
    "tick",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponderCounts:
    """
    What became of the requests that one responder took.

    Attributes:
        completed: Answered.
        failed: Answered with a failure.
        expired: Dropped, because their caller was gone before they began.
        repeated: Come again after they were answered here; dropped.
        unreadable: No requests of the trio; kept as dead letters where there is a queue.
        unanswered: Handled, but no answer could be sent; where the bus refused even the failure,
            kept as dead letters.
        running: In hand now.
    """

    completed: int
    failed: int
    expired: int
    repeated: int
    unreadable: int
    unanswered: int
    running: int


class Tally:
    """
    Counts requests, here and in the metrics.

    Attributes:
        idle: Set while none is in hand.
        running: How many are.

    Args:
        trio: Its name.
    """

    def __init__(self, trio: str) -> None:
        self.idle = asyncio.Event()
        self.idle.set()
        self.running = self._shown = 0
        self._will_show = False
        self._counts: Counter[str] = Counter()
        self._outcomes = {name: RESPONSES.labels(trio, name) for name in _OUTCOMES}
        self._gauge = RESPONSES_RUNNING.labels(trio)

    @property
    def counts(self) -> ResponderCounts:
        """What became of the requests so far."""
        names = (name for name in ResponderCounts.__slots__ if name != "running")
        return ResponderCounts(running=self.running, **{name: self._counts[name] for name in names})

    def note(self, outcome: str) -> bool:
        """Count the end of a request; say whether it is the first of its kind."""
        self._counts[outcome] += 1
        self._outcomes[outcome].inc()
        return self._counts[outcome] == 1

    def begin(self) -> None:
        """Count a request in."""
        self.running += 1
        self.idle.clear()
        self._show_soon()

    def end(self) -> None:
        """Count a request out."""
        self.running -= 1
        if not self.running:
            self.idle.set()
        self._show_soon()

    def _show_soon(self) -> None:
        """Show in the gauge how many run, once for all that come and go in a turn."""
        if not self._will_show:
            self._will_show = True
            asyncio.get_running_loop().call_soon(self._show)

    def _show(self) -> None:
        self._will_show = False
        self._gauge.inc(self.running - self._shown)
        self._shown = self.running
