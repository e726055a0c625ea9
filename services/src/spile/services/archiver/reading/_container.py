"""
Reading an Avro object container file block by block, within bounds.

An object of an archive is bytes from outside. Nothing here believes a count or a size before it was
compared with a bound, and a frame is decompressed only as far as the bound: twelve kilobytes of
zstandard may stand for gigabytes, whether the frame states its size or not.

Source: Avro specification 1.12, "Object Container Files"; RFC 8878 for the frames.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import zstandard

from spile.services.archiver.objects import CODEC, MAGIC, MAX_READ_BYTES, SCHEMA, SYNC_BYTES
from spile.spi import UndecodableError

_CODEC: Final = CODEC.encode()
SCHEMAS: Final = frozenset({SCHEMA.encode()})
"""Texts of the schemas that are read."""

_SCHEMA_KEY, _CODEC_KEY = b"avro.schema", b"avro.codec"
_LONG_BYTES: Final = 10
_MORE: Final = 0x80
_RLE: Final = 1
_CHECKSUM_BYTES: Final = 4
_READ_AHEAD: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLimits:
    """
    What an object may ask of its reader.

    Attributes:
        object_bytes: Largest object, 1 GiB.
        header_bytes: Longest header of a container, 64 KiB.
        metadata_entries: Most entries of the header, 64.
        block_bytes: Longest block after decompression, 32 MiB. A writer fills blocks up to 512 KiB;
            one record may go far beyond, since a topic bounds the compressed size only.
        window_bytes: What a frame may make its reader keep of what came before, 8 MiB.
        key_bytes: Longest key of a record; as long as a block, like the next ones.
        value_bytes: Longest value of a record or a header.
        headers: Most headers of a record, 1,100,000: as many as the largest record of the catalogue
            has room for, at two bytes each.
        header_name_bytes: Longest name of a header of a record.
    """

    object_bytes: int = 1024 * 1024 * 1024
    header_bytes: int = 64 * 1024
    metadata_entries: int = 64
    block_bytes: int = MAX_READ_BYTES
    window_bytes: int = 8 * 1024 * 1024
    key_bytes: int = MAX_READ_BYTES
    value_bytes: int = MAX_READ_BYTES
    headers: int = 1_100_000
    header_name_bytes: int = MAX_READ_BYTES


class ByteStream(Protocol):
    """What a file gives."""

    def read(self, size: int, /) -> bytes:
        """Return up to so many bytes; none at the end."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """
    One block, decompressed.

    Attributes:
        count: Records that it says it has.
        data: Their bytes.
    """

    count: int
    data: bytes


class Container:
    """
    The blocks of one object container file.

    Args:
        stream: The file, at its beginning.
        name: Named in errors.
        limits: Bounds.
        schemas: Texts of the schemas that are read; any other is refused.

    Attributes:
        schema: Text of the file's schema.
        sync: The file's marker.

    Raises:
        UndecodableError: The header is none, is too long, or names another codec or schema.
    """

    def __init__(
        self,
        stream: ByteStream,
        *,
        name: str,
        limits: ReadLimits,
        schemas: Collection[bytes] = SCHEMAS,
    ) -> None:
        self._bytes = _Bytes(stream, name)
        self._name = name
        self._limits = limits
        # Without the bound on the window a frame that states no size may ask for 128 MiB.
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=limits.window_bytes)
        metadata = self._metadata()
        self.schema = metadata.get(_SCHEMA_KEY, b"")
        if self.schema not in schemas:
            found = hashlib.sha256(self.schema).hexdigest()
            known = ", ".join(sorted(hashlib.sha256(known).hexdigest() for known in schemas))
            raise self._wrong(
                f"has a schema that is not one of this archive's records: its sha256 is {found}, "
                f"expected {known}"
            )
        codec = metadata.get(_CODEC_KEY, b"null")
        if codec != _CODEC:
            raise self._wrong(f"has the codec {codec[:40]!r}, expected {_CODEC!r}")
        self.sync = self._bytes.take(SYNC_BYTES)

    def blocks(self) -> Iterator[Block]:
        """
        Give the blocks, in order, up to the last byte of the file.

        Raises:
            UndecodableError: A block is damaged, too large, or the file ends within one.
        """
        while not self._bytes.is_at_end():
            count = self._bytes.take_long()
            size = self._bytes.take_long()
            if count < 1:
                raise self._wrong(f"has a block of {count} records")
            # What does not compress grows by a few bytes only.
            limit = self._limits.block_bytes + self._limits.header_bytes
            if not 0 < size <= limit:
                raise self._wrong(f"has a block of {size} compressed bytes, limit {limit}")
            data = self._decompress(self._bytes.take(size))
            if count > len(data):
                raise self._wrong(f"has a block of {count} records in {len(data)} bytes")
            if self._bytes.take(SYNC_BYTES) != self.sync:
                raise self._wrong("has a block that does not end with the sync marker")
            yield Block(count=count, data=data)

    def _metadata(self) -> dict[bytes, bytes]:
        """Read what stands before the first sync marker."""
        if self._bytes.take(len(MAGIC)) != MAGIC:
            raise self._wrong("is no Avro object container file")
        found: dict[bytes, bytes] = {}
        limits = self._limits
        while count := self._bytes.take_long():
            if count < 0:  # followed by the bytes that the entries take, which need not be known
                count = -count
                self._bytes.take_long()
            if len(found) + count > limits.metadata_entries:
                raise self._wrong(f"has more than {limits.metadata_entries} entries in its header")
            for _ in range(count):
                entry = self._header_part()
                if entry in found:
                    raise self._wrong(f"has {entry[:40]!r} twice in its header")
                found[entry] = self._header_part()
        return found

    def _header_part(self) -> bytes:
        size = self._bytes.take_long()
        left = self._limits.header_bytes - self._bytes.taken
        if not 0 <= size <= left:
            raise self._wrong(f"has a header of more than {self._limits.header_bytes} bytes")
        return self._bytes.take(size)

    def _decompress(self, frame: bytes) -> bytes:
        limit = self._limits.block_bytes
        try:
            parameters = zstandard.get_frame_parameters(frame)
            stated = parameters.content_size
            if stated != zstandard.CONTENTSIZE_UNKNOWN and stated > limit:
                raise self._wrong(f"has a block of {stated} bytes, limit {limit}")
            if _frame_bytes(frame, has_checksum=parameters.has_checksum) != len(frame):
                raise self._wrong("has a block that is not exactly one zstandard frame")
            with self._decompressor.stream_reader(frame) as reader:
                data = reader.read(limit + 1)
        except zstandard.ZstdError as exc:
            raise self._wrong(f"has a block that zstandard cannot read: {exc}") from None
        if len(data) > limit:
            raise self._wrong(f"has a block of more than {limit} bytes")
        if stated not in {zstandard.CONTENTSIZE_UNKNOWN, len(data)}:
            raise self._wrong(f"has a block of {len(data)} bytes that states {stated}")
        return data

    def _wrong(self, why: str) -> UndecodableError:
        return UndecodableError(f"{self._name} {why}")


class _Bytes:
    """Takes bytes from a stream, and refuses to take fewer than asked for."""

    def __init__(self, stream: ByteStream, name: str) -> None:
        self._stream = stream
        self._name = name
        self._ahead = b""
        self._pos = 0
        self.taken = 0

    def is_at_end(self) -> bool:
        if self._pos < len(self._ahead):
            return False
        self._ahead, self._pos = self._stream.read(_READ_AHEAD), 0
        return not self._ahead

    def take(self, size: int) -> bytes:
        parts: list[bytes] = []
        left = size
        while left:
            if self.is_at_end():
                raise self._ended()
            part = self._ahead[self._pos : self._pos + left]
            self._pos += len(part)
            left -= len(part)
            parts.append(part)
        self.taken += size
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def take_long(self) -> int:
        number = 0
        for shift in range(0, 7 * _LONG_BYTES, 7):
            byte = self.take(1)[0]
            number |= (byte & ~_MORE) << shift
            if byte < _MORE:
                if number >> 64:
                    break
                return (number >> 1) ^ -(number & 1)
        raise UndecodableError(f"{self._name} has a number of more than 64 bits")

    def _ended(self) -> UndecodableError:
        return UndecodableError(f"{self._name} ends in the middle")


def _frame_bytes(data: bytes, *, has_checksum: bool) -> int:
    """
    Return where the first frame ends.

    The stream reader says neither that bytes follow nor that the checksum is missing.
    """
    pos = zstandard.frame_header_size(data)
    last = False
    while not last:
        if pos + 3 > len(data):
            return -1
        head = int.from_bytes(data[pos : pos + 3], "little")
        last = bool(head & 1)
        pos += 3 + (1 if head >> 1 & 3 == _RLE else head >> 3)
    return pos + (_CHECKSUM_BYTES if has_checksum else 0)
