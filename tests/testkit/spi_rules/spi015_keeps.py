from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class ProtocolClock(Protocol):
    """Tells the time."""

    def now(self) -> float: ...

    def sleep(self, seconds: float, /, *rest: int, until: float = 0, **more: int) -> None: ...

    @classmethod
    def zone(cls) -> str: ...
