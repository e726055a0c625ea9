"""Requests in hand, and which of a partition are settled when they end in any order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from spile.spi import ProtocolRecord


class Progress:
    """
    Requests of one partition between their arrival and their end, in the order of the log.

    A partition that is given up and assigned anew begins with an offset that was seen already; use
    another object then, so that the ends of the old requests count for nothing.
    """

    __slots__ = ("_ended", "_last", "_open")

    def __init__(self) -> None:
        self._open: deque[int] = deque()
        self._ended: set[int] = set()
        self._last = -1

    def follows(self, offset: int) -> bool:
        """Say whether an offset comes after all that began."""
        return offset > self._last

    def begin(self, offset: int) -> None:
        """Note that a request is in hand."""
        self._open.append(offset)
        self._last = offset

    def end(self, offset: int) -> int | None:
        """Note that a request is settled; the offset to read next, when that moved."""
        self._ended.add(offset)
        moved: int | None = None
        while self._open and self._open[0] in self._ended:
            moved = self._open.popleft()
            self._ended.discard(moved)
        return None if moved is None else moved + 1


class Patience:
    """
    Ends a handler that takes too long, as `asyncio.timeout` does, at a fifth of the cost.

    The timer is set by itself, so that what ends at once needs none.

    Attributes:
        task: Runs the handler; set before the timer.
        expired: Whether the time is up.
    """

    __slots__ = ("_timer", "expired", "task")

    def __init__(self) -> None:
        self.task: asyncio.Task[Any] | None = None
        self.expired = False
        self._timer: asyncio.TimerHandle | None = None

    def set_timer(self, seconds: float) -> None:
        """Cancel the handler after some seconds."""
        self._timer = asyncio.get_running_loop().call_later(seconds, self._expire)

    def end(self) -> bool:
        """Note that the handler has ended; say whether the task was cancelled for no more."""
        if self._timer is not None:
            self._timer.cancel()
        return self.expired and self.task is not None and not self.task.uncancel()

    def _expire(self) -> None:
        if self.task is not None:
            self.expired = True
            self.task.cancel()


class InHand:
    """
    One request from its arrival to the acknowledgement of its answer.

    Attributes:
        limit_s: How long the handler may take.
        until: Loop time at which the caller is gone.
        patience: Ends the handler.
        is_handled: Whether the handler has ended.
    """

    __slots__ = (
        "correlation_id",
        "is_handled",
        "limit_s",
        "patience",
        "progress",
        "record",
        "request",
        "request_id",
        "until",
    )

    def __init__(
        self,
        record: ProtocolRecord,
        progress: Progress,
        *,
        request: Any,
        request_id: str,
        correlation_id: str,
        limit_s: float,
        until: float,
    ) -> None:
        self.record = record
        self.progress = progress
        self.request = request
        self.request_id = request_id
        self.correlation_id = correlation_id
        self.limit_s = limit_s
        self.until = until
        self.patience = Patience()
        self.is_handled = False


def set_timers(begun: Sequence[InHand]) -> None:
    """Set timers for those whose handlers did not end at once; others can do without the cost."""
    for taken in begun:
        if not taken.is_handled:
            taken.patience.set_timer(taken.limit_s)
