"""What a link is like."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Direction(Enum):
    """Which way bytes go."""

    TO_SERVER = "to server"
    TO_CLIENT = "to client"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """
    The state of a link; the defaults are a good one.

    Attributes:
        latency_s: How long bytes are on the way, each direction, in seconds.
        jitter_s: By how much that may be more or less; bytes of a connection never overtake.
        bytes_per_s: Width of each direction of each connection; None does not limit it.
        resets_per_s: Chance, for each connection and second, that it is reset (RST).
        held: Directions in which nothing gets through. TCP hides a short loss of packets, so what
            was sent meanwhile arrives after the link has healed, if the connection still lives.
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float | None = None
    resets_per_s: float = 0.0
    held: frozenset[Direction] = frozenset()
