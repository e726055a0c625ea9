from __future__ import annotations

from datetime import datetime
from typing import Protocol, runtime_checkable

from typing_extensions import TypeVar

from ._types import Seconds

T = TypeVar("T", default=datetime)


@runtime_checkable
class ProtocolClock(Protocol[T]):
    """Tells the time."""

    def now(self) -> Seconds | T: ...
