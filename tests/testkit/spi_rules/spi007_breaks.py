from __future__ import annotations

from enum import Enum
from typing import Protocol, runtime_checkable


class Level(Enum):  # expect: SPI007
    """A level."""


class ClockError(Exception):  # expect: SPI007
    """Not in the one file for errors."""


@runtime_checkable
class ProtocolClock(Protocol):
    """Tells the time."""

    def now(self) -> float: ...


class SystemClock(ProtocolClock):  # expect: SPI007
    """An implementation."""
