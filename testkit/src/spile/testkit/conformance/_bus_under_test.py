"""What the suite needs to know about a bus: how it is made, what it claims, what stands in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from spile.spi import (
    ContextValue,
    MessageHandler,
    MessageKey,
    ProtocolBatchSubscriber,
    ProtocolEventBus,
    ProtocolEventMessage,
    ProtocolEventPublisher,
    ProtocolOutgoingEvent,
    Unsubscribe,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

RawHeaders: TypeAlias = Sequence[tuple[str, bytes]]
"""Headers as the log carries them: in order, repeats allowed."""


class Feature(StrEnum):
    """What a bus may claim beyond publishing and subscribing; what it claims is tested."""

    BATCHES = "batches"
    """`subscribe_batches`, as `ProtocolBatchSubscriber` promises."""

    DEAD_LETTERS = "dead_letters"
    """Messages whose retries are spent stand in `<topic>.dlq`; needs `BATCHES` to be looked at."""

    MANUAL_ACK = "manual_ack"
    """A subscription can ask for `ack()`: returning without it means the same message again."""

    PATTERNS = "patterns"
    """A topic that starts with `^` is a regular expression."""

    RAW_HEADERS = "raw_headers"
    """Headers can be written and read as bytes, repeats included."""

    PUBLISHER = "publisher"
    """There is a `ProtocolEventPublisher`."""

    MANY = "publish_many"
    """The publisher is a `ProtocolBatchPublisher`, too."""

    FAULTS = "faults"
    """`fault()` takes the broker away; needs `PUBLISHER`, whose breaker is tested with it."""


EVERY_FEATURE = frozenset(Feature)
"""All that the suite tests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One event for `publish_many`; satisfies `ProtocolOutgoingEvent`."""

    event_type: str
    payload: Any
    correlation_id: str | None = None
    causation_id: str | None = None
    metadata: dict[str, ContextValue] | None = None
    topic: str | None = None
    partition_key: str | None = None
    event_id: str | None = None
    timestamp: datetime | None = None


class BusUnderTest(ABC):
    """
    Makes the buses of the suite and looks behind them; one object serves a whole run.

    Make waits short: backoff, commit interval, heartbeat. The tests wait for events, never longer
    than `limit_s` for one.

    Attributes:
        features: What the bus claims; tests of other features are skipped.
        environment: Environment of the buses; full topic names begin with it.
        retries: How often a bus tries a failed message again before it becomes a dead letter.
        limit_s: Longest wait for anything, in seconds.
        patience_s: A handler that takes so long must keep its place in the group; make it longer
            than the time without a poll after which a client would give its place up.
    """

    features: frozenset[Feature] = EVERY_FEATURE
    environment: str = "dev"
    retries: int = 1
    limit_s: float = 20.0
    patience_s: float = 0.3

    async def begin(self) -> None:  # noqa: B027 - a hook, not a duty
        """Get ready for one test, in its event loop; does nothing by default."""

    def close(self) -> None:  # noqa: B027 - a hook, not a duty
        """Let go of what all tests shared, after the last one; does nothing by default."""

    @abstractmethod
    async def create_topic(self, name: str, partitions: int) -> None:
        """Create a topic by its full name, and `<name>.dlq` where there are dead letters."""

    @abstractmethod
    def bus(self) -> ProtocolEventBus:
        """Return a new bus; all buses of one test see the same log. The suite closes it."""

    @abstractmethod
    async def count(self, topic: str) -> int:
        """Return how many records of a topic can be read at this moment, asked not of the bus."""

    @abstractmethod
    async def committed(self, group_id: str, topic: str) -> Mapping[int, int]:
        """Return the offsets that a group reads next, by partition; 0 may be left out."""

    def batch_subscriber(self, bus: ProtocolEventBus) -> ProtocolBatchSubscriber:
        """Return what subscribes batches on behalf of a bus; the bus itself by default."""
        return cast("ProtocolBatchSubscriber", bus)

    async def subscribe_manually(
        self, bus: ProtocolEventBus, topic: str, group_id: str, handler: MessageHandler
    ) -> Unsubscribe:
        """Subscribe so that only `ack()` counts; by default with the argument `manual_ack=True`."""
        subscribe = cast("Any", bus).subscribe
        return await subscribe(topic, group_id, handler, manual_ack=True)

    async def write(
        self,
        bus: ProtocolEventBus,
        topic: str,
        key: MessageKey,
        value: bytes | None,
        headers: RawHeaders,
    ) -> None:
        """Write a record whose headers are given as bytes, through the bus as far as it can."""
        raise NotImplementedError(f"{type(self).__name__} claims raw_headers and has no write()")

    def raw_headers(self, message: ProtocolEventMessage) -> RawHeaders:
        """Return the headers of a message as bytes; those of `message.record` by default."""
        return cast("RawHeaders", cast("Any", message).record.headers)

    def publisher(
        self,
        topic: str,
        models: Mapping[str, type[BaseModel] | None],
        *,
        breaker_threshold: int = 5,
        breaker_reset_s: float = 30.0,
        delivery_limit_s: float = 30.0,
    ) -> ProtocolEventPublisher:
        """
        Return a new publisher whose catalogue has one topic; the suite closes it.

        Args:
            topic: Full name; perhaps there is no such topic in the log.
            models: Payload model of each event type on it; None takes any JSON object.
            breaker_threshold: Failures in a row that open the breaker.
            breaker_reset_s: Seconds until an open breaker lets a probe through.
            delivery_limit_s: Seconds after which `publish` gives up, all retries included.
        """
        raise NotImplementedError(f"{type(self).__name__} claims publisher and has no publisher()")

    def outgoing(self, event: Outgoing) -> ProtocolOutgoingEvent:
        """Return an event of the kind that `publish_many` takes; `Outgoing` itself by default."""
        return event

    def fault(self) -> AbstractAsyncContextManager[None]:
        """Take the broker away while the context is open: nothing can be published then."""
        raise NotImplementedError(f"{type(self).__name__} claims faults and has no fault()")
