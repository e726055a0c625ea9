"""Declarations only."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NewType, Protocol, TypeAlias, TypeVar, runtime_checkable
from urllib.parse import SplitResult

if TYPE_CHECKING:
    from datetime import datetime

if sys.version_info >= (3, 12):
    from typing import override
else:
    from typing_extensions import override

__all__ = ["ProtocolClock", "Seconds", "override"]
__all__ += ["Zone"]

Seconds: TypeAlias = float
"""Time, in seconds."""
Zone = NewType("Zone", str)
Place: TypeAlias = "SplitResult | None"
Maybe = Seconds | None
T = TypeVar("T")


@runtime_checkable
class ProtocolClock(Protocol):
    """Tells the time."""

    zone: Zone
    """Where it stands."""
    precision: Seconds = 1e-9

    def now(self, places: tuple[str, ...] = (), shift: int = -1) -> datetime: ...
