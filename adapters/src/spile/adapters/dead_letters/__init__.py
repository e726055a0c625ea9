"""What cannot be handled: kept byte for byte in `<topic>.dlq`, and handled again on request."""

from spile.adapters.dead_letters._queue import (
    DLQ_SUFFIX,
    DeadLetterQueue,
)

__all__ = [
    "DLQ_SUFFIX",
    "DeadLetterQueue",
]
