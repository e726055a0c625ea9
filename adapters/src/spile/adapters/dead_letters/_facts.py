"""What is written into the headers of a dead letter, and read back from them."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from spile.adapters.delivery._headers import utc_text
from spile.adapters.delivery._records import WireHeaders
from spile.spi import ProtocolRecord

DLQ_SUFFIX = ".dlq"
PREFIX = "x-spile-dlq-"
RETRY_PREFIX = "x-spile-retry-"
REPLAY_COUNT = f"{PREFIX}replay-count"
"""Header of a record that is reprocessed, and of a dead letter that was."""

OMITTED = f"{PREFIX}omitted-bytes"
"""Header of a dead letter without its value, which is too large for any queue: its size."""

_OWN = (PREFIX, RETRY_PREFIX)
_MAX_MESSAGE_BYTES = 1024
_MAX_SCRUBBED = 65_536
_MAX_REPLAYS = 1_000_000
_MAX_DIGITS = 19
TOO_LARGE = 2**63
"""First number that is none of Kafka's, nor of a store's."""


def has_failed_records(topic: str) -> bool:
    """Say whether a topic is a dead letter queue or a retry topic: it takes larger records."""
    return topic.endswith(DLQ_SUFFIX) or topic.rpartition(".")[0].endswith(".retry")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """
    Where a dead letter came from.

    Attributes:
        timestamp: Record time in milliseconds.
        group: Group of an earlier round.
        first_failure: That of an earlier round.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    group: str | None = None
    first_failure: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Burial:
    """
    Why a record becomes a dead letter.

    Attributes:
        attempts: How often it was tried in this round.
        replays: How often it was reprocessed before; 0 writes no header.
    """

    group: str
    attempts: int
    error: BaseException
    first_failure: datetime
    last_failure: datetime
    replays: int = 0


def inbound_headers(record: ProtocolRecord) -> WireHeaders:
    """Return the headers as they came, without those that only spile may add to a failed record."""
    return [pair for pair in record.headers if not pair[0].lower().startswith(_OWN)]


def added_headers(origin: Origin, why: Burial, scrub: Callable[[str], str]) -> WireHeaders:
    """Return the headers that a dead letter gets on top."""
    facts = {
        "original-topic": origin.topic,
        "original-partition": str(origin.partition),
        "original-offset": str(origin.offset),
        "original-timestamp": str(origin.timestamp),
        "consumer-group": why.group,
        "attempts": str(why.attempts),
        "error-type": type(why.error).__name__,
        "error-message": error_text(why.error, scrub),
        "error-digest": error_digest(why.error),
        "first-failure": utc_text(why.first_failure),
        "last-failure": utc_text(why.last_failure),
    }
    if why.replays:
        facts["replay-count"] = str(why.replays)
    return [(PREFIX + name, text.encode()) for name, text in facts.items()]


def error_text(error: BaseException, scrub: Callable[[str], str]) -> str:
    """Return what an error says, control characters escaped, at most 1 KiB of UTF-8."""
    try:
        said = str(error)
    except Exception:  # noqa: BLE001 - an error of a handler may not even have a text
        said = f"{type(error).__name__} without a text"
    text = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode()
        for c in scrub(said[:_MAX_SCRUBBED])
    )
    data = text.encode("utf-8", "backslashreplace")[:_MAX_MESSAGE_BYTES]
    return data.decode("utf-8", "ignore")


def error_digest(error: BaseException) -> str:
    """Return the SHA-256 of an error's type and frames: equal for failures at one place."""
    digest = hashlib.sha256(type(error).__qualname__.encode())
    for frame, line in traceback.walk_tb(error.__traceback__):
        place = f"{frame.f_globals.get('__name__')}:{frame.f_code.co_qualname}:{line}\n"
        digest.update(place.encode())
    return digest.hexdigest()


def replay_count(record: ProtocolRecord) -> int:
    """Return how often a record was reprocessed; 0 when its header is missing or senseless."""
    count = number_of(header_text(record, "replay-count"))
    return 0 if count is None else min(count, _MAX_REPLAYS)


def origin_of(
    record: ProtocolRecord, *, topic: str | None = None, earlier_round: bool = False
) -> Origin:
    """
    Return where a record came from.

    Args:
        record: The record.
        topic: Topic to name instead of the record's own; never one from a header.
        earlier_round: The record is a dead letter already: its headers tell partition, offset,
            time, group and first failure, as information only.
    """
    topic = topic or record.topic
    here = Origin(
        topic=topic, partition=record.partition, offset=record.offset, timestamp=record.timestamp
    )
    if not earlier_round:
        return here
    numbers = [
        number_of(header_text(record, f"original-{n}"))
        for n in ("partition", "offset", "timestamp")
    ]
    partition, offset, timestamp = numbers
    if partition is None or offset is None or timestamp is None:
        return here
    return Origin(
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp=timestamp,
        group=header_text(record, "consumer-group"),
        first_failure=moment_of(header_text(record, "first-failure")),
    )


def header_text(record: ProtocolRecord, name: str) -> str | None:
    """Return a header of ours by its short name, the last one of that name."""
    wanted = PREFIX + name
    for key, value in reversed(record.headers):
        if key == wanted:
            return (value or b"").decode("utf-8", "replace")  # a null value is legal in Kafka
    return None


def number_of(text: str | None) -> int | None:
    """Return a whole number of 63 bits, None for what is none."""
    if text is None or len(text) > _MAX_DIGITS or not (text.isascii() and text.isdigit()):
        return None
    number = int(text)
    return number if number < TOO_LARGE else None


def moment_of(text: str | None) -> datetime | None:
    """Return a moment in UTC, None for what is none, has no time zone, or leaves the calendar."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
