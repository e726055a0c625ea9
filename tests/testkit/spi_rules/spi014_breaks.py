from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class ProtocolClock(Protocol):  # expect: SPI014
    def now(self) -> float: ...
