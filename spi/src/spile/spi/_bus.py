"""The event bus, and the roles that a bus can play for others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Protocol, runtime_checkable

from spile.spi._kafka import ProtocolKafkaEventBusAdapter
from spile.spi._messages import ProtocolEventBusHeaders, ProtocolEventMessage
from spile.spi._types import ContextValue, LogLevel, MessageHandler, MessageKey, Unsubscribe


@runtime_checkable
class ProtocolEventBus(Protocol):
    """
    Carries bytes between services of one environment.

    Guarantees: `publish` returns after all in-sync replicas have the record; every consumer group
    gets every record at least once; records with one key keep their order.
    """

    @property
    def adapter(self) -> ProtocolKafkaEventBusAdapter:
        """The adapter that does the work."""
        ...

    @property
    def environment(self) -> str:
        """Environment that logical topic names are completed with, such as `dev`."""
        ...

    @property
    def group(self) -> str:
        """Node group of this bus."""
        ...

    async def publish(
        self,
        topic: str,
        key: MessageKey,
        value: bytes,
        headers: ProtocolEventBusHeaders | None = None,
    ) -> None:
        """
        Write one record and wait until it is acknowledged.

        Args:
            topic: Full or logical name; a logical one gets the environment of this bus.
            key: Records with one key share a partition; None spreads.
            value: At most 1,600,000 bytes together with key and headers.
            headers: Made from the topic when not given.

        Raises:
            UnknownTopicError: There is no such topic; none is created.
            MessageTooLargeError: The record is over the limit.
            RejectedError: The broker refused the record.
            UnauthorisedError: The broker refused the credentials or the operation.
            DeliveryTimeoutError: No acknowledgement in time; the record may or may not be written.
            BrokerUnavailableError: No broker answered.
            ClosedError: The bus is closed.
        """
        ...

    async def subscribe(self, topic: str, group_id: str, on_message: MessageHandler) -> Unsubscribe:
        """
        Hand every message of a topic to a handler, on behalf of a consumer group.

        A new group starts at the beginning. When the handler returns, the message counts as
        handled. When it raises, the message is tried again and then goes to the dead letter queue.

        Args:
            topic: Full or logical name, or a regular expression that starts with `^`.
            group_id: Consumers with one id share the partitions.
            on_message: Must be idempotent.

        Returns:
            A coroutine function that ends the subscription.

        Raises:
            UnknownTopicError: There is no such topic.
            UnauthorisedError: The broker refused the credentials or the group.
            BrokerUnavailableError: No broker answered.
            ClosedError: The bus is closed.
        """
        ...

    async def broadcast_to_environment(
        self,
        command: str,
        payload: Mapping[str, ContextValue],
        target_environment: str | None = None,
    ) -> None:
        """
        Send a command to all nodes of an environment.

        Raises:
            UnknownTopicError: The environment has no command topic.
            SpileError: As `publish`.
        """
        ...

    async def send_to_group(
        self, command: str, payload: Mapping[str, ContextValue], target_group: str
    ) -> None:
        """
        Send a command to the nodes of one group.

        Raises:
            UnknownTopicError: The environment has no command topic.
            SpileError: As `publish`.
        """
        ...

    async def close(self) -> None:
        """
        Stop intake, let handlers finish, commit, flush what is being published.

        Bounded by the close deadline of the adapter (20 s by default); calling it again is a no-op.
        """
        ...


@runtime_checkable
class ProtocolEventBusInMemory(Protocol):
    """What an in-memory bus can show on top, for tests."""

    async def get_event_history(self) -> Sequence[ProtocolEventMessage]:
        """Return all messages in the order of their publishing."""
        ...

    async def clear_event_history(self) -> None:
        """Forget the history; what subscribers have yet to read stays."""
        ...

    async def get_subscriber_count(self) -> int:
        """Return the number of live subscriptions."""
        ...


@runtime_checkable
class ProtocolEventBusContextManager(Protocol):
    """Opens a bus and closes it again, whatever happens between."""

    async def __aenter__(self) -> ProtocolEventBus: ...

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


@runtime_checkable
class ProtocolEventBusService(Protocol):
    """Owns a bus for the life of a process."""

    @property
    def is_running(self) -> bool:
        """Whether the bus is open."""
        ...

    async def get_event_bus(self) -> ProtocolEventBus:
        """
        Return the bus, opened.

        Raises:
            ClosedError: After `shutdown`.
        """
        ...

    async def shutdown(self) -> None:
        """Close the bus; calling it again is a no-op."""
        ...


@runtime_checkable
class ProtocolEventBusBase(Protocol):
    """Publishes ready-made messages."""

    async def publish_message(self, event: ProtocolEventMessage) -> None:
        """
        Publish a message to the topic that it names.

        Raises:
            SpileError: As `ProtocolEventBus.publish`.
        """
        ...


@runtime_checkable
class ProtocolSyncEventBus(ProtocolEventBusBase, Protocol):
    """Publishes from code without an event loop."""

    def publish_sync(self, event: ProtocolEventMessage) -> None:
        """
        Publish and block until it is acknowledged.

        Raises:
            RuntimeError: Called from a running event loop, which it would block.
            SpileError: As `ProtocolEventBus.publish`.
        """
        ...


@runtime_checkable
class ProtocolAsyncEventBus(ProtocolEventBusBase, Protocol):
    """Publishes from coroutines."""

    async def publish_async(self, event: ProtocolEventMessage) -> None:
        """
        Publish and wait until it is acknowledged.

        Raises:
            SpileError: As `ProtocolEventBus.publish`.
        """
        ...


@runtime_checkable
class ProtocolEventBusRegistry(Protocol):
    """A registry that may hold a bus."""

    event_bus: ProtocolEventBusBase | None

    async def validate_registry_bus(self) -> bool:
        """Return whether there is a bus and it answers."""
        ...

    def has_bus_access(self) -> bool:
        """Return whether there is a bus."""
        ...


@runtime_checkable
class ProtocolEventBusLogEmitter(Protocol):
    """Emits structured log events over the bus."""

    def emit_log_event(
        self, level: LogLevel, message: str, data: dict[str, str | int | float | bool]
    ) -> None:
        """Queue a log event; never blocks and never raises because the bus is away."""
        ...
