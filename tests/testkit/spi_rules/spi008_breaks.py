from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:

    def hidden() -> None: ...  # expect: SPI008


@runtime_checkable
class ProtocolClock(Protocol):
    """Tells the time."""

    def now(self) -> float: ...


def make_clock() -> ProtocolClock: ...  # expect: SPI008


async def open_clock() -> ProtocolClock: ...  # expect: SPI008
