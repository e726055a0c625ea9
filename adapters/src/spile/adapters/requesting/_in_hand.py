"""Requests in hand, and the patience with their handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from spile.adapters.requesting._line import Arrival
from spile.spi import ProtocolRecord


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
        record: As it stands in the log.
        arrival: When it came.
        request: Its payload.
        request_id: Its event id.
        correlation_id: What its caller knows the answer by.
        limit_s: How long the handler may take.
        until: Loop time at which the caller is gone.
        patience: Ends the handler.
        is_handled: Whether the handler has ended.
    """

    __slots__ = (
        "arrival",
        "correlation_id",
        "is_handled",
        "limit_s",
        "patience",
        "record",
        "request",
        "request_id",
        "until",
    )

    def __init__(
        self,
        record: ProtocolRecord,
        arrival: Arrival,
        *,
        request: Any,
        request_id: str,
        correlation_id: str,
        limit_s: float,
        until: float,
    ) -> None:
        self.record = record
        self.arrival = arrival
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
