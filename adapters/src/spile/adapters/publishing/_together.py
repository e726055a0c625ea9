"""Events that are handed in within one turn of the loop, encoded and sent together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

import msgspec

from spile.adapters.delivery._headers import utc_text
from spile.adapters.delivery._records import OutgoingEvent
from spile.adapters.publishing._encoding import Encoded, EventEncoder
from spile.adapters.publishing._gathering import Gatherer
from spile.spi import BrokerUnavailableError, SpileError

Fate: TypeAlias = bool | SpileError
"""What a publish would return, or raise."""

Told: TypeAlias = Callable[[Fate], None]
"""Hears of the fate of one event; must not raise."""

_AT_ONCE = 50
"""Events in one look for secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """
    Counts what becomes of events.

    Attributes:
        admit: Gives the ticket of an event that is to be sent, or raises `CircuitOpenError`.
        refused: Counts an event that was not sent.
        acknowledged: Counts events that are on the bus; with their tickets, and the seconds.
        failed: Counts an event that is not acknowledged, and keeps it where that is wanted; False,
            or raises the error when the event was refused before sending.
    """

    admit: Callable[[], int]
    refused: Callable[[SpileError], None]
    acknowledged: Callable[[Sequence[Encoded], Sequence[int], float], None]
    failed: Callable[[Encoded, int, SpileError], Awaitable[bool]]


class _Sent(msgspec.Struct, frozen=True):
    encoded: Encoded
    ticket: int
    told: Told


class Together:
    """
    Encodes and sends what is handed in within one turn of the loop.

    One look for secrets, one send and one task serve all; each event still has a fate of its own,
    told as soon as it is known, and one that is wrong takes nobody along.

    Args:
        encoder: Encodes.
        gatherer: Owns the sends.
        accounts: Counts.
    """

    def __init__(self, encoder: EventEncoder, gatherer: Gatherer, accounts: Accounts) -> None:
        self._encoder = encoder
        self._gatherer = gatherer
        self._accounts = accounts
        self._waiting: list[tuple[OutgoingEvent, Told]] = []

    def add(self, event: OutgoingEvent, told: Told) -> None:
        """Take an event."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append((event, told))

    def flush(self) -> None:
        """Encode what was handed in and begin to send it."""
        waiting, self._waiting = self._waiting, []
        made: list[Encoded | SpileError] = []
        try:
            for start in range(0, len(waiting), _AT_ONCE):
                made += self._encoded(waiting[start : start + _AT_ONCE])
        except BaseException as exc:
            # Nobody must wait for ever on a bug of ours.
            error = BrokerUnavailableError(f"nothing was sent: {exc!r}")
            for _, told in waiting:
                told(error)
            raise
        batch: list[_Sent] = []
        for (_, told), encoded in zip(waiting, made, strict=True):
            try:
                if isinstance(encoded, SpileError):
                    self._accounts.refused(encoded)
                    raise encoded
                batch.append(_Sent(encoded, self._accounts.admit(), told))
            except SpileError as exc:
                told(exc)
        if batch:
            self._send(batch)

    def _encoded(self, part: Sequence[tuple[OutgoingEvent, Told]]) -> list[Encoded | SpileError]:
        unseen: list[bytes] = []
        now = utc_text(datetime.now(UTC))
        made = [self._one(event, now, unseen) for event, _ in part]
        if unseen and self._encoder.suspects(unseen):
            made = [self._one(event, now, None) for event, _ in part]
        return made

    def _one(
        self, event: OutgoingEvent, now: str, unseen: list[bytes] | None
    ) -> Encoded | SpileError:
        try:
            return self._encoder.encode(event, now, unseen)
        except SpileError as exc:
            return exc

    def _send(self, batch: Sequence[_Sent]) -> None:
        left = dict(enumerate(batch))
        started = time.perf_counter()

        def settled(indexes: Sequence[int], error: SpileError | None) -> None:
            known = [left.pop(index) for index in indexes if index in left]
            if not known:
                return
            if error is None:
                self._accounts.acknowledged(
                    [sent.encoded for sent in known],
                    [sent.ticket for sent in known],
                    time.perf_counter() - started,
                )
                for sent in known:
                    sent.told(True)  # noqa: FBT003 - what a publish returns
                return
            for sent in known:
                self._gatherer.run(self._fail(sent, error), "event not confirmed")

        self._gatherer.send([sent.encoded.record for sent in batch], settled)

    async def _fail(self, sent: _Sent, error: SpileError) -> None:
        fate: Fate = error
        try:
            fate = await self._accounts.failed(sent.encoded, sent.ticket, error)
        except SpileError as exc:
            fate = exc
        finally:
            sent.told(fate)
