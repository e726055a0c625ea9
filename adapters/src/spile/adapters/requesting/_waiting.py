"""Who waits for which answer, and who did a moment ago."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final, Literal, TypeAlias
from uuid import UUID

from spile.spi import (
    BrokerUnavailableError,
    ProtocolRecord,
    SpileError,
    TooManyRequestsError,
)

Stray: TypeAlias = Literal["late", "duplicate"]

_REMEMBERED: Final = 10_000
_CANONICAL_LENGTH: Final = 36
_SLOTS_A_SECOND: Final = 64


class Pending:
    """
    One request under way.

    Attributes:
        future: Gets the answer, or why there is none.
        outcome: What becomes of the request if its caller gives up now.
        slot: Its place among the deadlines.
    """

    __slots__ = ("_what", "future", "outcome", "slot")

    def __init__(self, future: asyncio.Future[ProtocolRecord], what: str) -> None:
        self.future = future
        self.outcome = "not_sent"
        self.slot = 0
        self._what = what

    def published(self, fate: bool | SpileError) -> None:
        """Take what became of the publish; an answer that is here already says more."""
        if self.future.done():
            return
        if fate is True:
            self.outcome = "cancelled"
        elif fate is False:
            self.future.set_exception(
                BrokerUnavailableError(
                    f"{self._what} was not acknowledged; it may or may not have been sent"
                )
            )
        else:
            self.future.set_exception(fate)

    def fail(self, error: SpileError | TimeoutError, outcome: str) -> None:
        """Raise an error at the caller."""
        if not self.future.done():
            self.outcome = outcome
            self.future.set_exception(error)


class Deadlines:
    """
    Ends requests whose time is up, up to 16 ms late; one timer serves all of the same 16 ms.

    A timer for each request would cost more than the wait for its answer.
    """

    def __init__(self) -> None:
        self._slots: dict[int, tuple[set[Pending], asyncio.TimerHandle]] = {}

    def add(self, pending: Pending, seconds: float) -> None:
        """End a request so many seconds from now, unless it is removed before."""
        loop = asyncio.get_running_loop()
        number = pending.slot = int((loop.time() + seconds) * _SLOTS_A_SECOND) + 1
        slot = self._slots.get(number)
        if slot is None:
            timer = loop.call_at(number / _SLOTS_A_SECOND, self._due, number)
            slot = self._slots[number] = (set(), timer)
        slot[0].add(pending)

    def remove(self, pending: Pending) -> None:
        """Let go of a request."""
        slot = self._slots.get(pending.slot)
        if slot is None:
            return
        slot[0].discard(pending)
        if not slot[0]:
            slot[1].cancel()
            del self._slots[pending.slot]

    def _due(self, number: int) -> None:
        for pending in self._slots.pop(number)[0]:
            pending.fail(TimeoutError(), "timed_out")


class Waiting:
    """
    Requests under way, by correlation id.

    Args:
        limit: Most requests at a time.
        what: What they are and where they go, for errors.
    """

    def __init__(self, limit: int, what: str) -> None:
        self._limit = limit
        self._what = what
        self._deadlines = Deadlines()
        self._pending: dict[bytes, Pending] = {}
        self._gone: OrderedDict[bytes, Stray] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, correlation_id: bytes, limit_s: float) -> Pending:
        """
        Begin with a request; `forget` it in the end, whatever becomes of it.

        Its future raises TimeoutError when the time is up, and its outcome says `timed_out` then.

        Raises:
            TooManyRequestsError: The limit is reached.
        """
        if len(self._pending) >= self._limit:
            raise TooManyRequestsError(
                f"{len(self._pending)} requests wait for their answers, which is the limit of "
                "this client; nothing was sent",
                limit=self._limit,
            )
        pending = Pending(asyncio.get_running_loop().create_future(), self._what)
        self._pending[correlation_id] = pending
        self._deadlines.add(pending, limit_s)
        return pending

    def forget(self, correlation_id: bytes) -> None:
        """Let go of a request; an answer that comes after this is late, or a repeat."""
        pending = self._pending.pop(correlation_id, None)
        if pending is None:
            return
        self._deadlines.remove(pending)
        future = pending.future
        answered = future.done() and not future.cancelled() and future.exception() is None
        future.cancel()
        self._gone[correlation_id] = "duplicate" if answered else "late"
        if len(self._gone) > _REMEMBERED:
            self._gone.popitem(last=False)

    def settle(self, record: ProtocolRecord) -> Stray | None:
        """
        Hand an answer to who waits for it.

        Returns:
            What is odd about an answer to a request of this client; None for one that was waited
            for, and for one that is not ours.
        """
        correlation_id = _correlation_id(record)
        pending = self._pending.get(correlation_id)
        if pending is None:
            return self._gone.get(correlation_id)
        future = pending.future
        if future.done():
            return "late" if future.cancelled() else "duplicate"
        future.set_result(record)
        return None

    def fail(self, error: SpileError) -> None:
        """Raise an error at everybody who waits."""
        for pending in self._pending.values():
            pending.fail(error, "cancelled")


def _correlation_id(record: ProtocolRecord) -> bytes:
    """Return the correlation id in the form in which our requests carry it; empty when none."""
    headers = record.headers
    # Our publisher writes it in the second place.
    if len(headers) > 1 and headers[1][0] == "correlation_id":
        raw = headers[1][1]
    else:
        raw = next((value for name, value in headers if name == "correlation_id"), b"")
    if len(raw) == _CANONICAL_LENGTH and raw.islower():
        return raw
    try:
        return str(UUID((raw or b"").decode())).encode()
    except ValueError:
        return b""
