from __future__ import annotations

import os  # expect: SPI016
from http import HTTPStatus  # expect: SPI016
from typing import Protocol, runtime_checkable

LIMIT = 5  # expect: SPI016
HOME = os.environ["HOME"]  # expect: SPI016
TEXT = open("notes.txt")  # expect: SPI016
ZONES: dict[str, int] = {}  # expect: SPI016

print("loaded")  # expect: SPI016

for _ in range(3):  # expect: SPI016
    pass


@runtime_checkable
class ProtocolClock(Protocol):
    """Tells the time."""

    started: float = float("0")  # expect: SPI016

    def now(self, zone: str = str(0)) -> HTTPStatus: ...  # expect: SPI016


if __name__ == "__main__":  # expect: SPI016
    ProtocolClock
