from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import aiokafka  # expect: SPI012
from spi012_broken import helper  # expect: SPI012

from .. import outside  # expect: SPI012

if TYPE_CHECKING:
    from pydantic import BaseModel  # expect: SPI012


@runtime_checkable
class ProtocolClock(Protocol):
    """Tells the time."""

    def now(self) -> BaseModel: ...
