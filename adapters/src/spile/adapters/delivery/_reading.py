"""From a record to the event in it: checked, decoded once, or refused with the reason."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from spile.spi import ProtocolRecord, SpileError, UndecodableError
from spile.topics import Catalogue, Envelope, EventContract, TopicName, decode_envelope

_JSON = b"application/json"


class ReceivedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """
    One event as a worker reads it.

    Attributes:
        envelope: Ids, type, time, service.
        payload: What the event's contract decodes to.
        record: Where it stood, byte for byte.
    """

    envelope: Envelope
    payload: Any
    record: ProtocolRecord

    @property
    def event_id(self) -> UUID:
        """Stores know the event by it."""
        return self.envelope.event_id

    @property
    def event_type(self) -> str:
        """UPPER_SNAKE_CASE."""
        return self.envelope.event_type

    @property
    def timestamp(self) -> datetime:
        """When it happened."""
        return self.envelope.timestamp


class EventReader:
    """
    Reads records of catalogue topics.

    Args:
        catalogue: Knows the contracts.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._contracts: dict[tuple[str, str], EventContract] = {}

    def read(self, record: ProtocolRecord) -> ReceivedEvent:
        """
        Decode and check one record.

        Raises:
            UndecodableError: No value, another content type, no envelope, an event type that does
                not belong to the topic, or a payload that breaks its contract.
        """
        value = record.value
        if value is None:
            raise UndecodableError("the record is a tombstone, it has no value")
        for name, content in record.headers:
            if name == "content_type" and content != _JSON:
                raise UndecodableError(
                    f"content type {content[:60]!r} is not readable here; {_JSON.decode()} is",
                    field="content_type",
                )
        envelope = decode_envelope(value)
        place = (record.topic, envelope.event_type)
        contract = self._contracts.get(place) or self._contract(*place)
        return ReceivedEvent(
            envelope=envelope, payload=contract.decode(envelope.payload), record=record
        )

    def _contract(self, topic: str, event_type: str) -> EventContract:
        try:
            name = TopicName.parse(topic)
            route = self._catalogue.resolve(
                event_type,
                environment=name.environment or "",
                service=name.service,
                topic=topic,
            )
        except SpileError as exc:
            raise UndecodableError(
                f"event type {event_type} does not belong to {topic}: {exc}", field="event_type"
            ) from exc
        self._contracts[topic, event_type] = route.contract
        return route.contract
