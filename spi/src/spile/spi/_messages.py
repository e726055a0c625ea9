"""What flows: headers, messages, raw records, envelopes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar, runtime_checkable
from uuid import UUID

from spile.spi._types import MessageKey, Priority, ProtocolDateTime, ProtocolSemVer

T_co = TypeVar("T_co", covariant=True)


@runtime_checkable
class ProtocolEventBusHeaders(Protocol):
    """
    The headers that every event carries, and those that it may carry.

    The first seven are required. UUIDs are written with hyphens; a trace id is 32 and a span id 16
    lower-case hexadecimal digits without hyphens (W3C Trace Context).
    """

    @property
    def content_type(self) -> str:
        """Media type of the value; readers obey it and never guess."""
        ...

    @property
    def correlation_id(self) -> UUID:
        """Shared by all events of one request, run or session."""
        ...

    @property
    def message_id(self) -> UUID:
        """Id of this event, the same in header and envelope; stores know events by it."""
        ...

    @property
    def timestamp(self) -> ProtocolDateTime:
        """When the event happened, not when it was published."""
        ...

    @property
    def source(self) -> str:
        """Name of the publishing service."""
        ...

    @property
    def event_type(self) -> str:
        """UPPER_SNAKE_CASE name of what happened."""
        ...

    @property
    def schema_version(self) -> ProtocolSemVer:
        """Version of the payload's schema."""
        ...

    @property
    def trace_id(self) -> str | None:
        """W3C trace id."""
        ...

    @property
    def span_id(self) -> str | None:
        """W3C span id."""
        ...

    @property
    def parent_span_id(self) -> str | None:
        """Span that caused this one."""
        ...

    @property
    def operation_name(self) -> str | None:
        """Name of the traced operation."""
        ...

    @property
    def priority(self) -> Priority | None:
        """Hint for handlers; it does not reorder a partition."""
        ...

    @property
    def destination(self) -> str | None:
        """Node group that the event is meant for."""
        ...

    @property
    def routing_key(self) -> str | None:
        """Key for routers behind the bus."""
        ...

    @property
    def partition_key(self) -> str | None:
        """What the record key was made from, when it was given."""
        ...

    @property
    def retry_count(self) -> int | None:
        """Attempts so far."""
        ...

    @property
    def max_retries(self) -> int | None:
        """Attempts allowed."""
        ...

    @property
    def ttl_seconds(self) -> int | None:
        """Seconds after which the event is of no use to a handler."""
        ...


@runtime_checkable
class ProtocolEventMessage(Protocol):
    """
    One message as a handler gets it.

    Messages with the same key arrive in the order of their publishing, each at least once.
    """

    @property
    def topic(self) -> str:
        """Full name of the topic that it came from."""
        ...

    @property
    def key(self) -> MessageKey:
        """Key, byte for byte as published."""
        ...

    @property
    def value(self) -> bytes:
        """Value, byte for byte as published."""
        ...

    @property
    def headers(self) -> ProtocolEventBusHeaders:
        """
        Headers, decoded at the first look.

        Raises:
            UndecodableError: A required header is missing or malformed.
        """
        ...

    @property
    def offset(self) -> str | None:
        """Offset in the partition, as text."""
        ...

    @property
    def partition(self) -> int | None:
        """Partition of the topic."""
        ...

    async def ack(self) -> None:
        """
        Say that the message is handled.

        The offset that gets committed is that of the highest message below which all are handled.

        Raises:
            ClosedError: The subscription is gone; the message will be redelivered.
        """
        ...


@runtime_checkable
class ProtocolRecord(Protocol):
    """
    One record as it stands in the log, nothing decoded.

    What batch workers read, and what a dead letter queue keeps byte for byte.
    """

    @property
    def topic(self) -> str:
        """Full name of the topic."""
        ...

    @property
    def partition(self) -> int:
        """Partition of the topic."""
        ...

    @property
    def offset(self) -> int:
        """Offset in the partition."""
        ...

    @property
    def timestamp(self) -> int:
        """Record time in milliseconds since 1970 UTC: when it was published."""
        ...

    @property
    def key(self) -> MessageKey:
        """Key as published."""
        ...

    @property
    def value(self) -> bytes | None:
        """Value as published; None is a tombstone."""
        ...

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """Headers as published, in order, repeats included."""
        ...


@runtime_checkable
class ProtocolEventEnvelope(Protocol[T_co]):
    """The least that an envelope is: something that holds a payload."""

    async def get_payload(self) -> T_co:
        """Return the payload."""
        ...
