from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class ProtocolClock(Protocol):
    """Tells the time."""

    def now(self): ...  # expect: SPI015

    def sleep(self, seconds) -> None: ...  # expect: SPI015

    def call(self, *arguments, **options) -> None: ...  # expect: SPI015

    @staticmethod
    def zone(name) -> str: ...  # expect: SPI015
