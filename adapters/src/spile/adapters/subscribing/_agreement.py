"""Headers and envelope of one event must be complete and say the same."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from spile.adapters.delivery import REQUIRED_HEADERS
from spile.spi import UndecodableError
from spile.topics import Envelope, EventContract


def check_headers(headers: Mapping[str, bytes]) -> None:
    """
    Look at the required headers.

    Raises:
        UndecodableError: One is missing or malformed; names the header.
    """
    for name in REQUIRED_HEADERS:
        if not headers.get(name):
            raise UndecodableError(f"required header {name} is missing or empty", field=name)
    try:
        aware = datetime.fromisoformat(headers["timestamp"].decode()).tzinfo is not None
    except ValueError:
        aware = False
    if not aware:
        raise UndecodableError("header timestamp is not ISO 8601 in UTC", field="timestamp")


def check_agreement(headers: Mapping[str, bytes], envelope: Envelope) -> None:
    """
    Hold headers and envelope to one event: one id, one correlation id, one type.

    Raises:
        UndecodableError: They differ; names the header.
    """
    if headers["event_type"] != envelope.event_type.encode():
        raise UndecodableError("header and envelope state two event types", field="event_type")
    for header, stated in (
        ("message_id", envelope.event_id),
        ("correlation_id", envelope.correlation_id),
    ):
        if headers[header] != str(stated).encode() and _uuid(header, headers[header]) != stated:
            raise UndecodableError(f"header {header} is not the id of the envelope", field=header)


def check_version(version: bytes, contract: EventContract) -> str:
    """
    Refuse a schema version that this release cannot read: unknown, another major, a newer minor.

    Returns:
        The version as text, for `EventContract.decode`.

    Raises:
        UndecodableError: Names the version and what is readable.
    """
    text = version.decode(errors="replace")
    if text != contract.schema_version and not contract.reads(text):
        raise UndecodableError(
            f"{contract.event_type} has schema version {text[:40]!r}; "
            f"this release reads {contract.readable}",
            field="schema_version",
        )
    return text


def _uuid(name: str, raw: bytes) -> UUID:
    try:
        return UUID(raw.decode())
    except ValueError:
        raise UndecodableError(f"header {name} is no UUID", field=name) from None
