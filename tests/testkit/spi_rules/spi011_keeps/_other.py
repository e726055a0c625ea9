from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class ProtocolCalendar(Protocol):
    """Tells the day."""

    def today(self) -> str: ...
