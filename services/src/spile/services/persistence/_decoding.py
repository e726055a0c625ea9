"""From records to rows: each is decoded once and checked against the contract of its topic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast
from uuid import UUID

import msgspec

from spile.adapters.subscribing import check_agreement, check_headers, check_version
from spile.adapters.wire import Opener
from spile.services.persistence._query import microseconds
from spile.services.persistence._returning import Arrival, Arrivals
from spile.services.persistence._values import Row, Run
from spile.services.runtime import CrashGuard
from spile.spi import (
    PartitionKey,
    ProtocolRecord,
    RetriableError,
    SpileError,
    UndecodableError,
)
from spile.topics import TICK, Catalogue, Envelope, EventContract, decode_envelope

_TICK: Final = TICK.encode()
_JSON: Final = b"application/json"
_PLACES: Final[Mapping[str, Mapping[str, str]]] = {
    "SESSION_START": {"session_id": "event_id"},
    "STEP_RECORDED": {"tool_name": "step.content.tool_name"},
}
"""Where the facts of a row stand in payloads that have them under another name."""

_encode: Final = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Decoded:
    """
    One batch, decoded.

    Attributes:
        runs: What to store, by partition.
        poison: Records that cannot be stored, and why.
        ignored: Tombstones and ticks, which hold no event.
    """

    runs: list[Run] = field(default_factory=list[Run])
    poison: list[tuple[ProtocolRecord, SpileError]] = field(
        default_factory=list[tuple[ProtocolRecord, SpileError]]
    )
    ignored: int = 0


class Decoder:
    """
    Decodes records of one environment.

    A topic that the catalogue does not have is taken as it is: envelope and headers are checked,
    the payload may be any object. A record of a retry topic is taken for what it was in its own
    topic.

    Args:
        catalogue: Knows the contracts.
        environment: Environment of the topics.
        opener: Reads other content types than JSON; MessagePack alone by default.
        crash_guard: Knows what earlier processes died over; nothing by default.

    Attributes:
        event_types: All types of the catalogue.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        environment: str,
        opener: Opener | None = None,
        *,
        crash_guard: CrashGuard | None = None,
    ) -> None:
        self._crash_guard = crash_guard
        self._catalogue = catalogue
        self._opener = opener or Opener()
        self._environment = environment
        self._arrivals = Arrivals(environment)
        self.event_types = frozenset(kind for spec in catalogue.specs for kind in spec.contracts)
        self._contracts: dict[str, Mapping[str, EventContract] | None] = {}

    async def prepare(self, records: Sequence[ProtocolRecord]) -> None:
        """
        Fetch the schemas of framed values.

        Raises:
            RetriableError: The registry is away; the records must wait.
        """
        await self._opener.prepare(records)

    def arrival(self, record: ProtocolRecord) -> Arrival:
        """Return a record as it stood in its own topic, whichever it was read from."""
        return self._arrivals.of(record)

    def is_returned(self, record: ProtocolRecord) -> bool:
        """Say whether a record was read from a retry topic."""
        return self._arrivals.returned_to(record.topic) is not None

    def decode(self, records: Sequence[ProtocolRecord]) -> Decoded:
        """
        Decode a batch; what cannot be decoded does not keep its neighbours.

        Raises:
            RetriableError: A framed value whose schema was not prepared.
        """
        guard = self._crash_guard
        if guard is None:
            return self._decode(records, self._arrived_row)
        if any(map(guard.is_suspect, records)):
            return self._decode(records, self._guarded_row)
        with guard.holding(records):
            return self._decode(records, self._arrived_row)

    def _decode(
        self, records: Sequence[ProtocolRecord], row_of: Callable[[ProtocolRecord], Row | None]
    ) -> Decoded:
        decoded = Decoded()
        groups: dict[PartitionKey, list[ProtocolRecord]] = {}
        for record in records:
            groups.setdefault((record.topic, record.partition), []).append(record)
        for partition, group in groups.items():
            rows: list[Row] = []
            for record in group:
                try:
                    row = row_of(record)
                except RetriableError:
                    raise
                except SpileError as exc:
                    decoded.poison.append((record, exc))
                except Exception as exc:  # noqa: BLE001 - one odd record must not end every start
                    # Its type only: the text of such an error may quote the payload.
                    error = UndecodableError(f"not readable: {type(exc).__name__}")
                    error.__cause__ = exc
                    decoded.poison.append((record, error))
                else:
                    if row is None:
                        decoded.ignored += 1
                    else:
                        rows.append(row)
            decoded.runs.append(
                Run(
                    partition=partition,
                    first=group[0].offset,
                    next=group[-1].offset + 1,
                    rows=rows,
                    is_returned=self.is_returned(group[0]),
                )
            )
        return decoded

    def _guarded_row(self, record: ProtocolRecord) -> Row | None:
        """
        Decode a record by itself, or not at all when processes died over it alone.

        Its neighbours too, accused or not: a batch may hold more than one that kills.
        """
        guard = self._crash_guard
        if guard is None:
            return self._arrived_row(record)
        if guard.is_fatal(record):
            raise UndecodableError("two processes died while they decoded it; kept undecoded")
        with guard.holding([record]):
            return self._arrived_row(record)

    def _arrived_row(self, record: ProtocolRecord) -> Row | None:
        arrival = self.arrival(record)
        if arrival.problem is not None:
            raise arrival.problem
        return self._row(arrival.record)

    def _row(self, record: ProtocolRecord) -> Row | None:
        value = record.value
        if value is None:
            return None
        headers = dict(record.headers)
        if headers.get("event_type") == _TICK:
            return None
        check_headers(headers)
        wire = record.headers
        value = self._opener.open(headers["content_type"], value)
        if value is not record.value:  # what is stored is JSON, and must say so
            wire = [(n, _JSON if n == "content_type" else v) for n, v in wire]
        envelope = decode_envelope(value)
        check_agreement(headers, envelope)
        payload = self._payload(record.topic, headers, envelope)
        causation = envelope.causation_id
        places = _PLACES.get(envelope.event_type, {})
        return Row(
            envelope.event_id.bytes,
            record.topic,
            record.partition,
            record.offset,
            record.timestamp,
            microseconds(envelope.timestamp),
            envelope.event_type,
            envelope.service,
            envelope.correlation_id.bytes,
            causation.bytes if causation is not None else None,
            _fact(payload, places.get("session_id", "session_id")),
            _fact(payload, places.get("agent_id", "agent_id")),
            _fact(payload, places.get("tool_name", "tool_name")),
            record.key,
            _text(value),
            _headers_text(wire),
        )

    def _payload(self, topic: str, headers: Mapping[str, bytes], envelope: Envelope) -> Any:
        contracts = self._contracts_of(topic)
        if contracts is None:
            try:
                return msgspec.json.decode(envelope.payload)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
                raise UndecodableError(f"payload is no JSON value: {exc}", field="payload") from exc
        contract = contracts.get(envelope.event_type)
        if contract is None:
            raise UndecodableError(
                f"topic {topic} holds {', '.join(contracts) or 'nothing'}, "
                f"not {envelope.event_type[:80]}",
                field="event_type",
            )
        version = check_version(headers["schema_version"], contract)
        return contract.decode(envelope.payload, version)

    def _contracts_of(self, topic: str) -> Mapping[str, EventContract] | None:
        try:
            return self._contracts[topic]
        except KeyError:
            found = self._contracts[topic] = self._catalogue.contracts(topic, (self._environment,))
            return found


def _fact(payload: Any, place: str) -> str | None:
    value: Any = payload
    for name in place.split("."):
        if isinstance(value, dict):
            value = cast("dict[str, Any]", value).get(name)
        else:
            value = getattr(value, name, None)
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, UUID) else None


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise UndecodableError("envelope is not UTF-8") from None


def _headers_text(headers: Sequence[tuple[str, bytes]]) -> str:
    try:
        return _encode([(name, value.decode()) for name, value in headers]).decode()
    except (UnicodeDecodeError, AttributeError):
        return _encode([(name, _readable(value)) for name, value in headers]).decode()


def _readable(value: bytes | None) -> str | dict[str, bytes] | None:
    if value is None:
        return None  # legal in Kafka
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": value}
