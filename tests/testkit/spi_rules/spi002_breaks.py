from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Clock(Protocol):  # expect: SPI002
    """Tells the time."""

    def now(self) -> float: ...


@runtime_checkable
class ClockProtocol(Protocol):  # expect: SPI002
    """Tells another time."""

    def later(self) -> float: ...
