from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class ProtocolClock(Protocol):
    """Tells the time."""

    def now(self) -> float: ...

    @staticmethod
    def zone() -> str: ...
