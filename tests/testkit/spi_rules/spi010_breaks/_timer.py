from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class ProtocolTimer(Protocol):  # expect: SPI010
    """Says the same in another order."""

    def zone(self) -> str:
        """Return the zone."""
        ...

    def now(self) -> float: ...
