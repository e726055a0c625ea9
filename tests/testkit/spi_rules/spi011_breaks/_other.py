from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class ProtocolClock(Protocol):  # expect: SPI011
    """Tells the day."""

    def today(self) -> str: ...
