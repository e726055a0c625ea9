"""zstd with a dictionary trained on events: small messages become small, and flips are noticed."""

from __future__ import annotations

import threading
from functools import lru_cache
from importlib import resources
from types import ModuleType
from typing import Any, Final

from spile.spi import ConfigurationError, UndecodableError

LEVEL: Final = 3
"""zstd's level; 3 is its default, and more buys little on small messages."""

DICTIONARIES: Final = {84_001: "events-1.zdict"}
"""Files of the dictionaries by their id; one that was released stays as it is."""

NEWEST_DICTIONARY: Final = 84_001
"""Id of the dictionary that is written with."""


class _Tools(threading.local):
    """The compressor and decompressors of a thread: they must not be shared."""

    def __init__(self) -> None:
        self.compressor: Any = None
        self.decompressors: dict[int, Any] = {}


_tools: Final = _Tools()


def compress(data: bytes) -> bytes:
    """
    Return a zstd frame with its size, its dictionary's id and a checksum of the content.

    Raises:
        ConfigurationError: `zstandard` is not installed.
    """
    if _tools.compressor is None:
        zstandard = _zstandard()
        _tools.compressor = zstandard.ZstdCompressor(
            level=LEVEL,
            dict_data=_dictionary(NEWEST_DICTIONARY),
            write_content_size=True,
            write_checksum=True,
            write_dict_id=True,
        )
    return _tools.compressor.compress(data)


def decompress(data: bytes, limit: int) -> bytes:
    """
    Return the content of one frame, whole and as it was written.

    No more memory is used than the frame states it needs, and that is compared with the limit
    first: libzstd does not write beyond the buffer it is given.

    Args:
        data: The frame.
        limit: Most bytes of the content.

    Raises:
        UndecodableError: It is no zstd frame, states no size or one beyond the limit, has no
            checksum or a wrong one, was written with an unknown dictionary, or goes on behind it.
        ConfigurationError: `zstandard` is not installed.
    """
    zstandard = _zstandard()
    try:
        frame = zstandard.get_frame_parameters(data)
        if not frame.has_checksum:
            raise UndecodableError("zstd: the frame has no checksum")
        if frame.content_size == zstandard.CONTENTSIZE_UNKNOWN:
            raise UndecodableError("zstd: the frame does not state the size of its content")
        if frame.content_size > limit:
            raise UndecodableError(
                f"zstd: the content has {frame.content_size} bytes, limit {limit}"
            )
        return _decompressor(frame.dict_id).decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as exc:
        raise UndecodableError(f"zstd: {exc}") from None


def dictionary_of(data: bytes) -> int:
    """Return the id of a frame's dictionary, 0 without one; the frame must be one of ours."""
    return _zstandard().get_frame_parameters(data).dict_id


def _decompressor(dictionary: int) -> Any:
    found = _tools.decompressors.get(dictionary)
    if found is None:
        data = _dictionary(dictionary) if dictionary else None
        found = _zstandard().ZstdDecompressor(dict_data=data)
        _tools.decompressors[dictionary] = found
    return found


@lru_cache(maxsize=8)
def _dictionary(number: int) -> Any:
    name = DICTIONARIES.get(number)
    if name is None:
        known = ", ".join(map(str, DICTIONARIES))
        raise UndecodableError(f"zstd: unknown dictionary {number}, this release has {known}")
    data = resources.files("spile.topics.encodings").joinpath(name).read_bytes()
    return _zstandard().ZstdCompressionDict(data)


def _zstandard() -> ModuleType:
    try:
        import zstandard  # noqa: PLC0415 - an extra: only who compresses needs it
    except ImportError:
        raise ConfigurationError("zstd needs the extra: pip install spile-topics[zstd]") from None
    return zstandard
