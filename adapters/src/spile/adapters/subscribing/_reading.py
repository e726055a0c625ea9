"""From a record to the event in it: checked, decoded once, or refused with the reason."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from spile.spi import ProtocolRecord, SpileError, UndecodableError
from spile.topics import Catalogue, Envelope, EventContract, TopicName, decode_envelope

_JSON = b"application/json"
_JSON_HEADER = ("content_type", _JSON)
_PLAIN = 7


class ReceivedEvent(msgspec.Struct, frozen=True, gc=False):
    """
    One event as a worker reads it; validated.

    Attributes:
        facts: What has the attributes of `Envelope`: ids, type, time, service, metadata.
        data: The payload as the lightest validated object; see `EventContract.view`.
        record: Where it stood, byte for byte.
        contract: What it was checked against.
    """

    facts: Any
    data: Any
    record: Any
    contract: Any

    @property
    def event_id(self) -> UUID:
        """Stores know the event by it."""
        return self.facts.event_id

    @property
    def event_type(self) -> str:
        """UPPER_SNAKE_CASE."""
        return self.facts.event_type

    @property
    def correlation_id(self) -> UUID:
        """Shared by all events of one request, run or session."""
        return self.facts.correlation_id

    @property
    def timestamp(self) -> datetime:
        """When it happened, aware."""
        return self.facts.timestamp

    @property
    def envelope(self) -> Envelope:
        """The envelope with the payload's JSON, read at each look."""
        return decode_envelope(self.record.value or b"")

    @property
    def payload(self) -> Any:
        """The payload as an instance of its model, made at each look."""
        return self.contract.decode(self.envelope.payload)


class EventReader:
    """
    Reads records of catalogue topics.

    Args:
        catalogue: Knows the contracts.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._contracts: dict[tuple[str, str], EventContract] = {}
        self._by_header: dict[tuple[str, bytes | None], EventContract] = {}

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
        wire = record.headers
        if len(wire) == _PLAIN and wire[0] == _JSON_HEADER and wire[5][0] == "event_type":
            event_type: bytes | None = wire[5][1]  # as our publisher writes them, without extras
        else:
            headers = dict(wire)
            event_type = headers.get("event_type")
            if headers.get("content_type", _JSON) != _JSON:
                raise UndecodableError(
                    f"content type {headers['content_type'][:60]!r} is not readable here; "
                    f"{_JSON.decode()} is",
                    field="content_type",
                )
        contract = self._by_header.get((record.topic, event_type))
        if contract is not None and (whole := contract.read_record(value)) is not None:
            return ReceivedEvent(whole, whole.payload, record, contract)
        envelope = decode_envelope(value)
        place = (record.topic, envelope.event_type)
        contract = self._contracts.get(place) or self._contract(*place)
        return ReceivedEvent(envelope, contract.view(envelope.payload), record, contract)

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
        self._by_header[topic, event_type.encode()] = route.contract
        return route.contract
