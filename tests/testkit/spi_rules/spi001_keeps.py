from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class ProtocolClock(Protocol):
    """Tells the time."""

    offset_s: int

    def now(self) -> float: ...

    def __init_subclass__(cls) -> None: ...
