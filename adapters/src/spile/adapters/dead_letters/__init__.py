"""What cannot be handled: kept byte for byte in `<topic>.dlq`, and handled again on request."""

from spile.adapters.dead_letters._facts import REPLAY_COUNT, replay_count
from spile.adapters.dead_letters._queue import (
    DLQ_SUFFIX,
    DeadLetterQueue,
)
from spile.adapters.dead_letters._retry_facts import (
    MAX_REPLAYS,
    ReplaysSpentError,
    RetryFacts,
    RetryRole,
    original_record,
    read_retry,
    retry_headers,
)

__all__ = [
    "DLQ_SUFFIX",
    "MAX_REPLAYS",
    "REPLAY_COUNT",
    "DeadLetterQueue",
    "ReplaysSpentError",
    "RetryFacts",
    "RetryRole",
    "original_record",
    "read_retry",
    "replay_count",
    "retry_headers",
]
