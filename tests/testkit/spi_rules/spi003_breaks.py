from __future__ import annotations

import typing
from typing import Protocol


class ProtocolClock(Protocol):  # expect: SPI003
    """Tells the time."""

    def now(self) -> float: ...


class ProtocolCalendar(typing.Protocol):  # expect: SPI003
    """Tells the day."""

    def today(self) -> str: ...
