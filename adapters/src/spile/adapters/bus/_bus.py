"""The bus that applications hold, over the adapter of any transport."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import msgspec

from spile.adapters.bus._adapter import BusAdapter
from spile.adapters.delivery._headers import utc_text
from spile.adapters.delivery._records import OutgoingRecord
from spile.adapters.subscribing._guard import FailureGuard
from spile.adapters.subscribing._retries import Retries
from spile.adapters.subscribing._subscription import Subscription
from spile.spi import (
    BatchHandler,
    ContextValue,
    MessageHandler,
    MessageKey,
    ProtocolBatchSubscriber,
    ProtocolEventBus,
    ProtocolEventBusContextManager,
    ProtocolEventBusHeaders,
    ProtocolOffsetStore,
    Unsubscribe,
)
from spile.topics import TopicName, encode_envelope, uuid7_text
from spile.topics.redaction import default_redactor

BROADCAST_TOPIC = "spile.command.broadcast.v1"
GROUP_TOPIC = "spile.command.group.v1"


class EventBus(ProtocolEventBus, ProtocolBatchSubscriber, ProtocolEventBusContextManager):
    """
    The bus that applications hold; works over any transport's adapter.

    Args:
        adapter: Does the work; closed with the bus.
    """

    def __init__(self, adapter: BusAdapter) -> None:
        self._adapter = adapter

    @property
    def adapter(self) -> BusAdapter:
        """The adapter that does the work."""
        return self._adapter

    @property
    def environment(self) -> str:
        """Environment that logical topic names are completed with."""
        return self._adapter.environment

    @property
    def group(self) -> str:
        """Node group of this bus."""
        return self._adapter.group

    async def publish(
        self,
        topic: str,
        key: MessageKey,
        value: bytes,
        headers: ProtocolEventBusHeaders | None = None,
    ) -> None:
        """Write one record and wait until it is acknowledged; see `BusAdapter.publish`."""
        await self._adapter.publish(topic, key, value, headers)

    async def subscribe(
        self,
        topic: str,
        group_id: str,
        on_message: MessageHandler,
        *,
        manual_ack: bool = False,
        retries: Retries | None = None,
        guard: FailureGuard | None = None,
    ) -> Unsubscribe:
        """Hand every message of a topic to a handler; see `BusAdapter.subscribe`."""
        return await self._adapter.subscribe(
            topic, group_id, on_message, manual_ack=manual_ack, retries=retries, guard=guard
        )

    async def subscribe_batches(
        self,
        topics: Sequence[str],
        group_id: str,
        on_batch: BatchHandler,
        *,
        offsets: ProtocolOffsetStore | None = None,
        manual_commit: bool = False,
        retries: Retries | None = None,
        guard: FailureGuard | None = None,
    ) -> Subscription:
        """Hand every record to a handler, many at a time; see `BusAdapter.subscribe_batches`."""
        return await self._adapter.subscribe_batches(
            topics,
            group_id,
            on_batch,
            offsets=offsets,
            manual_commit=manual_commit,
            retries=retries,
            guard=guard,
        )

    async def broadcast_to_environment(
        self,
        command: str,
        payload: Mapping[str, ContextValue],
        target_environment: str | None = None,
    ) -> None:
        """
        Send a command to all nodes of an environment, on its topic `spile.command.broadcast.v1`.

        Secrets in the payload are replaced, by the built-in rules.

        Raises:
            UnknownTopicError: The environment has no command topic.
            InvalidTopicError: The environment is no segment of a topic name.
            RedactionError: The payload cannot be inspected.
            SpileError: As `publish`.
        """
        environment = target_environment or self.environment
        name = TopicName.parse(BROADCAST_TOPIC).in_environment(environment)
        body = self._command(command, payload, target_environment=environment)
        await self._adapter.publish_record(self._record(name, "COMMAND_BROADCAST", None, body))

    async def send_to_group(
        self, command: str, payload: Mapping[str, ContextValue], target_group: str
    ) -> None:
        """
        Send a command to the nodes of one group, on the topic `spile.command.group.v1`.

        Commands to one group keep their order. Secrets in the payload are replaced, by the built-in
        rules.

        Raises:
            UnknownTopicError: The environment has no command topic.
            RedactionError: The payload cannot be inspected.
            SpileError: As `publish`.
        """
        name = TopicName.parse(GROUP_TOPIC).in_environment(self.environment)
        body = self._command(command, payload, target_group=target_group)
        record = self._record(name, "COMMAND_GROUP", target_group.encode(), body)
        await self._adapter.publish_record(record)

    async def close(self) -> None:
        """Stop intake, let handlers finish, commit, flush; calling it again is a no-op."""
        await self._adapter.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _command(self, command: str, payload: Mapping[str, ContextValue], **target: str) -> bytes:
        body = {"command": command, "payload": payload, "source_group": self.group, **target}
        data = msgspec.json.encode(body)
        found = default_redactor().redact_json(data)
        return data if found is None else msgspec.json.encode(found.value)

    def _record(
        self, name: TopicName, event_type: str, key: MessageKey, payload_json: bytes
    ) -> OutgoingRecord:
        event_id, correlation_id = uuid7_text(), uuid7_text()
        timestamp, service = utc_text(datetime.now(UTC)), self._adapter.service
        value = encode_envelope(
            event_id=event_id,
            event_type=event_type,
            correlation_id=correlation_id,
            causation_id=None,
            timestamp=timestamp,
            service_json=msgspec.json.encode(service),
            payload_json=payload_json,
            version=name.version,
        )
        headers = {
            "content_type": "application/json",
            "correlation_id": correlation_id,
            "message_id": event_id,
            "timestamp": timestamp,
            "source": service,
            "event_type": event_type,
            "schema_version": "1.0.0",
        }
        wire = [(header, text.encode()) for header, text in headers.items()]
        return OutgoingRecord(str(name), key, value, wire)
