"""A whole SPI."""

from ._clock import ProtocolClock
from ._errors import ClockError

__all__ = ["ClockError", "ProtocolClock"]
