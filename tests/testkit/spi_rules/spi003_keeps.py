from __future__ import annotations

import typing as t
from typing import Protocol
from typing import runtime_checkable as checkable


@checkable
class ProtocolClock(Protocol):
    """Tells the time."""

    def now(self) -> float: ...


@t.runtime_checkable
class ProtocolCalendar(t.Protocol):
    """Tells the day."""

    def today(self) -> str: ...
