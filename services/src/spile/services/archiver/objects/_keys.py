"""
Names in an archive, made from validated topics and numbers only, and parsed by full match.

Keys are relative to the root of the archive. Objects stand below the name of the cutting rule;
manifests are one tree for all rules, so that whoever writes the manifest at an offset owns it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from spile.spi import InvalidTopicError, PartitionKey, UndecodableError

MANIFESTS: Final = "manifests/"
"""What the keys of all manifests begin with."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MS: Final = -62_135_596_800_000
_LAST_MS: Final = 253_402_300_799_999
_TOPIC_LENGTH: Final = 249
_TOPIC: Final = r"[a-z0-9][a-z0-9-]*(?:\.[a-z0-9][a-z0-9-]*)*"
_RULE: Final = r"v1-[0-9a-f]{8}"
_PARTITION: Final = r"0|[1-9][0-9]{0,9}"
_OBJECT: Final = re.compile(
    rf"(?P<rule>{_RULE})/topic=(?P<topic>{_TOPIC})/date=(?P<date>[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})"
    rf"/hour=(?P<hour>[0-9]{{2}})/(?P<partition>{_PARTITION})-(?P<first>[0-9]{{20}})\.avro"
)
_MANIFEST: Final = re.compile(
    rf"{MANIFESTS}topic=(?P<topic>{_TOPIC})/partition=(?P<partition>{_PARTITION})"
    r"/(?P<start>[0-9]{20})\.json"
)
_SHORT: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectKey:
    """
    Key of an object; `str()` is its text.

    Attributes:
        rule: Name of the cutting rule, such as `v1-0a1b2c3d`.
        topic: Full name.
        partition: Number of the partition.
        first_offset: Offset of the first record.
        date: Day of the first record, UTC, `2026-01-02`.
        hour: Its hour, `03`.

    Raises:
        InvalidTopicError: The topic's name could leave the archive.
    """

    rule: str
    topic: str
    partition: int
    first_offset: int
    date: str
    hour: str

    def __post_init__(self) -> None:
        _check_topic(self.topic)

    @classmethod
    def of(
        cls, rule: str, topic: str, partition: int, *, first_offset: int, timestamp: int
    ) -> ObjectKey:
        """
        Return the key of an object by its first record.

        Args:
            rule: Name of the cutting rule.
            topic: Full name.
            partition: Number of the partition.
            first_offset: Of the first record.
            timestamp: Its time in milliseconds; outside the years 1 to 9999 the nearest counts.

        Raises:
            InvalidTopicError: The topic's name could leave the archive.
        """
        moment = _EPOCH + timedelta(milliseconds=min(max(timestamp, _FIRST_MS), _LAST_MS))
        return cls(
            rule=rule,
            topic=topic,
            partition=partition,
            first_offset=first_offset,
            date=moment.date().isoformat(),
            hour=f"{moment.hour:02}",
        )

    @classmethod
    def parse(cls, text: str) -> ObjectKey:
        """
        Read a key.

        Raises:
            UndecodableError: It is no key of an object.
        """
        found = _OBJECT.fullmatch(text)
        if found is None or len(found["topic"]) > _TOPIC_LENGTH:
            raise UndecodableError(f"{text[:_SHORT]!r} is no key of an archived object")
        return cls(
            rule=found["rule"],
            topic=found["topic"],
            partition=int(found["partition"]),
            first_offset=int(found["first"]),
            date=found["date"],
            hour=found["hour"],
        )

    def __str__(self) -> str:
        return (
            f"{self.rule}/topic={self.topic}/date={self.date}/hour={self.hour}"
            f"/{self.partition}-{self.first_offset:020}.avro"
        )


def partition_prefix(topic: str, partition: int) -> str:
    """
    Return what the keys of all manifests of a partition begin with.

    Raises:
        InvalidTopicError: The topic's name could leave the archive.
    """
    _check_topic(topic)
    return f"{MANIFESTS}topic={topic}/partition={partition}/"


def manifest_key(topic: str, partition: int, start_position: int) -> str:
    """
    Return the key of a manifest; the keys of a partition sort by offset.

    It is the position where the archive stood, not the first record's offset: compaction may take
    that record away between two writers, and only one of them may win.

    Raises:
        InvalidTopicError: The topic's name could leave the archive.
    """
    return f"{partition_prefix(topic, partition)}{start_position:020}.json"


def parse_manifest_key(text: str) -> tuple[PartitionKey, int]:
    """
    Return partition and start position of a manifest's key.

    Raises:
        UndecodableError: It is no key of a manifest.
    """
    found = _MANIFEST.fullmatch(text)
    if found is None or len(found["topic"]) > _TOPIC_LENGTH:
        raise UndecodableError(f"{text[:_SHORT]!r} is no key of a manifest")
    return (found["topic"], int(found["partition"])), int(found["start"])


def _check_topic(topic: str) -> None:
    if len(topic) > _TOPIC_LENGTH or re.fullmatch(_TOPIC, topic) is None:
        raise InvalidTopicError(
            f"topic {topic[:_SHORT]!r} cannot be archived: its segments must match "
            "[a-z0-9][a-z0-9-]*",
            topic=topic,
        )
