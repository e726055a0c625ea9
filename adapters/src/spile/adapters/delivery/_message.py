"""One record as a message handler gets it."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from spile.adapters.delivery._headers import decode_headers
from spile.spi import MessageKey, ProtocolEventBusHeaders, ProtocolEventMessage, ProtocolRecord


class ReceivedMessage(ProtocolEventMessage):
    """
    A record in the hands of a handler.

    Args:
        record: As it stands in the log.
        on_ack: Called at each `ack`; raises `ClosedError` when it comes too late.
    """

    def __init__(self, record: ProtocolRecord, on_ack: Callable[[], None] | None = None) -> None:
        self._record = record
        self._on_ack = on_ack
        self._headers: ProtocolEventBusHeaders | None = None

    @property
    def record(self) -> ProtocolRecord:
        """The record, nothing decoded; what a dead letter queue keeps."""
        return self._record

    @property
    def topic(self) -> str:
        """Full name of the topic that it came from."""
        return self._record.topic

    @property
    def key(self) -> MessageKey:
        """Key as published."""
        return self._record.key

    @property
    def value(self) -> bytes:
        """Value as published; empty for a tombstone, which `record.value is None` tells."""
        return self._record.value or b""

    @property
    def headers(self) -> ProtocolEventBusHeaders:
        """Headers, each decoded at the first look, which raises `UndecodableError`."""
        if self._headers is None:
            self._headers = cast("ProtocolEventBusHeaders", decode_headers(self._record.headers))
        return self._headers

    @property
    def offset(self) -> str | None:
        """Offset in the partition, as text."""
        return str(self._record.offset)

    @property
    def partition(self) -> int | None:
        """Partition of the topic."""
        return self._record.partition

    async def ack(self) -> None:
        """
        Say that the message is handled; again is a no-op.

        Raises:
            ClosedError: The subscription or its hold on the partition is gone; the message will
                be redelivered.
        """
        if self._on_ack is not None:
            self._on_ack()
