"""Publishing events: one at a time, and many with one await."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar, runtime_checkable

from spile.spi._types import ContextValue


@runtime_checkable
class ProtocolEventPublisher(Protocol):
    """
    Publishes events with validation, retries, a circuit breaker and a dead letter queue.

    Guarantees: True = acknowledged by all in-sync replicas. False = not confirmed within the
    retries: in the dead letter queue where the broker refused it, else still in the caller's hands
    under its event id, which may be published again, since stores know events by id.
    """

    async def publish(
        self,
        event_type: str,
        payload: Any,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        metadata: dict[str, ContextValue] | None = None,
        topic: str | None = None,
        partition_key: str | None = None,
    ) -> bool:
        """
        Publish one event.

        Args:
            event_type: UPPER_SNAKE_CASE type, whose topic the catalogue knows, or a topic name.
            payload: A pydantic model or a mapping, as the event's contract asks.
            correlation_id: UUID; made when not given.
            causation_id: UUID of the event that caused this one.
            metadata: Goes into the envelope.
            topic: Where to publish instead of the catalogue's topic for the type.
            partition_key: Events with one key keep their order; default: the correlation id, or
                what the event's contract names.

        Returns:
            Whether the event is confirmed.

        Raises:
            CircuitOpenError: The breaker is open (a RuntimeError); nothing was sent.
            InvalidEventError: The event breaks its contract; nothing was sent.
            MessageTooLargeError: Payload over 1,000,000 bytes; nothing was sent.
            UnknownTopicError: No such type or topic; nothing was sent.
            ClosedError: The publisher is closed.
        """
        ...

    async def get_metrics(self) -> dict[str, Any]:
        """
        Return the counters since the start.

        Keys: events_published, events_failed, events_sent_to_dlq, retries_attempted,
        circuit_breaker_status, circuit_breaker_opens, and more.
        """
        ...

    async def close(self) -> None:
        """Flush within the close deadline (20 s by default); calling it again is a no-op."""
        ...


@runtime_checkable
class ProtocolOutgoingEvent(Protocol):
    """One event to publish; the members mean what the arguments of `publish` mean."""

    @property
    def event_type(self) -> str:
        """UPPER_SNAKE_CASE type or topic name."""
        ...

    @property
    def payload(self) -> Any:
        """A pydantic model or a mapping."""
        ...

    @property
    def correlation_id(self) -> str | None:
        """UUID; made when None."""
        ...

    @property
    def causation_id(self) -> str | None:
        """UUID of the cause."""
        ...

    @property
    def metadata(self) -> dict[str, ContextValue] | None:
        """Goes into the envelope."""
        ...

    @property
    def topic(self) -> str | None:
        """Topic instead of the catalogue's."""
        ...

    @property
    def partition_key(self) -> str | None:
        """Key instead of the contract's."""
        ...

    @property
    def event_id(self) -> str | None:
        """UUID; made when None. Give it when the same event may be published again."""
        ...

    @property
    def timestamp(self) -> datetime | None:
        """When it happened, aware; now when None."""
        ...


OutgoingT_contra = TypeVar("OutgoingT_contra", bound=ProtocolOutgoingEvent, contravariant=True)


@runtime_checkable
class ProtocolBatchPublisher(Protocol[OutgoingT_contra]):
    """Publishes many events with one await."""

    async def publish_many(self, events: Sequence[OutgoingT_contra]) -> Sequence[bool]:
        """
        Publish events; those of one key in the order given.

        All are checked before the first is sent: an error means that none was.

        Returns:
            For each event, in order, what `publish` would have returned.

        Raises:
            InvalidEventError: Names the index of the first wrong event.
            SpileError: As `publish`.
        """
        ...
