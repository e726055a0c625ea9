from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class ProtocolClock(Protocol):
    """Tells the time."""

    def __init__(self, offset_s: int) -> None: ...  # expect: SPI001

    def now(self) -> float: ...
