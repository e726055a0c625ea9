"""What is written into the headers of a record in a retry topic, and read back from them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeAlias, cast, get_args

from spile.adapters.dead_letters._facts import RETRY_PREFIX, TOO_LARGE, inbound_headers, moment_of
from spile.adapters.delivery._headers import utc_text
from spile.adapters.delivery._records import Record, WireHeaders
from spile.spi import PermanentError, ProtocolRecord, UndecodableError

RetryRole: TypeAlias = Literal["head", "follower", "reprocess"]
"""Why a record waits: it failed, an earlier one of its key did, or somebody reprocesses it."""

MAX_REPLAYS: Final = 3
"""How often a dead letter is reprocessed; one that comes back after that stays."""

_MAX_DIGITS: Final = 19


class ReplaysSpentError(PermanentError):
    """Raised for a record that was reprocessed too often; it goes back unhandled, and stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryFacts:
    """
    What a record in a retry topic says about itself.

    The topic that it came from is that of the retry topic's own name, and never in a header.

    Attributes:
        role: Why it waits.
        partition: Where it stood in its topic; -1 for a record that never got an offset.
        offset: Likewise.
        timestamp: Its record time there, milliseconds since 1970 UTC.
        attempts: How often it was tried in this round.
        due: When it is to be tried, milliseconds since 1970 UTC.
        first_failure: When it failed first.
        error_type: Class of its last error; empty for one that did not fail itself.
        writer: Token of the owner that wrote it; None for one that is reprocessed.
    """

    role: RetryRole
    partition: int
    offset: int
    timestamp: int
    attempts: int
    due: int
    first_failure: datetime
    error_type: str = ""
    writer: str | None = None


def retry_headers(facts: RetryFacts) -> WireHeaders:
    """Return the headers that a record gets on top in a retry topic."""
    texts = {
        "role": facts.role,
        "origin-partition": str(facts.partition),
        "origin-offset": str(facts.offset),
        "origin-timestamp": str(facts.timestamp),
        "attempts": str(facts.attempts),
        "due": str(facts.due),
        "first-failure": utc_text(facts.first_failure),
        "error-type": facts.error_type,
    }
    if facts.writer is not None:
        texts["writer"] = facts.writer
    return [(RETRY_PREFIX + name, text.encode()) for name, text in texts.items()]


def read_retry(record: ProtocolRecord) -> RetryFacts:
    """
    Return what a record in a retry topic says about itself.

    Raises:
        UndecodableError: A header is missing or senseless; names it.
    """
    added = {n[len(RETRY_PREFIX) :]: v for n, v in record.headers if n.startswith(RETRY_PREFIX)}
    role = _text(added, "role")
    if role not in get_args(RetryRole):
        raise _senseless("role")
    first_failure = moment_of(_text(added, "first-failure"))
    if first_failure is None:
        raise _senseless("first-failure")
    return RetryFacts(
        role=cast("RetryRole", role),
        partition=_number(added, "origin-partition"),
        offset=_number(added, "origin-offset"),
        timestamp=_number(added, "origin-timestamp"),
        attempts=_number(added, "attempts"),
        due=_number(added, "due"),
        first_failure=first_failure,
        error_type=_text(added, "error-type"),
        writer=_text(added, "writer") if "writer" in added else None,
    )


def original_record(record: ProtocolRecord, facts: RetryFacts, topic: str) -> Record:
    """
    Return a record of a retry topic as a handler sees it: as it stood in its own topic.

    Args:
        record: As it stands in the retry topic.
        facts: What it says about itself.
        topic: Full name of its own topic, by the name of the retry topic.
    """
    return Record(
        topic=topic,
        partition=facts.partition,
        offset=facts.offset,
        timestamp=facts.timestamp,
        key=record.key,
        value=record.value,
        headers=tuple(inbound_headers(record)),
    )


def _text(added: dict[str, bytes], name: str) -> str:
    data: bytes | None = added.get(name)
    if data is None:
        raise UndecodableError(
            f"header {RETRY_PREFIX}{name} is missing: this is no record of a retry topic",
            field=RETRY_PREFIX + name,
        )
    return data.decode("utf-8", "replace")


def _number(added: dict[str, bytes], name: str) -> int:
    text = _text(added, name)
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > _MAX_DIGITS:
        raise _senseless(name)
    number = int(text)
    if abs(number) >= TOO_LARGE:
        raise _senseless(name)
    return number


def _senseless(name: str) -> UndecodableError:
    return UndecodableError(
        f"header {RETRY_PREFIX}{name} makes no sense in a retry topic", field=RETRY_PREFIX + name
    )
