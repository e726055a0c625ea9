from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class ProtocolClock(Protocol):
    """Tells the time."""

    def now(self) -> float:
        """Return seconds."""
        pass  # expect: SPI004

    def zone(self) -> str:
        raise NotImplementedError  # expect: SPI004

    def offset(self) -> int:
        return 0  # expect: SPI004
