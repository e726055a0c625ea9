"""Whole envelopes: JSON to MessagePack and back."""

from __future__ import annotations

import msgspec

from spile.spi import InvalidEventError
from spile.topics.encodings._message_pack import tree_to_json, unpack

_pack = msgspec.msgpack.Encoder().encode
_decode = msgspec.json.Decoder(dict).decode


def json_to_message_pack(data: bytes) -> bytes:
    """
    Write a JSON object as MessagePack.

    Raises:
        InvalidEventError: It is none, or holds an integer of more than 64 bits.
    """
    try:
        return _pack(_decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidEventError(f"the event is no JSON object: {exc}") from None
    except OverflowError:
        raise InvalidEventError(
            "the event holds an integer of more than 64 bits, which MessagePack has not"
        ) from None


def message_pack_to_json(data: bytes) -> bytes:
    """
    Read a MessagePack object as JSON.

    Raises:
        UndecodableError: It is none, or holds what JSON has not: binary, extensions, times, keys
            that are no texts, NaN; or it is nested too deep, or something stands behind it.
    """
    return tree_to_json(unpack(data))
