"""From a record to the event in it: checked, decoded once, or refused with the reason."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from spile.adapters.subscribing._agreement import (
    check_agreement,
    check_headers,
    check_version,
)
from spile.adapters.wire import Opener
from spile.spi import ProtocolRecord, UndecodableError
from spile.topics import Catalogue, Envelope, EventContract, decode_envelope

_JSON_HEADER = ("content_type", b"application/json")
_PLAIN = 7
_HEAD = b'{"event_id":"%b","event_type":"%b","correlation_id":"%b",'
_MEMORY = 10_000


class _Payload(msgspec.Struct, gc=False):
    payload: msgspec.Raw


_decode_payload = msgspec.json.Decoder(_Payload).decode


class ReceivedEvent(msgspec.Struct, frozen=True, gc=False):
    """
    One event as a worker reads it; validated.

    Attributes:
        facts: What has the attributes of `Envelope`: ids, type, time, service, metadata.
        data: The payload as the lightest validated object; see `EventContract.view`.
        record: Where it stood, byte for byte.
        contract: What it was checked against.
        envelope_json: The envelope as JSON; the record's value, where that is JSON.
    """

    facts: Any
    data: Any
    record: Any
    contract: Any
    envelope_json: bytes

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
        return decode_envelope(self.envelope_json)

    @property
    def payload(self) -> Any:
        """The payload as an instance of its model, made at each look."""
        version = dict(self.record.headers)["schema_version"].decode()
        # The rest of the envelope was read and checked already.
        return self.contract.decode(_decode_payload(self.envelope_json).payload, version)


class EventReader:
    """
    Reads records of catalogue topics.

    Args:
        catalogue: Knows the contracts.
        opener: Reads other content types than JSON; MessagePack alone by default. Values that are
            framed with a schema id need `await opener.prepare(records)` first.
    """

    def __init__(self, catalogue: Catalogue, opener: Opener | None = None) -> None:
        self._catalogue = catalogue
        self._opener = opener or Opener()
        self._seen: dict[tuple[str, bytes, bytes], EventContract] = {}

    def read(self, record: ProtocolRecord) -> ReceivedEvent:
        """
        Decode and check one record.

        Raises:
            RetriableError: A framed value whose schema was not prepared.
            UndecodableError: No value, a required header missing or at odds with the envelope,
                another content type, no envelope, an event type that does not belong to the topic,
                a schema version that this release does not know, or a payload that breaks its
                contract.
        """
        value = record.value
        if value is None:
            raise UndecodableError("the record is a tombstone, it has no value")
        wire = record.headers
        if (
            len(wire) == _PLAIN
            and wire[0] == _JSON_HEADER
            and wire[1][0] == "correlation_id"
            and wire[2][0] == "message_id"
            and wire[5][0] == "event_type"
            and value.startswith(_HEAD % (wire[2][1], wire[5][1], wire[1][1]))
        ):
            # As our publisher writes it: headers and envelope agree byte for byte.
            contract = self._seen.get((record.topic, wire[5][1], wire[6][1]))
            if contract is not None and (whole := contract.read_record(value)) is not None:
                return ReceivedEvent(whole, whole.payload, record, contract, value)
        return self._read_slowly(record, value)

    def _read_slowly(self, record: ProtocolRecord, value: bytes) -> ReceivedEvent:
        headers = dict(record.headers)
        check_headers(headers)
        plain = self._opener.open(headers["content_type"], value)
        envelope = decode_envelope(plain)
        check_agreement(headers, envelope)
        contract = self._contract(record.topic, envelope.event_type)
        version = check_version(headers["schema_version"], contract)
        data = contract.view(envelope.payload, version)
        place = (record.topic, headers["event_type"], headers["schema_version"])
        if len(self._seen) < _MEMORY and version == contract.schema_version:
            self._seen[place] = contract
        return ReceivedEvent(envelope, data, record, contract, plain)

    def _contract(self, topic: str, event_type: str) -> EventContract:
        contracts = self._catalogue.contracts(topic)
        if contracts is None:
            # Environments have any name; on the bus it stands first.
            contracts = self._catalogue.contracts(topic, (topic.partition(".")[0],))
        contract = None if contracts is None else contracts.get(event_type)
        if contract is None:
            holds = ", ".join(contracts) if contracts else "nothing that the catalogue knows"
            raise UndecodableError(
                f"event type {event_type[:80]} does not belong to {topic}, which holds {holds}",
                field="event_type",
            )
        return contract
