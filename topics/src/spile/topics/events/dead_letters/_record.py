"""A dead letter, typed."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal, Self

from pydantic import Field

from spile.topics._strict import MAX_INTEGER, Count, Name, Sha256, Strict
from spile.topics._wire import Instant

Offset = Annotated[int, Field(ge=-1, le=MAX_INTEGER)]
"""An offset or a partition; -1 where the record never got one."""


class Octets(Strict, frozen=True):
    """
    Bytes in JSON: as text where they are UTF-8, else in base64.

    Attributes:
        encoding: How `data` stands for the bytes.
        data: The text, or the base64 (RFC 4648, section 4).
    """

    encoding: Literal["text", "base64"]
    data: str

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Return what stands for these bytes."""
        try:
            return cls(encoding="text", data=data.decode())
        except UnicodeDecodeError:
            return cls(encoding="base64", data=base64.b64encode(data).decode())

    def to_bytes(self) -> bytes:
        """
        Return the bytes.

        Raises:
            ValueError: `data` is no base64 where it should be.
        """
        if self.encoding == "text":
            return self.data.encode()
        try:
            return base64.b64decode(self.data, validate=True)
        except binascii.Error:
            raise ValueError("data is no base64") from None


class DeadLetterHeader(Strict, frozen=True):
    """A header of a record; Kafka allows null values."""

    name: str
    value: Octets | None = None


class DeadLetterRecord(Strict, frozen=True):
    """
    A record that could not be handled: where it came from, what went wrong, and its bytes.

    Attributes:
        original_topic: Full name of the topic.
        original_partition: -1 where a broker refused the record.
        original_offset: Likewise.
        original_timestamp: The record's time, in UTC.
        consumer_group: Who failed.
        attempts: How often it was tried in the last round.
        error_type: Class of the last error.
        error_message: What it said, secrets removed.
        error_digest: SHA-256 of its type and frames: equal for failures at one place.
        replay_count: How often it was reprocessed before.
        headers: The record's own, in their order, repeats kept.
    """

    event_type: Literal["DeadLetter"] = "DeadLetter"
    original_topic: Name
    original_partition: Offset
    original_offset: Offset
    original_timestamp: Instant
    consumer_group: str
    attempts: Count
    error_type: Name
    error_message: str
    error_digest: Sha256
    first_failure: Instant
    last_failure: Instant
    replay_count: Count = 0
    key: Octets | None = None
    value: Octets | None = None
    headers: list[DeadLetterHeader] = Field(default_factory=list[DeadLetterHeader])
