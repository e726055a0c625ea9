"""Who waits for which answer, and who did a moment ago."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final, Literal, TypeAlias
from uuid import UUID

from spile.spi import ProtocolRecord, SpileError, TooManyRequestsError

Stray: TypeAlias = Literal["late", "duplicate"]

_REMEMBERED: Final = 10_000
_CANONICAL_LENGTH: Final = 36


class Waiting:
    """
    The futures of requests under way, by correlation id.

    Args:
        limit: Most requests at a time.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._futures: dict[bytes, asyncio.Future[ProtocolRecord]] = {}
        self._gone: OrderedDict[bytes, Stray] = OrderedDict()

    def __len__(self) -> int:
        return len(self._futures)

    def add(self, correlation_id: bytes) -> asyncio.Future[ProtocolRecord]:
        """
        Return the future of a new request; `forget` it in the end, whatever becomes of it.

        Raises:
            TooManyRequestsError: The limit is reached.
        """
        if len(self._futures) >= self._limit:
            raise TooManyRequestsError(
                f"{len(self._futures)} requests wait for their answers, which is the limit of "
                "this client; nothing was sent",
                limit=self._limit,
            )
        future: asyncio.Future[ProtocolRecord] = asyncio.get_running_loop().create_future()
        self._futures[correlation_id] = future
        return future

    def forget(self, correlation_id: bytes) -> None:
        """Let go of a request; an answer that comes after this is late, or a repeat."""
        future = self._futures.pop(correlation_id, None)
        if future is None:
            return
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
        future = self._futures.get(correlation_id)
        if future is None:
            return self._gone.get(correlation_id)
        if future.done():
            return "late" if future.cancelled() else "duplicate"
        future.set_result(record)
        return None

    def fail(self, error: SpileError) -> None:
        """Raise an error at everybody who waits."""
        for future in self._futures.values():
            if not future.done():
                future.set_exception(error)


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
