"""Envelopes, and what the payload in one must be."""

from spile.topics._event_names import upper_snake
from spile.topics.payloads._contract import EventContract, Prepared, stated_type
from spile.topics.payloads._envelope import Envelope, decode_envelope, encode_envelope

__all__ = [
    "Envelope",
    "EventContract",
    "Prepared",
    "decode_envelope",
    "encode_envelope",
    "stated_type",
    "upper_snake",
]
