"""What stands beside each object: what it holds, and where the archive goes on."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from spile.services.archiver.objects._keys import ObjectKey, manifest_key
from spile.spi import UndecodableError

MAX_MANIFEST_BYTES: Final = 1 << 20
"""Most bytes of a manifest."""

_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Offset = Annotated[int, Field(ge=0, lt=2**63)]
_Milliseconds = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class Manifest(BaseModel):
    """
    One object of an archive.

    Equal records, cut by the same rule and written by the same version, have equal manifests.

    Attributes:
        format: Of manifest and object.
        writer: Version of the code that made the bytes.
        rule: Name of the cutting rule.
        object: Key of the object.
        sha256: Of the object's bytes, hexadecimal.
        size_bytes: Of the object.
        schema_sha256: Avro's fingerprint of the object's schema.
        topic: Full name.
        partition: Number of the partition.
        count: Records, ticks included.
        start_position: Where the object before ended; for a partition's first one `first_offset`.
        first_offset: Of the first record; offsets between the two held no record.
        last_offset: Of the last one.
        next_position: `start_position` of the next object.
        first_timestamp: Record time of the first record, in milliseconds.
        last_timestamp: Of the last one.
        earliest_timestamp: The smallest record time; producers may go back in time.
        latest_timestamp: The largest one.
        ticks: Records that only let time pass.
        event_minutes: The others by minute of event time, UTC, such as `2026-01-02T03:04Z`; those
            beyond 10,000 different minutes are under `other`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = 1
    writer: str = Field(min_length=1, max_length=100)
    rule: str
    object: str
    sha256: _Sha256
    size_bytes: int = Field(gt=0)
    schema_sha256: _Sha256
    topic: str
    partition: int = Field(ge=0, lt=2**31)
    count: int = Field(gt=0)
    start_position: _Offset
    first_offset: _Offset
    last_offset: _Offset
    next_position: _Offset
    first_timestamp: _Milliseconds
    last_timestamp: _Milliseconds
    earliest_timestamp: _Milliseconds
    latest_timestamp: _Milliseconds
    ticks: int = Field(ge=0)
    event_minutes: dict[str, Annotated[int, Field(gt=0)]]

    @property
    def key(self) -> str:
        """Key of the manifest."""
        return manifest_key(self.topic, self.partition, self.start_position)

    def to_json(self) -> bytes:
        """Return the manifest as it is stored; equal ones give equal bytes."""
        return self.model_dump_json(indent=1).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes, *, key: str) -> Manifest:
        """
        Read a manifest.

        Args:
            data: What is stored.
            key: Under which key; it must be that of the content.

        Raises:
            UndecodableError: It is none, contradicts itself, or belongs under another key.
        """
        if len(data) > MAX_MANIFEST_BYTES:
            raise UndecodableError(
                f"manifest {key}: {len(data)} bytes, limit {MAX_MANIFEST_BYTES}", field=None
            )
        try:
            manifest = cls.model_validate_json(data)
        except ValidationError as exc:
            first = exc.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the whole"
            raise UndecodableError(
                f"manifest {key}: {where}: {first['msg']}", field=where
            ) from None
        _check(manifest, key)
        return manifest


def _check(manifest: Manifest, key: str) -> None:
    parsed = ObjectKey.parse(manifest.object)
    named = (parsed.rule, parsed.topic, parsed.partition, parsed.first_offset)
    if named != (manifest.rule, manifest.topic, manifest.partition, manifest.first_offset):
        raise UndecodableError(
            f"manifest {key}: names the object {manifest.object}", field="object"
        )
    if manifest.key != key:
        raise UndecodableError(f"manifest {key}: its content belongs under {manifest.key}")
    if not (
        manifest.start_position
        <= manifest.first_offset
        <= manifest.last_offset
        < manifest.next_position
        and manifest.count <= manifest.last_offset - manifest.first_offset + 1
        and manifest.ticks + sum(manifest.event_minutes.values()) == manifest.count
        and manifest.earliest_timestamp <= manifest.latest_timestamp
    ):
        raise UndecodableError(f"manifest {key}: offsets, counts and times contradict each other")
